"""Compiled loops for work that neither BLAS nor scipy.sparse does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache

import numpy as np
import scipy.sparse as sp

# dask calls from several threads, and numba's fallback thread pool is not safe to enter from two at once; each call
# uses all threads anyway, so a lock costs nothing
ONE_AT_A_TIME = threading.Lock()
FLIPS = 32  # flips whose sums are added up together: fewer read every entry more often, more leave the cache


def compiled(function: Callable) -> Callable:
    """Compile a parallel loop, and cache the machine code on disk where that is possible."""
    import numba  # the import takes a second, so it waits until it is needed

    try:
        return numba.njit(parallel=True, nogil=True, cache=True)(function)
    except RuntimeError:  # no folder for the cache can be written
        return numba.njit(parallel=True, nogil=True)(function)


def add_sparse_gram(out: np.ndarray, block, weights: np.ndarray) -> None:
    """Add ``block' diag(weights) block`` of a CSR block to the upper triangle of ``out``.

    The loop visits only pairs of genes that are both expressed in a cell: at a density of 5 % that is 1/400 of the
    operations of the dense product. It goes gene by gene through all cells that express the gene, so that one row of
    ``out`` stays in the fastest cache. Each of n threads owns every n-th row of ``out``, so no thread waits for
    another.

    Parameters
    ----------
    out
        Float64 array, p x p in C order; only its upper triangle is written.
    block
        Cells x genes, CSR.
    weights
        The weight of each cell of the block.
    """
    if not block.has_canonical_format:
        block = block.copy()
        block.sum_duplicates()
    # for every gene: the cells that express it, and the positions of these entries in block.data
    positions = sp.csr_array((np.arange(block.nnz), block.indices, block.indptr), shape=block.shape).tocsc()
    import numba

    by_cells = block.data, block.indices, block.indptr
    by_genes = positions.indptr, positions.indices, positions.data
    with ONE_AT_A_TIME:
        _gram()(*by_cells, *by_genes, weights, out, numba.get_num_threads())


@cache
def _gram():
    """Compile the loop on first use."""
    import numba

    def gram(data, indices, indptr, starts, cells, positions, weights, out, n_threads):
        for thread in numba.prange(n_threads):
            for gene in range(thread, len(starts) - 1, n_threads):
                row = out[gene]
                for i in range(starts[gene], starts[gene + 1]):
                    cell, first = cells[i], positions[i]
                    x = weights[cell] * np.float64(data[first])
                    # columns are sorted within a cell, so this and the following entries form the upper triangle
                    for b in range(first, indptr[cell + 1]):
                        # an unsigned index saves the check for a negative one
                        row[np.uintp(indices[b])] += x * np.float64(data[np.uintp(b)])

    return compiled(gram)


def residual_columns(
    out: np.ndarray, block, centres: np.ndarray, codes: np.ndarray, roots: np.ndarray, floors: np.ndarray, scaled: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Write ``roots[i] (x_ij - centres[codes[i], j])`` of a CSC block to ``out[j, i]``, and return squared lengths.

    The residuals are computed in double precision, and stored in that of ``out``, which is what a product in single
    precision needs.

    Parameters
    ----------
    out
        Genes x cells, C order; the rest of each row, if it is longer, is left as it is.
    block
        Cells x genes, CSC.
    centres, codes
        What is subtracted, S x genes, and its row for each cell.
    roots
        Factor of each cell.
    floors
        Squared length of each gene up to which its residuals are rounding errors.
    scaled
        Whether residuals are divided by the length of their gene; those of genes below their floor are then zero.

    Returns
    -------
    Squared length of the residuals of each gene (before they are divided by it, and also if below its floor), and of
    each cell (after that).
    """
    import numba

    n_threads = numba.get_num_threads()
    squares, norms = np.empty(len(floors)), np.zeros((n_threads, len(codes)))
    by_genes = block.data, block.indices, block.indptr
    with ONE_AT_A_TIME:
        _residuals()(*by_genes, centres.T.copy(), codes, roots, floors, scaled, squares, norms, out, n_threads)
    return squares, norms.sum(axis=0)


