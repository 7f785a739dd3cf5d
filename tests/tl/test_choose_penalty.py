import anndata as ad
import numpy as np
import pandas as pd
import pytest

import flda
from flda import FLDA, inference

FACTORS = ["dendrite", "axon"]


@pytest.fixture
def fitted():
    adata = flda.datasets.t4t5_simulated(n_obs=320, n_vars=60)
    flda.tl.flda(adata, FACTORS, shrinkage=0.5, penalty=3.0)
    return adata


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_penalties_are_those_of_the_function(fitted, tmp_path, suffix):
    tried = (0.5, 5.0, np.inf)
    assert flda.tl.choose_penalty(fitted, crosstalk=0.05, penalties=tried, n_folds=3, random_state=2) is None
    chosen, expected = inference.choose_penalty(
        FLDA(shrinkage=0.5, random_state=0), fitted.X, fitted.obs[FACTORS],
        crosstalk=0.05, penalties=tried, n_folds=3, random_state=2,
    )  # fmt: skip
    getattr(fitted, f"write_{suffix}")(tmp_path / f"x.{suffix}")
    for adata in (fitted, getattr(ad, f"read_{suffix}")(tmp_path / f"x.{suffix}")):
        stored = adata.uns["flda"]["penalties"]
        assert dict(stored["chosen"]) == chosen
        assert stored["params"]["crosstalk"] == 0.05
        table = flda.get.penalties_df(adata)
        pd.testing.assert_frame_equal(table.drop(columns="chosen"), expected, check_dtype=False)
        found = table[table["chosen"]].groupby("effect")["penalty"].unique()
        assert {effect: values.tolist() for effect, values in found.items()} == {e: [p] for e, p in chosen.items()}


def test_the_fit_stays_as_it_is(fitted):
    before = fitted.obsm["X_flda"].copy()
    flda.tl.choose_penalty(fitted, penalties=[1, 10], n_folds=2)
    np.testing.assert_array_equal(fitted.obsm["X_flda"], before)
    assert fitted.uns["flda"]["params"]["penalty"] == 3.0


def test_a_refusal_writes_nothing(fitted):
    fitted.obs["single"] = fitted.obs["dendrite"].map({"T4": "d1", "T5": "d2"})
    flda.tl.flda(fitted, FACTORS, donor="single", shrinkage=0.5)
    with pytest.raises(ValueError, match="one donor"):
        flda.tl.choose_penalty(fitted)
    assert "penalties" not in fitted.uns["flda"]
