"""Conversion of counts to log-normalised expression, and back to the scale of counts."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

TARGET_SUM = 1e4  # total count to which every cell is scaled


def log_normalise(
    counts: sp.csr_matrix, target_sum: float | np.ndarray = TARGET_SUM, *, base: float | None = None
) -> sp.csr_matrix:
    """Scale every cell to the same total count and take the logarithm of one plus the result.

    The entry of cell i and gene j becomes ``log(1 + target_sum y_ij / sum_j y_ij)``, which is what
    ``scanpy.pp.normalize_total`` followed by ``scanpy.pp.log1p`` computes. A cell without counts stays at zero.

    Parameters
    ----------
    counts
        Counts, N x p, CSR. The result has the same floating-point type; integers become float64.
    target_sum
        The total to which every cell is scaled, or one total for each cell, (N,).
    base
        Base of the logarithm, as scanpy stores it in ``uns["log1p"]["base"]``. None is the natural logarithm.

    Returns
    -------
    Log-normalised expression, N x p, CSR.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> log_normalise(sp.csr_matrix([[1.0, 3.0], [0.0, 0.0]]), 4.0, base=2).toarray()
    array([[1., 2.],
           [0., 0.]])
    """
    X = sp.csr_matrix(counts, dtype=None if counts.dtype.kind == "f" else np.float64, copy=True)
    X.sum_duplicates()  # this also sorts the genes of every cell, or every later step would
    total = np.asarray(X.sum(axis=1)).ravel()
    factor = np.divide(target_sum, total, out=np.zeros_like(total), where=total > 0)
    X.data = np.log1p(np.repeat(factor, np.diff(X.indptr)) * X.data)
    if base is not None:
        X.data /= np.log(base)
    return X


def undo_log(values: np.ndarray, base: float | None = None) -> np.ndarray:
    """Invert the logarithm of :func:`log_normalise`, which leaves the scaled counts.

    Values too large for the logarithm of a count become infinite.

    Parameters
    ----------
    values
        Log-normalised expression, an array of any shape; for a sparse matrix, its ``data``.
    base
        Base of the logarithm. None is the natural logarithm.

    Examples
    --------
    >>> undo_log(np.array([1.0, 2.0]), base=2)
    array([1., 3.])
    """
    with np.errstate(over="ignore"):
        return np.expm1(values if base is None else values * np.log(base))
