"""Compiled loops, for what neither BLAS nor scipy.sparse does."""

from __future__ import annotations

import threading
from functools import cache

import numpy as np
import scipy.sparse as sp

# numba's fallback pool of threads must not be entered twice, and dask calls from several threads; the loop is
# parallel within, so taking turns costs nothing
_ONE_AT_A_TIME = threading.Lock()


def add_sparse_gram(out: np.ndarray, block, weights: np.ndarray) -> None:
    """Add ``block' diag(weights) block`` of a CSR block to the upper triangle of out, p x p in C order.

    The work is a loop over the pairs of genes that a cell expresses: at 5 % density a 400th of that of the dense
    product. It goes gene by gene, so that one row of out stays in the fastest memory, through all cells that express
    the gene. Each thread owns every n-th row of out, so none waits for another.
    """
    if not block.has_canonical_format:
        block = block.copy()
        block.sum_duplicates()
    # by genes: which cells express it, and where in the block those entries are
    places = sp.csr_array((np.arange(block.nnz), block.indices, block.indptr), shape=block.shape).tocsc()
    import numba  # takes a second: not before it is needed

    by_cells, by_genes = (block.data, block.indices, block.indptr), (places.indptr, places.indices, places.data)
    with _ONE_AT_A_TIME:
        _gram()(*by_cells, *by_genes, weights, out, numba.get_num_threads())


@cache
def _gram():
    import numba

    def gram(data, indices, indptr, starts, cells, places, weights, out, n_threads):
        for thread in numba.prange(n_threads):
            for gene in range(thread, len(starts) - 1, n_threads):
                row = out[gene]
                for i in range(starts[gene], starts[gene + 1]):
                    cell, first = cells[i], places[i]
                    x = weights[cell] * np.float64(data[first])
                    for b in range(first, indptr[cell + 1]):
                        # unsigned: no check for a negative index
                        row[np.uintp(indices[b])] += x * np.float64(data[np.uintp(b)])

    try:
        return numba.njit(parallel=True, nogil=True, cache=True)(gram)
    except RuntimeError:  # no folder to cache in can be written
        return numba.njit(parallel=True, nogil=True)(gram)
