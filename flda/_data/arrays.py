"""Access to every kind of matrix in blocks of rows: NumPy, scipy.sparse, dask, matrices on disk, and GPUs.

This module and :mod:`flda._data.device` are the only ones that know the kinds of array. All other modules see blocks of
rows in memory, which are dense or CSR (on a GPU: dense float64). They go through two functions: :func:`reduce_rows`
adds up what every block contributes, and :func:`map_rows` stacks what every block returns.

The blocks of a dask array are tasks of its scheduler, and their sums are added as a tree, so a cluster works on them in
parallel. For every other kind a loop visits the blocks one after the other. No dense float64 copy is ever larger than
one block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp

from .._progress import progress
from . import device
from .device import OnDevice, asarray_like, comes_from, namespace, to_numpy
from .kernels import sparse_times

BLOCK_BYTES = 64 * 2**20  # size of a dense float64 block, small enough to hold several of them besides the data
THIN = 0.2  # density below which the compiled product of sparse rows is faster than BLAS on dense ones
MANY = 2**20  # entries of a sparse matrix in memory from which its products use the compiled loop
FAN_IN = 4  # number of partial sums that one task of the tree adds up


@dataclass(frozen=True)
class Stream:
    """Rows of a matrix on disk, which are read in blocks.

    The source can be anything that slices by rows, such as the ``X`` of a backed AnnData.

    Attributes
    ----------
    source
        The matrix on disk; ``source[start:stop]`` returns these rows, dense or CSR.
    cells, genes
        Indices of the rows (in ascending order) and of the columns of the source that belong to this matrix.
    """

    source: Any
    cells: np.ndarray
    genes: np.ndarray

    @classmethod
    def of(cls, source: Any) -> Stream:
        """Return all rows and columns of a matrix as a stream."""
        return cls(source, np.arange(source.shape[0]), np.arange(source.shape[1]))

    @property
    def shape(self) -> tuple[int, int]:
        """The number of cells and the number of genes."""
        return len(self.cells), len(self.genes)

    @property
    def ndim(self) -> int:
        """The number of dimensions, which is two."""
        return 2

    @property
    def dtype(self) -> np.dtype:
        """The data type of the source."""
        return np.dtype(self.source.dtype)

    def __getitem__(self, key) -> Stream:
        """Return a stream of fewer cells, or of fewer genes with ``[:, genes]``; nothing is read."""
        cells, genes = key if isinstance(key, tuple) else (key, slice(None))
        chosen = self.cells[cells]
        if np.any(np.diff(chosen) <= 0):
            raise ValueError("cells of a matrix on disk can only be chosen in their order; sort their indices.")
        return Stream(self.source, chosen, self.genes[genes])

    def blocks(self, n_bytes: int | None = None) -> Iterator[tuple[slice, Any]]:
        """Read the matrix block by block; yield the slice of its rows and the rows themselves."""
        all_genes = len(self.genes) == self.source.shape[1]
        for rows in progress(list(block_slices(self.source.shape[0], self.source.shape[1], n_bytes)), desc="reading"):
            first, last = np.searchsorted(self.cells, [rows.start, rows.stop])
            if first == last:
                continue
            block = self.source[rows]
            wanted = self.cells[first:last] - rows.start
            if len(wanted) < rows.stop - rows.start:
                block = block[wanted]
            block = block if all_genes else block[:, self.genes]
            self.__dict__.setdefault("thin", _is_thin_block(block))  # known from the first pass on
            yield slice(int(first), int(last)), block

    @cached_property
    def thin(self) -> bool:
        """Whether the first block is so sparse that its products are faster than BLAS on a dense one."""
        return _is_thin_block(next(self.blocks())[1])


def is_sparse(X) -> bool:
    """Return whether X is a scipy.sparse matrix or array of any format."""
    return sp.issparse(X)


def is_dask(X) -> bool:
    """Return whether X is a dask array, or anndata's view of one; dask need not be installed."""
    return comes_from(X, "dask")


