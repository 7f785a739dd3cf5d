"""The one place that knows array kinds: NumPy arrays, scipy.sparse, dask, matrices on disk, and blocks on a GPU.

Everything above sees blocks of rows in memory (dense or CSR; dense float64 on a GPU), through two functions:
:func:`reduce_rows` adds up what each block gives, :func:`map_rows` stacks it. On a dask array the blocks go to its
scheduler and the sums are added as a tree, so a cluster runs them side by side; everything else is a loop. Nothing here
makes a dense float64 copy larger than a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp

from . import device
from .device import OnDevice, asarray_like, namespace, to_numpy

BLOCK_BYTES = 64 * 2**20  # a dense float64 block; several fit in memory beside the data
THIN = 0.2  # density below which the compiled product of sparse rows is faster than BLAS on dense ones
FAN_IN = 4  # partial sums that one task of the tree adds


@dataclass(frozen=True)
class Stream:
    """Rows of a matrix on disk, read in blocks: anything that slices by rows, such as a backed AnnData's ``X``.

    Attributes
    ----------
    source
        ``source[start:stop]`` gives rows, dense or CSR.
    cells, genes
        The rows (sorted) and columns that belong to the matrix.
    """

    source: Any
    cells: np.ndarray
    genes: np.ndarray

    @classmethod
    def of(cls, source: Any) -> Stream:
        """All of a matrix."""
        return cls(source, np.arange(source.shape[0]), np.arange(source.shape[1]))

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes."""
        return len(self.cells), len(self.genes)

    @property
    def ndim(self) -> int:
        """Two."""
        return 2

    @property
    def dtype(self) -> np.dtype:
        """That of the source."""
        return np.dtype(self.source.dtype)

    def __getitem__(self, key) -> Stream:
        """Fewer cells, or fewer genes (``[:, genes]``); nothing is read."""
        cells, genes = key if isinstance(key, tuple) else (key, slice(None))
        chosen = self.cells[cells]
        if np.any(np.diff(chosen) <= 0):
            raise ValueError("cells of a matrix on disk can only be chosen in their order.")
        return Stream(self.source, chosen, self.genes[genes])

    def blocks(self) -> Iterator[tuple[slice, Any]]:
        """Places among the rows of this matrix, and the rows."""
        all_genes = len(self.genes) == self.source.shape[1]
        for rows in block_slices(*self.source.shape):
            first, last = np.searchsorted(self.cells, [rows.start, rows.stop])
            if first == last:
                continue
            block = self.source[rows]
            wanted = self.cells[first:last] - rows.start
            if len(wanted) < rows.stop - rows.start:
                block = block[wanted]
            yield slice(int(first), int(last)), block if all_genes else block[:, self.genes]


def is_sparse(X) -> bool:
    """Whether X is a scipy.sparse matrix or array of any format."""
    return sp.issparse(X)


def is_dask(X) -> bool:
    """Whether X is a dask array."""
    return type(X).__module__.startswith("dask.")


def in_memory(X) -> bool:
    """Whether X is a NumPy array or a scipy.sparse matrix, or such a matrix to be worked on by a GPU."""
    if isinstance(X, OnDevice):
        return in_memory(X.source) or device.is_device(X.source)
    return is_sparse(X) or isinstance(X, np.ndarray)


def is_thin(X) -> bool:
    """Whether products of sparse blocks beat BLAS on dense ones, which is a matter of the share of non-zeros.

    The density of a matrix on disk is that of its first block; a dask array is taken for as thin as its first chunk.
    """
    if isinstance(X, np.ndarray | OnDevice):
        return False
    if is_sparse(X):
        return X.nnz < THIN * X.shape[0] * X.shape[1]
    if is_dask(X):
        if not hasattr(X._meta, "indptr"):
            return False
        block = next(iter(_chunks(X)))[1].compute()
    else:
        block = next(X.blocks())[1]
    return is_sparse(block) and block.nnz < THIN * block.shape[0] * block.shape[1]


