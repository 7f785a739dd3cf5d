import anndata as ad
import numpy as np
import pandas as pd
import pytest

import flda
from flda import SparseFLDA

FACTORS = ["dendrite", "axon"]
FIELDS = ["names", "scores", "logfoldchanges", "pvals", "pvals_adj"]


@pytest.fixture
def adata():
    adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=150)
    flda.tl.flda(adata, FACTORS, shrinkage=0.5)
    return adata


def test_writes_what_the_estimator_finds(adata):
    assert flda.tl.rank_genes(adata, n_genes=6) is None
    model = SparseFLDA(n_genes=6, shrinkage=0.5).fit(adata.X, adata.obs[FACTORS])
    np.testing.assert_allclose(adata.varm["flda_sparse"], model.components_.T)
    table = flda.get.rank_genes_df(adata)
    assert table.groupby("axis", sort=False)["selected"].sum().tolist() == [6] * 7
    for j, (axis, part) in enumerate(table.groupby("axis", sort=False)):
        assert axis == model.axes_["axis"][j]
        first = part[part["rank"] <= 6]
        assert first["selected"].all()
        assert set(first["gene"]) == set(adata.var_names[np.flatnonzero(model.components_[j])])
        assert first["score"].abs().is_monotonic_decreasing
        assert (part.loc[~part["selected"], ["score", "loading"]] == 0).all().all()
    report = adata.uns["flda"]["gene_report"]
    merged = table[table["selected"]].merge(report, on=["axis", "gene"], suffixes=("", "_report"))
    assert len(merged) == 42
    np.testing.assert_allclose(merged["score"], merged["score_report"])
    np.testing.assert_allclose(merged["specificity"], merged["specificity_report"])
    assert (merged["rank"] == merged["rank_report"]).all()


def test_scanpy_record_and_fold_changes(adata):
    flda.tl.rank_genes(adata, effects="dendrite", n_genes=5)
    record = adata.uns["rank_genes_flda"]
    assert set(record) == {"params", *FIELDS}
    assert record["names"].dtype.names == ("dendrite_1",)
    assert all(len(record[f]) == 150 for f in FIELDS)
    assert np.isnan(record["pvals"]["dendrite_1"]).all()
    gene = record["names"]["dendrite_1"][0]
    x = pd.Series(adata[:, gene].X.toarray().ravel(), adata.obs_names)
    means = x.groupby([adata.obs[f] for f in FACTORS], observed=True).mean()
    linear = np.expm1(means).groupby("dendrite", observed=True).mean()
    axis = pd.Series(adata.obsm["X_flda"][:, 0]).groupby(adata.obs["dendrite"].to_numpy()).mean()
    up, down = axis.idxmax(), axis.idxmin()
    change = abs(np.log2((linear[up] + 0.1) / (linear[down] + 0.1)))
    assert abs(record["logfoldchanges"]["dendrite_1"][0]) == pytest.approx(change, rel=1e-4)
    assert np.isfinite(record["logfoldchanges"]["dendrite_1"]).all()