def plain_dask(X):
    """Return a dask array that is none of anndata's views, which cannot be sliced by every kind of index."""
    from dask.array import Array

    return X if type(X) is Array else Array(X.dask, X.name, X.chunks, meta=X._meta)


def on_disk(X) -> bool:
    """Return whether X is a matrix in a file: of HDF5, of Zarr, or of a backed or lazily read AnnData."""
    is_file = comes_from(X, "h5py", "zarr") or (hasattr(X, "to_memory") and hasattr(X, "backend"))
    return is_file and hasattr(X, "shape") and hasattr(X, "dtype")


def in_memory(X) -> bool:
    """Return whether X is a NumPy array or scipy.sparse matrix in memory, or such a matrix that a GPU works on."""
    if isinstance(X, OnDevice):
        return in_memory(X.source) or device.is_device(X.source)
    return is_sparse(X) or isinstance(X, np.ndarray)


def is_thin(X) -> bool:
    """Return whether X is so sparse that products of its sparse blocks are faster than BLAS on dense blocks.

    The density of a matrix on disk is estimated from its first block, and that of a dask array from its first chunk.
    """
    if isinstance(X, np.ndarray | OnDevice):
        return False
    if is_sparse(X):
        return X.nnz < THIN * X.shape[0] * X.shape[1]
    if is_dask(X):
        if not hasattr(X._meta, "indptr"):
            return False
        return _is_thin_block(next(iter(_chunks(X)))[1].compute())
    return X.thin


def _is_thin_block(block) -> bool:
    return is_sparse(block) and block.nnz < THIN * block.shape[0] * block.shape[1]


