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
# # Blood cells: cell type x phase of the cell cycle
#
# **Question.** Cells of all types divide. Can the cell cycle be seen apart from the cell type?
#
# **Data.** `pbmc68k_reduced` ships with scanpy: 10 cell types x 3 phases, 700 cells x 765 genes, five empty groups.
# Its `X` is scaled to unit variance; do not pass it to flda. Its `.raw` holds the log-normalised values.
#
# **What is known.** Genes of the S phase (PCNA, MCM7) and of the G2/M phase (STMN1, HMGB2), and marker genes of every
# cell type.

# %%
import scanpy as sc

import flda

adata = sc.datasets.pbmc68k_reduced().raw.to_adata()
flda.tl.flda(adata, ["bulk_labels", "phase"])
flda.tl.rank_genes(adata, n_genes=10)

# %% [markdown]
# flda leaves out the interaction of cell type and phase because groups that it needs are empty, and says which.

# %%
flda.get.estimability_df(adata)

# %%
flda.tl.held_out_scores(adata)
flda.pl.scores(adata, "bulk_labels_2", "phase_1", color="phase");

# %% [markdown]
# Points with a border are group means. Monocytes and dendritic cells lie on the right, whatever their phase. Along
# the other axis lie the phases, in the order G1, S, G2/M. Monocytes and dendritic cells are the exception: their cells
# in S lie where those in G1 do.
#
# ## The number to look at
#
# SNR on held-out cells says how many axes to believe.

# %%
flda.tl.certify(adata)
certificate = flda.get.certificate_df(adata).query("genes == 'all'").set_index("axis")
certificate[["snr", "se_snr", "crosstalk"]].round(2)

# %%
genes = flda.get.rank_genes_df(adata)
chosen = genes[genes["selected"]].groupby("axis")["gene"].agg(lambda g: ", ".join(g.head(6)))
chosen.to_frame("genes of the sparse axis")

# %% [markdown]
# The first axes separate CD34+ cells (PRSS57, EGFL7, CYTL1), monocytes and dendritic cells (CST3, LYZ, AIF1, LST1)
# and cytotoxic cells (GZMB, NKG7, GNLY). The first axis of the phase is led by STMN1 and HMGB2. The second has an SNR
# of about 0.3: beyond the order of the phases, these genes say little about them.
#
# Four axes of the cell type and one of the phase have an SNR above 2. There are only 13 CD34+ cells. Expect the SNR of
# their axis to change from study to study by more than its standard error, which comes from two folds, says.
#
# ## Checks

# %%
assert certificate.loc["bulk_labels_1", "snr"] > 5
assert certificate.loc["bulk_labels_2", "snr"] > 8
assert (certificate["snr"] > 2).sum() == 5
assert 1.5 < certificate.loc["phase_1", "snr"] < 5
assert certificate.loc["phase_2", "snr"] < 1
assert (certificate.loc[["bulk_labels_1", "bulk_labels_2", "phase_1"], "crosstalk"] < 0.5).all()
assert {"STMN1", "HMGB2", "PCNA"} == set(flda.get.rank_genes_df(adata, "phase", sort_by="F").head(3)["gene"])
