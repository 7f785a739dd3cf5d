"""A report of the results: one HTML file with answers, figures, genes and provenance that needs no other file."""

from ._figures import pictures
from ._page import render, write

__all__ = ["pictures", "render", "write"]
