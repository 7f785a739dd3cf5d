import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import flda

from array_kinds import KINDS
from oracle import problem

FACTORS = ["dendrite", "axon"]


@pytest.fixture
def adata():
    return flda.datasets.t4t5_simulated(n_obs=300, n_vars=120)


def test_writes_the_contract(adata):
    before = adata.copy()
    assert flda.tl.flda(adata, FACTORS, shrinkage=0.3) is None
    assert type(adata.obsm["X_flda"]) is np.ndarray
    assert adata.obsm["X_flda"].shape == (300, 7)
    assert adata.varm["flda"].shape == (120, 7)
    model = flda.FLDA(shrinkage=0.3).fit(adata.X, adata.obs[FACTORS])
    np.testing.assert_allclose(adata.obsm["X_flda"], model.transform(adata.X))
    np.testing.assert_allclose(adata.varm["flda"], model.components_.T)
    assert set(adata.uns["flda"]) == {
        "params",
        "axes",
        "design",
        "estimability",
        "effects",
        "fit",
        "variance",
        "prediction",
        "identity",
        "scored",
        "versions",
    }
    assert adata.varm["flda_discriminants"].shape == (120, 8)
    assert flda.get.axes_df(adata)["axis"].tolist() == model.get_feature_names_out().tolist()
    assert flda.get.design_df(adata)["n_cells"].sum() == 300
    assert (adata.X != before.X).nnz == 0
    assert list(adata.obs.columns) == [*before.obs.columns, "flda_group"]
    crossed = before.obs["dendrite"].astype(str) + " x " + before.obs["axon"].astype(str)
    assert (adata.obs["flda_group"].astype(str) == crossed).all()


def test_copy_leaves_the_input_alone(adata):
    out = flda.tl.flda(adata, FACTORS, shrinkage=0.3, key_added="k", copy=True)
    assert "X_flda" not in adata.obsm
    assert not adata.uns.get("k")
    assert {"X_k"} <= set(out.obsm)
    assert {"k", "k_F"} <= set(out.varm)
    assert flda.get.rank_genes_df(out, key="k").shape == (7 * 120, 16)


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
@pytest.mark.parametrize("penalty", [1.0, {"axon": np.inf}])
def test_round_trip(adata, tmp_path, suffix, penalty):
    adata.obs["odd"] = pd.Categorical.from_codes(np.arange(300) % 2, ["a/b", "c:d"])
    flda.tl.flda(
        adata,
        [*FACTORS, "odd"],
        interactions=[("dendrite", "axon")],
        nuisance="donor",
        penalty=penalty,
        shrinkage=0.3,
    )
    path = tmp_path / f"x.{suffix}"
    getattr(adata, f"write_{suffix}")(path)
    back = getattr(ad, f"read_{suffix}")(path)
    np.testing.assert_array_equal(back.obsm["X_flda"], adata.obsm["X_flda"])
    tables = ("axes_df", "design_df", "estimability_df", "variance_df", "rank_genes_df")
    for table in [getattr(flda.get, name) for name in tables]:
        pd.testing.assert_frame_equal(table(back), table(adata), check_dtype=False)
    assert list(back.uns["flda"]["params"]["factors"]) == [*FACTORS, "odd"]


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "coo_array"])  # AnnData holds no COO
def test_array_kinds(adata, kind):
    expected = flda.tl.flda(adata, FACTORS, shrinkage=0.3, copy=True)
    other = adata.copy()
    other.X = KINDS[kind](adata.X.toarray())
    flda.tl.flda(other, FACTORS, shrinkage=0.3)
    np.testing.assert_allclose(other.obsm["X_flda"], expected.obsm["X_flda"], rtol=1e-4, atol=1e-4)


