"""Sparse axes: the estimator."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from flda import FLDA, SparseFLDA

from array_kinds import IN_BLOCKS, SINGLE, kinds
from oracle import dense_axes, dense_ratio, group_table, problem, shrunken, within_scatter


@pytest.mark.parametrize("penalty", [1.0, {"B": np.inf}])
@pytest.mark.parametrize("selector", ["refit", "flow"])
@pytest.mark.parametrize("objective", ["ratio", "difference"])
@pytest.mark.parametrize("interactions", ["all", None])
def test_axes_are_optimal_on_their_support(selector, penalty, objective, interactions):
    """Every axis against a dense problem on its genes, orthogonal in the denominator to the axes before it."""
    if selector == "flow" and penalty != 1.0:
        with pytest.raises(ValueError, match="selector='flow'"):
            SparseFLDA(n_genes=8, selector=selector, penalty=penalty).fit(*problem(60, 20, (2, 4)))
        return
    X, y = problem(200, 40, (2, 4))
    scatter, means = within_scatter(X, y, "pooled")
    M = shrunken(scatter, 0.2, "diagonal")
    options = {"objective": objective, "penalty": penalty, "lack_of_fit": 0.5}
    model = SparseFLDA(n_genes=9, shrinkage=0.2, selector=selector, interactions=interactions, **options).fit(X, y)
    effects = [(0,), (1,), (0, 1)][: len(model.effects_)]
    if penalty != 1.0:
        options["penalty"] = {(1,): np.inf}
    dense = dense_ratio(means, *group_table(y), scatter, M, effects, **options)
    for effect, (N, W, nulled, _) in dense.items():
        name = ":".join("AB"[j] for j in effect)
        earlier = []
        for row in np.flatnonzero(model.axes_["effect"] == name):
            u = model.components_[row]
            genes = np.flatnonzero(u)
            assert len(genes) == 9
            own, constraints = np.ix_(genes, genes), np.vstack([nulled, *(v @ W for v in earlier)])[:, genes]
            values, axes = dense_axes(N[own], W[own], constraints, 1)
            assert model.eigenvalues_[row] == pytest.approx(values[0], rel=1e-6)
            assert u @ M @ u == pytest.approx(1)
            best = axes[:, 0] / np.sqrt(axes[:, 0] @ M[own] @ axes[:, 0])
            assert abs(u[genes] @ M[own] @ best) == pytest.approx(1, abs=1e-6)
            np.testing.assert_allclose([u @ W @ v for v in earlier], 0, atol=1e-8)
            earlier.append(u)
        assert len(earlier) == np.prod([[1, 3][j] for j in effect])


@pytest.mark.parametrize("objective", ["ratio", "difference"])
@pytest.mark.parametrize("interactions", ["all", None])
def test_markers_are_the_genes_with_the_largest_objective_of_their_own(objective, interactions):
    X, y = problem(200, 40, (2, 4))
    scatter, means = within_scatter(X, y, "pooled")
    M = shrunken(scatter, 0.2, "diagonal")
    options = {"objective": objective, "interactions": interactions, "shrinkage": 0.2}
    model = SparseFLDA(n_genes=6, mode="marker", **options).fit(X, y)
    effects = [(0,), (1,), (0, 1)][: len(model.effects_)]
    dense = dense_ratio(means, *group_table(y), scatter, M, effects, objective=objective)
    for effect, (N, W, _, _) in dense.items():
        rows = (model.axes_["effect"] == ":".join("AB"[j] for j in effect)).to_numpy()
        genes = np.sort(np.argsort(-np.diag(N) / np.diag(W))[:6])
        own = np.ix_(genes, genes)
        values, _ = dense_axes(N[own], W[own], np.empty((0, 6)), rows.sum())
        np.testing.assert_allclose(model.eigenvalues_[rows], values, rtol=1e-7)
        for u in model.components_[rows]:
            np.testing.assert_array_equal(np.flatnonzero(u), genes)
        gram = model.components_[rows] @ W @ model.components_[rows].T
        np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-8)


@pytest.mark.parametrize(
    ("kind", "solver"),
    [*((k, "primal") for k in kinds(but=SINGLE)), *((k, "dual") for k in kinds(but=[*SINGLE, *IN_BLOCKS]))],
)
def test_array_kinds_and_solvers_agree(store, kind, solver):
    X, y = problem(90, 60, (2, 3), seed=7)
    X[np.random.default_rng(0).random(X.shape) < 0.5] = 0
    expected = SparseFLDA(n_genes=4, shrinkage=0.3).fit(X, y)
    model = SparseFLDA(n_genes=4, shrinkage=0.3, solver=solver).fit(store(X), y)
    np.testing.assert_allclose(model.components_, expected.components_, atol=1e-8)


def test_all_genes_give_the_dense_axes():
    X, y = problem(200, 12, (2, 4))
    dense, sparse = FLDA(shrinkage=0.2).fit(X, y), SparseFLDA(n_genes=12, shrinkage=0.2).fit(X, y)
    np.testing.assert_allclose(sparse.eigenvalues_, dense.eigenvalues_, rtol=1e-8)
    np.testing.assert_allclose(sparse.components_, dense.components_, atol=1e-6)
    np.testing.assert_array_equal(sparse.predict(X), dense.predict(X))
    scores = sparse.transform(X)
    np.testing.assert_allclose(sparse.transform(sparse.inverse_transform(scores)), scores, atol=1e-8)


def test_prediction_and_reconstruction_use_the_selected_genes_only():
    X, y = problem(200, 40, (2, 3))
    model = SparseFLDA(n_genes=5, shrinkage=0.2).fit(X, y)
    used = np.unique(np.concatenate([g for axes in model.selected_.values() for g in axes]))
    other = X.copy()
    other[:, np.setdiff1d(np.arange(40), used)] = 99.0
    np.testing.assert_array_equal(model.predict(other), model.predict(X))
    np.testing.assert_allclose(model.transform(other), model.transform(X))
    assert model.score(X, y) > 0.7


def mixed_selectivity(n=400, seed=0):
    """Genes 0-19 carry A and B alike, 20-24 weakly A alone; noise is shared in pairs of mixed genes."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(list(np.ndindex(2, 2)), n, axis=0)
    signs = 2.0 * codes - 1
    X = rng.normal(size=(4 * n, 60))
    X[:, :20] += signs[:, :1] * rng.choice([-1, 1], 20) + signs[:, 1:] * rng.choice([-1, 1], 20)
    X[:, 20:25] += 0.6 * signs[:, :1]
    return X, pd.DataFrame(codes.astype(str), columns=["A", "B"])


