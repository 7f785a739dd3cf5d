"""Counterfactual groups, and the difference of means between each group and its counterfactual.

The counterfactual of a group has other levels of some factors and the same levels of all others. A cell x of group c
becomes ``x + m_c' - m_c``, where c' is the counterfactual of c and m_c is one of three kinds of means:

============  ======================================================================================================
``observed``  the means of the cells, which a counterfactual group without cells does not have
``fitted``    the values of the effects of the fit by weighted least squares (:mod:`flda._error.weights`); if the fit
              has all interactions, these are the observed means
``shrunken``  posterior means under the factorial prior (:mod:`flda._solve.prior`)
============  ======================================================================================================
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._design.design import Design
from .._design.table import Table
from .._error.weights import group_weights
from .._logging import warn
from .._solve.prior import FactorialMeans
from ._solved import Prepared

KINDS = ("observed", "fitted", "shrunken")


@dataclass(frozen=True)
class GroupMeans:
    """The observed means of the groups and their noise.

    Attributes
    ----------
    design
        The groups and effects.
    means
        Observed means, C x p.
    variances
        Variance of a unit (a cell, or the mean of a donor's cells in a group), pooled over the groups, (p,).
    units
        The number of units of every group, (C,).
    """

    design: Design
    means: np.ndarray
    variances: np.ndarray
    units: np.ndarray

    @classmethod
    def of(cls, prepared: Prepared) -> GroupMeans:
        """Take the means from the checked input of a fit."""
        design, within, summary = prepared.design, prepared.within, prepared.summary
        C = design.n_groups
        if within.samples is not None:
            spread = within.sample_means - within.means[within.samples.groups]
            df = len(within.samples.groups) - C
            return cls(design, within.means, np.sum(spread**2, axis=0) / df, np.bincount(within.samples.groups))
        raw = summary.squares.sum(axis=0) - design.counts @ within.means**2
        return cls(design, within.means, np.maximum(raw, 0) / (design.counts.sum() - C), design.counts)

    def at(self, table: Table, kind: str) -> np.ndarray:
        """Compute the means of the groups of another table of the same factors, n x p."""
        design, effects = self.design, list(self.design.contrasts)
        if kind == "observed":
            return self.means[design.table.find(table.groups)]
        floor = 1e-6 * (self.variances.mean() or 1.0)
        if kind == "shrunken":
            noise = np.maximum(self.variances, floor) / self.units[:, None]
            return FactorialMeans.fit(self.means, noise, design).on(table)
        weights = group_weights(design.table, effects, self.means, self.variances, 1 / self.units)
        return table.model_matrix(effects) @ (design.table.coefficients(effects, weights) @ self.means)


def counterfactual_groups(design: Design, levels: Mapping[str, Any]) -> Table:
    """Return the counterfactual of every group.

    Parameters
    ----------
    design
        The groups and effects.
    levels
        Factor -> its level in the counterfactual. For a numeric factor, a number in the range of its levels.

    Returns
    -------
    A table with the counterfactual of group c in row c. A number that is no level becomes a new level.

    Raises
    ------
    ValueError
        If a factor or a level is unknown.

    Examples
    --------
    >>> import pandas as pd
    >>> from flda._design.make import make_design
    >>> labels = pd.DataFrame({"type": list("ppqq"), "condition": ["ctrl", "stim"] * 2})
    >>> counterfactual_groups(make_design(labels), {"condition": "stim"}).groups.tolist()
    [[0, 1], [0, 1], [1, 1], [1, 1]]
    """
    if not isinstance(levels, Mapping) or not levels:
        raise ValueError(
            f"levels={levels!r}: name the factors to change and their levels in a dict, such as "
            f"{{{design.table.factors[-1]!r}: {str(design.levels[design.table.factors[-1]][-1])!r}}}."
        )
    table, groups = design.table, design.table.groups.copy()
    for factor, level in levels.items():
        if factor not in table.factors:
            raise ValueError(
                f"levels names {factor!r}, which is not a factor of the fit; its factors are {list(table.factors)}."
            )
        code = _code(design.levels[factor], level)
        if code is None:
            table = _with_number(table, design, factor, level)
            code = table.n_levels[table.factors.index(factor)] - 1
        groups[:, table.factors.index(factor)] = code
    return table.at(groups)


def _code(levels: np.ndarray, level: Any) -> int | None:
    """Return the index of a level, which may be given as text."""
    if not np.isscalar(level):
        return None
    for same in (levels == level, levels.astype(str) == str(level)):
        if np.ndim(same) and np.sum(same) == 1:
            return int(np.argmax(same))
    return None


def _with_number(table: Table, design: Design, factor: str, value: Any) -> Table:
    """Return the table with a number that is no level of a numeric factor, or refuse a level that is not known."""
    names = design.levels[factor].astype(str).tolist()
    if factor not in design.numeric or isinstance(value, str | bool) or not np.isscalar(value):
        near = difflib.get_close_matches(str(value), names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"its levels are {names}."
        raise ValueError(f"{factor!r} has no level {value!r}; {hint}")
    values, number = design.numeric[factor], float(value)  # type: ignore[arg-type]
    if not values.min() <= number <= values.max():
        raise ValueError(
            f"{factor!r} cannot be {number:g}: its values are between {values.min():g} and {values.max():g}, and a "
            "polynomial says nothing beyond them."
        )
    if any(name.endswith(".rest") for name in table.parts_of(factor)):
        raise ValueError(
            f"{factor!r} cannot be {number:g}, which is no level: {factor}.rest has values at its levels only. "
            f"Use one of {names}, or fit with numeric={{{factor!r}: 2}}."
        )
    return table.with_value(factor, values, number)


def check_kind(design: Design, targets: Table, kind: str) -> None:
    """Refuse an unknown kind of means, and observed means of counterfactual groups that have no cells.

    With other means, a message in the log names these groups.
    """
    if kind not in KINDS:
        raise ValueError(f"group_means={kind!r}: use one of {list(KINDS)}.")
    known = set(map(tuple, design.table.groups))
    empty = np.unique([g for g in targets.groups if tuple(g) not in known], axis=0)
    if not len(empty):
        return
    names = _names(design, targets, empty)
    text = f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
    if kind == "observed":
        raise ValueError(
            f"{len(names)} counterfactual group(s) have no cells ({text}), so there is no observed mean; use "
            "group_means='fitted' or 'shrunken'."
        )
    left_out = design.report["effect"][~design.report["estimable"].astype(bool)].tolist()
    without = f", without {', '.join(left_out)}" if left_out else ""
    warn(
        f"{len(names)} counterfactual group(s) have no cells ({text}); their means are predicted by the effects of the "
        f"fit{without}"
    )


def _names(design: Design, targets: Table, groups: np.ndarray) -> list[str]:
    """Return the names of groups, some of which may have a number that is no level."""
    levels = {
        f: design.levels[f] if n == len(design.levels[f]) else np.append(design.levels[f].astype(object), "a new value")
        for f, n in zip(targets.factors, targets.n_levels, strict=True)
    }
    return [":".join(str(levels[f][c]) for f, c in zip(targets.factors, row, strict=True)) for row in groups]


def counterfactual_shift(prepared: Prepared, levels: Mapping[str, Any], kind: str) -> np.ndarray:
    """Compute ``m_c' - m_c`` for every group c, C x p; it is exactly zero for groups that have these levels.

    Parameters
    ----------
    prepared
        The checked input of a fit.
    levels
        Factor -> its level in the counterfactual.
    kind
        ``"observed"``, ``"fitted"`` or ``"shrunken"``.
    """
    found, targets = GroupMeans.of(prepared), counterfactual_groups(prepared.design, levels)
    check_kind(prepared.design, targets, kind)
    own = targets.at(prepared.design.table.groups)
    shift = found.at(targets, kind) - found.at(own, kind)
    shift[(targets.groups == own.groups).all(axis=1)] = 0.0
    return shift
