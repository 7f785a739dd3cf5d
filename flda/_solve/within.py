"""Data to group means and the within-group scatter.

The within-group scatter is one formula with a weight w_c per group::

    M_e = sum_i w_{c(i)} (x_i - g_{c(i)}) (x_i - g_{c(i)})',    sum_c w_c (n_c - 1) = 1

``pooled``: w_c constant, so M_e is the sum of squares over N - C. ``balanced``: w_c proportional to
1 / n_c, so every group's own covariance counts the same (the paper's estimator up to a constant). Both
are unbiased when the groups share one covariance; a group of one cell adds nothing to either.

When a factor varies between donors, the cells of a donor are not independent for it, and the error term gets the donor
level. With m_s the mean of sample s (the cells of one donor in one group), S samples, ``n`` their harmonic
mean size and group means g_c that are means of sample means, so that every donor counts the same::

    M_e = sum_i w_{c(i)} (x_i - m_{s(i)}) (x_i - m_{s(i)})' + n M_donor,    sum_c w_c (n_c - S_c) = 1
    M_donor = sum_s (m_s - g_{c(s)}) (m_s - g_{c(s)})' / (S - C)

which is n times the variance of a sample mean, seen from the cells and from the donors. It is again one sum over
cells: ``x_i - m_s + phi_s (m_s - g_c) = x_i - h_s`` with ``phi_s^2 = n / (w_c n_s (S - C))`` and the centres
``h_s = g_c - (phi_s - 1) (m_s - g_c)``. Without donors the samples are the groups, and h is g.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.linalg.blas import dsyrk

from .._data import arrays
from .._data.device import MAX_TRIANGLE, asarray_like, is_device, namespace, panels, to_numpy
from .._data.kernels import add_sparse_gram
from .._design.samples import Samples
from .._logging import get_logger

logger = get_logger(__name__)

TILE = 256
CANCELLATION = 1e6  # second moment over variance of a gene, above which products of raw blocks lose too many digits


def group_weights(counts: np.ndarray, within: str, n_samples: np.ndarray | int = 1) -> np.ndarray:
    """w_c of each group for ``within="pooled"`` or ``"balanced"``; ``n_samples`` are the samples per group S_c."""
    raw = {"pooled": np.ones(len(counts)), "balanced": 1.0 / counts}[within]
    return raw / np.sum(raw * (counts - n_samples))


def donor_scaling(samples: Samples, weights: np.ndarray) -> np.ndarray:
    """phi_s of each sample, (S,)."""
    n = len(samples.counts) / np.sum(1 / samples.counts)
    df = len(samples.groups) - len(weights)
    return np.sqrt(n / (weights[samples.groups] * samples.counts * df))


def n_effective(samples: Samples) -> np.ndarray:
    """Harmonic mean of the cells per sample times the samples of each group, (C,): M_e over it is a mean's variance."""
    return len(samples.counts) / np.sum(1 / samples.counts) * np.bincount(samples.groups)


def scaled_centres(own: np.ndarray, means: np.ndarray, samples: Samples, weights: np.ndarray) -> np.ndarray:
    """h_s of each sample (S x p), from sample means m_s and group means g_c."""
    means = means[samples.groups]
    return means - (donor_scaling(samples, weights)[:, None] - 1) * (own - means)