def block_slices(length: int, other: int, n_bytes: int | None = None) -> Iterator[slice]:
    """Slices along an axis so that a dense float64 block of ``step x other`` fits n_bytes, or BLOCK_BYTES."""
    step = max(1, (n_bytes or BLOCK_BYTES) // (8 * max(1, other)))
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


def row_blocks(X) -> Iterator[tuple[slice, Any]]:
    """Places and rows of every block of a matrix, one after the other."""
    if isinstance(X, Stream):
        yield from X.blocks()
        return
    if is_dask(X):
        for rows, block in _chunks(X):
            yield rows, by_rows(block.compute())
        return
    X = by_rows(X)
    if isinstance(X, OnDevice):
        if isinstance(X.source, Stream) or is_dask(X.source):
            for rows, block in row_blocks(X.source):
                yield rows, device.to_device(block)
            return
        for rows in block_slices(*X.shape, device.BLOCK_BYTES):
            yield rows, X[rows].on_device()
        return
    for rows in block_slices(*X.shape):
        yield rows, _rows_of(X, rows)


def reduce_rows(
    X, update: Callable[[np.ndarray, slice, Any], None], shape: tuple[int, ...], order: Literal["C", "F"] = "C"
) -> np.ndarray:
    """Sum over blocks: ``update(out, rows, block)`` adds one block to ``out``, float64 zeros at first.

    The sum is where the blocks are: on the GPU for :class:`OnDevice`.
    """
    if not is_dask(X):
        out = namespace(X).zeros(shape, order=order)
        for rows, block in row_blocks(X):
            update(out, rows, block)
        return out
    import dask

    # one node of the graph holds what update closes over, instead of every task
    shared = dask.delayed(update, pure=False)
    parts = [dask.delayed(_partial)(shared, rows, block, shape, order) for rows, block in _chunks(X)]
    while len(parts) > 1:
        parts = [dask.delayed(_add)(parts[i : i + FAN_IN]) for i in range(0, len(parts), FAN_IN)]
    return parts[0].compute()


def map_rows(X, function: Callable[[slice, Any], np.ndarray], width: int) -> np.ndarray:
    """``function(rows, block)`` of every block, float64 n x width, stacked."""
    out = np.empty((X.shape[0], width))
    if not is_dask(X):
        for rows, block in row_blocks(X):
            out[rows] = to_numpy(function(rows, block))
        return out
    import dask

    shared = dask.delayed(function, pure=False)
    places, blocks = zip(*_chunks(X), strict=True)
    parts = dask.compute(
        *(dask.delayed(_call)(shared, rows, block) for rows, block in zip(places, blocks, strict=True))
    )
    for rows, part in zip(places, parts, strict=True):
        out[rows] = part
    return out


def dense(block, order: Literal["C", "F"] = "C") -> np.ndarray:
    """A float64 array, copied, of a block of any kind; on the device for what is there."""
    if isinstance(block, OnDevice):
        block = block.on_device()
    if is_sparse(block):
        return block.toarray(order=order).astype(np.float64, order=order, copy=False)
    return namespace(block).array(block, dtype=np.float64, order=order)


def by_rows(X):
    """X in a format whose rows can be sliced cheaply."""
    if isinstance(X, OnDevice):
        return OnDevice(by_rows(X.source))
    return X.tocsr() if _has_format(X) else X


def by_columns(X):
    """X in a format whose columns can be sliced cheaply."""
    if isinstance(X, OnDevice):
        return OnDevice(by_columns(X.source))
    return X.tocsc() if _has_format(X) else X


def canonical(X):
    """A matrix without duplicate entries: a copy with sorted indices of a sparse one that has any or is not sorted."""
    if not is_sparse(X) or X.has_canonical_format:
        return X
    X = X.copy()
    X.sum_duplicates()
    return X


def indicator(codes: np.ndarray, n_groups: int) -> sp.csr_array:
    """C x N matrix of ones: row c marks the cells of group c."""
    n = len(codes)
    return sp.csr_array((np.ones(n), (codes, np.arange(n))), shape=(n_groups, n))


def block_sums(block, codes: np.ndarray, n_groups: int) -> np.ndarray:
    """Sum of the rows of a block in each group, C x p, float64, where the block is."""
    marks = indicator(codes, n_groups)
    if is_sparse(block):
        return (marks @ sp.csr_array(block)).toarray()
    return asarray_like(block, marks) @ as_float(block)


def group_sums(X, codes: np.ndarray, n_groups: int) -> np.ndarray:
    """Sum of the rows of X in each group, C x p, accumulated in float64."""

    def update(out: np.ndarray, rows: slice, block) -> None:
        out += block_sums(block, codes[rows], n_groups)

    return to_numpy(reduce_rows(X, update, (n_groups, X.shape[1])))


def times(X, B: np.ndarray) -> np.ndarray:
    """``X @ B`` in float64 for a thin dense B (p x k)."""
    B = asarray_like(X, B)
    return map_rows(X, lambda rows, block: as_float(block) @ B, B.shape[1])


def transposed_times(X, B: np.ndarray) -> np.ndarray:
    """``X.T @ B`` in float64 for a thin dense B (N x k)."""
    B = asarray_like(X, B)

    def update(out: np.ndarray, rows: slice, block) -> None:
        out += as_float(block).T @ B[rows]

    return to_numpy(reduce_rows(X, update, (X.shape[1], B.shape[1])))


def detected(X) -> np.ndarray:
    """Number of cells in which each gene is not zero, (p,)."""

    def update(out: np.ndarray, rows: slice, block) -> None:
        if is_sparse(block):
            block = canonical(block)
            out[0] += np.bincount(block.indices[block.data != 0], minlength=len(out[0]))
        else:
            out[0] += np.count_nonzero(block, axis=0)

    return to_numpy(reduce_rows(X, update, (1, X.shape[1])))[0].astype(np.int64)


def _has_format(X) -> bool:
    """Whether X is a sparse matrix of scipy or cupy."""
    return is_sparse(X) or (device.is_device(X) and hasattr(X, "tocsr"))


def _rows_of(X, rows: slice):
    """``X[rows]``; of CSR without the copy that scipy makes."""
    if not is_sparse(X):
        return X[rows]
    start, stop = X.indptr[rows.start], X.indptr[rows.stop]
    indptr = X.indptr[rows.start : rows.stop + 1] - start
    block = sp.csr_array((X.data[start:stop], X.indices[start:stop], indptr), shape=(len(indptr) - 1, X.shape[1]))
    # known once for all blocks; else scipy finds out, or sorts, whenever it changes the type of one
    block.has_sorted_indices, block.has_canonical_format = X.has_sorted_indices, X.has_canonical_format
    return block


def as_float(block):
    """A block that multiplies in float64."""
    if is_sparse(block):
        return block if block.dtype == np.float64 else block.astype(np.float64)
    return block.astype(np.float64, copy=False)


def _chunks(X) -> Iterator[tuple[slice, Any]]:
    """Places and delayed rows of the chunks of a dask array; chunks span all genes."""
    if len(X.chunks[1]) > 1:
        X = X.rechunk({1: -1})
    start = 0
    for size, block in zip(X.chunks[0], X.to_delayed()[:, 0], strict=True):
        if size:
            yield slice(start, start + size), block
        start += size


def _partial(update, rows: slice, block, shape: tuple[int, ...], order: Literal["C", "F"]) -> np.ndarray:
    out = np.zeros(shape, order=order)
    update(out, rows, by_rows(block))
    return out


def _call(function, rows: slice, block) -> np.ndarray:
    return function(rows, by_rows(block))


def _add(parts: list[np.ndarray]) -> np.ndarray:
    total = parts[0].copy(order="K")
    for part in parts[1:]:
        total += part
    return total
