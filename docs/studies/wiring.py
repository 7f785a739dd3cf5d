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
# # Synapses of single neurons: which factor do the partners follow?
#
# **Question.** T4 and T5 neurons of the fly differ by the neuropil of their dendrite (T4: medulla, T5: lobula) and by
# the layer of the lobula plate in which their axon ends (a to d). Do their inputs follow the dendrite and their outputs
# the axon, and which partners carry this?
#
# **Data.** 40 reconstructed neurons of one brain, 5 of each of the 8 types, with their synapses by partner type and
# neuropil (FIB-19, Shinomiya et al. 2019; table of Yoo et al. 2023). `flda.datasets.t4t5_fib19_wiring` reads them.
#
# **What is known.** Mi1 and Tm3 excite T4 in the medulla; Tm1, Tm2, Tm4 and Tm9 excite T5 in the lobula. In the lobula
# plate, HS cells read layer a, H2 reads layer b, and VS cells read layer d.
#
# **Call.** Neurons of one brain are not animals, and neurons of a type share its labels. So *types* are exchanged in
# the tests, all 40,320 orders of the eight.

# %%
import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

import flda
from flda.circuits import decompose_connectivity

pd.set_option("display.max_colwidth", 90)
neurons = flda.datasets.t4t5_fib19_wiring()
types = list(neurons.obs["type"].cat.categories)
factors = pd.DataFrame({"dendrite": [t[:2] for t in types], "axon": [t[2] for t in types]}, index=types)
shares = decompose_connectivity(neurons, factors)
shares.drop(columns=["df", "n_neurons", "n_distinct", "n_distinct_within"]).round(3)

# %% [markdown]
# `share` is of the differences between the means of types, `share_neurons` of all differences between neurons, and
# `expected` is the share of an absent effect. `pval` exchanges all types, `pval_within` only those that share the
# level of the other factor. The p-values of the dendrite's inputs and the axon's outputs are the smallest that eight
# types allow: 1/35 for two dendrites, 1/105 for four axons. The interaction has a large p-value beside main effects of
# this size, whatever it is; see the certificate below.
#
# ## The weighting is a choice
#
# Counts of synapses let strong partners decide. Square roots and logarithms let weak ones speak.

# %%
weightings = {"synapses": None, "square root": "sqrt", "log1p": "log1p"}
tables = [decompose_connectivity(neurons, factors, layer=w).assign(weighting=name) for name, w in weightings.items()]
weighted = pd.concat(tables)
main = {"inputs": "dendrite", "outputs": "axon"}
chosen = weighted[weighted["effect"] == weighted["direction"].map(main)]
chosen = chosen.sort_values("direction", kind="stable").set_index(["direction", "weighting"])[
    ["effect", "share", "share_neurons", "pval", "partners"]
]
chosen.round(3)

# %% [markdown]
# The more weight the weak partners get, the smaller the share of the main effect. The effect that leads, and its
# p-value, do not change. State the weighting with the share.

# %%
ordered = weighted.sort_values("direction", kind="stable").pivot_table(
    "share", ["direction", "weighting"], "effect", sort=False
)
shades = sns.color_palette("colorblind", 3)
named = ordered.set_index(ordered.index.map(", ".join))
ax = named.plot.barh(stacked=True, figsize=(6, 2.8), width=0.8, color=shades)
ax.set(xlabel="share of the differences between types", ylabel="", xlim=(0, 1))
ax.invert_yaxis()
ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False);
# %% [markdown]
# ## FLDA on wiring
#
# FLDA takes synapses as it takes genes. Its certificate is measured on neurons that were held out.

# %%
fits, certificates = {}, []
for direction in ("inputs", "outputs"):
    own = (neurons.var["direction"] == direction) & ~neurons.var["among"]
    fits[direction] = neurons[:, own].copy()
    flda.tl.flda(fits[direction], ["dendrite", "axon"], layer="sqrt")
    flda.tl.certify(fits[direction])
    flda.tl.effect_tests(fits[direction])
    certificates.append(flda.get.certificate_df(fits[direction]).assign(direction=direction))
certificate = pd.concat(certificates).set_index(["direction", "axis"])
certificate[["snr", "se_snr", "crosstalk", "accuracy", "chance"]].round(2)

