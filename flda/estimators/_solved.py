"""What passes between the steps of a fit: the solve, and the axes found with it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from .._design.design import Design
from .._design.effects import Effect
from .._solve.choose import Inverse
from .._solve.group_space import GroupSpace


@dataclass(frozen=True)
class Solved:
    """What a fit knows before it looks for axes: one solve, shared by all effects."""

    labels: pd.DataFrame
    design: Design
    donors: np.ndarray | None
    penalties: dict[Effect, float]
    n_components: dict[Effect, int]
    inverse: Inverse
    g: float
    Z: np.ndarray
    residual: float

    @property
    def means(self) -> np.ndarray:
        """Centred group means, C x p."""
        return self.inverse.within.centred_means

    @cached_property
    def space(self) -> GroupSpace:
        """The group space of all genes."""
        return GroupSpace(self.means @ self.Z)

    def others(self, effect: Effect) -> list[tuple[np.ndarray, float]]:
        """Contrasts and penalties of the effects that an axis of ``effect`` is charged for."""
        return [(b, self.penalties[e]) for e, b in self.design.contrasts.items() if e != effect]


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
    name = effect.name
    return {"axis": f"{name}_{component}", "effect": name, "component": component, **values}
