"""A stand-in for cupy on machines without a GPU: NumPy behind the rules of cupy.

Numbers are NumPy's. The rules are those of cupy 14 that code for NumPy breaks most easily:

* Host and device do not mix. An array refuses to become NumPy's by accident, and refuses NumPy arrays as operands, as
  values and as indices.
* Only the functions, ufuncs, methods and options that are listed here exist, each of which cupy has.
* Sparse matrices hold bool, float32 or float64, and take part only in the operations that cupyx has. A product with a
  dense matrix is in Fortran order.
* ``cholesky`` reports that a matrix is not positive definite only within ``cupyx.errstate(linalg="raise")``, and
  ``solve_triangular`` has cupyx's options and returns Fortran order.
* ``get`` copies to C order, and the pool of memory keeps what was freed.
"""

import contextlib
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import scipy.sparse.linalg

# names of cupy that the package uses, with the options that cupy has
METHODS = {
    "all": {"axis", "keepdims"},
    "astype": {"order", "copy"},
    "copy": {"order"},
    "diagonal": set(),
    "max": {"axis", "keepdims"},
    "min": {"axis", "keepdims"},
    "reshape": set(),
    "sum": {"axis", "dtype", "keepdims"},
    "transpose": set(),
}
FUNCTIONS = {"argwhere", "count_nonzero"}  # of NumPy, given arrays of cupy
UFUNCS = {
    "absolute", "add", "divide", "equal", "floor", "greater", "invert", "isfinite", "less", "logical_not", "matmul",
    "maximum", "minimum", "multiply", "negative", "not_equal", "power", "sqrt", "square", "subtract", "greater_equal",
    "less_equal",
}  # fmt: skip
TOTAL = 2**34  # bytes of the device


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    __array_priority__ = 100

    def __init__(self, values):
        self.values = values
        _pool.took(values.nbytes if values.base is None else 0)

    shape = property(lambda self: self.values.shape)
    ndim = property(lambda self: self.values.ndim)
    dtype = property(lambda self: self.values.dtype)
    size = property(lambda self: self.values.size)
    nbytes = property(lambda self: self.values.nbytes)
    flags = property(lambda self: self.values.flags)
    T = property(lambda self: ndarray(self.values.T))

    def get(self):
        return np.array(self.values, order="C")

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`.")

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        out = kwargs.pop("out", None)
        if method != "__call__" or ufunc.__name__ not in UFUNCS or kwargs:
            raise NotImplementedError(
                f"the stand-in has no {ufunc.__name__}.{method}({list(kwargs)}); add it if cupy has it"
            )
        if any(isinstance(x, csr_matrix) for x in inputs):
            return NotImplemented
        if out is not None:
            kwargs["out"] = tuple(_inside(o) for o in out)
        result = ufunc(*map(_inside, inputs), **kwargs)
        return out[0] if out is not None else _outside(result)

    def __array_function__(self, function, types, args, kwargs):
        if function.__name__ not in FUNCTIONS:
            raise NotImplementedError(f"the stand-in has no {function.__name__}; add it if cupy has it")
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
        return _wrapped(getattr(self.values, name), METHODS[name])


class csr_matrix:
    format, _kind = "csr", sp.csr_matrix
    __array_ufunc__ = None
    __array_priority__ = 101  # the sparse operand of a product decides

    def __init__(self, matrix):
        if isinstance(matrix, ndarray | np.ndarray):
            raise TypeError("the package makes sparse matrices of the device from scipy's only")
        self.matrix = self._kind(matrix.matrix if isinstance(matrix, csr_matrix) else matrix)
        if self.matrix.dtype not in (np.float32, np.float64, np.bool_):
            raise ValueError("Only bool, float32, float64, complex64 and complex128 are supported")
        _pool.took(self.matrix.data.nbytes + self.matrix.indices.nbytes)

    shape = property(lambda self: self.matrix.shape)
    ndim = 2
    nnz = property(lambda self: self.matrix.nnz)
    dtype = property(lambda self: self.matrix.dtype)
    data = property(lambda self: ndarray(self.matrix.data))
    T = property(lambda self: (csc_matrix if self.format == "csr" else csr_matrix)(self.matrix.T))

    def get(self):
        return self.matrix.copy()

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __len__(self):
        raise TypeError("sparse array length is ambiguous; use shape[0] or .nnz")

    def __getitem__(self, key):
        return type(self)(self.matrix[_inside(key)])

    def __matmul__(self, other):
        """The product with a dense array; in Fortran order, as cuSPARSE returns it."""
        if not isinstance(other, ndarray):
            return NotImplemented
        if self.matrix.dtype != other.dtype:
            raise TypeError("a product of two types makes a copy of one of them; convert it before")
        return ndarray(np.asfortranarray(self.matrix @ other.values))

    def __rmatmul__(self, other):
        if not isinstance(other, ndarray):
            return NotImplemented
        return (self.T @ other.T).T

    def __sub__(self, other):
        if isinstance(other, ndarray):
            return self.toarray() - other
        return type(self)(self.matrix - other.matrix) if isinstance(other, csr_matrix) else NotImplemented

    def astype(self, dtype):
        return type(self)(self.matrix.astype(dtype))

    def toarray(self, order="C"):
        return ndarray(self.matrix.toarray(order=order))

    def tocsr(self):
        return csr_matrix(self)

    def tocsc(self):
        return csc_matrix(self)


class csc_matrix(csr_matrix):
    format, _kind = "csc", sp.csc_matrix


class _Pool:
    """The pool of device memory: the memory of the last arrays counts as used, and what was freed stays in it."""

    def __init__(self):
        self.total = 0

    def took(self, n_bytes):
        self.total = max(self.total, n_bytes)

    def used_bytes(self):
        return 0

    def free_bytes(self):
        return self.total

    def total_bytes(self):
        return self.total

    def get_limit(self):
        return 0

    def free_all_blocks(self):
        self.total = 0


_pool = _Pool()


def _inside(x):
    if isinstance(x, ndarray):
        return x.values
    if isinstance(x, csr_matrix):
        raise TypeError("a sparse matrix of cupyx is no argument of this function")
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


def _wrapped(function, options=frozenset()):
    def call(*args, **kwargs):
        if unknown := set(kwargs) - set(options):
            raise TypeError(f"cupy has no option {sorted(unknown)} here, or the stand-in lacks it")
        return _outside(function(*_inside(args), **_inside(kwargs)))

    return call


def _taking(function):
    """Functions that may be given NumPy arrays: they move them."""

    def call(x, dtype=None, **kwargs):
        if set(kwargs) - {"copy", "order"}:
            raise TypeError(f"cupy has no such option: {list(kwargs)}")
        if sp.issparse(x) or isinstance(x, csr_matrix):
            raise ValueError("Unsupported dtype object")
        values = np.asarray(x.values if isinstance(x, ndarray) else x)
        if values.dtype.kind not in "biufc":
            raise ValueError(f"Unsupported dtype {values.dtype}")
        moved = function(values, dtype=dtype, **kwargs)
        if moved is values and not isinstance(x, ndarray):
            moved = moved.copy()  # the device has memory of its own
        return x if isinstance(x, ndarray) and moved is values else ndarray(moved)

    return call


_raising = [False]


@contextlib.contextmanager
def _errstate(*, linalg):
    _raising.append(linalg == "raise")
    try:
        yield
    finally:
        _raising.pop()


def _cholesky(a):
    if not isinstance(a, ndarray):
        raise np.linalg.LinAlgError("cupy.linalg only supports cupy.ndarray")
    try:
        return ndarray(np.ascontiguousarray(np.linalg.cholesky(a.values)))
    except np.linalg.LinAlgError:
        if _raising[-1]:
            raise
        return ndarray(np.tril(a.values))  # cupy goes on with what is there


def _solve_triangular(a, b, trans=0, lower=False, unit_diagonal=False, overwrite_b=False, check_finite=False):
    if not (isinstance(a, ndarray) and isinstance(b, ndarray)):
        raise np.linalg.LinAlgError("cupy.linalg only supports cupy.ndarray")
    if min(a.values.shape + b.values.shape) == 0:
        raise ValueError("cuBLAS refuses matrices without rows or columns")
    found = scipy.linalg.solve_triangular(
        a.values, b.values, trans=trans, lower=lower, unit_diagonal=unit_diagonal, check_finite=check_finite
    )
    return ndarray(np.asfortranarray(found))


def install(monkeypatch, n_devices: int = 1, driver: int = 13000) -> ModuleType:
    """Put the stand-in where ``import cupy`` finds it.

    Parameters
    ----------
    monkeypatch
        Pytest's, or any object with ``setitem`` and ``setattr``.
    n_devices
        The number of GPUs.
    driver
        The version of CUDA that the driver is for, as the runtime gives it.
    """
    global _pool
    names = (
        "cupy", "cupyx", "cupyx.cusolver", "cupyx.cusparse", "cupyx.scipy", "cupyx.scipy.sparse",
        "cupyx.scipy.sparse.linalg", "cupyx.scipy.linalg",
    )  # fmt: skip
    modules = {name: ModuleType(name) for name in names}
    for name in names[2:]:  # submodules are attributes of their parents
        parent, _, own = name.rpartition(".")
        setattr(modules[parent], own, modules[name])
    cupy = modules["cupy"]
    _pool = pool = _Pool()
    cupy.__version__ = "stand-in"
    cupy.ndarray, cupy.asarray, cupy.array = ndarray, _taking(np.asarray), _taking(np.array)
    makers = {"arange": {"dtype"}, "empty": {"dtype", "order"}, "ix_": set(), "zeros": {"dtype", "order"}}
    for name, options in makers.items():
        setattr(cupy, name, _wrapped(getattr(np, name), options))
    cupy.get_default_memory_pool = lambda: pool
    modules["cupyx"].errstate = _errstate
    cupy.linalg, cupy.cuda = ModuleType("cupy.linalg"), ModuleType("cupy.cuda")
    cupy.linalg.cholesky = _cholesky
    cupy.cuda.Device = lambda: SimpleNamespace(synchronize=lambda: None)
    cupy.cuda.runtime = ModuleType("cupy.cuda.runtime")
    cupy.cuda.runtime.getDeviceCount = lambda: n_devices
    cupy.cuda.runtime.getDeviceProperties = lambda number: {"name": b"stand-in"}
    cupy.cuda.runtime.driverGetVersion = lambda: driver
    cupy.cuda.runtime.runtimeGetVersion = lambda: 13000
    cupy.cuda.runtime.memGetInfo = lambda: (TOTAL // 2 - pool.total, TOTAL)
    modules["cupyx.scipy.sparse"].csr_matrix = csr_matrix
    modules["cupyx.scipy.sparse"].csc_matrix = csc_matrix
    modules["cupyx.scipy.sparse.linalg"].svds = lambda a, k: _outside(scipy.sparse.linalg.svds(a.matrix, k=k))
    modules["cupyx.scipy.linalg"].solve_triangular = _solve_triangular
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    for kind, module in (
        (ndarray, "cupy"),
        (csr_matrix, "cupyx.scipy.sparse._csr"),
        (csc_matrix, "cupyx.scipy.sparse._csc"),
    ):
        monkeypatch.setattr(kind, "__module__", module)
    return cupy
