"""Gene axes and wiring of the same cell types: factorial decomposition of wiring, and links between the two."""

from ._axes import link_axes
from ._decompose import compare_connectivity, decompose_connectivity
from ._neurons import wiring_features
from ._phenotypes import phenotypes_from_connectivity

__all__ = [
    "compare_connectivity",
    "decompose_connectivity",
    "link_axes",
    "phenotypes_from_connectivity",
    "wiring_features",
]
