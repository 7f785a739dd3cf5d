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
# **Data.** 328 wells x 978 genes: L1000 profiles of A375 after 24 h (Subramanian et al., Cell 171:1437, 2017; the test
# file of cmapPy, BSD-3). `flda.datasets.l1000_a375` reads them.
#
# **What is known.** A375 cells carry BRAF V600E and live on its signal, which MEK passes on to ERK. Inhibitors of BRAF
# and of MEK therefore turn off the same genes in these cells: DUSP4, DUSP6, FOSL1 and CCND1, among others (Pratilas et
# al., PNAS 106:4519, 2009). Six of the drugs are such inhibitors.
#
# **Call.** No group has two wells, so nothing varies within groups. The noise is then what the effects leave
# (`error="residual"`, which flda chooses itself and says so). The dose is a number, with one axis for its line. What
# drugs do differently at different doses is left to the noise (`interactions=None`).

# %%
import numpy as np
import pandas as pd
from scipy.stats import spearmanr

import flda

adata = flda.datasets.l1000_a375()
adata = adata[adata.obs["kind"] == "compound"].copy()
adata.obs["drug"] = adata.obs["drug"].astype(str).astype("category")

drugs = adata.obs["drug"].cat.categories
erk = ["vemurafenib", "PLX-4720", "trametinib", "PD-0325901", "PD-184352", "AZD-8330"]
contrasts = {"BRAF or MEK": ({"drug": erk}, {"drug": [d for d in drugs if d not in erk]})}
flda.tl.flda(adata, ["drug", "log_dose"], numeric=["log_dose"], interactions=None, contrasts=contrasts)

# %% [markdown]
# ## Which genes differ?

# %%
flda.tl.effect_tests(adata, effects=["BRAF or MEK", "log_dose.linear"], n_resamples=199)
tests = flda.get.gene_tests_df(adata).sort_values("F", ascending=False)
by_effect = tests.groupby("effect")
pd.DataFrame(
    {
        "genes below 0.05": by_effect["pval_adj"].agg(lambda p: (p < 0.05).sum()),
        "first": by_effect["gene"].agg(lambda g: ", ".join(g.head(8))),
    }
)

# %%
adata.obs["target"] = np.where(adata.obs["drug"].isin(erk), "BRAF or MEK", "other")
flda.tl.held_out_scores(adata, n_folds=10)
flda.pl.scores(adata, "BRAF or MEK_1", "log_dose.linear_1", color="target");

# %%
flda.tl.certify(adata, n_folds=10)
certificate = flda.get.certificate_df(adata).set_index("axis")
certificate.groupby("effect", sort=False).head(1)[["snr", "se_snr", "crosstalk", "se_crosstalk", "accuracy", "scheme"]].round(2)

# %%
scores = pd.DataFrame(adata.obsm["X_flda_held_out"], adata.obs_names, certificate.index)["log_dose.linear_1"]
of_drug = pd.DataFrame({"score": scores, "dose": adata.obs["log_dose"]}).groupby(adata.obs["drug"], observed=True)
rho = of_drug.apply(lambda t: spearmanr(t["score"], t["dose"])[0], include_groups=False).sort_values()
print((rho >= 0.8).sum(), (rho > 1 - 1e-9).sum(), rho.median())
rho.iloc[[*range(5), *range(-10, 0)]].round(2)
