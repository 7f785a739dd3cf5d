"""The output folder of a command: it appears only when it is complete, and replaces only files that flda wrote."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

SUMMARY = "summary.json"  # marks a folder as written by flda, and lists the files in it


class UsageError(Exception):
    """An error that the user can correct; it is shown as one line, with exit status 2."""


@contextlib.contextmanager
def whole_folder(out: Path, *, overwrite: bool, inputs: Iterable[Path] = ()) -> Iterator[Path]:
    """Yield a temporary folder that replaces ``out`` if the block succeeds, and is removed otherwise.

    Parameters
    ----------
    out
        The folder to write.
    overwrite
        Whether ``out`` may exist, if it holds nothing but files that flda wrote.
    inputs
        Files that the command reads; they may not lie in ``out``.

    Raises
    ------
    UsageError
        If ``out`` cannot be written, or must not be replaced. This is checked before the block runs.
    """
    _check(out, overwrite, inputs)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent, ignore_cleanup_errors=True)
    except OSError as error:
        raise UsageError(f"cannot write to {out.parent}: {error.strerror}") from None
    with temporary as name:
        folder, earlier = Path(name) / "new", Path(name) / "earlier"
        folder.mkdir()
        yield folder
        _check(out, overwrite, inputs)  # files may have been added meanwhile
        if out.exists():
            out.rename(earlier)
        try:
            folder.rename(out)
        except OSError:
            earlier.rename(out)
            raise


def write_csv(table: pd.DataFrame, path: Path, *, sep: str = ",", header: bool = True) -> None:
    """Write a table in the form that all CSV files of flda have."""
    table.to_csv(path, sep=sep, header=header, index=False, float_format="%.8g", lineterminator="\n")


def write_summary(folder: Path, content: Mapping[str, Any]) -> None:
    """Write the summary of a folder, with the list of its files; nothing may be added afterwards."""
    files = sorted([*_files(folder), SUMMARY])
    text = json.dumps({**content, "files": files}, indent=2, default=str)
    (folder / SUMMARY).write_text(text + "\n", encoding="utf-8")


def _check(out: Path, overwrite: bool, inputs: Iterable[Path]) -> None:
    """Refuse a folder that must not be replaced."""
    if out.is_symlink():
        raise UsageError(f"{out} is a link; --out must name a folder")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; --out must name a folder")
    if Path.cwd().is_relative_to(out.resolve()):
        raise UsageError(f"{out} holds the current folder; name another folder with --out")
    for path in inputs:
        if path.resolve().is_relative_to(out.resolve()):
            raise UsageError(f"{out} holds the input {path}; name another folder with --out")
    if not out.exists() or not any(out.iterdir()):
        return
    if not overwrite:
        raise UsageError(f"{out} exists; name another folder with --out, or add --overwrite")
    try:
        known = set(json.loads((out / SUMMARY).read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        known = set()
    others = sorted(set(_files(out)) - known)
    if others:
        raise UsageError(f"{out} holds {others[0]}, which flda did not write; name another folder with --out")


def _files(folder: Path) -> list[str]:
    """Paths of all files, links included, relative to the folder."""
    return [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_symlink() or not p.is_dir()]
