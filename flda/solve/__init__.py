"""The exact solution: inverses of the shrunken scatter, and axes in the space of the groups."""

from .discriminant import GroupSpace
from .inverse import Dual, Primal, choose_solver, solve

__all__ = ["Dual", "GroupSpace", "Primal", "choose_solver", "solve"]
