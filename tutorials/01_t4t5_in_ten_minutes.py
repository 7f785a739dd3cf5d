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
# **Data: simulated T4/T5 cells, not real ones.** There are 3,557 cells and 2,000 genes with planted effects, and
# nothing is downloaded. For the real cells of Kurmangaliyev et al. (2019), run `flda datasets fetch gse126139` on the
# command line and replace the line marked *the one line to change*. [What you should see on the real
# data](../docs/t4t5_real.md) says what to compare with.
#
# T4 and T5 neurons of the fly's eye come in eight types. The dendrite lies in one of two neuropils (T4 or T5), and the
# axon ends in one of four layers (a, b, c or d). Every type of dendrite occurs with every layer of the axon, so one can
# ask which genes vary with the dendrite *and not* with the axon. An axis of factorized linear discriminant analysis
# answers this question.

# %%
import flda

SEED = 0
# the one line to change, for real cells: adata = flda.datasets.t4t5(time="48h")
adata = flda.datasets.t4t5_simulated(random_state=SEED)
adata

# %% [markdown]
# `X` holds log1p of counts per 10,000; the counts are in a layer. Prepare your own data in the same way: run
# `sc.pp.normalize_total` and `sc.pp.log1p`, and give `obs` one column per phenotype.
#
# ## Fit
#
# One call estimates every effect that the table of cell types can identify. Here these are two main effects and their
# interaction, with 1, 3 and 3 axes.

# %%
flda.tl.flda(adata, ["dendrite", "axon"])
flda.pl.design(adata);
# %% [markdown]
# The types have different numbers of cells. This does no harm, because every type counts equally in the fit.
#
# ## The few genes behind each axis

# %%
flda.tl.rank_genes(adata, n_genes=20)
flda.get.rank_genes_df(adata, "dendrite").head(8)

# %% [markdown]
# `score` is the gene's loading, multiplied by the gene's standard deviation within types. `specificity` is the share of
# the dendrite in what the gene varies with. A gene that varies more with another effect is called *cancelling*: it helps
# the axis because it cancels that effect in the other genes.
#
# ## Does it hold on cells that were not fitted?
#
# An axis always separates the cells that it was fitted on. `certify` therefore refits everything five times, each time
# without a fifth of the cells, and measures the axes on that fifth.

# %%
flda.tl.certify(adata)
certificate = flda.get.certificate_df(adata)
certificate[["axis", "genes", "snr", "crosstalk", "accuracy", "chance"]].round(3)

# %% [markdown]
# `snr`, the signal-to-noise ratio, is the variance of the axis's own effect between types, in units of the variance
# within types. `crosstalk` is the same ratio, summed over all other effects. `accuracy` is the balanced accuracy with
# which the axes of the effect predict its levels on held-out cells.

# %%
flda.pl.certificate(adata);
# %% [markdown]
# Rows are axes and columns are effects. All numbers have the same units. The box in each row marks the axis's own
# effect. All other entries of the row are cross-talk. They should be pale, as they are here.
#
# ## Look at the cells
#
# `held_out_scores` computes the scores of all cells on axes that were fitted without them.

# %%
flda.tl.held_out_scores(adata)
flda.pl.scores(adata, "axon_1");
# %% [markdown]
# The lines of T4 and T5 nearly coincide: this axis varies with the axon and hardly with the dendrite. These are its
# genes over the eight types:

# %%
flda.pl.genes(adata, "axon_1");
# %% [markdown]
# ## Are these the right genes?
#
# Only a simulation can answer this question. The columns `truth_*` of `var` say which effects were planted in a gene.

# %%
ranking = flda.get.rank_genes_df(adata)
chosen = ranking[ranking["selected"]].copy()
if "truth_dendrite" in adata.var:
    chosen["planted"] = [adata.var.loc[g, f"truth_{e}"] for g, e in zip(chosen["gene"], chosen["effect"], strict=True)]
    print(chosen.groupby("axis", sort=False)["planted"].agg(["sum", "size"]))

# %% [markdown]
# ## Take it with you
#
# The table can be written as CSV, with the same columns that `flda run` writes. The report is one HTML file with all
# results.
#
# ```python
# ranking.to_csv("gene_rankings.csv", index=False)
# flda.report.write(adata, "report.html")
# adata.write_h5ad("t4t5.h5ad")
# ```
#
# On the command line, `flda run t4t5.h5ad --factors dendrite axon --out results` does the same.
#
# ## New cells
#
# `transform` writes the scores of new cells on the same axes. `predict` writes the most probable level of every factor,
# with probabilities that were calibrated on held-out cells. Both match genes by name. Here a tenth of the cells is kept
# out of a second fit and then predicted:

# %%
new = adata[::10].copy()
old = adata[[i for i in range(adata.n_obs) if i % 10]].copy()
flda.tl.flda(old, ["dendrite", "axon"], key_added="nine_tenths")
flda.tl.transform(new, old, key="nine_tenths")
flda.tl.predict(new, old, key="nine_tenths")
predicted = new.obs[["nine_tenths_dendrite", "nine_tenths_axon"]].to_numpy()
right = (predicted == new.obs[["dendrite", "axon"]].to_numpy()).all(axis=1)
print(f"scores {new.obsm['X_nine_tenths'].shape}; {right.mean():.1%} of the new cells have both levels right")

# %% [markdown]
# Next: [what a table of groups can and cannot tell](02_design_donors_batch.ipynb), [genes](03_genes.ipynb), and [is it
# real?](04_is_it_real.ipynb)
