"""The units of an effect: what was assigned its levels, and what its spread is measured on.

Without donors the units are cells, and they are assumed to be independent. With donors the unit is the donor. The
factors of an effect that vary between donors tell donors apart; call them its outer factors, and the others its inner
factors. Every donor gives its own contrast of the inner factors, from the means of its samples; these contrasts are
compared between the levels of the outer factors. So a factor that varies between donors is judged by the means of the
donors, a factor within donors by how the contrasts of donors scatter about zero, and an interaction of both by how
these contrasts differ between groups of donors. Nothing that cells of a donor share counts more than once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .._design.design import Design
from .._design.effects import Effect
from .._design.samples import Samples, donor_levels
from .._design.table import Table


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
    levels = donor_levels(design, donors)
    outer = [j for j in range(len(table.factors)) if (levels[:, j] >= 0).all()]
    inner = [j for j in range(len(table.factors)) if j not in outer]
    names = {table.factors[j] for j in outer}
    own = Effect(f for f in effect if f not in names)  # inner part of the effect
    first = np.unique(samples.codes, return_index=True)[1]
    of_donor = donors[first]

    # the inner effects of the fit, without their outer factors; an effect without inner factors is the donor's mean
    within = list(dict.fromkeys(Effect(f for f in e if f not in names) for e in design.contrasts))
    within = [e for e in within if e]
    kept, values = [], []
    for d in range(len(levels)):
        mine = np.flatnonzero(of_donor == d)
        contrast = _contrast(own, within, table, table.groups[samples.groups[mine]], inner)
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
    part = Table(tuple(table.factors[j] for j in outer), tuple(table.n_levels[j] for j in outer), combinations)
    # effects with other inner factors do not act on these contrasts
    acting = {Effect(f for f in e if f in names): None for e in design.contrasts if {*e} - names == {*own}}
    tested, effects = Effect(f for f in effect if f in names), [e for e in acting if e]
    if part.estimable(effects) != effects:
        raise ValueError(
            f"the donors that give a contrast of {effect.name!r} do not cover the groups that "
            f"{[e.name for e in effects]} need; leave out the interactions, or test without donors."
        )
    model = part.model_matrix(effects)
    start = 1 + sum(part.df(e) for e in effects[: effects.index(tested)]) if tested else 0
    rows = slice(start, start + (part.df(tested) if tested else 1))
    return Units(np.stack(values), groups.ravel(), model, rows, np.array(kept))


def _contrast(
    own: Effect, within: list[Effect], table: Table, groups: np.ndarray, inner: list[int]
) -> np.ndarray | None:
    """Return the rows of least squares on the samples of a donor that belong to an inner effect, q x samples.

    None if the donor's samples do not identify it. An empty effect is the mean, with every level of the inner factors
    weighed alike.
    """
    if not inner:
        return np.full((1, len(groups)), 1 / len(groups))
    part = Table(tuple(table.factors[j] for j in inner), tuple(table.n_levels[j] for j in inner), groups[:, inner])
    # the effect is an average over the levels of the factors that it interacts with, so these must all be there
    known = part.estimable(within)
    if any(e not in known for e in within if set(own) <= set(e)):
        return None
    contrasts = part.contrasts(known)
    return contrasts[own] if own else part.coefficients(known)[:1]


def left_out(units: Units, names: np.ndarray) -> list[str]:
    """Return the names of the donors that do not give a contrast."""
    return [str(names[d]) for d in np.setdiff1d(np.arange(len(names)), units.donors)]
