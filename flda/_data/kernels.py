"""Compiled loops for work that neither BLAS nor scipy.sparse does."""

from __future__ import annotations

import threading
from functools import cache

import numpy as np
import scipy.sparse as sp

# dask calls from several threads, and numba's fallback thread pool is not safe to enter from two at once; each call
# uses all threads anyway, so a lock costs nothing
_ONE_AT_A_TIME = threading.Lock()


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
    import numba  # the import takes a second, so it waits until it is needed

    by_cells = block.data, block.indices, block.indptr
    by_genes = positions.indptr, positions.indices, positions.data
    with _ONE_AT_A_TIME:
        _gram()(*by_cells, *by_genes, weights, out, numba.get_num_threads())


@cache
def _gram():
    """Compile the loop on first use, and cache the machine code on disk where that is possible."""
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

    try:
        return numba.njit(parallel=True, nogil=True, cache=True)(gram)
    except RuntimeError:  # no folder for the cache can be written
        return numba.njit(parallel=True, nogil=True)(gram)
