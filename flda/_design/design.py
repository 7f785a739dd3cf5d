"""A factorial design: the groups of the cells, the effects, and their contrasts of the group means.

Only labels and small matrices are used here. Symbols are those of the whole package:

======================  =====================================================================
N, C, F                 number of cells, of groups (occupied combinations of levels), of factors
``codes`` (N,)          group of each cell
``counts`` n_c (C,)     number of cells in each group
X_S (C x df_S)          sum-to-zero coding of effect S on the groups
B_S (df_S x C)          least-squares contrasts: the rows of pinv([1, X_T for every T]) that belong to S
G (C x p)               group means of p genes, so that B_S G are the coefficients of effect S
Q_S = B_S' B_S / df_S   weights of the scatter of effect S, which is M_S = G' Q_S G
======================  =====================================================================

A factor f with L_f levels is coded by an orthonormal basis H_f, L_f x (L_f - 1), of the vectors that sum to zero. The
columns of a factor that is called numeric are polynomials of its values, and those of different degrees belong to
different effects (:mod:`flda._design.trends`). An interaction is coded by the products of the columns of its factors.
The least-squares effects alpha_S, with one row for every combination of the levels of S, are therefore
``kron(H_f, f in S) B_S G``, and ``M_S = alpha_S' alpha_S / df_S``.
For a complete table this equals ``G' P_S G / (df_S prod_{f not in S} L_f)``, where the projector P_S is the Kronecker
product of ``I - J / L_f`` for factors in S and ``J / L_f`` for the others (J is all ones): the scatters of Qiao and
Meister (arXiv 2010.02171).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy.linalg import null_space

from .contrasts import Contrast
from .covariates import Covariates
from .effects import Effect
from .estimability import group_names
from .table import Table
from .unit_model import UnitModel


@dataclass(frozen=True)
class Design:
    """The factorial design of a set of cells: groups, effects and their least-squares contrasts.

    Attributes
    ----------
    table
        The occupied groups.
    levels
        Factor -> its levels in order, for all factors, nuisance factors included.
    codes
        Group of each cell, (N,).
    counts
        Number of cells in each group, (C,).
    effects
        The effects that get axes: main effects first, then interactions, then named contrasts.
    nuisance
        Names of the nuisance factors. Their effects are fitted and penalised, but they get no axes.
    contrasts
        Effect -> B_S (df_S x C), for every effect in the fit, nuisance effects included.
    report
        One row per requested or implied effect: ``effect, df, estimable, left_out, missing, reason``.
    numeric
        Numeric factor -> the value of each of its levels.
    named
        The named contrasts. They have axes and are no effects of the fit.
    covariates
        Nuisance columns that differ from cell to cell within groups, or None.
    residual
        Whether the noise is what the effects leave (:mod:`flda._design.unit_model`). The groups of the fitted cells
        then stay in a subset, whose counts may be zero.
    precision
        Precision weights of the cells with the mean one, (N,), or None. Only with ``residual``.
    """

    table: Table
    levels: dict[str, np.ndarray]
    codes: np.ndarray
    counts: np.ndarray
    effects: list[Effect]
    nuisance: tuple[str, ...]
    contrasts: dict[Effect, np.ndarray]
    report: pd.DataFrame
    numeric: dict[str, np.ndarray] = field(default_factory=dict)
    named: dict[Effect, Contrast] = field(default_factory=dict)
    covariates: Covariates | None = None
    residual: bool = False
    precision: np.ndarray | None = None

    @property
    def n_groups(self) -> int:
        """The number of occupied groups, C."""
        return len(self.counts)

    @property
    def factors(self) -> tuple[str, ...]:
        """The factors that are not nuisance, in the order given."""
        return tuple(f for f in self.table.factors if f not in self.nuisance)

    @property
    def judged(self) -> list[Effect]:
        """All effects of the fit, nuisance effects included, and then the named contrasts."""
        return [*self.contrasts, *self.named]

    @property
    def own_effects(self) -> list[Effect]:
        """The effects of the fit that get axes, without the named contrasts."""
        return [e for e in self.effects if e not in self.named]

    @cached_property
    def unit_model(self) -> UnitModel | None:
        """The linear model of the cells whose residuals are the noise, or None if the noise is that within groups."""
        if not self.residual:
            return None
        return UnitModel(self.table.model_matrix(list(self.contrasts)), self.codes, self.covariates, self.precision)

    def noise_of_means(self, counts: np.ndarray) -> np.ndarray:
        """Return the covariance of the group means, C x C, in units of the variance of a cell.

        ``counts`` are the numbers of independent cells behind the means, (C,), if the noise is that within groups.
        """
        return np.diag(1 / counts) if self.unit_model is None else self.unit_model.covariance

    def fixed(self) -> dict[str, Any]:
        """Return the parameters of an estimator that keep the model of the units when some of them are left out."""
        if not self.residual:
            return {}
        return {"error": "residual", "interactions": [e.name for e in self.contrasts if len(e) > 1] or None}

    def df(self, effect: Effect) -> int:
        """Return the degrees of freedom of an effect, which is also the largest number of useful axes."""
        return 1 if effect in self.named else self.table.df(effect)

    def rows(self, effect: Effect) -> np.ndarray:
        """Return B_S (df_S x C) of an effect of the fit, or the weights of the group means in a named contrast."""
        return self.contrasts[effect] if effect in self.contrasts else self.rows_by(effect, None)

    def rows_by(self, effect: Effect, weights: np.ndarray | None) -> np.ndarray:
        """Compute the weights of the group means in a named contrast, 1 x C, from the fit with weighted groups."""
        effects = list(self.contrasts)
        return self.named[effect].row(self.table, effects)[None] @ self.table.coefficients(effects, weights)

    def others(self, effect: Effect) -> list[Effect]:
        """Return the effects that count against an axis: for a named contrast, those that cannot contribute to it."""
        if effect in self.named:
            acting = self.named[effect].acting(self.table, list(self.contrasts))
            return [e for e in self.contrasts if e not in acting]
        return [e for e in self.contrasts if e != effect]

    def coding(self, effect: Effect) -> np.ndarray:
        """Compute X_S (C x df_S); of a named contrast, the weights of the selections that each group belongs to."""
        return self.named[effect].coding(self.table) if effect in self.named else self.table.coding(effect)

    def margin(self, effect: Effect) -> np.ndarray:
        """Return the level codes of the factors of an effect, or the side of a named contrast (0, 1, 2), by group.

        Side 1 are the groups that have no part in the contrast.
        """
        if effect in self.named:
            return np.sign(self.coding(effect)).astype(np.int64) + 1
        return self.table.margin(effect)

    def sides(self, effect: Effect) -> dict[str, np.ndarray]:
        """Return the groups of every combination of levels of an effect, boolean arrays (C,), by name.

        A named contrast has the sides ``+`` and ``-``.
        """
        rows = self.margin(effect)
        if effect in self.named:
            return {"+": rows[:, 0] == 2, "-": rows[:, 0] == 0}
        found = np.unique(rows, axis=0)
        names = group_names(self.table, self.levels, effect, found)
        return {name.replace(" x ", ":"): (rows == row).all(axis=1) for name, row in zip(names, found, strict=True)}

    def without(self, effect: Effect) -> np.ndarray:
        """Compute the columns of the model matrix if an effect or a named contrast is zero, C x m."""
        effects = list(self.contrasts)
        if effect not in self.named:
            return self.table.model_matrix([e for e in effects if e != effect])
        return self.table.model_matrix(effects) @ null_space(self.named[effect].row(self.table, effects)[None])

    def scatter_weights(self, effect: Effect) -> np.ndarray:
        """Compute Q_S (C x C), which gives the scatter of an effect as M_S = G' Q_S G."""
        b = self.rows(effect)
        return b.T @ b / self.df(effect)

    def fitted(self, effect: Effect) -> np.ndarray:
        """Compute X_S B_S (C x C), which maps group means to the fitted values of one effect in every group."""
        return self.coding(effect) @ self.rows(effect)

    def group_levels(self) -> pd.DataFrame:
        """Return the level names of each group: one row per group and one categorical column per factor."""
        return pd.DataFrame(
            {
                f: pd.Categorical.from_codes(self.table.groups[:, j], self.levels[f])
                for j, f in enumerate(self.table.factors)
            }
        )

    def counts_table(self) -> pd.DataFrame:
        """Return the contingency table in long form, one row per combination of levels, empty ones included."""
        sizes = self.table.n_levels
        counts = np.zeros(sizes, dtype=np.int64)
        counts[tuple(self.table.groups.T)] = self.counts
        grid = np.indices(sizes).reshape(len(sizes), -1)
        frame = {f: pd.Categorical.from_codes(grid[j], self.levels[f]) for j, f in enumerate(self.table.factors)}
        return pd.DataFrame({**frame, "n_cells": counts.ravel()})

    def effect(self, name: str) -> Effect:
        """Return the effect with this name.

        Raises
        ------
        ValueError
            If no effect with axes has this name.
        """
        for effect in self.effects:
            if effect.name == name:
                return effect
        raise ValueError(f"there are no axes for the effect {name!r}; effects are {[e.name for e in self.effects]}.")

    def subset(self, cells: np.ndarray) -> Design | None:
        """Return the design of some of the cells, or None if one of the effects cannot be estimated from them.

        Groups without any of these cells are dropped and the others are renumbered in the same order, unless the noise
        is what the effects leave.
        """
        counts = np.bincount(self.codes[cells], minlength=self.n_groups)
        present = np.flatnonzero(counts)
        if len(present) == 0:
            return None
        if self.residual:  # all coefficients are estimable if the columns of the model are independent
            part = replace(
                self,
                codes=self.codes[cells],
                counts=counts,
                covariates=None if self.covariates is None else self.covariates.subset(cells),
                precision=None if self.precision is None else self.precision[cells],
            )
            return part if part.unit_model is not None and part.unit_model.full_rank() else None
        table = self.table.at(self.table.groups[present])
        effects = list(self.contrasts)
        if table.estimable(effects) != effects:
            return None
        codes = np.searchsorted(present, self.codes[cells])
        return Design(
            table, self.levels, codes, counts[present], self.effects, self.nuisance,
            table.contrasts(effects), self.report, self.numeric, self.named,
            None if self.covariates is None else self.covariates.subset(cells),
        )  # fmt: skip
