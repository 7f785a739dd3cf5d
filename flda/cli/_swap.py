"""A folder takes the place of another in one step, and signals wait until such a step is done."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux's renameat2
RENAME_SWAP = 2  # of macOS's renamex_np


def swap(new: Path, out: Path, earlier: Path) -> None:
    """Move the folder ``new`` to ``out``; what was there goes to ``earlier`` or to ``new``.

    Where the operating system can exchange two folders in one step, ``out`` exists at every moment. Elsewhere it is
    missing between two renames, and comes back if the second fails.
    """
    with undisturbed():
        if not out.exists():
            new.rename(out)
        elif not _exchange(new, out):
            out.rename(earlier)
            try:
                new.rename(out)
            except BaseException:
                earlier.rename(out)
                raise


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Let signals that end the program wait until the block is done.

    The handlers wait, instead of a mask of the thread, because another thread may be the one that gets the signal.
    """
    if threading.current_thread() is not threading.main_thread():  # which runs no handlers
        yield
        return
    waiting: list[int] = []
    earlier: dict[int, Any] = {}
    try:
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and (handler := signal.getsignal(number)) is not None:
                earlier[number] = handler
                signal.signal(number, lambda number, _: waiting.append(number))
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
        for number in waiting:
            signal.raise_signal(number)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two folders in one step; False if this system or file system cannot."""
    a, b = os.fsencode(first), os.fsencode(second)
    try:
        if sys.platform == "linux":
            return ctypes.CDLL(None).renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) == 0
        if sys.platform == "darwin":
            return ctypes.CDLL(None).renamex_np(a, b, RENAME_SWAP) == 0
    except (AttributeError, OSError):  # an old C library
        return False
    return False
