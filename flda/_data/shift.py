"""Adding to every cell a row that belongs to its group, in blocks of rows."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from .arrays import BLOCK_BYTES, by_rows, is_dask, is_sparse, row_blocks
from .device import OnDevice, to_numpy

SPARSE = 0.3  # share of the values that may become non-zero for a sparse result


def changed_share(codes: np.ndarray, shift: np.ndarray, *, clip: bool) -> float:
    """Return the share of all values that :func:`shifted` may change from zero to something else."""
    counts = np.bincount(codes[codes >= 0], minlength=len(shift))
    changed = (shift > 0) if clip else (shift != 0)
    missing = np.sum(codes < 0) / len(codes)
    return float(counts @ changed.mean(axis=1) / len(codes) + missing)


def result_dtype(X) -> np.dtype:
    """Return float32 for float32, and float64 for all others."""
    return np.dtype(np.float32 if X.dtype == np.float32 else np.float64)


def shifted(X, codes: np.ndarray, shift: np.ndarray, *, clip: bool):
    """Add to every row of X the row of ``shift`` that belongs to its group; X does not change.

    Parameters
    ----------
    X
        Expression, N x p, of any kind.
    codes
        Group of each cell, (N,). Cells with -1 get NaN.
    shift
        What to add, C x p.
    clip
        Whether a value that was not negative is set to zero instead of becoming negative.

    Returns
    -------
    A dask array for a dask array. Otherwise a CSR matrix if X is sparse and at most SPARSE of all values can become
    non-zero, and else an array. No block is larger than those that X is read in.
    """
    thin = changed_share(codes, shift, clip=clip) <= SPARSE
    dtype = result_dtype(X)

    def move(block, groups: np.ndarray):
        sparse = is_sparse(block)
        x = np.asarray(to_numpy(block) if not sparse else block.toarray(), dtype=np.float64)
        out = x + shift[groups]
        if clip:
            out[(x >= 0) & (out < 0)] = 0.0
        out[groups < 0] = np.nan
        out = out.astype(dtype, copy=False)
        return sp.csr_matrix(out) if sparse and thin else out

    if isinstance(X, OnDevice) and (is_sparse(X.source) or isinstance(X.source, np.ndarray)):
        X = X.source
    if is_dask(X):
        return _lazily(X, codes, move, dtype)
    if isinstance(X, np.ndarray) or not thin:
        out = np.empty(X.shape, dtype=dtype)
        for rows, block in row_blocks(X):
            out[rows] = _dense(move(block, codes[rows]))
        return out
    parts = [move(block, codes[rows]) for rows, block in row_blocks(X)]
    return sp.vstack(parts, format="csr") if is_sparse(parts[0]) else np.vstack(parts)


def _dense(block) -> np.ndarray:
    return block.toarray() if is_sparse(block) else block


def _lazily(X, codes: np.ndarray, move, dtype: np.dtype):
    """Return a dask array of the shifted chunks, which are computed when they are used."""
    import dask
    import dask.array as da

    step = max(1, BLOCK_BYTES // (8 * X.shape[1]))
    if len(X.chunks[1]) > 1 or max(X.chunks[0]) > step:
        X = X.rechunk({0: step, 1: -1})
    start, parts = 0, []
    for size, block in zip(X.chunks[0], X.to_delayed()[:, 0], strict=True):
        part = dask.delayed(lambda block, groups: _dense(move(by_rows(block), groups)))(
            block, codes[start : start + size]
        )
        parts.append(da.from_delayed(part, (size, X.shape[1]), dtype=dtype, meta=np.empty((0, 0), dtype=dtype)))
        start += size
    return da.concatenate(parts)
