"""Figures of the results. Every function takes ``ax=`` and returns the matplotlib Axes that it drew on."""

from ._connectivity import connectivity
from ._counterfactual import counterfactual
from ._design import design, variance
from ._genes import genes, loadings
from ._power import power
from ._results import certificate, path, stability
from ._scores import scores

__all__ = [
    "certificate",
    "connectivity",
    "counterfactual",
    "design",
    "genes",
    "loadings",
    "path",
    "power",
    "scores",
    "stability",
    "variance",
]
