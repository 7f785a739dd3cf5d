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
# # 3. Genes: few, pure, stable
#
# **Data: simulated T4/T5 cells, not real ones.** Nothing is downloaded. For the real cells of Kurmangaliyev et al.
# (2019), replace the line marked *the one line to change*.

# %%
import io

import flda

SEED = 0
# the one line to change, for real cells: adata = flda.datasets.t4t5(time="48h")
adata = flda.datasets.t4t5_simulated(2000, 1000, random_state=SEED)
flda.tl.flda(adata, ["dendrite", "axon"])

# %% [markdown]
# ## How many genes?
#
# On the fitted cells, the objective grows with every gene. On held-out cells, the signal-to-noise ratio (SNR) need not
# grow.

# %%
flda.tl.path(adata, n_genes=[2, 5, 10, 20, 40], n_folds=3)
flda.pl.path(adata, "dendrite_1");
# %% [markdown]
# The blue line is the SNR on held-out cells, the orange line is the cross-talk on held-out cells, and the grey squares
# are the objective on the fitted cells. Here the blue line follows the squares: up to 40 genes, nothing is fitted that
# does not hold on other cells. Choose the number of genes beyond which the blue line stops growing, or the number that your experiment can afford. With `n_genes="cv"`,
# flda chooses the number by cross-validation.
#
# ## Pure and cancelling genes

# %%
flda.tl.rank_genes(adata, n_genes=20)
table = flda.get.rank_genes_df(adata, "dendrite")
table[table["selected"]][["rank", "gene", "score", "specificity", "kind"]]

# %%
flda.pl.loadings(adata, "dendrite_1");
# %% [markdown]
# A *cancelling* gene varies more with other effects than with the effect of the axis. It helps the axis because it
# cancels these other effects in the other genes, but it is not a marker. If you want markers, pass `mode="marker"`,
# which selects genes that are specific on their own. The next cell compares both modes over all axes, and counts how
# many of the chosen genes were planted for the effect.

# %%
markers = adata.copy()
flda.tl.rank_genes(markers, n_genes=20, mode="marker")


def composition(data):
    """How many genes were chosen, how many of them are cancelling, and how many were planted for the effect."""
    chosen = flda.get.rank_genes_df(data).query("selected").drop_duplicates(["effect", "gene"])
    row = {"genes": len(chosen), "cancelling": int((chosen["kind"] == "cancelling").sum())}
    if "truth_dendrite" in data.var:
        row["planted"] = int(
            sum(data.var.loc[g, f"truth_{e}"] for g, e in zip(chosen["gene"], chosen["effect"], strict=True))
        )
    return row


by_axis, by_marker = composition(adata), composition(markers)
print("axis:  ", by_axis)
print("marker:", by_marker)

# %% [markdown]
# ## Would half of the cells choose them again?
#
# `stability` selects genes again on twenty random halves of the cells. A gene that every half selects is a stable
# result. If only half of the halves select a gene, another gene can take its part equally well.

# %%
flda.tl.stability(adata, n_resamples=20)
flda.pl.stability(adata, "dendrite_1");
# %%
stable = flda.get.rank_genes_df(adata, "dendrite").query("selected")[["gene", "frequency"]]
stable.describe().loc[["min", "50%", "max"]]

# %% [markdown]
# ## Export
#
# The columns and their order are fixed. A second run writes the same bytes.

# %%
text = io.StringIO()  # or a file name
flda.get.rank_genes_df(adata).to_csv(text, index=False, float_format="%.8g", lineterminator="\n")
print(text.getvalue()[:260])

# %% [markdown]
# scanpy reads the ranking like its own: `sc.pl.rank_genes_groups_dotplot(adata, key="rank_genes_flda")`, or
# `sc.get.rank_genes_groups_df(adata, "dendrite_1", key="rank_genes_flda")`.
