"""Signals and messages of the process that runs a command."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import threading
from collections.abc import Iterator

logger = logging.getLogger("flda")


@contextlib.contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """Let SIGTERM, which batch systems send, and SIGHUP end the work as Ctrl-C does, which leaves nothing behind."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set a handler
        yield
        return
    numbers = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    # a signal that is ignored, as SIGHUP under nohup, stays ignored
    earlier = {n: signal.getsignal(n) for n in numbers if signal.getsignal(n) != signal.SIG_IGN}
    for number in earlier:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def log_to_stderr() -> list[str]:
    """Show warnings, and on a terminal every step; returns a list to which warnings are added as they come."""
    seen: list[str] = []

    def new(record: logging.LogRecord) -> bool:
        """Whether a line is new: a step may repeat a warning of the step before."""
        text = record.getMessage()
        if record.levelno < logging.WARNING:
            return True
        if text in seen:
            return False
        seen.append(text)
        return True

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("flda: %(message)s"))
    handler.addFilter(new)
    logger.handlers = [handler]
    logger.setLevel(logging.INFO if sys.stderr.isatty() else logging.WARNING)
    return seen
