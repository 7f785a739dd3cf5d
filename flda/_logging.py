"""Loggers of the package, and a way to silence the fits inside a fit, which would repeat its messages."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from contextvars import ContextVar

# a context variable, not the level of the logger, because threads that fit in parallel must not silence each other
_SILENT: ContextVar[bool] = ContextVar("flda_silent", default=False)


# what the current step of an analysis has warned of; the step stores it with its results
_COLLECTED: ContextVar[list[str] | None] = ContextVar("flda_warnings", default=None)


class FLDAWarning(UserWarning):
    """A warning of something that changes what a reader may conclude from the results."""


def warn(message: str, stacklevel: int = 2) -> None:
    """Warn of something that changes what a reader may conclude; ``stacklevel`` is that of ``warnings.warn``."""
    _collect(message)
    warnings.warn(message, FLDAWarning, stacklevel=stacklevel + 1)


def collect_warnings() -> list[str]:
    """Return a list to which every warning of the package is added from now on, until this is called again."""
    found: list[str] = []
    _COLLECTED.set(found)
    return found


def _collect(message: str) -> None:
    found = _COLLECTED.get()
    if found is not None and not _SILENT.get() and message not in found:
        found.append(message)


class _Silence(logging.Filter):
    """A filter that lets only errors through within :func:`quiet`, and collects warnings."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            _collect(record.getMessage())
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
