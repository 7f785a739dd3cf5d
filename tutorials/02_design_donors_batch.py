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
# # 2. Design, donors and batch
#
# **Data: simulated T4/T5 cells, not real ones.** Donors, a batch and a treatment are added below, and nothing is
# downloaded. For real cells, replace the line marked *the one line to change*; the batch and the treatment are then
# added to the real cells.

# %%
import logging

import numpy as np
import pandas as pd
import scipy.sparse as sp

import flda

logging.basicConfig(format="%(message)s")
SEED = 0
# the one line to change, for real cells: cells = flda.datasets.t4t5("gse156455", time="48h")
cells = flda.datasets.t4t5_simulated(1500, 500, n_donors=8, random_state=SEED)
if "donor" not in cells.obs or cells.obs["donor"].nunique() < 8:  # real cells of one pool get eight arbitrary donors
    cells.obs["donor"] = pd.Categorical([f"donor{i % 8 + 1}" for i in range(cells.n_obs)])

# %% [markdown]
# ## What the table of groups can tell
#
# Effects are estimated from the means of the groups, here the types. It therefore matters which groups exist, and not
# how many cells each of them has.

# %%
flda.tl.flda(cells, ["dendrite", "axon"], shrinkage=0.5)
flda.get.estimability_df(cells)

# %% [markdown]
# Suppose that two of the eight types are lost, as happens with real tissue. Least squares over the six remaining groups
# still estimates the main effects. The interaction can no longer be estimated in full. flda leaves it out, and the
# table gives the reason.

# %%
partial = cells[~cells.obs["subtype"].isin(["T5c", "T5d"])].copy()
flda.tl.flda(partial, ["dendrite", "axon"], shrinkage=0.5)
flda.pl.design(partial)
flda.get.estimability_df(partial)[["effect", "df", "estimable", "reason"]]

# %% [markdown]
# If you ask for the interaction by name, an error says why it cannot be estimated.

# %%
try:
    flda.tl.flda(partial, ["dendrite", "axon"], interactions=["dendrite:axon"])
except ValueError as error:
    print(error)

# %% [markdown]
# ## Three factors
#
# The four layers can be described by two binary factors: a and b against c and d, and b and c against a and d. With
# these two factors and the dendrite, the eight types form a 2 x 2 x 2 table, and every effect has one axis.

# %%
flda.tl.flda(cells, ["dendrite", "axon_ab_cd", "axon_bc_ad"], shrinkage=0.5, key_added="flda3")
flda.get.axes_df(cells, key="flda3")

# %% [markdown]
# ## Batch
#
# If the batches contain different shares of the types, the axes of the types also pick up differences between batches.
# Here the second batch shifts 50 genes. It contains 90 % of the T5 cells, but only 10 % of the T4 cells.

# %%
rng = np.random.default_rng(SEED)
t5 = (cells.obs["dendrite"] == "T5").to_numpy()
second = rng.random(cells.n_obs) < np.where(t5, 0.9, 0.1)
shifted = rng.choice(cells.n_vars, 50, replace=False)
X = cells.X.toarray()
X[np.ix_(second, shifted)] += 1.0
mixed = cells.copy()
mixed.X = sp.csr_matrix(X)
mixed.obs["batch"] = pd.Categorical(np.where(second, "second", "first"))


def between_batches(nuisance):
    """Distance of the batches on the dendrite axis among cells of one dendrite, in within-group standard deviations."""
    work = mixed.copy()
    flda.tl.flda(work, ["dendrite", "axon"], nuisance=nuisance, shrinkage=0.5)
    scores = work.obsm["X_flda"][:, 0]
    return abs(np.mean([scores[second & own].mean() - scores[~second & own].mean() for own in (t5, ~t5)]))


without, with_nuisance = between_batches(None), between_batches("batch")
print(f"distance of the batches: {without:.2f} without nuisance, {with_nuisance:.2f} with nuisance='batch'")

# %% [markdown]
# `nuisance=` fits the batch as an effect without axes and penalises its variance, like that of any other effect. A
# batch that coincides with a factor (all T4 cells in one batch, all T5 cells in the other) is confounded with the
# factor: no method can separate them. flda then raises an error that names both.
#
# ## Donors
#
# A treatment is given to donors, not to cells. The treatment of this example has no effect: four of the eight donors
# only get the label `treated`.

# %%
donors = cells.obs["donor"].astype("category")
treated = {d: ["treated", "control"][i % 2] for i, d in enumerate(donors.cat.categories)}
cells.obs["treatment"] = pd.Categorical(donors.map(treated).astype(str))


def tested(donor):
    """The row of the treatment in the table of tests."""
    work = cells.copy()
    flda.tl.flda(work, ["treatment", "dendrite"], donor=donor, interactions=None, shrinkage=0.5)
    flda.tl.effect_tests(work, effects="treatment", n_resamples=199)
    return flda.get.effect_tests_df(work).set_index("effect").loc["treatment"]


by_cell, by_donor = tested(None), tested("donor")
print(f"tested by {by_cell['unit']}:  p = {by_cell['pval']:.3f}   (wrong: cells of one donor are not independent)")
print(f"tested by {by_donor['unit']}: p = {by_donor['pval']:.3f}")

# %% [markdown]
# With `donor=`, the error term includes the variance between donors, and the test compares the means of donors. Without
# it, the small differences that exist between any two donors appear as a significant treatment.
