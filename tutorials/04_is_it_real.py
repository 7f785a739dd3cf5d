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
# **Data: simulated T4/T5 cells, not real ones**, once with planted effects and once with shuffled labels; nothing is downloaded.
# For the real cells of Kurmangaliyev et al. (2019) replace the line marked *the one line to change*.
#
# With more genes than cells, any labels can be separated. This notebook shows the ways in which one fools oneself, and
# the three calls that do not.

# %%
import matplotlib.pyplot as plt
import numpy as np

import flda

SEED = 0
# the one line to change, for real cells: real = flda.datasets.t4t5(time="48h")
real = flda.datasets.t4t5_simulated(800, 1500, random_state=SEED)
shuffled = real.copy()
order = np.random.default_rng(SEED).permutation(real.n_obs)
for column in ("dendrite", "axon"):  # both labels together: the types stay, the genes know nothing of them
    shuffled.obs[column] = real.obs[column].to_numpy()[order]

for data in (real, shuffled):
    flda.tl.flda(data, ["dendrite", "axon"], shrinkage=0.1)

# %% [markdown]
# ## What the fitted cells say
#
# Nothing. The shuffled labels separate too: 800 cells, 1,500 genes.

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained", sharex=True)
for ax, data, name in zip(axes, (real, shuffled), ("true labels", "shuffled labels"), strict=True):
    flda.pl.scores(data, "dendrite_1", ax=ax)
    ax.set_title(f"fitted cells, {name}")

# %% [markdown]
# ## What held-out cells say

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained", sharex=True)
for ax, data, name in zip(axes, (real, shuffled), ("true labels", "shuffled labels"), strict=True):
    flda.tl.held_out_scores(data)
    flda.pl.scores(data, "dendrite_1", ax=ax)
    ax.set_title(f"held-out cells, {name}")

# %% [markdown]
# The certificate puts numbers to it, for every axis: signal of its own effect, cross-talk of all others, accuracy of the
# levels, each on cells without which everything was refitted.

# %%
certificates = {}
for name, data in (("true", real), ("shuffled", shuffled)):
    flda.tl.certify(data)
    certificates[name] = flda.get.certificate_df(data).set_index("axis")
    print(name)
    print(certificates[name][["snr", "crosstalk", "accuracy", "chance"]].round(2).to_string(), "\n")

# %% [markdown]
# An unbiased estimate of nothing is sometimes below zero, and is printed so.
#
# ## A p-value
#
# `permutation_test` exchanges labels within the levels of the other factors; for the interaction it takes the main effects out
# first. The statistic is never the eigenvalue, which grows with the number of genes whatever the labels.

# %%
flda.tl.permutation_test(real, n_perms=199, random_state=SEED)
pvals = real.uns["flda"]["permutation"]["table"].set_index("effect")["pval"]
pvals.round(3).to_dict()

# %% [markdown]
# The smallest p-value of 199 permutations is 1 / 200. And where there is nothing? There p-values are uniform: one in twenty
# is below 0.05, and with three effects per data set, such a one is no surprise. So shuffle not once but twenty times:

# %%
nothing = []
for seed in range(20):
    data = real[:, :500].copy()
    order = np.random.default_rng([SEED, seed]).permutation(data.n_obs)
    for column in ("dendrite", "axon"):
        data.obs[column] = real.obs[column].to_numpy()[order]
    flda.tl.flda(data, ["dendrite", "axon"], shrinkage=0.5)
    flda.tl.permutation_test(data, n_perms=99, random_state=seed)
    nothing += data.uns["flda"]["permutation"]["table"]["pval"].tolist()
nothing = np.array(nothing)
fig, ax = plt.subplots(figsize=(4, 2.5), layout="constrained")
ax.hist(nothing, bins=np.linspace(0, 1, 11), color="#0173b2", edgecolor="white")
ax.set(xlabel="p-value, shuffled labels", ylabel="tests")
print(f"{(nothing <= 0.05).sum()} of {len(nothing)} p-values are at most 0.05")

# %% [markdown]
# Genes get p-values too, and a false discovery rate:

# %%
genes = flda.get.rank_genes_df(real, "dendrite")
called = genes[genes["pval_adj"] < 0.1]
print(f"{len(called)} genes at a false discovery rate of 0.1")
if "truth_dendrite" in real.var:
    print(f"{(~real.var.loc[called['gene'], 'truth_dendrite']).sum()} of them were not planted")
flda.tl.permutation_test(shuffled, n_perms=199, random_state=SEED)
false = (flda.get.rank_genes_df(shuffled, "dendrite")["pval_adj"] < 0.1).sum()
print(f"{false} genes with shuffled labels")

# %% [markdown]
# ## What none of this can tell
#
# * A batch that goes with a factor: it is as reproducible as biology.
# * Donors: with several, give `donor=` (tutorial 2), or the p-value is that of cells.
# * Causes: the axis says that genes and phenotype go together.
