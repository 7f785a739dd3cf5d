"""Splits of the cells into training and held-out ones: whole donors where donors are given. Labels only."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.utils import check_random_state

from .._logging import get_logger
from .design import Design
from .samples import between_factors, donor_strata

logger = get_logger(__name__)


def folds(
    design: Design,
    donors: np.ndarray | None,
    random_state: int | np.random.RandomState | None,
    n_folds: int,
):
    """Training and test cells of each fold: whole donors, or equal shares of the cells of every group.

    Donors are dealt so that each level of a factor that varies between them is spread over the folds; without such a
    factor so that the groups are. A group of one cell is never held out when there are no donors.
    """
    N = len(design.codes)
    rng = check_random_state(random_state)
    if donors is not None:
        n_donors = len(np.unique(donors))
        n_folds = min(n_folds, n_donors)
        if n_folds < 2:
            raise ValueError("groups (donors) holds one donor; held-out folds by donor need two or more.")
        if between_factors(design, donors):
            order = rng.permutation(n_donors)
            order = order[np.argsort(donor_strata(design, donors)[order], kind="stable")]
            fold = np.empty(n_donors, dtype=np.int64)
            fold[order] = np.arange(n_donors) % n_folds
            for k in range(n_folds):
                yield np.flatnonzero(fold[donors] != k), np.flatnonzero(fold[donors] == k)
            return
        split = StratifiedGroupKFold(n_folds, shuffle=True, random_state=int(rng.randint(2**31)))
        yield from split.split(np.zeros((N, 1)), design.codes, donors)
        return
    fold = cell_folds(design, rng, n_folds)
    for k in range(n_folds):
        test = np.flatnonzero(fold == k)
        if len(test):
            yield np.flatnonzero(fold != k), test


def cell_folds(design: Design, random_state: int | np.random.RandomState | None, n_folds: int) -> np.ndarray:
    """Fold of each cell, in equal shares of every group; -1 for the cell of a group that has no other."""
    rng = check_random_state(random_state)
    order = rng.permutation(len(design.codes))
    rank = pd.Series(design.codes[order]).groupby(design.codes[order]).cumcount().to_numpy()
    # start each group at its own fold so that small groups do not all land in the first ones
    fold = np.empty(len(order), dtype=np.int64)
    fold[order] = (rank + rng.randint(n_folds, size=design.n_groups)[design.codes[order]]) % n_folds
    fold[design.counts[design.codes] == 1] = -1
    return fold
