"""Expected connections of networks with given degrees, for pairs in contact as a list."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.special import expit

from ._nulls import MaximumEntropy, newton
from ._pairs import Pairs

MAX_DENSE = 1500  # neurons on both sides up to which linear systems are solved directly


def redrawn(pairs: Pairs, probability: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Connections of one random network, 0 or 1, in the order of the pairs."""
    n, m = pairs.shape
    # small networks are drawn as matrices, like those of MaximumEntropy
    uniform = rng.random((n, m))[pairs.i, pairs.j] if n + m <= MAX_DENSE else rng.random(len(pairs.i))
    drawn = (uniform < probability).astype(float)
    return np.where(pairs.once, drawn, drawn[pairs.mirror]) if pairs.undirected else drawn


def expected_connections(net: Pairs) -> np.ndarray:
    """Probability of every pair under :class:`MaximumEntropy`, in the order of the network's pairs."""
    n, m = len(net.X), len(net.Y)
    if n + m <= MAX_DENSE:
        B, C = np.zeros((n, m)), np.zeros((n, m))
        B[net.i, net.j], C[net.i, net.j] = net.b, 1.0
        return MaximumEntropy.fit(B, C, undirected=net.undirected).probability[net.i, net.j]
    if not np.isin(net.b, (0, 1)).all():
        raise ValueError("random networks with given degrees need connections of 0 or 1; threshold B first.")
    i, j = net.i, net.j + (0 if net.undirected else n)  # an undirected neuron has one effect, a directed one two
    size = n if net.undirected else n + m
    once = i != j  # a connection to itself enters the sum of its neuron once
    free, p = np.ones(len(i), dtype=bool), net.b.astype(float)
    while True:  # neurons with no connection, or connected to all contacts, have infinite effects and are fixed
        have, could = (_sums(i, j, w, once, size, net.undirected) for w in (free * net.b, free.astype(float)))
        fixed = (have == 0) | (have == could)
        stay = free & ~fixed[i] & ~fixed[j]
        if stay.sum() == free.sum():
            break
        free = stay
    if free.any():
        i, j, once, b = i[free], j[free], once[free], net.b[free]
        p[free] = _fitted(i, j, once, b, size, net.undirected)
    return p


def _sums(i: np.ndarray, j: np.ndarray, w: np.ndarray, once: np.ndarray, size: int, undirected: bool) -> np.ndarray:
    """Sum of the weights of every neuron's pairs; the pairs of an undirected network are listed in both directions."""
    total = np.bincount(i, w, minlength=size)
    return total if undirected else total + np.bincount(j, w, minlength=size)


def _fitted(i: np.ndarray, j: np.ndarray, once: np.ndarray, b: np.ndarray, size: int, undirected: bool) -> np.ndarray:
    """Probabilities of the pairs; conjugate gradients on the sparse Hessian solve every step of Newton's method."""
    degree = _sums(i, j, b, once, size, undirected)

    def at(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        p = expit(t[i] + np.where(once, t[j], 0.0))
        return p, degree - _sums(i, j, p, once, size, undirected)

    def step(p: np.ndarray, gap: np.ndarray) -> np.ndarray:
        v = p * (1 - p)
        M = effects_matrix(i[once], j[once], v[once], _sums(i, j, v, once, size, undirected), undirected)
        return solve_effects(M, gap[:, None], 1e-8)[:, 0]

    return newton(at, step, degree)


def effects_matrix(i: np.ndarray, j: np.ndarray, v: np.ndarray, diagonal: np.ndarray, undirected: bool) -> sp.csr_array:
    """``D'VD``, D the regressors of the neurons' effects: sums of variances, and those that two neurons share."""
    size = len(diagonal)
    off = sp.csr_array((v, (i, j)), (size, size))
    return sp.csr_array((off if undirected else off + off.T) + sp.diags_array(diagonal))


def solve_effects(M: sp.csr_array, R: np.ndarray, tol: float) -> np.ndarray:
    """Solutions of ``M S = R`` column by column, by conjugate gradients scaled with the diagonal of M.

    M is singular in a directed network (a constant moves from rows to columns), but R has no part in its null space.
    """
    d = M.diagonal()
    scale = np.divide(1.0, np.sqrt(d), out=np.zeros_like(d), where=d > 0)
    r = R * scale[:, None]
    x, direction, square = np.zeros_like(r), r.copy(), np.sum(r**2, axis=0)
    goal = tol**2 * square
    for _ in range(500):
        if (square <= goal).all():
            break
        image = scale[:, None] * (M @ (scale[:, None] * direction))
        curvature = np.sum(direction * image, axis=0)
        a = np.divide(square, curvature, out=np.zeros_like(square), where=curvature > 0)
        x += a * direction
        r -= a * image
        new = np.sum(r**2, axis=0)
        direction = r + np.divide(new, square, out=np.zeros_like(new), where=square > 0) * direction
        square = new
    return x * scale[:, None]
