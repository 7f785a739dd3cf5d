import numpy as np
import pandas as pd
import pytest

import flda
from flda import SparseFLDA, inference

from simulated import with_donors

FACTORS = ["dendrite", "axon"]


@pytest.fixture
def fitted():
    adata = flda.datasets.t4t5_simulated(n_obs=320, n_vars=60)
    flda.tl.flda(adata, FACTORS, shrinkage=0.5)
    return adata


def test_frequencies_and_intervals_are_those_of_the_functions(fitted):
    flda.tl.rank_genes(fitted, n_genes=5)
    flda.tl.stability(fitted, n_resamples=4, n_bootstraps=10)
    model, data = SparseFLDA(n_genes=5, shrinkage=0.5), (fitted.X, fitted.obs[FACTORS])
    halves = inference.stability_selection(model, *data, n_resamples=4)
    expected = halves.genes.assign(gene=fitted.var_names[halves.genes["gene"]])
    pd.testing.assert_frame_equal(flda.get.stability_df(fitted), expected)
    for effect, part in expected.groupby("effect"):
        table = flda.get.rank_genes_df(fitted, effect)
        table = table[table["axis"] == f"{effect}_1"].set_index("gene")
        assert table.loc[part["gene"], "frequency"].tolist() == part["frequency"].tolist()
        assert table["frequency"].sum() == pytest.approx(part["frequency"].sum())
    stored = fitted.uns["flda"]["stability"]
    assert stored["params"] == {"n_resamples": 4, "n_bootstraps": 10, "unit": "cell", "random_state": 0}
    intervals = inference.bootstrap(model, *data, n_resamples=10)
    assert len(stored["scores"]) == len(intervals.scores) == 7 * 8
    np.testing.assert_allclose(stored["loadings"]["upper"], intervals.loadings["upper"])
    assert stored["loadings"]["gene"].tolist() == fitted.var_names[intervals.loadings["gene"]].tolist()


def test_intervals_are_optional(fitted):
    flda.tl.rank_genes(fitted, n_genes=5)
    flda.tl.stability(fitted, n_resamples=2, n_bootstraps=0)
    assert set(fitted.uns["flda"]["stability"]) == {"genes", "params"}


def test_the_selection_of_the_ranking_is_what_is_repeated(fitted):
    allowed = fitted.var_names[20:]
    flda.tl.rank_genes(fitted, n_genes={"axon": 2, "dendrite": 3}, mode="marker", mask_var=np.arange(60) >= 20)
    flda.tl.stability(fitted, n_resamples=2, n_bootstraps=0)
    table = flda.get.stability_df(fitted)
    assert table.groupby("effect")["frequency"].sum()[["axon", "dendrite"]].tolist() == [2, 3]
    assert set(table["gene"]) <= set(allowed)


def test_donors_of_the_fit_are_the_units():
    adata = with_donors()
    flda.tl.flda(adata, ["treatment", "type"], donor="donor", shrinkage=0.5)
    flda.tl.rank_genes(adata, n_genes=3)
    flda.tl.stability(adata, n_resamples=2, n_bootstraps=10)
    assert adata.uns["flda"]["stability"]["params"]["unit"] == "donor"


def test_a_refusal_writes_nothing(fitted):
    with pytest.raises(ValueError, match=r"flda\.tl\.rank_genes"):
        flda.tl.stability(fitted)
    flda.tl.rank_genes(fitted, n_genes=3)
    with pytest.raises(ValueError, match="=1"):
        flda.tl.stability(fitted, n_resamples=1)
    assert "stability" not in fitted.uns["flda"]


def test_a_group_of_one_cell_has_frequencies_and_no_intervals(recwarn):
    adata = flda.datasets.t4t5_simulated(n_obs=320, n_vars=60)
    alone = np.flatnonzero(adata.obs["subtype"] == "T5c")[1:]
    adata = adata[np.setdiff1d(np.arange(320), alone)].copy()
    flda.tl.flda(adata, FACTORS, interactions=None, shrinkage=0.5)
    flda.tl.rank_genes(adata, n_genes=3)
    flda.tl.stability(adata, n_resamples=2, n_bootstraps=10)
    stored = adata.uns["flda"]["stability"]
    assert set(stored) == {"genes", "params"}
    assert stored["params"]["n_bootstraps"] == 0
    assert "T5, c" in " ".join(str(w.message) for w in recwarn)
