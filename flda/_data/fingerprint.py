"""A hash that identifies the data of a fit, however they are stored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import scipy.sparse as sp

from .arrays import row_blocks
from .device import to_host


def fingerprint(X, texts: Iterable[Iterable[object]]) -> str:
    """Compute the SHA-256 hash of a matrix and of lists of text, such as names and labels.

    Matrices of equal values have equal hashes, whether they are dense or sparse, in memory, on disk or of dask, and in
    any precision that holds the values exactly. Each non-zero value is hashed once, in row order, so that the hash does
    not depend on the blocks.

    Parameters
    ----------
    X
        A matrix of any kind.
    texts
        Lists of items that are hashed as text. Their order and boundaries count.

    Returns
    -------
    The hash in hexadecimal.

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
    # three hashes run side by side over the blocks: one hash of a block after the other would depend on the blocks
    for _, part in row_blocks(to_host(X)):
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
        # the lengths go first: without them ["ab", "c"] and ["a", "bc"] would be equal
        digest.update(np.array([len(encoded), *map(len, encoded)], dtype="<i8").tobytes())
        digest.update(b"".join(encoded))
    return digest.hexdigest()