@cache
def _residuals():
    """Compile the loop on first use."""
    import numba

    def residuals(data, cells, starts, centres, codes, roots, floors, scaled, squares, norms, out, n_threads):
        N = len(codes)
        for thread in numba.prange(n_threads):
            column, own = np.empty(N), norms[thread]
            for gene in range(thread, len(floors), n_threads):
                centre = centres[gene]
                for i in range(N):
                    column[i] = -centre[codes[i]]
                for k in range(starts[gene], starts[gene + 1]):
                    column[cells[k]] += data[k]
                total = 0.0
                for i in range(N):
                    column[i] *= roots[i]
                    total += column[i] * column[i]
                squares[gene] = total
                factor = 1.0
                if scaled:
                    factor = 1 / np.sqrt(total) if total > floors[gene] else 0.0
                for i in range(N):
                    x = column[i] * factor
                    own[i] += x * x
                    out[gene, i] = x

    return compiled(residuals)


def add_flips(out: np.ndarray, block, codes: np.ndarray, signs: np.ndarray) -> None:
    """Add ``signs[i] * x_ij`` to ``out[codes[i], j]`` for every entry of a CSR block.

    Parameters
    ----------
    out
        Sums, (C, p or more, F).
    block
        Cells x genes, CSR.
    codes
        Group of each cell of the block.
    signs
        Signs of these cells under F flips, n x F.
    """
    import numba

    data = block.data.astype(np.float64, copy=False)
    order = np.argsort(codes, kind="stable")
    starts = np.append(0, np.cumsum(np.bincount(codes, minlength=len(out))))
    with ONE_AT_A_TIME:
        _flips()(data, block.indices, block.indptr, order, starts, signs, out, block.shape[1], numba.get_num_threads())


