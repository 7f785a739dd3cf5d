"""The one table of array kinds that the tests run over."""

import numpy as np
import scipy.sparse as sp


def _int64_indices(X):
    out = sp.csr_matrix(X)
    out.indices, out.indptr = out.indices.astype(np.int64), out.indptr.astype(np.int64)
    return out


KINDS = {
    "dense": np.asarray,
    "fortran": np.asfortranarray,
    "float32": lambda X: np.asarray(X, dtype=np.float32),
    "csr_matrix": sp.csr_matrix,
    "csr_array": sp.csr_array,
    "csc_matrix": sp.csc_matrix,
    "csc_array": sp.csc_array,
    "csr_int64": _int64_indices,
    "coo_array": sp.coo_array,
}
EXACT = [k for k in KINDS if k != "float32"]
