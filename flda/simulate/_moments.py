"""Dispersion, spread between groups and correlated variation of counts, estimated by moments. Arrays in, arrays out.

Notation: y_i is the count of a gene in cell i and s_i the library size of the cell over the mean of all cells. A *unit*
is the cells of one group, or of one donor in one group; O_u and S_u are its sums of y and s. The expected count of a
cell is ``m_i = s_i O_u / S_u``, and the model's variance of y_i is ``V_i = m_i + phi m_i^2`` (negative binomial).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.optimize import nnls
from sklearn.utils.extmath import randomized_svd

from .._data import arrays
from ._gamma import gaussian_part

MAX_GENES, MAX_CELLS = 3000, 5000  # size of the matrix of residuals that is decomposed into axes
MAX_AXES = 50
MAX_COMMUNALITY = 0.9  # largest share of a gene's variation that axes may explain
MIN_RELIABILITY = 0.05  # share of overdispersion in a gene's variance below which its correlations cannot be estimated
PRIOR_CELLS = 10.0  # weight of a factor of one in the spread of a group, in cells


@dataclass(frozen=True)
class Units:
    """Sums over the cells of each unit (rows) and gene.

    Attributes
    ----------
    codes, n
        Unit of each cell, (N,), and number of cells of each unit, (U,).
    S, S2
        Sums of s and of s^2 over the cells of each unit, (U,).
    O, squares
        Sums of y and of ``(y - m)^2``, U x p.
    """

    codes: np.ndarray
    n: np.ndarray
    S: np.ndarray
    S2: np.ndarray
    O: np.ndarray  # noqa: E741  observed counts, as in O and E for observed and expected
    squares: np.ndarray

    @classmethod
    def of(cls, Y: sp.csr_matrix, s: np.ndarray, codes: np.ndarray) -> Units:
        """Compute the sums from counts (N x p), library sizes (N,) and the unit of each cell (N,)."""
        U = int(codes.max()) + 1
        n, S, S2 = (np.bincount(codes, w, U) for w in (np.ones_like(s), s, s**2))
        observed = arrays.group_sums(Y, codes, U)
        weighted = arrays.group_sums(sp.diags(s) @ Y, codes, U)
        rate = observed / S[:, None]
        # sum of (y - s rate)^2, multiplied out so that only the non-zero counts are visited
        squares = arrays.group_sums(Y.multiply(Y).tocsr(), codes, U) - 2 * rate * weighted + rate**2 * S2[:, None]
        return cls(codes, n, S, S2, observed, squares)

    def excess(self) -> tuple[np.ndarray, np.ndarray]:
        """Compute the sum of squares beyond Poisson noise, and its expectation per unit of dispersion, both U x p.

        Their ratio estimates phi. The m_i are estimated from the same cells, so the expectation of ``(y_i - m_i)^2`` is
        ``V_i (1 - 2 s_i / S) + s_i^2 / S^2 sum_j V_j``. It is computed as ``V_i (1 - 1 / n)``, which is exact if all
        cells of the unit have the same library size.
        """
        correction = np.maximum(1 - 1 / self.n, 0)
        first, second = correction * self.S, correction * self.S2
        # the Poisson part of V_i is m_i = s_i O / S
        beyond = self.squares - first[:, None] * self.O / self.S[:, None]
        # the other part is phi m_i^2 = phi s_i^2 O^2 / S^2; O (O - 1) estimates the square of the expectation of O
        # without the bias that Poisson noise gives to O^2
        per = second[:, None] * self.O * np.maximum(self.O - 1, 0) / self.S[:, None] ** 2
        several = (self.n > 1)[:, None]
        return beyond * several, per * several


def dispersions(units: Units) -> tuple[np.ndarray, tuple[float, float]]:
    """Estimate the dispersion phi of every gene, shrunken towards a trend over the mean.

    The trend is ``phi = a0 + a1 / mean`` (Love, Huber and Anders, Genome Biol. 15:550, 2014, eq. 6). The estimate of a
    gene is a weighted mean of its own moment estimate and the trend: the own estimate has weight
    ``variance of genes about the trend / (that variance + sampling variance of the own estimate)``.

    Returns
    -------
    phi, (p,), zero for genes without counts, and the pair (a0, a1).
    """
    beyond, per = (x.sum(axis=0) for x in units.excess())
    mean = units.O.sum(axis=0) / units.n.sum()
    seen = per > 0
    if seen.sum() < 2:
        return np.zeros(len(mean)), (0.0, 0.0)
    raw, mu = beyond[seen] / per[seen], mean[seen]
    basis = np.column_stack([np.ones_like(mu), 1 / mu])
    # spread is the variance of genes about the trend, relative to the squared trend
    trend, spread = np.full(len(raw), max(np.median(raw), 0.01)), 0.5
    # weights depend on the trend and on the spread, which are therefore estimated in turns; ten rounds suffice
    for _ in range(10):
        noise = _noise(units, seen, trend) / per[seen] ** 2
        weight = 1 / np.sqrt(noise + spread * trend**2)
        # a gene far above the trend usually marks a subtype that has no label, and must not raise the trend
        weight[raw > 10 * trend] = 0
        a, _ = nnls(basis * weight[:, None], raw * weight)  # not negative, so that the trend is positive at any mean
        trend = np.maximum(basis @ a, 1e-4)
        # the expectation of (raw / trend - 1)^2 is spread + noise / trend^2
        ratio, relative = (raw / trend - 1) ** 2, noise / trend**2
        known = relative < 1
        if known.any():
            spread = float(
                np.clip(np.average(ratio[known] - relative[known], weights=1 / (1 + relative[known])), 0.01, 4)
            )
    w = spread * trend**2 / (spread * trend**2 + noise)
    out = np.zeros(len(mean))
    out[seen] = np.maximum(trend + w * (raw - trend), 0.01 * trend)
    return out, (float(a[0]), float(a[1]))


def group_spread(units: Units, groups: np.ndarray, phi: np.ndarray, n_groups: int) -> np.ndarray:
    """Estimate the factor psi on the dispersion of each group, (C,), common to all genes.

    Some groups are noisier than others in all genes alike, for instance samples of lower quality. The estimate is
    shrunken towards one by a weight of ten cells and lies between 0.1 and 10.
    """
    beyond, per = units.excess()
    mean = units.O / units.n[:, None]
    # least squares of beyond on phi per, each gene weighted by about the inverse variance of its squares, 1 / V^2
    weight = 1 / (mean + phi * mean**2 + 1e-3) ** 2
    top = np.bincount(groups, (beyond * weight).sum(axis=1), n_groups)
    bottom = np.bincount(groups, (phi * per * weight).sum(axis=1), n_groups)
    ratio = np.divide(top, bottom, out=np.ones(n_groups), where=bottom > 0)
    n = np.bincount(groups, np.maximum(units.n - 1, 0), n_groups)
    return np.clip((n * ratio + PRIOR_CELLS) / (n + PRIOR_CELLS), 0.1, 10.0)


def axes(
    Y: sp.csr_matrix, s: np.ndarray, units: Units, phi: np.ndarray, spread: np.ndarray, n_axes: int | None, seed: int
) -> np.ndarray:
    """Estimate the loadings L (p x K) of the Gaussian scores ``z = L f + sqrt(1 - |L|^2) e`` behind the gamma rates.

    Poisson noise is independent between genes, so the covariance of two counts is that of their rates. Hence the
    correlation of two Pearson residuals is about the correlation of the scores z times b_g a_g for each of the genes:
    ``b_g^2 = phi m^2 / (m + phi m^2)``, the reliability, is the share of the rates in the variance of the counts, and
    a_g is the correlation of the rate with its score (:func:`gaussian_part`). The axes are singular vectors of the
    residuals whose singular values exceed the edge of noise (Marchenko and Pastur); these are shrunken for Frobenius
    loss.

    Parameters
    ----------
    spread
        Factor on the dispersion of each unit, (U,).
    """
    N, p = Y.shape
    free = N - len(units.n)  # degrees of freedom within units
    mean = units.O / units.S[:, None]
    m2 = (units.S2 @ mean**2) / N
    variance = units.O.sum(axis=0) / N + phi * m2
    reliability = np.divide(phi * m2, variance, out=np.zeros(p), where=variance > 0)
    genes = np.argsort(-reliability, kind="stable")[:MAX_GENES]
    genes = np.sort(genes[reliability[genes] > MIN_RELIABILITY])
    if n_axes == 0 or len(genes) < 2 or free < 2:
        return np.zeros((p, 0))
    cells = np.arange(N)
    if N > MAX_CELLS:
        cells = np.sort(np.random.default_rng(seed).choice(N, MAX_CELLS, replace=False))
        free = int(free * MAX_CELLS / N)
    unit = units.codes[cells]
    expected = mean[:, genes][unit] * s[cells, None]
    variance = expected + phi[genes] * spread[unit][:, None] * expected**2
    R = arrays.dense(Y[cells][:, genes]) - expected
    R /= np.sqrt(np.maximum(variance, 1e-12))
    # otherwise one cell with a few counts of a rare gene could be an axis of its own; the bound is that of Hafemeister
    # and Satija, Genome Biol. 20:296, 2019
    np.clip(R, -np.sqrt(N), np.sqrt(N), out=R)
    R[:, R.std(axis=0) == 0] = 0.0
    # to unit variance, so that R'R is a correlation matrix and the noise edge holds without the model being exact
    scale = np.sqrt(np.sum(R**2, axis=0) / free)
    R /= np.where(scale > 0, scale, 1.0) * np.sqrt(free)
    most = min(MAX_AXES if n_axes is None else n_axes, free - 1, len(genes) - 1)
    _, values, vectors = randomized_svd(R, n_components=most, random_state=seed)
    signal = _shrunken(values**2, len(genes) / free)
    signal = signal[signal > 0]
    L = np.zeros((p, len(signal)))
    L[genes] = vectors[: len(signal)].T * np.sqrt(signal)
    # from correlations of residuals to correlations of scores
    L[genes] /= np.sqrt(reliability[genes, None]) * gaussian_part(phi[genes])[:, None]
    length = np.sum(L**2, axis=1)
    # |L|^2 is at most 1 by definition, but the division above may exceed it by sampling error
    return L * np.minimum(1, np.sqrt(MAX_COMMUNALITY / np.maximum(length, 1e-12)))[:, None]


def _noise(units: Units, genes: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """Sampling variance of the sum of squares of each gene.

    For a negative binomial variable with variance V, ``(y - m)^2`` has the variance ``V^2 (2 + 6 phi) + V``, since its
    excess kurtosis is ``6 phi + 1 / V``. A unit contributes n - 1 times this, V being that of its mean count.
    """
    m = units.O[:, genes] / units.n[:, None]
    # a unit without counts of the gene would have no noise, so a tenth of the mean over all cells is mixed in
    m = 0.9 * m + 0.1 * units.O[:, genes].sum(axis=0) / units.n.sum()
    V = m + phi * m**2
    return ((units.n - 1) @ (V**2 * (2 + 6 * phi) + V)).clip(min=1e-12)


def _shrunken(values: np.ndarray, gamma: float) -> np.ndarray:
    """Estimate the eigenvalues of the true covariance minus one from those of a sample correlation matrix.

    With gamma variables per degree of freedom, sample eigenvalues up to ``(1 + sqrt(gamma))^2`` are consistent with
    noise and give 0. A larger one, v, comes from a true eigenvalue l (the spike) with ``v = l (1 + gamma / (l - 1))``,
    and the cosine c between its eigenvector and the true one is given by
    ``c^2 = (1 - gamma / (l - 1)^2) / (1 + gamma / (l - 1))``. The value ``(l - 1) c^2`` then minimises the Frobenius
    loss (Donoho, Gavish and Johnstone, Ann. Stat. 46:1742, 2018; arXiv:1311.0851, eq. 4.4 for l).
    """
    edge = (1 + np.sqrt(gamma)) ** 2
    out = np.zeros_like(values)
    above = values > edge
    b = values[above] + 1 - gamma
    spike = (b + np.sqrt(b**2 - 4 * values[above])) / 2
    cosine2 = (1 - gamma / (spike - 1) ** 2) / (1 + gamma / (spike - 1))
    out[above] = (spike - 1) * cosine2
    return out
