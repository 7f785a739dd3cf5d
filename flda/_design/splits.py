"""Splits of the cells into training and held-out cells; where donors are given, whole donors are held out.

Only labels are used here.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.utils import check_random_state

from .._logging import quiet, warn
from .design import Design
from .samples import between_factors, donor_strata

Model = TypeVar("Model")

MIN_UNITS = 2  # cells, or donors, of every group that a fold of a certificate holds out
MAX_LEFT_OUT = 40  # with up to so many units, a pooled certificate leaves out one at a time
N_TRIES = 20  # random assignments of donors that are tried for each number of folds


@dataclass(frozen=True)
class Split:
    """A split of the cells into training cells and held-out cells.

    Attributes
    ----------
    design
        The design of all cells.
    donors
        Donor of each cell as an integer, (N,), or None.
    train, test
        Indices of the training cells and of the held-out cells.
    """

    design: Design
    donors: np.ndarray | None
    train: np.ndarray
    test: np.ndarray

    @cached_property
    def training(self) -> Design | None:
        """The same effects on the training cells, or None if one of them cannot be estimated there.

        It is also None if no group has two training cells, because nothing then shows the variance within groups.
        """
        out = self.design.subset(self.train)
        if self.design.residual:
            return out
        return None if out is None or len(self.train) == out.n_groups else out

    @cached_property
    def held_out(self) -> Design | None:
        """The same effects on the held-out cells, or None if one of them cannot be estimated there."""
        return self.design.subset(self.test)

    @cached_property
    def present(self) -> np.ndarray:
        """Indices, among all groups, of the groups with training cells, in ascending order.

        If the noise is what the effects leave, the training cells predict every group.
        """
        if self.design.residual:
            return np.arange(self.design.n_groups)
        return np.unique(self.design.codes[self.train])

    @cached_property
    def known(self) -> np.ndarray:
        """Indices of the held-out cells whose group has training cells; the other groups have no prediction."""
        return self.test[np.isin(self.design.codes[self.test], self.present)]

    @cached_property
    def known_groups(self) -> np.ndarray:
        """Training group of each cell of ``known``, as an index into ``present``."""
        return np.searchsorted(self.present, self.design.codes[self.known])

    @cached_property
    def known_weights(self) -> np.ndarray:
        """Weight of each cell of ``known``: one over the number of held-out cells of its group.

        With these weights every group counts the same.
        """
        n_groups = len(self.present)
        weights = 1 / np.bincount(self.known_groups, minlength=n_groups)[self.known_groups]
        return weights if self.design.precision is None else weights * self.design.precision[self.known]

    def training_data(self, X, labels: pd.DataFrame) -> tuple[Any, pd.DataFrame, np.ndarray | None]:
        """Return expression, labels and donors of the training cells, which are what an estimator is fitted on.

        A single training donor is not passed on as a donor, because no inner fold could hold it out.
        """
        donors = None if self.donors is None else self.donors[self.train]
        if donors is not None and len(np.unique(donors)) == 1:
            donors = None
        return X[self.train], labels.iloc[self.train], donors

    def fit(self, model: Model, X, labels: pd.DataFrame, *, axes_only: bool = False, **parameters) -> Model:
        """Fit a clone of the estimator, with these parameters changed, on the training cells.

        With ``axes_only`` an estimator of this package skips all that its axes do not need, such as predictions.
        The fit logs nothing but errors: the fit of all cells has logged the same before.
        """
        with quiet():
            own = clone(model).set_params(**self.design.fixed(), **parameters)
            return (own._fit_axes if axes_only else own.fit)(*self.training_data(X, labels))


def folds(
    design: Design,
    donors: np.ndarray | None,
    random_state: int | np.random.RandomState | None,
    n_folds: int,
) -> Iterator[Split]:
    """Yield the splits of a cross-validation.

    Every fold holds out whole donors if donors are given, and an equal share of the cells of every group otherwise. The
    donors of each level of a between-donor factor are spread over the folds. If no factor varies between donors, the
    folds are balanced over the groups instead. Without donors, a cell that is alone in its group is never held out.

    Parameters
    ----------
    design
        The design of all cells.
    donors
        Donor of each cell as an integer, (N,), or None.
    random_state
        Seed or generator of the assignment to folds.
    n_folds
        The number of folds; with donors at most the number of donors.

    Raises
    ------
    ValueError
        If there is only one donor.
    """
    rng = check_random_state(random_state)
    every: Iterator[tuple[np.ndarray, np.ndarray]]
    if donors is None:
        every = _parts(cell_folds(design, rng, n_folds), n_folds)
    else:
        n_donors = len(np.unique(donors))
        n_folds = min(n_folds, n_donors)
        if n_folds < 2:
            raise ValueError(
                "groups (donors) holds one donor; held-out folds by donor need two or more, so leave the donors out."
            )
        if between_factors(design, donors):
            every = _parts(_donor_folds(design, donors, rng, n_folds)[donors], n_folds)
        else:
            n_folds = min(n_folds, int(design.counts.max()))  # the most that it can stratify
            split = StratifiedGroupKFold(n_folds, shuffle=True, random_state=int(rng.randint(2**31)))
            with warnings.catch_warnings():  # it warns of groups of few cells, whose folds are checked one by one
                warnings.simplefilter("ignore", UserWarning)
                every = iter(list(split.split(np.zeros((len(donors), 1)), design.codes, donors)))
    for train, test in every:
        yield Split(design, donors, train, test)


@dataclass(frozen=True)
class HoldOut:
    """How a certificate holds out units, which are donors if there are any and cells otherwise.

    Attributes
    ----------
    scheme
        ``"folds"``: every fold holds out :data:`MIN_UNITS` units or more of every group, except groups of a single
        unit. ``"pooled"``: it does not, and the scores of all folds have to be pooled.
    splits
        The splits of every repeat; in each of them all effects can be estimated from the training cells.
    reason
        A sentence that says what is done and why.
    overlapping
        Whether the splits of a repeat are the three pairs of three parts: split k holds out all parts but the k-th.
        Otherwise they hold out disjoint sets of cells.
    """

    scheme: str
    splits: list[list[Split]]
    reason: str
    overlapping: bool = False

    @property
    def n_folds(self) -> int:
        """The number of folds of a repeat, the smallest one if repeats differ."""
        return min(map(len, self.splits))


def hold_out(
    design: Design,
    donors: np.ndarray | None,
    random_state: int | np.random.RandomState | None,
    n_folds: int,
    n_repeats: int = 1,
) -> HoldOut:
    """Choose the folds of a certificate.

    The number of folds is the largest one up to ``n_folds`` for which every fold holds out two units of every group.
    Without donors, groups of two or three cells are never held out if the effects can be estimated from the others.
    With three donors in a group, and no factor that varies between donors, the donors form three parts, and three folds
    hold out two parts each. (If a factor varies between donors, a fit needs two donors of a level to see the variance
    between them.) Where folds cannot be had, one unit is left out at a time. With more than :data:`MAX_LEFT_OUT` units,
    ``n_folds`` folds leave out equal shares of every group instead. Groups of one unit do not count here. Without
    donors such a cell is never held out.

    Parameters
    ----------
    design, donors, random_state
        As in :func:`folds`.
    n_folds
        The largest number of folds.
    n_repeats
        Number of assignments to folds.

    Raises
    ------
    ValueError
        If no unit can be left out without losing an effect.
    """
    if n_folds < 2:
        raise ValueError(f"n_folds={n_folds}: a part can only be held out with two folds or more.")
    if n_repeats < 1:
        raise ValueError(f"n_repeats={n_repeats}: use 1 or more.")
    rng = check_random_state(random_state)
    if design.residual:
        return _of_single_units(design, rng, n_folds, n_repeats)
    unit = "cell" if donors is None else "donor"
    present = _presence(design, donors)
    units = design.counts if present is None else present.sum(axis=0)
    fewest = int(units[units > 1].min()) if (units > 1).any() else 0
    # cells of groups that are too small for two folds can stay in training, if the other groups show every effect
    for least in (2,) if donors is not None else (2, 2 * MIN_UNITS):
        aside = units < least
        for k in range(min(n_folds, int(units[~aside].min(initial=n_folds * MIN_UNITS)) // MIN_UNITS), 1, -1):
            found = [_assigned(design, donors, present, rng, k, MIN_UNITS, least) for _ in range(n_repeats)]
            if all(assigned is not None for assigned in found):
                splits = [_usable(design, donors, fold, both=True) for fold in found if fold is not None]
                if all(splits):
                    reason = f"every one of {k} folds holds out {MIN_UNITS} {unit}s or more of every group"
                    if aside.any():
                        reason += f", except {int(aside.sum())} groups of fewer than {least} {unit}s"
                    return HoldOut("folds", splits, reason)
                break  # fewer folds do not bring back the groups that are left aside
    if donors is not None and fewest == 3 and not between_factors(design, donors):
        parts = [_assigned(design, donors, present, rng, 3, 1) for _ in range(n_repeats)]
        if all(assigned is not None for assigned in parts):
            pairs = [_pairs_of_parts(design, donors, fold) for fold in parts if fold is not None]
            if all(len(splits) == 3 for splits in pairs):
                reason = (
                    "a group has 3 donors, so the folds overlap: the donors form 3 parts, and each fold holds out 2"
                )
                return HoldOut("folds", pairs, reason, overlapping=True)
    candidates = design.counts[design.counts > 1].sum() if present is None else len(present)
    if candidates <= MAX_LEFT_OUT:
        splits = [_usable(design, donors, _one_at_a_time(design, donors), both=False)]
        how = f"one {unit} is left out at a time"
    else:
        shares = [_assigned(design, donors, present, rng, n_folds, 0) for _ in range(n_repeats)]
        splits = [_usable(design, donors, fold, both=False) for fold in shares if fold is not None]
        how = f"{n_folds} folds hold out a share of every group"
    if not all(splits):
        raise ValueError(_impossible(design, units, unit))
    for of_repeat in splits:
        scored = design.subset(np.concatenate([s.test for s in of_repeat]))
        if scored is None or len(scored.codes) == scored.n_groups:
            raise ValueError(_impossible(design, units, unit))
    why = f"a group has {fewest} {unit}s" if fewest < 2 * MIN_UNITS else f"the {unit}s cannot be spread evenly"
    return HoldOut(
        "pooled", splits,
        f"{why}, so no two folds hold out {MIN_UNITS} {unit}s of every group; {how}, and held-out scores are pooled",
    )  # fmt: skip


def _of_single_units(design: Design, rng: np.random.RandomState, n_folds: int, n_repeats: int) -> HoldOut:
    """Leave one unit, or a share of all units, out at a time if the noise is what the effects leave."""
    N = len(design.codes)
    alone = min(N, n_folds) == N or N <= MAX_LEFT_OUT
    folds_of = [np.arange(N)] if alone else [cell_folds(design, rng, n_folds) for _ in range(n_repeats)]
    splits = [_usable(design, None, fold, both=False) for fold in folds_of]
    for of_repeat in splits:
        if not of_repeat or design.subset(np.concatenate([s.test for s in of_repeat])) is None:
            raise ValueError(
                "no certificate: without some of the units the effects of "
                f"{', '.join(repr(e.name) for e in design.contrasts)} cannot all be estimated; use fewer interactions."
            )
    how = "one unit is left out at a time" if alone else f"{n_folds} folds hold out a share of the units"
    return HoldOut("pooled", splits, f"the noise is what the effects leave; {how}, and held-out scores are pooled")


def _presence(design: Design, donors: np.ndarray | None) -> np.ndarray | None:
    """Return whether each donor has cells in each group (donors x groups), or None without donors."""
    if donors is None:
        return None
    out = np.zeros((int(donors.max()) + 1, design.n_groups), dtype=bool)
    out[donors, design.codes] = True
    return out


def _assigned(
    design: Design,
    donors: np.ndarray | None,
    present: np.ndarray | None,
    rng: np.random.RandomState,
    n_folds: int,
    least: int,
    least_cells: int = 2,
) -> np.ndarray | None:
    """Assign each cell to a fold, such that each fold has ``least`` units of every group; None if that fails.

    Groups of one unit are left aside, and without donors all groups of fewer than ``least_cells`` cells.
    """
    if donors is None or present is None:
        return cell_folds(design, rng, n_folds, least_cells)
    needed = present.sum(axis=0) > 1
    for _ in range(N_TRIES):
        fold = _spread(present, rng, n_folds)
        held = np.array([present[fold == k].sum(axis=0) for k in range(n_folds)])
        if (held[:, needed] >= least).all():
            return fold[donors]
    return None


def _spread(present: np.ndarray, rng: np.random.RandomState, n_folds: int) -> np.ndarray:
    """Assign each donor to a fold: to the one that has the smallest share of the donor's groups so far.

    Donors with rare groups come first, and ties are broken at random.
    """
    weights = 1 / np.maximum(present.sum(axis=0), 1)
    order = rng.permutation(len(present))
    order = order[np.argsort(-(present * weights).max(axis=1)[order], kind="stable")]
    fold, held, sizes = np.empty(len(present), dtype=np.int64), np.zeros((n_folds, present.shape[1])), np.zeros(n_folds)
    for d in order:
        share = (held * weights)[:, present[d]].sum(axis=1)
        best = np.lexsort((rng.rand(n_folds), sizes, share.round(9)))[0]
        fold[d] = best
        held[best] += present[d]
        sizes[best] += 1
    return fold


def _one_at_a_time(design: Design, donors: np.ndarray | None) -> np.ndarray:
    """Put each unit into a fold of its own; a cell that is alone in its group gets -1."""
    if donors is not None:
        return donors
    fold = np.full(len(design.codes), -1, dtype=np.int64)
    several = design.counts[design.codes] > 1
    fold[several] = np.arange(several.sum())
    return fold


def _usable(design: Design, donors: np.ndarray | None, fold: np.ndarray, *, both: bool) -> list[Split]:
    """Return the splits whose training cells identify every effect, and if ``both``, whose held-out cells do too."""
    every = [Split(design, donors, train, test) for train, test in _parts(fold, int(fold.max()) + 1)]
    out = [s for s in every if s.training is not None and not (both and s.held_out is None)]
    if 0 < len(out) < len(every):
        warn(f"the certificate uses {len(out)} of {len(every)} folds; the others lack groups that the effects need.")
    return out


def _pairs_of_parts(design: Design, donors: np.ndarray, part: np.ndarray) -> list[Split]:
    """Return the splits that hold out all parts but one, if all of them can be used."""
    every = [Split(design, donors, np.flatnonzero(part == k), np.flatnonzero(part != k)) for k in range(3)]
    return [s for s in every if s.training is not None and s.held_out is not None]


def _impossible(design: Design, units: np.ndarray, unit: str) -> str:
    """Say which groups are in the way of any certificate, and what to do."""
    names = design.group_levels()[list(design.table.factors)].astype(str).agg(" x ".join, axis=1)
    single = [f"'{name}'" for name, n in zip(names, units, strict=True) if n == 1]
    listed = ", ".join(single[:5]) + (f" and {len(single) - 5} more" if len(single) > 5 else "")
    many = "groups" if len(single) > 1 else "group"
    if not single:
        return f"no {unit} can be held out without losing an effect: use fewer interactions, or more {unit}s per group."
    return (
        f"no certificate: the {many} {listed} of {' x '.join(design.table.factors)} "
        f"{'have' if len(single) > 1 else 'has'} one {unit}, which cannot be held out, and the effects of "
        f"{', '.join(repr(e.name) for e in design.contrasts)} cannot all be estimated without "
        f"{'them' if len(single) > 1 else 'it'}; leave out an interaction or a level, or add {unit}s."
    )


def cell_folds(
    design: Design, random_state: int | np.random.RandomState | None, n_folds: int, least: int = 2
) -> np.ndarray:
    """Assign each cell to a fold, in equal shares of every group; cells of groups with fewer than ``least`` get -1.

    If the noise is what the effects leave, any cell can be held out, and cells of neighbouring groups are spread.
    """
    rng = check_random_state(random_state)
    if design.residual:
        N = len(design.codes)
        order = rng.permutation(N)
        order = order[np.argsort(design.codes[order], kind="stable")]
        fold = np.empty(N, dtype=np.int64)
        fold[order] = np.concatenate([rng.permutation(n_folds) for _ in range(-(-N // n_folds))])[:N]
        return fold
    order = rng.permutation(len(design.codes))
    rank = pd.Series(design.codes[order]).groupby(design.codes[order]).cumcount().to_numpy()
    # each group starts at a random fold, so that small groups do not all fall into the first folds
    fold = np.empty(len(order), dtype=np.int64)
    fold[order] = (rank + rng.randint(n_folds, size=design.n_groups)[design.codes[order]]) % n_folds
    fold[design.counts[design.codes] < least] = -1
    return fold


def _donor_folds(design: Design, donors: np.ndarray, rng: np.random.RandomState, n_folds: int) -> np.ndarray:
    """Assign each donor to a fold, such that the donors of every between-donor stratum are spread over the folds."""
    n_donors = len(np.unique(donors))
    order = rng.permutation(n_donors)
    order = order[np.argsort(donor_strata(design, donors)[order], kind="stable")]
    fold = np.empty(n_donors, dtype=np.int64)
    fold[order] = np.arange(n_donors) % n_folds
    return fold


def _parts(fold: np.ndarray, n_folds: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the cells outside and inside each fold that is not empty."""
    for k in range(n_folds):
        test = np.flatnonzero(fold == k)
        if len(test):
            yield np.flatnonzero(fold != k), test
