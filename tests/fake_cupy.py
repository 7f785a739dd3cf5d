"""A stand-in for cupy on machines without a GPU: NumPy behind cupy's rule that host and device do not mix.

An array of it refuses to become NumPy's by accident, and refuses NumPy arrays as operands and as indices, so a test
that passes has moved everything that cupy would have to be given. Numbers are NumPy's.
"""

import contextlib
import sys
from types import ModuleType

import numpy as np
import scipy.linalg
import scipy.sparse as sp

METHODS = {"all", "any", "astype", "clip", "copy", "diagonal", "max", "min", "reshape", "sum", "transpose"}


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    __array_priority__ = 100

    def __init__(self, values):
        self.values = values

    shape = property(lambda self: self.values.shape)
    ndim = property(lambda self: self.values.ndim)
    dtype = property(lambda self: self.values.dtype)
    size = property(lambda self: self.values.size)
    T = property(lambda self: ndarray(self.values.T))

    def get(self):
        return np.array(self.values)

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`.")

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        out = kwargs.pop("out", None)
        if out is not None:
            kwargs["out"] = tuple(_inside(o) for o in out)
        result = getattr(ufunc, method)(*map(_inside, inputs), **kwargs)
        return out[0] if out is not None else _outside(result)

    def __array_function__(self, function, types, args, kwargs):
        return _outside(function(*_inside(args), **_inside(kwargs)))

    def __len__(self):
        return len(self.values)

    def __bool__(self):
        return bool(self.values)

    def __int__(self):
        return int(self.values)

    def __float__(self):
        return float(self.values)

    def __getitem__(self, key):
        return ndarray(np.asarray(self.values[_inside(key)]))

    def __setitem__(self, key, value):
        self.values[_inside(key)] = _inside(value)

    def __getattr__(self, name):
        if name not in METHODS:
            raise AttributeError(f"the stand-in has no {name!r}; add it if cupy has it")
        return _wrapped(getattr(self.values, name))


class csr_matrix:
    format = "csr"
    __array_ufunc__ = None  # as in cupyx, the sparse operand of a product decides

    def __init__(self, matrix):
        self.matrix = sp.csr_matrix(matrix.matrix if isinstance(matrix, csr_matrix) else matrix)
        if self.matrix.dtype not in (np.float32, np.float64, np.bool_):
            raise ValueError("Only bool, float32, float64, complex64 and complex128 are supported")

    shape = property(lambda self: self.matrix.shape)
    ndim = 2
    dtype = property(lambda self: self.matrix.dtype)
    data = property(lambda self: ndarray(self.matrix.data))

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __getitem__(self, key):
        return type(self)(self.matrix[_inside(key)])

    def __matmul__(self, other):
        assert self.matrix.dtype == other.dtype, "cupyx casts to the type of the sparse operand"
        return ndarray(self.matrix @ _inside(other))

    def __rmatmul__(self, other):
        assert self.matrix.dtype == other.dtype, "cupyx casts to the type of the sparse operand"
        return ndarray(_inside(other) @ self.matrix)

    def astype(self, dtype):
        return type(self)(self.matrix.astype(dtype))

    def toarray(self):
        return ndarray(self.matrix.toarray())

    def tocsr(self):
        return csr_matrix(self)

    def tocsc(self):
        return csr_matrix(self)


def _inside(x):
    if isinstance(x, ndarray):
        return x.values
    if isinstance(x, tuple | list):
        return type(x)(map(_inside, x))
    if isinstance(x, dict):
        return {k: _inside(v) for k, v in x.items()}
    if isinstance(x, np.ndarray) and x.ndim:
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    return x


def _outside(x):
    if isinstance(x, np.ndarray | np.generic):
        return ndarray(np.asarray(x))
    return type(x)(map(_outside, x)) if isinstance(x, tuple) else x


def _wrapped(function):
    return lambda *args, **kwargs: _outside(function(*_inside(args), **_inside(kwargs)))


def _taking(function):
    """Functions that may be given NumPy arrays: they move them."""

    def call(x, *args, **kwargs):
        return ndarray(np.asarray(function(x.values if isinstance(x, ndarray) else x, *args, **kwargs)))

    return call


_raising = []


@contextlib.contextmanager
def _errstate(linalg):
    _raising.append(linalg == "raise")
    yield
    _raising.pop()


def _cholesky(a):
    try:
        return ndarray(np.linalg.cholesky(a.values))
    except np.linalg.LinAlgError:
        if _raising and _raising[-1]:
            raise
        return a  # cupy goes on with what is there


def install(monkeypatch, n_devices: int = 1) -> ModuleType:
    """Put the stand-in where ``import cupy`` finds it."""
    names = ("cupy", "cupyx", "cupyx.scipy", "cupyx.scipy.sparse", "cupyx.scipy.linalg")
    modules = {name: ModuleType(name) for name in names}
    cupy = modules["cupy"]
    cupy.ndarray, cupy.asarray, cupy.array = ndarray, _taking(np.asarray), _taking(np.array)
    for name in ("arange", "broadcast_to", "concatenate", "einsum", "empty", "eye", "ix_", "zeros"):
        setattr(cupy, name, _wrapped(getattr(np, name)))
    modules["cupyx"].errstate = _errstate
    cupy.linalg, cupy.cuda = ModuleType("cupy.linalg"), ModuleType("cupy.cuda")
    cupy.linalg.cholesky, cupy.linalg.eigh = _cholesky, lambda a: _outside(tuple(np.linalg.eigh(a.values)))
    cupy.cuda.runtime = ModuleType("cupy.cuda.runtime")
    cupy.cuda.runtime.getDeviceCount = lambda: n_devices
    cupy.cuda.runtime.memGetInfo = lambda: (2**33, 2**34)
    modules["cupyx.scipy.sparse"].csr_matrix = csr_matrix
    modules["cupyx.scipy.linalg"].solve_triangular = _wrapped(scipy.linalg.solve_triangular)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    for kind, module in ((ndarray, "cupy"), (csr_matrix, "cupyx.scipy.sparse")):
        monkeypatch.setattr(kind, "__module__", module)
    return cupy
