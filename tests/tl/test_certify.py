import numpy as np
import pandas as pd
import pytest

import flda
from flda import FLDA, SparseFLDA
from flda.inference._certificate import certify_together

from simulated import with_donors

FACTORS = ["dendrite", "axon"]


@pytest.fixture
def fitted():
    adata = flda.datasets.t4t5_simulated(n_obs=320, n_vars=60)
    flda.tl.flda(adata, FACTORS, shrinkage=0.5)
    return adata


def test_certificate_is_that_of_the_estimators(fitted):
    flda.tl.rank_genes(fitted, n_genes=5)
    assert flda.tl.certify(fitted, n_folds=4, random_state=3) is None
    options = {"shrinkage": 0.5, "random_state": 0}
    models = {"all": FLDA(**options), "selected": SparseFLDA(n_genes=5, **options)}
    expected = certify_together(models, fitted.X, fitted.obs[FACTORS], n_folds=4, random_state=3)
    pd.testing.assert_frame_equal(flda.get.certificate_df(fitted), expected)


def test_without_a_selection_only_the_axes_of_all_genes_are_certified(fitted):
    flda.tl.certify(fitted, n_folds=2)
    assert set(flda.get.certificate_df(fitted)["genes"]) == {"all"}


def test_penalties_and_components_of_the_fit_are_used(fitted):
    options = {"shrinkage": 0.4, "penalty": {"axon": np.inf}, "n_components": 1, "interactions": None}
    flda.tl.flda(fitted, FACTORS, **options)
    flda.tl.certify(fitted, n_folds=2)
    expected = flda.inference.certify(FLDA(**options, random_state=0), fitted.X, fitted.obs[FACTORS], n_folds=2)
    pd.testing.assert_frame_equal(flda.get.certificate_df(fitted).drop(columns="genes"), expected)


def test_donors_of_the_fit_are_held_out_whole():
    adata = with_donors()
    flda.tl.flda(adata, ["treatment", "type"], donor="donor")
    assert 0 < adata.uns["flda"]["fit"]["donor_share"] < 1
    flda.tl.certify(adata)
    assert flda.get.certificate_df(adata)["n_folds"].unique() == [2]


def test_unlabelled_cells_and_masked_genes_take_no_part():
    adata = flda.datasets.t4t5_simulated(n_obs=340, n_vars=100)
    adata.obs.loc[adata.obs_names[:20], "axon"] = np.nan
    adata.var["use"] = np.arange(100) < 90
    part = adata[20:, :90].copy()
    for data, mask in ((adata, "use"), (part, None)):
        flda.tl.flda(data, FACTORS, shrinkage=0.5, mask_var=mask)
        flda.tl.rank_genes(data, n_genes=4)
        flda.tl.effect_tests(data, n_resamples=9)
        flda.tl.stability(data, n_resamples=2, n_bootstraps=0)
        flda.tl.certify(data, n_folds=2)
    pd.testing.assert_frame_equal(flda.get.certificate_df(adata), flda.get.certificate_df(part))
    columns = ["axis", "gene", "frequency", "pval", "pval_adj"]
    pd.testing.assert_frame_equal(flda.get.rank_genes_df(adata)[columns], flda.get.rank_genes_df(part)[columns])
    pd.testing.assert_frame_equal(flda.get.gene_tests_df(adata), flda.get.gene_tests_df(part))
    assert np.isnan(adata.varm["flda_pval"][90:]).all()


def test_a_refusal_writes_nothing(fitted):
    fitted.obs["single"] = fitted.obs["dendrite"].map({"T4": "d1", "T5": "d2"})
    flda.tl.flda(fitted, FACTORS, donor="single", shrinkage=0.5)
    with pytest.raises(ValueError, match="one donor"):
        flda.tl.certify(fitted)
    with pytest.raises(ValueError, match="'other'"):
        flda.tl.certify(fitted, key="other")
    assert "certificate" not in fitted.uns["flda"]
