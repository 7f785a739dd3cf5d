"""Duals bound every support, whatever they are made from."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flda._solve.cones import halve, largest, orthants
from flda._solve.relaxation import Choice, Dual, capped, relax

from bound_cases import everything, random_case, relaxable


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 1), st.floats(0, 3))
def test_any_dual_bounds_any_support(seed, share, size):
    """U is drawn at random: the bound needs no optimality."""
    W, _, H, _, k = random_case(seed, 12)
    rng = np.random.default_rng(seed)
    D = share * np.linalg.eigvalsh(W)[0] * np.ones(len(W))
    U, W1 = size * rng.normal(size=(len(W), len(H))), W - np.diag(D)
    dual = Dual(U.T @ W1 @ U, (H.T - W1 @ U) / np.sqrt(D)[:, None], np.zeros(len(W)), np.zeros(len(W)))
    w = rng.normal(size=(len(H), 5))
    w /= np.linalg.norm(w, axis=0)
    bound = dual.bound(w, everything(len(W), k))
    for _ in range(30):
        A = rng.choice(len(W), k, replace=False)
        h = H[:, A]
        assert np.all(np.sum(w * (h @ np.linalg.solve(W[np.ix_(A, A)], h.T) @ w), axis=0) <= bound * (1 + 1e-9))


@pytest.mark.parametrize("seed", range(6))
def test_bounds_with_and_without_a_gene(seed):
    """Against taking the gene into the support, or out of the free genes."""
    W, _, H, Z, k = random_case(seed, 12)
    D = 0.9 * np.linalg.eigvalsh(W)[0] * np.ones(len(W))
    w = np.eye(len(H))[:, :1]
    choice = Choice(np.array([2]), np.delete(np.arange(len(W)), 2), k)
    dual = relax(relaxable(W, D, H, Z), w[:, 0], choice)
    within, without = dual.with_and_without(w, choice)
    for i, gene in enumerate(choice.free):
        np.testing.assert_allclose(within[i], dual.bound(w, choice.with_gene(gene)))
        np.testing.assert_allclose(without[i], dual.bound(w, choice.without_gene(gene)))


@pytest.mark.parametrize("seed", [0, 3, 6, 9, 12])
def test_the_relaxation_reaches_its_optimum(seed):
    """Bound and primal value of the concave problem meet: no z is much better."""
    W, _, H, Z, k = random_case(seed, 14)
    p, D = len(W), np.linalg.eigvalsh(W)[0] * 0.99 * np.ones(len(W))
    dual = relax(relaxable(W, D, H, Z[:0]), np.ones(1), everything(p, k), rounds=500, tolerance=1e-6)
    bound = dual.bound(np.ones((1, 1)), everything(p, k))[0]
    rng, best = np.random.default_rng(seed), 0.0
    for z in [dual.z, *(capped(rng.exponential(size=p) ** 2, k)[0] for _ in range(50))]:
        A = z > 1e-9
        S = W[np.ix_(A, A)] + np.diag(D[A] * (1 / z[A] - 1))
        best = max(best, H[0, A] @ np.linalg.solve(S, H[0, A]))
    assert best <= bound * (1 + 1e-9)
    assert best >= bound * (1 - 1e-3)


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=20), st.integers(1, 8))
def test_capped_shares(weights, k):
    z, tau = capped(np.array(weights), k)
    assert z.max() <= 1
    assert z.sum() == pytest.approx(min(k, len(z)))
    if len(z) > k:
        np.testing.assert_allclose(z, np.minimum(1, np.array(weights) / tau), rtol=1e-9)


@pytest.mark.parametrize("d", [1, 2, 3, 4])
def test_cones_cover_all_directions_and_bound_a_norm(d):
    rng = np.random.default_rng(d)
    cones = orthants(np.linalg.qr(rng.normal(size=(d, d)))[0])
    for _ in range(4 if d > 1 else 0):
        cones = halve(cones)[0]
    A = rng.normal(size=(6, d, d))

    def squared(w):  # a maximum of squared seminorms
        return np.max([np.sum((a @ w) ** 2, axis=0) for a in A], axis=0)

    bounds = largest(cones, squared(np.swapaxes(cones, 0, 1).reshape(d, -1)).reshape(len(cones), d))
    w = rng.normal(size=(d, 2000))
    w /= np.linalg.norm(w, axis=0)
    held = np.zeros(2000, dtype=bool)
    for sign, (cone, bound) in itertools.product((1, -1), zip(cones, bounds, strict=True)):
        inside = (np.linalg.solve(cone, sign * w) >= -1e-9).all(axis=0)
        assert np.all(squared(w[:, inside]) <= bound * (1 + 1e-9))
        held |= inside
    assert held.all()
