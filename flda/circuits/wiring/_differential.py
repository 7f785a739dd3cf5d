"""Network differential expression: pairs of genes that are more frequent in connected than in unconnected neurons."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.linalg import pinvh
from scipy.stats import false_discovery_control, norm

from ._nulls import MaximumEntropy
from ._pairs import Pairs, check_pairs, class_codes, class_means


def differential_expression(
    X: Any,
    B: Any,
    *,
    Y: Any = None,
    contact: Any = None,
    directed: bool = False,
    classes: Any = None,
    classes_post: Any = None,
    n_resamples: int = 999,
    random_state: int = 0,
) -> pd.DataFrame:
    """Test which pairs of genes, one in the presynaptic and one in the postsynaptic neuron, go with connections.

    There is one test per pair of genes, among neurons that touch. The statistic is the sum of
    ``x_ia y_jb (b_ij - p_ij)``, where p are the connection probabilities of :class:`MaximumEntropy`. It is the score
    statistic of the gene pair in a logistic model of connections in which every neuron has an effect of its own, so a
    gene of well-connected neurons is not reported for their degree alone. Its variance accounts for the estimation of
    the neurons' effects. There are two null hypotheses:

    * ``pval_degree``: connections are random given contacts and degrees (normal approximation). The test takes
      connections to be independent. Connections of neurons that share genes by descent are not, and these p-values are
      then too small.
    * ``pval``: genes are unrelated to the neurons that express them. Whole profiles are permuted between neurons, while
      contacts and connections stay. ``pval_family`` compares with the largest ``|z|`` of all pairs, which controls the
      probability of any false positive; ``pval_adj`` is ``pval`` adjusted by Benjamini-Hochberg.

    Parameters
    ----------
    X, B, Y, contact, directed
        As in :class:`SpatialConnectomeModel`, with connections of 0 or 1.
    classes, classes_post
        Class of every presynaptic and, if they are other neurons, every postsynaptic neuron. Neurons then have the mean
        profile of their class, and profiles are permuted between whole classes, so that neurons that are alike by
        descent stay alike.
    n_resamples
        Number of permutations of the profiles; with 0, the p-values that need them are NaN.
    random_state
        Seed of the permutations.

    Returns
    -------
    DataFrame
        One row per pair of genes (unordered pairs if undirected), the largest ``|z|`` first, with the columns

        * ``gene_pre, gene_post``: the genes
        * ``connected, unconnected``: mean of ``x_a y_b`` over connected pairs of neurons, and over pairs that touch
          without a connection
        * ``z``: the standardised statistic
        * ``pval, pval_family, pval_adj, pval_degree``: p-values, two-sided

    Raises
    ------
    ValueError
        As in :class:`SpatialConnectomeModel`, or if connections are not 0 or 1.

    References
    ----------
    The question: Taylor SR et al. Molecular topography of an entire nervous system. Cell 184:4329 (2021). The score
    test and its null hypotheses are this package's own.

    Examples
    --------
    >>> import numpy as np
    >>> from flda.circuits.wiring import differential_expression
    >>> rng = np.random.default_rng(0)
    >>> X = (rng.random((40, 4)) < 0.5).astype(float)
    >>> B = (rng.random((40, 40)) < 0.1 + 0.6 * np.outer(X[:, 0], X[:, 1])).astype(float)
    >>> found = differential_expression(X, B, directed=True, n_resamples=99)
    >>> found[["gene_pre", "gene_post", "pval_family"]].head(1).values.tolist()
    [[0.0, 1.0, 0.01]]
    """
    pairs = check_pairs(X, B, Y, contact, directed=directed)
    same = pairs.Y is pairs.X
    pre, post = np.arange(len(pairs.X)), np.arange(len(pairs.Y))
    if classes is not None:
        pre, post = class_codes(pairs, classes, classes_post)
    # without classes every neuron is a class of its own, and the class means are the profiles themselves
    own = [class_means(genes, codes) for genes, codes in ((pairs.X, pre), (pairs.Y, post))]
    null = MaximumEntropy.fit(pairs.B, pairs.C, undirected=pairs.undirected)
    excess = np.where(pairs.touching, pairs.B - null.probability, 0.0)
    spread = _Spread(np.where(pairs.touching, null.variance, 0.0), pairs.undirected)
    z = _z(own[0][pre], own[1][post], excess, spread)
    p, q = z.shape
    shown = np.flatnonzero((np.triu(np.ones((p, q))) > 0).ravel()) if pairs.undirected else np.arange(p * q)
    row, col = np.divmod(shown, q)
    strength = np.abs(z.ravel()[shown])

    # a permuted statistic counts as larger if it is equal up to rounding; the observed order counts as one permutation
    beyond, beyond_all = np.zeros(len(shown)), np.zeros(len(shown))
    rng = np.random.default_rng(random_state)
    for _ in range(n_resamples):
        left = own[0][rng.permutation(len(own[0]))][pre]
        right = left if same else own[1][rng.permutation(len(own[1]))][post]
        drawn = np.abs(_z(left, right, excess, spread).ravel()[shown])
        beyond += drawn >= strength * (1 - 1e-9)
        beyond_all += drawn.max() >= strength * (1 - 1e-9)
    permuted = n_resamples > 0
    pval = (beyond + 1) / (n_resamples + 1) if permuted else np.full(len(shown), np.nan)
    means = _means(pairs)
    table = pd.DataFrame(
        {
            "gene_pre": np.asarray(pairs.genes[0])[row],
            "gene_post": np.asarray(pairs.genes[1])[col],
            "connected": means[0].ravel()[shown],
            "unconnected": means[1].ravel()[shown],
            "z": z.ravel()[shown],
            "pval": pval,
            "pval_family": (beyond_all + 1) / (n_resamples + 1) if permuted else np.nan,
            "pval_adj": false_discovery_control(pval) if permuted else np.nan,
            "pval_degree": 2 * norm.sf(strength),
        }
    )
    return table.iloc[np.argsort(-strength, kind="stable")].reset_index(drop=True)


class _Spread:
    """Variance of the statistics ``sum k_ij b_ij`` over random networks, given the estimated effects of the neurons.

    It is the variance of the score in a logistic regression with nuisance parameters: with D the regressors of the
    neurons' effects and V the variances of the connections, ``k'Vk - k'VD (D'VD)^-1 D'Vk``.

    A pair of an undirected network is drawn once and counts in both directions; in the sum over unordered pairs,
    ``k_ij + k_ji`` replaces ``k_ij``.
    """

    def __init__(self, variance: np.ndarray, undirected: bool) -> None:
        self.v, self.undirected = variance, undirected
        # D'VD: neuron i is a regressor of the pairs (i, j), so the diagonal has the sums of their variances, and the
        # entry (i, j) is the variance of the one pair that both neurons share
        if undirected:
            diagonal = np.diag(variance.diagonal())
            self.inverse = pinvh(np.diag(variance.sum(axis=1)) + variance - diagonal)
        else:
            blocks = np.block([[np.diag(variance.sum(axis=1)), variance], [variance.T, np.diag(variance.sum(axis=0))]])
            self.inverse = pinvh(blocks)

    def of(self, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
        """Variances for ``k_ij = x_ia y_jb``, ``(p, q)``."""
        v, diagonal = self.v, self.v.diagonal()[:, None] if self.undirected else 0.0
        right, left = v @ Y, v.T @ X  # sums of v y_b over j, and of v x_a over i
        total = (X**2).T @ v @ Y**2  # k'Vk of ordered pairs
        for a in range(X.shape[1]):
            x = X[:, [a]]
            # `explained` is D'Vk for all b at once
            if self.undirected:
                both = x * X
                # the cross term of (k_ij + k_ji)^2, and the diagonal, which counts once
                total[a] += np.sum(both * (v @ both), axis=0) - np.sum(diagonal * both**2, axis=0)
                explained = x * right + X * left[:, [a]] - diagonal * both
            else:
                explained = np.vstack([x * right, Y * left[:, [a]]])
            # what the neurons' effects explain of k has no variance once these effects are estimated
            total[a] -= np.sum(explained * (self.inverse @ explained), axis=0)
        return total


def _z(X: np.ndarray, Y: np.ndarray, excess: np.ndarray, spread: _Spread) -> np.ndarray:
    """Standardised statistic of every pair of genes, ``(p, q)``."""
    variance = spread.of(X, Y)
    # a pair of genes that the neurons' effects explain completely has no variance left, and z = 0
    floor = 1e-9 * max(float(variance.max()), 1e-300)
    return np.divide(X.T @ excess @ Y, np.sqrt(variance), out=np.zeros_like(variance), where=variance > floor)


def _means(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """Mean of ``x_a y_b`` over connected pairs, and over pairs that touch without a connection."""
    connected = pairs.touching & (pairs.B > 0)
    unconnected = pairs.touching & ~connected
    found = [pairs.X.T @ w.astype(float) @ pairs.Y / w.sum() for w in (connected, unconnected)]
    if pairs.undirected:
        found = [(f + f.T) / 2 for f in found]
    return found[0], found[1]
