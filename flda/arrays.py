"""The one place that knows array kinds: NumPy arrays and every scipy.sparse matrix or array.

Everything above sees float64 blocks of rows or columns and products with thin dense matrices.
Nothing here makes a dense copy larger than a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import scipy.sparse as sp

BLOCK_BYTES = 64 * 2**20  # a dense float64 block; several fit in memory beside the data


def is_sparse(X) -> bool:
    """Whether X is a scipy.sparse matrix or array of any format."""
    return sp.issparse(X)


def block_slices(length: int, other: int) -> Iterator[slice]:
    """Slices along an axis so that a dense float64 block of ``step x other`` fits BLOCK_BYTES."""
    step = max(1, BLOCK_BYTES // (8 * max(1, other)))
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


def dense(block, order: Literal["C", "F"] = "C") -> np.ndarray:
    """A float64 ndarray, copied, of a block of any kind."""
    if is_sparse(block):
        return block.toarray(order=order).astype(np.float64, order=order, copy=False)
    return np.array(block, dtype=np.float64, order=order)


def by_rows(X):
    """X in a format whose rows can be sliced cheaply."""
    return X.tocsr() if is_sparse(X) else X


def by_columns(X):
    """X in a format whose columns can be sliced cheaply."""
    return X.tocsc() if is_sparse(X) else X


def indicator(codes: np.ndarray, n_groups: int) -> sp.csr_array:
    """C x N matrix of ones: row c marks the cells of group c."""
    n = len(codes)
    return sp.csr_array((np.ones(n), (codes, np.arange(n))), shape=(n_groups, n))


def group_sums(X, codes: np.ndarray, n_groups: int) -> np.ndarray:
    """Sum of the rows of X in each group, C x p, accumulated in float64."""
    marks = indicator(codes, n_groups)
    if is_sparse(X):
        return np.asarray((marks @ sp.csr_array(X)).toarray(), dtype=np.float64)
    total = np.zeros((n_groups, X.shape[1]))
    for rows in block_slices(*X.shape):
        total += marks[:, rows] @ np.asarray(X[rows], dtype=np.float64)
    return total


def times(X, B: np.ndarray) -> np.ndarray:
    """``X @ B`` in float64 for a thin dense B (p x k)."""
    if is_sparse(X):
        return np.asarray(X @ B)
    out = np.empty((X.shape[0], B.shape[1]))
    for rows in block_slices(*X.shape):
        out[rows] = np.asarray(X[rows], dtype=np.float64) @ B
    return out


def transposed_times(X, B: np.ndarray) -> np.ndarray:
    """``X.T @ B`` in float64 for a thin dense B (N x k)."""
    if is_sparse(X):
        return np.asarray(X.T @ B)
    out = np.zeros((X.shape[1], B.shape[1]))
    for rows in block_slices(*X.shape):
        out += np.asarray(X[rows], dtype=np.float64).T @ B[rows]
    return out


def squared_norms(X) -> np.ndarray:
    """Squared length of each row in float64, (N,)."""
    X, out = by_rows(X), np.empty(X.shape[0])
    for rows in block_slices(*X.shape):
        block = X[rows]
        if is_sparse(block):
            cells = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
            out[rows] = np.bincount(cells, block.data.astype(np.float64) ** 2, block.shape[0])
        else:
            block = np.asarray(block, dtype=np.float64)
            out[rows] = np.einsum("ij,ij->i", block, block)
    return out


def first_nonfinite(X) -> tuple[int, int, float] | None:
    """Row, column and value of the first NaN or infinite entry in row order, or None."""
    if is_sparse(X):
        data = X.tocoo() if not np.isfinite(X.data).all() else None
        if data is None:
            return None
        bad = np.flatnonzero(~np.isfinite(data.data))
        row, column = data.coords
        first = bad[np.lexsort((column[bad], row[bad]))[0]]
        return int(row[first]), int(column[first]), float(data.data[first])
    for rows in block_slices(*X.shape):
        finite = np.isfinite(X[rows])
        if not finite.all():
            i, j = np.argwhere(~finite)[0]
            return rows.start + int(i), int(j), float(X[rows.start + i, j])
    return None


def detected(X) -> np.ndarray:
    """Number of cells in which each gene is not zero, (p,)."""
    if is_sparse(X):
        entries = X.tocoo()
        return np.bincount(entries.coords[1][entries.data != 0], minlength=X.shape[1])
    return np.count_nonzero(X, axis=0)


def looks_like_counts(X) -> bool:
    """Whether every stored value is a whole, non-negative number and some exceed 1."""
    values = X.data if is_sparse(X) else X
    if values.dtype.kind == "b" or values.size == 0:
        return False
    top = values.max()
    if values.dtype.kind in "iu":
        return bool(top > 1 and values.min() >= 0)
    return bool(top > 1 and values.min() >= 0 and np.all(values == np.floor(values)))
