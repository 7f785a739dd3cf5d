"""The files and folders that a command writes: they appear only when complete, and replace only what flda wrote."""

from __future__ import annotations

import contextlib
import gc
import glob
import hashlib
import json
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import pandas as pd

from ._swap import swap, undisturbed

SUMMARY = "summary.json"  # marks a folder as written by flda, and lists the files in it
OWNER = "owner"  # in a temporary folder: the host and the process that made it
WRITTEN: list[Path] = []  # what the command of this process has written so far


class UsageError(Exception):
    """An error that the user can correct; it is shown as one line, with exit status 2."""


@contextlib.contextmanager
def whole_folder(out: Path, *, overwrite: bool, inputs: Iterable[Path] = ()) -> Iterator[Path]:
    """Yield a temporary folder that takes the place of ``out`` if the block succeeds, and is removed otherwise.

    An earlier ``out`` stands until the new folder is complete; the two then change places in one step of the file
    system where it has one, and the earlier one is removed. A command that is killed in between leaves the earlier
    folder or the new one, whole. What it leaves beside them is removed by the next command that writes ``out``.

    Parameters
    ----------
    out
        The folder to write.
    overwrite
        Whether ``out`` may exist, if it holds nothing but files that flda wrote and that are as flda wrote them.
    inputs
        Files and folders that the command reads; they may not lie in ``out``.

    Raises
    ------
    UsageError
        If ``out`` cannot be written, or must not be replaced. This is checked before the block runs.
    """
    inputs = list(inputs)
    _recover(out)
    check_folder(out, overwrite, inputs)
    made = [p for p in (out.parent, *out.parent.parents) if not p.exists()]
    temporary: Path | None = None
    try:
        with undisturbed(), _saying(f"cannot write to {out.parent}"):
            out.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        with writing(out):
            (temporary / OWNER).write_text(_owner(), encoding="utf-8")
            folder = temporary / "new"
            folder.mkdir()
        yield folder
        check_folder(out, overwrite, inputs)  # files may have been added meanwhile
        with undisturbed(), writing(out):
            swap(folder, out, temporary / "earlier")
            WRITTEN.append(out)
    finally:
        with undisturbed():
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)
            for parent in made:  # only those that are still empty
                with contextlib.suppress(OSError):
                    parent.rmdir()


@contextlib.contextmanager
def whole_file(
    out: Path, *, overwrite: bool, own: Callable[[Path], bool], inputs: Iterable[Path] = ()
) -> Iterator[Path]:
    """Yield the path of a temporary file that takes the place of ``out`` if the block succeeds.

    Parameters
    ----------
    out
        The file to write.
    overwrite
        Whether ``out`` may exist, if it is a file that flda wrote.
    own
        Says of an existing file whether flda wrote it.
    inputs
        Files and folders that the command reads; ``out`` may be none of them.

    Raises
    ------
    UsageError
        If ``out`` cannot be written, or must not be replaced. This is checked before the block runs.
    """
    inputs = list(inputs)
    _check_file(out, overwrite, own, inputs)
    part: Path | None = None
    try:
        with undisturbed(), _saying(f"cannot write {out}"):
            handle, name = tempfile.mkstemp(prefix=f".{out.name}-", dir=out.parent)
            os.close(handle)
            part = Path(name)
        yield part
        _check_file(out, overwrite, own, inputs)
        with undisturbed(), writing(out):
            part.chmod(0o666 & ~_umask())
            part.replace(out)
            WRITTEN.append(out)
            _add_to_manifest(out)
    finally:
        with undisturbed(), contextlib.suppress(OSError):
            if part is not None:
                part.unlink(missing_ok=True)
    print(f"wrote {out}")


