"""One page for a colleague: a self-contained HTML file with answers, figures, genes and provenance."""

from ._figures import pictures
from ._page import render, write

__all__ = ["pictures", "render", "write"]
