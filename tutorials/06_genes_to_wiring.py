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
# # 6. From genes to wiring
#
# **Data: simulated T4/T5 cells and a made-up wiring diagram, not real ones**; nothing is downloaded. For the connectome of the fly's
# optic lobe (Lappalainen et al. 2024) replace the line marked *the one line to change*; what it then says is
# told at the end.
#
# The eight T4/T5 types differ in their genes by dendrite and by axon. They also differ in whom they are wired to. Do the two go
# together, axis by axis? Cells and connectomes come from different animals, so only the *types* can be compared, and there
# are eight: everything here is a statement about eight points, and its p-values are exact for eight points.

# %%
import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData

import flda
from flda.circuits import decompose_connectivity, link_axes, phenotypes_from_connectivity, signed_wiring

SEED = 0
adata = flda.datasets.t4t5_simulated(random_state=SEED)
flda.tl.flda(adata, ["dendrite", "axon"])
types = list(adata.obs["subtype"].cat.categories)
factors = pd.DataFrame({"dendrite": [t[:2] for t in types], "axon": [t[2] for t in types]}, index=types)

# %% [markdown]
# A wiring diagram is a table of presynaptic types (rows) by postsynaptic types, with counts of synapses, negative where they inhibit.
# The stand-in lets T4 and T5 hear different partners, and each axonal layer speak to a partner of its own.


# %%
def stand_in(rng: np.random.Generator) -> pd.DataFrame:
    """Inputs follow the dendrite, outputs the axon, with noise of a tenth. Made up."""
    hears = {"T4": {"Mi1": 60, "Tm3": 20, "Mi4": -13, "Mi9": -22}, "T5": {"Tm1": 25, "Tm2": 27, "Tm9": 48, "CT1": -35}}
    speaks = {"a": "LPa", "b": "LPb", "c": "LPc", "d": "LPd"}
    partners = [*hears["T4"], *hears["T5"], *speaks.values()]
    wiring = pd.DataFrame(0.0, index=[*types, *partners], columns=[*types, *partners])
    for t in types:
        for partner, n in hears[t[:2]].items():
            wiring.loc[partner, t] = n * rng.normal(1, 0.1)
        wiring.loc[t, speaks[t[2]]] = 40 * rng.normal(1, 0.1)
    return wiring


def flyvis() -> pd.DataFrame:
    """Signed synapses per cell between the types of the fly's optic lobe."""
    edges = flda.datasets.flyvis_connectome()
    edges["signed"] = edges["n_synapses"] * edges["sign"]
    names = sorted(set(edges["pre"]) | set(edges["post"]))
    return edges.pivot_table("signed", "pre", "post", aggfunc="sum").reindex(names, columns=names).fillna(0.0)


# the one line to change, for the real connectome: wiring = flyvis()
wiring = stand_in(np.random.default_rng(SEED))

# %% [markdown]
# ## What wiring owes to which factor
#
# The decomposition that FLDA makes of gene expression, made of the input and the output profiles of the types: how much
# of the differences between types belongs to the dendrite, to the axon, to their interaction?

# %%
shares = decompose_connectivity(wiring, factors)
shares[["direction", "effect", "share", "expected", "pval", "n_distinct", "partners"]].round(3)

# %% [markdown]
# `expected` is the share of an effect of nothing, and `n_distinct` the number of ways in which the types could have been labelled
# otherwise: a p-value cannot be smaller than one over it. With a 2 x 4 design that is 1/35 = 0.029 for the dendrite, whatever
# the data.
#
# ## Which gene axes go with which wiring
#
# `link_axes` asks of every gene axis whether the partners of the types change along it.

# %%
links = link_axes(adata, wiring, "subtype")
links[["direction", "axis", "share", "correlation", "held_out_r2", "pval", "pval_adj", "partners"]].round(3)

