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
# # Genotype x treatment x behaviour: what can 72 mice say?
#
# **Question.** Three treatments of whole animals are crossed, and every animal is measured many times. Which proteins
# follow which of them, and is there an interaction?
#
# **Data.** 77 proteins in the cortex of 72 mice, 15 measurements each: genotype (Ts65Dn, a model of Down syndrome) x
# memantine x learning (Higuera et al., PLoS ONE 10:e0129126, 2015; CC BY 4.0). `flda.datasets.mice_protein` reads them.
#
# **What is known.** Ts65Dn mice carry a third copy of the genes of APP, ITSN1, DYRK1A, SOD1, TIAM1 and RRP1. Learning
# moves pERK, pCAMKII and SOD1, as the publication reports.
#
# **Call.** All factors vary between mice, so the mouse is the replicate, not the measurement: `donor="mouse"`.

# %%
import flda

adata = flda.datasets.mice_protein()
flda.tl.flda(adata, ["genotype", "treatment", "behaviour"], donor="mouse")
flda.tl.effect_tests(adata)
flda.get.effect_tests_df(adata)[["effect", "statistic", "null_95", "pval", "pval_adj", "unit", "n_units"]].round(3)

# %% [markdown]
# Without `donor=`, the 1,080 measurements would count as evidence and nearly everything would be significant.
#
# ## Which proteins differ?

# %%
tests = flda.get.gene_tests_df(adata)
tests[tests["pval_adj"] < 0.05].groupby("effect")["gene"].agg(["size", lambda g: ", ".join(g.head(8))])

# %% [markdown]
# APP leads genotype by far and ITSN1 follows; the other four triplicated proteins do not reach significance for
# genotype in this tissue. SOD1 and pERK lead behaviour. Few proteins differ with memantine.

# %%
flda.tl.held_out_scores(adata)
flda.pl.scores(adata, "behaviour_1", "genotype_1", color="behaviour");

# %% [markdown]
# ## The number to look at
#
# SNR with its standard error, both over mice that were not fitted.

# %%
flda.tl.certify(adata)
certificate = flda.get.certificate_df(adata).query("genes == 'all'").set_index("axis")
certificate[["snr", "se_snr", "crosstalk", "accuracy", "chance"]].round(2)

# %% [markdown]
# Behaviour is read from the proteins of a mouse that the fit has not seen with hardly an error, genotype with an
# accuracy of about 0.86. Of the interactions, only treatment x behaviour has an SNR that is clearly above zero, and its
# test does not confirm it: believe the test before the axis.
#
# ## Checks

# %%
ranked = tests.sort_values("F", ascending=False).groupby("effect")["gene"].agg(list)
assert ranked["genotype"][0] == "APP"
assert {"SOD1", "pERK"} <= set(ranked["behaviour"][:4])
assert "pCAMKII" in ranked["behaviour"][:15]
assert certificate.loc["behaviour_1", "snr"] > 15
assert 1 < certificate.loc["genotype_1", "snr"] < 4
assert certificate.loc["behaviour_1", "accuracy"] > 0.97
