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
# **Data: simulated T4/T5 cells, not real ones**, with donors, a batch and a treatment added below; nothing is downloaded. For real
# cells replace the line marked *the one line to change*; what is added below is then added to them.

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
if "donor" not in cells.obs or cells.obs["donor"].nunique() < 8:  # real cells of one pool: dealt to eight, as a null
    cells.obs["donor"] = pd.Categorical([f"donor{i % 8 + 1}" for i in range(cells.n_obs)])

# %% [markdown]
# ## What the table can tell
#
# Effects are estimated from the means of the groups (types), so what counts is which groups are there, not how many cells
# each has.

# %%
flda.tl.flda(cells, ["dendrite", "axon"], shrinkage=0.5)
cells.uns["flda"]["estimability"]

# %% [markdown]
# Now two of the eight types are lost, as happens in real tissue. The main effects stay, by least squares over the six
# groups. The interaction can no longer be told in full, and flda leaves it out by name instead of guessing.

# %%
partial = cells[~cells.obs["subtype"].isin(["T5c", "T5d"])].copy()
flda.tl.flda(partial, ["dendrite", "axon"], shrinkage=0.5)
flda.pl.design(partial)
partial.uns["flda"]["estimability"][["effect", "df", "estimable", "reason"]]

# %% [markdown]
# Asked for by name, it is an error that says why.

# %%
try:
    flda.tl.flda(partial, ["dendrite", "axon"], interactions=["dendrite:axon"])
except ValueError as error:
    print(error)

# %% [markdown]
# ## Three factors
#
# The four layers are two binary questions: a and b against c and d, and b and c against a and d. Then the eight types
# are a 2 x 2 x 2 table, and every axis is one question.

# %%
flda.tl.flda(cells, ["dendrite", "axon_ab_cd", "axon_bc_ad"], shrinkage=0.5, key_added="flda3")
flda.get.axes_df(cells, key="flda3")

# %% [markdown]
# ## Batch
#
# A batch that is unevenly mixed with the types leaks into their axes. Here the second batch shifts 50 genes and has
# 90 % of the T5 cells but 10 % of the T4 cells.

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
# `nuisance=` fits the batch as an effect without axes and charges for its variance, as for that of any other effect.
# A batch that *is* a factor (all T4 in one, all T5 in the other) cannot be told from it by
# any method; flda then says that the effect cannot be estimated.
#
# ## Donors
#
# A treatment is given to donors, not to cells. Here it does nothing at all: four of eight donors get the label.

# %%
donors = cells.obs["donor"].astype("category")
treated = {d: ["treated", "control"][i % 2] for i, d in enumerate(donors.cat.categories)}
cells.obs["treatment"] = pd.Categorical(donors.map(treated).astype(str))


def pval(donor):
    work = cells.copy()
    flda.tl.flda(work, ["treatment", "dendrite"], donor=donor, interactions=None, shrinkage=0.5)
    flda.tl.permutation_test(work, effects="treatment", n_perms=199)
    return work.uns["flda"]["permutation"]["table"].set_index("effect").loc["treatment"]


naive, honest = pval(None), pval("donor")
print(f"cells exchanged:  p = {naive['pval']:.3f}   (wrong: cells of a donor are not independent)")
print(f"donors exchanged: p = {honest['pval']:.3f}   ({honest['n_perms']} permutations of {honest['unit']}s)")

# %% [markdown]
# With `donor=` the spread between donors joins the error term and whole donors are exchanged. Without it, the small
# differences that any two donors have become a significant treatment.