# %% [markdown]
# The dendrite's genes go with inputs, the axon's with outputs, and not the other way round. `held_out_r2` is the honest column: how
# well wiring tells the gene score of a type that took no part in finding the pattern. It is negative where there is
# nothing.

# %%
flda.pl.connectivity(adata);
# %%
flda.pl.connectivity(adata, "dendrite_1");
# %% [markdown]
# ## The other way round: phenotypes from wiring
#
# Without phenotypes to start from, cluster the types by whom they hear and whom they speak to, and use *that* as factors of the
# cells: the axes are then gene programmes of being wired alike.

# %%
found = phenotypes_from_connectivity(wiring, types, inputs=2, outputs=4)
found[["inputs", "outputs"]]

# %%
by_wiring = adata.copy()
for column in ("inputs", "outputs"):
    by_wiring.obs[column] = by_wiring.obs["subtype"].map(found[column]).astype("category")
flda.tl.flda(by_wiring, ["inputs", "outputs"], interactions=None)
flda.get.axes_df(by_wiring)

# %% [markdown]
# ## From genes to signed weights
#
# The whole way in one call: transmitter genes of the input types give signs, the diagram says who touches whom, and simulated
# activity gives the weights under these signs. The input types are added as cells that express the transmitter gene of their sign.

# %%
rng = np.random.default_rng(SEED)
inputs = [p for p in wiring.index if p not in types and (wiring.loc[p, types] != 0).any()]
transmitter = dict.fromkeys(types, "VAChT")  # T4 and T5 are cholinergic
transmitter |= {p: "VAChT" if wiring.loc[p, types].sum() > 0 else "Gad1" for p in inputs}

obs = pd.DataFrame({"type": [*adata.obs["subtype"], *np.repeat(inputs, 30)]}).rename(str)
obs["dendrite"] = obs["type"].str[:2].where(obs["type"].isin(types))  # input types have no label, and take no part in the fit
obs["axon"] = obs["type"].str[2].where(obs["type"].isin(types))
others = rng.integers(adata.n_obs, size=len(obs) - adata.n_obs)  # their other genes are those of some T4 or T5 cell
background = adata.layers["counts"][np.r_[np.arange(adata.n_obs), others]]
markers = [rng.poisson(5.0 * (obs["type"].map(transmitter) == gene)) for gene in ("VAChT", "Gad1")]
both = AnnData(
    sp.hstack([background, np.column_stack(markers)], format="csr", dtype=np.float32),
    obs=obs,
    var=pd.DataFrame(index=[*adata.var_names, "VAChT", "Gad1"]),
)
sc.pp.normalize_total(both, target_sum=1e4)
sc.pp.log1p(both)
flda.tl.flda(both, ["dendrite", "axon"])

# %%
activity = pd.DataFrame(rng.gamma(2.0, 1.0, size=(600, len(inputs))), columns=inputs)
responses = activity @ wiring.loc[inputs, types]
responses += 0.5 * responses.std().to_numpy() * rng.normal(size=responses.shape)
edges = wiring.loc[inputs, types].stack().rename_axis(["pre", "post"]).rename("weight").reset_index()
recovered = signed_wiring(both, edges[edges["weight"] != 0], activity, responses, groupby="type")
recovered.signs[["sign", "transmitter"]].loc[inputs]

# %%
recovered.weights.round(1)

# %%
recovered.fits.round(3)

# %% [markdown]
# For linear cells like these signs add little to the recovery of weights; they matter where hidden units rectify, see [tutorial
# 5](05_circuits.ipynb).
#
# ## What the real connectome says
#
# With `flyvis()`: 98 % of the differences between the inputs of the eight types belong to the dendrite (p = 0.029, the least
# that eight types allow), and 70 % of those between their outputs to the axon (p = 0.0095, likewise). FlyWire, another
# brain, agrees: 94 % and 98 %. Tables and further checks are in `benchmarks/RESULTS.md`.
#
# Next: [a million cells and the GPU](07_million_cells.ipynb)
