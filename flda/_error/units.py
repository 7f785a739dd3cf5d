"""The units of an effect: what was assigned its levels, and what its spread is measured on.

Without donors the units are cells, and they are assumed to be independent. With donors the unit is the donor. The
factors of an effect that vary between donors tell donors apart; call them its outer factors, and the others its inner
factors. Every donor gives its own contrast of the inner factors, from the means of its samples; these contrasts are
compared between the levels of the outer factors. So a factor that varies between donors is judged by the means of the
donors, a factor within donors by how the contrasts of donors scatter about zero, and an interaction of both by how
these contrasts differ between groups of donors. A named contrast is split in the same way. Nothing that cells of a
donor share counts more than once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import null_space

from .._design.contrasts import ZERO, Selection, selection_row
from .._design.design import Design
from .._design.effects import Effect
from .._design.samples import Samples, donor_levels
from .._design.table import Table

Row = Callable[[Table, Sequence[Effect]], np.ndarray]  # weights of the coefficients of a model matrix


@dataclass(frozen=True)
class Units:
    """Contrasts of donors for one effect.

    Attributes
    ----------
    values
        Contrasts of every unit, (U, q, p), with q the degrees of freedom of the inner factors.
    groups
        Combination of the levels of all outer factors of the design, for every unit, as a code, (U,).
    model
        Model matrix of the outer effects on these codes, C x m.
    rows
        The coefficients of the model that belong to the effect.
    donors
        The donors that are the units, as integers, (U,).
    """

    values: np.ndarray
    groups: np.ndarray
    model: np.ndarray
    rows: slice
    donors: np.ndarray


def donor_units(effect: Effect, design: Design, donors: np.ndarray, means: np.ndarray, samples: Samples) -> Units:
    """Compute the contrasts of donors for an effect.

    Parameters
    ----------
    effect, design
        The effect S and the design of the cells.
    donors
        Donor of each cell as an integer, (N,).
    means
        Mean of every sample, S x p.
    samples
        The samples: the cells of one donor in one group.

    Raises
    ------
    ValueError
        If fewer than two donors give the contrast, or the outer effects cannot be estimated from them.
    """
    table = design.table
    if effect in table.estimable_parts:
        raise ValueError(
            f"only a part of {effect.name!r} can be estimated, which donors do not give by themselves; leave it out of "
            "the interactions, or test without donors."
        )
    levels = donor_levels(design, donors)
    outer = [j for j in range(len(table.factors)) if (levels[:, j] >= 0).all()]
    inner = [j for j in range(len(table.factors)) if j not in outer]
    names = {table.factors[j] for j in outer}
    split = _named_parts if effect in design.named else _parts
    parts = split(effect, design, names)
    first = np.unique(samples.codes, return_index=True)[1]
    of_donor = donors[first]

    kept, values = [], []
    for d in range(len(levels)):
        mine = np.flatnonzero(of_donor == d)
        contrast = _contrast(parts, table, table.groups[samples.groups[mine]], inner)
        if contrast is not None:
            kept.append(d)
            values.append(contrast @ means[mine])
    if len(kept) < 2:
        raise ValueError(
            f"{len(kept)} donor(s) have cells in all groups that a contrast of {effect.name!r} needs, so there is no "
            "spread between donors to judge it by; leave out the interactions, or test without donors."
        )
    keys = levels[kept][:, outer]
    combinations, groups = np.unique(keys, axis=0, return_inverse=True)
    part = table.of(outer, combinations)
    if part.estimable(parts.outer) != parts.outer:
        raise ValueError(
            f"the donors that give a contrast of {effect.name!r} do not cover the groups that "
            f"{[e.name for e in parts.outer]} need; leave out the interactions, or test without donors."
        )
    model, rows = part.model_matrix(parts.outer), slice(0, 1)
    if parts.outer_row is not None:
        # coefficients in which the contrast is the first one
        row = parts.outer_row(part, parts.outer)[None]
        model = model @ np.hstack([row.T / (row @ row.T), null_space(row)])
    elif parts.tested:
        start = 1 + sum(part.df(e) for e in parts.outer[: parts.outer.index(parts.tested)])
        rows = slice(start, start + part.df(parts.tested))
    return Units(np.stack(values), groups.ravel(), model, rows, np.array(kept))


@dataclass(frozen=True)
class _Parts:
    """An effect, split into what is compared within donors and what is compared between them.

    Attributes
    ----------
    own
        The inner part of the effect; the empty effect is the mean of a donor.
    within
        The inner effects of the fit.
    tested, outer
        The outer part of the effect, and the outer effects that act on the contrasts of donors.
    inner_row, outer_row
        For a named contrast, the functions that give its weights of the coefficients of a table's effects.
    """

    own: Effect
    within: list[Effect]
    tested: Effect
    outer: list[Effect]
    inner_row: Row | None = None
    outer_row: Row | None = None


def _parts(effect: Effect, design: Design, names: set[str]) -> _Parts:
    """Split an effect of the fit; ``names`` are the outer factors."""
    table = design.table

    def inner(e: Effect) -> Effect:
        return _of(table, e, names, False)

    def outer(e: Effect) -> Effect:
        return _of(table, e, names, True)

    # the inner effects of the fit, without their outer factors; an effect without inner factors is the donor's mean
    within = [e for e in dict.fromkeys(map(inner, design.contrasts)) if e]
    # effects with other inner factors do not act on these contrasts
    acting = dict.fromkeys(outer(e) for e in design.contrasts if inner(e) == inner(effect))
    return _Parts(inner(effect), within, outer(effect), [e for e in acting if e])


def _named_parts(effect: Effect, design: Design, names: set[str]) -> _Parts:
    """Split a named contrast into a weighted sum within donors and one between them, whose product it is."""
    table, contrast = design.table, design.named[effect]
    within = [e for e in dict.fromkeys(_of(table, e, names, False) for e in design.contrasts) if e]
    sides: list[dict[tuple, float]] = []
    for between in (False, True):
        keys = [_key(s, names, between) for s in contrast.selections]
        sides.append(dict.fromkeys(keys, 0.0))
    grid = np.zeros((len(sides[0]), len(sides[1])))
    for weight, selection in zip(contrast.weights, contrast.selections, strict=True):
        at = [list(side).index(_key(selection, names, b)) for side, b in zip(sides, (False, True), strict=True)]
        grid[at[0], at[1]] += weight
    left, sizes, right = np.linalg.svd(grid)
    if len(sizes) > 1 and sizes[1] > ZERO * sizes[0]:
        raise ValueError(
            f"the contrast {effect.name!r} differs within and between donors at once, so no donor gives it by itself; "
            "compare groups of the same donors or of different ones, or test without donors."
        )

    def weighted(keys: Sequence[tuple], weights: np.ndarray) -> Row:
        def row(part: Table, effects: Sequence[Effect]) -> np.ndarray:
            rows = [selection_row(part, effects, dict(key)) for key in keys]
            return np.asarray(weights @ np.stack(rows))

        return row

    inner_row = weighted(list(sides[0]), left[:, 0] * sizes[0])
    # effects whose inner part is zero in the sum within donors do not act on it
    size = {e: np.abs(inner_row(table, [e] if e else [])[1 if e else 0 :]).max() for e in [Effect(), *within]}
    own = [e for e in design.contrasts if size[_of(table, e, names, False)] > ZERO * max(size.values())]
    outer = [e for e in dict.fromkeys(_of(table, e, names, True) for e in own) if e]
    return _Parts(Effect(), within, Effect(), outer, inner_row, weighted(list(sides[1]), right[0]))


def _of(table: Table, effect: Effect, names: set[str], between: bool) -> Effect:
    """Return the part of an effect between donors or within them."""
    return Effect(f for f in effect if (table.factor(f) in names) == between)


def _key(selection: Selection, names: set[str], between: bool) -> tuple:
    """Return the part of a selection between donors or within them, in a form that can be compared."""
    return tuple(sorted((f, codes) for f, codes in selection.items() if (f in names) == between))


def _contrast(parts: _Parts, table: Table, groups: np.ndarray, inner: list[int]) -> np.ndarray | None:
    """Return the rows of least squares on the samples of a donor that belong to an inner effect, q x samples.

    None if the donor's samples do not identify it. An empty effect is the mean, with every level of the inner factors
    weighed alike.
    """
    if not inner:
        size = 1.0 if parts.inner_row is None else float(parts.inner_row(table.of(inner, groups[:, inner]), [])[0])
        return np.full((1, len(groups)), size / len(groups))
    part = table.of(inner, groups[:, inner])
    if parts.inner_row is not None:
        D, row = part.model_matrix(parts.within), parts.inner_row(part, parts.within)
        found = row @ np.linalg.pinv(D)
        return found[None] if np.abs(found @ D - row).max() <= ZERO * np.abs(row).max() else None
    # the effect is an average over the levels of the factors that it interacts with, so these must all be there
    known = part.estimable(parts.within)
    if any(e not in known for e in parts.within if set(parts.own) <= set(e)):
        return None
    contrasts = part.contrasts(known)
    return contrasts[parts.own] if parts.own else part.coefficients(known)[:1]


def left_out(units: Units, names: np.ndarray) -> list[str]:
    """Return the names of the donors that do not give a contrast."""
    return [str(names[d]) for d in np.setdiff1d(np.arange(len(names)), units.donors)]
