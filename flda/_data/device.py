"""Work on a GPU through cupy, which only this module imports.

:class:`OnDevice` wraps a matrix whose blocks the GPU works on. The rest of the package calls :func:`namespace` for the
module (numpy or cupy) that makes arrays where a matrix is, :func:`asarray_like` to put a small array there, and
:func:`to_numpy` to get an array back. Products of the data, p x p and N x N matrices and their factors stay on the GPU.
Thin arrays (means, scores, axes) and all results are NumPy arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import scipy.sparse as sp

BLOCK_BYTES = 512 * 2**20  # size of a dense float64 block on a GPU
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
        from cupyx.scipy.sparse import csr_matrix

        block = sp.csr_matrix(block)
        block = csr_matrix(block if block.dtype in (np.float32, np.float64) else block.astype(np.float64))
    if is_device(block) and hasattr(block, "toarray"):
        block = block.astype(np.float64).toarray()
    return cupy.array(block, dtype=np.float64, order="C")


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
        If ``device="cuda"`` and cupy is not installed.
    NoDevice
        If ``device="cuda"`` and cupy finds no GPU.
    """
    if device not in DEVICES:
        raise ValueError(f"device={device!r}: use one of {list(DEVICES)}.")
    if device == "cpu":
        return
    try:
        import cupy
    except ImportError:
        raise ImportError(
            "device='cuda' needs cupy: pip install 'flda[gpu]' for CUDA 12 or 'flda[gpu13]' for CUDA 13."
        ) from None
    try:
        found = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # noqa: BLE001  the runtime raises its own class of error for a missing driver
        raise NoDevice(f"device='cuda': cupy finds no usable GPU ({error}); use device='cpu'.") from None
    if not found:
        raise NoDevice("device='cuda': cupy finds no GPU; use device='cpu'.")


def wrap(X):
    """Wrap a cupy matrix in OnDevice, and return anything else unchanged."""
    return OnDevice(X) if is_device(X) else X


def free_memory() -> float:
    """Return the number of free bytes on the GPU."""
    import cupy

    return float(cupy.cuda.runtime.memGetInfo()[0])


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
