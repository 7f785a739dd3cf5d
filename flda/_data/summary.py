"""One pass over the values of a matrix: sums, squares, detected genes, and the check that every value is finite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .arrays import (
    as_float,
    block_sums,
    by_rows,
    canonical,
    has_many_entries,
    in_memory,
    is_dask,
    is_sparse,
    map_rows,
    reduce_rows,
    row_blocks,
)
from .device import OnDevice, asarray_like, is_device, to_numpy
from .kernels import sums_and_squares

COMPILED = 2**17  # entries of a sparse block from which the compiled loop is faster


class NonFiniteError(ValueError):
    """X contains NaN or an infinite value.

    Parameters
    ----------
    row, column, value
        The first such value in row order.
    names
        Names of the columns, for the message; without them the message gives the index of the column.

    Attributes
    ----------
    row, column, value
        As above.
    """

    def __init__(self, row: int, column: int, value: float, names: Sequence[str] | np.ndarray | None = None):
        self.row, self.column, self.value = row, column, value
        gene = f"column {column}" if names is None else f"gene {names[column]!r}"
        what = "NaN" if np.isnan(value) else "inf"
        super().__init__(f"Input X contains {what} in row {row}, {gene}; remove or impute such values first.")


@dataclass(frozen=True)
class Summary:
    """What one pass over a matrix finds out about its values; :func:`summarise` makes it.

    Attributes
    ----------
    sums
        Sum of the rows of each sample, S x p.
    squares
        Sum of the squared entries of each sample and gene, S x p.
    counts_like
        Whether X looks like raw counts: no value is negative or fractional, and some value exceeds 1.
    negative
        Whether some value is negative.
    log_detected
        Sum over the rows of each sample, (S,), of the logarithm of the number of entries that are not zero.
    """

    sums: np.ndarray
    squares: np.ndarray
    counts_like: bool
    negative: bool
    log_detected: np.ndarray


def summarise(X, codes: np.ndarray, n_samples: int, names: np.ndarray | None = None) -> Summary:
    """Compute sums and sums of squares of the rows of each sample, and check that X is finite, in one pass.

    Parameters
    ----------
    X
        Expression, N x p, of any kind.
    codes
        Sample of each row, (N,).
    n_samples
        The number of samples, S.
    names
        Names of the columns, for the error message.

    Returns
    -------
    A :class:`Summary`.

    Raises
    ------
    NonFiniteError
        If X contains NaN or an infinite value.
    """
    S, p = n_samples, X.shape[1]
    large = has_many_entries(X) or not in_memory(X)  # loading the compiled loop takes a second

    def update(out: np.ndarray, rows: slice, block) -> None:
        block = canonical(block)
        if large and is_sparse(block) and block.nnz >= COMPILED:
            sums, squares = sums_and_squares(block, codes[rows], S)
        else:
            sums, squares = (block_sums(values, codes[rows], S) for values in (block, _squared(block)))
        out[:S, :p] += sums
        out[S : 2 * S, :p] += squares
        # the last column takes what is known of the rows as a whole
        detected = _detected(block)
        logs = np.bincount(codes[rows], np.log(np.maximum(detected, 1)), S)
        out[:S, p] += asarray_like(out, logs)
        values = block.data if is_sparse(block) else block
        # the last three rows of out count what speaks against and for raw counts: values that are no counts, and values
        # above 1; once a value is fractional, later blocks need not be searched for them. Negative values are added up
        lowest = float(values.min()) if values.size else 0.0
        out[-3, 0] += min(lowest, 0.0)
        if out[-2, 0] == 0 and values.size:
            fraction = values.dtype.kind == "f" and not bool((values == np.floor(values)).all())
            out[-2, 0] += fraction or lowest < 0
            out[-1, 0] += bool(values.max() > 1)

    total = to_numpy(reduce_rows(X, update, (2 * S + 3, p + 1)))
    # NaN and inf survive any sum, so X is searched only if a sum is not finite (it can also have overflowed)
    if not np.isfinite(total[:S]).all() and (bad := first_nonfinite(X)) is not None:
        raise NonFiniteError(*bad, names)
    counts_like = bool(X.dtype.kind != "b" and total[-2, 0] == 0 and total[-1, 0] > 0)
    sums, squares = (np.ascontiguousarray(total[k * S : (k + 1) * S, :p]) for k in range(2))
    return Summary(sums, squares, counts_like, bool(total[-3, 0] < 0), total[:S, p].copy())


def _detected(block) -> np.ndarray:
    """Count the entries of each row that are not zero."""
    if not is_sparse(block):
        return to_numpy((block != 0).sum(axis=1))
    stored = np.diff(block.indptr)
    zeros = np.flatnonzero(block.data == 0)
    return stored - np.bincount(np.searchsorted(block.indptr, zeros, side="right") - 1, minlength=len(stored))


def first_nonfinite(X) -> tuple[int, int, float] | None:
    """Return row, column and value of the first NaN or infinite entry in row order, or None if X is finite."""
    if isinstance(X, OnDevice) and not is_device(X.source):
        return first_nonfinite(X.source)
    if is_dask(X):
        bad = map_rows(X, lambda rows, block: _nonfinite_rows(block), 1)[:, 0]
        if not bad.any():
            return None
        first = int(np.flatnonzero(bad)[0])
        found = _first_in(by_rows(X[first : first + 1].compute()))
        return None if found is None else (first, *found[1:])
    for rows, block in row_blocks(X):
        if (found := _first_in(block)) is not None:
            return rows.start + found[0], *found[1:]
    return None


def _squared(block):
    """Square the entries of a block in float64, on the GPU if the block is there."""
    if is_sparse(block):
        out = block.astype(np.float64)
        out.data **= 2
        return out
    return as_float(block) ** 2


def _first_in(block) -> tuple[int, int, float] | None:
    """Return row, column and value of the first non-finite entry of a block in memory, or None."""
    if is_sparse(block):
        bad = np.flatnonzero(~np.isfinite(block.data))
        if len(bad) == 0:
            return None
        rows = np.searchsorted(block.indptr, bad, side="right") - 1
        first = bad[np.lexsort((block.indices[bad], rows))[0]]
        row = int(np.searchsorted(block.indptr, first, side="right") - 1)
        return row, int(block.indices[first]), float(block.data[first])
    finite = np.isfinite(block)
    if finite.all():
        return None
    i, j = map(int, np.argwhere(~finite)[0])
    return i, j, float(block[i, j])


def _nonfinite_rows(block) -> np.ndarray:
    """Mark the rows of a block that hold a non-finite entry with one, n x 1."""
    out = np.zeros((block.shape[0], 1))
    if is_sparse(block):
        bad = np.flatnonzero(~np.isfinite(block.data))
        out[np.searchsorted(block.indptr, bad, side="right") - 1] = 1
    else:
        out[~np.isfinite(block).all(axis=1)] = 1
    return out
