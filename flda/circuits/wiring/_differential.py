"""Network differential expression: pairs of genes that meet in connected more than in merely touching neurons."""

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
    n_permutations: int = 999,
    random_state: int = 0,
) -> pd.DataFrame:
    """Pairs of genes (one in the presynaptic, one in the postsynaptic neuron) that go with connections.

    One test per pair of genes, among neurons that touch. The statistic is the sum of ``x_ia y_jb (b_ij - p_ij)``, with
    p the probabilities of :class:`MaximumEntropy`: the score of the gene pair in a logistic model of connections
    with an effect of every neuron, so that a gene of well-connected neurons is not called for their degree alone. Its
    variance allows for the estimated degrees. Two null hypotheses:

    * ``pval_degree``: connections are random given contacts and degrees (normal approximation). Takes connections for
      independent, which those of neurons with the same genes are not: too small when genes follow lineage.
    * ``pval``: genes have nothing to do with who they belong to: whole profiles are exchanged between neurons, contacts
      and connections stay. ``pval_family`` compares with the largest ``|z|`` of any pair, which controls the chance of
      a single false pair; ``pval_adj`` is Benjamini-Hochberg on ``pval``.

    Parameters
    ----------
    X, B, Y, contact, directed
        As in :class:`SpatialConnectomeModel`; B of 0 and 1.
    classes, classes_post
        Class of every presynaptic and, for other neurons, postsynaptic neuron. Neurons then have the mean profile of
        their class, and whole classes exchange profiles: neurons that are alike by descent stay alike.
    n_permutations
        Exchanges of profiles; 0 leaves their columns empty.
    random_state
        Seed.

    Returns
    -------
    DataFrame with a row per pair of genes (unordered when undirected), strongest first: ``gene_pre, gene_post``;
    ``connected, unconnected`` (mean of ``x_a y_b`` over connected and over merely touching pairs);
    ``z, pval, pval_family, pval_adj, pval_degree``.

    Raises
    ------
    ValueError
        As in :class:`SpatialConnectomeModel`, and for connections other than 0 and 1.

    References
    ----------
    Taylor SR et al. Molecular topography of an entire nervous system. Cell 184:4329 (2021) for the question; the score
    test and its nulls are this package's.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = (rng.random((40, 4)) < 0.5).astype(float)
    >>> B = (rng.random((40, 40)) < 0.1 + 0.6 * np.outer(X[:, 0], X[:, 1])).astype(float)
    >>> found = differential_expression(X, B, directed=True, n_permutations=99)
    >>> found[["gene_pre", "gene_post", "pval_family"]].head(1).values.tolist()
    [[0.0, 1.0, 0.01]]
    """
    pairs = check_pairs(X, B, Y, contact, directed=directed)
    same = pairs.Y is pairs.X
    pre, post = np.arange(len(pairs.X)), np.arange(len(pairs.Y))
    if classes is not None:
        pre, post = class_codes(pairs, classes, classes_post)
    own = [class_means(genes, codes) for genes, codes in ((pairs.X, pre), (pairs.Y, post))]
    null = MaximumEntropy.fit(pairs.B, pairs.C, undirected=pairs.undirected)
    excess = np.where(pairs.touching, pairs.B - null.probability, 0.0)
    spread = _Spread(np.where(pairs.touching, null.variance, 0.0), pairs.undirected)
    z = _z(own[0][pre], own[1][post], excess, spread)
    p, q = z.shape
    shown = np.flatnonzero((np.triu(np.ones((p, q))) > 0).ravel()) if pairs.undirected else np.arange(p * q)
    row, col = np.divmod(shown, q)
    strength = np.abs(z.ravel()[shown])

    beyond, beyond_all = np.zeros(len(shown)), np.zeros(len(shown))
    rng = np.random.default_rng(random_state)
    for _ in range(n_permutations):
        left = own[0][rng.permutation(len(own[0]))][pre]
        right = left if same else own[1][rng.permutation(len(own[1]))][post]
        drawn = np.abs(_z(left, right, excess, spread).ravel()[shown])
        beyond += drawn >= strength * (1 - 1e-9)
        beyond_all += drawn.max() >= strength * (1 - 1e-9)
    counted = n_permutations > 0
    pval = (beyond + 1) / (n_permutations + 1) if counted else np.full(len(shown), np.nan)
    means = _means(pairs)
    table = pd.DataFrame(
        {
            "gene_pre": np.asarray(pairs.genes[0])[row],
            "gene_post": np.asarray(pairs.genes[1])[col],
            "connected": means[0].ravel()[shown],
            "unconnected": means[1].ravel()[shown],
            "z": z.ravel()[shown],
            "pval": pval,
            "pval_family": (beyond_all + 1) / (n_permutations + 1) if counted else np.nan,
            "pval_adj": false_discovery_control(pval) if counted else np.nan,
            "pval_degree": 2 * norm.sf(strength),
        }
    )
    return table.iloc[np.argsort(-strength, kind="stable")].reset_index(drop=True)


class _Spread:
    """Variance of sums of ``k_ij b_ij`` over random networks, after what the neurons' degrees explain of k.

    A pair of an undirected network is drawn once and counts in both directions; the sum over ordered pairs then has
    ``k_ij + k_ji`` in the place of ``k_ij``.
    """

    def __init__(self, variance: np.ndarray, undirected: bool) -> None:
        self.v, self.undirected = variance, undirected
        if undirected:  # regressors: indicator of i plus indicator of j (once on the diagonal), over unordered pairs
            diagonal = np.diag(variance.diagonal())
            self.inverse = pinvh(np.diag(variance.sum(axis=1)) + variance - diagonal)
        else:
            blocks = np.block([[np.diag(variance.sum(axis=1)), variance], [variance.T, np.diag(variance.sum(axis=0))]])
            self.inverse = pinvh(blocks)

    def of(self, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
        """``(p, q)`` variances for ``k_ij = x_ia y_jb``."""
        v, diagonal = self.v, self.v.diagonal()[:, None] if self.undirected else 0.0
        right, left = v @ Y, v.T @ X  # sums of v y_b over j, and of v x_a over i
        total = (X**2).T @ v @ Y**2
        for a in range(X.shape[1]):
            x = X[:, [a]]
            if self.undirected:
                both = x * X
                total[a] += np.sum(both * (v @ both), axis=0) - np.sum(diagonal * both**2, axis=0)
                explained = x * right + X * left[:, [a]] - diagonal * both
            else:
                explained = np.vstack([x * right, Y * left[:, [a]]])
            total[a] -= np.sum(explained * (self.inverse @ explained), axis=0)
        return total


def _z(X: np.ndarray, Y: np.ndarray, excess: np.ndarray, spread: _Spread) -> np.ndarray:
    variance = spread.of(X, Y)
    floor = 1e-9 * max(float(variance.max()), 1e-300)  # nothing is left beside the degrees
    return np.divide(X.T @ excess @ Y, np.sqrt(variance), out=np.zeros_like(variance), where=variance > floor)


def _means(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """Mean of ``x_a y_b`` over connected pairs, and over pairs that merely touch."""
    there = pairs.touching & (pairs.B > 0)
    absent = pairs.touching & ~there
    found = [pairs.X.T @ w.astype(float) @ pairs.Y / w.sum() for w in (there, absent)]
    if pairs.undirected:
        found = [(f + f.T) / 2 for f in found]
    return found[0], found[1]
