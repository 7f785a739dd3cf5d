"""How the training cells of a split make up group means and the within scatter, and what all folds share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .._data import arrays
from .._data.device import asarray_like, namespace
from .._design.samples import Samples
from .._design.splits import Split
from .within import Within, donor_scaling, n_effective, scaled_centres


class Training:
    """The training cells of a split. Symbols are those of :mod:`flda._solve.within`.

    Attributes
    ----------
    sample_codes, sample_counts, groups, full
        Sample of each training cell (n,); cells (S,), training group (S,) and index among all samples (S,) of each
        training sample. Without donors in the error term the samples are the groups.
    shares
        Weight of each training cell in the mean of its group, (n,).
    weights
        Weight w_c of each training group in the scatter, (C,).
    norm
        The sum that the weights of all cells are divided by to give those.
    samples, scaling
        The training samples and their phi_s (S,), when donors are in the error term; else None.
    """

    def __init__(self, within: Within, split: Split):
        design = split.training
        assert design is not None  # folds that leave an effect without its groups are not evaluated
        train, codes, counts = split.train, design.codes, design.counts
        self.split, self.design, self.full_within = split, design, within
        self.full, first, self.sample_codes = np.unique(
            within.sample_codes[train], return_index=True, return_inverse=True
        )
        self.sample_counts = np.bincount(self.sample_codes)
        self.groups = codes[first]
        n_samples = np.bincount(self.groups)
        self.shares = 1 / (n_samples[self.groups] * self.sample_counts)[self.sample_codes]
        raw = within.weights[split.present]
        self.norm = np.sum(raw * (counts - n_samples))
        self.weights = raw / self.norm
        self.samples, self.scaling = None, None
        if within.samples is not None and len(self.groups) > len(counts):
            self.samples = Samples(self.sample_codes, self.sample_counts, self.groups)
            self.scaling = donor_scaling(self.samples, self.weights)

    @property
    def n_effective(self) -> np.ndarray:
        """Cells whose independent noise the mean of each training group holds, (C,)."""
        if self.samples is None:
            return self.design.counts
        return n_effective(self.samples)

    def group_means(self, own: np.ndarray) -> np.ndarray:
        """Group means (C x p) from the means of the samples (S x p): every donor counts the same."""
        n_samples = np.bincount(self.groups)
        return arrays.indicator(self.groups, len(n_samples)) @ own / n_samples[:, None]

    def within(self, sums: np.ndarray | None = None) -> Within:
        """The within scatter of the training cells; sums of their samples (S x p) save a pass if known."""
        X = self.full_within.X[self.split.train]  # type: ignore[index]
        if sums is None:
            sums = arrays.group_sums(X, self.sample_codes, len(self.full))
        own = sums / self.sample_counts[:, None]
        means = self.group_means(own)
        centres = means[self.groups]
        if self.samples is not None:
            centres = scaled_centres(own, means, self.samples, self.weights)
        design = self.design
        return Within(
            X, design.codes, design.counts, self.weights, means, self.sample_codes, own, centres, self.samples
        )


def add_to_diagonal(matrix: np.ndarray, values: np.ndarray | float) -> None:
    """Add values to the diagonal of a matrix in place, where the matrix is."""
    each = namespace(matrix).arange(len(matrix))
    matrix[each, each] += asarray_like(matrix, values)


def scored(
    held_out, Z: Sequence[np.ndarray], means: np.ndarray, centre: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """K = G Z and the scores of the held-out cells on Z, for every Z."""
    together = np.hstack(Z)
    scores = np.split(arrays.times(held_out, together) - centre @ together, len(Z), axis=1)
    return [(means @ z, s) for z, s in zip(Z, scores, strict=True)]
