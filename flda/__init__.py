"""Factorized linear discriminant analysis for single-cell expression."""

import logging
from importlib.metadata import version

from . import datasets, get, metrics, pl, report, tl, validate
from .estimators import FLDA, SparseFLDA

__all__ = ["FLDA", "SparseFLDA", "datasets", "get", "metrics", "pl", "report", "tl", "validate"]
__version__ = version("flda")

logging.getLogger(__name__).addHandler(logging.NullHandler())
