"""One hash for the data of a fit, whatever way they are stored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import scipy.sparse as sp

ROWS = 1024  # cells hashed at a time; part of the definition


def fingerprint(X, texts: Iterable[Iterable[object]]) -> str:
    """SHA-256 of a matrix and of lists of text such as names and labels, in hexadecimal.

    Dense and sparse matrices of equal values have equal hashes, in every order of storage and precision that holds
    the values exactly.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> X = np.eye(3, dtype=np.float32)
    >>> fingerprint(X, [["a", "b", "c"]]) == fingerprint(sp.csc_matrix(X), [["a", "b", "c"]])
    True
    >>> fingerprint(X, [["a", "b", "c"]]) == fingerprint(X, [["a", "c", "b"]])
    False
    """
    digest = hashlib.sha256(np.array(X.shape, dtype="<i8").tobytes())
    X = X.tocsr() if sp.issparse(X) else X
    for start in range(0, X.shape[0], ROWS):
        block = sp.csr_array(X[start : start + ROWS], dtype=np.float64, copy=True)
        block.sum_duplicates()
        block.eliminate_zeros()
        for part, kind in ((block.indptr, "<i8"), (block.indices, "<i8"), (block.data, "<f8")):
            digest.update(np.asarray(part, dtype=kind).tobytes())
    for words in texts:
        encoded = [str(word).encode() for word in words]
        digest.update(np.array([len(encoded), *map(len, encoded)], dtype="<i8").tobytes())
        digest.update(b"".join(encoded))
    return digest.hexdigest()