@pytest.mark.parametrize("options", [{"objective": "difference"}, {"objective": "ratio", "penalty": 3.0}])
def test_modes_and_kinds_on_mixed_selectivity(options):
    """In the ratio a mixed gene has about 2 / (1 + 2 penalty) of its own, and a pure one 0.7."""
    X, y = mixed_selectivity()
    axis = SparseFLDA(n_genes=5, shrinkage=0.3, **options).fit(X, y)
    marker = SparseFLDA(n_genes=5, shrinkage=0.3, mode="marker", **options).fit(X, y)
    assert set(axis.selected_["A"][0]) <= set(range(20))  # mixed genes that cancel B in each other
    assert set(marker.selected_["A"][0]) == set(range(20, 25))
    report = marker.gene_report_.query("axis == 'A_1'")
    assert (report["kind"] == "pure").all()
    # B is as strong as A in the mixed genes: shares are near one half, far from the markers' near 1
    assert axis.gene_report_.query("axis == 'A_1'")["specificity"].max() < 0.7 < report["specificity"].min()
    assert axis.eigenvalues_[0] > marker.eigenvalues_[0]


def test_selected_gene_constant_in_a_group_is_no_trouble():
    X, y = problem(120, 15, (2, 2))
    rows = ((y["A"] == "A0") & (y["B"] == "B0")).to_numpy()
    X[rows] = 0
    model = SparseFLDA(n_genes=5, shrinkage=0.1).fit(X, y)
    assert np.isfinite(model.components_).all()


@pytest.mark.parametrize("options", [{}, {"objective": "difference"}, {"interactions": None, "lack_of_fit": 2.0}])
def test_path_is_nested_in_value_and_leaves_the_estimator_alone(options):
    X, y = problem(200, 60, (2, 3))
    model = SparseFLDA(n_genes=7, shrinkage=0.3, **options)
    table = model.path(X, y, [10, 2, 5])
    assert not hasattr(model, "axes_")
    assert table["n_genes"].unique().tolist() == [2, 5, 10]
    assert (table["genes"].str.len() == table["n_genes"]).all()
    firsts = table[table["component"] == 1].pivot_table(index="effect", columns="n_genes", values="eigenvalue")
    assert (np.diff(firsts.to_numpy(), axis=1) > 0).all()
    for k in (2, 10):
        fitted = clone(model).set_params(n_genes=k).fit(X, y)
        ours = table[table["n_genes"] == k].set_index("axis")["eigenvalue"]
        best = fitted.axes_.set_index("axis")["eigenvalue"]
        names = [a for a in ("A_1", "B_1", "A:B_1") if a in best]
        assert (ours[names] >= best[names] * (1 - 1e-9)).all()


