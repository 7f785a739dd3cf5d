"""The objects that pass between the steps of a fit: the checked input, the solve, and the axes."""

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
from .._solve.objective import Noise, Objective, Terms
from .._solve.prediction import Calibration
from .._solve.solver import Solver
from .._solve.within import Within


@dataclass(frozen=True)
class Prepared:
    """The checked input of a fit, after one pass over X.

    Attributes
    ----------
    labels, design, donors
        Labels of the cells, their design, and the donor of each cell as an integer (or None).
    objective
        What the axes maximise.
    n_components
        Effect -> number of axes, for every effect with axes.
    summary
        Sums and squares of every sample (without donors, of every group).
    within
        Group means and the within-group scatter.
    """

    labels: pd.DataFrame
    design: Design
    donors: np.ndarray | None
    objective: Objective
    n_components: dict[Effect, int]
    summary: Summary
    within: Within


@dataclass(frozen=True)
class Solved:
    """The solve of a fit, which all effects share.

    Attributes
    ----------
    prepared
        The checked input.
    solver
        The solver, which holds the within-group scatter or what replaces it.
    g
        The shrinkage.
    Z
        ``M_e(g)^-1 G'``, p x C.
    residual
        Relative residual of Z.
    noise
        The noise of the group means in the metric M_e(g)^-1.
    calibration
        The held-out cells of the cross-validation, from which predictions are calibrated; None without it.
    """

    prepared: Prepared
    solver: Solver
    g: float
    Z: np.ndarray
    residual: float
    noise: Noise
    calibration: Calibration | None

    @property
    def design(self) -> Design:
        """The design of the cells."""
        return self.prepared.design

    @cached_property
    def within_sd(self) -> np.ndarray:
        """Standard deviation of a cell about the mean of its group, (p,).

        A gene that varies between groups only is a perfect marker: it has that of the shrinkage target. A gene that
        varies nowhere has zero.
        """
        within, solver = self.prepared.within, self.solver
        variances = np.where(solver.variances > 0, within.variances_of_cells(solver.variances), solver.target)
        return np.sqrt(np.where((solver.variances > 0) | differs(within.means), variances, 0.0))

    @property
    def means(self) -> np.ndarray:
        """G, the centred group means, C x p."""
        return self.solver.means

    @cached_property
    def K(self) -> np.ndarray:
        """``G M_e(g)^-1 G'``, the inner products of the group means, C x C."""
        return self.means @ self.Z

    @cached_property
    def terms(self) -> dict[Effect, Terms]:
        """The objective of every effect with axes."""
        return self.prepared.objective.terms(self.design, self.K, self.noise)

    def inner_products(self, effect: Effect) -> np.ndarray:
        """Compute ``T M_e(g)^-1 T'`` for the rows T of an effect followed by those that count against it."""
        rows = np.vstack([self.terms[effect].own, self.terms[effect].against])
        return rows @ self.K @ rows.T

    @cached_property
    def _space(self) -> GroupSpace:
        return GroupSpace(self.K)

    def axes(self, effect: Effect, n_components: int) -> tuple[np.ndarray, np.ndarray]:
        """Compute eigenvalues (k,) and group weights (C x k) of the axes of an effect on all genes."""
        return self._space.axes(self.terms[effect], n_components)


@dataclass(frozen=True)
class Axes:
    """The axes of a fit, and the matrix for reconstruction.

    Attributes
    ----------
    table
        One row per axis, the later ``axes_``.
    U
        The axes, p x k.
    patterns
        ``U' M_e(g)``, k x p.
    """

    table: pd.DataFrame
    U: np.ndarray
    patterns: np.ndarray


def differs(means: np.ndarray) -> np.ndarray:
    """Tell which genes differ between rows of group means by more than rounding errors, (p,)."""
    if len(means) < 2:
        return np.zeros(means.shape[1], dtype=bool)
    return np.asarray(np.ptp(means, axis=0) > 1e-12 * np.abs(means).max(axis=0))


def selectable(solved: Solved, candidates: np.ndarray | None) -> np.ndarray:
    """Return which genes may be selected: the candidates that vary within groups or are perfect markers.

    A perfect marker is constant in every group and differs between groups of two cells or more. What single cells
    alone show could be noise.
    """
    within = solved.prepared.within
    varies = (solved.solver.variances > 0) | differs(within.means[solved.design.counts > 1])
    if candidates is None:
        return varies
    allowed = np.asarray(candidates)
    if allowed.shape != varies.shape or allowed.dtype != bool:
        raise ValueError(f"candidates must be a boolean array with one entry for each of the {len(varies)} genes.")
    return allowed & varies


def axis_row(effect: Effect, component: int, **values: float) -> dict[str, Any]:
    """Return one row of ``axes_`` as a dict."""
    return {"axis": f"{effect.name}_{component}", "effect": effect.name, "component": component, **values}
