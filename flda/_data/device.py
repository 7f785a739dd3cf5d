"""Work on a GPU through cupy, which only this module imports.

:class:`OnDevice` wraps a matrix whose blocks the GPU works on. The rest of the package calls :func:`namespace` for the
module (numpy or cupy) that makes arrays where a matrix is, :func:`asarray_like` to put a small array there, and
:func:`to_numpy` to get an array back. Products of the data, p x p and N x N matrices and their factors stay on the GPU.
Thin arrays (means, scores, axes) and all results are NumPy arrays.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import scipy.sparse as sp

BLOCK_BYTES = 512 * 2**20  # size of the largest dense float64 block on a GPU
BLOCK_SHARE = 12  # a block takes at most this part of the free memory, as work on it makes several copies
DEVICES = ("cpu", "cuda")


class NoDevice(RuntimeError):
    """There is no GPU that cupy can use."""


def comes_from(x: Any, *packages: str) -> bool:
    """Return whether the class of x, or one that it derives from, belongs to a package, which need not be installed."""
    return any(base.__module__.partition(".")[0] in packages for base in type(x).__mro__)


def is_device(x: Any) -> bool:
    """Return whether x is an array or a sparse matrix of cupy, or anndata's view of one."""
    return comes_from(x, "cupy", "cupyx")


@dataclass(frozen=True)
class OnDevice:
    """A matrix whose blocks are copied to the GPU when they are used.

    Attributes
    ----------
    source
        A matrix in memory (dense or CSR; CSC after ``by_columns``), a :class:`flda._data.arrays.Stream`, or a matrix
        that is on the GPU already.
    """

    source: Any

    @property
    def shape(self) -> tuple[int, int]:
        """The number of cells and the number of genes."""
        return self.source.shape

    @property
    def ndim(self) -> int:
        """The number of dimensions, which is two."""
        return self.source.ndim

    @property
    def dtype(self) -> np.dtype:
        """The data type of the source."""
        return np.dtype(self.source.dtype)

    def __getitem__(self, key) -> OnDevice:
        """Return a part of the matrix; nothing is copied to the GPU."""
        if is_device(self.source):
            import cupy

            parts = key if isinstance(key, tuple) else (key,)
            key = tuple(p if isinstance(p, slice) else cupy.asarray(p) for p in parts)
        return OnDevice(self.source[key])

    def on_device(self):
        """Return the matrix as a new dense float64 array on the GPU."""
        return to_device(self.source)


def to_device(block):
    """Copy a block of any kind to the GPU, as a dense float64 array in C order."""
    import cupy

    if sp.issparse(block):
        from cupyx.scipy import sparse

        block = block if block.format in ("csr", "csc") else block.tocsr()
        block = block if block.dtype in (np.float32, np.float64) else block.astype(np.float64)
        kinds = {"csr": (sp.csr_matrix, sparse.csr_matrix), "csc": (sp.csc_matrix, sparse.csc_matrix)}
        here, there = kinds[block.format]
        block = there(here(block))
    if is_device(block) and hasattr(block, "toarray"):
        return block.astype(np.float64).toarray()
    # float32 becomes float64 on the GPU, because transfers take longer than that
    return cupy.asarray(block).astype(np.float64, order="C", copy=is_device(block))