@pytest.mark.parametrize("objective", ["ratio", "difference"])
@pytest.mark.parametrize("interactions", ["all", None])
def test_an_infinite_penalty_leaves_nothing_of_the_other_effects(objective, interactions):
    """On every axis, and with more genes there is more room."""
    X, y = problem(200, 40, (2, 3))
    options = {"penalty": np.inf, "interactions": interactions, "objective": objective}
    model = SparseFLDA(n_genes=6, shrinkage=0.3, **options).fit(X, y)
    scores = model.means_ @ model.components_.T
    contrasts = {e: t.contrasts for e, t in model._terms.items()}
    for j, name in enumerate(model.axes_["effect"]):
        for effect, b in contrasts.items():
            if effect.name != name:
                np.testing.assert_allclose(b @ scores[:, j], 0, atol=1e-8 * np.abs(scores[:, j]).max())
    path = SparseFLDA(shrinkage=0.3, **options).path(X, y, [6, 12])
    ours = path[(path["n_genes"] == 6) & (path["component"] == 1)]["eigenvalue"].to_numpy()
    more = path[(path["n_genes"] == 12) & (path["component"] == 1)]["eigenvalue"].to_numpy()
    np.testing.assert_allclose(ours, model.axes_.query("component == 1")["eigenvalue"], rtol=1e-9)
    assert (more > ours).all()


def test_first_axes_are_the_best_of_all_supports():
    """With weights, lack of fit and reliability, against every support of 3 of 12 genes; 95 % must be optimal."""
    supports, found = list(itertools.combinations(range(12), 3)), []
    for seed in range(12):
        X, y = problem(90, 12, (2, 4), seed=seed)
        scatter, means = within_scatter(X, y, "pooled")
        M = shrunken(scatter, 0.2, "diagonal")
        model = SparseFLDA(n_genes=3, shrinkage=0.2, interactions=None).fit(X, y)
        dense = dense_ratio(means, *group_table(y), scatter, M, [(0,), (1,)])
        for effect, (N, W, _, _) in dense.items():
            own = [np.ix_(s, s) for s in supports]
            best = max(dense_axes(N[s], W[s], np.empty((0, 3)), 1)[0][0] for s in own)
            value = model.axes_.query(f"axis == '{'AB'[effect[0]]}_1'")["eigenvalue"].item()
            found.append(value >= best * (1 - 1e-9))
            assert value <= best * (1 + 1e-9)
    assert np.mean(found) >= 0.95


def test_number_of_genes_by_cross_validation_finds_the_planted_number():
    rng = np.random.default_rng(0)
    codes = np.repeat(list(np.ndindex(2, 2)), 150, axis=0)
    y = pd.DataFrame(codes.astype(str), columns=["A", "B"])
    X = rng.normal(size=(600, 80))
    X[:, :5] += 0.8 * (2.0 * codes[:, :1] - 1)
    X[:, 10:30] += 0.5 * (2.0 * codes[:, 1:] - 1)
    model = SparseFLDA(n_genes="cv", interactions=None, shrinkage=0.5, random_state=0).fit(X, y)
    assert model.n_genes_ == {"A": 5, "B": 20}
    assert set(model.selected_["A"][0]) == set(range(5))
    path = model.n_genes_path_
    assert path.groupby("effect").size().tolist() == [5, 5]


