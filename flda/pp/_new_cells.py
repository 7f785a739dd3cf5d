"""Four ways to draw new cells for a group from the real cells of a design.

Each function returns the labels and the counts of n new cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp

from ..simulate import CountModel

MAX_FOLD = 4.0  # largest fold change by which the counts of a cell are multiplied; the rest is drawn from the model

Group = tuple  # a level of every factor
NewCells = tuple[pd.DataFrame, sp.csr_matrix]  # labels and counts


@dataclass(frozen=True)
class RealCells:
    """Counts and labels of the real cells that have a label in every column.

    Attributes
    ----------
    counts, total
        Counts, N x p, CSR, and their total per cell, (N,).
    labels
        Factors, nuisance factors and the donor, N rows.
    factors
        Columns of the labels whose combinations are the groups.
    groups
        Rows of the cells of every occupied group.
    """

    counts: sp.csr_matrix
    total: np.ndarray
    labels: pd.DataFrame
    factors: list[str]
    groups: dict[Group, np.ndarray]

    @classmethod
    def of(cls, counts: sp.csr_matrix, labels: pd.DataFrame, factors: list[str]) -> RealCells:
        """Sort cells into groups."""
        found = labels[factors].reset_index(drop=True).groupby(factors, observed=True, sort=True).indices
        groups = {g if isinstance(g, tuple) else (g,): np.sort(rows) for g, rows in found.items()}
        return cls(counts, np.asarray(counts.sum(axis=1)).ravel(), labels, factors, groups)

    def labels_in(self, group: Group, rows: np.ndarray) -> pd.DataFrame:
        """Labels of some cells with their factors set to a group; nuisance levels and donors are kept."""
        levels = dict(zip(self.factors, group, strict=True))
        return self.labels.iloc[rows].assign(**levels).reset_index(drop=True)


def simulate(
    cells: RealCells, group: Group, n: int, *, model: CountModel, variation: float, rng: np.random.Generator
) -> NewCells:
    """Draw cells from a model of the counts.

    Nuisance levels and donors are those of cells of the group, or of any cells if the group is empty.
    """
    rows = in_turn(cells.groups.get(group, np.arange(len(cells.labels))), n, rng)
    labels = cells.labels_in(group, rows)
    return labels, model.counts(labels, model.library_of(labels, rng), rng, variation=variation)


def thin(cells: RealCells, group: Group, n: int, *, variation: float, rng: np.random.Generator) -> NewCells:
    """Copy cells of the group and keep every transcript with probability ``2 ** -variation``."""
    rows = in_turn(cells.groups[group], n, rng)
    return cells.labels.iloc[rows], thinned(cells.counts[rows], 2.0**-variation, rng)


def recombine(cells: RealCells, group: Group, n: int, *, variation: float, rng: np.random.Generator) -> NewCells:
    """Take each gene from one of two cells of the group, from the second with probability ``variation / 2``.

    Of the two, the cell with more counts is first thinned to the total count of the other. Labels are the first's.
    """
    own = cells.groups[group]
    if len(own) < 2:
        name = " x ".join(map(str, group))
        raise ValueError(
            f"group {name} has one cell, but method='recombine' needs two per group; use method='simulate' or "
            "'transfer'."
        )
    first = in_turn(own, n, rng)
    second = own[(np.searchsorted(own, first) + rng.integers(1, len(own), size=n)) % len(own)]
    depth = np.minimum(cells.total[first], cells.total[second])
    a, b = (thinned(cells.counts[i], depth / cells.total[i], rng).toarray() for i in (first, second))
    counts = sp.csr_matrix(np.where(rng.random(a.shape) < variation / 2, b, a))
    return cells.labels.iloc[first], counts


def transfer(
    cells: RealCells, group: Group, n: int, *, sources: list[Group], model: CountModel, rng: np.random.Generator
) -> NewCells:
    """Copy cells of the most similar source groups and scale their counts by the fold changes of the main effects.

    The most similar groups are those that share the largest number of levels with the group. Let f be the ratio of
    the expected mean in the group to that in the source. A count y becomes Binomial(y, f) where f < 1 and
    y + Poisson(y (f - 1)) where f > 1: its mean is multiplied by f, and the cell keeps its deviation from the mean. A
    ratio above 4 would copy few transcripts many times. In its place 4 is used, and the rest of the expected mean is
    added from a Poisson distribution.
    """
    common = np.array([sum(a == b for a, b in zip(g, group, strict=True)) for g in sources])
    nearest = [g for g, c in zip(sources, common, strict=True) if c == common.max()]
    rows = rng.choice(np.concatenate([cells.groups[g] for g in nearest]), size=n)
    labels = cells.labels_in(group, rows)
    here, there = model.group_means(cells.labels.iloc[rows]), model.group_means(labels)
    fold = np.minimum(there / np.maximum(here, 1e-12), MAX_FOLD)
    y = cells.counts[rows].toarray()
    changed = rng.binomial(y.astype(np.int64), np.minimum(fold, 1)) + rng.poisson(y * np.maximum(fold - 1, 0))
    library = cells.total[rows, None] / model.scale
    fresh = rng.poisson(np.maximum(there - fold * here, 0) * library)
    return labels, sp.csr_matrix((changed + fresh).astype(np.float64))


def in_turn(rows: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw n of the rows in random order so that no row is drawn more than once more often than another."""
    rounds = -(-n // len(rows))
    return np.concatenate([rng.permutation(rows) for _ in range(rounds)])[:n]


def thinned(Y: sp.csr_matrix, keep: float | np.ndarray, rng: np.random.Generator) -> sp.csr_matrix:
    """Keep every transcript with a probability, one for all cells or one per cell."""
    Y = Y.copy()
    each = keep if np.isscalar(keep) else np.repeat(np.asarray(keep), np.diff(Y.indptr))
    Y.data = rng.binomial(Y.data.astype(np.int64), np.minimum(each, 1.0)).astype(np.float64)
    Y.eliminate_zeros()
    return Y
