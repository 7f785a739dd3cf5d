"""The package's loggers, and silence for fits within fits, which would repeat what the main fit has logged."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextvars import ContextVar

# a context variable rather than the level of the logger: threads that fit side by side do not see each other's
_SILENT: ContextVar[bool] = ContextVar("flda_silent", default=False)


class _Silence(logging.Filter):
    """Lets only errors through within :func:`quiet`."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR or not _SILENT.get()


_FILTER = _Silence()


def get_logger(name: str) -> logging.Logger:
    """The logger of a module, silent within :func:`quiet`."""
    logger = logging.getLogger(name)
    logger.addFilter(_FILTER)
    return logger


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Only errors are logged within, in this thread and in what it calls."""
    token = _SILENT.set(True)
    try:
        yield
    finally:
        _SILENT.reset(token)