# %% [markdown]
# Inputs tell the dendrite of a neuron without an error, and nearly always its axon as well, but not their interaction.
# Outputs tell all three. Their interaction is small in the shares and yet consistent from neuron to neuron.
#
# The tests of the effects over single neurons (random signs of residuals) say the same:

# %%
tests = pd.concat([flda.get.effect_tests_df(fit).assign(direction=d) for d, fit in fits.items()])
tests = tests.set_index(["direction", "effect"])
tests[["statistic", "null_95", "pval", "n_units"]].round(3)

# %% [markdown]
# They are about the 40 neurons of this brain, not about flies.

# %%
flda.tl.held_out_scores(fits["outputs"])
flda.pl.scores(fits["outputs"], "axon_1", "axon_2", color="axon");
# %% [markdown]
# ## Which partners carry it?
#
# Features in the order of their F for the main effect, which needs no axis. `pattern` is the correlation with the first
# axis. The figure shows synapses per neuron, on a square-root scale.

# %%
leading = {}
for direction, effect in main.items():
    flda.tl.rank_genes(fits[direction], n_genes=10)
    table = flda.get.rank_genes_df(fits[direction], effect, sort_by="F").drop_duplicates("gene").head(8)
    leading[direction] = table.set_index("gene")[["F", "pattern"]]
    leading[direction].index = leading[direction].index.str.removeprefix(f"{direction} ")
pd.concat(leading).round(2)

# %%
fig, axes = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
for ax, (direction, table) in zip(axes, leading.items(), strict=True):
    features = [f"{direction} {name}" for name in table.index]
    means = neurons[:, features].to_df().groupby(neurons.obs["type"].to_numpy()).mean()
    image = ax.imshow(means.T.to_numpy() ** 0.5, cmap="Blues", aspect="auto")
    ax.set(title=direction, xticks=range(8), yticks=range(8))
    ax.set_xticklabels(types)
    ax.set_yticklabels(table.index)
    ticks = [0, 4, 16, 36, 64]
    bar = fig.colorbar(image, ax=ax, ticks=[t**0.5 for t in ticks], label="synapses per neuron")
    bar.set_ticklabels(ticks)

# %% [markdown]
# ## What is left out

# %%
pd.Series(neurons.uns["untyped"]).round(3)

# %% [markdown]
# Partners without a type, and connections among T4 and T5, are not among the features. No genes of the same neurons
# exist: to link such a table to gene axes, pass it to `flda.circuits.link_axes` with cells of the eight types.
#
# ## Checks

# %%
table = shares.set_index(["direction", "effect"])
assert table.loc[("inputs", "dendrite"), "share"] > 0.9
assert table.loc[("outputs", "axon"), "share"] > 0.95
assert abs(table.loc[("inputs", "dendrite"), "pval"] - 1 / 35) < 1e-9
assert abs(table.loc[("outputs", "axon"), "pval"] - 1 / 105) < 1e-9
for direction in main:
    assert chosen.loc[direction, "share"].is_monotonic_decreasing
    assert chosen.loc[direction, "pval"].nunique() == 1
assert certificate.loc[("inputs", "dendrite_1"), "accuracy"] == 1
assert certificate.loc[("inputs", "axon_1"), "accuracy"] > 0.9
assert certificate.loc[("inputs", "dendrite:axon_1"), "accuracy"] < 0.3
assert certificate.loc[("outputs", "axon_1"), "accuracy"] == 1
assert certificate.loc[("outputs", "dendrite:axon_1"), "accuracy"] > 0.5
assert tests.loc[("inputs", "dendrite:axon"), "pval"] > 0.2
assert (tests["pval"].drop(("inputs", "dendrite:axon")) < 0.01).all()
assert {"Mi1 ME", "Tm3 ME", "Tm1 LO", "Tm2 LO", "Tm9 LO"} <= set(leading["inputs"].index)
by_axon = neurons.to_df().groupby(neurons.obs["axon"].to_numpy()).mean()
for partner, layer in (("HS", "a"), ("H2", "b"), ("VS", "d")):
    assert by_axon[f"outputs {partner} LOP"].idxmax() == layer
