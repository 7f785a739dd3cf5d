"""Splits of the cells into training and held-out cells; where donors are given, whole donors are held out.

Only labels are used here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.utils import check_random_state

from .._logging import quiet
from .design import Design
from .samples import between_factors, donor_strata

Model = TypeVar("Model")


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
        """The same effects on the training cells, or None if one of them cannot be estimated there."""
        return self.design.subset(self.train)

    @cached_property
    def held_out(self) -> Design | None:
        """The same effects on the held-out cells, or None if one of them cannot be estimated there."""
        return self.design.subset(self.test)

    @cached_property
    def present(self) -> np.ndarray:
        """Indices, among all groups, of the groups with training cells, in ascending order."""
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
        return 1 / np.bincount(self.known_groups, minlength=n_groups)[self.known_groups]

    def training_data(self, X, labels: pd.DataFrame) -> tuple[Any, pd.DataFrame, np.ndarray | None]:
        """Return expression, labels and donors of the training cells, which are what an estimator is fitted on."""
        return X[self.train], labels.iloc[self.train], None if self.donors is None else self.donors[self.train]

    def fit(self, model: Model, X, labels: pd.DataFrame, **parameters) -> Model:
        """Fit a clone of the estimator, with these parameters changed, on the training cells.

        The fit logs nothing but errors: the fit of all cells has logged the same before.
        """
        with quiet():
            return clone(model).set_params(**parameters).fit(*self.training_data(X, labels))


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
            split = StratifiedGroupKFold(n_folds, shuffle=True, random_state=int(rng.randint(2**31)))
            every = split.split(np.zeros((len(donors), 1)), design.codes, donors)
    for train, test in every:
        yield Split(design, donors, train, test)


def cell_folds(design: Design, random_state: int | np.random.RandomState | None, n_folds: int) -> np.ndarray:
    """Assign each cell to a fold, in equal shares of every group; a cell that is alone in its group gets -1."""
    rng = check_random_state(random_state)
    order = rng.permutation(len(design.codes))
    rank = pd.Series(design.codes[order]).groupby(design.codes[order]).cumcount().to_numpy()
    # each group starts at a random fold, so that small groups do not all fall into the first folds
    fold = np.empty(len(order), dtype=np.int64)
    fold[order] = (rank + rng.randint(n_folds, size=design.n_groups)[design.codes[order]]) % n_folds
    fold[design.counts[design.codes] == 1] = -1
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
