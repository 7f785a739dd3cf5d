"""Network differential expression: pairs of genes that are more frequent in connected than in unconnected neurons."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control, norm

from ..._progress import progress
from ._network import expected_connections
from ._pairs import Pairs, check_pairs, class_codes, class_means
from ._score import CentredStatistics, score_statistics

BLOCK = 2e6  # entries of the permuted profiles that are held at once


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
      contacts and connections stay. The variance of ``z`` would have to be solved for in every permutation, so here the
      score is divided by the standard deviation for centred profiles, ``sum_ij v_ij x_ia^2 y_jb^2`` with
      ``v = p (1 - p)``. The test is exact, because the same statistic is permuted; the two are equal if ``v`` is a
      product of a factor for i and one for j. ``pval_family`` compares with the largest statistic of all pairs, which
      controls the probability of any false positive; ``pval_adj`` is ``pval`` adjusted by Benjamini-Hochberg.

    Parameters
    ----------
    X, B, Y, contact, directed
        As in :class:`SpatialConnectomeModel`, with connections of 0 or 1. ``B`` and ``contact`` may be sparse matrices:
        time and memory then grow with the number of pairs in contact, not with the square of the number of neurons.
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
    net = check_pairs(X, B, Y, contact, directed=directed)
    pre, post = np.arange(len(net.X)), np.arange(len(net.Y))
    if classes is not None:
        pre, post = class_codes(net, classes, classes_post)
    # without classes every neuron is a class of its own, and the class means are the profiles themselves
    own = [class_means(genes, codes) for genes, codes in ((net.X, pre), (net.Y, post))]
    probability = expected_connections(net)
    excess, variance = net.matrix(net.b - probability), net.matrix(probability * (1 - probability))
    z = score_statistics(own[0][pre], own[1][post], excess, variance, net.undirected)
    p, q = z.shape
    shown = np.flatnonzero((np.triu(np.ones((p, q))) > 0).ravel()) if net.undirected else np.arange(p * q)
    row, col = np.divmod(shown, q)
    strength = np.abs(z.ravel()[shown])

    # a permuted statistic counts as larger if it is equal up to rounding; the observed order counts as one permutation
    centred = CentredStatistics(excess, variance, net.undirected)
    observed = np.abs(centred.of(own[0][pre][None], own[1][post][None])[0].ravel()[shown])
    beyond, beyond_all = np.zeros(len(shown)), np.zeros(len(shown))
    rng = np.random.default_rng(random_state)
    step = max(1, int(BLOCK // (max(len(pre), len(post)) * max(p, q))))
    for start in progress(range(0, n_resamples, step), desc="permutations"):
        n = min(step, n_resamples - start)
        orders = [
            (rng.permutation(len(own[0])), rng.permutation(len(own[1])) if not net.same else None) for _ in range(n)
        ]
        left = np.stack([own[0][o][pre] for o, _ in orders])
        right = left if net.same else np.stack([own[1][o][post] for _, o in orders])
        drawn = np.abs(centred.of(left, right).reshape(n, -1)[:, shown])
        beyond += (drawn >= observed * (1 - 1e-9)).sum(axis=0)
        beyond_all += (drawn.max(axis=1)[:, None] >= observed * (1 - 1e-9)).sum(axis=0)
    permuted = n_resamples > 0
    pval = (beyond + 1) / (n_resamples + 1) if permuted else np.full(len(shown), np.nan)
    means = _means(net)
    table = pd.DataFrame(
        {
            "gene_pre": np.asarray(net.genes[0])[row],
            "gene_post": np.asarray(net.genes[1])[col],
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


def _means(net: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """Mean of ``x_a y_b`` over connected pairs, and over pairs that touch without a connection."""
    connected = net.b > 0
    found = [net.X.T @ (net.matrix(w.astype(float)) @ net.Y) / max(w.sum(), 1) for w in (connected, ~connected)]
    if net.undirected:
        found = [(f + f.T) / 2 for f in found]
    return found[0], found[1]
