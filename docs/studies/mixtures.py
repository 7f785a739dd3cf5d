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
# # A designed mixture: which genes follow the amount of RNA?
#
# **Question.** Several things were varied on purpose, and technology differs too. Which part of the expression
# follows which of them?
#
# **Data.** RNA of three cell lines was mixed in 7 ratios, diluted to 4 amounts, and sequenced with 2 protocols (Tian
# et al., Nat. Methods 16:479, 2019): 636 pseudo-cells x 16,469 genes in 7 x 4 x 2 groups, one of them empty.
# `flda.datasets.rnamix` downloads the files, or finds them in the folder that `FLDA_DATA_DIR` names.
#
# **What is known.** Mixtures of three cell lines lie in a plane. With less RNA, a larger share of the reads comes
# from the 45 spike-ins, whose number is the same in every tube. Mixing creates no interactions.

# %%
import warnings

import flda

adata = flda.datasets.rnamix()
with warnings.catch_warnings(record=True) as said:
    flda.tl.flda(adata, ["mixture", "amount", "protocol"], interactions=None)
print(*[w.message for w in said], sep="\n")

# %% [markdown]
# The warning is right: depth goes with the amount here, by design. It is what the spike-ins are for.

# %%
flda.tl.held_out_scores(adata)
flda.pl.scores(adata, "mixture_1", "mixture_2", color="mixture");

# %% [markdown]
# Every point is a pseudo-cell on axes that were fitted without it. The seven mixtures form a triangle, whose corners
# are the pure cell lines.
#
# ## The number to look at
#
# The certificate gives the signal-to-noise ratio (SNR) of every axis on held-out cells, and its cross-talk: what the
# other factors contribute to the same axis.

# %%
flda.tl.certify(adata)
certificate = flda.get.certificate_df(adata).set_index("axis")
certificate[["snr", "se_snr", "crosstalk", "accuracy"]].round(2)

# %%
flda.pl.certificate(adata);

# %% [markdown]
# Two axes hold nearly all of the mixture, as they must. The third has an SNR of 4: presumably the logarithm bends the
# plane of the mixtures a little.

# %% [markdown]
# ## Which genes differ?
#
# Genes are asked for by `F` here: does the gene differ between any amounts? `flda.tl.rank_genes` would choose few
# genes for each axis.

# %%
genes = flda.get.rank_genes_df(adata, sort_by="F")
first = genes.groupby("effect").apply(lambda t: t.drop_duplicates("gene").head(20), include_groups=False)
spikes = adata.var["spike_in"].reindex(first["gene"]).to_numpy()
first.assign(spike_in=spikes).groupby("effect")["spike_in"].sum()

# %% [markdown]
# Spike-ins are 45 of 16,469 genes. Ten of the first 20 genes of amount are spike-ins, and none of mixture.
# Not expected: ten of protocol are, too. Presumably the two protocols capture spike-ins and the
# RNA of cells in different shares.
#
# ## Interactions
#
# Mixing RNA creates no interaction. On the fitted cells, the interaction of 7 mixtures x 4 amounts has large
# eigenvalues all the same, since 18 axes can be fitted to what noise the group means have. The certificate of held-out
# cells does not.

# %%
full = flda.datasets.rnamix()
with warnings.catch_warnings():
    warnings.simplefilter("ignore", flda.FLDAWarning)
    flda.tl.flda(full, ["mixture", "amount"])
axes = flda.get.axes_df(full).set_index("axis")
flda.tl.certify(full)
interaction = flda.get.certificate_df(full).query("effect == 'mixture:amount'").set_index("axis")
interaction[["snr", "se_snr", "crosstalk"]].assign(eigenvalue=axes["eigenvalue"]).round(2).head(6)

# %% [markdown]
# On held-out cells its SNR is below 1, and its cross-talk is larger than its SNR: there is nothing to report.
#
# ## Checks

# %%
leading = ["mixture_1", "mixture_2", "amount_1", "protocol_1"]
assert (certificate.loc[leading, "snr"] > 10).all()
assert (certificate.loc[leading, "crosstalk"] < 0.2 * certificate.loc[leading, "snr"]).all()
assert certificate.loc["mixture_3", "snr"] < 0.2 * certificate.loc["mixture_2", "snr"]
assert (interaction["snr"] < 2).all()