def block_slices(length: int, other: int, n_bytes: int | None = None) -> Iterator[slice]:
    """Cut an axis into slices such that a dense float64 block of ``step x other`` entries fits into ``n_bytes``.

    The default of ``n_bytes`` is BLOCK_BYTES.
    """
    step = max(1, (n_bytes or BLOCK_BYTES) // (8 * max(1, other)))
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


def row_blocks(X, n_bytes: int | None = None) -> Iterator[tuple[slice, Any]]:
    """Yield the slice and the rows of every block of a matrix, one after the other.

    ``n_bytes`` is the size of a block as dense float64, if it is not the default, and if the matrix has no blocks yet.
    """
    if isinstance(X, Stream):
        yield from X.blocks(n_bytes)
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
        for rows in block_slices(*X.shape, device.block_bytes()):
            yield rows, X[rows].on_device()
        return
    for rows in block_slices(X.shape[0], X.shape[1], n_bytes):
        yield rows, _rows_of(X, rows)


def collected(X):
    """Return a matrix that is read in blocks as one in memory, sparse if its blocks are; and others unchanged."""
    if in_memory(X):
        return X
    blocks = [block for _, block in row_blocks(X)]
    return sp.vstack(blocks, format="csr") if is_sparse(blocks[0]) else np.concatenate(blocks)


def reduce_rows(
    X,
    update: Callable[[np.ndarray, slice, Any], None],
    shape: tuple[int, ...],
    order: Literal["C", "F"] = "C",
    n_bytes: int | None = None,
) -> np.ndarray:
    """Sum over all blocks: ``update(out, rows, block)`` adds one block to ``out``.

    Parameters
    ----------
    X
        A matrix of any kind.
    update
        Function that adds to ``out``, in place, what the rows of the slice ``rows`` contribute.
    shape, order
        Shape and memory order of ``out``, which starts as float64 zeros.
    n_bytes
        Size of a block, as in :func:`row_blocks`.

    Returns
    -------
    The sum. For :class:`OnDevice` it stays on the GPU.
    """
    if not is_dask(X):
        out = namespace(X).zeros(shape, order=order)
        for rows, block in row_blocks(X, n_bytes):
            update(out, rows, block)
        return out
    import dask

    # one node of the graph holds what update closes over, so that the tasks do not carry a copy each
    shared = dask.delayed(update, pure=False)
    parts = [dask.delayed(_partial)(shared, rows, block, shape, order) for rows, block in _chunks(X)]
    while len(parts) > 1:
        parts = [dask.delayed(_add)(parts[i : i + FAN_IN]) for i in range(0, len(parts), FAN_IN)]
    return parts[0].compute()


def map_rows(X, function: Callable[[slice, Any], np.ndarray], width: int, dtype: type = np.float64) -> np.ndarray:
    """Stack the results of ``function(rows, block)``, n x width each, to an N x width array."""
    out = np.empty((X.shape[0], width), dtype=dtype)
    if not is_dask(X):
        for rows, block in row_blocks(X):
            out[rows] = to_numpy(function(rows, block))
        return out
    import dask

    shared = dask.delayed(function, pure=False)
    slices, blocks = zip(*_chunks(X), strict=True)
    parts = dask.compute(
        *(dask.delayed(_call)(shared, rows, block) for rows, block in zip(slices, blocks, strict=True))
    )
    for rows, part in zip(slices, parts, strict=True):
        out[rows] = part
    return out


def dense(block, order: Literal["C", "F"] = "C") -> np.ndarray:
    """Return a block of any kind as a new dense float64 array, on the GPU if the block is there."""
    if isinstance(block, OnDevice):
        new = block.on_device()
        return namespace(new).asarray(new, order=order)
    if is_sparse(block):
        return block.toarray(order=order).astype(np.float64, order=order, copy=False)
    return namespace(block).array(block, dtype=np.float64, order=order)


def by_rows(X):
    """Return X in a format whose rows can be sliced cheaply (CSR, if X is sparse)."""
    if isinstance(X, OnDevice):
        return OnDevice(by_rows(X.source))
    return X.tocsr() if _has_format(X) else X


def by_columns(X):
    """Return X in a format whose columns can be sliced cheaply (CSC, if X is sparse)."""
    if isinstance(X, OnDevice):
        return OnDevice(by_columns(X.source))
    return X.tocsc() if _has_format(X) else X


def canonical(X):
    """Return X without duplicate entries and with sorted indices; a sparse matrix is copied if it changes."""
    if not is_sparse(X) or X.has_canonical_format:
        return X
    X = X.copy()
    X.sum_duplicates()
    return X


def indicator(codes: np.ndarray, n_groups: int) -> sp.csr_array:
    """Return the C x N matrix whose row c has a one for every cell of group c, and zeros elsewhere."""
    n = len(codes)
    return sp.csr_array((np.ones(n), (codes, np.arange(n))), shape=(n_groups, n))


def block_sums(block, codes: np.ndarray, n_groups: int) -> np.ndarray:
    """Sum the rows of a block within each group, C x p in float64, on the GPU if the block is there."""
    marks = indicator(codes, n_groups)
    if is_sparse(block):
        return (marks @ sp.csr_array(block)).toarray()
    return asarray_like(block, marks) @ as_float(block)


def squared_lengths(block: np.ndarray) -> np.ndarray:
    """Compute the squared length of every column of a dense block, on the GPU if the block is there."""
    if device.is_device(block):  # its einsum makes a product of matrices for every column
        return (block * block).sum(axis=0)
    return np.einsum("ij,ij->j", block, block)


def group_sums(X, codes: np.ndarray, n_groups: int) -> np.ndarray:
    """Sum the rows of X within each group, C x p, accumulated in float64."""

    def update(out: np.ndarray, rows: slice, block) -> None:
        out += block_sums(block, codes[rows], n_groups)

    return to_numpy(reduce_rows(X, update, (n_groups, X.shape[1])))


def times(X, B: np.ndarray) -> np.ndarray:
    """Compute ``X @ B`` in float64 for a thin dense B (p x k)."""
    if has_many_entries(X):
        return sparse_times(X, B)
    B = asarray_like(X, B)
    return map_rows(X, lambda rows, block: as_float(block) @ B, B.shape[1])


def transposed_times(X, B: np.ndarray) -> np.ndarray:
    """Compute ``X.T @ B`` in float64 for a thin dense B (N x k)."""
    if has_many_entries(X):
        return sparse_times(X.T, B)
    B = asarray_like(X, B)

    def update(out: np.ndarray, rows: slice, block) -> None:
        out += as_float(block).T @ B[rows]

    return to_numpy(reduce_rows(X, update, (X.shape[1], B.shape[1])))


def has_many_entries(X) -> bool:
    """Return whether X is a sparse matrix in memory with so many entries that the compiled product is faster."""
    return is_sparse(X) and X.format in ("csr", "csc") and X.nnz >= MANY and X.dtype in (np.float32, np.float64)


def scaled_rows(X, factors: np.ndarray):
    """Multiply every row of a matrix in memory by a factor, (N,), in float64; a matrix of dask or on disk is read."""
    if is_dask(X):
        X = X.compute()
    elif isinstance(X, Stream):
        X = map_rows(X, lambda rows, block: dense(block), X.shape[1])
    if isinstance(X, OnDevice):
        X = to_numpy(X.on_device())
        return OnDevice(X * factors[:, None])
    return sp.csr_array(sp.diags_array(factors) @ X) if is_sparse(X) else as_float(X) * factors[:, None]


def detected(X) -> np.ndarray:
    """Count the cells in which each gene is not zero, (p,)."""

    def update(out: np.ndarray, rows: slice, block) -> None:
        if is_sparse(block):
            block = canonical(block)
            out[0] += np.bincount(block.indices[block.data != 0], minlength=len(out[0]))
        else:
            out[0] += np.count_nonzero(block, axis=0)

    return to_numpy(reduce_rows(X, update, (1, X.shape[1])))[0].astype(np.int64)


def _has_format(X) -> bool:
    """Return whether X is a sparse matrix of scipy or cupy."""
    return is_sparse(X) or (device.is_device(X) and hasattr(X, "tocsr"))


def _rows_of(X, rows: slice):
    """Return ``X[rows]``; for CSR this avoids the copy that scipy makes."""
    if not is_sparse(X):
        return X[rows]
    start, stop = X.indptr[rows.start], X.indptr[rows.stop]
    indptr = X.indptr[rows.start : rows.stop + 1] - start
    block = sp.csr_array((X.data[start:stop], X.indices[start:stop], indptr), shape=(len(indptr) - 1, X.shape[1]))
    # without these flags scipy would check, or sort, every block anew whenever its type is converted
    block.has_sorted_indices, block.has_canonical_format = X.has_sorted_indices, X.has_canonical_format
    return block


def as_float(block):
    """Return a block in float64, so that its products are accumulated in float64."""
    if is_sparse(block):
        return block if block.dtype == np.float64 else block.astype(np.float64)
    return block.astype(np.float64, copy=False)


def _chunks(X) -> Iterator[tuple[slice, Any]]:
    """Yield the slice and the delayed rows of every chunk of a dask array; each chunk spans all genes."""
    if len(X.chunks[1]) > 1:
        X = X.rechunk({1: -1})
    start = 0
    for size, block in zip(X.chunks[0], X.to_delayed()[:, 0], strict=True):
        if size:
            yield slice(start, start + size), block
        start += size


def _partial(update, rows: slice, block, shape: tuple[int, ...], order: Literal["C", "F"]) -> np.ndarray:
    """Apply ``update`` to one chunk; this is the task that dask runs in :func:`reduce_rows`."""
    out = np.zeros(shape, order=order)
    update(out, rows, by_rows(block))
    return out


def _call(function, rows: slice, block) -> np.ndarray:
    """Apply ``function`` to one chunk; this is the task that dask runs in :func:`map_rows`."""
    return function(rows, by_rows(block))


def _add(parts: list[np.ndarray]) -> np.ndarray:
    """Add up partial sums in a new array of the same memory order, because a dask task must not change its inputs."""
    total = parts[0].copy(order="K")
    for part in parts[1:]:
        total += part
    return total
