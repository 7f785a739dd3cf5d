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

A factor f with L_f levels is coded by an orthonormal basis H_f, L_f x (L_f - 1), of the vectors that sum to zero. An
interaction is coded by the products of the columns of its factors. The least-squares effects alpha_S, with one row for
every combination of the levels of S, are therefore ``kron(H_f, f in S) B_S G``, and ``M_S = alpha_S' alpha_S / df_S``.
For a complete table this equals ``G' P_S G / (df_S prod_{f not in S} L_f)``, where the projector P_S is the Kronecker
product of ``I - J / L_f`` for factors in S and ``J / L_f`` for the others (J is all ones): the scatters of Qiao and
Meister (arXiv 2010.02171).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .._logging import get_logger
from .effects import SEPARATOR, Effect
from .table import Table, refuse_confounded, report

logger = get_logger(__name__)

MAX_NUMERIC_LEVELS = 20  # a numeric column with more distinct values is refused as a continuous measurement


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
        The effects that get axes: main effects first, then interactions.
    nuisance
        Names of the nuisance factors. Their effects are fitted and penalised, but they get no axes.
    contrasts
        Effect -> B_S (df_S x C), for every effect in the fit, nuisance effects included.
    report
        One row per requested or implied effect: ``effect, df, estimable, missing, reason``.
    """

    table: Table
    levels: dict[str, np.ndarray]
    codes: np.ndarray
    counts: np.ndarray
    effects: list[Effect]
    nuisance: tuple[str, ...]
    contrasts: dict[Effect, np.ndarray]
    report: pd.DataFrame

    @property
    def n_groups(self) -> int:
        """The number of occupied groups, C."""
        return len(self.counts)

    @property
    def factors(self) -> tuple[str, ...]:
        """The factors that are not nuisance, in the order given."""
        return tuple(f for f in self.table.factors if f not in self.nuisance)

    def df(self, effect: Effect) -> int:
        """Return the degrees of freedom of an effect, which is also the largest number of useful axes."""
        return self.table.df(effect)

    def scatter_weights(self, effect: Effect) -> np.ndarray:
        """Compute Q_S (C x C), which gives the scatter of an effect as M_S = G' Q_S G."""
        b = self.contrasts[effect]
        return b.T @ b / self.df(effect)

    def fitted(self, effect: Effect) -> np.ndarray:
        """Compute X_S B_S (C x C), which maps group means to the fitted values of one effect in every group."""
        return self.table.coding(effect) @ self.contrasts[effect]

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

        Groups without any of these cells are dropped and the others are renumbered in the same order.
        """
        counts = np.bincount(self.codes[cells], minlength=self.n_groups)
        present = np.flatnonzero(counts)
        if len(present) == 0:
            return None
        table = Table(self.table.factors, self.table.n_levels, self.table.groups[present])
        effects = list(self.contrasts)
        if table.estimable(effects) != effects:
            return None
        codes = np.searchsorted(present, self.codes[cells])
        return Design(
            table, self.levels, codes, counts[present], self.effects, self.nuisance,
            table.contrasts(effects), self.report,
        )  # fmt: skip


def make_design(
    labels: pd.DataFrame,
    *,
    interactions: str | Iterable[str | Sequence[str]] | None = "all",
    nuisance: Iterable[str] = (),
) -> Design:
    """Build the design of a table of labels, which has one row per cell and one column per factor.

    Parameters
    ----------
    labels
        Labels of the cells. Levels are ordered as the categories of a categorical column, and sorted otherwise;
        categories without cells are dropped.
    interactions
        ``"all"`` includes every interaction that the table identifies. None includes main effects only. A list names
        the interactions, each as ``"a:b"`` or ``("a", "b")``.
    nuisance
        Columns of ``labels`` that enter the fit as additive effects without axes of their own.

    Returns
    -------
    A :class:`Design`.

    Raises
    ------
    ValueError
        If labels are missing, a factor has a single level or is continuous, factors are nested or confounded, or a
        listed interaction cannot be estimated.

    Examples
    --------
    >>> labels = pd.DataFrame({"dendrite": ["T4", "T4", "T5", "T5"], "axon": ["a", "b", "a", "b"]})
    >>> make_design(labels).effects
    [('dendrite',), ('axon',), ('dendrite', 'axon')]
    """
    nuisance = tuple(nuisance)
    columns = {name: _encode(labels[name]) for name in labels.columns}
    names = tuple(columns)
    factors = tuple(f for f in names if f not in nuisance)
    for name in nuisance:
        if name not in names:
            raise ValueError(
                f"nuisance factor {name!r} is not one of the label columns {list(names)}; correct or remove its name."
            )
    if not factors:
        raise ValueError(
            f"no factor is left to give axes: every column of {list(names)} is nuisance; take one out of nuisance."
        )

    levels = {name: lev for name, (_, lev) in columns.items()}
    n_levels = tuple(len(levels[f]) for f in names)
    # one number for every combination of levels; sorted, they give the groups in lexicographic order
    cells = np.ravel_multi_index([codes for codes, _ in columns.values()], n_levels)
    codes, occupied = pd.factorize(cells, sort=True)
    table = Table(names, n_levels, np.column_stack(np.unravel_index(occupied, n_levels)))

    mains = [Effect((f,)) for f in names]
    wanted = _interactions(factors, interactions)
    kept = table.estimable([*mains, *wanted])
    refuse_confounded(table, levels, [e for e in mains if e not in kept])
    dropped = [e for e in wanted if e not in kept]
    rows = report(table, levels, [*mains, *wanted], kept)
    if dropped:
        reasons = rows.set_index("effect")["reason"]
        text = "; ".join(f"{e.name!r}: {reasons[e.name]}" for e in dropped)
        if interactions != "all":
            raise ValueError(f"cannot estimate the interaction {text}. Leave it out of interactions.")
        logger.warning("left out interactions that the occupied groups cannot identify: %s", text)
    return Design(
        table=table,
        levels=levels,
        codes=codes,
        counts=np.bincount(codes),
        effects=[e for e in kept if not set(e) & set(nuisance)],
        nuisance=nuisance,
        contrasts=table.contrasts(kept),
        report=rows,
    )


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
    out = {e: float(v) for e, v in per_effect("penalty", penalty, design.contrasts, 1.0).items()}
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


def _encode(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return the code of each cell and the levels of a factor; refuse a column that is not a factor."""
    name = column.name
    if isinstance(name, str) and SEPARATOR in name:
        raise ValueError(
            f"factor name {name!r} contains {SEPARATOR!r}, which joins the factors of an interaction; rename it."
        )
    if column.isna().any():
        raise ValueError(
            f"factor {name!r} has no label for {int(column.isna().sum())} of {len(column)} cells (NaN); "
            "drop those cells or label them."
        )
    if isinstance(column.dtype, pd.CategoricalDtype):
        used = column.cat.remove_unused_categories()
        codes, levels = used.cat.codes.to_numpy(), used.cat.categories.to_numpy()
    else:
        try:
            codes, found = pd.factorize(column.to_numpy())  # hashing a million cells beats sorting them
            levels, order = np.unique(found, return_inverse=True)
            codes = order[codes]
        except TypeError:
            raise ValueError(f"factor {name!r} mixes types, such as text and numbers; convert it to text.") from None
        if pd.api.types.is_numeric_dtype(column.dtype) and len(levels) > MAX_NUMERIC_LEVELS:
            raise ValueError(
                f"factor {name!r} holds {len(levels)} distinct numbers. Unknown label type: continuous. "
                "Bin it with pandas.cut, or make it categorical if the numbers are labels."
            )
    if len(levels) < 2:
        raise ValueError(
            f"factor {name!r} has one level (class), {levels[0]!r}; a factor needs two or more, so leave it out."
        )
    return codes.astype(np.int64), levels


