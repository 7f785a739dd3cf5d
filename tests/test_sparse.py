"""Sparse axes against exhaustive search, dense problems on the support, and the truncated Rayleigh flow."""

import itertools

import numpy as np
import pandas as pd
import pytest
import scipy.linalg as sl
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from flda import FLDA, SparseFLDA
from flda._design.design import make_design
from flda._solve.dual import Dual
from flda._solve.flow import flow
from flda._solve.primal import Primal
from flda._solve.rows import ScatterRows
from flda._solve.search import SparseProblem, extend, first, select, swap
from flda._solve.within import Within

from array_kinds import EXACT, KINDS
from oracle import effect_projector, effect_scatters, effects_of, problem, shrunken, within_scatter

G = 0.1


def sparse_problem(X, y, effect, kind=Primal, g=G):
    design = make_design(y)
    inverse = kind(Within.from_data(X, design.codes, design.counts, "pooled"), "diagonal")
    own = design.effects[effect]
    Q = design.scatter_weights(own) - sum(design.scatter_weights(e) for e in design.effects if e != own)
    p = X.shape[1]
    return SparseProblem(ScatterRows(inverse, g), inverse.within.centred_means, Q, np.ones(p, bool))


def dense_pair(X, y, n_levels, effect, g=G):
    """N and M of one effect by their definitions."""
    scatter, means = within_scatter(X, y, "pooled")
    scatters = effect_scatters(means, n_levels)
    own = effects_of(len(n_levels))[effect]
    N = scatters[own] - sum(m for e, m in scatters.items() if e != own)
    return N, shrunken(scatter, g, "diagonal")


def starts_of(p, N, M, k):
    dense = sl.eigh(N, M)[1][:, -1]
    return dense, [first(np.abs(dense) * np.sqrt(np.diag(M)), k), first(p.own_ratio, k)]


def random_case(seed):
    rng = np.random.default_rng(seed)
    n_levels = [(2, 4), (2, 2), (3, 3), (2, 2, 2)][seed % 4]
    n_genes, k = int(rng.integers(8, 21)), int(rng.integers(1, 6))
    X, y = problem(int(rng.integers(40, 150)), n_genes, n_levels, seed=seed, condition=[1, 30][seed % 2])
    return X, y, n_levels, k, int(rng.integers(2 ** len(n_levels) - 1))


