"""What a data set should hold: labels, numbers of cells and genes, compared with what a loader returns."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from typing import Any

import pandas as pd

from ._files import manifests


def expected(name: str, *, load: bool = False, data_dir: str | os.PathLike | None = None) -> pd.DataFrame:
    """Say what a data set should hold according to its manifest, and compare it with the files if asked.

    Parameters
    ----------
    name
        Data set, as in :func:`manifests`.
    load
        Whether to load the files, which must be there, and to compare. Nothing is downloaded if there is a data folder.
    data_dir
        As in :func:`fetch`.

    Returns
    -------
    DataFrame with one row per statement: ``what, expected, found, status``. Without ``load``, ``found`` is empty.
    ``status`` is ``same``, ``different``, or ``not compared``.

    Raises
    ------
    ValueError
        If the data set is unknown, or the loader refuses its files.
    FileNotFoundError
        If a file is missing.

    Examples
    --------
    >>> expected("gse126139").set_index("what").loc["cells with time 48h", "expected"]
    '3,557'
    """
    known = manifests()
    if name not in known:
        raise ValueError(f"unknown data set {name!r}; use one of {', '.join(known)}.")
    manifest = known[name]
    data = _load(manifest, data_dir) if load else None
    rows = []
    for what, wanted, column, level in _statements(manifest):
        found = "" if data is None else _found(data, what, column, level)
        status = "not compared" if not found or wanted == "not known" else "same" if found == wanted else "different"
        rows.append((what, wanted, found, status))
    return pd.DataFrame(rows, columns=["what", "expected", "found", "status"])


def _statements(manifest: dict) -> Iterator[tuple[str, str, str, str]]:
    """Yield what is stated, its value as text, and the column and level of ``obs`` that it is about."""
    for what, number in zip(("cells", "genes"), manifest.get("shape", ()), strict=False):
        yield what, "not known" if number is None else f"{number:,}", "", ""
    for column, levels in manifest.get("levels", {}).items():
        yield f"levels of {column}", ", ".join(levels), column, ""
    for column, counts in (manifest.get("cells", {}) | {"subtype": manifest.get("groups", {})}).items():
        for level, number in counts.items():
            yield f"cells with {column} {level}", f"{number:,}", column, level


def _load(manifest: dict, data_dir: str | os.PathLike | None) -> Any:
    module, _, function = manifest["loader"].rpartition(".")
    loader = getattr(importlib.import_module(module), function)
    return loader(manifest["name"], data_dir=data_dir) if function == "t4t5" else loader(data_dir=data_dir)


def _found(data: Any, what: str, column: str, level: str) -> str:
    """Return as text what the data say to a statement; empty if they say nothing."""
    if what in ("cells", "genes"):
        return f"{data.shape[what == 'genes']:,}" if hasattr(data, "shape") else ""
    if column not in data.obs:
        return f"no column {column!r}"
    values = data.obs[column].astype("category")
    if level:
        return f"{int((values.astype(str) == level).sum()):,}"
    return ", ".join(map(str, values.cat.categories))
