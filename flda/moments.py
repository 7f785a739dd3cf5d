"""Data to group means and the within-group scatter.

The within-group scatter is one formula with a weight w_c per group::

    M_e = sum_i w_{c(i)} (x_i - g_{c(i)}) (x_i - g_{c(i)})',    sum_c w_c (n_c - 1) = 1

``pooled``: w_c constant, so M_e is the sum of squares over N - C. ``balanced``: w_c proportional to
1 / n_c, so every group's own covariance counts the same (the paper's estimator up to a constant). Both
are unbiased when the groups share one covariance; a group of one cell adds nothing to either.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg.blas import dsyrk

from . import arrays


def group_weights(counts: np.ndarray, within: str) -> np.ndarray:
    """w_c of each group for ``within="pooled"`` or ``"balanced"``."""
    raw = {"pooled": np.ones(len(counts)), "balanced": 1.0 / counts}[within]
    return raw / np.sum(raw * (counts - 1))


@dataclass(frozen=True)
class Within:
    """Group means and the within-group scatter M_e of data X (N x p), never formed unless asked for.

    Attributes
    ----------
    X
        Dense or sparse data, N x p.
    codes, counts, weights
        Group of each cell (N,), cells (C,) and weight w_c (C,) of each group.
    means
        Group means G, C x p.
    """

    X: object
    codes: np.ndarray
    counts: np.ndarray
    weights: np.ndarray
    means: np.ndarray

    @classmethod
    def from_data(cls, X, codes: np.ndarray, counts: np.ndarray, within: str) -> Within:
        """One pass over the data for the means."""
        means = arrays.group_sums(X, codes, len(counts)) / counts[:, None]
        return cls(X, codes, counts, group_weights(counts, within), means)

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

    @cached_property
    def cell_weights(self) -> np.ndarray:
        """w_{c(i)} of each cell, (N,)."""
        return self.weights[self.codes]

    def gene_scatter(self, cells: np.ndarray | None = None) -> np.ndarray:
        """P x p sum of ``w (x - g)(x - g)'`` over all cells (then it is M_e) or over some of them."""
        X, p = arrays.by_rows(self.X), self.shape[1]
        if cells is not None:
            X = X[cells]
        codes = self.codes if cells is None else self.codes[cells]
        out = np.zeros((p, p), order="F")
        for rows in arrays.block_slices(len(codes), p):
            block = self._residuals(X[rows], codes[rows])
            # the transpose of a C-ordered block is the Fortran array that BLAS reads without a copy
            out = dsyrk(1.0, block.T, beta=1.0, c=out, overwrite_c=True)
        return _mirror(out)

    def cell_gram(self, target: str) -> tuple[np.ndarray, np.ndarray]:
        """Gram matrix of cells and groups in the metric of the target, and the gene variances diag(M_e).

        The N + C rows are R, the weighted residuals ``sqrt(w) (x - g)`` of the cells, and the centred
        group means Gc; the result is ``[R; Gc] T^-1 [R; Gc]'``. One pass over the data, by genes.
        """
        (N, p), C = self.shape, len(self.counts)
        X, root = arrays.by_columns(self.X), np.sqrt(self.cell_weights)[:, None]
        out, variances = np.zeros((N + C, N + C), order="F"), np.empty(p)
        for genes in arrays.block_slices(p, N + C):
            block = np.empty((N + C, genes.stop - genes.start), order="F")
            block[:N] = arrays.dense(X[:, genes], order="F")
            block[:N] -= self.means[self.codes, genes]
            block[:N] *= root
            block[N:] = self.centred_means[:, genes]
            variances[genes] = self._gene_variances(np.einsum("ij,ij->j", block[:N], block[:N]), genes)
            if target == "diagonal":
                # a gene that does not vary within groups waits for the mean variance: see below
                block *= np.where(variances[genes] > 0, variances[genes], np.inf) ** -0.5
            out = dsyrk(1.0, block, beta=1.0, c=out, overwrite_c=True)
        unit = target_diagonal(variances, "identity")[0]
        if target == "identity":
            out /= unit
        else:
            rest = self.centred_means[:, variances == 0]
            out[N:, N:] += rest @ rest.T / unit
        return _mirror(out), variances

    def variances_of(self, scatter: np.ndarray) -> np.ndarray:
        """Within-group variance of each gene, from M_e."""
        return self._gene_variances(np.diag(scatter).copy(), slice(None))

    def cell_norms(self, target: np.ndarray) -> np.ndarray:
        """Squared length of the weighted residual of each cell in the metric of the target, (N,)."""
        X, norms = arrays.by_rows(self.X), np.empty(self.shape[0])
        for rows in arrays.block_slices(*self.shape):
            norms[rows] = self._residuals(X[rows], self.codes[rows]) ** 2 @ (1 / target)
        return norms

    def times(self, B: np.ndarray) -> np.ndarray:
        """``M_e @ B`` for p x k B, matrix-free."""
        return self.genes_of(self.cells_of(B))

    def cells_of(self, B: np.ndarray) -> np.ndarray:
        """``R @ B`` (N x k): weighted residual scores of the cells."""
        scores = arrays.times(self.X, B) - (self.means @ B)[self.codes]
        scores *= np.sqrt(self.cell_weights)[:, None]
        return scores

    def genes_of(self, V: np.ndarray) -> np.ndarray:
        """``R' @ V`` (p x k) for N x k V."""
        V = np.sqrt(self.cell_weights)[:, None] * V
        sums = arrays.indicator(self.codes, len(self.counts)) @ V
        return arrays.transposed_times(self.X, V) - self.means.T @ sums

    def _residuals(self, block, codes: np.ndarray) -> np.ndarray:
        """``sqrt(w) (x - g)`` of a block of cells, dense."""
        out = arrays.dense(block)
        out -= self.means[codes]
        out *= np.sqrt(self.weights[codes])[:, None]
        return out

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


def _mirror(upper: np.ndarray) -> np.ndarray:
    """Copy the upper triangle to the lower one, in place and by blocks."""
    n = len(upper)
    for rows in arrays.block_slices(n, n):
        upper[rows, : rows.start] = upper[: rows.start, rows].T
        tile = np.triu(upper[rows, rows])
        upper[rows, rows] = tile + np.triu(tile, 1).T
    return upper
