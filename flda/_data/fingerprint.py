"""One hash for the data of a fit, whatever way they are stored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import scipy.sparse as sp

from .arrays import row_blocks


def fingerprint(X, texts: Iterable[Iterable[object]]) -> str:
    """SHA-256 of a matrix and of lists of text such as names and labels, in hexadecimal.

    Matrices of equal values have equal hashes: dense or sparse, in memory, on disk or of dask, in every precision that
    holds the values exactly. Each non-zero is hashed once, in the order of the rows, whatever the blocks.

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
    parts = {"counts": hashlib.sha256(), "genes": hashlib.sha256(), "values": hashlib.sha256()}
    for _, part in row_blocks(X):
        block = sp.csr_array(part, dtype=np.float64, copy=True)
        block.sum_duplicates()
        block.eliminate_zeros()
        parts["counts"].update(np.diff(block.indptr).astype("<i8").tobytes())
        parts["genes"].update(block.indices.astype("<i8").tobytes())
        parts["values"].update(block.data.astype("<f8").tobytes())
    for part in parts.values():
        digest.update(part.digest())
    for words in texts:
        encoded = [str(word).encode() for word in words]
        digest.update(np.array([len(encoded), *map(len, encoded)], dtype="<i8").tobytes())
        digest.update(b"".join(encoded))
    return digest.hexdigest()
