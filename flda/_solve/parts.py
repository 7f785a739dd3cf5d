"""The scatter within groups of every fold, from the one pass over the data that gives the scatter of all cells.

The scatter ``sum_i w (x_i - h)(x_i - h)'`` of all cells is the sum of those of the folds' held-out cells, so nothing is
read again when a fold takes its own part away. On disk that matters most: the cells of a fold are spread over the file.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .._data import arrays
from .._data.device import OnDevice
from .._data.kernels import add_sparse_gram
from .._data.symmetric import add_products, mirrored
from .._design.splits import Split
from .residuals import CANCELLATION
from .within import Within

MOST_BYTES = 2**29  # memory for the scatters of all folds; half of it with dask, where several tasks hold them


def fold_of_cells(splits: Sequence[Split], n_cells: int) -> np.ndarray | None:
    """Return the split that holds out each cell, (N,), and -1 for a cell of none; None if some cell is in two."""
    labels = np.full(n_cells, -1)
    for f, split in enumerate(splits):
        if np.any(labels[split.test] >= 0):
            return None
        labels[split.test] = f
    return labels


def scatter_by_fold(within: Within, splits: Sequence[Split]) -> tuple[np.ndarray, np.ndarray] | None:
    """Compute the scatter and the sums of the held-out cells of every split in one pass.

    Parameters
    ----------
    within
        The data of all cells.
    splits
        Splits that hold out every cell once at most.

    Returns
    -------
    Scatters, (F + 1) x p x p, and sums of the cells of each sample, (F + 1) x S x p; the last ones are those of the
    cells that no split holds out. The scatter of all cells is the sum over the first axis. The result is None if the
    scatters take too much memory, the data are on a GPU, there are covariates, or sums of raw products lose too many
    digits; the scatter of all cells is then to be computed by itself.
    """
    (N, p), S, F = within.shape, len(within.centres), len(splits) + 1
    X = within.X
    limit = MOST_BYTES // 2 if arrays.is_dask(X) else MOST_BYTES
    too_large = 8 * F * p * (p + S) > limit
    if not splits or too_large or isinstance(X, OnDevice) or within.covariates is not None:
        return None
    labels = fold_of_cells(splits, N)
    if labels is None:
        return None
    thin, weights, sample_codes, residuals = arrays.is_thin(X), within.cell_weights, within.sample_codes, None
    if not thin:
        residuals = within.residuals()

    def add(out: np.ndarray, rows: slice, block) -> None:
        for f in range(F):
            own = np.flatnonzero(labels[rows] == (f if f < F - 1 else -1))
            if len(own) == 0:
                continue
            cells, some = rows.start + own, block[own]
            out[f, p:] += arrays.block_sums(some, sample_codes[cells], S)
            if residuals is None:
                add_sparse_gram(out[f, :p], some, weights[cells])
            else:  # the upper triangle of C order is the lower one of the Fortran order that BLAS writes
                add_products(out[f, :p].T, residuals(cells, some))

    # blocks so large that the part of a fold has the size that suits the products
    found = arrays.reduce_rows(X, add, (F, p + S, p), n_bytes=F * arrays.BLOCK_BYTES)
    scatters, sums = found[:, :p], found[:, p:].copy()
    if residuals is not None:
        for scatter in scatters:
            mirrored(scatter.T)
        return scatters, sums
    raw = np.einsum("fjj->j", scatters)
    for f in range(F):
        own = labels == (f if f < F - 1 else -1)
        sizes = np.bincount(sample_codes[own], weights[own], minlength=S)
        within.subtract_centres(mirrored(scatters[f]), within.sample_weights[:, None] * sums[f], np.diag(sizes))
    if np.any(raw > CANCELLATION * np.einsum("fjj->j", scatters)):
        return None
    return scatters, sums