@cache
def _flips():
    """Compile the loop on first use."""
    import numba

    def flips(data, indices, indptr, order, starts, signs, out, p, n_threads):
        F = signs.shape[1]
        for thread in numba.prange(n_threads):  # every thread has flips of its own
            end = F * (thread + 1) // n_threads
            # the sums of one group in a few flips lie side by side, so that they stay in a fast cache; in ``out`` the
            # same flips of all genes are far apart, and would share few lines of it
            sums, own = np.empty((p, FLIPS)), np.empty(FLIPS)
            for first in range(F * thread // n_threads, end, FLIPS):
                n = min(FLIPS, end - first)
                for c in range(len(starts) - 1):
                    if starts[c] == starts[c + 1]:
                        continue
                    sums[:, :n] = 0
                    for i in order[starts[c] : starts[c + 1]]:
                        for f in range(n):
                            own[f] = signs[i, first + f]
                        for k in range(indptr[i], indptr[i + 1]):
                            x, target = data[k], sums[np.uintp(indices[k])]
                            for f in range(n):
                                target[f] += x * own[f]
                    for j in range(p):
                        for f in range(n):
                            out[c, j, first + f] += sums[j, f]

    return compiled(flips)


def sparse_times(X, B: np.ndarray) -> np.ndarray:
    """Compute ``X @ B`` in float64 for a CSR or CSC matrix X (n x p) and a thin dense B (p x k).

    Unlike the product of scipy, the loop needs no copy of X in float64, and it uses all threads.
    """
    import numba

    B, n_threads = np.ascontiguousarray(B, dtype=np.float64), numba.get_num_threads()
    bounds = _shares(X.indptr, n_threads)
    parts = (1 if X.format == "csr" else n_threads, X.shape[0], B.shape[1])
    out = np.empty(parts) if X.format == "csr" else np.zeros(parts)
    loop = _times_by_rows() if X.format == "csr" else _times_by_columns()
    with ONE_AT_A_TIME:
        loop(X.data, X.indices, X.indptr, bounds, B, out, n_threads)
    return out.sum(axis=0) if len(out) > 1 else out[0]


@cache
def _times_by_rows():
    """Compile the loop on first use."""
    import numba

    def times(data, columns, indptr, bounds, B, out, n_threads):
        k = B.shape[1]
        for thread in numba.prange(n_threads):
            row = np.empty(k)
            for i in range(bounds[thread], bounds[thread + 1]):
                if k == 1:  # a sum in a register
                    total = 0.0
                    for e in range(indptr[i], indptr[i + 1]):
                        total += np.float64(data[e]) * B[np.uintp(columns[e]), 0]
                    out[0, i, 0] = total
                    continue
                row[:] = 0
                for e in range(indptr[i], indptr[i + 1]):
                    x, other = np.float64(data[e]), B[np.uintp(columns[e])]
                    for c in range(k):
                        row[c] += x * other[c]
                out[0, i] = row

    return compiled(times)


@cache
def _times_by_columns():
    """Compile the loop on first use."""
    import numba

    def times(data, rows, indptr, bounds, B, out, n_threads):
        k = B.shape[1]
        for thread in numba.prange(n_threads):  # every thread has sums of its own
            sums = out[thread]
            for j in range(bounds[thread], bounds[thread + 1]):
                own = B[j]
                for e in range(indptr[j], indptr[j + 1]):
                    x, row = np.float64(data[e]), sums[np.uintp(rows[e])]
                    for c in range(k):
                        row[c] += x * own[c]

    return compiled(times)


def scatter_times(X, B: np.ndarray, shift: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute ``S = diag(weights) (X B - shift)`` and ``X' S`` for a CSR matrix X in one pass over its entries.

    Parameters
    ----------
    X
        Cells x genes, CSR.
    B, shift, weights
        Arrays p x k, N x k and N.

    Returns
    -------
    ``X' S``, p x k, and S, N x k.
    """
    import numba

    n_threads = numba.get_num_threads()
    B, scores = np.ascontiguousarray(B, dtype=np.float64), np.empty((X.shape[0], B.shape[1]))
    out = np.zeros((n_threads, *B.shape))
    with ONE_AT_A_TIME:
        _scatter_times()(
            X.data, X.indices, X.indptr, _shares(X.indptr, n_threads), B, shift, weights, scores, out, n_threads
        )
    return out.sum(axis=0), scores


def _shares(indptr: np.ndarray, n_threads: int) -> np.ndarray:
    """Cut the rows of a matrix into one range for each thread, with about as many entries each."""
    n = len(indptr) - 1
    ends = np.searchsorted(indptr, np.linspace(0, indptr[-1], n_threads + 1)[1:-1])
    return np.concatenate([[0], np.minimum(ends, n), [n]])


@cache
def _scatter_times():
    """Compile the loop on first use."""
    import numba

    def times(data, columns, indptr, bounds, B, shift, weights, scores, out, n_threads):
        k = B.shape[1]
        for thread in numba.prange(n_threads):  # every thread has sums of its own
            sums = out[thread]
            for i in range(bounds[thread], bounds[thread + 1]):
                row = scores[i]
                row[:] = 0
                for e in range(indptr[i], indptr[i + 1]):
                    x, other = np.float64(data[e]), B[np.uintp(columns[e])]
                    for c in range(k):
                        row[c] += x * other[c]
                for c in range(k):
                    row[c] = weights[i] * (row[c] - shift[i, c])
                for e in range(indptr[i], indptr[i + 1]):  # the entries of the cell are still in the cache
                    x, other = np.float64(data[e]), sums[np.uintp(columns[e])]
                    for c in range(k):
                        other[c] += x * row[c]

    return compiled(times)


def sums_and_squares(block, codes: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Sum the entries of a CSR block, and their squares, within each group of rows: two arrays, C x p, in float64."""
    order = np.argsort(codes, kind="stable")
    starts = np.append(0, np.cumsum(np.bincount(codes, minlength=n_groups)))
    sums, squares = np.zeros((2, n_groups, block.shape[1]))
    with ONE_AT_A_TIME:
        _sums_and_squares()(block.data, block.indices, block.indptr, order, starts, sums, squares)
    return sums, squares


@cache
def _sums_and_squares():
    """Compile the loop on first use."""
    import numba

    def add(data, indices, indptr, order, starts, sums, squares):
        for c in numba.prange(len(starts) - 1):  # no two threads have the same group
            for i in order[starts[c] : starts[c + 1]]:
                for e in range(indptr[i], indptr[i + 1]):
                    x, j = np.float64(data[e]), np.uintp(indices[e])
                    sums[c, j] += x
                    squares[c, j] += x * x

    return compiled(add)
