"""The one place that knows cupy: which matrices live on, or are moved to, a GPU, and what runs there.

``OnDevice`` wraps a matrix whose blocks are worked on by the GPU. The rest of the package asks :func:`namespace` for
the module that makes arrays where a matrix is, :func:`asarray_like` to put a small array there and :func:`to_numpy` to
get one back. Products of data, p x p and N x N matrices and their factors stay on the device. Whatever is thin (means,
scores, axes) is NumPy's, and so are the results.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular

MAX_TRIANGLE = 8000  # rows of the largest symmetric or triangular matrix that one call of BLAS or LAPACK is handed
PANEL = 4096  # rows of the tiles that a larger one is cut into
BLOCK_BYTES = 512 * 2**20  # a dense float64 block on a device
DEVICES = ("cpu", "cuda")


class NoDevice(RuntimeError):
    """There is no GPU that cupy can use."""


def is_device(x: Any) -> bool:
    """Whether x is an array or a sparse matrix of cupy."""
    return type(x).__module__.partition(".")[0] in ("cupy", "cupyx")


@dataclass(frozen=True)
class OnDevice:
    """A matrix whose blocks are moved to the GPU when they are used.

    Attributes
    ----------
    source
        In memory (dense, or CSR; CSC after ``by_columns``), :class:`flda._data.arrays.Stream`, or already on
        the device.
    """

    source: Any

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes."""
        return self.source.shape

    @property
    def ndim(self) -> int:
        """Two."""
        return self.source.ndim

    @property
    def dtype(self) -> np.dtype:
        """That of the source."""
        return np.dtype(self.source.dtype)

    def __getitem__(self, key) -> OnDevice:
        """Part of the matrix; nothing is moved."""
        if is_device(self.source):
            import cupy

            parts = key if isinstance(key, tuple) else (key,)
            key = tuple(p if isinstance(p, slice) else cupy.asarray(p) for p in parts)
        return OnDevice(self.source[key])

    def on_device(self):
        """Dense float64 array on the device, a copy."""
        return to_device(self.source)


def to_device(block):
    """A block of any kind as a dense float64 array of its own on the device, in C order."""
    import cupy

    if sp.issparse(block):
        from cupyx.scipy.sparse import csr_matrix

        block = sp.csr_matrix(block)
        block = csr_matrix(block if block.dtype in (np.float32, np.float64) else block.astype(np.float64))
    if is_device(block) and hasattr(block, "toarray"):
        block = block.astype(np.float64).toarray()
    return cupy.array(block, dtype=np.float64, order="C")


def require(device: str) -> None:
    """Refuse a device that is not there, saying what is missing."""
    if device not in DEVICES:
        raise ValueError(f"device={device!r}: use one of {list(DEVICES)}.")
    if device == "cpu":
        return
    try:
        import cupy
    except ImportError:
        raise ImportError(
            "device='cuda' needs cupy: pip install 'flda[gpu]' for CUDA 12, or 'flda[gpu13]' for CUDA 13."
        ) from None
    try:
        found = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # noqa: BLE001  the runtime has errors of its own for a missing driver
        raise NoDevice(f"device='cuda': cupy finds no usable GPU ({error}); use device='cpu'.") from None
    if not found:
        raise NoDevice("device='cuda': cupy finds no GPU; use device='cpu'.")


def wrap(X):
    """A matrix of cupy as OnDevice; anything else as it is."""
    return OnDevice(X) if is_device(X) else X


def free_memory() -> float:
    """Bytes that are free on the device."""
    import cupy

    return float(cupy.cuda.runtime.memGetInfo()[0])


def namespace(x: Any) -> ModuleType:
    """The module that makes arrays beside x: numpy or cupy."""
    if isinstance(x, OnDevice) or is_device(x):
        import cupy

        return cupy
    return np


def asarray_like(x: Any, array):
    """A NumPy array or scipy.sparse matrix, put where x is."""
    if not (isinstance(x, OnDevice) or is_device(x)):
        return array
    import cupy

    if sp.issparse(array):
        from cupyx.scipy.sparse import csr_matrix

        return csr_matrix(sp.csr_matrix(array))
    return cupy.asarray(array)


def to_numpy(array) -> np.ndarray:
    """The array as NumPy's, from wherever it is."""
    return array.get() if is_device(array) else array


class Cholesky:
    """Factor of a symmetric positive definite matrix, which it may overwrite.

    A large matrix is factored by panels: OpenBLAS, with more than one thread, ends in a segmentation fault when its
    ``dpotrf`` is handed 16,000 rows or more (OpenMathLib/OpenBLAS issues 2562 and 2821).

    Parameters
    ----------
    matrix
        Of NumPy or cupy.

    Attributes
    ----------
    diagonal
        Of the triangular factor, NumPy.

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

            with cupyx.errstate(linalg="raise"):  # its default is to go on with what is there
                self._factor = namespace(matrix).linalg.cholesky(matrix)
        self.diagonal = to_numpy(self._factor.diagonal()).copy()

    def solve(self, B):
        """The inverse applied to n x k ``B``; the result is where B is."""
        if self._panels:
            return _solve_by_panels(self._factor, B)
        if not self._device:
            return cho_solve((self._factor, False), B, check_finite=False)
        from cupyx.scipy.linalg import solve_triangular as solve

        right = B if is_device(B) else asarray_like(self._factor, B)
        right = solve(self._factor, right, lower=True, check_finite=False)
        right = solve(self._factor, right, trans="T", lower=True, check_finite=False)
        return right if is_device(B) else to_numpy(right)


def panels(n: int) -> list[slice]:
    """Slices of at most PANEL rows that cover n."""
    return [slice(i, min(i + PANEL, n)) for i in range(0, n, PANEL)]


def _factor_by_panels(A: np.ndarray) -> np.ndarray:
    """Lower Cholesky factor of A, written into its lower triangle; what lies above the diagonal tiles is not touched.

    Right-looking: once a panel L[:, k] is known, ``L[i, k] L[j, k]'`` comes off every tile (i, j) behind it.
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


def _solve_by_panels(L: np.ndarray, B: np.ndarray) -> np.ndarray:
    """``(L L')^-1 B`` by forward and backward substitution, a panel of rows at a time."""
    rows = panels(len(L))
    X = np.array(B, dtype=np.float64)
    for own in rows:
        X[own] -= L[own, : own.start] @ X[: own.start]
        X[own] = solve_triangular(L[own, own], X[own], lower=True, check_finite=False)
    for own in reversed(rows):
        X[own] -= L[own.stop :, own].T @ X[own.stop :]
        X[own] = solve_triangular(L[own, own], X[own], lower=True, trans="T", check_finite=False)
    return X
