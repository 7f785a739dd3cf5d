"""Signs from genes, sparse circuits recovered under those signs, and rules that link genes to wiring.

Signs, the linear model, wiring, links, metrics and projections need only the core; fitting circuits and the
optimisers need jax and optax: ``pip install "flda[circuits]"``. Names are loaded on first use.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "infer_signs": "signs",
    "marker_table": "signs",
    "signs_from_transmitters": "signs",
    "SignMask": "signs",
    "SignedLinear": "linear",
    "SignConsistentProjection": "projection",
    "system_recovery": "metrics",
    "support_recovery": "metrics",
    "matched_recovery": "metrics",
    "canonical_scale": "metrics",
    "CircuitModel": "models",
    "Population": "models",
    "Connection": "models",
    "FilterBank": "models",
    "flip_twins": "diagnose",
    "flip_unit": "diagnose",
    "unit_report": "diagnose",
    "recover_circuit": "recover",
    "CircuitRecovery": "recover",
    "SpatialConnectomeModel": "wiring",
    "BilinearModel": "wiring",
    "audit_signs": "audit",
    "decompose_connectivity": "link",
    "compare_connectivity": "link",
    "link_axes": "link",
    "phenotypes_from_connectivity": "link",
    "signed_wiring": "endtoend",
    "SignedWiring": "endtoend",
}
_MODULES = (
    "signs",
    "linear",
    "models",
    "recover",
    "optim",
    "metrics",
    "proximal",
    "diagnose",
    "simulate",
    "projection",
    "wiring",
    "link",
    "audit",
)

__all__ = sorted([*_HOME, *_MODULES])


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
