"""The bound of the best k genes against exhaustive search."""

import numpy as np
import pandas as pd
import pytest

from flda import SparseFLDA
from flda._solve.bound import best_bound

from bound_cases import Matrix, fast_optimum, optimum, random_case


def bound_of(case, value, inner=True, **limits):
    W, ridge, H, Z, k = case
    K = H @ np.linalg.solve(W, H.T) if inner else None
    return best_bound(Matrix(W, ridge), H, Z, np.ones(len(W), bool), k, value, K=K, **limits)


def check_cases(seeds, largest):
    """The bound equals the optimum without a limit, and is never below it with one."""
    for seed in seeds:
        case = random_case(seed, largest)
        best = fast_optimum(case[0], *case[2:])
        found = best if seed % 2 else 0.9 * best  # a search that found the best support, and one that did not
        assert bound_of(case, found, inner=seed % 3 > 0, work=1e11).bound == pytest.approx(best, rel=1e-8)
        cut = bound_of(case, found, inner=seed % 3 > 0, work=0).bound
        assert cut >= best * (1 - 1e-9)


def test_the_two_oracles_agree():
    for seed in range(6):
        W, _, H, Z, k = random_case(seed, 9)
        assert fast_optimum(W, H, Z, k) == pytest.approx(optimum(W, H, Z, k), rel=1e-9)


@pytest.mark.parametrize("block", range(8))
def test_bound_is_exact_on_few_genes(block):
    """48 problems: 1 to 3 degrees of freedom, correlated genes, zero rows, singular ridges."""
    check_cases(range(1000 + 6 * block, 1006 + 6 * block), 13)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(0, 20, 4))  # all 20 have passed; each takes half a minute
def test_bound_is_exact_on_up_to_20_genes(block):
    check_cases(range(10 * block, 10 * block + 10), 20)


@pytest.mark.parametrize("seed", [0, 1, 2, 4, 5, 7])
def test_bound_is_valid_and_falls_wherever_the_search_is_cut(seed):
    case = random_case(seed, 15)
    best = fast_optimum(case[0], *case[2:])
    bounds = [bound_of(case, 0.95 * best, work=1e11, nodes=n).bound for n in (0, 1, 2, 3, 5, 8, 13, 21, 10**6)]
    assert min(bounds) >= best * (1 - 1e-9)
    assert np.all(np.diff(bounds) <= 1e-9 * best)
    assert bounds[-1] == pytest.approx(best, rel=1e-8)


def test_genes_that_are_not_allowed_do_not_count():
    W, ridge, H, Z, k = random_case(3, 14)
    allowed = np.arange(len(W)) % 3 > 0
    best = fast_optimum(W[np.ix_(allowed, allowed)], H[:, allowed], Z[:, allowed], k)
    found = best_bound(Matrix(W, ridge), H, Z, allowed, k, best, work=1e11)
    assert found.bound == pytest.approx(best, rel=1e-8)


def test_result_depends_on_nothing_but_the_problem():
    case = random_case(6)
    first, second = (bound_of(case, 1.0, work=1e7) for _ in range(2))
    assert (first.bound, first.nodes) == (second.bound, second.nodes)


def test_many_genes_are_left_out_and_the_bound_closes():
    """600 genes, ten of which carry the effect: few stay after the first bound, and the greedy support is the best."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 600)) + rng.normal(size=(300, 3)) @ rng.normal(size=(3, 600)) / 2
    scatter = X.T @ X / 300
    ridge = 0.8 * np.diag(scatter)
    W, H = 0.2 * scatter + np.diag(ridge), 0.05 * rng.normal(size=(1, 600))
    H[0, :10] = np.linspace(1, 2, 10)
    support = np.arange(10)
    value = H[0, support] @ np.linalg.solve(W[np.ix_(support, support)], H[0, support])
    found = best_bound(Matrix(W, ridge), H, H[:0], np.ones(600, bool), 10, value, work=1e9)
    assert found.genes < 50
    assert value * (1 - 1e-9) <= found.bound <= value * 1.02


def test_too_many_degrees_of_freedom_for_all_directions():
    """The orthants of 30 dimensions are a billion cones, so there is no bound; all axes still get their gap."""
    rng = np.random.default_rng(0)
    W = np.eye(50) + 0.1
    found = best_bound(
        Matrix(W, np.full(50, 0.5)), rng.normal(size=(30, 50)), np.empty((0, 50)), np.ones(50, bool), 5, 1
    )
    assert found.bound == np.inf
    levels = np.repeat(np.arange(31), 3)
    X = rng.normal(size=(93, 50)) + rng.normal(size=(31, 50))[levels]
    model = SparseFLDA(n_genes=5, n_components=2, shrinkage=0.2, gap_effort=0.05).fit(
        X, pd.DataFrame({"type": levels.astype(str)})
    )
    assert model.optimality_gap_.notna().all()
    assert (model.optimality_gap_ >= 0).all()