@pytest.mark.parametrize("sort_by", ["pattern", "F"])
def test_scanpys_record_can_be_sorted_by_what_differs(adata, sort_by):
    flda.tl.rank_genes(adata, effects="axon", n_genes=5, sort_by=sort_by)
    flda.tl.effect_tests(adata, effects="axon", n_resamples=9)
    record = adata.uns["rank_genes_flda"]
    assert record["params"]["sort_by"] == sort_by
    table = flda.get.rank_genes_df(adata, "axon", sort_by=sort_by).query("axis == 'axon_2'")
    assert record["names"]["axon_2"].tolist() == table["gene"].tolist()
    np.testing.assert_allclose(record["scores"]["axon_2"], table[sort_by], rtol=1e-6)
    np.testing.assert_allclose(record["pvals"]["axon_2"], table["pval"])
    np.testing.assert_allclose(record["pvals_adj"]["axon_2"], table["pval_adj"])
    model = SparseFLDA(n_genes=5, shrinkage=0.5).fit(adata.X, adata.obs[FACTORS])
    np.testing.assert_allclose(adata.varm["flda_sparse_pattern"], model.patterns_[1:4].T)
    with pytest.raises(ValueError, match=r"sort_by='p'.*'pattern'"):
        flda.tl.rank_genes(adata, sort_by="p")


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")
@pytest.mark.filterwarnings("ignore:Groups are not reordered:UserWarning")
def test_scanpy_readers(adata):
    sc = pytest.importorskip("scanpy", reason="scanpy is an extra")
    flda.tl.rank_genes(adata, n_genes=5)
    frame = sc.get.rank_genes_groups_df(adata, group="axon_2", key="rank_genes_flda")
    assert list(frame.columns) == FIELDS
    expected = flda.get.rank_genes_df(adata, "axon").query("axis == 'axon_2'")["gene"]
    assert frame["names"].tolist() == expected.tolist()
    assert len(sc.get.rank_genes_groups_df(adata, group="dendrite x axon_1", key="rank_genes_flda")) == 150
    shown = {"key": "rank_genes_flda", "n_genes": 3, "show": False}
    sc.pl.rank_genes_groups(adata, **shown)
    sc.pl.rank_genes_groups_dotplot(adata, groupby="subtype", dendrogram=False, **shown)


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_round_trip_then_rank(adata, tmp_path, suffix):
    adata.obs["odd"] = pd.Categorical.from_codes(np.arange(400) % 2, ["a/b", "c:d"])
    flda.tl.flda(
        adata, [*FACTORS, "odd"], interactions=["dendrite:axon"], nuisance="donor", penalty={"axon": 2.0}, shrinkage=0.5
    )
    expected = adata.copy()
    path = tmp_path / f"x.{suffix}"
    getattr(adata, f"write_{suffix}")(path)
    back = getattr(ad, f"read_{suffix}")(path)
    for each in (back, expected):  # parameters survive the file
        flda.tl.rank_genes(each, n_genes={"axon": 3, "dendrite:axon": 4})
    np.testing.assert_allclose(back.varm["flda_sparse"], expected.varm["flda_sparse"])
    getattr(back, f"write_{suffix}")(tmp_path / f"y.{suffix}")
    again = getattr(ad, f"read_{suffix}")(tmp_path / f"y.{suffix}")
    pd.testing.assert_frame_equal(flda.get.rank_genes_df(again), flda.get.rank_genes_df(expected), check_dtype=False)
    assert again.uns["flda"]["gene_report"].shape == expected.uns["flda"]["gene_report"].shape


def test_restrictions(adata):
    adata.var["hvg"] = np.arange(150) % 2 == 0
    out = [adata.var_names[0], adata.var_names[2]]
    flda.tl.rank_genes(adata, n_genes=4, mask_var="hvg", min_cells=30, exclude=out)
    chosen = set(flda.get.rank_genes_df(adata).query("selected")["gene"])
    assert adata.var.loc[list(chosen), "hvg"].all()
    assert not chosen & set(out)
    detected = np.asarray((adata[:, list(chosen)].X > 0).sum(axis=0)).ravel()
    assert (detected >= 30).all()
    free = flda.tl.rank_genes(adata, n_genes=4, copy=True)
    assert set(flda.get.rank_genes_df(free).query("selected")["gene"]) != chosen


def test_masked_fit_marker_mode_and_unlabelled_cells(adata):
    adata.var["use"] = np.arange(150) >= 50
    adata.obs.loc[adata.obs_names[:30], "axon"] = np.nan
    flda.tl.flda(adata, FACTORS, shrinkage=0.5, mask_var="use", key_added="k")
    flda.tl.rank_genes(adata, n_genes=4, mode="marker", key="k", key_added="ranked")
    model = SparseFLDA(n_genes=4, mode="marker", shrinkage=0.5).fit(adata.X[30:, 50:], adata.obs[FACTORS][30:])
    np.testing.assert_allclose(adata.varm["k_sparse"][50:], model.components_.T)
    assert (adata.varm["k_sparse"][:50] == 0).all()
    assert "ranked" in adata.uns


