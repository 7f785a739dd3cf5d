import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

import flda
from flda.get import RANKING_COLUMNS

FACTORS = ["dendrite", "axon"]


@pytest.fixture(scope="module")
def adata():
    adata = flda.datasets.t4t5_simulated(n_obs=600, n_vars=200)
    flda.tl.flda(adata, FACTORS, shrinkage=0.5)
    return adata


def test_ranking_columns_order_and_values(adata):
    table = flda.get.rank_genes_df(adata)
    contract = "effect,axis,rank,gene,score,loading,selected,frequency,pval,pval_adj,specificity,kind"
    assert [*contract.split(","), "pattern", "F", "optimality_gap"] == RANKING_COLUMNS
    assert list(table.columns) == [*RANKING_COLUMNS, "significant"]
    model = flda.FLDA(shrinkage=0.5).fit(adata.X, adata.obs[FACTORS])
    for j, (axis, part) in enumerate(table.groupby("axis", sort=False)):
        assert axis == model.get_feature_names_out()[j]
        assert part["rank"].tolist() == list(range(1, 201))
        assert part["score"].abs().is_monotonic_decreasing
        assert not part["selected"].any()  # nothing has been selected yet
        loading = pd.Series(model.components_[j], adata.var_names)[part["gene"]]
        np.testing.assert_allclose(part["loading"], loading)
        np.testing.assert_allclose(part["score"], loading * pd.Series(model.within_sd_, adata.var_names)[part["gene"]])
    assert table["specificity"].dropna().between(0, 1).all()
    assert table[["frequency", "pval", "pval_adj"]].isna().all().all()
    assert set(table["kind"]) == {"pure", "cancelling", "interaction-typical"}
    for j, (_, part) in enumerate(table.groupby("axis", sort=False)):
        np.testing.assert_allclose(part["pattern"], pd.Series(model.patterns_[j], adata.var_names)[part["gene"]])


@pytest.mark.parametrize("sort_by", ["score", "pattern", "F"])
def test_sorted_by_what_is_used_or_by_what_differs(adata, sort_by):
    adata = adata.copy()
    flda.tl.rank_genes(adata, n_genes=5)
    table = flda.get.rank_genes_df(adata, sort_by=sort_by)
    same = flda.get.rank_genes_df(adata).set_index(["axis", "gene"])
    for axis, part in table.groupby("axis", sort=False):
        values = part[sort_by].abs()
        assert values.dropna().is_monotonic_decreasing
        assert part["rank"].tolist() == list(range(1, 201))
        if sort_by != "score":
            expected = sorted(zip(-values.fillna(-1), part["gene"], strict=True))
            assert part["gene"].tolist() == [gene for _, gene in expected]
        columns = [c for c in table if c not in ("axis", "gene", "rank")]
        pd.testing.assert_frame_equal(part.set_index("gene")[columns], same.loc[axis].loc[part["gene"], columns])
    assert table["selected"].sum() == 35
    with pytest.raises(ValueError, match=r"sort_by='pval'.*'pattern'"):
        flda.get.rank_genes_df(adata, sort_by="pval")


def test_what_is_not_significant_is_marked(adata):
    before = flda.get.rank_genes_df(adata, "dendrite").set_index("gene")
    assert (before["significant"] == (before["F"] > chi2.isf(1e-3, 1))).all()
    adata = adata.copy()
    flda.tl.effect_tests(adata, effects="dendrite", n_resamples=49)
    after = flda.get.rank_genes_df(adata, "dendrite")
    assert (after["significant"] == (after["pval_adj"] <= 0.05)).all()
    assert 0 < after["significant"].sum() < len(after)


def test_preranked_genes_of_an_axis(adata, tmp_path):
    adata = adata.copy()
    flda.tl.rank_genes(adata, n_genes=5)
    table = flda.get.preranked_df(adata, "axon_2")
    expected = adata.varm["flda"][:, 2] * adata.var["flda_within_sd"]
    assert table["score"].is_monotonic_decreasing
    np.testing.assert_allclose(table["score"], expected[table["gene"]])
    pure = flda.get.preranked_df(adata, "axon_2", by="pattern", cancelling=False)
    kinds = flda.get.rank_genes_df(adata, "axon").query("axis == 'axon_2'").set_index("gene")["kind"]
    assert set(pure["gene"]) == set(kinds.index[kinds != "cancelling"]) < set(table["gene"])
    np.testing.assert_allclose(
        pure["score"], pd.Series(adata.varm["flda_pattern"][:, 2], adata.var_names)[pure["gene"]]
    )
    with pytest.raises(ValueError, match=r"'leg_1'.*'dendrite_1'"):
        flda.get.preranked_df(adata, "leg_1")
    with pytest.raises(ValueError, match=r"by='F'"):
        flda.get.preranked_df(adata, "axon_2", by="F")


