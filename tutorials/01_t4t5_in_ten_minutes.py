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
# # 1. T4 and T5 in ten minutes
#
# **Data: simulated T4/T5 cells, not real ones.** 3,557 cells, 2,000 genes, planted effects; nothing is downloaded. For the real
# cells of Kurmangaliyev et al. (2019) replace the line marked *the one line to change*.
#
# T4 and T5 neurons of the fly's eye come in eight types: the dendrite lies in one of two neuropils (T4, T5) and the axon
# ends in one of four layers (a, b, c, d). Two phenotypes that cross, so one can ask: which genes go with the
# dendrite *and not* with the axon? That is an axis of factorized linear discriminant analysis.

# %%
import flda

SEED = 0
# the one line to change, for real cells: adata = flda.datasets.t4t5(time="48h")
adata = flda.datasets.t4t5_simulated(random_state=SEED)
adata

# %% [markdown]
# `X` holds log1p of counts per 10,000, the counts are in a layer. Own data need the same: `sc.pp.normalize_total`,
# `sc.pp.log1p`, and one column of `obs` per phenotype.
#
# ## Fit
#
# One call. It estimates every effect that the table of cell types can identify: two main effects and their
# interaction, with 1, 3 and 3 axes.

# %%
flda.tl.flda(adata, ["dendrite", "axon"])
flda.pl.design(adata);
# %% [markdown]
# Unequal numbers do no harm: every cell type counts the same.
#
# ## The few genes behind each axis

# %%
flda.tl.rank_genes(adata, n_genes=20)
flda.get.rank_genes_df(adata, "dendrite").head(8)

# %% [markdown]
# `score` is the loading in units of the gene's own spread. `specificity` is the share of the dendrite in what the gene
# says about all effects; a gene below one half is called *cancelling*: it is there because it takes another effect out
# of its partners.
#
# ## Does it hold on cells that were not fitted?
#
# An axis always separates the cells it was fitted on. `certify` refits everything five times without a fifth of the cells,
# and measures on those.

# %%
flda.tl.certify(adata)
certificate = flda.get.certificate_df(adata)
certificate[["axis", "genes", "snr", "crosstalk", "accuracy", "chance"]].round(3)

# %%
flda.pl.certificate(adata);
# %% [markdown]
# Rows are axes, columns effects, in units of the variance within cell types. Boxed: the effect that the axis is for. All else in
# a row is cross-talk and should be pale, and is.
#
# ## Look at the cells
#
# Scores of cells on axes that were fitted without them:

# %%
flda.tl.held_out_scores(adata)
flda.pl.scores(adata, "axon_1");
# %% [markdown]
# T4 and T5 lie on top of each other: this axis knows the axon, and nothing of the dendrite. Its genes over the eight types:

# %%
flda.pl.genes(adata, "axon_1");
# %% [markdown]
# ## Were those the right genes?
#
# Only a simulation can tell. The columns `truth_*` of `var` say which effects a gene was given.

# %%
ranking = flda.get.rank_genes_df(adata)
chosen = ranking[ranking["selected"]].copy()
if "truth_dendrite" in adata.var:
    chosen["planted"] = [adata.var.loc[g, f"truth_{e}"] for g, e in zip(chosen["gene"], chosen["effect"], strict=True)]
    print(chosen.groupby("axis", sort=False)["planted"].agg(["sum", "size"]))

# %% [markdown]
# ## Take it with you
#
# The table goes to CSV with the columns that `flda run` writes, and the report is one HTML file for a colleague.
#
# ```python
# ranking.to_csv("gene_rankings.csv", index=False)
# flda.report.write(adata, "report.html")
# adata.write_h5ad("t4t5.h5ad")
# ```
#
# The same from a terminal: `flda run t4t5.h5ad --factors dendrite axon --out results`.
#
# New cells go on the same axes, with the types they would be given:

# %%
new = adata[::10].copy()
flda.tl.transform(new, adata)
new.obsm["X_flda"].shape

# %% [markdown]
# Next: [what a table can and cannot tell](02_design_donors_batch.ipynb), [genes](03_genes.ipynb), [is it
# real?](04_is_it_real.ipynb)