def _interactions(factors: tuple[str, ...], interactions: str | Iterable[str | Sequence[str]] | None) -> list[Effect]:
    """Return the requested interactions, lowest order first, each with its factors in the order of ``factors``."""
    if interactions is None:
        return []
    if isinstance(interactions, str | bool):
        if interactions != "all":
            raise ValueError(f"interactions={interactions!r}: use 'all', None or a list such as ['a:b'].")
        orders = range(2, len(factors) + 1)
        return [Effect(e) for k in orders for e in itertools.combinations(factors, k)]
    out: list[Effect] = []
    for item in interactions:
        parts = set(Effect.parse(item))
        unknown = parts - set(factors)
        if unknown or len(parts) < 2:
            raise ValueError(
                f"interaction {item!r} must join two or more of the factors {list(factors)}; correct its name."
            )
        effect = Effect(f for f in factors if f in parts)
        if effect not in out:
            out.append(effect)
    for effect in out:
        lacking = [Effect(m) for k in range(2, len(effect)) for m in itertools.combinations(effect, k) if m not in out]
        if lacking:
            raise ValueError(
                f"interaction {effect.name!r} needs its lower-order interactions "
                f"{[m.name for m in lacking]} in the list too."
            )
    return sorted(out, key=lambda e: (len(e), [factors.index(f) for f in e]))
