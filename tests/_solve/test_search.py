"""The search for sparse axes against exhaustive search, and the truncated Rayleigh flow."""

import itertools

import numpy as np
import pytest
import scipy.linalg as sl

from flda import FLDA
from flda._design.make import make_design
from flda._design.per_effect import effect_penalties
from flda._solve.dual import Dual
from flda._solve.flow import flow
from flda._solve.iterative import Iterative
from flda._solve.objective import Objective
from flda._solve.primal import Primal
from flda._solve.refit import Refit
from flda._solve.rows import ScatterRows, largest_eigenvalue
from flda._solve.search import SparseProblem, _above, _Arrowheads, extend, first, select, swap
from flda._solve.within import Within

from oracle import effect_scatters, effects_of, problem, shrunken, within_scatter

G = 0.1


KINDS = ["ratio", "difference"]


def sparse_problem(X, y, effect, kind=Primal, g=G, objective="difference"):
    design = make_design(y)
    inverse = kind(Within.from_data(X, design.codes, design.counts, "pooled"), "diagonal")
    terms = Objective(objective, effect_penalties(design, 1.0)).terms(design)[design.effects[effect]]
    refit = Refit(terms, inverse.means, ScatterRows(inverse, g))
    return SparseProblem(refit.denominator, refit.H, np.diag(refit.weights(1e6)), np.ones(X.shape[1], bool))


def dense_pair(X, y, n_levels, effect, g=G, objective="difference"):
    """Numerator and denominator of one effect by their definitions."""
    scatter, means = within_scatter(X, y, "pooled")
    scatters = effect_scatters(means, n_levels)
    own = effects_of(len(n_levels))[effect]
    others = sum(m for e, m in scatters.items() if e != own)
    metric = shrunken(scatter, g, "diagonal")
    return (scatters[own], metric + others) if objective == "ratio" else (scatters[own] - others, metric)


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
@pytest.mark.parametrize("objective", KINDS)
def test_selector_finds_the_global_optimum_and_never_less_than_the_flow(block, objective):
    """200 random problems of up to 20 genes; at least 95 % must be optimal."""
    found = []
    for seed in range(50 * block, 50 * (block + 1)):
        X, y, n_levels, k, effect = random_case(seed)
        N, M = dense_pair(X, y, n_levels, effect, objective=objective)
        p = sparse_problem(X, y, effect, kind=[Primal, Dual][seed % 2], objective=objective)
        dense, starts = starts_of(p, N, M, k)
        value = p.value(select(p, k, starts))
        best = exhaustive(N, M, k)
        found.append(value >= best - 1e-9 * abs(best))
        reached = flow(p, dense, k)[1]
        assert value >= reached - 1e-9 * abs(reached)
    assert np.mean(found) >= 0.95


@pytest.mark.parametrize(("n_cells", "n_genes"), [(300, 1000), (1500, 1000)])
@pytest.mark.parametrize("k", [5, 20])
@pytest.mark.parametrize("objective", KINDS)
def test_selector_is_never_below_the_flow_on_many_genes(n_cells, n_genes, k, objective):
    X, y = problem(n_cells, n_genes, (2, 4), seed=k)
    for effect in range(3):
        p = sparse_problem(X, y, effect, kind=Primal if n_cells > n_genes else Dual, g=0.5, objective=objective)
        model = FLDA(shrinkage=0.5, objective=objective, reliability=False).fit(X, y)
        u = model.components_[(model.axes_["effect"] == ["A", "B", "A:B"][effect]).to_numpy()][0]
        starts = [first(np.abs(u) * model.within_sd_, k), first(p.own_ratio, k)]
        value = p.value(select(p, k, starts))
        for begin in (u, np.where(np.isin(np.arange(n_genes), starts[1]), u, 0)):
            assert value >= flow(p, begin, k)[1] * (1 - 1e-9)
        assert value <= model.eigenvalues_.max() * (1 + 1e-9)  # no sparse axis beats the dense one


@pytest.mark.parametrize("kind", [Primal, Dual, Iterative])
@pytest.mark.parametrize("objective", KINDS)
def test_rows_are_those_of_the_denominator(kind, objective):
    X, y = problem(60, 30, (2, 3))
    M = dense_pair(X, y, (2, 3), 0, g=0.3, objective=objective)[1]
    rows = sparse_problem(X, y, 0, kind=kind, g=0.3, objective=objective).scatter
    np.testing.assert_allclose(rows([3, 7, 3]), M[[3, 7, 3]], atol=1e-12)
    np.testing.assert_allclose(rows.diagonal, np.diag(M))
    scale = np.sqrt(np.diag(M))
    assert largest_eigenvalue(rows) == pytest.approx(np.linalg.eigvalsh(M / np.outer(scale, scale))[-1], rel=1e-2)


@pytest.mark.parametrize("objective", KINDS)
def test_extension_takes_the_largest_exact_gain(objective):
    """Against refitting with every gene in turn."""
    X, y = problem(100, 25, (2, 3), seed=2)
    p = sparse_problem(X, y, 1, objective=objective)
    genes = extend(p, [4, 9], 2)
    gains = {j: p.value([4, 9, j]) for j in range(25) if j not in (4, 9)}
    assert set(extend(p, genes, 3)) == {4, 9, max(gains, key=gains.get)}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("objective", KINDS)
def test_after_swapping_no_single_exchange_helps(seed, objective):
    """Genes correlate strongly here, so the gains are right only if those of the removed gene's partners are too."""
    X, y = problem(100, 25, (2, 3), seed=seed, condition=20)
    p = sparse_problem(X, y, seed % 3, g=0.01, objective=objective)
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


def test_a_filter_of_genes_keeps_some_gene_under_strong_weights():
    """Corners and borders of size 1e6 nearly cancel, as for axes that must be orthogonal to earlier ones."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        b = 10 * rng.normal(size=(1, 40))  # with one eigenvalue the bounds are the roots
        found = _Arrowheads(rng.normal(size=1), b, -(10.0 ** rng.uniform(4, 8, 40))).best(-np.inf)
        assert found[0] >= 0
        assert np.isfinite(found[1])


def test_the_bound_on_exchanges_holds_beside_strong_constraints():
    """Rows on which an axis is zero make eigenvalues very negative, and must not switch the bound off."""
    L = np.array([-4e7, 0.01, 2.5, 20.42])
    assert _above(20.66, L)
    assert not _above(20.42 * (1 + 1e-8), L)
    assert not _above(20.0, L)
    assert not _above(20.42 + 1e-6, np.array([-4e8 * 1e6, 20.42]))  # lost to rounding errors
