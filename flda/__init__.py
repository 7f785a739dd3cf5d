"""Factorized linear discriminant analysis for single-cell expression."""

import logging
from importlib import import_module
from importlib.metadata import version
from typing import Any

from . import datasets, get, inference, metrics, pl, pp, report, simulate, tl
from ._logging import FLDAWarning
from .estimators import FLDA, SparseFLDA

__all__ = [
    "FLDA",
    "FLDAWarning",
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
    if name == "circuits":  # loaded on first use, because nothing in the core needs it
        return import_module(".circuits", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
