"""What passes between the steps of a fit: the checked input, the solve, and the axes found with it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from .._data.summary import Summary
from .._design.design import Design
from .._design.effects import Effect
from .._solve.group_space import GroupSpace
from .._solve.solver import Solver
from .._solve.within import Within


@dataclass(frozen=True)
class Prepared:
    """What a fit knows after one pass over X.

    Attributes
    ----------
    labels, design, donors
        Labels of the cells, their design, and the donor of each cell as an integer, or None.
    penalties, n_components
        Of every effect in the fit, and of every effect with axes.
    summary
        Sums and squares of every sample (of every group without donors).
    within
        Group means and the within scatter.
    """

    labels: pd.DataFrame
    design: Design
    donors: np.ndarray | None
    penalties: dict[Effect, float]
    n_components: dict[Effect, int]
    summary: Summary
    within: Within


@dataclass(frozen=True)
class Solved:
    """What a fit knows before it looks for axes: one solve, shared by all effects."""

    prepared: Prepared
    solver: Solver
    g: float
    Z: np.ndarray
    residual: float

    @property
    def design(self) -> Design:
        """The design of the cells."""
        return self.prepared.design

    @property
    def means(self) -> np.ndarray:
        """Centred group means G, C x p."""
        return self.solver.means

    @cached_property
    def space(self) -> GroupSpace:
        """The group space of all genes."""
        return GroupSpace(self.means @ self.Z)

    def axes(self, effect: Effect, n_components: int) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues (k,) and group weights (C x k) of the axes of an effect, of all genes."""
        own, others = self.design.contrasts[effect], self.design.others(effect, self.prepared.penalties)
        return self.space.axes(own, others, n_components)


@dataclass(frozen=True)
class Axes:
    """What a fit found: axes, and what predicts and reconstructs.

    ``table`` has a row per axis; ``U`` is p x k; ``patterns`` (k x p) is M_e U transposed; ``discriminants`` (p x C)
    takes centred expression to M_e^-1 G'.
    """

    table: pd.DataFrame
    U: np.ndarray
    patterns: np.ndarray
    discriminants: np.ndarray


def axis_row(effect: Effect, component: int, **values: float) -> dict[str, Any]:
    """One row of ``axes_``."""
    return {"axis": f"{effect.name}_{component}", "effect": effect.name, "component": component, **values}
