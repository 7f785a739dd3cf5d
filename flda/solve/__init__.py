"""The exact solution: inverses of the shrunken scatter, and axes in the space of the groups."""

from ._choice import Inverse, choose_solver, solve
from .discriminant import GroupSpace
from .inverse import Dual, Primal
from .iterative import Iterative

__all__ = ["Dual", "GroupSpace", "Inverse", "Iterative", "Primal", "choose_solver", "solve"]
