"""Axes in the space of the groups: penalties, and effects that are nulled exactly."""

import numpy as np
import pytest
import scipy.linalg as sl

from flda import FLDA
from flda._design.make import make_design
from flda._solve.group_space import GroupSpace
from flda._solve.objective import Terms

from oracle import effect_projector, effect_scatters, problem, shrunken, within_scatter

KINDS = ["ratio", "difference"]


def terms_of(own, others, ratio=False):
    """The objective of contrasts against other contrasts, each with its penalty."""
    finite = [np.sqrt(penalty / len(b)) * b for b, penalty in others if penalty < np.inf]
    nulled = [b / np.sqrt(len(b)) for b, penalty in others if np.isinf(penalty)]
    return Terms(own, own / np.sqrt(len(own)), np.vstack([np.empty((0, own.shape[1])), *finite]), nulled, ratio)


@pytest.mark.parametrize("solver", ["primal", "dual", "iterative"])
@pytest.mark.parametrize("objective", KINDS)
def test_infinite_penalty_equals_the_constrained_problem(solver, objective):
    """Against a dense solve inside the null space of the other effects' scatters; both objectives are the same."""
    n_levels = (2, 4)
    X, y = problem(200, 30, n_levels)
    scatter, means = within_scatter(X, y, "pooled")
    metric = shrunken(scatter, 0.2, "diagonal")
    scatters = effect_scatters(means, n_levels)
    model = FLDA(shrinkage=0.2, penalty=np.inf, solver=solver, objective=objective, reliability=False).fit(X, y)
    for effect, own in scatters.items():
        others = sum(m / np.trace(m) for e, m in scatters.items() if e != effect)
        free = sl.null_space(others, rcond=1e-10)
        df = np.prod([n_levels[j] - 1 for j in effect])
        values = sl.eigh(free.T @ own @ free, free.T @ metric @ free, eigvals_only=True)[::-1][:df]
        rows = (model.axes_["effect"] == ":".join("AB"[j] for j in effect)).to_numpy()
        np.testing.assert_allclose(model.eigenvalues_[rows], values, rtol=1e-8)
        U = model.components_[rows]
        for other in scatters:
            if other != effect:
                np.testing.assert_allclose(effect_projector(other, n_levels) @ means @ U.T, 0, atol=1e-11)


@pytest.mark.parametrize("objective", KINDS)
def test_penalty_per_effect(objective):
    X, y = problem(200, 30, (2, 3))
    model = FLDA(shrinkage=0.2, penalty={"B": np.inf, "A:B": 0}, objective=objective).fit(X, y)
    scores = within_scatter(X, y, "pooled")[1] @ model.components_[0]
    assert np.linalg.norm(effect_projector((1,), (2, 3)) @ scores) < 1e-12
    assert np.linalg.norm(effect_projector((0, 1), (2, 3)) @ scores) > 1e-3


@pytest.mark.parametrize("objective", KINDS)
def test_infinite_penalty_without_room_is_refused(objective):
    X, y = problem(100, 2, (2, 4))
    with pytest.raises(ValueError, match="penalt"):
        FLDA(shrinkage=0.1, penalty=np.inf, objective=objective).fit(X, y)


@pytest.mark.parametrize("ratio", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("objective", KINDS)
def test_nulled_effects_of_very_different_size(ratio, objective):
    """B's part of the group means is larger, or smaller, than the interaction's by the ratio; both are nulled."""
    rng = np.random.default_rng(0)
    n_levels, p = (2, 3), 30
    _, y = problem(60, 1, n_levels)
    design = make_design(y)
    G = sum(
        size * effect_projector(e, n_levels) @ rng.normal(size=(6, p))
        for e, size in {(0,): 1.0, (1,): np.sqrt(ratio), (0, 1): 1 / np.sqrt(ratio)}.items()
    )
    own, b, ab = (design.contrasts[e] for e in design.effects)
    values, w = GroupSpace(G @ G.T).axes(terms_of(own, [(b, np.inf), (ab, np.inf)], objective == "ratio"), 1)
    assert values[0] > 0
    u = G.T @ w[:, 0]
    for contrasts in (b, ab):
        assert np.linalg.norm(contrasts @ G @ u) < 1e-11 * np.linalg.norm(G) * np.linalg.norm(u)
    assert np.linalg.norm(own @ G @ u) > 0.1 * np.linalg.norm(own @ G) * np.linalg.norm(u)


@pytest.mark.parametrize("scale", [1e-13, 1e13])
def test_the_size_of_the_contrasts_of_a_nulled_effect_does_not_matter(scale):
    rng = np.random.default_rng(0)
    _, y = problem(60, 1, (2, 3))
    design = make_design(y)
    G = rng.normal(size=(6, 30))
    G -= G.mean(axis=0)
    own, b, ab = (design.contrasts[e] for e in design.effects)
    space = GroupSpace(G @ G.T)
    expected, w = space.axes(terms_of(own, [(b, np.inf), (ab, np.inf)]), 1)
    values, scaled = space.axes(terms_of(own, [(b, np.inf), (scale * ab, np.inf)]), 1)
    np.testing.assert_allclose(values, expected)
    np.testing.assert_allclose(np.abs(scaled), np.abs(w), rtol=1e-6)


def test_a_nulled_effect_that_the_means_do_not_have_costs_nothing():
    rng = np.random.default_rng(0)
    _, y = problem(60, 1, (2, 3))
    design = make_design(y)
    G = (effect_projector((0,), (2, 3)) + effect_projector((1,), (2, 3))) @ rng.normal(size=(6, 30))
    own, b, ab = (design.contrasts[e] for e in design.effects)
    space = GroupSpace(G @ G.T)
    assert space.rank == 3
    with_null, _ = space.axes(terms_of(own, [(b, np.inf), (ab, np.inf)]), 1)
    without, _ = space.axes(terms_of(own, [(b, np.inf)]), 1)
    np.testing.assert_allclose(with_null, without, rtol=1e-6)


@pytest.mark.parametrize("objective", KINDS)
def test_axes_of_an_effect_are_those_of_the_dense_problem(objective):
    """With metric I, largest first; distinct axes are orthogonal in the denominator."""
    rng = np.random.default_rng(1)
    _, y = problem(60, 1, (2, 4))
    design = make_design(y)
    G = rng.normal(size=(8, 20))
    G -= G.mean(axis=0)
    for effect in design.effects:
        others = [(c, 0.7) for e, c in design.contrasts.items() if e != effect]
        n = design.df(effect)
        terms = terms_of(design.contrasts[effect], others, objective == "ratio")
        values, w = GroupSpace(G @ G.T).axes(terms, n)
        N = G.T @ design.scatter_weights(effect) @ G
        against = sum(0.7 * G.T @ c.T @ c @ G / len(c) for c, _ in others)
        W = np.eye(20)
        if objective == "ratio":
            W = W + against
        else:
            N = N - against
        expected, vectors = sl.eigh(N, W)
        np.testing.assert_allclose(values, expected[::-1][:n], rtol=1e-9)
        U, vectors = G.T @ w, vectors[:, ::-1][:, :n]
        np.testing.assert_allclose(np.sum(U**2, axis=0), 1, atol=1e-9)
        gram = U.T @ W @ U
        np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-9)
        cosines = np.sum(U * vectors, axis=0) / np.linalg.norm(vectors, axis=0)
        np.testing.assert_allclose(np.abs(cosines), 1, atol=1e-8)
