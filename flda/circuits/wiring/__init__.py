"""Rules that link genes to wiring: who expresses what decides who connects to whom."""

from ._bilinear import BilinearModel, type_profiles
from ._connectome import SpatialConnectomeModel
from ._differential import differential_expression
from ._nulls import MaximumEntropy
from ._validate import cross_validate

__all__ = [
    "BilinearModel",
    "MaximumEntropy",
    "SpatialConnectomeModel",
    "cross_validate",
    "differential_expression",
    "type_profiles",
]
