"""Messages of the package: log lines, warnings, and silence within a fit inside a fit, which would repeat them.

What a user may want to know is logged. What changes the conclusions that a reader may draw is a Python warning, which
is shown without any setting and which the results keep.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextvars import ContextVar

# a context variable, not the level of the logger, because threads that fit in parallel must not silence each other
_SILENT: ContextVar[bool] = ContextVar("flda_silent", default=False)
_HEARD: ContextVar[list[str] | None] = ContextVar("flda_heard", default=None)  # warnings since the last call of listen
_SAID: ContextVar[frozenset[str]] = ContextVar("flda_said", default=frozenset())  # warnings that are not repeated
_PASSED_ON = ("flda", "sklearn", "joblib", "contextlib")  # packages that are never the user's


class FLDAWarning(UserWarning):
    """Something in the data or the parameters limits what can be concluded from the results.

    Examples
    --------
    >>> import warnings, flda
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", flda.FLDAWarning)
    """


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


def warn(text: str) -> None:
    """Warn the user, as of the line that called the package; nothing is said within :func:`quiet`."""
    if _SILENT.get():
        return
    heard = _HEARD.get()
    if heard is not None and text not in heard:
        heard.append(text)
    if text in _SAID.get():
        return
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _PASSED_ON:
        level, frame = level + 1, frame.f_back
    warnings.warn(text, FLDAWarning, stacklevel=level)


def listen() -> list[str]:
    """Return a list that gets the text of every warning from now on, in this thread, until the next call."""
    heard: list[str] = []
    _HEARD.set(heard)
    return heard


@contextlib.contextmanager
def said_before(texts: Iterable[str]) -> Iterator[None]:
    """Show none of these warnings again within this context; :func:`listen` still hears them."""
    token = _SAID.set(frozenset(texts))
    try:
        yield
    finally:
        _SAID.reset(token)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Log only errors within this context, in the current thread and in everything that it calls."""
    token = _SILENT.set(True)
    try:
        yield
    finally:
        _SILENT.reset(token)
