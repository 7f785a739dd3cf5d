"""Axes on given genes against a dense generalised eigenproblem under the same constraints."""

import numpy as np
import pytest
import scipy.linalg as sl

from flda._design.make import make_design
from flda._design.per_effect import effect_penalties
from flda._solve.group_space import NoDirectionError
from flda._solve.objective import Objective, Terms
from flda._solve.refit import Refit
from flda._solve.rows import MatrixRows

from oracle import effect_projector, effect_scatters, effects_of, problem, shrunken, within_scatter

N_LEVELS = (2, 4)
X, Y = problem(200, 40, N_LEVELS)
SCATTER, MEANS = within_scatter(X, Y, "pooled")
M = shrunken(SCATTER, 0.2, "diagonal")
SUPPORTS = [np.array([0, 3, 7, 11, 20, 21, 22, 30, 39]), np.array([1, 3, 8, 12, 20, 25, 30, 31, 38])]


KINDS = ["ratio", "difference"]


def refit_of(effect, penalty, kind, means=MEANS):
    design = make_design(Y)
    terms = Objective(kind, effect_penalties(design, penalty)).terms(design)
    return Refit(terms[design.effects[effect]], means, MatrixRows(M))


def dense(effect, penalty, kind, genes, earlier):
    """The values of ``u' N u / u' W u`` on the genes, orthogonal in W to earlier axes, the axes, and W."""
    scatters = effect_scatters(MEANS, N_LEVELS)
    N, W, nulled = scatters[effects_of(2)[effect]].copy(), M.copy(), []
    for j, e in enumerate(effects_of(2)):
        if j == effect:
            continue
        if np.isinf(penalty):
            nulled += [*(sl.orth(effect_projector(e, N_LEVELS)).T @ MEANS)[:, genes]]
        elif kind == "difference":
            N -= penalty * scatters[e]
        else:
            W += penalty * scatters[e]
    nulled += [u @ W[:, genes] for u in earlier]
    free = sl.null_space(np.array(nulled), rcond=1e-10) if nulled else np.eye(len(genes))
    values, v = sl.eigh(free.T @ N[np.ix_(genes, genes)] @ free, free.T @ W[np.ix_(genes, genes)] @ free)
    return values[::-1], (free @ v)[:, ::-1], W


@pytest.mark.parametrize("effect", [0, 1, 2])
@pytest.mark.parametrize("penalty", [0.0, 1.0, np.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_axes_one_after_the_other(effect, penalty, kind):
    refit = refit_of(effect, penalty, kind)
    earlier = []
    for genes in SUPPORTS[: 1 if effect == 0 else 2]:
        value, loadings = refit.add(genes)
        values, axes, W = dense(effect, penalty, kind, genes, earlier)
        assert value == pytest.approx(values[0], rel=1e-8)
        own = M[np.ix_(genes, genes)]
        assert loadings @ own @ loadings == pytest.approx(1)
        best = axes[:, 0] / np.sqrt(axes[:, 0] @ own @ axes[:, 0])
        assert abs(loadings @ own @ best) == pytest.approx(1, abs=1e-7)
        u = np.zeros(40)
        u[genes] = loadings
        np.testing.assert_allclose([u @ W @ v for v in earlier], 0, atol=1e-9)
        np.testing.assert_allclose(refit.denominator(genes), W[genes], atol=1e-10)
        earlier.append(u)


@pytest.mark.parametrize("penalty", [1.0, np.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_axes_together_on_one_support(penalty, kind):
    refit = refit_of(1, penalty, kind)
    genes, before = SUPPORTS[0], len(refit.H)
    values, loadings = refit.together(genes, 3)
    expected, _, W = dense(1, penalty, kind, genes, [])
    np.testing.assert_allclose(values, expected[:3], rtol=1e-8)
    own = np.ix_(genes, genes)
    np.testing.assert_allclose(np.diag(loadings.T @ M[own] @ loadings), 1, atol=1e-9)
    gram = loadings.T @ W[own] @ loadings
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-9)
    assert len(refit.H) == before  # nothing was added


@pytest.mark.parametrize("kind", KINDS)
def test_a_shift_of_all_groups_does_not_matter(kind):
    found = [refit_of(1, 1.0, kind, means).add(SUPPORTS[0]) for means in (MEANS, MEANS + 9)]
    assert found[0][0] == pytest.approx(found[1][0])
    np.testing.assert_allclose(np.abs(found[0][1]), np.abs(found[1][1]), rtol=1e-6)


def test_a_gene_that_is_zero_in_all_cells_leaves_the_next_axis_to_the_others():
    """The group means span one direction, which the first axis takes; the second is what is left, with the value 0."""
    own = np.array([[0.5, -0.5]])
    terms = Terms(own, own, np.empty((0, 2)), [], ratio=True)
    means = np.array([[1.0, 0.0], [-1.0, 0.0]])
    W = np.diag([2.0, 3.0])
    refit, genes = Refit(terms, means, MatrixRows(W)), np.array([0, 1])
    first, u = refit.add(genes)
    second, v = refit.add(genes)
    assert first == pytest.approx(0.5)  # (1)^2 / 2
    np.testing.assert_allclose(np.abs(u), [1 / np.sqrt(2), 0], atol=1e-12)
    assert second == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(np.abs(v), [0, 1 / np.sqrt(3)], atol=1e-12)
    with pytest.raises(NoDirectionError):
        refit.add(genes)


def test_copies_among_the_genes_without_shrinkage():
    """In a resample one gene may be a copy of another."""
    design = make_design(Y)
    terms = Objective("ratio", effect_penalties(design, 1.0)).terms(design)
    W, means = M.copy(), MEANS.copy()
    W[:, 1], means[:, 1] = W[:, 0], means[:, 0]
    W[1] = W[0]
    refit = Refit(terms[design.effects[0]], means, MatrixRows(W))
    with pytest.raises(ValueError, match="shrinkage"):
        refit.add(np.array([0, 1, 5]))
