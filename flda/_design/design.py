"""A factorial design: it assigns cells to groups and finds which effects the groups identify.

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

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy.linalg import null_space

from .._logging import warn
from .contrasts import Contrast, check_estimable, parse_contrasts
from .covariates import Covariates, is_covariate, make_covariates
from .effects import Effect
from .estimability import group_names, refuse_confounded, report
from .interactions import requested, without_saturation
from .labels import encode
from .table import Table
from .trends import numeric_parts, parse_numeric, values_of
from .unit_model import UnitModel, precision_weights


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


def make_design(
    labels: pd.DataFrame,
    *,
    interactions: str | Iterable[str | Sequence[str]] | None = "all",
    nuisance: Iterable[str] = (),
    numeric: str | Sequence[str] | Mapping[str, int | str] | None = None,
    contrasts: Mapping[str, Any] | None = None,
    error: str = "within",
    weights: str | None = None,
) -> Design:
    """Build the design of a table of labels, which has one row per cell and one column per factor.

    Parameters
    ----------
    labels
        Labels of the cells. Levels are ordered as the categories of a categorical column, and sorted otherwise;
        categories without cells are dropped.
    interactions
        ``"all"`` includes every interaction that the table identifies, and ``"estimable"`` also those of which it
        identifies a part. None includes main effects only. A list names the interactions, each as ``"a:b"`` or
        ``("a", "b")``, with names of factors or of parts of numeric factors.
    nuisance
        Columns of ``labels`` that enter the fit as additive effects without axes of their own. A column of more than
        20 numbers that ``numeric`` names is a covariate: it differs from cell to cell and makes no groups.
    numeric
        Columns of numbers, or of ordered levels, with the parts to fit; see :func:`flda._design.trends.numeric_parts`.
        Names alone get their linear part.
    contrasts
        Named contrasts; see :func:`flda._design.contrasts.parse_contrasts`.
    error
        ``"within"``: the noise is what varies within groups. ``"residual"``: it is what the effects leave. ``"auto"``
        takes the second if no group has two cells, or if there are precision weights. If ``"all"`` interactions then
        leave nothing, those with the most degrees of freedom become the noise.
    weights
        Column of ``labels`` with the precision weights of the cells.

    Returns
    -------
    A :class:`Design`.

    Raises
    ------
    ValueError
        If labels are missing, a factor has a single level or is continuous, factors are nested or confounded, or a
        listed interaction or a contrast cannot be estimated.

    Examples
    --------
    >>> labels = pd.DataFrame({"dendrite": ["T4", "T4", "T5", "T5"], "axon": ["a", "b", "a", "b"]})
    >>> make_design(labels).effects
    [('dendrite',), ('axon',), ('dendrite', 'axon')]
    """
    if error not in ("auto", "within", "residual"):
        raise ValueError(f"error={error!r}: use 'auto', 'within' or 'residual'.")
    precision = None
    if weights is not None:
        if error == "within":
            raise ValueError(
                "error='within' with precision weights: their fit takes what the effects leave for noise; use "
                "error='residual' or leave the weights out."
            )
        if weights not in labels.columns:
            raise ValueError(
                f"weights={weights!r}: use 'random', 'equal', or a column of {list(labels.columns)} with precision "
                "weights."
            )
        precision, labels = precision_weights(labels[weights].to_numpy(), weights), labels.drop(columns=weights)
    nuisance = tuple(nuisance)
    kinds = parse_numeric(numeric, labels.columns)
    for name in nuisance:
        if name not in labels.columns:
            raise ValueError(
                f"nuisance factor {name!r} is not one of the label columns {list(labels.columns)}; correct or remove "
                "its name."
            )
    varying = [name for name in nuisance if name in kinds and is_covariate(labels[name])]
    covariates = make_covariates(labels[varying], kinds)
    kinds = {name: kind for name, kind in kinds.items() if name not in varying}
    columns = {name: encode(labels[name], called_numeric=name in kinds) for name in labels.columns.drop(varying)}
    nuisance = tuple(name for name in nuisance if name not in varying)
    names = tuple(columns)
    factors = tuple(f for f in names if f not in nuisance)
    if not factors:
        raise ValueError(
            f"no factor is left to give axes: every column of {list(labels.columns)} is nuisance; take one out of "
            "nuisance."
        )

    levels = {name: lev for name, (_, lev) in columns.items()}
    values = {
        name: values_of(name, levels[name], ordered=bool(getattr(labels[name].dtype, "ordered", False)))
        for name in kinds
    }
    parts = {p: part for name, kind in kinds.items() for p, part in numeric_parts(name, values[name], kind).items()}
    if taken := [p for p in parts if p in names]:
        raise ValueError(f"the column {taken[0]!r} has the name of a part of a numeric factor; rename it.")
    n_levels = tuple(len(levels[f]) for f in names)
    # one number for every combination of levels; sorted, they give the groups in lexicographic order
    cells = np.ravel_multi_index([codes for codes, _ in columns.values()], n_levels)
    codes, occupied = pd.factorize(cells, sort=True)
    table = Table(names, n_levels, np.column_stack(np.unravel_index(occupied, n_levels)), parts)

    mains = [Effect((p,)) for f in names for p in table.parts_of(f)]
    wanted = requested(table, factors, interactions)
    whole = table
    noise: list[Effect] = []
    residual = error == "residual" or weights is not None
    unreplicated = len(occupied) == len(cells)
    if residual or (error == "auto" and unreplicated):
        spare = len(cells) - (0 if covariates is None else covariates.values.shape[1])
        if unreplicated and isinstance(interactions, str):
            wanted, noise = without_saturation(table, mains, wanted, spare)
        residual = residual or 1 + sum(map(table.df, [*mains, *wanted])) < spare
    if isinstance(interactions, str) and interactions == "estimable":
        kept, table = table.estimable_in_part([*mains, *wanted])
    else:
        kept = table.estimable([*mains, *wanted])
    refuse_confounded(table, levels, [e for e in mains if e not in kept])
    dropped = [e for e in wanted if e not in kept]
    rows = report(table, levels, [*mains, *wanted, *noise], kept, noise)
    if residual and error == "auto" and weights is None:
        included = f", the interactions {[e.name for e in noise]} included" if noise else ""
        warn(f"no group has two cells, so the noise is what the effects leave (error='residual'){included}")
    if dropped or table.estimable_parts:
        reasons = rows.set_index("effect")["reason"]
        text = "; ".join(f"{e.name!r}: {reasons[e.name]}" for e in [*dropped, *table.estimable_parts])
        if not isinstance(interactions, str):
            raise ValueError(
                f"cannot estimate the interaction {text}. Leave it out of interactions, or use "
                "interactions='estimable' for the part that can be estimated."
            )
        warn(f"left out interactions that the occupied groups cannot identify: {text}")
    named = parse_contrasts(contrasts, levels, factors)
    for effect, contrast in named.items():
        if effect in kept or effect.name in names:
            raise ValueError(f"the contrast {effect.name!r} has the name of an effect or a factor; rename it.")
        check_estimable(effect.name, contrast, whole, table, levels, [*mains, *wanted], kept)
    design = Design(
        table=table,
        levels=levels,
        codes=codes,
        counts=np.bincount(codes),
        effects=[*(e for e in kept if not set(table.factors_of(e)) & set(nuisance)), *named],
        nuisance=nuisance,
        contrasts=table.contrasts(kept),
        report=rows,
        numeric=values,
        named=named,
        covariates=covariates,
        residual=residual,
        precision=precision,
    )
    if design.unit_model is not None and not design.unit_model.full_rank():
        raise ValueError(
            f"{len(cells)} cells leave no degree of freedom for error='residual' beside the effects "
            f"{[e.name for e in kept]}{'' if covariates is None else ' and the covariates'}; leave out an interaction "
            "or a covariate."
        )
    return design


def per_effect(parameter: str, value: Any, effects: Iterable[Effect], default: Any) -> dict[Effect, Any]:
    """Assign the value of a parameter to every effect, from one value for all or a mapping from effect names.

    Parameters
    ----------
    parameter
        Name of the parameter, for error messages.
    value
        One value for all effects, or a mapping from effect names to values.
    effects
        The effects that get a value.
    default
        The value of effects that a mapping does not name.

    Raises
    ------
    ValueError
        If a mapping names an effect that is not among ``effects``.
    """
    names = {e.name: e for e in effects}
    if not isinstance(value, Mapping):
        return dict.fromkeys(names.values(), value)
    for name in value:
        if name not in names:
            raise ValueError(
                f"{parameter} names the effect {name!r}; the fit has {list(names)}. Correct or remove that name."
            )
    return {e: value.get(name, default) for name, e in names.items()}


def effect_penalties(design: Design, penalty: float | Mapping[str, float]) -> dict[Effect, float]:
    """Return the penalty lambda_T of every effect T in the fit; effects that a mapping does not name get 1."""
    effects = [*design.contrasts, *(design.covariates.columns if design.covariates is not None else ())]
    out = {e: float(v) for e, v in per_effect("penalty", penalty, effects, 1.0).items()}
    for effect, value in out.items():
        if not value >= 0:
            raise ValueError(
                f"penalty of {effect.name!r} is {value}; it must be 0 or more (inf forbids any variation with it)."
            )
    return out


def effect_components(design: Design, n_components: int | Mapping[str, int] | None) -> dict[Effect, int]:
    """Return the number of axes of every effect; None means all useful ones, which are its degrees of freedom."""
    out = {}
    for effect, number in per_effect("n_components", n_components, design.effects, None).items():
        df = design.df(effect)
        if number is None:
            number = df
        elif not 1 <= number <= df:
            raise ValueError(
                f"n_components={number} for {effect.name!r}: its {df} degrees of freedom allow 1 to {df} useful axes. "
                "Use n_components=None, or a dict with a number for each effect."
            )
        out[effect] = int(number)
    return out
