"""Counts to the parameters of their model: dispersion, donors, axes of variation. Arrays in, arrays out.

A *unit* is the cells of one group, or of one donor in one group; s_i is the library size of a cell over the mean of
all, and ``m_i = s_i O_u / S_u`` its expected count, with O_u and S_u the sums of counts and library sizes of the unit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.optimize import nnls
from sklearn.utils.extmath import randomized_svd

from .._data import arrays
from ._gamma import gaussian_part

MAX_GENES, MAX_CELLS = 3000, 5000  # of the singular value decomposition behind the axes
MAX_COMMUNALITY = 0.9  # share of a gene's variation that axes may explain
MIN_RELIABILITY = 0.05  # share of overdispersion in a gene's variance, below which counts say nothing of its partners
PRIOR_CELLS = 10.0  # that a group's own spread must outweigh


@dataclass(frozen=True)
class Units:
    """Sums over the cells of each unit (rows) and gene.

    Attributes
    ----------
    codes, n
        Unit of each cell (N,), cells of each (U,).
    S, S2
        Sums of s and s^2 over the cells, (U,).
    O, squares
        Sums of the counts y and of ``(y - m)^2``, U x p.
    """

    codes: np.ndarray
    n: np.ndarray
    S: np.ndarray
    S2: np.ndarray
    O: np.ndarray  # noqa: E741  the O of O and E, observed and expected
    squares: np.ndarray

    @classmethod
    def of(cls, Y: sp.csr_matrix, s: np.ndarray, codes: np.ndarray) -> Units:
        """From counts."""
        U = int(codes.max()) + 1
        n, S, S2 = (np.bincount(codes, w, U) for w in (np.ones_like(s), s, s**2))
        observed = arrays.group_sums(Y, codes, U)
        weighted = arrays.group_sums(sp.diags(s) @ Y, codes, U)
        rate = observed / S[:, None]
        squares = arrays.group_sums(Y.multiply(Y).tocsr(), codes, U) - 2 * rate * weighted + rate**2 * S2[:, None]
        return cls(codes, n, S, S2, observed, squares)

    def excess(self) -> tuple[np.ndarray, np.ndarray]:
        """Squares beyond Poisson noise, and what they are per unit of dispersion, both U x p.

        With ``V_i = m_i + phi m_i^2`` the expected ``(y_i - m_i)^2`` is ``V_i (1 - 2 s_i / S + S2 / S^2)``, the m_i
        being estimated from the same cells; and O (O - 1) has no Poisson noise of O in it.
        """
        # sums over cells of (1 - 2 s / S + S2 / S^2) s, and of the same with s^2, the s of a unit taken as alike
        shrunk = np.maximum(1 - 1 / self.n, 0)
        first, second = shrunk * self.S, shrunk * self.S2
        beyond = self.squares - first[:, None] * self.O / self.S[:, None]
        per = second[:, None] * self.O * np.maximum(self.O - 1, 0) / self.S[:, None] ** 2
        several = (self.n > 1)[:, None]
        return beyond * several, per * several


def dispersions(units: Units) -> tuple[np.ndarray, tuple[float, float]]:
    """Dispersion phi of every gene, drawn towards a trend over the mean.

    The trend is ``phi = a0 + a1 / mean`` (Anders S, Huber W, Genome Biol. 11:R106, 2010; Love MI et al., Genome Biol.
    15:550, 2014). A gene's own moment estimate counts by the variance of genes about the trend over that variance plus
    its own sampling variance, the fourth moment of the negative binomial.

    Returns
    -------
    phi (p,), zero for genes without counts, and (a0, a1).
    """
    beyond, per = (x.sum(axis=0) for x in units.excess())
    mean = units.O.sum(axis=0) / units.n.sum()
    seen = per > 0
    if seen.sum() < 2:
        return np.zeros(len(mean)), (0.0, 0.0)
    raw, mu = beyond[seen] / per[seen], mean[seen]
    basis = np.column_stack([np.ones_like(mu), 1 / mu])
    trend, spread = np.full(len(raw), max(np.median(raw), 0.01)), 0.5
    for _ in range(10):
        noise = _noise(units, seen, trend) / per[seen] ** 2
        weight = 1 / np.sqrt(noise + spread * trend**2)
        # a gene far above the trend is a marker of something unlabelled, not a guide to the trend
        weight[raw > 10 * trend] = 0
        a, _ = nnls(basis * weight[:, None], raw * weight)
        trend = np.maximum(basis @ a, 1e-4)
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
    """Factor on the dispersion of each group, (C,): some samples are noisier than others in all genes alike."""
    beyond, per = units.excess()
    mean = units.O / units.n[:, None]
    weight = 1 / (mean + phi * mean**2 + 1e-3) ** 2
    top = np.bincount(groups, (beyond * weight).sum(axis=1), n_groups)
    bottom = np.bincount(groups, (phi * per * weight).sum(axis=1), n_groups)
    ratio = np.divide(top, bottom, out=np.ones(n_groups), where=bottom > 0)
    n = np.bincount(groups, np.maximum(units.n - 1, 0), n_groups)
    return np.clip((n * ratio + PRIOR_CELLS) / (n + PRIOR_CELLS), 0.1, 10.0)


def axes(
    Y: sp.csr_matrix, s: np.ndarray, units: Units, phi: np.ndarray, spread: np.ndarray, n_axes: int | None, seed: int
) -> np.ndarray:
    """Loadings L (p x K) of the Gaussian scores behind the gamma rates: ``z = L f + sqrt(1 - |L|^2) e``.

    The covariance of two counts is that of their rates, so the correlation of Pearson residuals is that of the rates
    times a reliability of each gene, ``b^2 = phi m^2 / (m + phi m^2)``. Singular values of the residuals beyond the
    edge of noise (Marchenko and Pastur) are shrunk for Frobenius loss (Donoho, Gavish and Johnstone, Ann. Stat.
    46:1742, 2018).
    """
    N, p = Y.shape
    free = N - len(units.n)
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
    places = units.codes[cells]
    expected = mean[:, genes][places] * s[cells, None]
    variance = expected + phi[genes] * spread[places][:, None] * expected**2
    R = arrays.dense(Y[cells][:, genes]) - expected
    R /= np.sqrt(np.maximum(variance, 1e-12))
    np.clip(R, -np.sqrt(N), np.sqrt(N), out=R)
    R[:, R.std(axis=0) == 0] = 0.0
    scale = np.sqrt(np.sum(R**2, axis=0) / free)
    R /= np.where(scale > 0, scale, 1.0) * np.sqrt(free)
    most = min(50 if n_axes is None else n_axes, free - 1, len(genes) - 1)
    _, values, vectors = randomized_svd(R, n_components=most, random_state=seed)
    signal = _shrunk(values**2, len(genes) / free)
    signal = signal[signal > 0]
    L = np.zeros((p, len(signal)))
    L[genes] = vectors[: len(signal)].T * np.sqrt(signal)
    L[genes] /= np.sqrt(reliability[genes, None]) * gaussian_part(phi[genes])[:, None]
    length = np.sum(L**2, axis=1)
    return L * np.minimum(1, np.sqrt(MAX_COMMUNALITY / np.maximum(length, 1e-12)))[:, None]


def _noise(units: Units, genes: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """Variance of the summed squares: ``n (V^2 (2 + 6 phi) + V)`` of each unit, V at its mean count."""
    m = units.O[:, genes] / units.n[:, None]
    # a gene's mean over all cells keeps a unit without its counts from passing for noiseless
    m = 0.9 * m + 0.1 * units.O[:, genes].sum(axis=0) / units.n.sum()
    V = m + phi * m**2
    return ((units.n - 1) @ (V**2 * (2 + 6 * phi) + V)).clip(min=1e-12)


def _shrunk(values: np.ndarray, gamma: float) -> np.ndarray:
    """What eigenvalues of a sample correlation say of the covariance beyond the identity, 0 below the edge of noise."""
    edge = (1 + np.sqrt(gamma)) ** 2
    out = np.zeros_like(values)
    above = values > edge
    b = values[above] + 1 - gamma
    spike = (b + np.sqrt(b**2 - 4 * values[above])) / 2
    cosine2 = (1 - gamma / (spike - 1) ** 2) / (1 + gamma / (spike - 1))
    out[above] = (spike - 1) * cosine2
    return out
