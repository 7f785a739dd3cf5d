"""Optimality gaps of the axes of real objectives, against exhaustive search."""

import numpy as np
import pytest

from flda._design.make import make_design
from flda._design.per_effect import effect_penalties
from flda._solve.objective import Objective
from flda._solve.optimality import optimality_gap
from flda._solve.primal import Primal
from flda._solve.refit import Refit
from flda._solve.rows import ScatterRows
from flda._solve.within import Within

from bound_cases import fast_optimum
from oracle import problem

G = 0.2


def refit_of(X, y, effect, objective, penalty=1.0):
    design = make_design(y, interactions=None)  # the interaction is lack of fit
    solver = Primal(Within.from_data(X, design.codes, design.counts, "pooled"), "diagonal")
    chosen = Objective(objective, effect_penalties(design, penalty), 0.3 if objective == "ratio" else 0.0)
    terms = chosen.terms(design)[design.effects[effect]]
    rows = np.vstack([terms.own, terms.against])
    inner = rows @ solver.means @ solver.factor(G).solve(solver.means.T) @ rows.T
    return Refit(terms, solver.means, ScatterRows(solver, G)), inner


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("penalty", [1.0, 0.3])
def test_ratio_with_penalty_and_lack_of_fit(seed, penalty):
    X, y = problem(90, 12, [(2, 4), (3, 2), (2, 2, 2)][seed % 3], seed=seed, condition=[1, 30][seed % 2])
    effect, k, allowed = seed % 2, 3, np.arange(12) != 5
    refit, inner = refit_of(X, y, effect, "ratio", penalty)
    genes = np.random.default_rng(seed).choice(np.flatnonzero(allowed), k, replace=False)
    genes.sort()
    for axis in range(2 if len(refit.own) > 1 else 1):
        W = refit.denominator(np.arange(12))
        best = fast_optimum(W[np.ix_(allowed, allowed)], refit.own[:, allowed], refit.zero[:, allowed], k)
        values, loadings = refit.together(genes, 1)
        gap = optimality_gap(refit, values[0], k, allowed, inner, work=1e10)
        assert values[0] * (1 + gap) == pytest.approx(best, rel=1e-6) or axis  # a second axis may get a small value
        assert values[0] * (1 + gap) >= best * (1 - 1e-9)
        assert optimality_gap(refit, values[0], k, allowed, inner, work=0) >= gap - 1e-9
        refit.append(genes, loadings[:, 0])


def difference_optimum(refit, k):
    import itertools

    best = -np.inf
    M = refit.denominator(np.arange(12))
    for A in map(list, itertools.combinations(range(12), k)):
        root = np.linalg.inv(np.linalg.cholesky(M[np.ix_(A, A)]))
        N = refit.own[:, A].T @ refit.own[:, A] - refit.subtracted[:, A].T @ refit.subtracted[:, A]
        best = max(best, np.linalg.eigvalsh(root @ N @ root.T)[-1])
    return best


@pytest.mark.parametrize("seed", range(6))
def test_difference(seed):
    X, y = problem(90, 12, [(2, 4), (3, 2), (2, 2)][seed % 3], seed=seed)
    refit, inner = refit_of(X, y, seed % 2, "difference")
    best = difference_optimum(refit, 3)
    for share in (1.0, 0.8):  # of the best value, as if a worse support had been found
        gap = optimality_gap(refit, share * best, 3, np.ones(12, bool), inner, work=1e10)
        assert share * best * (1 + gap) >= best * (1 - 1e-9)
        if share == 1:
            assert gap == pytest.approx(0, abs=1e-6)
        else:
            assert gap < 1
    assert np.isnan(optimality_gap(refit, -1.0, 3, np.ones(12, bool), inner, work=1e10))