def test_view_layer_backed_and_mask(adata, tmp_path):
    half = adata[:200]
    expected = flda.tl.flda(half.copy(), FACTORS, shrinkage=0.3, copy=True)
    flda.tl.flda(half, FACTORS, shrinkage=0.3)
    np.testing.assert_array_equal(half.obsm["X_flda"], expected.obsm["X_flda"])
    assert "X_flda" not in adata.obsm

    adata.layers["log"], mask = adata.X.copy(), np.arange(120) % 3 > 0
    adata.var["use"] = mask
    adata.write_h5ad(tmp_path / "x.h5ad")
    backed = ad.read_h5ad(tmp_path / "x.h5ad", backed="r")
    expected = flda.tl.flda(adata, FACTORS, shrinkage=0.3, copy=True)
    flda.tl.flda(backed, FACTORS, shrinkage=0.3)
    np.testing.assert_array_equal(backed.obsm["X_flda"], expected.obsm["X_flda"])

    adata.X = adata.X * 0
    flda.tl.flda(adata, FACTORS, shrinkage=0.3, layer="log", mask_var="use")
    assert (adata.varm["flda"][~mask] == 0).all()
    assert (adata.varm["flda"][mask] != 0).any(axis=1).all()
    ranking = flda.get.rank_genes_df(adata, "axon")
    assert set(ranking["gene"]) == set(adata.var_names[mask])
    by_array = flda.tl.flda(adata, FACTORS, shrinkage=0.3, layer="log", mask_var=mask, copy=True)
    np.testing.assert_array_equal(by_array.varm["flda"], adata.varm["flda"])


def test_raw_is_never_used(adata):
    adata.raw = adata.copy()
    adata.X = adata.X * 2
    flda.tl.flda(adata, FACTORS, shrinkage=0.3)
    model = flda.FLDA(shrinkage=0.3).fit(adata.X, adata.obs[FACTORS])
    np.testing.assert_allclose(adata.varm["flda"], model.components_.T)


def test_cells_without_a_label_are_scored_but_not_fitted(adata, recwarn):
    adata.obs.loc[adata.obs_names[:20], "axon"] = np.nan
    flda.tl.flda(adata, FACTORS, shrinkage=0.3)
    assert any("'axon'" in str(w.message) for w in recwarn)
    model = flda.FLDA(shrinkage=0.3).fit(adata.X[20:], adata.obs[FACTORS][20:])
    np.testing.assert_allclose(adata.varm["flda"], model.components_.T)
    assert np.isfinite(adata.obsm["X_flda"]).all()
    assert adata.uns["flda"]["fit"]["n_cells"] == 280


def test_unused_categories_are_dropped(adata):
    adata.obs["axon"] = adata.obs["axon"].cat.add_categories("e")
    flda.tl.flda(adata, FACTORS, shrinkage=0.3)
    assert adata.obsm["X_flda"].shape[1] == 7


def test_zero_cells_and_negative_values_are_data(adata, recwarn):
    dense = adata.X.toarray()
    dense[:5] = 0
    adata.layers["logs"], adata.layers["detected"] = adata.X, adata.X > 0
    adata.X = dense - dense.mean(axis=0)
    flda.tl.flda(adata, FACTORS, shrinkage=0.3)
    assert np.isfinite(adata.obsm["X_flda"]).all()
    (said,) = [str(w.message) for w in recwarn if "negative" in str(w.message)]
    assert "layers['logs']" in said
    assert "counts" not in said, "raw counts are no log-normalised values"
    assert "detected" not in said


def test_counts_are_refused_unless_they_are_meant(adata):
    with pytest.raises(ValueError, match=r"layers\['counts'\].*normalize_total.*log1p.*allow_counts"):
        flda.tl.flda(adata, FACTORS, layer="counts", shrinkage=0.3)
    assert "flda" not in adata.uns
    flda.tl.flda(adata, FACTORS, layer="counts", shrinkage=0.3, allow_counts=True)
    flda.tl.predict(adata[:9].copy(), adata)


def _set(adata, i, j, value):
    X = adata.X.tolil()
    X[i, j] = value
    adata.X = X.tocsr()


def _duplicate(adata):
    adata.var_names = ["same", "same", *adata.var_names[2:]]


