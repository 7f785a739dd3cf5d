"""Inference on fitted axes: effect tests, held-out certificates, penalty, stability of genes, and bootstrap."""

from ._bootstrap import Bootstrap, bootstrap
from ._certificate import certify
from ._counterfactual import certify_counterfactual
from ._depth import depth_check
from ._gene_sets import gene_set_tests
from ._penalty import choose_penalty
from ._scale import ScaleCheck, scale_check
from ._stability import Stability, stability_selection
from ._tests import EffectTests, effect_tests

__all__ = [
    "Bootstrap",
    "EffectTests",
    "ScaleCheck",
    "Stability",
    "bootstrap",
    "certify",
    "certify_counterfactual",
    "choose_penalty",
    "depth_check",
    "effect_tests",
    "gene_set_tests",
    "scale_check",
    "stability_selection",
]
