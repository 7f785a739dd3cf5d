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
# # One well per drug and dose: what can a plate without replicates say?
#
# **Question.** 55 kinase inhibitors were given to one melanoma line at six doses, one well each. Which genes tell
# inhibitors of BRAF and MEK from the others, and do the inhibitors have anything in common as the dose rises?
#
# **Data.** 328 wells x 978 genes: L1000 profiles of A375 after 24 h (Subramanian et al., Cell 171:1437, 2017; the
# test file of cmapPy, BSD-3). `flda.datasets.l1000_a375` reads them.
#
# **What is known.** A375 cells carry BRAF V600E and live on its signal, which MEK passes on to ERK. Inhibitors of
# BRAF and of MEK therefore turn off the same genes in these cells: DUSP4, DUSP6, FOSL1 and CCND1, among others
# (Pratilas et al., PNAS 106:4519, 2009). Six of the drugs are such inhibitors.
#
# **Call.** No group has two wells, so nothing varies within groups. `error="residual"` takes what the effects leave
# for noise. The dose is a number with one axis, its line over the logarithm. `interactions=None` leaves to the noise
# what a drug does differently at its doses.

# %%
import numpy as np
import pandas as pd
from scipy.stats import spearmanr

import flda

adata = flda.datasets.l1000_a375()
adata = adata[adata.obs["kind"] == "compound"].copy()
adata.obs["drug"] = adata.obs["drug"].astype(str).astype("category")

drugs = adata.obs["drug"].cat.categories
erk = ["PD-0325901", "PD-184352", "trametinib", "AZD-8330", "vemurafenib", "PLX-4720"]  # four of MEK, two of BRAF
contrasts = {"BRAF or MEK": ({"drug": erk}, {"drug": [d for d in drugs if d not in erk]})}
model = {"numeric": ["log_dose"], "interactions": None, "error": "residual", "contrasts": contrasts}
flda.tl.flda(adata, ["drug", "log_dose"], **model)

# %% [markdown]
# ## Which genes differ?

# %%
flda.tl.effect_tests(adata, effects=["BRAF or MEK", "log_dose.linear"], n_resamples=199)
tests = flda.get.gene_tests_df(adata).sort_values("F", ascending=False)
by_effect = tests.groupby("effect")
significant = by_effect["pval_adj"].agg(lambda p: (p < 0.05).sum())
pd.DataFrame({"genes below 0.05": significant, "first": by_effect["gene"].agg(lambda g: ", ".join(g.head(5)))})

# %%
ranks = {e: pd.Series(range(1, len(t) + 1), t["gene"].to_numpy()) for e, t in by_effect}
ranks["BRAF or MEK"][["DUSP4", "DUSP6", "FOSL1", "CCND1"]]

# %% [markdown]
# DUSP4, DUSP6 and FOSL1, whose transcription ERK drives, are among the first four of 978 genes. CCND1 follows at rank
# 75. With the dose go genes of the cell cycle, such as CCNA2 and BIRC5. The p-values are about these drugs: the six
# differ from the other 49. Another six drugs may differ from the rest as well, in other genes, so read the order of
# the genes and not how many are below 0.05.
#
# ## Wells that no fit has seen

# %%
adata.obs["target"] = np.where(adata.obs["drug"].isin(erk), "BRAF or MEK", "other")
flda.tl.held_out_scores(adata, n_folds=10)
flda.pl.scores(adata, "BRAF or MEK_1", "log_dose.linear_1", color="target");

# %%
scores = pd.DataFrame(adata.obsm["X_flda_held_out"], adata.obs_names, flda.get.axes_df(adata)["axis"])
by_dose = scores["BRAF or MEK_1"].groupby([adata.obs["drug"], adata.obs["dose"]], observed=True).mean().unstack()
by_dose.loc[by_dose.mean(axis=1).nlargest(8).index].round(1)

# %% [markdown]
# Each well was scored by a fit without it and without a tenth of the other wells. Inhibitors of BRAF and MEK lie on the
# right; the table has the drugs with the largest means. Three things can be seen.
#
# * Some "other" wells lie among the inhibitors of BRAF and MEK. Six of them are all wells of BRD-K24496482, for which
#   the file gives no other name. Its profile is that of such an inhibitor, although the contrast counted it to the
#   others.
# * One well is that of TGX-221, an inhibitor of PI3K, at 0.37 micromolar; its other five wells are near zero. It is
#   well H22, and G22 beside it has AZD-8330. In turn, single wells of PD-0325901 (10), PLX-4720 (3.33) and
#   vemurafenib (0.37) show nothing. With one well per dose no statistic can tell a mistake on the plate from biology.
#   Such wells should be looked at first.
# * Trametinib and AZD-8330 do nothing at the two lowest doses and all that they do from 0.37 on: a step, not a line.
#
# ## The number to look at

# %%
flda.tl.certify(adata, n_folds=10)
certificate = flda.get.certificate_df(adata).groupby("effect", sort=False).head(1).set_index("axis")
certificate[["snr", "se_snr", "crosstalk", "se_crosstalk", "accuracy", "chance"]].round(2)

# %% [markdown]
# Nothing is left in a group when its only well is held out, so the certificate pools the scores of all folds. The
# axis of BRAF and MEK has an SNR of 6.8 with a standard error of 2.6, and cross-talk is near zero. The first axis of
# all drugs has a larger SNR. All axes of the drugs together name the right one of 55 drugs for 41 % of the wells. For
# two other fits of this plate, leaving out one well at a time gave the same numbers within a third of a standard
# error (`benchmarks/RESULTS.md`).
#
# ## What did not come out

# %%
of_drug = pd.DataFrame({"score": scores["log_dose.linear_1"], "dose": adata.obs["dose"]}).groupby(
    adata.obs["drug"], observed=True
)
rho = of_drug.apply(lambda wells: spearmanr(wells["score"], wells["dose"])[0], include_groups=False)
rho *= np.sign(rho.median())  # the sign of an axis is free
pd.Series({"drugs": len(rho), "rising (0.8 or more)": (rho >= 0.8).sum(), "in every step": (rho > 1 - 1e-9).sum()})

# %% [markdown]
# A common effect of the dose is there (SNR 2.2), but it is an average: the scores rise with the dose for 18 of 55
# drugs, and in every step for one. In fits with all parts of the dose they do so for 14 and for none
# (`benchmarks/RESULTS.md`). A fit with a line and a curve for every drug spends 108 more degrees of freedom, and the
# SNR of its interaction, 1.7 with a standard error of 4.8, says nothing. For the doses at which a single drug acts,
# this plate has too few wells.
#
# ## Checks

# %%
assert (ranks["BRAF or MEK"][["DUSP4", "DUSP6", "FOSL1"]] <= 10).all()
assert ranks["BRAF or MEK"]["CCND1"] > 20
mean = by_dose.mean(axis=1).sort_values(ascending=False)
assert set(mean.index[:7]) == {*erk, "BRD-K24496482"}
assert by_dose.loc["TGX-221", 0.37] > 10 > 5 > by_dose.loc["TGX-221"].drop(0.37).max()
assert by_dose.loc["PD-0325901", 10] < 3
assert 3 < certificate.loc["BRAF or MEK_1", "snr"] < 12
assert abs(certificate.loc["BRAF or MEK_1", "crosstalk"]) < 0.3
assert certificate.loc["drug_1", "accuracy"] > 0.3
assert (rho >= 0.8).sum() <= 25
