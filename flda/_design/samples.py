"""Donors and samples: which factors vary between donors, and what enters the error term. Labels only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from .._logging import get_logger
from .design import Design

logger = get_logger(__name__)


@dataclass(frozen=True)
class Samples:
    """The samples of a data set: the cells of one donor in one group.

    Attributes
    ----------
    codes
        Sample of each cell, (N,).
    counts
        Cells per sample n_s, (S,).
    groups
        Group of each sample, (S,).
    """

    codes: np.ndarray
    counts: np.ndarray
    groups: np.ndarray

    @classmethod
    def of(cls, groups: np.ndarray, donors: np.ndarray) -> Samples:
        """Samples of cells with the given group and donor codes, ordered by group, then donor."""
        n_donors = int(donors.max()) + 1
        codes, keys = pd.factorize(groups * n_donors + donors, sort=True)
        return cls(codes, np.bincount(codes), keys // n_donors)

    def show_donors(self) -> bool:
        """Whether the variance between donors is identifiable: a group has two donors, and a donor has two cells."""
        n_samples = len(self.counts)
        return len(self.codes) > n_samples > len(np.unique(self.groups))


def sample_units(design: Design, donors: np.ndarray | None) -> Samples:
    """The samples of a design; without donors all cells count as one donor's, and the samples are the groups."""
    return Samples.of(design.codes, np.zeros(len(design.codes), dtype=np.int64) if donors is None else donors)


def donor_levels(design: Design, donors: np.ndarray) -> np.ndarray:
    """Level of every factor (columns, as in ``design.table.factors``) of each donor; -1 where a donor has several."""
    cells = design.table.groups[design.codes]
    frame = pd.DataFrame(cells).groupby(donors)
    low, high = frame.min().to_numpy(), frame.max().to_numpy()
    return np.where(low == high, low, -1)


def between_factors(design: Design, donors: np.ndarray) -> tuple[str, ...]:
    """Factors of which every donor has one level, as with a genotype or a treatment."""
    levels = donor_levels(design, donors)
    return tuple(f for f, column in zip(design.table.factors, levels.T, strict=True) if (column >= 0).all())


def spanning_donor(design: Design, donors: np.ndarray, factor: str) -> int | None:
    """A donor with several levels of a factor of which most donors have one; None if there is no such donor."""
    column = donor_levels(design, donors)[:, design.table.factors.index(factor)]
    several = column < 0
    return int(np.flatnonzero(several)[0]) if 0 < several.sum() < len(column) / 2 else None


def donor_strata(design: Design, donors: np.ndarray) -> np.ndarray:
    """Combination of the levels of the between-donor factors of each donor, as codes (one code if there is none)."""
    levels = donor_levels(design, donors)
    return np.unique(levels[:, (levels >= 0).all(axis=0)], axis=0, return_inverse=True)[1].ravel()


def samples_in_error(design: Design, donors: np.ndarray | None, names: np.ndarray | None = None) -> Samples | None:
    """The samples whose spread belongs in the error term: when donors are given and a factor varies between them.

    ``names`` of the donors are for the log.
    """
    if donors is None:
        return None
    for factor in design.table.factors:
        if (d := spanning_donor(design, donors, factor)) is not None:
            logger.warning(
                "donor '%s' has cells in several levels of %r while most donors have one; if donor names are "
                "reused in different levels, make them unique (level and donor joined)",
                d if names is None else names[d], factor,
            )  # fmt: skip
    between = between_factors(design, donors)
    if not between:
        return None
    samples = Samples.of(design.codes, donors)
    if not samples.show_donors():
        logger.warning(
            "%s varies between donors, but no group has two donors with several cells, so the spread between donors "
            "cannot be estimated: it stays out of the error term, and effects of %s are confounded with the donors",
            between[0], between[0],
        )  # fmt: skip
        return None
    return samples