def test_candidates_restrict_the_selection():
    X, y = problem(150, 30, (2, 3))
    mask = np.arange(30) % 3 == 0
    model = SparseFLDA(n_genes=4, shrinkage=0.3, candidates=mask).fit(X, y)
    assert all(mask[genes].all() for axes in model.selected_.values() for genes in axes)
    assert model.shrinkage_ == 0.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_genes": 11}, "n_genes=11 for 'A'.* 10 "),
        ({"n_genes": 0}, "n_genes=0"),
        ({"n_genes": 2.5}, "n_genes=2.5"),
        ({"n_genes": {"Q": 3}}, "n_genes.*'Q'.*'A:B'"),
        ({"n_genes": "best"}, "n_genes='best'"),
        ({"n_genes": 1, "n_components": {"B": 2}}, "n_genes=1 for 'B'.*n_components=2"),
        ({"n_genes": 4, "mode": "gene"}, "mode='gene'"),
        ({"n_genes": 4, "selector": "lasso"}, "selector='lasso'"),
        ({"n_genes": 4, "candidates": np.ones(3, bool)}, "candidates.* 10 "),
        ({"n_genes": 4, "candidates": np.arange(10) < 3}, "n_genes=4.* 3 "),
    ],
)
def test_bad_parameters(options, message):
    X, y = problem(60, 10, (2, 3))
    with pytest.raises(ValueError, match=message):
        SparseFLDA(shrinkage=0.2, **options).fit(X, y)


def test_constant_genes_cannot_be_selected():
    X, y = problem(60, 10, (2, 3))
    X[:, 2] = 1.5
    model = SparseFLDA(n_genes=9, shrinkage=0.2).fit(X, y)
    assert all(2 not in genes for axes in model.selected_.values() for genes in axes)
    with pytest.raises(ValueError, match=r"n_genes=10.* 9 "):
        SparseFLDA(n_genes=10, shrinkage=0.2).fit(X, y)


def test_one_gene_gives_one_axis_per_effect():
    X, y = problem(100, 10, (2, 4))
    model = SparseFLDA(n_genes=1, shrinkage=0.2).fit(X, y)
    assert model.axes_["axis"].tolist() == ["A_1", "B_1", "A:B_1"]


@given(st.integers(0, 2**16), st.sampled_from(["axis", "marker"]))
def test_invariances(seed, mode):
    """Order of cells and genes and units of genes do not change the selection."""
    p = 55  # with more than 50 genes the search has four starts, not one from every gene
    X, y = problem(80, p, (2, 3), seed=seed)
    rng = np.random.default_rng(seed)
    cells, genes, units = rng.permutation(80), rng.permutation(p), np.exp(rng.normal(size=p))
    model = SparseFLDA(n_genes=4, shrinkage=0.3, mode=mode).fit(X, y)
    other = clone(model).fit((X * units)[cells][:, genes], y.iloc[cells])
    np.testing.assert_allclose(other.eigenvalues_, model.eigenvalues_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(
        np.abs(other.components_), np.abs(model.components_ / units)[:, genes], rtol=1e-4, atol=1e-6
    )


@parametrize_with_checks([SparseFLDA(n_genes=2, random_state=0)])
def test_common_estimator_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("objective", ["ratio", "difference"])
@pytest.mark.parametrize("mode", ["axis", "marker"])
def test_optimality_gap_brackets_the_best_first_axis(objective, mode):
    """Against every pair of genes; the interaction is left out, so there is a lack of fit."""
    X, y = problem(120, 8, (2, 3), seed=3)
    options = {"shrinkage": 0.3, "interactions": None, "objective": objective, "n_genes": 2, "n_components": 1}
    model = SparseFLDA(mode=mode, gap_effort=5, **options).fit(X, y)
    pairs = [np.isin(np.arange(8), genes) for genes in itertools.combinations(range(8), 2)]
    values = [SparseFLDA(mode="marker", candidates=pair, **options).fit(X, y).eigenvalues_ for pair in pairs]
    best = dict(zip(model.effects_, np.max(values, axis=0), strict=True))
    for effect, value, gap in zip(model.effects_, model.eigenvalues_, model.optimality_gap_, strict=True):
        assert value * (1 + gap) == pytest.approx(best[effect], rel=1e-6)


def test_optimality_gap_is_left_out_by_default_and_does_not_change_the_axes():
    X, y = problem(120, 30, (2, 3), seed=1)
    plain, bounded = (SparseFLDA(n_genes=4, shrinkage=0.5, gap_effort=e).fit(X, y) for e in (0, 0.1))
    assert plain.optimality_gap_.isna().all()
    assert bounded.optimality_gap_.ge(0).all()
    assert bounded.optimality_gap_.index.tolist() == bounded.axes_["axis"].tolist()
    np.testing.assert_array_equal(plain.components_, bounded.components_)
    with pytest.raises(ValueError, match="gap_effort"):
        SparseFLDA(gap_effort=-1).fit(X, y)
