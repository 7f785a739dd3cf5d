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
# memantine x learning (Higuera et al., PLoS ONE 10:e0129126, 2015; CC BY 4.0). `flda.datasets.mice_protein` reads
# them.
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
# Without `donor=`, the 1,080 measurements would count as replicates: all seven effects would have the smallest
# possible p-value, 0.001, and 35 to 69 of the 77 proteins would be significant for each of them.
#
# ## Which proteins differ?

# %%
tests = flda.get.gene_tests_df(adata)
significant = tests[tests["pval_adj"] < 0.05].groupby("effect")["gene"]
significant.agg(proteins="size", first=lambda g: ", ".join(g.head(5)))

# %% [markdown]
# APP leads genotype by far, and ITSN1 is third. The other four triplicated proteins are not significant for genotype
# in this tissue. SOD1 and pERK lead behaviour, as published. Two proteins are significant for memantine, but as a
# whole its effect is not: `pval_adj`, which allows for seven tests, is 0.14.

# %%
flda.tl.held_out_scores(adata)
flda.pl.scores(adata, "behaviour_1", "genotype_1", color="genotype");

# %% [markdown]
# Every point is a measurement, and every circle the mean of one of the eight groups. From left to right lies the
# behaviour, without overlap. The genotypes differ from top to bottom, and overlap.
#
# ## The number to look at
#
# SNR with its standard error, both over mice that were not fitted.

# %%
flda.tl.certify(adata)
certificate = flda.get.certificate_df(adata).query("genes == 'all'").set_index("axis")
certificate[["snr", "se_snr", "crosstalk", "accuracy", "chance"]].round(2)

# %% [markdown]
# The proteins of a mouse that the fit has not seen tell its behaviour with hardly an error, and its genotype with an
# accuracy of 0.86.
#
# Test and certificate answer different questions, and here they differ on the interactions. The test asks whether any
# protein differs, and finds some for genotype x behaviour and for the interaction of all three. The certificate asks
# whether one axis holds on other mice. For these two it does not: SNRs of 0.2 and 0.8 with standard errors of 0.4 and
# 0.8. For treatment x behaviour it does, an SNR of 2.0, but no protein alone shows it. Report such an effect as a hint,
# not as a finding.
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
pvals = flda.get.effect_tests_df(adata).set_index("effect")["pval"]
assert pvals["behaviour"] <= 0.002
assert pvals["genotype"] <= 0.01
assert pvals["genotype:treatment"] > 0.2
assert pvals["genotype:behaviour"] < 0.02
assert certificate.loc["genotype:behaviour_1", "snr"] < 1
assert 0.5 < certificate.loc["treatment:behaviour_1", "snr"] < 4
assert significant.size()["treatment"] <= 4
