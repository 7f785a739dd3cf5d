"""Counterfactual expression in every form of X, against sums by hand."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

import flda

FACTORS = ["dendrite", "axon"]


@pytest.fixture
def fitted():
    adata = flda.datasets.t4t5_simulated(n_obs=240, n_vars=50)
    adata.X = sp.csr_matrix(adata.X, dtype=np.float64)
    flda.tl.flda(adata, FACTORS, shrinkage=0.5, mask_var=np.arange(50) >= 5)
    return adata


def by_hand(adata, level):
    X, obs = adata.X.toarray(), adata.obs
    expected = X.copy()
    for axon in "abcd":
        target = X[(obs["dendrite"] == level) & (obs["axon"] == axon)].mean(axis=0)
        for dendrite in ("T4", "T5"):
            rows = ((obs["dendrite"] == dendrite) & (obs["axon"] == axon)).to_numpy()
            expected[rows] += target - X[rows].mean(axis=0)
    expected[:, :5] = X[:, :5]  # genes that the fit does not use
    return expected


@pytest.mark.parametrize("kind", ["observed", "fitted"])
def test_a_cell_moves_by_the_difference_of_the_means(fitted, kind):
    before = fitted.X.copy()
    flda.tl.counterfactual(fitted, {"dendrite": "T5"}, group_means=kind)
    np.testing.assert_allclose(fitted.layers["counterfactual"], by_hand(fitted, "T5"), atol=1e-10)
    rows = (fitted.obs["dendrite"] == "T5").to_numpy()
    assert (fitted.layers["counterfactual"][rows] == before[rows].toarray()).all()
    assert (before != fitted.X).nnz == 0
    assert fitted.uns["flda"]["counterfactuals"]["counterfactual"]["levels"] == {"dendrite": "T5"}


def test_clipping_and_few_genes_keep_a_sparse_matrix_sparse(fitted):
    few = np.isin(np.arange(50), [7, 9, 30])
    flda.tl.counterfactual(fitted, {"dendrite": "T5"}, mask_var=few, clip=True)
    result = fitted.layers["counterfactual"]
    assert isinstance(result, sp.csr_matrix)
    expected = np.where(few, np.maximum(by_hand(fitted, "T5"), 0), fitted.X.toarray())
    np.testing.assert_allclose(result.toarray(), expected, atol=1e-10)
    assert result.data.min() >= 0


def test_values_below_zero_are_not_clipped_to_zero():
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"a": list("pq") * 30, "b": list("uuvv") * 15}, index=map(str, range(60)))
    adata = AnnData(rng.normal(size=(60, 8)), obs=obs)
    flda.tl.flda(adata, ["a", "b"], shrinkage=0.5)
    flda.tl.counterfactual(adata, {"a": "q"}, clip=True)
    flda.tl.counterfactual(adata, {"a": "q"}, layer_added="free")
    X, clipped, free = adata.X, adata.layers["counterfactual"], adata.layers["free"]
    assert (clipped[X < 0] == free[X < 0]).all()
    assert (clipped[X >= 0] == np.maximum(free[X >= 0], 0)).all()
    assert (clipped != free).any()


@pytest.mark.parametrize("storage", ["csc", "dense", "float32", "backed", "dask"])
def test_every_form_gives_the_same(fitted, tmp_path, small_blocks, storage):
    expected = by_hand(fitted, "T4")
    adata = fitted.copy()
    if storage == "dask":
        da = pytest.importorskip("dask.array", reason="needs the extra dask")
        adata.X = da.from_array(fitted.X.toarray(), chunks=(50, 20))
    elif storage == "backed":
        adata.write_h5ad(tmp_path / "x.h5ad")
        adata = ad.read_h5ad(tmp_path / "x.h5ad", backed="r")
    else:
        adata.X = {"csc": sp.csc_matrix, "dense": sp.csr_matrix.toarray, "float32": lambda X: X.astype(np.float32)}[
            storage
        ](fitted.X)
    flda.tl.counterfactual(adata, {"dendrite": "T4"})
    found = adata.layers["counterfactual"]
    np.testing.assert_allclose(np.asarray(found), expected, atol=1e-4 if storage == "float32" else 1e-10)
    assert found.dtype == (np.float32 if storage == "float32" else np.float64)


def test_shrunken_means_lie_between(fitted):
    for kind in ("observed", "shrunken"):
        flda.tl.counterfactual(fitted, {"axon": "a"}, group_means=kind, layer_added=kind)
    X = fitted.X.toarray()
    moved = {kind: np.abs(fitted.layers[kind] - X).sum() for kind in ("observed", "shrunken")}
    assert 0 < moved["shrunken"] < moved["observed"]


def test_empty_groups_are_predicted_or_refused():
    adata = flda.datasets.t4t5_simulated(n_obs=300, n_vars=50)
    adata = adata[adata.obs["subtype"] != "T5d"].copy()
    flda.tl.flda(adata, FACTORS, shrinkage=0.5, interactions=None)
    before = set(adata.layers)
    with pytest.raises(ValueError, match="T5:d"):
        flda.tl.counterfactual(adata, {"dendrite": "T5"}, group_means="observed")
    assert set(adata.layers) == before
    with pytest.warns(flda.FLDAWarning, match="T5:d"):
        flda.tl.counterfactual(adata, {"dendrite": "T5"})
    X, obs = np.asarray(adata.X.toarray(), dtype=float), adata.obs
    shift = (adata.layers["counterfactual"] - X)[(obs["subtype"] == "T4d").to_numpy()]
    np.testing.assert_allclose(shift, np.tile(shift[0], (len(shift), 1)), atol=1e-5)
    other = (adata.layers["counterfactual"] - X)[(obs["subtype"] == "T4a").to_numpy()]
    np.testing.assert_allclose(shift[0], other[0], atol=1e-5)  # without interactions all types move alike


@pytest.mark.parametrize("kind", [1, 2, "spline"])
def test_a_numeric_factor_takes_a_number(kind):
    """Values on a straight line are predicted on it, and the levels themselves are those of the fit."""
    rng = np.random.default_rng(0)
    dose = np.tile([0.0, 1.0, 2.0, 4.0, 8.0, 16.0], 20)
    obs = pd.DataFrame({"dose": dose, "drug": np.repeat(["x", "y"], 60)}, index=map(str, range(120)))
    slope = rng.normal(size=6)
    X = np.outer(dose, slope) + np.outer(obs["drug"] == "y", np.ones(6))
    noise = rng.normal(size=X.shape)
    group = obs.groupby(["drug", "dose"]).ngroup().to_numpy()
    noise -= pd.DataFrame(noise).groupby(group).transform("mean").to_numpy()  # the means are exact
    adata = AnnData(X + noise, obs=obs)
    flda.tl.flda(adata, ["dose", "drug"], numeric={"dose": kind}, shrinkage=0.5)
    flda.tl.counterfactual(adata, {"dose": 5.5})
    np.testing.assert_allclose(adata.layers["counterfactual"], adata.X + np.outer(5.5 - dose, slope), atol=1e-8)
    flda.tl.counterfactual(adata, {"dose": 4})
    np.testing.assert_allclose(adata.layers["counterfactual"], adata.X + np.outer(4 - dose, slope), atol=1e-8)
    with pytest.raises(ValueError, match=r"'dose'.*0 and 16"):
        flda.tl.counterfactual(adata, {"dose": 20})


def test_a_trend_has_no_values_between_its_levels():
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"dose": np.tile([0.0, 1, 2, 4, 8], 20)}, index=map(str, range(100)))
    adata = AnnData(rng.normal(size=(100, 6)), obs=obs)
    flda.tl.flda(adata, "dose", numeric={"dose": "trend"}, shrinkage=0.5)
    with pytest.raises(ValueError, match=r"dose\.rest"):
        flda.tl.counterfactual(adata, {"dose": 3})
    flda.tl.counterfactual(adata, {"dose": 2})


def test_cells_without_labels_are_nan_and_views_leave_their_parent_alone(fitted):
    fitted.obs.loc[fitted.obs_names[:3], "axon"] = np.nan
    flda.tl.flda(fitted, FACTORS, shrinkage=0.5)
    part = fitted[:, :]
    flda.tl.counterfactual(part, {"dendrite": "T4"})
    assert "counterfactual" not in fitted.layers
    assert "counterfactuals" not in fitted.uns["flda"]
    result = part.layers["counterfactual"]
    assert np.isnan(result[:3]).all()
    assert np.isfinite(result[3:]).all()


@pytest.mark.parametrize(
    ("levels", "options", "name"),
    [
        ({"dendrit": "T5"}, {}, "'dendrit'"),
        ({"dendrite": "T6"}, {}, "'T6'"),
        ({}, {}, "levels"),
        ({"dendrite": "T5"}, {"layer_added": "counts"}, "'counts'"),
        ({"dendrite": "T5"}, {"group_means": "other"}, "'other'"),
        ({"dendrite": "T5"}, {"mask_var": np.arange(50) < 5}, "mask_var"),
    ],
)
def test_refusals_come_before_any_change(fitted, levels, options, name):
    layers, known = dict(fitted.layers), set(fitted.uns["flda"])
    with pytest.raises(ValueError, match=name):
        flda.tl.counterfactual(fitted, levels, **options)
    assert set(fitted.layers) == set(layers)
    assert set(fitted.uns["flda"]) == known


def test_a_file_keeps_the_results(fitted, tmp_path):
    out = flda.tl.counterfactual(fitted, {"dendrite": "T5"}, copy=True)
    assert "counterfactual" not in fitted.layers
    flda.tl.certify_counterfactual(out, {"dendrite": "T5"})
    out.write_h5ad(tmp_path / "x.h5ad")
    back = ad.read_h5ad(tmp_path / "x.h5ad")
    pd.testing.assert_frame_equal(flda.get.counterfactual_df(back), flda.get.counterfactual_df(out))
    flda.tl.counterfactual(back, {"dendrite": "T4"})  # a layer of the same fit is replaced
    assert back.uns["flda"]["counterfactuals"]["counterfactual"]["levels"] == {"dendrite": "T4"}


def test_the_certificate_is_that_of_the_function(fitted):
    flda.tl.certify_counterfactual(fitted, "dendrite", random_state=3)
    found = flda.inference.certify_counterfactual(
        flda.FLDA(), fitted.X[:, 5:], fitted.obs[FACTORS], change="dendrite", random_state=3
    )
    pd.testing.assert_frame_equal(flda.get.counterfactual_df(fitted), found)


def test_the_figure_draws_the_table(fitted):
    flda.tl.certify_counterfactual(fitted, {"dendrite": "T5"})
    ax = flda.pl.counterfactual(fitted, genes="differing")
    table = flda.get.counterfactual_df(fitted).query("genes == 'differing' and group_means == 'shrunken'")
    drawn = {c.get_label(): c.lines[0].get_xdata() for c in ax.containers}
    np.testing.assert_allclose(np.asarray(drawn["shrunken"], dtype=float), table["r2"].clip(lower=-1))
    np.testing.assert_allclose(np.asarray(drawn["additive mean"], dtype=float), table["r2_additive"].clip(lower=-1))
    with pytest.raises(ValueError, match="'few'"):
        flda.pl.counterfactual(fitted, genes="few")
