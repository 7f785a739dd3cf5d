"""Factorized linear discriminant analysis for single-cell expression."""

import logging
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ._logging import FLDAWarning

if TYPE_CHECKING:
    from . import circuits, datasets, get, inference, metrics, pl, pp, report, simulate, tl
    from .estimators import FLDA, PanelFLDA, SparseFLDA

__all__ = [
    "FLDA",
    "FLDAWarning",
    "PanelFLDA",
    "SparseFLDA",
    "circuits",
    "datasets",
    "get",
    "inference",
    "metrics",
    "pl",
    "pp",
    "report",
    "simulate",
    "tl",
]
__version__ = version("flda")

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    """Load a part of the package when it is first used, so that the help of the command line waits for none."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in ("FLDA", "PanelFLDA", "SparseFLDA"):
        return getattr(import_module(".estimators", __name__), name)
    return import_module(f".{name}", __name__)


def __dir__() -> list[str]:
    """Return all names, whether or not they are loaded."""
    return sorted({*globals(), *__all__})
