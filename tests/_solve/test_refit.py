"""Axes on given genes against a dense generalised eigenproblem under the same constraints."""

import numpy as np
import pytest
import scipy.linalg as sl

from flda._design.design import effect_penalties, make_design
from flda._solve.refit import Refit

from oracle import effect_projector, effect_scatters, effects_of, problem, shrunken, within_scatter

N_LEVELS = (2, 4)
X, Y = problem(200, 40, N_LEVELS)
SCATTER, MEANS = within_scatter(X, Y, "pooled")
M = shrunken(SCATTER, 0.2, "diagonal")
SUPPORTS = [np.array([0, 3, 7, 11, 20, 21, 22, 30, 39]), np.array([1, 3, 8, 12, 20, 25, 30, 31, 38])]


def dense(effect, penalty, genes, earlier):
    """The largest value of ``u' N u`` with ``u' M u = 1`` on the genes, orthogonal to earlier axes, and the axis."""
    scatters = effect_scatters(MEANS, N_LEVELS)
    N, nulled = scatters[effects_of(2)[effect]].copy(), [u @ M[:, genes] for u in earlier]
    for j, e in enumerate(effects_of(2)):
        if j == effect:
            continue
        if np.isinf(penalty):
            nulled += [*(sl.orth(effect_projector(e, N_LEVELS)).T @ MEANS)[:, genes]]
        else:
            N -= penalty * scatters[e]
    free = sl.null_space(np.array(nulled), rcond=1e-10) if nulled else np.eye(len(genes))
    values, v = sl.eigh(free.T @ N[np.ix_(genes, genes)] @ free, free.T @ M[np.ix_(genes, genes)] @ free)
    return values[::-1], (free @ v)[:, ::-1]


@pytest.mark.parametrize("effect", [0, 1, 2])
@pytest.mark.parametrize("penalty", [0.0, 1.0, np.inf])
def test_axes_one_after_the_other(effect, penalty):
    design = make_design(Y)
    refit = Refit(design.effects[effect], design, effect_penalties(design, penalty), MEANS, M.__getitem__)
    earlier = []
    for genes in SUPPORTS[: min(2, design.df(design.effects[effect]))]:
        value, loadings = refit.add(genes)
        values, axes = dense(effect, penalty, genes, earlier)
        assert value == pytest.approx(values[0], rel=1e-8)
        own = M[np.ix_(genes, genes)]
        assert loadings @ own @ loadings == pytest.approx(1)
        assert abs(loadings @ own @ axes[:, 0]) == pytest.approx(1, abs=1e-7)
        u = np.zeros(40)
        u[genes] = loadings
        np.testing.assert_allclose([u @ M @ v for v in earlier], 0, atol=1e-9)
        earlier.append(u)


@pytest.mark.parametrize("penalty", [1.0, np.inf])
def test_axes_together_on_one_support(penalty):
    design = make_design(Y)
    refit = Refit(design.effects[1], design, effect_penalties(design, penalty), MEANS, M.__getitem__)
    genes = SUPPORTS[0]
    values, loadings = refit.together(genes, 3)
    expected, _ = dense(1, penalty, genes, [])
    np.testing.assert_allclose(values, expected[:3], rtol=1e-8)
    np.testing.assert_allclose(loadings.T @ M[np.ix_(genes, genes)] @ loadings, np.eye(3), atol=1e-9)
    assert len(refit.H) == 7  # nothing was added


def test_a_shift_of_all_groups_does_not_matter():
    design = make_design(Y)
    penalties = effect_penalties(design, 1.0)
    found = [Refit(design.effects[1], design, penalties, G, M.__getitem__).add(SUPPORTS[0]) for G in (MEANS, MEANS + 9)]
    assert found[0][0] == pytest.approx(found[1][0])
    np.testing.assert_allclose(np.abs(found[0][1]), np.abs(found[1][1]), rtol=1e-6)
