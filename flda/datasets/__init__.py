"""Example data: simulated cells with known truth, and public data sets whose files are verified by checksum."""

from ._expected import expected
from ._files import fetch, manifests, verify
from ._l1000 import l1000_a375
from ._mammary import mammary
from ._mice import mice_protein
from ._rnamix import rnamix
from ._simulated import t4t5_simulated
from ._t4t5 import t4t5
from ._t4t5_wiring import t4t5_fib19_wiring
from ._uch import uch
from ._wiring import (
    celegans_gap_junctions,
    fly_binding_pairs,
    flyvis_connectome,
    flywire_connectivity,
    flywire_optic_types,
)

__all__ = [
    "celegans_gap_junctions",
    "expected",
    "fetch",
    "fly_binding_pairs",
    "flyvis_connectome",
    "flywire_connectivity",
    "flywire_optic_types",
    "l1000_a375",
    "mammary",
    "manifests",
    "mice_protein",
    "rnamix",
    "t4t5",
    "t4t5_fib19_wiring",
    "t4t5_simulated",
    "uch",
    "verify",
]
