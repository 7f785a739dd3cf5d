"""Loggers of the package, and a way to silence the fits inside a fit, which would repeat its messages."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextvars import ContextVar

# a context variable, not the level of the logger, because threads that fit in parallel must not silence each other
_SILENT: ContextVar[bool] = ContextVar("flda_silent", default=False)


class _Silence(logging.Filter):
    """A filter that lets only errors through within :func:`quiet`."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR or not _SILENT.get()


_FILTER = _Silence()


def get_logger(name: str) -> logging.Logger:
    """Return the logger of a module, which logs only errors within :func:`quiet`."""
    logger = logging.getLogger(name)
    logger.addFilter(_FILTER)
    return logger


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Log only errors within this context, in the current thread and in everything that it calls."""
    token = _SILENT.set(True)
    try:
        yield
    finally:
        _SILENT.reset(token)
