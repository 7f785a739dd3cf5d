import numpy as np
import pandas as pd
import pytest

import flda
from flda import FLDA, inference

from simulated import with_donors

FACTORS = ["dendrite", "axon"]


@pytest.fixture
def fitted():
    adata = flda.datasets.t4t5_simulated(n_obs=320, n_vars=60)
    flda.tl.flda(adata, FACTORS, shrinkage=0.5)
    return adata


def test_tests_are_those_of_the_function(fitted):
    flda.tl.effect_tests(fitted, effects="axon", n_resamples=29)
    result = inference.effect_tests(
        FLDA(shrinkage=0.5), fitted.X, fitted.obs[FACTORS], effects=["axon"], n_resamples=29
    )
    pd.testing.assert_frame_equal(flda.get.effect_tests_df(fitted), result.table, check_dtype=False)
    pd.testing.assert_frame_equal(fitted.uns["flda"]["tests"]["null"], result.null)
    genes = result.genes.set_index("gene").sort_index()
    for column in ("pval", "pval_adj", "pval_max"):
        np.testing.assert_allclose(fitted.varm[f"flda_{column}"][:, 1], genes[column])
    assert np.isnan(fitted.varm["flda_pval"][:, [0, 2]]).all()
    table = flda.get.rank_genes_df(fitted, "axon").query("axis == 'axon_2'").set_index("gene")
    np.testing.assert_allclose(table.loc[fitted.var_names, "pval_adj"], genes["pval_adj"])
    assert flda.get.rank_genes_df(fitted, "dendrite")["pval"].isna().all()


def test_donors_of_the_fit_are_the_units():
    adata = with_donors()
    flda.tl.flda(adata, ["treatment", "type"], donor="donor")
    flda.tl.effect_tests(adata, n_resamples=19)
    units = flda.get.effect_tests_df(adata).set_index("effect")["unit"].to_dict()
    assert units["treatment"] == units["treatment:type"] == "donor"


def test_a_refusal_writes_nothing():
    adata = with_donors(2)
    flda.tl.flda(adata, ["treatment", "type"], donor="donor", shrinkage=0.5)
    before = set(adata.uns["flda"]), set(adata.varm)
    with pytest.raises(ValueError, match="treatment:type"):
        flda.tl.effect_tests(adata, effects=["treatment"], method="permutation")
    with pytest.raises(ValueError, match="'leg'"):
        flda.tl.effect_tests(adata, effects="leg")
    assert (set(adata.uns["flda"]), set(adata.varm)) == before