def exhaustive(N, M, k):
    p = len(M)
    supports = np.array(list(itertools.combinations(range(p), k)))
    best = -np.inf
    for part in np.array_split(supports, max(1, len(supports) // 4000)):
        n, m = N[part[:, :, None], part[:, None, :]], M[part[:, :, None], part[:, None, :]]
        inverse_root = np.linalg.inv(np.linalg.cholesky(m))
        values = np.linalg.eigvalsh(inverse_root @ n @ inverse_root.transpose(0, 2, 1))[:, -1]
        best = max(best, values.max())
    return best


@pytest.mark.parametrize("block", range(4))
def test_selector_finds_the_global_optimum_and_never_less_than_the_flow(block):
    """200 random problems of up to 20 genes; at least 95 % must be optimal."""
    found = []
    for seed in range(50 * block, 50 * (block + 1)):
        X, y, n_levels, k, effect = random_case(seed)
        N, M = dense_pair(X, y, n_levels, effect)
        p = sparse_problem(X, y, effect, kind=[Primal, Dual][seed % 2])
        dense, starts = starts_of(p, N, M, k)
        value = p.value(select(p, k, starts))
        best = exhaustive(N, M, k)
        found.append(value >= best - 1e-9 * abs(best))
        reached = flow(p, dense, k)[1]
        assert value >= reached - 1e-9 * abs(reached)
    assert np.mean(found) >= 0.95


@pytest.mark.parametrize(("n_cells", "n_genes"), [(300, 1000), (1500, 1000)])
@pytest.mark.parametrize("k", [5, 20])
def test_selector_is_never_below_the_flow_on_many_genes(n_cells, n_genes, k):
    X, y = problem(n_cells, n_genes, (2, 4), seed=k)
    for effect in range(3):
        p = sparse_problem(X, y, effect, kind=Primal if n_cells > n_genes else Dual, g=0.5)
        model = FLDA(shrinkage=0.5).fit(X, y)
        u = model.components_[(model.axes_["effect"] == ["A", "B", "A:B"][effect]).to_numpy()][0]
        starts = [first(np.abs(u) * model.within_sd_, k), first(p.own_ratio, k)]
        value = p.value(select(p, k, starts))
        for begin in (u, np.where(np.isin(np.arange(n_genes), starts[1]), u, 0)):
            assert value >= flow(p, begin, k)[1] * (1 - 1e-9)
        assert value <= model.eigenvalues_.max() * (1 + 1e-9)  # no sparse axis beats the dense one


@pytest.mark.parametrize("kind", [Primal, Dual])
def test_rows_are_those_of_the_scatter(kind):
    X, y = problem(60, 30, (2, 3))
    M = dense_pair(X, y, (2, 3), 0, g=0.3)[1]
    rows = sparse_problem(X, y, 0, kind=kind, g=0.3).scatter
    np.testing.assert_allclose(rows([3, 7, 3]), M[[3, 7, 3]], atol=1e-12)
    np.testing.assert_allclose(rows.diagonal, np.diag(M))
    scale = np.sqrt(np.diag(M))
    assert rows.largest_eigenvalue == pytest.approx(np.linalg.eigvalsh(M / np.outer(scale, scale))[-1], rel=1e-2)


def test_extension_takes_the_largest_exact_gain():
    """Against refitting with every gene in turn."""
    X, y = problem(100, 25, (2, 3), seed=2)
    p = sparse_problem(X, y, 1)
    genes = extend(p, [4, 9], 2)
    gains = {j: p.value([4, 9, j]) for j in range(25) if j not in (4, 9)}
    assert set(extend(p, genes, 3)) == {4, 9, max(gains, key=gains.get)}


@pytest.mark.parametrize("seed", range(8))
def test_after_swapping_no_single_exchange_helps(seed):
    """Genes correlate strongly here, so the gains are right only if those of the removed gene's partners are too."""
    X, y = problem(100, 25, (2, 3), seed=seed, condition=20)
    p = sparse_problem(X, y, seed % 3, g=0.01)
    genes = swap(p, np.array([0, 1, 2, 3, 4]))
    value = p.value(genes)
    for out, new in itertools.product(genes, set(range(25)) - set(genes)):
        assert p.value([new if j == out else j for j in genes]) <= value * (1 + 1e-8)


def test_flow_is_safe_when_the_quotient_is_negative():
    """Started where the axis separates the wrong effect, it still climbs to the optimum of its support."""
    X, y = problem(150, 20, (2, 3), seed=4)
    N, M = dense_pair(X, y, (2, 3), 0)
    p = sparse_problem(X, y, 0)
    worst = sl.eigh(N, M)[1][:, 0]
    assert worst @ N @ worst < 0
    u, value, _ = flow(p, worst, 5)
    assert value > 0
    assert np.count_nonzero(u) == 5
    support = np.flatnonzero(u)
    assert value == pytest.approx(p.value(support), rel=1e-4)
    assert (u @ N @ u) / (u @ M @ u) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("penalty", [1.0, {"B": np.inf}])
@pytest.mark.parametrize("selector", ["refit", "flow"])
def test_axes_are_optimal_on_their_support(selector, penalty):
    """Every axis against a dense problem on its genes, M-orthogonal to the axes before it."""
    if selector == "flow" and penalty != 1.0:
        with pytest.raises(ValueError, match="finite penalties"):
            SparseFLDA(n_genes=8, selector=selector, penalty=penalty).fit(*problem(60, 20, (2, 4)))
        return
    n_levels = (2, 4)
    X, y = problem(200, 40, n_levels)
    scatter, means = within_scatter(X, y, "pooled")
    M, scatters = shrunken(scatter, 0.2, "diagonal"), effect_scatters(means, n_levels)
    nulled = sl.orth(effect_projector((1,), n_levels)).T @ means  # rows that an infinite penalty on B sets to zero
    model = SparseFLDA(n_genes=9, shrinkage=0.2, selector=selector, penalty=penalty).fit(X, y)
    for effect, own in scatters.items():
        name = ":".join("AB"[j] for j in effect)
        earlier = []
        for row in np.flatnonzero(model.axes_["effect"] == name):
            u = model.components_[row]
            genes = np.flatnonzero(u)
            assert len(genes) == 9
            exact = penalty != 1.0 and effect != (1,)
            N = own - sum(m for e, m in scatters.items() if e != effect and not (exact and e == (1,)))
            constraints = [u @ M[:, genes] for u in earlier] + ([*nulled[:, genes]] if exact else [])
            free = sl.null_space(np.array(constraints)) if constraints else np.eye(9)
            n, d = N[np.ix_(genes, genes)], M[np.ix_(genes, genes)]
            best = sl.eigh(free.T @ n @ free, free.T @ d @ free, eigvals_only=True)[-1]
            assert model.eigenvalues_[row] == pytest.approx(best, rel=1e-6)
            assert u @ M @ u == pytest.approx(1)
            np.testing.assert_allclose([u @ M @ v for v in earlier], 0, atol=1e-9)
            earlier.append(u)


@pytest.mark.parametrize("kind", EXACT)
@pytest.mark.parametrize("solver", ["primal", "dual"])
def test_array_kinds_and_solvers_agree(kind, solver):
    X, y = problem(90, 50, (2, 3), seed=7)
    X[np.random.default_rng(0).random(X.shape) < 0.5] = 0
    expected = SparseFLDA(n_genes=4, shrinkage=0.3).fit(X, y)
    model = SparseFLDA(n_genes=4, shrinkage=0.3, solver=solver).fit(KINDS[kind](X), y)
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


def test_modes_and_kinds_on_mixed_selectivity():
    X, y = mixed_selectivity()
    axis = SparseFLDA(n_genes=5, shrinkage=0.3).fit(X, y)
    marker = SparseFLDA(n_genes=5, shrinkage=0.3, mode="marker").fit(X, y)
    assert set(axis.selected_["A"][0]) <= set(range(20))  # mixed genes that cancel B in each other
    assert set(marker.selected_["A"][0]) == set(range(20, 25))
    report = marker.gene_report_.query("axis == 'A_1'")
    assert (report["kind"] == "pure").all()
    # B is as strong as A in the mixed genes: shares are near one half, far from the markers' near 1
    assert axis.gene_report_.query("axis == 'A_1'")["specificity"].max() < 0.7 < report["specificity"].min()
    assert axis.eigenvalues_[0] > marker.eigenvalues_[0]


def test_gene_report():
    X, y = problem(200, 30, (2, 3))
    names = [f"g{i:02d}" for i in range(30)]
    model = SparseFLDA(n_genes=4, shrinkage=0.3).fit(pd.DataFrame(X, columns=names), y)
    report = model.gene_report_
    assert report.groupby("axis", sort=False).size().tolist() == [4] * 5
    row = report.iloc[0]
    j = names.index(row["gene"])
    assert row["loading"] == pytest.approx(model.components_[0, j])
    assert row["score"] == pytest.approx(model.components_[0, j] * model.within_sd_[j])
    assert row["score"] > 0  # the largest standardised loading of an axis
    ratios = report[["F_A", "F_B", "F_A:B"]].iloc[0]
    assert row["specificity"] == pytest.approx(ratios["F_A"] / ratios.sum())
    cells = pd.Series(X[:, j]).groupby([y["A"], y["B"]]).mean()
    assert row["mean_A0"] == pytest.approx(cells["A0"].mean())
    assert np.isnan(row["mean_B0"])
    interaction = report[report["axis"] == "A:B_1"].iloc[0]
    assert np.isfinite(interaction["mean_A0:B1"])


def test_twins_are_named_and_only_one_is_taken():
    X, y = problem(200, 20, (2, 2), seed=5)
    base = SparseFLDA(n_genes=3, shrinkage=0.0).fit(X, y)
    gene = base.selected_["A"][0][0]
    X = np.column_stack([X, -2 * X[:, gene] + 1])
    with pytest.raises(ValueError, match="singular"):
        SparseFLDA(n_genes=3, shrinkage=0.0).fit(X, y)
    model = SparseFLDA(n_genes=3, shrinkage=1e-8).fit(X, y)
    report = model.gene_report_.query("axis == 'A_1'").set_index("gene")
    taken = [g for g in (gene, 20) if g in report.index]
    assert len(taken) == 1
    assert report.loc[taken[0], "twins"] == str(({gene, 20} - set(taken)).pop())
    assert (report.drop(taken)["twins"] == "").all()


def test_selected_gene_constant_in_a_group_is_no_trouble():
    X, y = problem(120, 15, (2, 2))
    rows = ((y["A"] == "A0") & (y["B"] == "B0")).to_numpy()
    X[rows] = 0
    model = SparseFLDA(n_genes=5, shrinkage=0.1).fit(X, y)
    assert np.isfinite(model.components_).all()


def test_path_is_nested_in_value_and_leaves_the_estimator_alone():
    X, y = problem(200, 60, (2, 3))
    model = SparseFLDA(n_genes=7, shrinkage=0.3)
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
        assert (ours[["A_1", "B_1", "A:B_1"]] >= best[["A_1", "B_1", "A:B_1"]] * (1 - 1e-9)).all()


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
    by_donor = SparseFLDA(n_genes="cv", interactions=None, shrinkage=0.5, random_state=0).fit(
        X, y, groups=np.arange(600) % 6
    )
    assert by_donor.n_genes_["A"] in (5, 10)


def test_candidates_restrict_the_selection():
    X, y = problem(150, 30, (2, 3))
    mask = np.arange(30) % 3 == 0
    model = SparseFLDA(n_genes=4, shrinkage=0.3, candidates=mask).fit(X, y)
    assert all(mask[genes].all() for axes in model.selected_.values() for genes in axes)
    assert model.shrinkage_ == 0.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_genes": 11}, r"n_genes=11 for 'A': there are 10 feature.s. .genes. to choose from, so use 1 to 10"),
        ({"n_genes": 0}, "use 1 to 10"),
        ({"n_genes": 2.5}, "use 1 to 10"),
        ({"n_genes": {"Q": 3}}, r"n_genes names the effect 'Q'; the fit has \['A', 'B', 'A:B'\]"),
        ({"n_genes": "best"}, "use a number, a dict of effects, or 'cv'"),
        ({"n_genes": 1, "n_components": {"B": 2}}, "too few for n_components=2"),
        ({"n_genes": 4, "mode": "gene"}, "use one of"),
        ({"n_genes": 4, "selector": "lasso"}, "use one of"),
        ({"n_genes": 4, "candidates": np.ones(3, bool)}, "one entry for each of the 10 genes"),
        ({"n_genes": 4, "candidates": np.arange(10) < 3}, "there are 3 feature"),
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
    with pytest.raises(ValueError, match="there are 9 feature"):
        SparseFLDA(n_genes=10, shrinkage=0.2).fit(X, y)


def test_one_gene_gives_one_axis_per_effect():
    X, y = problem(100, 10, (2, 4))
    model = SparseFLDA(n_genes=1, shrinkage=0.2).fit(X, y)
    assert model.axes_["axis"].tolist() == ["A_1", "B_1", "A:B_1"]


@given(st.integers(0, 2**16), st.sampled_from(["axis", "marker"]))
def test_invariances(seed, mode):
    """Order of cells and genes and units of genes do not change the selection."""
    X, y = problem(80, 20, (2, 3), seed=seed)
    rng = np.random.default_rng(seed)
    cells, genes, units = rng.permutation(80), rng.permutation(20), np.exp(rng.normal(size=20))
    model = SparseFLDA(n_genes=4, shrinkage=0.3, mode=mode).fit(X, y)
    other = clone(model).fit((X * units)[cells][:, genes], y.iloc[cells])
    np.testing.assert_allclose(other.eigenvalues_, model.eigenvalues_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(
        np.abs(other.components_), np.abs(model.components_ / units)[:, genes], rtol=1e-4, atol=1e-6
    )


@parametrize_with_checks([SparseFLDA(n_genes=2, random_state=0)])
def test_common_estimator_checks(estimator, check):
    check(estimator)
