"""Sums, factors and solutions of symmetric matrices, on the CPU or on a GPU; no size crashes the BLAS."""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular
from scipy.linalg.blas import dsyrk, ssyrk
from scipy.linalg.lapack import dtrtri

from .device import asarray_like, is_device, namespace, to_numpy

MAX_TRIANGLE = 8000  # rows of the largest symmetric or triangular matrix that goes to one call of BLAS or LAPACK
TILE = 256  # rows and columns of the tiles in which a triangle is copied
COLUMNS = 512  # columns of an inverse that are computed at a time
PANEL = 4096  # rows of the tiles into which a larger matrix is cut


class Cholesky:
    """The Cholesky factor of a symmetric positive definite matrix, which may be overwritten.

    Matrices of more than MAX_TRIANGLE rows are factored in panels: with more than one thread, the ``dpotrf`` of
    OpenBLAS ends in a segmentation fault at 16,000 rows or more (OpenMathLib/OpenBLAS issues 2562 and 2821).

    Parameters
    ----------
    matrix
        A NumPy or cupy array, n x n.

    Attributes
    ----------
    diagonal
        The diagonal of the triangular factor, (n,), as a NumPy array.

    Raises
    ------
    LinAlgError
        If the matrix is not positive definite.
    """

    def __init__(self, matrix):
        self._device = is_device(matrix)
        self._panels = not self._device and len(matrix) > MAX_TRIANGLE
        if self._panels:
            self._factor = _factor_by_panels(matrix)
        elif not self._device:
            self._factor, _ = cho_factor(matrix, lower=False, overwrite_a=True, check_finite=False)
        else:
            import cupyx

            with cupyx.errstate(linalg="raise"):  # by default cupy does not report that it failed
                # the upper factor is in Fortran order, and any other order would be copied by every solution
                self._factor = namespace(matrix).linalg.cholesky(matrix).T
        self.diagonal = to_numpy(self._factor.diagonal()).copy()

    def solve(self, B):
        """Apply the inverse of the matrix to ``B`` (n x k); the result is where B is, in memory or on the GPU."""
        if self._panels:
            return _solve_by_panels(self._factor, B)
        if not self._device:
            return cho_solve((self._factor, False), B, check_finite=False)
        from cupyx.scipy.linalg import solve_triangular as solve

        right = B if is_device(B) else asarray_like(self._factor, B)
        right = solve(self._factor, right, trans="T", lower=False, check_finite=False)
        right = solve(self._factor, right, lower=False, overwrite_b=True, check_finite=False)
        return right if is_device(B) else to_numpy(right)

    def inverse_diagonal(self) -> np.ndarray:
        """Compute the diagonal of the inverse of the matrix, (n,), as a NumPy array.

        With the lower factor L these are the squared lengths of the columns of L^-1, which are zero above the diagonal.
        """
        n = len(self._factor)
        out = np.zeros(n)
        if not (self._device or self._panels):  # the factor is the upper triangle U = L', so these are rows of U^-1
            inverse = dtrtri(self._factor, lower=0)[0]
            for own in tiles(n):  # below the diagonal are numbers without meaning
                out[: own.start] += np.einsum("ij,ij->i", inverse[: own.start, own], inverse[: own.start, own])
                out[own] += (np.triu(inverse[own, own]) ** 2).sum(axis=1)
            return out
        if self._device:
            from cupyx.scipy.linalg import solve_triangular as solve
        for start in range(0, n, COLUMNS):
            own = slice(start, min(start + COLUMNS, n))
            unit = asarray_like(self._factor, np.eye(n - start, own.stop - start))
            if self._panels:
                columns = _forward(self._factor[start:, start:], unit)
            else:  # the factor is the upper triangle U = L'
                columns = solve(self._factor[start:, start:], unit, trans="T", lower=False, check_finite=False)
            out[own] = to_numpy((columns**2).sum(axis=0))
        return out


def tiles(n: int) -> list[slice]:
    """Cut the range of n rows into slices of at most TILE rows."""
    return [slice(i, min(i + TILE, n)) for i in range(0, n, TILE)]


def panels(n: int) -> list[slice]:
    """Cut the range of n rows into slices of at most PANEL rows."""
    return [slice(i, min(i + PANEL, n)) for i in range(0, n, PANEL)]


def _factor_by_panels(A: np.ndarray) -> np.ndarray:
    """Compute the lower Cholesky factor of A in its lower triangle; tiles above the diagonal keep their values.

    The algorithm is right-looking: as soon as the panel L[:, k] is known, ``L[i, k] L[j, k]'`` is subtracted from every
    tile (i, j) with i >= j > k.
    """
    rows = panels(len(A))
    for k, own in enumerate(rows):
        A[own, own] = cholesky(A[own, own], lower=True, check_finite=False)
        for below in rows[k + 1 :]:
            A[below, own] = solve_triangular(A[own, own], A[below, own].T, lower=True, check_finite=False).T
        for j, right in enumerate(rows[k + 1 :], start=k + 1):
            for below in rows[j:]:
                A[below, right] -= A[below, own] @ A[right, own].T
    return A


def _forward(L: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Solve ``L X = B`` by forward substitution, one panel of rows at a time."""
    X = np.array(B, dtype=np.float64)
    for own in panels(len(L)):
        X[own] -= L[own, : own.start] @ X[: own.start]
        X[own] = solve_triangular(L[own, own], X[own], lower=True, check_finite=False)
    return X


def _solve_by_panels(L: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Solve ``L L' X = B`` by forward and backward substitution, one panel of rows at a time."""
    X = _forward(L, B)
    for own in reversed(panels(len(L))):
        X[own] -= L[own.stop :, own].T @ X[own.stop :]
        X[own] = solve_triangular(L[own, own], X[own], lower=True, trans="T", check_finite=False)
    return X


def add_products(out: np.ndarray, block: np.ndarray) -> None:
    """Add ``block' block`` to the upper triangle of ``out`` (Fortran order); on a GPU, to all of it.

    Both have the same precision, double or single.
    """
    if is_device(out):
        out += block.T @ block
        return
    if len(out) > MAX_TRIANGLE:  # the rank-k update of OpenBLAS crashes on larger results
        rows = panels(len(out))
        for i, top in enumerate(rows):
            for right in rows[i:]:
                out[top, right] += block[:, top].T @ block[:, right]
        return
    # the transpose of a C-ordered block is in Fortran order, which BLAS reads without a copy
    update = ssyrk if out.dtype == np.float32 else dsyrk
    update(1.0, block.T, beta=1.0, c=out, overwrite_c=True)


def mirrored(upper: np.ndarray) -> np.ndarray:
    """Copy the upper triangle to the lower one, in place and tile by tile; on a GPU both are there already."""
    if is_device(upper):
        return upper
    for rows in tiles(len(upper)):
        upper[rows, : rows.start] = upper[: rows.start, rows].T
        tile = np.triu(upper[rows, rows])
        upper[rows, rows] = tile + np.triu(tile, 1).T
    return upper
