"""The entry for X: whatever users hold becomes a matrix that the package works on, or one clear error."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import check_array

from . import arrays
from .device import OnDevice, comes_from, wrap

MATRIX_TYPES = (np.float64, np.float32)  # other types are converted to the first


def known(X: Any, name: str = "X") -> Any:
    """Return X as a kind of matrix that scikit-learn or this package knows; its values are not looked at.

    Matrices on disk become streams, dense and sparse matrices of cupy are wrapped, and the views that anndata hands out
    become what they are views of.

    Parameters
    ----------
    X
        Expression, cells x genes, in any form.
    name
        Name of the matrix in messages.

    Raises
    ------
    ValueError
        If X is an AnnData, or if values of it are masked.
    """
    if comes_from(X, "anndata") and hasattr(X, "obs"):
        raise ValueError(f"{name} is an AnnData; give its matrix, adata.X, or call flda.tl.flda on the AnnData.")
    if isinstance(X, np.ma.MaskedArray):
        n_masked = int(np.ma.count_masked(X))
        if n_masked:
            raise ValueError(
                f"{name} is a masked array, and {n_masked} of its values are masked; impute these values, or leave out "
                "their cells or genes."
            )
        return np.asarray(X.data)
    if arrays.is_dask(X):
        return arrays.plain_dask(X)
    if isinstance(X, pd.DataFrame):
        for column, kind in X.dtypes.items():
            if not (pd.api.types.is_numeric_dtype(kind) or kind.kind == "O"):
                raise ValueError(f"the column {column!r} of {name} holds {kind} values; expression must be numeric.")
        return X
    if isinstance(X, np.matrix | list | tuple):
        X = np.asarray(X)
    X = wrap(stored(X))
    if not hasattr(X, "ndim") and hasattr(X, "__array__"):
        X = np.asarray(X)
    if not (hasattr(X, "ndim") and hasattr(X, "dtype")):
        raise ValueError(f"{name} is a {type(X).__name__}; it must be a matrix of numbers, cells x genes.")
    if X.ndim != 2:
        raise ValueError(
            f"Expected 2D array: {name} has {X.ndim} dimensions and must have two, cells x genes. Reshape your data."
        )
    if X.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: {name} must hold real numbers.")
    return X


def stored(X: Any) -> Any:
    """Return a matrix on disk as a stream of rows, or in memory if it is stored by columns; and others unchanged."""
    if not arrays.on_disk(X):
        return X
    return X.to_memory() if getattr(X, "format", "csr") == "csc" else arrays.Stream.of(X)


def is_lazy(X: Any) -> bool:
    """Return whether X is read in blocks or computed on a GPU, so that scikit-learn cannot check it."""
    return isinstance(X, arrays.Stream | OnDevice) or arrays.is_dask(X)


def check_lazy(X: Any, name: str = "X") -> None:
    """Refuse a matrix for which :func:`is_lazy` holds if it is not a numeric matrix."""
    if X.ndim != 2 or X.dtype.kind not in "fiub":
        raise ValueError(f"{name} must be a numeric matrix; got an array of {X.ndim} dimensions and type {X.dtype}.")


def matrix(X: Any, name: str = "X") -> Any:
    """Return X as a numeric matrix whose rows can be sliced.

    Arrays, dask arrays, matrices on disk and on a GPU are returned unchanged; lists, data frames and other sparse
    formats are converted. The caller's memory is never written to.

    Parameters
    ----------
    X
        Expression, cells x genes, in any form.
    name
        Name of the matrix in messages.

    Raises
    ------
    ValueError
        If X is not a numeric matrix, or values of it are masked.
    """
    X = known(X, name)
    if is_lazy(X):
        check_lazy(X, name)
        return X
    with one_sentence(name):
        X = check_array(X, accept_sparse=("csr", "csc"), dtype=MATRIX_TYPES, ensure_all_finite=False, input_name=name)
    return arrays.canonical(X)


@contextlib.contextmanager
def one_sentence(name: str) -> Iterator[None]:
    """Within, a value that is no number is an error that names the matrix."""
    try:
        yield
    except (ValueError, TypeError) as error:
        text = " ".join(str(error).split())
        if text.startswith(("could not convert", "float() argument", "Unable to convert")):
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{name} must hold numbers: {text}.") from None
        raise


def check_rows(first: Any, second: Any, names: tuple[str, str]) -> None:
    """Refuse two tables that name the same cells in different orders.

    Tables are taken row by row. Names that differ as a set, such as the consecutive numbers that
    ``DataFrame.reset_index`` gives, say nothing of the order.

    Parameters
    ----------
    first, second
        What the caller gave; only data frames and series have names of rows.
    names
        What messages call them.
    """
    rows = [x.index for x in (first, second) if isinstance(x, pd.DataFrame | pd.Series)]
    if len(rows) < 2 or len(rows[0]) != len(rows[1]) or rows[0].equals(rows[1]):
        return
    if rows[0].is_unique and rows[1].is_unique and rows[0].isin(rows[1]).all():
        raise ValueError(
            f"{names[0]} and {names[1]} name the same cells in different orders (row 0 is {rows[0][0]!r} and "
            f"{rows[1][0]!r}); bring them into one order, for example with {names[1]}.loc[{names[0]}.index]."
        )
