"""Models that predict connections between neurons, or between cell types, from the genes of both sides.

A rule is a pair of genes: if the presynaptic neuron expresses the one and the postsynaptic neuron the other, a
connection becomes more (or less) likely. :class:`SpatialConnectomeModel` fits all rules by ridge regression and
:class:`BilinearModel` a few combinations of them; :func:`differential_expression` tests single rules;
:func:`cross_validate` measures whether rules hold for neurons that were not fitted. :class:`MaximumEntropy` draws
random networks as null models.
"""

from ._bilinear import BilinearModel
from ._connectome import SpatialConnectomeModel
from ._differential import differential_expression
from ._nulls import MaximumEntropy
from ._type_profiles import type_profiles
from ._validate import cross_validate

__all__ = [
    "BilinearModel",
    "MaximumEntropy",
    "SpatialConnectomeModel",
    "cross_validate",
    "differential_expression",
    "type_profiles",
]
