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
# **Data: simulated T4/T5 cells and a simulated wiring diagram, not real ones.** Nothing is downloaded. For the
# connectome of the fly's optic lobe (Lappalainen et al. 2024), replace the line marked *the one line to change*; the
# last section states the results. [A study on real data](../docs/studies/wiring.ipynb) does this for 40 reconstructed
# neurons.
#
# The genes of the eight T4/T5 types differ by dendrite and by axon. Their synaptic partners differ too. Are the gene
# axes related to connectivity? Cells and connectomes come from different animals, so the unit of comparison is the cell
# *type*, and there are eight. Every result below is a statement about eight points, and its p-value comes from exact
# permutations of these eight points.

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
# A wiring diagram is a table of presynaptic types (rows) by postsynaptic types (columns). It contains counts of
# synapses, which are negative for inhibitory synapses. In the simulated diagram, T4 and T5 receive input from different
# partners, and each axon layer sends output to a partner of its own.


# %%
def simulated_wiring(rng: np.random.Generator) -> pd.DataFrame:
    """Simulated counts: inputs depend on the dendrite and outputs on the axon, with 10 % noise."""
    receives = {"T4": {"Mi1": 60, "Tm3": 20, "Mi4": -13, "Mi9": -22}, "T5": {"Tm1": 25, "Tm2": 27, "Tm9": 48, "CT1": -35}}
    sends = {"a": "LPa", "b": "LPb", "c": "LPc", "d": "LPd"}
    partners = [*receives["T4"], *receives["T5"], *sends.values()]
    wiring = pd.DataFrame(0.0, index=[*types, *partners], columns=[*types, *partners])
    for t in types:
        for partner, n in receives[t[:2]].items():
            wiring.loc[partner, t] = n * rng.normal(1, 0.1)
        wiring.loc[t, sends[t[2]]] = 40 * rng.normal(1, 0.1)
    return wiring


def flyvis() -> pd.DataFrame:
    """Signed synapses per cell between the types of the fly's optic lobe."""
    edges = flda.datasets.flyvis_connectome()
    edges["signed"] = edges["n_synapses"] * edges["sign"]
    names = sorted(set(edges["pre"]) | set(edges["post"]))
    return edges.pivot_table("signed", "pre", "post", aggfunc="sum").reindex(names, columns=names).fillna(0.0)


# the one line to change, for the real connectome: wiring = flyvis()
wiring = simulated_wiring(np.random.default_rng(SEED))

# %% [markdown]
# ## Which factor explains the wiring?
#
# FLDA decomposes gene expression into effects. `decompose_connectivity` does the same with the input profiles and the
# output profiles of the types. It computes which share of the differences between types belongs to the dendrite, to the
# axon, and to their interaction.

# %%
shares = decompose_connectivity(wiring, factors)
shares[["direction", "effect", "share", "expected", "pval", "n_distinct", "partners"]].round(3)

# %% [markdown]
# `expected` is the share that an effect has by chance. `n_distinct` is the number of distinct ways to label the types,
# and no p-value can be smaller than one over this number. In a 2 x 4 design, the smallest possible p-value of the
# dendrite is 1/35 = 0.029, for any data.
#
# ## Which gene axes are related to wiring?
#
# For every gene axis, `link_axes` tests whether the partners of the types change along it.

# %%
links = link_axes(adata, wiring, "subtype")
links[["direction", "axis", "share", "correlation", "held_out_r2", "pval", "pval_adj", "partners"]].round(3)

# %% [markdown]
# The axis dendrite_1 is related to the inputs and not to the outputs. The axis axon_1 is related to the outputs and not
# to the inputs. The column `held_out_r2` measures how well the wiring predicts the gene score of a type that was not
# used to find the pattern. It is negative if there is no relation. `pval_adj` allows for all 14 tests of the table, and
# 0.029 then becomes 0.2: with eight types, ask about one axis and one direction that you chose beforehand.

# %%
flda.pl.connectivity(adata);
# %%
flda.pl.connectivity(adata, "dendrite_1");
# %% [markdown]
# ## The other way round: phenotypes from wiring
#
# Suppose that no phenotypes are known. `phenotypes_from_connectivity` clusters the types by their inputs and by their
# outputs. The clusters can serve as factors of the cells. The axes are then gene programmes that types with similar
# wiring share.

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
# `signed_wiring` performs all steps in one call. The transmitter genes of the input types give the signs, the wiring
# diagram says which types are connected, and simulated activity gives the weights under these signs. For this example,
# we add the input types as cells that express the transmitter gene of their sign.

# %%
rng = np.random.default_rng(SEED)
inputs = [p for p in wiring.index if p not in types and (wiring.loc[p, types] != 0).any()]
transmitter = dict.fromkeys(types, "VAChT")  # T4 and T5 are cholinergic
transmitter |= {p: "VAChT" if wiring.loc[p, types].sum() > 0 else "Gad1" for p in inputs}

obs = pd.DataFrame({"type": [*adata.obs["subtype"], *np.repeat(inputs, 30)]}).rename(str)
obs["dendrite"] = obs["type"].str[:2].where(obs["type"].isin(types))  # input types have no label and are not fitted
obs["axon"] = obs["type"].str[2].where(obs["type"].isin(types))
others = rng.integers(adata.n_obs, size=len(obs) - adata.n_obs)  # their other genes are copied from a T4 or T5 cell
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
# For linear cells like these, signs improve the recovery of weights only a little. They matter if hidden units rectify;
# see [tutorial 5](05_circuits.ipynb).
#
# ## Results for the real connectome
#
# With `flyvis()`, 98 % of the differences between the inputs of the eight types belong to the dendrite (p = 0.029), and
# 70 % of the differences between their outputs belong to the axon (p = 0.0095). Both are the smallest p-values that
# eight types allow. In FlyWire, the connectome of another brain, these shares are 94 % and 98 %. Neuron by neuron, in
# FIB-19, they are 92 % and 97 %: see [the study](../docs/studies/wiring.ipynb). Tables and further checks are in
# `benchmarks/RESULTS.md`.
#
# Next: [a million cells and the GPU](07_million_cells.ipynb)
