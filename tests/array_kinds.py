"""The one table of array kinds that the tests run over.

``KINDS`` are in memory, ``BLOCKS`` are read in blocks of rows, and ``DEVICE`` are worked on by a GPU: with a stand-in
for cupy everywhere, and with cupy where there is a GPU. Each is a function from a dense matrix to the same matrix as
that kind. Tests take the names from :func:`kinds` and the function from the fixture ``store``, which puts the stand-in
in place and makes blocks small, so that every matrix has several::

    @pytest.mark.parametrize("kind", kinds())
    def test_sums(store, kind):
        X = store(np.eye(3))
"""

import importlib.util
import warnings

import numpy as np
import pytest
import scipy.sparse as sp

from flda._data import device
from flda._data.arrays import Stream


def _int64_indices(X):
    out = sp.csr_matrix(X)
    out.indices, out.indptr = out.indices.astype(np.int64), out.indptr.astype(np.int64)
    return out


def _unsorted_with_duplicates(X):
    """CSR whose rows list every entry as two halves, the later columns first."""
    X = sp.csr_array(X)
    halves = [np.tile(part[::-1], 2) for part in np.split(np.arange(X.nnz), X.indptr[1:-1])]
    order = np.concatenate(halves)
    return sp.csr_array((X.data[order] / 2, X.indices[order], 2 * X.indptr), shape=X.shape)


KINDS = {
    "dense": np.asarray,
    "fortran": np.asfortranarray,
    "float32": lambda X: np.asarray(X, dtype=np.float32),
    "csr_matrix": sp.csr_matrix,
    "csr_array": sp.csr_array,
    "csc_matrix": sp.csc_matrix,
    "csc_array": sp.csc_array,
    "csr_int64": _int64_indices,
    "csr_unsorted": _unsorted_with_duplicates,
    "coo_array": sp.coo_array,
}
EXACT = [k for k in KINDS if k != "float32"]


def dask_of(X, rows, columns=None):
    """A dask array with chunks of so many rows; sparse matrices have chunks of CSR."""
    da = pytest.importorskip("dask.array", reason="needs the extra dask")
    if not sp.issparse(X):
        return da.from_array(X, chunks=(rows, columns or X.shape[1]))
    blocks = [da.from_array(X[i : i + rows], chunks=-1, asarray=False) for i in range(0, X.shape[0], rows)]
    return da.concatenate(blocks, axis=0)


BLOCKS = {
    "stream of CSR": lambda X: Stream.of(sp.csr_array(X)),
    "stream of unsorted CSR": lambda X: Stream.of(_unsorted_with_duplicates(X)),
    "stream of dense": Stream.of,
    "dask of CSR": lambda X: dask_of(sp.csr_array(X), 40),
    "dask of CSR, one chunk": lambda X: dask_of(sp.csr_array(X), len(X)),
    "dask of dense": lambda X: dask_of(X, 100, 30),
}


def _cupy(X):
    import cupy

    return cupy.asarray(X)


def _cupy_csr(X):
    from cupyx.scipy.sparse import csr_matrix

    return csr_matrix(sp.csr_matrix(X))


_ON_DEVICE = {
    "cupy dense": _cupy,
    "cupy float32": lambda X: _cupy(X.astype(np.float32)),
    "cupy CSR": _cupy_csr,
    "host dense": device.OnDevice,
    "host CSR": lambda X: device.OnDevice(sp.csr_array(X)),
    "host stream": lambda X: device.OnDevice(Stream.of(sp.csr_array(X))),
}
STAND_IN, GPU = "stand-in: ", "GPU: "
DEVICE = {where + name: make for where in (STAND_IN, GPU) for name, make in _ON_DEVICE.items()}

EVERY = {**KINDS, **BLOCKS, **DEVICE}
SINGLE = [k for k in EVERY if "float32" in k]  # kinds that round
IN_BLOCKS = [k for k in EVERY if "stream" in k or "dask" in k]  # kinds that have no Gram matrix of cells


def has_gpu() -> bool:
    """Whether cupy finds a GPU."""
    if importlib.util.find_spec("cupy") is None:
        return False
    with warnings.catch_warnings():  # what cupy warns of when it is imported is no error of a test
        warnings.simplefilter("ignore")
        try:
            device.require("cuda")
        except (ImportError, device.NoDevice):
            return False
    return True


NEEDS_GPU = pytest.mark.skipif(
    not has_gpu(), reason="needs a GPU and cupy: pip install flda[gpu13], or flda[gpu] for CUDA 12"
)


def kinds(*tables, but=()):
    """Names of the kinds in some tables, or in all; those on a GPU only where there is one."""
    names = [name for table in tables or (KINDS, BLOCKS, DEVICE) for name in table if name not in but]
    return names if has_gpu() else [name for name in names if not name.startswith(GPU)]
