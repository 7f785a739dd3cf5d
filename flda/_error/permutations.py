"""Permutations of labels: the null distribution of the statistics of :mod:`flda._error.wald`, where it is exact.

Units are exchanged within combinations of the levels of all other factors. That is exact if no other effect of the fit
contains a factor of the tested one, and if the units of different levels differ in nothing else, their variance
included. Cells are exchanged within donors; the p-value then holds for these donors only. If the effects do not fit
every group mean, groups of cells weigh as in F (:mod:`flda._error.weights`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.special import gammaln

from .._data import arrays
from .._data.device import asarray_like, to_numpy
from .._design.design import Design
from .._design.effects import Effect
from .._design.samples import between_factors, donor_levels
from .flips import relative_variances
from .wald import wald
from .weights import weighted_contrasts

BLOCK_BYTES = 2**26  # memory for the sums of the permutations that are worked on at a time
LEAST = 1e-6  # smallest variance of a gene in a group, as a share of its total variance


class Permutations:
    """The statistic of one effect, in the data and under permuted labels.

    Parameters
    ----------
    effect, design
        The effect and the design of the cells.
    X
        Expression, N x p.
    donors
        Donor of each cell as an integer, (N,), or None. If the effect varies between donors, the units are the donors
        and their values are the means of their cells.
    seed
        Seed of the permutations.

    Raises
    ------
    ValueError
        If another effect of the fit contains a factor of the tested one, some factors of the effect vary between donors
        and others do not, or no two units can be exchanged.
    """

    def __init__(self, effect: Effect, design: Design, X, donors: np.ndarray | None, seed: int):
        self.effect, self._design, self._seed = effect, design, seed
        if effect in design.named:
            raise ValueError(f"method='permutation' cannot test the contrast {effect.name!r}; use method='flips'.")
        own = design.table.factors_of(effect)
        others = [e.name for e in design.contrasts if e != effect and set(design.table.factors_of(e)) & set(own)]
        if others:
            raise ValueError(
                f"method='permutation' cannot test {effect.name!r} in a fit with {others}, which permuted labels would "
                "destroy; fit without interactions, or use method='flips'."
            )
        between = () if donors is None else between_factors(design, donors)
        self.unit = "donor" if set(own) & set(between) else "cell"
        table, columns = design.table, np.array([design.table.factors.index(f) for f in own])
        if self.unit == "donor":
            assert donors is not None
            self._levels = donor_levels(design, donors)
            if (self._levels < 0).any():
                raise ValueError(
                    f"method='permutation' cannot exchange donors for {effect.name!r}, because other factors vary "
                    "within donors; use method='flips'."
                )
            sums = arrays.group_sums(X, donors, len(self._levels))
            self._X, strata = sums / np.bincount(donors)[:, None], None
        else:
            self._levels, self._X, strata = table.groups[design.codes], X, donors
        rest = [j for j in range(self._levels.shape[1]) if j not in columns]
        keys = self._levels[:, rest] if strata is None else np.column_stack([self._levels[:, rest], strata])
        self._columns, self._strata = columns, _codes(keys)
        self.n_units = len(self._levels)
        self.n_distinct = self._count()
        if self.n_distinct <= 1:
            raise ValueError(
                f"the labels of {effect.name!r} cannot be permuted: no two {self.unit}s of one stratum (same levels of "
                "the other factors, same donor) differ in them. Fit fewer factors, or use method='flips'."
            )
        self.df = {effect: len(design.contrasts[effect])}
        # cells are weighed as in the flips; permutations keep the number of cells of every group
        several = (np.bincount(design.codes) > 1).any()
        self._weighted = self.unit == "cell" and several and table.df_left(list(design.contrasts)) > 0

    def units_of(self, effect: Effect) -> int:
        """Return the number of units."""
        return self.n_units

    def observed(self) -> dict[Effect, np.ndarray]:
        """Compute the statistic of every gene, (p,)."""
        return {self.effect: self._statistics(self._levels[None])[0]}

    def flipped(self, n_flips: int) -> Iterator[dict[Effect, np.ndarray]]:
        """Yield the statistics, (F, p), of blocks of F permutations, n_flips in all."""
        rng = np.random.default_rng(self._seed)
        C, p = self._design.n_groups, self._X.shape[1]
        size = int(np.clip(BLOCK_BYTES // (16 * C * p), 1, 64))
        for start in range(0, n_flips, size):
            levels = np.stack([self._permuted(rng) for _ in range(min(size, n_flips - start))])
            yield {self.effect: self._statistics(levels)}

    def _permuted(self, rng: np.random.Generator) -> np.ndarray:
        """Return the level codes of the units after a random permutation within the strata."""
        # both index arrays list the units stratum by stratum, one in their own order and one in random order
        order = np.lexsort((rng.random(self.n_units), self._strata))
        out = self._levels.copy()
        place = np.argsort(self._strata, kind="stable")
        out[np.ix_(place, self._columns)] = self._levels[np.ix_(order, self._columns)]
        return out

    def _statistics(self, levels: np.ndarray) -> np.ndarray:
        """Compute the statistics, (F, p), for the level codes of all units in F permutations, (F, U, factors)."""
        F, C, p = len(levels), self._design.n_groups, self._X.shape[1]
        codes = self._design.table.find(levels.reshape(-1, levels.shape[2])).reshape(F, -1)

        def update(out: np.ndarray, rows: slice, block) -> None:
            # row (f C + c) of marks has a one for every unit of group c in permutation f
            n = rows.stop - rows.start
            marks = arrays.indicator((codes[:, rows] + C * np.arange(F)[:, None]).T.ravel(), F * C)
            marks = marks @ _repeat(n, F)
            if arrays.is_sparse(block):
                block = arrays.canonical(block).astype(np.float64)
                square = block.copy()
                square.data **= 2
                out[0] += (marks @ block).toarray()
                out[1] += (marks @ square).toarray()
            else:
                block = arrays.as_float(block)
                marks = asarray_like(block, marks)
                out[0] += marks @ block
                out[1] += marks @ block**2

        sums, squares = to_numpy(arrays.reduce_rows(self._X, update, (2, F * C, p))).reshape(2, F, C, p)
        n = np.bincount((codes + C * np.arange(F)[:, None]).ravel(), minlength=F * C).reshape(F, C, 1)
        means = sums / np.maximum(n, 1)
        spread = np.maximum(squares - n * means**2, 0)
        df = np.maximum(n - 1, 0)
        pooled = spread.sum(axis=1) / np.maximum(df.sum(axis=1), 1)
        v = np.where(df > 0, spread / np.maximum(df, 1), pooled[:, None])
        total = np.maximum(squares.sum(axis=1) - sums.sum(axis=1) ** 2 / n.sum(axis=1), 0) / self.n_units
        floor = LEAST * np.maximum(total, LEAST * total.mean())
        w = np.maximum(v, floor[:, None]) / np.maximum(n, 1)
        centred = means - means.mean(axis=1, keepdims=True)
        if not self._weighted:
            B = self._design.contrasts[self.effect]
            return wald(np.einsum("dc,fcp->fdp", B, centred)[:, :, None], B, w, many=True)
        # the weights of the groups follow from the data, so every permutation has its own, as the data have
        out = np.empty((F, p))
        for f in range(F):
            of_groups = relative_variances(spread[f], df[f, :, 0])
            B = weighted_contrasts(self._design, means[f], pooled[f], of_groups)[self.effect]
            out[f] = wald((B @ centred[f])[None, :, None], B, w[[f]], many=True)[0]
        return out

    def _count(self) -> float:
        """Count the distinct assignments of the permuted levels to the units, the observed one included."""
        table = pd.crosstab(self._strata, _codes(self._levels[:, self._columns])).to_numpy()
        # the product over strata of the multinomial coefficients n! / prod_level n_level!
        log = np.sum(gammaln(table.sum(axis=1) + 1)) - np.sum(gammaln(table + 1))
        return float(round(math.exp(log))) if log < 34 else math.inf  # exp(34) is about 6e14, still exact in a float


def _repeat(n: int, F: int):
    """Return the (n F) x n matrix that repeats every row F times."""
    return arrays.indicator(np.repeat(np.arange(n), F), n).T.tocsr()


def _codes(rows: np.ndarray) -> np.ndarray:
    """Return one integer code for each row of integers, equal for equal rows."""
    if rows.shape[1] == 0:
        return np.zeros(len(rows), dtype=np.int64)
    return np.unique(rows, axis=0, return_inverse=True)[1].ravel()
