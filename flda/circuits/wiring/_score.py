"""Score statistics of pairs of genes in a logistic model of connections with an effect of every neuron."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.linalg import pinvh

from ._network import MAX_DENSE, effects_matrix, solve_effects

CG_TOLERANCE = 1e-6  # of the residual; the error of the variance is its square


def score_statistics(X: np.ndarray, Y: np.ndarray, excess: Any, variance: Any, undirected: bool) -> np.ndarray:
    """Standardised statistic ``sum x_ia y_jb (b_ij - p_ij)`` of every pair of genes, ``(p, q)``.

    Its variance is that of the score in a logistic regression with nuisance parameters: with D the regressors of the
    neurons' effects and V the variances of the connections, ``k'Vk - k'VD (D'VD)^-1 D'Vk``.

    A pair of an undirected network is drawn once and counts in both directions; in the sum over unordered pairs,
    ``k_ij + k_ji`` replaces ``k_ij``.
    """
    v = variance
    sums, diagonal = np.asarray(v.sum(axis=1)).ravel(), v.diagonal()[:, None]
    explain = _explained(v, sums, undirected)
    right, left = v @ Y, v.T @ X  # sums of v y_b over j, and of v x_a over i
    total = (X**2).T @ (v @ Y**2)  # k'Vk of ordered pairs
    for a in range(X.shape[1]):
        x = X[:, [a]]
        # `effects` is D'Vk for all b at once
        if undirected:
            both = x * X
            # the cross term of (k_ij + k_ji)^2, and the diagonal, which counts once
            total[a] += np.sum(both * (v @ both), axis=0) - np.sum(diagonal * both**2, axis=0)
            effects = x * right + X * left[:, [a]] - diagonal * both
        else:
            effects = np.vstack([x * right, Y * left[:, [a]]])
        # what the neurons' effects explain of k has no variance once these effects are estimated
        total[a] -= explain(effects)
    return _divide(X.T @ (excess @ Y), total)


def _explained(v: Any, sums: np.ndarray, undirected: bool):
    """Function of R that returns ``diag(R' (D'VD)^-1 R)``."""
    entries = sp.coo_array(v)
    if undirected:
        off = entries.row != entries.col
        M = effects_matrix(entries.row[off], entries.col[off], entries.data[off], sums, True)
    else:
        columns = np.asarray(v.sum(axis=0)).ravel()
        M = effects_matrix(entries.row, entries.col + v.shape[0], entries.data, np.concatenate([sums, columns]), False)
    if M.shape[0] <= MAX_DENSE:
        inverse = pinvh(M.toarray())
        return lambda R: np.sum(R * (inverse @ R), axis=0)
    return lambda R: np.sum(R * solve_effects(M, R, CG_TOLERANCE), axis=0)


class CentredStatistics:
    """The same scores over the standard deviation for centred profiles, which costs no solution of equations.

    The sums of ``b - p`` over the pairs of any neuron are zero, so centring the genes does not change the scores. With
    genes centred by the neurons' sums of variances, the variance of a score is about ``sum v_ij x_ia^2 y_jb^2``; it is
    exact if ``v_ij`` is a product of a factor for i and one for j. In an undirected network the covariance of the two
    directions is added, with v in that product form.
    """

    def __init__(self, excess: Any, variance: Any, undirected: bool) -> None:
        self.excess, self.variance, self.undirected = excess, variance, undirected
        self.rows, self.columns = (np.asarray(variance.sum(axis=k)).ravel() for k in (1, 0))

    def of(self, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
        """Statistics of several orders of the profiles X ``(P, n, p)`` and Y ``(P, m, q)``, ``(P, p, q)``."""
        total = max(float(self.rows.sum()), np.finfo(float).tiny)
        X = X - (self.rows @ X)[:, None] / total
        Y = Y - (self.columns @ Y)[:, None] / total
        flat = np.moveaxis(Y, 0, 1).reshape(Y.shape[1], -1)  # (m, P q): one product for all orders
        scores, spread = (
            np.matmul(left.transpose(0, 2, 1), np.moveaxis((matrix @ right).reshape(-1, len(Y), Y.shape[2]), 1, 0))
            for left, matrix, right in ((X, self.excess, flat), (X**2, self.variance, flat**2))
        )
        if self.undirected:
            spread = spread + np.matmul((X * self.rows[:, None]).transpose(0, 2, 1), X) ** 2 / total
        return np.stack([_divide(s, v) for s, v in zip(scores, spread, strict=True)])


def _divide(score: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Scores over their standard deviations; a pair that the neurons' effects explain has no variance, and z = 0."""
    floor = 1e-9 * max(float(variance.max()), 1e-300)
    return np.divide(score, np.sqrt(np.maximum(variance, 0)), out=np.zeros_like(variance), where=variance > floor)
