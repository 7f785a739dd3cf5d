"""Signed neural circuits: synapse signs from genes, sparse circuit recovery, and links between genes and wiring.

Functions and classes are at this level, ``flda.circuits.X``. Three namespaces hold names that would be too general
here:

* :mod:`flda.circuits.simulate`: circuits with known weights, and random stimuli
* :mod:`flda.circuits.wiring`: models that predict connections between neurons from their genes
* :mod:`flda.circuits.optim`: optimisers that keep signs, zeros or norms

:mod:`flda.circuits.optim` needs jax and optax, which ``pip install "flda[circuits]"`` installs. It is imported on first
use; everything else needs only the core.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import simulate, wiring
from ._audit import audit_signs
from ._diagnose import circuit_notes, unit_report
from ._endtoend import SignedWiring, signed_wiring
from ._filters import FilterBank
from ._flips import flip_unit, flippable_units
from ._linear import SignedLinear
from ._link import (
    compare_connectivity,
    decompose_connectivity,
    link_axes,
    phenotypes_from_connectivity,
    wiring_features,
)
from ._metrics import canonical_scale, match_units, matched_recovery, support_recovery, system_recovery
from ._models import CircuitModel, Connection, Population
from ._predictions import fuse_signs, signs_from_predictions
from ._projection import SignConsistentProjection
from ._receptors import edge_signs, receptor_table
from ._recover import CircuitRecovery, recover_circuit
from ._sign_mask import SignMask
from ._signs import infer_signs, marker_expression, marker_table, signs_from_transmitters
from ._tables import Wiring, wiring_from_edges, wiring_from_flywire, wiring_from_neuprint

if TYPE_CHECKING:
    from . import optim

__all__ = [
    "CircuitModel",
    "CircuitRecovery",
    "Connection",
    "FilterBank",
    "Population",
    "SignConsistentProjection",
    "SignMask",
    "SignedLinear",
    "SignedWiring",
    "Wiring",
    "audit_signs",
    "canonical_scale",
    "circuit_notes",
    "compare_connectivity",
    "decompose_connectivity",
    "edge_signs",
    "flip_unit",
    "flippable_units",
    "fuse_signs",
    "infer_signs",
    "link_axes",
    "marker_expression",
    "marker_table",
    "match_units",
    "matched_recovery",
    "optim",
    "phenotypes_from_connectivity",
    "receptor_table",
    "recover_circuit",
    "signed_wiring",
    "signs_from_predictions",
    "signs_from_transmitters",
    "simulate",
    "support_recovery",
    "system_recovery",
    "unit_report",
    "wiring",
    "wiring_features",
    "wiring_from_edges",
    "wiring_from_flywire",
    "wiring_from_neuprint",
]


def __getattr__(name: str) -> Any:
    if name != "optim":  # the only name that needs jax
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(".optim", __name__)


def __dir__() -> list[str]:
    return __all__