def test_f_lets_every_group_have_its_own_variance(adata):
    """``b' V^-1 b / df`` by its definition, half of each variance pooled, on a balanced table of few genes."""
    rng = np.random.default_rng(0)
    cells = [rng.choice(i, 20, replace=False) for i in adata.obs.groupby(FACTORS, observed=True).indices.values()]
    balanced = adata[np.concatenate(cells), :8].copy()
    flda.tl.flda(balanced, FACTORS, shrinkage=0.5)
    x = balanced.X.toarray()[:, 7].astype(float)
    groups = balanced.obs.assign(x=x).groupby(FACTORS, observed=True)["x"]
    means, noise = groups.mean().to_numpy(), ((groups.var() + groups.var().mean()) / 2 / groups.size()).to_numpy()
    a, b = np.array([[1.0, -1.0]]), np.eye(4)[:3] - 1 / 4
    rows = [np.kron(a, np.ones((1, 4))), np.kron(np.ones((1, 2)), b), np.kron(a, b)]
    ratios = []
    for B in rows:
        coefficients, V = B @ means, B @ np.diag(noise) @ B.T
        ratios.append(coefficients @ np.linalg.solve(V, coefficients) / len(B))
    np.testing.assert_allclose(balanced.varm["flda_F"][7], ratios, rtol=1e-6)


def test_one_effect_and_bad_names(adata):
    table = flda.get.rank_genes_df(adata, "axon")
    assert set(table["axis"]) == {"axon_1", "axon_2", "axon_3"}
    with pytest.raises(ValueError, match=r"'leg'.*'dendrite'"):
        flda.get.rank_genes_df(adata, "leg")
    with pytest.raises(ValueError, match=r"'other'.*flda\.tl\.flda"):
        flda.get.axes_df(adata, key="other")


def test_ties_are_broken_by_gene_name():
    adata = flda.datasets.t4t5_simulated(n_obs=200, n_vars=60)
    adata.var_names = adata.var_names[::-1]
    dense = adata.X.toarray()
    dense[:, :3] = 0
    adata.X = dense
    flda.tl.flda(adata, FACTORS, shrinkage=0.5)
    last = flda.get.rank_genes_df(adata, "dendrite").tail(3)
    assert last["gene"].tolist() == sorted(adata.var_names[:3])
    assert last["specificity"].isna().all()


def test_planted_genes_rank_first(adata):
    """On the default simulation's smaller sister; precision at 20 of the full one is in the README."""
    table = flda.get.rank_genes_df(adata)
    first = table[table["rank"] <= 8]
    hits = [adata.var.loc[g, f"truth_{e}"] for g, e in zip(first["gene"], first["effect"], strict=True)]
    assert np.mean(hits) > 0.6
    base = np.mean([adata.var[f"truth_{e}"].mean() for e in first["effect"]])
    assert np.mean(hits) > 4 * base


@pytest.fixture(scope="module")
def tested(adata):
    adata = adata.copy()
    flda.tl.effect_tests(adata, effects=["axon", "dendrite"], n_resamples=19)
    return adata


def test_gene_tests_are_those_of_the_genes_in_order(tested):
    table = flda.get.gene_tests_df(tested)
    assert list(table.columns) == ["effect", "gene", "F", "pval", "pval_adj", "pval_max"]
    assert table["effect"].unique().tolist() == ["axon", "dendrite"]
    assert len(table) == 2 * 200
    for effect, part in table.groupby("effect", sort=False):
        j = ["dendrite", "axon", "dendrite:axon"].index(effect)
        at = tested.var_names.get_indexer(part["gene"])
        np.testing.assert_array_equal(part["F"], tested.varm["flda_F"][at, j])
        for column in ("pval", "pval_adj", "pval_max"):
            np.testing.assert_array_equal(part[column], tested.varm[f"flda_{column}"][at, j])
        known = part[part["pval"].notna()]
        order = np.lexsort((known["gene"], -known["F"], known["pval"]))
        assert order.tolist() == list(range(len(known)))
    assert (table["pval_max"] >= table["pval"]).all()
    pd.testing.assert_frame_equal(
        flda.get.gene_tests_df(tested, "dendrite"), table[table["effect"] == "dendrite"].reset_index(drop=True)
    )
    pd.testing.assert_frame_equal(flda.get.gene_tests_df(tested, ["axon", "dendrite"]), table)


def test_genes_without_variance_come_last_in_the_order_of_their_names():
    adata = flda.datasets.t4t5_simulated(n_obs=200, n_vars=60)
    adata.var_names = adata.var_names[::-1]
    dense = adata.X.toarray()
    dense[:, :3] = 0
    adata.X = dense
    flda.tl.flda(adata, FACTORS, shrinkage=0.5)
    flda.tl.effect_tests(adata, effects="axon", n_resamples=9)
    last = flda.get.gene_tests_df(adata).tail(3)
    assert last["pval"].isna().all()
    assert last["gene"].tolist() == sorted(adata.var_names[:3])


def test_effects_that_were_not_tested_are_named(tested):
    with pytest.raises(ValueError, match=r"'dendrite:axon'.*'axon'"):
        flda.get.gene_tests_df(tested, "dendrite:axon")