def require(device: str) -> None:
    """Check that a device can be used.

    Parameters
    ----------
    device
        ``"cpu"`` or ``"cuda"``.

    Raises
    ------
    ValueError
        If ``device`` is neither of them.
    ImportError
        If ``device="cuda"`` and cupy, or a library of CUDA that it needs, is not installed.
    NoDevice
        If ``device="cuda"`` and cupy finds no GPU, or cannot compute on it.
    """
    if device not in DEVICES:
        raise ValueError(f"device={device!r}: use one of {list(DEVICES)}.")
    if device == "cpu":
        return
    try:
        import cupy
    except ImportError:
        raise ImportError(f"device='cuda' needs cupy: {_advice(driver_version())}.") from None
    try:
        found = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # noqa: BLE001  the runtime raises its own class of error for a missing driver
        raise NoDevice(
            f"device='cuda': cupy finds no usable GPU ({error}); {_advice(driver_version())}, or use device='cpu'."
        ) from None
    if not found:
        raise NoDevice("device='cuda': cupy finds no GPU; use device='cpu'.")
    try:
        import cupyx.cusolver
        import cupyx.cusparse
        import cupyx.scipy.linalg  # noqa: F401

        float(cupy.zeros(2).sum())
    except ImportError as error:
        raise ImportError(
            f"device='cuda': cupy lacks a library of CUDA ({error}); {_advice(driver_version())}."
        ) from None
    except Exception as error:  # noqa: BLE001  for instance no compiler of kernels, or no free memory
        raise NoDevice(
            f"device='cuda': cupy cannot compute on the GPU ({error}); {_advice(driver_version())}, or use "
            "device='cpu'."
        ) from None


def driver_version() -> int | None:
    """Return the newest CUDA that the driver supports, as 1000 times the major plus 10 times the minor version.

    Returns
    -------
    The version, or None without a driver. cupy is not needed.
    """
    for name in ("libcuda.so.1", "nvcuda.dll"):
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        version = ctypes.c_int()
        if library.cuDriverGetVersion(ctypes.byref(version)) == 0:
            return version.value
    return None


def _advice(driver: int | None) -> str:
    """Say which extra of the package suits the driver."""
    if driver is None:
        return (
            "no NVIDIA driver is found here; where there is one, pip install 'flda[gpu13]' for CUDA 13 or 'flda[gpu]' "
            "for CUDA 12"
        )
    version = f"{driver // 1000}.{driver % 1000 // 10}"
    if driver < 12000:
        return f"the driver supports CUDA {version} only; update it, then pip install 'flda[gpu]' for CUDA 12"
    extra, other = ("gpu13", "cupy-cuda12x") if driver >= 13000 else ("gpu", "cupy-cuda13x")
    return f"the driver supports CUDA {version}: pip install 'flda[{extra}]', without {other} beside it"


def to_host(X):
    """Return a matrix that the GPU works on as one in the memory of the computer, and anything else unchanged."""
    if isinstance(X, OnDevice):
        X = X.source
    return X.get() if is_device(X) else X


def wrap(X):
    """Wrap a cupy matrix in OnDevice, and return anything else unchanged."""
    return OnDevice(X) if is_device(X) else X


def free_memory() -> float:
    """Return the number of bytes on the GPU that cupy can still take, which its pool may hold already."""
    import cupy

    pool = cupy.get_default_memory_pool()
    free = float(cupy.cuda.runtime.memGetInfo()[0] + pool.free_bytes())
    return min(free, float(pool.get_limit() - pool.used_bytes())) if pool.get_limit() else free


def block_bytes() -> int:
    """Return the size of a dense float64 block, such that the GPU holds the copies that work on it makes."""
    return int(min(BLOCK_BYTES, free_memory() / BLOCK_SHARE))


def namespace(x: Any) -> ModuleType:
    """Return the module that makes arrays where x is: numpy or cupy."""
    if isinstance(x, OnDevice) or is_device(x):
        import cupy

        return cupy
    return np


def asarray_like(x: Any, array):
    """Copy a NumPy array or scipy.sparse matrix to the GPU if x is there, and else return it unchanged."""
    if not (isinstance(x, OnDevice) or is_device(x)):
        return array
    import cupy

    if sp.issparse(array):
        from cupyx.scipy.sparse import csr_matrix

        return csr_matrix(sp.csr_matrix(array))
    return cupy.asarray(array)


def to_numpy(array) -> np.ndarray:
    """Return an array as a NumPy array, copied from the GPU if it is there."""
    return array.get() if is_device(array) else array
