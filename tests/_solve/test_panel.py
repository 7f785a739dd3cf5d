"""The search for a panel against definitions and exhaustive search."""

import itertools

import numpy as np
import pytest
import scipy.linalg as sl

from flda._solve.panel import Demands, Pair, PanelProblem, exchange, grow, losses, select_panel
from flda._solve.rows import MatrixRows


def demands(p, n_genes, *, included=(), home=None, least=(0,), cost=None, budget=np.inf):
    return Demands(
        n_genes,
        np.array(included, dtype=np.int64),
        np.zeros(p, dtype=np.int64) if home is None else home,
        np.array(least),
        np.ones(p) if cost is None else cost,
        budget,
    )


def problem(seed, p=10, **wanted):
    """Two effects of one and two directions, correlated genes, and a third effect that only counts against them."""
    rng = np.random.default_rng(seed)
    half = rng.normal(size=(p, p))
    M = half @ half.T / p + 0.2 * np.eye(p)
    G = rng.normal(size=(6, p))
    G -= G.mean(axis=0)
    rows = [rng.normal(size=(n, 6)) for n in (1, 2, 1)]
    pairs = []
    for own, others in ((0, (1, 2)), (1, (0, 2))):
        against = np.vstack([rows[i] for i in others])
        pairs.append(Pair(against, np.vstack([against, rows[own]]), 1.0 + own))
    return PanelProblem(MatrixRows(M), G, pairs, np.ones(p, bool), demands(p, **wanted)), M, rows


def by_definition(M, G, rows, genes):
    """sum of log(1 + ratio) over the axes of both effects, by generalised eigenvalues."""
    genes, total = np.asarray(genes), 0.0
    if len(genes) == 0:
        return 0.0
    for own, others, weight in ((0, (1, 2), 1.0), (1, (0, 2), 2.0)):
        N = (rows[own] @ G[:, genes]).T @ (rows[own] @ G[:, genes])
        W = M[np.ix_(genes, genes)] + sum((rows[i] @ G[:, genes]).T @ (rows[i] @ G[:, genes]) for i in others)
        total += weight * np.log1p(np.maximum(sl.eigvalsh(N, W), 0)).sum()
    return total


@pytest.mark.parametrize("seed", range(5))
def test_value_gains_and_losses_are_those_of_the_definition(seed):
    found, M, rows = problem(seed, n_genes=4)
    genes = np.array([1, 4, 7])
    value = by_definition(M, found.means, rows, genes)
    np.testing.assert_allclose(found.value(genes), value, rtol=1e-10)
    without = [by_definition(M, found.means, rows, np.delete(genes, i)) for i in range(3)]
    np.testing.assert_allclose(losses(found, genes), value - without, rtol=1e-9)
    added = [by_definition(M, found.means, rows, [*genes, j]) for j in range(10) if j not in genes]
    grown = grow(found, genes)
    np.testing.assert_allclose(found.value(grown), max(added), rtol=1e-10)


def allowed_panels(found, k):
    d = found.demands
    for size in range(1, k + 1) if np.isfinite(d.budget) else [k]:
        for genes in itertools.combinations(range(len(d.home)), size):
            genes = np.array(genes)
            if set(d.included) <= set(genes) and not d.missing(genes).any() and d.cost[genes].sum() <= d.budget:
                yield genes


def cases():
    home = np.arange(10) % 3
    for seed in range(24):
        rng = np.random.default_rng(seed)
        cost = rng.uniform(0.5, 2.0, size=10)
        yield [
            {"n_genes": 4},
            {"n_genes": 5, "included": [0, 3]},
            {"n_genes": 5, "home": home, "least": (1, 1, 2)},
            {"n_genes": 10, "cost": cost, "budget": 5.0},
            {"n_genes": 4, "cost": cost, "budget": 6.0, "home": home, "least": (1, 1, 1), "included": [2]},
        ][seed % 5]


def test_panel_is_the_best_of_all_that_meet_the_demands():
    """Exhaustive search on 24 problems: the demands are always met, and at most one panel is not the best one."""
    missed = []
    for seed, wanted in enumerate(cases()):
        found, M, rows = problem(seed, **wanted)
        genes = select_panel(found)
        every = {tuple(g): by_definition(M, found.means, rows, g) for g in allowed_panels(found, wanted["n_genes"])}
        assert tuple(genes) in every
        best = max(every.values())
        assert every[tuple(genes)] >= 0.98 * best
        missed.append(every[tuple(genes)] < best * (1 - 1e-9))
    assert np.sum(missed) <= 1


def test_exchange_ends_where_no_exchange_helps():
    found, M, rows = problem(3, p=12, n_genes=4)
    genes = exchange(found, np.array([0, 1, 2, 3]))
    value = by_definition(M, found.means, rows, genes)
    for i in range(4):
        for j in set(range(12)) - set(genes):
            assert by_definition(M, found.means, rows, [*np.delete(genes, i), j]) <= value * (1 + 1e-9)


def test_budget_keeps_enough_for_what_is_still_missing():
    """The cheapest gene of class 1 costs 3, so only 2 of the budget may be spent before it is chosen."""
    home, cost = np.array([0] * 8 + [1, 1]), np.array([1.0] * 8 + [3.0, 4.0])
    found, *_ = problem(0, n_genes=6, home=home, least=(0, 1), cost=cost, budget=5.0)
    genes = select_panel(found)
    assert 8 in genes
    assert len(genes) == 3
    assert cost[genes].sum() == 5.0
