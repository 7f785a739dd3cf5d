"""Permutation schemes: what the test of one effect permutes, among which units, and which effects it removes first.

===============  =======================================================================================================
Factors          The factors of the tested effect S are permuted; if some of them vary between donors, only these.
Units            The units are cells, or donors if the permuted factors vary between donors.
Strata           Units are exchanged within a combination of levels of all other factors (nuisance factors too); cells
                 are exchanged within a donor only.
Effects removed  The fitted effects, other than S, that contain a permuted factor are subtracted before the permutation,
                 which would destroy them, and added back under the permuted labels. The strata keep all other effects.
===============  =======================================================================================================

If no effect has to be removed, as for a main effect without interactions in the fit, this is a restricted permutation
test, which is exact. Otherwise it permutes the residuals of the reduced model (Freedman and Lane 1983; Anderson and ter
Braak 2003).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import gammaln

from .._design.design import Design
from .._design.effects import Effect
from .._design.samples import between_factors, donor_levels, spanning_donor

MIN_DONORS = 3  # donors of each level that a p-value needs


@dataclass(frozen=True)
class Scheme:
    """The permutation scheme of one effect.

    Attributes
    ----------
    effect
        The effect S under test.
    permuted
        Columns of the level codes that are permuted.
    by_donor
        Whether whole donors are exchanged.
    taken_out
        Effects that are removed before the permutation and added back after it.
    strata
        Stratum of each unit (cell or donor).
    """

    effect: Effect
    permuted: np.ndarray
    by_donor: bool
    taken_out: tuple[Effect, ...]
    strata: np.ndarray

    @property
    def name(self) -> str:
        """The name of the scheme: ``"restricted"`` if no effect is removed, and ``"residual"`` otherwise."""
        return "residual" if self.taken_out else "restricted"


def scheme_of(effect: Effect, design: Design, donors: np.ndarray | None, names: np.ndarray | None) -> Scheme:
    """Return the permutation scheme of an effect.

    Parameters
    ----------
    effect, design
        The effect and the design.
    donors
        Donor of each cell as an integer, (N,), or None.
    names
        Names of the donors, for error messages.

    Raises
    ------
    ValueError
        If a factor of the effect varies between donors and a level of it has fewer than MIN_DONORS donors, or if a
        single donor has several levels of a factor of which most donors have one.
    """
    between = () if donors is None else between_factors(design, donors)
    by_donor = bool(set(effect) & set(between))
    exchanged = tuple(f for f in effect if f in between) if by_donor else effect
    columns = np.array([design.table.factors.index(f) for f in exchanged])
    taken_out = tuple(e for e in design.contrasts if e != effect and set(e) & set(exchanged))
    if by_donor:
        assert donors is not None
        levels = donor_levels(design, donors)
        _refuse_few_donors(exchanged, levels, design)
        # donors are exchanged within levels of the other between-donor factors
        others = [j for j in range(levels.shape[1]) if j not in columns and (levels[:, j] >= 0).all()]
        strata = _codes(levels[:, others])
    else:
        others = [j for j in range(len(design.table.factors)) if j not in columns]
        keys = design.table.groups[design.codes][:, others]
        if donors is not None:
            for f in exchanged:
                if (d := spanning_donor(design, donors, f)) is not None:
                    name = d if names is None else names[d]
                    raise ValueError(
                        f"donor {name!s} has cells in several levels of {f!r} while most donors have one, so neither "
                        "cells nor donors can be exchanged; make the donor names unique, or leave that donor out."
                    )
            keys = np.column_stack([keys, donors])
        strata = _codes(keys)
    return Scheme(effect, columns, by_donor, taken_out, strata)


def permuted_codes(scheme: Scheme, units: np.ndarray, strata: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the level codes of the units (n x factors) after a random permutation within the strata."""
    # both index arrays list the units stratum by stratum, one in their own order and one in random order
    order = np.lexsort((rng.random(len(units)), strata))
    out = units.copy()
    columns = scheme.permuted
    out[np.ix_(np.argsort(strata, kind="stable"), columns)] = units[np.ix_(order, columns)]
    return out


def n_distinct(scheme: Scheme, units: np.ndarray, strata: np.ndarray) -> float:
    """Count the distinct assignments of the permuted levels to the units, the observed one included."""
    labels = _codes(units[:, scheme.permuted])
    table = pd.crosstab(strata, labels).to_numpy()
    # the product over strata of the multinomial coefficients n! / prod_level n_level!
    log = np.sum(gammaln(table.sum(axis=1) + 1)) - np.sum(gammaln(table + 1))
    return float(round(math.exp(log))) if log < 34 else math.inf  # exp(34) is about 6e14, still exact in a float


def every_assignment(scheme: Scheme, units: np.ndarray, strata: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the level codes of the units for every distinct assignment, the observed one included."""
    columns = scheme.permuted
    rows = [np.flatnonzero(strata == s) for s in np.unique(strata)]
    choices = [list(_arrangements([tuple(u) for u in units[np.ix_(i, columns)].tolist()])) for i in rows]
    for pick in itertools.product(*choices):
        out = units.copy()
        for i, values in zip(rows, pick, strict=True):
            out[np.ix_(i, columns)] = values
        yield out


def _arrangements(items: list[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
    """Yield every distinct order of items, of which some may be equal."""
    if not items:
        yield []
        return
    for first in sorted(set(items)):
        rest = items.copy()
        rest.remove(first)
        for tail in _arrangements(rest):
            yield [first, *tail]


def _refuse_few_donors(factors: tuple[str, ...], levels: np.ndarray, design: Design) -> None:
    """Raise an error if a level of one of these factors has fewer than MIN_DONORS donors."""
    for f in factors:
        counts = np.bincount(levels[:, design.table.factors.index(f)], minlength=len(design.levels[f]))
        few = int(counts.argmin())
        if counts[few] < MIN_DONORS:
            raise ValueError(
                f"level {str(design.levels[f][few])!r} of {f!r} has {counts[few]} donor(s), and {f!r} varies between "
                f"donors: a p-value needs {MIN_DONORS} or more per level, because donors are the replicates. Leave "
                "that level out, or test other effects."
            )


def _codes(rows: np.ndarray) -> np.ndarray:
    """Return one integer code for each row of integers, equal for equal rows."""
    if rows.shape[1] == 0:
        return np.zeros(len(rows), dtype=np.int64)
    return np.unique(rows, axis=0, return_inverse=True)[1].ravel()