@contextlib.contextmanager
def writing(out: Path) -> Iterator[None]:
    """Within, an error of the file system, such as a full disk, becomes one sentence that names ``out``."""
    with _without_echo():
        try:
            yield
        except (OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not _of_hdf5(error):
                raise
            said = UsageError(f"cannot write {out}: {_reason(error)}")
            found: BaseException | None = error
            while found is not None:
                traceback.clear_frames(found.__traceback__)
                found = found.__cause__ or found.__context__
        else:
            return
        gc.collect()  # closes the files of the failed write
    raise said


def _of_hdf5(error: object) -> bool:
    """Whether an error is how HDF5 says that the file system refused, which it hides in a long text."""
    return isinstance(error, RuntimeError) and ("errno = " in str(error) or "synchronously" in str(error))


@contextlib.contextmanager
def _without_echo() -> Iterator[None]:
    """Within, HDF5 does not print a traceback for every object of a file that it cannot write."""
    hooks = sys.unraisablehook, sys.excepthook

    def unraisable(found: sys.UnraisableHookArgs) -> None:
        if not _of_hdf5(found.exc_value):
            hooks[0](found)

    def uncaught(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
        if not _of_hdf5(value):
            hooks[1](kind, value, trace)

    sys.unraisablehook, sys.excepthook = unraisable, uncaught
    try:
        yield
    finally:
        sys.unraisablehook, sys.excepthook = hooks


def write_csv(table: pd.DataFrame, path: Path, *, sep: str = ",", header: bool = True) -> None:
    """Write a table in the form that all CSV files of flda have."""
    table.to_csv(path, sep=sep, header=header, index=False, float_format="%.8g", lineterminator="\n")


def write_summary(folder: Path, content: Mapping[str, Any]) -> None:
    """Write the summary of a folder, with a manifest of its files; nothing may be added afterwards."""
    files = {name: _sha256(folder / name) for name in sorted(_files(folder)) if name != SUMMARY}
    _write_json(folder / SUMMARY, {**content, "files": {**files, SUMMARY: None}})  # no file holds its own hash


def check_folder(out: Path, overwrite: bool, inputs: Iterable[Path]) -> None:
    """Refuse a folder that must not be replaced."""
    if out.is_symlink():
        raise UsageError(f"{out} is a link; --out must name a folder")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; --out must name a folder")
    if Path.cwd().is_relative_to(out.resolve()):
        raise UsageError(f"{out} holds the current folder; name another folder with --out")
    if os.path.ismount(out):
        raise UsageError(f"{out} is a mount point, which cannot be replaced; name a folder in it with --out")
    for path in inputs:
        if path.resolve().is_relative_to(out.resolve()):
            raise UsageError(f"{out} holds the input {path}; name another folder with --out")
        if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
            raise UsageError(f"{out} lies in the input {path}; name another folder with --out")
    if not out.exists() or not any(out.iterdir()):
        return
    if not overwrite:
        raise UsageError(f"{out} exists; name another folder with --out, or add --overwrite")
    known = _manifest(out)
    for name in sorted(_files(out)):
        if name not in known:
            raise UsageError(f"{out} holds {name}, which flda did not write; name another folder with --out")
        if name != SUMMARY and ((out / name).is_symlink() or _sha256(out / name) != known[name]):
            raise UsageError(
                f"{out / name} was changed after flda wrote it; move it, or name another folder with --out"
            )


def _check_file(out: Path, overwrite: bool, own: Callable[[Path], bool], inputs: Iterable[Path]) -> None:
    """Refuse a file that must not be replaced."""
    if out.is_symlink():
        raise UsageError(f"{out} is a link; --out must name a file")
    if out.is_dir():
        raise UsageError(f"{out} is a folder; --out must name a file")
    for path in inputs:
        if out.resolve() == path.resolve() or (path.is_dir() and out.resolve().is_relative_to(path.resolve())):
            raise UsageError(f"{out} is an input, or lies in one; name another file with --out")
    if not out.parent.is_dir():
        raise UsageError(f"there is no folder {out.parent} for {out.name}")
    if out.exists() and not overwrite:
        raise UsageError(f"{out} exists; name another file with --out, or add --overwrite")
    if out.exists() and not own(out):
        raise UsageError(f"{out} is a file that flda did not write; name another file with --out")


def _recover(out: Path) -> None:
    """Finish what a killed command left beside ``out``: put an earlier folder back, and remove the rest.

    Only folders whose owner was a process of this host that has ended are touched.
    """
    if os.name != "posix" or not out.parent.is_dir():
        return
    for temporary in out.parent.glob(f".{glob.escape(out.name)}-*"):
        try:
            host, _, process = (temporary / OWNER).read_text(encoding="utf-8").partition(" ")
            if temporary.is_symlink() or host != os.uname().nodename or _alive(int(process)):
                continue
        except (OSError, ValueError):
            continue  # not one of ours
        earlier = temporary / "earlier"
        with undisturbed(), contextlib.suppress(OSError):
            if earlier.is_dir() and not out.exists():
                earlier.rename(out)
            shutil.rmtree(temporary, ignore_errors=True)


def _owner() -> str:
    return f"{os.uname().nodename if os.name == 'posix' else ''} {os.getpid()}"


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _files(folder: Path) -> list[str]:
    """Paths of all files, links included, relative to the folder."""
    return [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_symlink() or not p.is_dir()]


def _manifest(folder: Path) -> dict[str, str | None]:
    """Hash of every file that flda wrote into a folder; empty without a manifest."""
    try:
        files = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return files if isinstance(files, dict) and files.get(SUMMARY, "") is None else {}


def _add_to_manifest(path: Path) -> None:
    """Add a single file to the manifest of the results folder that it was written into, if it is one."""
    summary = path.parent / SUMMARY
    if not _manifest(path.parent):
        return
    content = json.loads(summary.read_text(encoding="utf-8"))
    content["files"][path.name] = _sha256(path)
    handle, name = tempfile.mkstemp(prefix=f".{SUMMARY}-", dir=path.parent)
    os.close(handle)
    try:
        _write_json(Path(name), content)
        shutil.copymode(summary, name)
        Path(name).replace(summary)
    finally:
        Path(name).unlink(missing_ok=True)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def _saying(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"{what}: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    """Why the file system refused, in a few words; HDF5 hides the number of the error in a long text."""
    number = getattr(error, "errno", None)
    if number is None and "errno = " in (text := str(error)):
        number = int(text.split("errno = ")[1].split(",")[0])
    return os.strerror(number) if number else str(error).splitlines()[0]
