"""Means of groups, and how they change if a block of their units is left out.

A unit is a cell, or the mean of a donor's cells in a group. The units of every group are spread over up to ten blocks,
and what is stored are the sums of the cells of every block.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import scipy.sparse as sp

from .._data.summary import summarise
from .._design.design import Design
from .._design.samples import Samples, samples_in_error
from .._error.adjusted import adjusted
from .._logging import quiet

BLOCKS = 10


@dataclass(frozen=True)
class BlockMeans:
    """Sums of blocks of units, from which means and their replicates follow.

    Attributes
    ----------
    design
        The groups and effects.
    samples
        Blocks of cells in groups, or donors in groups.
    block
        Block of every sample, (S,).
    equal
        Whether every sample counts the same in the mean of its group, and is the unit of the noise.
    sums
        Sum of the cells of every sample, S x p.
    squares
        Sum of the squares of the cells of every group, C x p.
    """

    design: Design
    samples: Samples
    block: np.ndarray
    equal: bool
    sums: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(
        cls, X, design: Design, donors: np.ndarray | None, names: np.ndarray | None, random_state: int | None
    ) -> BlockMeans:
        """Assign units to blocks, and read the data once.

        Parameters
        ----------
        X
            Expression, N x p, of any kind.
        design
            The groups and effects.
        donors, names
            Donor of each cell as an integer, and the names of the donors, or None.
        random_state
            Seed of the assignment.
        """
        rng = np.random.default_rng(random_state)
        if donors is None:
            order = rng.permutation(len(design.codes))
            rank = np.empty(len(order), dtype=np.int64)
            rank[order] = pd.Series(order).groupby(design.codes[order]).cumcount()
            samples = Samples.of(design.codes, rank % BLOCKS)
            block, equal = _of_samples(samples, rank % BLOCKS), False
        else:
            with quiet():
                equal = samples_in_error(design, donors, names) is not None
            samples = Samples.of(design.codes, donors)
            donor = _of_samples(samples, donors)
            # donors of the same groups follow each other, so that every group is spread over the blocks
            first = pd.Series(samples.groups).groupby(donor).min().to_numpy()
            block_of = np.empty(len(first), dtype=np.int64)
            block_of[np.lexsort((rng.random(len(first)), first))] = np.arange(len(first)) % BLOCKS
            block = block_of[donor]
        summary = summarise(X, samples.codes, len(samples.counts))
        sums, squares = summary.sums, summary.squares
        if design.covariates is not None:
            less = adjusted(X, design.covariates, samples.codes, sums, squares)
            sums, squares = less.sums, less.squares
        return cls(design, samples, block, equal, sums, _total(samples.groups, design.n_groups) @ squares)

    @cached_property
    def units(self) -> np.ndarray:
        """The number of units of every group, (C,)."""
        return self.units_in(self.everything)

    @cached_property
    def means(self) -> np.ndarray:
        """Group means, C x p."""
        return self.means_of(self.everything)

    @cached_property
    def variances(self) -> np.ndarray:
        """Variance of the units of every group, C x p; a group of one unit gets the pooled one."""
        if self.equal:
            spread = self.sums / self.samples.counts[:, None] - self.means[self.samples.groups]
            squares = _total(self.samples.groups, self.design.n_groups) @ spread**2
        else:
            squares = np.maximum(self.squares - self.design.counts[:, None] * self.means**2, 0)
        df = self.units - 1
        out = squares / np.maximum(df, 1)[:, None]
        out[df == 0] = squares.sum(axis=0) / max(df.sum(), 1)
        return out

    @property
    def everything(self) -> np.ndarray:
        """All samples, a boolean array (S,)."""
        return np.ones(len(self.block), dtype=bool)

    @property
    def n_blocks(self) -> int:
        """The number of blocks, B."""
        return int(self.block.max()) + 1

    def units_in(self, keep: np.ndarray) -> np.ndarray:
        """Count the units of every group in some of the samples, (C,)."""
        weights = None if self.equal else self.samples.counts[keep]
        return np.bincount(self.samples.groups[keep], weights, self.design.n_groups).astype(np.int64)

    def means_of(self, keep: np.ndarray) -> np.ndarray:
        """Compute the group means of some of the samples, C x p; NaN for a group without any."""
        groups, counts = self.samples.groups[keep], self.samples.counts[keep]
        weights = 1 / counts if self.equal else np.ones(len(groups))
        total = _total(groups, self.design.n_groups, weights) @ self.sums[keep]
        with np.errstate(invalid="ignore"):
            return total / np.bincount(groups, weights * counts, self.design.n_groups)[:, None]

    def change(self, b: int, keep: np.ndarray, means: np.ndarray) -> np.ndarray:
        """Compute how the means of some samples change if the block b is left out, C x p.

        The changes are scaled such that the sum of their squares over blocks, times (B - 1) / B, is the variance of the
        mean, also if a group has units in k < B blocks only (Kott 2001). A group with units in one block does not
        change.

        Parameters
        ----------
        b
            The block.
        keep
            The samples.
        means
            Their means, C x p.
        """
        C, B = self.design.n_groups, self.n_blocks
        pairs = np.unique(np.column_stack([self.samples.groups, self.block])[keep], axis=0)
        k = np.bincount(pairs[:, 0], minlength=C)
        moved = np.zeros(C, dtype=bool)
        moved[pairs[pairs[:, 1] == b, 0]] = True
        moved &= k > 1
        out = np.zeros_like(means)
        scale = np.sqrt(B * (k[moved] - 1) / ((B - 1) * k[moved]))
        out[moved] = (self.means_of(keep & (self.block != b))[moved] - means[moved]) * scale[:, None]
        return out


def _total(groups: np.ndarray, n_groups: int, weights: np.ndarray | None = None) -> sp.csr_array:
    """Return the matrix that adds up the samples of every group, C x S."""
    n = len(groups)
    weights = np.ones(n) if weights is None else weights
    return sp.csr_array((weights, (groups, np.arange(n))), shape=(n_groups, n))


def _of_samples(samples: Samples, of_cells: np.ndarray) -> np.ndarray:
    """Return a code of every sample, (S,), from that of its cells."""
    out = np.empty(len(samples.counts), dtype=np.int64)
    out[samples.codes] = of_cells
    return out
