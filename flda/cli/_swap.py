"""A folder takes the place of another in one step, and signals wait until such a step is done."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

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
    """Let signals that end the program wait until the block is done."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    ending = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)


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
