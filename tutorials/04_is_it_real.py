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
# # 4. Is it real?
#
# **Data: simulated T4/T5 cells, not real ones**, once with planted effects and once with shuffled labels. Nothing is
# downloaded. For the real cells of Kurmangaliyev et al. (2019), replace the line marked *the one line to change*.
#
# With more genes than cells, any labels can be separated. This notebook shows how fitted cells mislead, and introduces
# three calls that avoid this.

# %%
import matplotlib.pyplot as plt
import numpy as np

import flda

SEED = 0
# the one line to change, for real cells: real = flda.datasets.t4t5(time="48h")
real = flda.datasets.t4t5_simulated(800, 1500, random_state=SEED)
shuffled = real.copy()
order = np.random.default_rng(SEED).permutation(real.n_obs)
for column in ("dendrite", "axon"):  # both labels together: the types stay, but genes and types are now unrelated
    shuffled.obs[column] = real.obs[column].to_numpy()[order]

for data in (real, shuffled):
    flda.tl.flda(data, ["dendrite", "axon"], shrinkage=0.1)

# %% [markdown]
# ## What the fitted cells show
#
# Scores of fitted cells prove nothing. With 800 cells and 1,500 genes, even the shuffled labels separate.

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained", sharex=True)
for ax, data, name in zip(axes, (real, shuffled), ("true labels", "shuffled labels"), strict=True):
    flda.pl.scores(data, "dendrite_1", ax=ax)
    ax.set_title(f"fitted cells, {name}")

# %% [markdown]
# ## What held-out cells show

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained", sharex=True)
for ax, data, name in zip(axes, (real, shuffled), ("true labels", "shuffled labels"), strict=True):
    flda.tl.held_out_scores(data)
    flda.pl.scores(data, "dendrite_1", ax=ax)
    ax.set_title(f"held-out cells, {name}")

# %% [markdown]
# The certificate gives the numbers for every axis: the signal-to-noise ratio (SNR) of its own effect, the cross-talk of
# all other effects, and the accuracy of the predicted levels. All of them are measured on held-out cells, and
# everything was refitted without these cells.

# %%
certificates = {}
for name, data in (("true", real), ("shuffled", shuffled)):
    flda.tl.certify(data)
    certificates[name] = flda.get.certificate_df(data).set_index("axis")
    print(name)
    print(certificates[name][["snr", "crosstalk", "accuracy", "chance"]].round(2).to_string(), "\n")

# %% [markdown]
# The noise in the group means is subtracted. The estimate of an absent effect can therefore be negative. Negative
# estimates are not set to zero.
#
# ## A p-value
#
# `effect_tests` compares the differences between groups with the spread within them, gene by gene. To learn what chance
# alone gives, it multiplies the residual of every cell by a random sign, many times. The eigenvalue is not used,
# because it grows with the number of genes even for random labels.

# %%
flda.tl.effect_tests(real, n_resamples=199, random_state=SEED)
pvals = flda.get.effect_tests_df(real).set_index("effect")["pval"]
pvals.round(3).to_dict()

# %% [markdown]
# With 199 resamples, no p-value can be smaller than 1 / 200. What happens if there is no effect? Then p-values are
# uniformly distributed, and one in twenty is below 0.05. One such value among the three effects of a data set would be
# no surprise. We therefore shuffle the labels twenty times:

# %%
nothing = []
for seed in range(20):
    data = real[:, :500].copy()
    order = np.random.default_rng([SEED, seed]).permutation(data.n_obs)
    for column in ("dendrite", "axon"):
        data.obs[column] = real.obs[column].to_numpy()[order]
    flda.tl.flda(data, ["dendrite", "axon"], shrinkage=0.5)
    flda.tl.effect_tests(data, n_resamples=99, random_state=seed)
    nothing += flda.get.effect_tests_df(data)["pval"].tolist()
nothing = np.array(nothing)
fig, ax = plt.subplots(figsize=(4, 2.5), layout="constrained")
ax.hist(nothing, bins=np.linspace(0, 1, 11), color="#0173b2", edgecolor="white")
ax.set(xlabel="p-value, shuffled labels", ylabel="tests")
print(f"{(nothing <= 0.05).sum()} of {len(nothing)} p-values are at most 0.05")

# %% [markdown]
# Every gene also gets a p-value and a false discovery rate:

# %%
genes = flda.get.rank_genes_df(real, "dendrite")
called = genes[genes["pval_adj"] < 0.1]
print(f"{len(called)} genes at a false discovery rate of 0.1")
if "truth_dendrite" in real.var:
    print(f"{(~real.var.loc[called['gene'], 'truth_dendrite']).sum()} of them were not planted")
flda.tl.effect_tests(shuffled, n_resamples=199, random_state=SEED)
false = (flda.get.rank_genes_df(shuffled, "dendrite")["pval_adj"] < 0.1).sum()
print(f"{false} genes with shuffled labels")

# %% [markdown]
# ## What none of this can tell
#
# * Batch: a batch that coincides with a factor is as reproducible as biology.
# * Donors: if the cells come from several donors, pass `donor=` (tutorial 2). Otherwise the p-value treats cells as
#   independent.
# * Causes: an axis shows that genes and a phenotype vary together. It does not show which causes the other.