@dataclass(frozen=True)
class Within:
    """Group means and the within-group scatter M_e of data X (N x p), which is formed only if a method asks for it.

    Attributes
    ----------
    X
        Dense or sparse data, N x p.
    codes, counts, weights
        Group of each cell (N,), cells (C,) and weight w_c (C,) of each group.
    means
        Group means G, C x p.
    sample_codes, sample_means, centres
        Sample of each cell (N,), the means of the samples (S x p), and the centres h that their cells are measured from
        (S x p). Without donors in the error term the samples are the groups.
    samples
        The samples, when donors are in the error term.
    """

    X: object
    codes: np.ndarray
    counts: np.ndarray
    weights: np.ndarray
    means: np.ndarray
    sample_codes: np.ndarray
    sample_means: np.ndarray
    centres: np.ndarray
    samples: Samples | None = None

    @classmethod
    def from_data(
        cls,
        X,
        codes: np.ndarray,
        counts: np.ndarray,
        within: str,
        samples: Samples | None = None,
        sums: np.ndarray | None = None,
    ) -> Within:
        """From the data, and the sums of each group (or sample) if they are known; else they take a pass."""
        if sums is None:
            units, n_units = (codes, len(counts)) if samples is None else (samples.codes, len(samples.counts))
            sums = arrays.group_sums(X, units, n_units)
        if samples is None:
            means = sums / counts[:, None]
            return cls(X, codes, counts, group_weights(counts, within), means, codes, means, means)
        n_samples = np.bincount(samples.groups)
        weights = group_weights(counts, within, n_samples)
        own = sums / samples.counts[:, None]
        means = arrays.group_sums(own, samples.groups, len(counts)) / n_samples[:, None]
        return cls(
            X, codes, counts, weights, means, samples.codes, own, scaled_centres(own, means, samples, weights), samples
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes."""
        return self.X.shape  # type: ignore[attr-defined]

    @cached_property
    def centre(self) -> np.ndarray:
        """Unweighted mean of the group means, (p,): the origin of the axes."""
        return self.means.mean(axis=0)

    @cached_property
    def centred_means(self) -> np.ndarray:
        """Group means less their unweighted mean, C x p. Effects do not see the difference; rounding does."""
        return self.means - self.centre

    @property
    def sample_sums(self) -> np.ndarray:
        """Sum of the cells of each sample, S x p."""
        return np.bincount(self.sample_codes)[:, None] * self.sample_means

    @property
    def n_effective(self) -> np.ndarray:
        """Cells whose independent noise each group mean holds, (C,): diag(M_e) over it is the variance of the mean."""
        return self.counts if self.samples is None else n_effective(self.samples)

    @cached_property
    def cell_weights(self) -> np.ndarray:
        """w_{c(i)} of each cell, (N,)."""
        return self.weights[self.codes]

    def gene_scatter(self, cells: np.ndarray | None = None, sums: np.ndarray | None = None) -> np.ndarray:
        """The p x p sum of ``w (x - h)(x - h)'`` over all cells (then it is M_e) or over some of them, where X is.

        Thin sparse blocks are multiplied as they are, and what the centres add is subtracted. If that would cost
        digits, or blocks are not thin, the sum is taken over centred dense blocks. Known sums of the cells of each
        sample, S x p, save a pass.
        """
        p = self.shape[1]
        X = self.X if cells is None else self.X[cells]  # type: ignore[index]
        cells = np.arange(self.shape[0]) if cells is None else cells
        weights, sample_codes = self.cell_weights[cells], self.sample_codes[cells]
        if arrays.is_thin(X):

            def add_thin(out: np.ndarray, rows: slice, block) -> None:
                add_sparse_gram(out, block, weights[rows])

            raw = arrays.reduce_rows(X, add_thin, (p, p))
            sizes = np.bincount(sample_codes, weights, minlength=len(self.centres))
            each = self.weights if self.samples is None else self.weights[self.samples.groups]
            if sums is None:
                sums = self.sample_sums if X is self.X else arrays.group_sums(X, sample_codes, len(self.centres))
            cross = (each[:, None] * sums).T @ self.centres
            before = np.diag(raw).copy()
            raw = _mirror(raw)
            raw -= cross + cross.T - self.centres.T @ (sizes[:, None] * self.centres)
            if np.all(before <= CANCELLATION * np.diag(raw)):
                return raw
            logger.info("a gene's mean is far above its spread: the scatter is summed from centred blocks")

        residuals = self._residuals(cells)

        def add_dense(out: np.ndarray, rows: slice, block) -> None:
            _add_syrk(out, residuals(rows, block))

        return _mirror(arrays.reduce_rows(X, add_dense, (p, p), order="F"))

    def cell_gram(self, target: str) -> tuple[np.ndarray, np.ndarray]:
        """Gram matrix of cells and groups in the metric of the target, and the gene variances diag(M_e).

        The N + C rows are R, the weighted residuals ``sqrt(w) (x - h)`` of the cells, and the centred
        group means Gc; the result is ``[R; Gc] T^-1 [R; Gc]'``, where X is. One pass over the data, by genes.
        """
        (N, p), C = self.shape, len(self.counts)
        X, xp = arrays.by_columns(self.X), namespace(self.X)
        root, sample_codes = (
            asarray_like(self.X, np.sqrt(self.cell_weights)[:, None]),
            asarray_like(self.X, self.sample_codes),
        )
        out, variances = xp.zeros((N + C, N + C), order="F"), np.empty(p)
        for genes in arrays.block_slices(p, N + C):
            block = xp.empty((N + C, genes.stop - genes.start), order="F")
            block[:N] = arrays.dense(X[:, genes], order="F")
            block[:N] -= asarray_like(self.X, self.centres[:, genes])[sample_codes]
            block[:N] *= root
            block[N:] = asarray_like(self.X, self.centred_means[:, genes])
            variances[genes] = self._gene_variances(to_numpy(xp.einsum("ij,ij->j", block[:N], block[:N])), genes)
            if target == "diagonal":
                # a gene that does not vary within groups gets weight zero here, and the mean variance below
                block *= asarray_like(self.X, np.where(variances[genes] > 0, variances[genes], np.inf) ** -0.5)
            _add_syrk(out, block.T)
        unit = target_diagonal(variances, "identity")[0]
        if target == "identity":
            out /= unit
        else:
            rest = self.centred_means[:, variances == 0]
            out[N:, N:] += asarray_like(self.X, rest @ rest.T / unit)
        return _mirror(out), variances

    def gene_variances(self) -> np.ndarray:
        """Within-group variance of each gene, in a pass of its own."""
        residuals = self._residuals()

        def update(out: np.ndarray, rows: slice, block) -> None:
            r = residuals(rows, block)
            out[0] += np.einsum("ij,ij->j", r, r)

        return self._gene_variances(to_numpy(arrays.reduce_rows(self.X, update, (1, self.shape[1])))[0], slice(None))

    def variances_of(self, scatter: np.ndarray) -> np.ndarray:
        """Within-group variance of each gene, from M_e."""
        return self._gene_variances(to_numpy(scatter.diagonal()).copy(), slice(None))

    def donor_share(self, variances: np.ndarray) -> float | None:
        """Share of donors in the within-group variance of all genes, given diag(M_e); None if M_e has no donor level.

        The cells alone give the sample means a variance of 1/n of their own, which is subtracted from M_donor. The
        share is negative if that is more than M_donor.
        """
        if self.samples is None:
            return None
        n = len(self.samples.counts) / np.sum(1 / self.samples.counts)
        spread = self.sample_means - self.means[self.samples.groups]
        total = np.sum(spread**2) / (len(spread) - len(self.counts))  # tr M_donor
        cells = np.sum(variances) - n * total
        donors = total - cells / n
        return float(donors / (donors + cells))

    def cell_norms(self, target: np.ndarray) -> np.ndarray:
        """Squared length of the weighted residual of each cell in the metric of the target, (N,)."""
        residuals, scale = self._residuals(), asarray_like(self.X, (1 / target)[:, None])

        def function(rows: slice, block) -> np.ndarray:
            return residuals(rows, block) ** 2 @ scale

        return arrays.map_rows(self.X, function, 1)[:, 0]

    def times(self, B: np.ndarray) -> np.ndarray:
        """``M_e @ B`` for p x k B, matrix-free, in one pass over the data."""
        p, S = self.centres.shape[1], len(self.centres)
        shift, weights = (
            asarray_like(self.X, (self.centres @ B)[self.sample_codes]),
            asarray_like(self.X, self.cell_weights[:, None]),
        )
        B, sample_codes = asarray_like(self.X, B), self.sample_codes

        def update(out: np.ndarray, rows: slice, block) -> None:
            block = arrays.as_float(block)
            scores = weights[rows] * (block @ B - shift[rows])
            out[:p] += block.T @ scores
            out[p:] += arrays.block_sums(scores, sample_codes[rows], S)

        sums = to_numpy(arrays.reduce_rows(self.X, update, (p + S, B.shape[1])))
        return sums[:p] - self.centres.T @ sums[p:]

    def cells_of(self, B: np.ndarray) -> np.ndarray:
        """``R @ B`` (N x k): weighted residual scores of the cells."""
        scores = arrays.times(self.X, B) - (self.centres @ B)[self.sample_codes]
        scores *= np.sqrt(self.cell_weights)[:, None]
        return scores

    def genes_of(self, V: np.ndarray) -> np.ndarray:
        """``R' @ V`` (p x k) for N x k V."""
        V = np.sqrt(self.cell_weights)[:, None] * V
        sums = arrays.indicator(self.sample_codes, len(self.centres)) @ V
        return arrays.transposed_times(self.X, V) - self.centres.T @ sums

    def _residuals(self, cells: np.ndarray | None = None) -> Callable[[slice, Any], np.ndarray]:
        """A function of rows and their block: ``sqrt(w) (x - h)``, dense. It goes to workers, so it holds no data."""
        chosen = slice(None) if cells is None else cells
        parts = self.centres, self.sample_codes[chosen], np.sqrt(self.cell_weights[chosen])[:, None]
        centres, sample_codes, roots = (asarray_like(self.X, part) for part in parts)

        def residuals(rows: slice, block) -> np.ndarray:
            out = arrays.dense(block)
            out -= centres[sample_codes[rows]]
            out *= roots[rows]
            return out

        return residuals

    def _gene_variances(self, raw: np.ndarray, genes: slice) -> np.ndarray:
        """Raw variances with those that are rounding error of a constant gene set to zero."""
        rounding = 1e-12 * np.abs(self.means[:, genes]).max(axis=0)
        return np.where(raw > rounding**2, raw, 0.0)


def target_diagonal(variances: np.ndarray, target: str) -> np.ndarray:
    """Diagonal of the shrinkage target T, (p,).

    ``identity``: the mean variance for every gene. ``diagonal``: each gene's own variance; a gene without
    any gets the mean, so that T can be inverted.
    """
    mean = variances.mean()
    if mean == 0:
        mean = 1.0  # no gene varies within groups; any positive target will do
    if target == "identity":
        return np.full_like(variances, mean)
    return np.where(variances > 0, variances, mean)


def _add_syrk(out: np.ndarray, block: np.ndarray) -> None:
    """Add ``block' block`` to the upper triangle of out (Fortran order), or to all of it on a device."""
    if is_device(out):
        out += block.T @ block
        return
    if len(out) > MAX_TRIANGLE:  # OpenBLAS's own rank-k update crashes on larger results
        rows = panels(len(out))
        for i, top in enumerate(rows):
            for right in rows[i:]:
                out[top, right] += block[:, top].T @ block[:, right]
        return
    # the transpose of a C-ordered block is the Fortran array that BLAS reads without a copy
    dsyrk(1.0, block.T, beta=1.0, c=out, overwrite_c=True)


def _mirror(upper: np.ndarray) -> np.ndarray:
    """Copy the upper triangle to the lower one, in place and by tiles; a matrix on a device has both."""
    if is_device(upper):
        return upper
    n = len(upper)
    for start in range(0, n, TILE):
        rows = slice(start, start + TILE)
        upper[rows, :start] = upper[:start, rows].T
        tile = np.triu(upper[rows, rows])
        upper[rows, rows] = tile + np.triu(tile, 1).T
    return upper
