"""Tests, selection stability and bootstrap of factorial discriminant axes."""

from ._bootstrap import Bootstrap, bootstrap
from ._certificate import certify
from ._penalty import choose_penalty
from ._stability import Stability, stability_selection
from ._tests import PermutationTest, permutation_test

__all__ = [
    "Bootstrap",
    "PermutationTest",
    "Stability",
    "bootstrap",
    "certify",
    "choose_penalty",
    "permutation_test",
    "stability_selection",
]
