"""Sums over cells of products of their weighted residuals, on which every solver works.

The weighted residual of cell i is ``r_i = sqrt(w_i) (x_i - h_s(i) - Gamma' z_i)``, with the centre h_s of its sample
and the slopes Gamma of covariates z. R (N x p) holds the residuals of all cells, and ``M_e = R'R`` is the within-group
scatter. X itself is never centred: sparse rows stay sparse, and what the centres take from a sum is subtracted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .._data import arrays
from .._data.device import OnDevice, asarray_like, block_bytes, namespace, to_numpy
from .._data.kernels import add_sparse_gram, residual_columns, scatter_times
from .._data.symmetric import add_products, mirrored
from .._logging import get_logger
from .slopes import Slopes, with_slopes

logger = get_logger(__name__)

CANCELLATION = 1e6  # ratio of second moment to variance of a gene above which sums of raw products lose too many digits


class Residuals(ABC):
    """The weighted residuals R (N x p) of data X; they are never formed as a whole.

    Attributes
    ----------
    X
        Expression, N x p, of any kind.
    sample_codes, centres
        Sample of each cell, (N,), and the centre h_s of each sample, S x p.
    means
        Group means G, C x p.
    covariates
        The covariates and their slopes, or None.
    """

    X: Any
    sample_codes: np.ndarray
    centres: np.ndarray
    means: np.ndarray
    covariates: Slopes | None

    @property
    @abstractmethod
    def cell_weights(self) -> np.ndarray:
        """Weight w_i of each cell, (N,)."""

    @property
    @abstractmethod
    def sample_weights(self) -> np.ndarray:
        """Weight of the cells of each sample, (S,)."""

    @property
    @abstractmethod
    def sample_sums(self) -> np.ndarray:
        """Sum of the cells of each sample, S x p."""

    @property
    @abstractmethod
    def coefficients(self) -> np.ndarray:
        """The centred group means, and below them the slopes of the covariates, (C + q) x p."""

    @property
    def shape(self) -> tuple[int, int]:
        """The number of cells and the number of genes."""
        return self.X.shape

    def gene_scatter(self, cells: np.ndarray | None = None, sums: np.ndarray | None = None) -> np.ndarray:
        """Compute the p x p sum of ``w (x - h)(x - h)'`` over all cells, which is M_e, or over some of them.

        Sparse blocks of low density are multiplied as they are, and the contribution of the centres is subtracted. If
        that would lose too many digits, or if the blocks are dense, the sum is taken over centred dense blocks.

        Parameters
        ----------
        cells
            Indices of the cells to sum over. None takes all.
        sums
            Sum of these cells in each sample, S x p, which saves a pass over the data.

        Returns
        -------
        The scatter, on the GPU if X is worked on there.
        """
        p = self.shape[1]
        X = self.X if cells is None else self.X[cells]
        cells = np.arange(self.shape[0]) if cells is None else cells
        weights, sample_codes = self.cell_weights[cells], self.sample_codes[cells]
        if arrays.is_thin(X):

            def add_thin(out: np.ndarray, rows: slice, block) -> None:
                add_sparse_gram(out, block, weights[rows])

            raw = arrays.reduce_rows(X, add_thin, (p, p))
            sizes = np.bincount(sample_codes, weights, minlength=len(self.centres))
            if sums is None:
                sums = self.sample_sums if X is self.X else arrays.group_sums(X, sample_codes, len(self.centres))
            columns, inner = self.sample_weights[:, None] * sums, np.diag(sizes)
            if self.covariates is not None:
                # the same with rows z_i beside the indicators of the samples, and slopes beside the centres
                Z = self.covariates.values[cells]
                of_samples = arrays.group_sums(weights[:, None] * Z, sample_codes, len(self.centres))
                columns = np.vstack([columns, arrays.transposed_times(X, weights[:, None] * Z).T])
                inner = np.block([[inner, of_samples], [of_samples.T, Z.T @ (weights[:, None] * Z)]])
            before = np.diag(raw).copy()
            raw = mirrored(raw)
            self.subtract_centres(raw, columns, inner)
            if np.all(before <= CANCELLATION * np.diag(raw)):
                return raw
            # the difference of two large sums has lost its digits for some gene
            logger.info("the mean of a gene is far above its spread, so the scatter is summed over centred blocks")

        residuals = self.residuals(cells)

        def add_dense(out: np.ndarray, rows: slice, block) -> None:
            add_products(out, residuals(rows, block))

        return mirrored(arrays.reduce_rows(X, add_dense, (p, p), order="F"))

    def subtract_centres(self, raw: np.ndarray, columns: np.ndarray, inner: np.ndarray) -> None:
        """Turn ``sum w x x'`` into ``sum w (x - h)(x - h)'``, in place.

        Parameters
        ----------
        raw
            The sum over some cells, p x p.
        columns, inner
            ``sum w x`` over the cells of each sample, S x p, and the sums of their weights on a diagonal. Covariates
            are further rows.
        """
        # sum w (x - h)(x - h)' = sum w x x' - (sum w x) h' - h (sum w x)' + (sum w) h h', sample by sample
        fits = self._fits
        cross = columns.T @ fits
        raw -= cross + cross.T - fits.T @ (inner @ fits)

    def cell_gram(self, target: str, dtype: type = np.float64) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Compute the Gram matrix of cells and groups in the metric of the target, in one pass over the genes.

        The matrix has N + C rows and columns and equals ``[R; Gc] T^-1 [R; Gc]'``. R are the weighted residuals
        ``sqrt(w) (x - h)`` of the cells (``M_e = R'R``), Gc the centred group means, and T the target. Slopes of
        covariates are q further rows of Gc.

        Parameters
        ----------
        target
            ``"identity"`` or ``"diagonal"``.
        dtype
            Precision of the products, ``float64`` or ``float32``. The other results have double precision.

        Returns
        -------
        The Gram matrix, on the GPU if X is worked on there; the gene variances diag(M_e), (p,); and its diagonal for
        the cells, (N,).
        """
        (N, p), Gc = self.shape, self.coefficients
        C = len(Gc)
        X, xp = arrays.by_columns(self.X), namespace(self.X)
        out, variances, norms = xp.zeros((N + C, N + C), order="F", dtype=dtype), np.empty(p), np.zeros(N)
        n_bytes = block_bytes() if isinstance(self.X, OnDevice) else None
        for genes in arrays.block_slices(p, N + C, n_bytes):
            block = xp.empty((N + C, genes.stop - genes.start), order="F", dtype=dtype)
            variances[genes], squares = self._fill(block[:N], X[:, genes], genes, scaled=target == "diagonal")
            norms += squares
            block[N:] = asarray_like(self.X, Gc[:, genes])
            if target == "diagonal":
                # a gene that does not vary within groups gets weight zero here; its group means are added below, with
                # the mean variance of all genes as its target
                block[N:] *= asarray_like(self.X, np.where(variances[genes] > 0, variances[genes], np.inf) ** -0.5)
            add_products(out, block.T)
        unit = target_diagonal(variances, "identity")[0]
        if target == "identity":
            out /= unit
            norms /= unit
        else:
            rest = Gc[:, variances == 0]
            out[N:, N:] += asarray_like(self.X, rest @ rest.T / unit)
        return mirrored(out), variances, norms

    def _fill(self, out: np.ndarray, columns, genes: slice, *, scaled: bool) -> tuple[np.ndarray, np.ndarray]:
        """Write the weighted residuals of some genes (N x k); return the variances of the genes, and sums of squares.

        The variances (k,) are those of the genes before they are scaled. The sums of squares (N,) are those of ``out``.

        With ``scaled`` the residuals are divided by the standard deviation of their gene.
        """
        roots, centres = np.sqrt(self.cell_weights), self.centres[:, genes]
        floors = self._rounding(genes) ** 2
        if arrays.is_sparse(columns) and self.covariates is None and out.dtype == np.float32:
            raw, norms = residual_columns(out.T, columns, centres, self.sample_codes, roots, floors, scaled)
            return np.where(raw > floors, raw, 0.0), norms
        block = arrays.dense(columns, order="F")
        block -= asarray_like(self.X, centres)[asarray_like(self.X, self.sample_codes)]
        if self.covariates is not None:
            block -= asarray_like(self.X, self.covariates.values @ self.covariates.slopes[:, genes])
        block *= asarray_like(self.X, roots[:, None])
        raw = to_numpy(arrays.squared_lengths(block))
        variances = np.where(raw > floors, raw, 0.0)
        if scaled:
            block *= asarray_like(self.X, np.where(variances > 0, variances, np.inf) ** -0.5)
        out[:] = block
        return variances, to_numpy(arrays.squared_lengths(block.T))

    def gene_variances(self) -> np.ndarray:
        """Compute the within-group variance diag(M_e) of each gene, (p,), in one pass over the data."""
        residuals = self.residuals()

        def update(out: np.ndarray, rows: slice, block) -> None:
            out[0] += arrays.squared_lengths(residuals(rows, block))

        return self._gene_variances(to_numpy(arrays.reduce_rows(self.X, update, (1, self.shape[1])))[0], slice(None))

    def variances_of(self, scatter: np.ndarray) -> np.ndarray:
        """Return the within-group variance of each gene, (p,), from M_e."""
        return self._gene_variances(to_numpy(scatter.diagonal()).copy(), slice(None))

    def cell_norms(self, target: np.ndarray) -> np.ndarray:
        """Compute the squared length of the weighted residual of each cell in the metric of the target, (N,)."""
        residuals, scale = self.residuals(), asarray_like(self.X, (1 / target)[:, None])

        def function(rows: slice, block) -> np.ndarray:
            return residuals(rows, block) ** 2 @ scale

        return arrays.map_rows(self.X, function, 1)[:, 0]

    def times(self, B: np.ndarray) -> np.ndarray:
        """Compute ``M_e @ B`` for p x k B in one pass over the data, without forming M_e."""
        # M_e B = sum_i w_i r_i r_i' B with the residuals r_i = x_i - h_s - Gamma' z_i: the products with the x_i, less
        # those with every h_s and with Gamma, which are the last rows of the sums
        X = self.X
        (S, p), k, sample_codes = self.centres.shape, B.shape[1], self.sample_codes
        shift, weights = self.fitted(B), self.cell_weights
        Z = np.empty((len(sample_codes), 0)) if self.covariates is None else self.covariates.values
        if arrays.has_many_entries(X) and X.format == "csr":
            products, scores = scatter_times(X, B, shift, weights)
            return products - self._fits.T @ np.vstack([arrays.group_sums(scores, sample_codes, S), Z.T @ scores])
        shift, weights, B, Z = (asarray_like(X, a) for a in (shift, weights[:, None], B, Z))

        def update(out: np.ndarray, rows: slice, block) -> None:
            block = arrays.as_float(block)
            scores = weights[rows] * (block @ B - shift[rows])
            out[:p] += block.T @ scores
            out[p : p + S] += arrays.block_sums(scores, sample_codes[rows], S)
            out[p + S :] += Z[rows].T @ scores

        sums = to_numpy(arrays.reduce_rows(X, update, (p + S + Z.shape[1], k)))
        return sums[:p] - self._fits.T @ sums[p:]

    def fitted(self, B: np.ndarray) -> np.ndarray:
        """Compute what is subtracted from every cell, ``h_s + Gamma' z``, times B (p x k): N x k."""
        out = (self.centres @ B)[self.sample_codes]
        if self.covariates is not None:
            out += self.covariates.values @ (self.covariates.slopes @ B)
        return out

    def fitted_genes(self, genes: Sequence[int] | np.ndarray | slice) -> np.ndarray:
        """Compute what is subtracted from every cell, ``h_s + Gamma' z``, for some genes: N x len(genes)."""
        out = self.centres[:, genes][self.sample_codes]
        if self.covariates is not None:
            out += self.covariates.values @ self.covariates.slopes[:, genes]
        return out

    @property
    def _fits(self) -> np.ndarray:
        """The centres h_s, and below them the slopes of the covariates, (S + q) x p."""
        return with_slopes(self.centres, None if self.covariates is None else self.covariates.slopes)

    def cells_of(self, B: np.ndarray) -> np.ndarray:
        """Compute ``R @ B`` (N x k), the products of the weighted residuals of the cells with B (p x k)."""
        scores = arrays.times(self.X, B) - self.fitted(B)
        scores *= np.sqrt(self.cell_weights)[:, None]
        return scores

    def genes_of(self, V: np.ndarray, columns=None) -> np.ndarray:
        """Compute ``R' @ V`` (p x k) for V (N x k), with R the weighted residuals of the cells.

        ``columns`` may hold X as a CSC matrix, in which a product with a single column of V is several times as fast.
        """
        V = np.sqrt(self.cell_weights)[:, None] * V
        sums = arrays.indicator(self.sample_codes, len(self.centres)) @ V
        if self.covariates is not None:
            sums = np.vstack([sums, self.covariates.values.T @ V])
        products = arrays.transposed_times(self.X, V) if columns is None else arrays.times(columns.T, V)
        return products - self._fits.T @ sums

    def residuals(self, cells: np.ndarray | None = None) -> Callable[[slice, Any], np.ndarray]:
        """Return a function of rows and their block that computes the weighted residuals ``sqrt(w) (x - h)``, dense.

        The function is sent to dask workers, so it holds centres and weights but not X.
        """
        chosen = slice(None) if cells is None else cells
        parts = self.centres, self.sample_codes[chosen], np.sqrt(self.cell_weights[chosen])[:, None]
        centres, sample_codes, roots = (asarray_like(self.X, part) for part in parts)
        fitted = None
        if self.covariates is not None:
            fitted = [asarray_like(self.X, part) for part in (self.covariates.values[chosen], self.covariates.slopes)]

        def residuals(rows: slice, block) -> np.ndarray:
            out = arrays.dense(block)
            out -= centres[sample_codes[rows]]
            if fitted is not None:
                out -= fitted[0][rows] @ fitted[1]
            out *= roots[rows]
            return out

        return residuals

    def _gene_variances(self, raw: np.ndarray, genes: slice) -> np.ndarray:
        """Set variances to zero that are only the rounding error of a gene that is constant within groups."""
        return np.where(raw > self._rounding(genes) ** 2, raw, 0.0)

    def _rounding(self, genes: slice) -> np.ndarray:
        """Return the largest residual that a gene which is constant within groups has by rounding errors."""
        return 1e-12 * np.abs(self.means[:, genes]).max(axis=0)


def target_diagonal(variances: np.ndarray, target: str) -> np.ndarray:
    """Return the diagonal of the shrinkage target T, (p,).

    With ``"identity"`` every gene gets the mean variance. With ``"diagonal"`` every gene gets its own variance; a gene
    without variance gets the mean, so that T can be inverted.
    """
    mean = variances.mean()
    if mean == 0:
        mean = 1.0  # no gene varies within groups, so any positive target works
    if target == "identity":
        return np.full_like(variances, mean)
    return np.where(variances > 0, variances, mean)