@pytest.mark.parametrize(
    ("spoil", "arguments", "named"),
    [
        (None, {"factors": ["dendrit", "axon"]}, "'dendrit'.*'dendrite'"),
        (None, {"factors": "zzz"}, "'zzz'"),
        (None, {"factors": ["axon", "axon"]}, "'axon'"),
        (None, {"donor": "animal"}, "'animal'"),
        (None, {"layer": "logs"}, "'logs'.*'counts'"),
        (None, {"mask_var": "hvg"}, "'hvg'.*mask_var"),
        (None, {"mask_var": np.ones(3, bool)}, "mask_var.*120"),
        (None, {"mask_var": np.zeros(120, bool)}, "mask_var"),
        (None, {"factors": ["subtype", "axon"]}, "'subtype'.*'axon'"),
        (lambda a: _set(a, 7, 3, np.nan), {}, "nan.*'gene_003'.*'cell_007'"),
        (lambda a: _set(a, 8, 2, np.inf), {}, "inf.*'gene_002'.*'cell_008'"),
        (_duplicate, {}, r"'same'.*var_names_make_unique"),
        (lambda a: a.obs.insert(0, "depth", np.linspace(0, 1, 300)), {"factors": "depth"}, "'depth'"),
        (lambda a: a.obs.insert(0, "one", "x"), {"factors": ["one", "axon"]}, "'one'"),
        (lambda a: a.obs.insert(0, "nan", np.nan), {"factors": ["nan", "axon"]}, "'nan'"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(adata, spoil, arguments, named):
    if spoil is not None:
        spoil(adata)
    slots = (set(adata.obsm), set(adata.varm), set(adata.uns), list(adata.var.columns))
    with pytest.raises(ValueError, match=named):
        flda.tl.flda(adata, **{"factors": FACTORS, "shrinkage": 0.3, **arguments})
    assert slots == (set(adata.obsm), set(adata.varm), set(adata.uns), list(adata.var.columns))


def test_empty_or_strange_matrix():
    X, y = problem(40, 5, (2, 2))
    obs = y.set_axis([f"c{i}" for i in range(40)])
    with pytest.raises(ValueError, match="layer"):
        flda.tl.flda(ad.AnnData(None, obs=obs), "A")
    masked = ad.AnnData(X, obs=obs)
    masked.layers["text"] = X.astype(str).astype(object)
    with pytest.raises(ValueError, match=r"layers\['text'\].*object"):
        flda.tl.flda(masked, "A", layer="text")


def test_numeric_and_boolean_levels():
    X, y = problem(60, 8, (2, 2))
    obs = pd.DataFrame(
        {"amount": np.where(y["A"] == "A0", 3.75, 30.0), "treated": (y["B"] == "B0").to_numpy()},
        index=[f"c{i}" for i in range(60)],
    )
    adata = ad.AnnData(sp.csr_matrix(X), obs=obs)
    flda.tl.flda(adata, ["amount", "treated"], shrinkage=0.1)
    assert list(flda.get.design_df(adata)["amount"].cat.categories) == ["3.75", "30.0"]


def test_components_and_penalties_by_effect_are_kept_as_parameters(adata):
    options = {"n_components": {"axon": 2}, "penalty": {"axon": 2.0, "dendrite:axon": np.inf}}
    flda.tl.flda(adata, FACTORS, shrinkage=0.3, **options)
    assert {name: adata.uns["flda"]["params"][name] for name in options} == options
    assert flda.get.axes_df(adata)["effect"].tolist() == ["dendrite", "axon", "axon", *["dendrite:axon"] * 3]


def test_variance_shares_add_up_and_name_the_planted():
    adata = flda.datasets.t4t5_simulated(n_obs=1600, n_vars=200)
    flda.tl.flda(adata, FACTORS, shrinkage=0.5)
    table = flda.get.variance_df(adata).set_index("effect")
    assert table["share"].sum() == pytest.approx(1)
    assert table.index.tolist() == ["dendrite", "axon", "dendrite:axon", "within"]
    assert table["df"].tolist() == [1, 3, 3, 1592]
    assert (table["share"] > 0).all()
    assert table["share"].idxmax() == "within"
