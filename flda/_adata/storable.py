"""Values in a form that every AnnData file format can hold, and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

# HDF5 and Zarr split names at slashes and read "." as a folder; a DataFrame may have no column "_index". Names are
# written with percent signs instead, as in a URL, so that they can be read back exactly.
RESERVED = {"": "%", ".": "%2E", "..": "%2E%2E", "_index": "%5Findex"}


def escaped(name: str) -> str:
    """A name that can be a key or a column in every file format."""
    return RESERVED.get(name, name.replace("%", "%25").replace("/", "%2F"))


def unescaped(name: str) -> str:
    """The name that :func:`escaped` was given."""
    for plain_name, written in RESERVED.items():
        if name == written:
            return plain_name
    return name.replace("%2F", "/").replace("%25", "%")


def storable(value: Any) -> Any:
    """A copy of a value that can be written to h5ad and zarr files.

    Columns and keys are escaped, levels and other objects in tables become text, NumPy scalars become Python's, and
    tuples become lists.

    Parameters
    ----------
    value
        Nested dictionaries and lists of tables, arrays, text, numbers, and None.

    Raises
    ------
    TypeError
        For a value of another type, such as a random number generator.

    Examples
    --------
    >>> storable({"penalty": {"a/b": np.float64(2.0)}})
    {'penalty': {'a%2Fb': 2.0}}
    """
    if isinstance(value, pd.DataFrame):
        columns = {escaped(str(name)): _column(value[name]) for name in value}
        return pd.DataFrame(columns).set_index(_index(value.index))
    if isinstance(value, Mapping):
        return {escaped(str(name)): storable(part) for name, part in value.items()}
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, list | tuple):
        return [storable(part) for part in value]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be stored in an AnnData file")


def plain(value: Any) -> Any:
    """The value that :func:`storable` was given, whatever a file format has made of it.

    One-dimensional arrays come back as lists. Tables come back with row names if they had any, else with consecutive
    row numbers.

    Examples
    --------
    >>> plain({"penalty": {"a%2Fb": np.float64(2.0)}, "factors": np.array(["a/b", "c"], dtype=object)})
    {'penalty': {'a/b': 2.0}, 'factors': ['a/b', 'c']}
    """
    value = value.to_memory() if hasattr(value, "to_memory") else value  # part of a lazily read AnnData
    if isinstance(value, pd.DataFrame):
        # pandas 3 has a type for text; DataFrame.infer_objects would leave several columns of text as objects
        columns = {unescaped(name): value[name].infer_objects() for name in value}
        return pd.DataFrame(columns, index=value.index).set_index(_index(value.index))
    if isinstance(value, Mapping):
        return {unescaped(name): plain(part) for name, part in value.items()}
    if isinstance(value, np.ndarray) and value.ndim < 2:
        return value.tolist()
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value.item() if isinstance(value, np.generic) else value


def _index(index: pd.Index) -> pd.Index:
    """Row names as text, or consecutive numbers in place of other numbers."""
    return index.astype(str) if index.dtype.kind in "OUT" else pd.RangeIndex(len(index))


def _column(values: pd.Series) -> pd.Series | pd.Categorical:
    """A column with levels and other objects as text; missing ones stay missing levels, or become empty text."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        levels = [str(level) for level in values.cat.categories]
        if len(set(levels)) == len(levels):
            return pd.Categorical.from_codes(values.cat.codes, levels)
        values = values.astype(object)
    if values.dtype.kind in "OUT":
        return values.map(str, na_action="ignore").fillna("").astype(object).reset_index(drop=True)
    return values.reset_index(drop=True)