def test_negative_expression_has_no_fold_change(adata):
    adata.X = adata.X.toarray() - 1.0
    flda.tl.flda(adata, FACTORS, shrinkage=0.5)
    flda.tl.rank_genes(adata, n_genes=3)
    assert np.isnan(adata.uns["rank_genes_flda"]["logfoldchanges"]["axon_1"]).any()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"key": "none"}, r"'none'.*flda\.tl\.flda"),
        ({"effects": ["leg"]}, "'leg'.*'dendrite'"),
        ({"n_genes": 151}, "n_genes=151"),
        ({"n_genes": 0}, "n_genes=0"),
        ({"n_genes": {"leg": 3}}, "'leg'"),
        ({"exclude": ["no such gene"]}, "exclude.*'no such gene'"),
        ({"mask_var": "none"}, "'none'.*mask_var"),
        ({"min_cells": 10_000}, "min_cells"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(adata, arguments, named):
    before = (set(adata.uns), set(adata.varm), set(adata.uns["flda"]))
    with pytest.raises(ValueError, match=named):
        flda.tl.rank_genes(adata, **arguments)
    assert before == (set(adata.uns), set(adata.varm), set(adata.uns["flda"]))


@pytest.mark.filterwarnings("ignore:The inplace keyword:DeprecationWarning")  # scanpy's own
@pytest.mark.parametrize("first", ["ranking", "tests"])
def test_scanpy_reads_p_values_and_frequencies_whatever_ran_first(adata, first):
    sc = pytest.importorskip("scanpy", reason="scanpy is an extra")
    steps = [lambda: flda.tl.rank_genes(adata, n_genes=5), lambda: flda.tl.effect_tests(adata, n_resamples=19)]
    for step in steps if first == "ranking" else steps[::-1]:
        step()
    flda.tl.stability(adata, n_resamples=2, n_bootstraps=0)
    own = flda.get.rank_genes_df(adata, "dendrite")
    assert own[["pval", "pval_adj", "frequency"]].notna().all(axis=None)
    seen = sc.get.rank_genes_groups_df(adata, "dendrite_1", key="rank_genes_flda")
    np.testing.assert_array_equal(seen["pvals"], own["pval"])
    np.testing.assert_array_equal(seen["pvals_adj"], own["pval_adj"])
    np.testing.assert_array_equal(adata.uns["rank_genes_flda"]["frequencies"]["dendrite_1"], own["frequency"])


def test_a_selection_may_use_simulated_cells(adata):
    more = flda.pp.augment(adata, FACTORS, method="thin", n_cells=60)
    flda.tl.flda(more, FACTORS, shrinkage=0.5)
    flda.tl.rank_genes(more, n_genes=4)
    assert flda.get.rank_genes_df(more)["selected"].sum() == 7 * 4


def test_optimality_gap_is_in_the_ranking_and_the_sparse_axes(adata):
    flda.tl.flda(adata, FACTORS, shrinkage=0.5)
    assert flda.get.rank_genes_df(adata)["optimality_gap"].isna().all()
    flda.tl.rank_genes(adata, n_genes=5)
    axes = adata.uns["flda"]["sparse_axes"].set_index("axis")["optimality_gap"]
    assert axes.ge(0).all()
    table = flda.get.rank_genes_df(adata)
    assert table.columns[-2] == "optimality_gap"  # the last column is no part of the CSV
    np.testing.assert_array_equal(table["optimality_gap"], axes[table["axis"]])
    flda.tl.rank_genes(adata, n_genes=5, gap_effort=0)
    assert flda.get.rank_genes_df(adata)["optimality_gap"].isna().all()


@pytest.mark.parametrize("factor", [50.0, 1e6])
def test_values_too_large_for_logs_have_no_fold_changes(adata, factor):
    adata.X = adata.X.toarray()
    adata.X[:, :2] = factor * (1 + adata.X[:, :2])
    flda.tl.flda(adata, FACTORS, shrinkage=0.5)
    flda.tl.rank_genes(adata, n_genes=3, gap_effort=0)  # NumPy's warnings are errors in tests
    record = adata.uns["rank_genes_flda"]
    for axis in record["names"].dtype.names:
        changes = pd.Series(record["logfoldchanges"][axis], record["names"][axis])[adata.var_names]
        assert np.isfinite(changes[2:]).all()
        assert changes[:2].isna().all() == (factor > 1e3)


def test_groups_that_do_not_differ_have_no_fold_changes():
    labels = pd.DataFrame({"a": list("xy") * 12, "b": list("uuvv") * 6}, index=[f"c{i}" for i in range(24)])
    X = np.zeros((24, 3))
    X[:, 1] = labels["a"] == "x"  # the levels of b have equal means
    adata = ad.AnnData(X, labels)
    flda.tl.flda(adata, ["a", "b"], shrinkage=0.5, interactions=None, allow_counts=True)
    flda.tl.rank_genes(adata, n_genes=1, gap_effort=0)  # NumPy's warnings are errors in tests
    assert np.isnan(adata.uns["rank_genes_flda"]["logfoldchanges"]["b_1"]).all()
    assert np.isfinite(adata.uns["rank_genes_flda"]["logfoldchanges"]["a_1"]).all()
