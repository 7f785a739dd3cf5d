"""Donors and samples: which factors vary between donors, and which samples enter the error term.

Only labels are used here. A factor *varies between donors* if every donor has a single level of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from .._logging import warn
from .design import Design


@dataclass(frozen=True)
class Samples:
    """The samples of a data set, where a sample is the cells of one donor in one group.

    Attributes
    ----------
    codes
        Sample of each cell, (N,).
    counts
        Number of cells in each sample n_s, (S,).
    groups
        Group of each sample, (S,).
    """

    codes: np.ndarray
    counts: np.ndarray
    groups: np.ndarray

    @classmethod
    def of(cls, groups: np.ndarray, donors: np.ndarray) -> Samples:
        """Make the samples of cells with these group and donor codes, ordered by group and then by donor."""
        n_donors = int(donors.max()) + 1
        codes, keys = pd.factorize(groups * n_donors + donors, sort=True)
        return cls(codes, np.bincount(codes), keys // n_donors)

    def show_donors(self) -> bool:
        """Return whether the between-donor variance is identifiable.

        It is if some group has two donors and some sample has two cells.
        """
        n_samples = len(self.counts)
        return len(self.codes) > n_samples > len(np.unique(self.groups))


def sample_units(design: Design, donors: np.ndarray | None) -> Samples:
    """Return the samples of a design; without donors, all cells of a group form one sample."""
    return Samples.of(design.codes, np.zeros(len(design.codes), dtype=np.int64) if donors is None else donors)


def donor_levels(design: Design, donors: np.ndarray) -> np.ndarray:
    """Return the level of every factor for each donor, or -1 where a donor has several levels.

    The result is donors x factors, with columns in the order of ``design.table.factors``.
    """
    cells = design.table.groups[design.codes]
    frame = pd.DataFrame(cells).groupby(donors)
    low, high = frame.min().to_numpy(), frame.max().to_numpy()
    return np.where(low == high, low, -1)


def between_factors(design: Design, donors: np.ndarray) -> tuple[str, ...]:
    """Return the factors that vary between donors, such as a genotype or a treatment."""
    levels = donor_levels(design, donors)
    return tuple(f for f, column in zip(design.table.factors, levels.T, strict=True) if (column >= 0).all())


def spanning_donor(design: Design, donors: np.ndarray, factor: str) -> int | None:
    """Return a donor with several levels of a factor of which most donors have one, or None without such a donor.

    Such a donor is often a sign that donor names are reused.
    """
    column = donor_levels(design, donors)[:, design.table.factors.index(factor)]
    several = column < 0
    return int(np.flatnonzero(several)[0]) if 0 < several.sum() < len(column) / 2 else None


def donor_strata(design: Design, donors: np.ndarray) -> np.ndarray:
    """Return the combination of levels of all between-donor factors for each donor, as a code.

    All donors have the same code if no factor varies between donors.
    """
    levels = donor_levels(design, donors)
    return np.unique(levels[:, (levels >= 0).all(axis=0)], axis=0, return_inverse=True)[1].ravel()


def samples_in_error(design: Design, donors: np.ndarray | None, names: np.ndarray | None = None) -> Samples | None:
    """Return the samples whose spread belongs in the error term, or None if the error term has cells only.

    Samples enter the error term if donors are given, some factor varies between them, and the between-donor variance is
    identifiable. The names of the donors, ``names``, are only used in log messages.
    """
    if donors is None:
        return None
    for factor in design.table.factors:
        if (d := spanning_donor(design, donors, factor)) is not None:
            warn(
                f"donor '{d if names is None else names[d]}' has cells in several levels of {factor!r} while most "
                "donors have one; if the same donor name is used in different levels, make the names unique, for "
                "example by joining level and donor."
            )
    between = between_factors(design, donors)
    if not between:
        return None
    samples = Samples.of(design.codes, donors)
    if not samples.show_donors():
        warn(
            f"{between[0]} varies between donors, but no group has two donors with several cells, so the variance "
            f"between donors cannot be estimated; the error term leaves it out, and effects of {between[0]} are "
            "confounded with the donors."
        )
        return None
    return samples
