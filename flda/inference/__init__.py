"""Tests, selection stability and bootstrap of factorial discriminant axes."""

from ._bootstrap import Bootstrap, bootstrap
from ._permutation import PermutationTest, permutation_test
from ._stability import Stability, stability_selection

__all__ = ["Bootstrap", "PermutationTest", "Stability", "bootstrap", "permutation_test", "stability_selection"]
