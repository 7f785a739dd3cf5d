# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 5. Circuits: signs and recovery
#
# **Data: simulated cells and a simulated retina, not real ones.** Nothing is downloaded. This tutorial needs
# `pip install "flda[circuits]"`. For real cell types, replace the line marked *the one line to change* by your own
# AnnData with fly gene symbols.
#
# A neuron that releases acetylcholine excites its partners, and one that releases GABA inhibits them. In the fly,
# glutamate mostly inhibits as well. Transmitter genes therefore give the *sign* of a synapse before anything is
# recorded. With known signs, it is much easier to recover a circuit from its responses.
#
# ## Signs from genes

# %%
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData

from flda.circuits import (
    SignedLinear,
    SignMask,
    infer_signs,
    marker_table,
    recover_circuit,
    simulate,
    support_recovery,
    system_recovery,
)

SEED = 0
marker_table("drosophila")[["gene", "transmitter", "role", "sign"]].head(6)

# %%
rng = np.random.default_rng(SEED)
types = {"Mi1": "VAChT", "Tm3": "VAChT", "Mi9": "VGlut", "Mi4": "Gad1", "C3": "Gad1", "X": None}
genes = ["VAChT", "VGlut", "Gad1", "rest"]
names = np.repeat(list(types), 40)
rates = [[4.0 if types[name] == gene else 0.05 for gene in genes[:3]] + [5000.0] for name in names]
labels = pd.DataFrame({"type": names}).rename(str)
# the one line to change, for real cells: cells = ad.read_h5ad("my_types.h5ad"), with a column "type"
cells = AnnData(rng.poisson(rates).astype(np.float32), obs=labels, var=pd.DataFrame(index=genes))
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # most marker genes are absent from this small example
    signs = infer_signs(cells, "type")
signs[["sign", "transmitter", "marker_levels", "reason"]]

# %% [markdown]
# Type X expresses no transmitter gene, so its sign stays unknown. An unknown sign does not become a constraint. A mask
# is a matrix with the sign of every synapse. Unknown signs are NaN in this matrix, and they leave the weight free.

# %%
edges = pd.DataFrame({"pre": signs.index, "post": "T4a"})  # from a connectome: flda.datasets.flyvis_connectome()
mask = SignMask.from_types(signs, edges)
mask.values

# %% [markdown]
# ## What signs are worth: one linear neuron
#
# The neuron has 60 possible inputs, of which 10 are connected. We observe between 20 and 200 noisy responses. With 40
# responses there are fewer observations than weights. Known signs alone nevertheless bring the weights close to the true
# ones (correlation 0.92).


# %%
def experiment(n, seed):
    rng = np.random.default_rng(seed)
    sign = np.where(np.arange(60) < 40, 1.0, -1.0)
    truth = np.zeros(60)
    wired = rng.choice(60, 10, replace=False)
    truth[wired] = sign[wired] * rng.uniform(0.5, 1.5, 10)
    shared = rng.normal(size=(n, 1))
    X = np.maximum(0.7 * shared + rng.normal(size=(n, 60)) + 0.5, 0)  # rates: positive, and correlated
    y = X @ truth
    y += 0.1 * y.std() * rng.normal(size=n)
    return {
        "signs": system_recovery(SignedLinear(sign).fit(X, y).coef_, truth),
        "no signs": system_recovery(np.linalg.lstsq(X - X.mean(0), y - y.mean(), rcond=None)[0], truth),
    }


sizes = [20, 30, 40, 60, 100, 200]
curves = pd.DataFrame(
    [pd.DataFrame([experiment(n, 100 * SEED + s) for s in range(10)]).mean() for n in sizes],
    index=pd.Index(sizes, name="responses"),
)
ax = curves.plot(marker="o", logx=True, figsize=(5, 3), color=["#0173B2", "#DE8F05"])
ax.set_xticks(sizes, sizes)
ax.minorticks_off()
ax.set_ylabel("correlation with the true weights")
ax.figure.tight_layout()
curves.round(2)

# %% [markdown]
# ## A circuit of two layers
#
# We use a simulated retina (circuit 2 of Bagherian et al. 2021). It has bipolar cells, amacrine units that are not
# observed, and one ganglion cell. The input is a set of images, and the output is the response of the ganglion cell.
# The wiring diagram and the signs are known. The fit recovers the weights.

# %%
retina = simulate.retina_circuit("2", n_kernels=3)
X, y = retina.sample(600, random_state=SEED)
found = recover_circuit(retina.model, X, y, random_state=SEED)
r_system, r_support = system_recovery(found.weights, retina.truth), support_recovery(found.weights, retina.truth)
print(f"recovered from 600 responses: correlation of the weights {r_system:.3f}, synapses found {r_support:.3f}")
print(f"agreement between fits to the two halves of the responses {found.agreement:.3f}")
print(f"standard errors of the weights, relative to the weights {found.relative_error:.2%}")

# %%
fig, axes = plt.subplots(1, len(retina.truth), figsize=(4 * len(retina.truth), 3), layout="constrained", squeeze=False)
for ax, (name, truth) in zip(axes[0], retina.truth.items(), strict=True):
    ax.scatter(truth.ravel(), found.weights[name].ravel(), s=12, color="#0173B2", alpha=0.6, linewidths=0)
    ends = [min(truth.min(), 0), max(truth.max(), 0)]
    ax.plot(ends, ends, color="0.6", linewidth=1, zorder=0)
    ax.set(title=name, xlabel="true weight", ylabel="recovered")

# %% [markdown]
# The fit finds every existing synapse, at its true weight. However, a good prediction does not show that the weights
# are right, because two different circuits can give the same responses. Therefore read the notes of the fit, and
# `found.warnings` among them. Here there is no warning. The notes report that most amacrine units affect no response.
# This agrees with the simulation, in which only 4 of the 25 amacrine units are connected.

# %%
print("\n".join(found.notes) or "no remarks")
found.units.head()
