"""Random problems of one sparse axis, and their optimum by exhaustive search."""

import itertools

import numpy as np
import scipy.linalg as sl

from flda._solve.relaxation import Choice, Relaxable


class Matrix:
    """A denominator in memory with a known ridge."""

    def __init__(self, W, ridge):
        self.W, self.ridge, self.diagonal = W, ridge, np.diag(W).copy()

    def __call__(self, genes):
        return self.W[genes]

    def block(self, genes):
        return self.W[np.ix_(genes, genes)]


def random_case(seed, largest=20):
    """W, its ridge, rows H of an effect with 1 to 3 df, rows Z on which the axis is zero, and k."""
    rng = np.random.default_rng(seed)
    p, k = int(rng.integers(8, largest + 1)), int(rng.integers(1, 6))
    n, common = int(rng.integers(p + 5, 80)), [0, 2][seed % 2]
    X = rng.normal(size=(n, p)) * rng.uniform(0.3, 2, p) + common * rng.normal(size=(n, 2)) @ rng.normal(size=(2, p))
    scatter, g = X.T @ X / n, rng.choice([0, 0.05, 0.3, 0.8])
    ridge = g * np.diag(scatter)
    against = rng.normal(size=(3, p)) * rng.uniform(0, 2)  # other effects with their penalties, and lack of fit
    W = (1 - g) * scatter + np.diag(ridge) + against.T @ against
    n_zero = min([0, 0, 1, 2][(seed // 3) % 4], k - 1)
    return W, ridge, rng.normal(size=(1 + seed % 3, p)), rng.normal(size=(n_zero, p)), k


def optimum(W, H, Z, k):
    """The largest ``|H u|^2 / u' W u`` over supports of k genes with ``Z u = 0``, support by support."""
    best = -np.inf
    for support in map(list, itertools.combinations(range(len(W)), k)):
        basis = sl.null_space(Z[:, support]) if len(Z) else np.eye(k)
        h = H[:, support] @ basis
        w = basis.T @ W[np.ix_(support, support)] @ basis
        best = max(best, np.linalg.eigvalsh(h @ np.linalg.solve(w, h.T))[-1])
    return best


def fast_optimum(W, H, Z, k):
    """The same for all supports at once."""
    supports = np.array(list(itertools.combinations(range(len(W)), k)))
    w = W[supports[:, :, None], supports[:, None, :]]
    h, z = H[:, supports].transpose(1, 0, 2), Z[:, supports].transpose(1, 0, 2)
    X = np.linalg.solve(w, h.transpose(0, 2, 1))
    K = h @ X
    if len(Z):
        cross = z @ X
        inner = z @ np.linalg.solve(w, z.transpose(0, 2, 1))
        K = K - cross.transpose(0, 2, 1) @ np.linalg.solve(inner, cross)
    return np.linalg.eigvalsh(K)[:, -1].max()


def relaxable(W, D, H, Z):
    """The problem of :mod:`flda._solve.relaxation` for a matrix in memory."""
    return Relaxable(lambda genes: W[:, genes], np.diag(W), D, H, Z)


def everything(p, k):
    """All supports of k out of p genes."""
    return Choice(np.empty(0, dtype=int), np.arange(p), k)
