"""Group means and within-group scatter of the training cells of a split, and what all folds share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .._data import arrays
from .._data.device import asarray_like, namespace
from .._design.samples import Samples
from .._design.splits import Split
from .objective import Noise
from .sample_weights import donor_scaling, n_effective, scaled_centres
from .slopes import Deviations, Slopes
from .within import Within


class FoldSpace(NamedTuple):
    """The group space of the training cells of a split for one g, and the scores of its held-out cells.

    Attributes
    ----------
    K
        ``G M_e(g)^-1 G'`` of the training cells, C x C. With covariates, their slopes are q further rows of G.
    scores
        ``(x - centre)' M_e(g)^-1 G'`` for each cell x of ``split.known``, n x C, less what its covariates predict.
    noise
        The noise of the group means of the training cells.
    """

    K: np.ndarray
    scores: np.ndarray
    noise: Noise


class Training:
    """The training cells of a split. Symbols are those of :mod:`flda._solve.within`.

    Parameters
    ----------
    within
        The data of all cells.
    split
        A split in which every effect can be estimated from the training cells.

    Attributes
    ----------
    sample_codes
        Sample of each training cell, (n,). Without donors in the error term the samples are the groups.
    sample_counts, groups, full
        Number of cells, training group, and index among all samples of each training sample, (S,).
    shares
        Weight of each training cell in the mean of its group, (n,).
    weights
        Weight w_c of each training group in the scatter, (C,): the weight in the full fit, over ``norm``.
    norm
        The sum of w_c (n_c - S_c) over the training groups with the weights of the full fit.
    samples, scaling
        The training samples and their phi_s (S,), if donors are in the error term, and None otherwise.
    deviations
        How the covariates of the training cells deviate from their sample means, with the weights of the full fit; None
        without covariates.
    """

    def __init__(self, within: Within, split: Split):
        design = split.training
        assert design is not None  # folds in which an effect cannot be estimated are never evaluated
        train, codes, counts = split.train, design.codes, design.counts
        columns, present, units = design.covariates, split.present, design.unit_model
        if units is not None:  # one sample without a mean
            codes, counts = np.zeros_like(codes), np.array([len(codes)])
            columns, present = units.columns, np.zeros(1, dtype=np.int64)
        self.split, self.design, self.full_within, self.units = split, design, within, units
        self.codes, self.counts = codes, counts
        self.full, first, self.sample_codes = np.unique(
            within.sample_codes[train], return_index=True, return_inverse=True
        )
        self.sample_counts = np.bincount(self.sample_codes)
        self.groups = codes[first]
        n_samples = np.bincount(self.groups)
        self.shares = 1 / (n_samples[self.groups] * self.sample_counts)[self.sample_codes]
        if units is not None:
            self.shares, n_samples = np.zeros(len(codes)), np.zeros(1, dtype=np.int64)
        raw = within.weights[present]
        self.norm = np.sum(raw * (counts - n_samples))
        self.deviations = None
        if columns is not None:
            self.deviations = Deviations(columns, self.sample_codes, raw[codes] / self.norm, centred=units is None)
            self.norm /= self.deviations.factor
        self.weights = raw / self.norm
        self.samples, self.scaling = None, None
        if within.samples is not None and len(self.groups) > len(counts):
            self.samples = Samples(self.sample_codes, self.sample_counts, self.groups)
            self.scaling = donor_scaling(self.samples, self.weights, within.delta)

    def coordinates(self, slopes: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return group means, C x p, and slopes of covariates, or None, from the slopes of a linear model of units."""
        assert self.units is not None
        C = self.design.n_groups
        rows = self.units.to_groups @ slopes
        return rows[:C], rows[C:] if len(rows) > C else None

    @property
    def n_effective(self) -> np.ndarray:
        """Number of independent cells whose noise is taken to equal that of the mean of each training group, (C,).

        The design knows better if the noise is what the effects leave.
        """
        if self.samples is None:
            return self.design.counts
        return n_effective(self.samples)

    def group_means(self, own: np.ndarray) -> np.ndarray:
        """Compute group means (C x p) from sample means (S x p), such that every donor counts the same."""
        n_samples = np.bincount(self.groups)
        return arrays.indicator(self.groups, len(n_samples)) @ own / n_samples[:, None]

    def within(self, sums: np.ndarray | None = None) -> Within:
        """Compute the group means and the scatter of the training cells.

        ``sums`` are the sums of the cells of each training sample (S x p), which save a pass over the data.
        """
        X = self.full_within.X[self.split.train]
        if self.units is not None:
            return Within.of_units(X, self.units, scaled=True)
        if sums is None:
            sums = arrays.group_sums(X, self.sample_codes, len(self.full))
        own, design, slopes = sums / self.sample_counts[:, None], self.design, None
        if self.deviations is not None:
            slopes = Slopes.fit(X, self.deviations, self.weights[design.codes] / self.deviations.factor)
            own = own - self.deviations.means @ slopes.slopes
        means = self.group_means(own)
        centres = means[self.groups]
        if self.samples is not None:
            centres = scaled_centres(own, means, self.samples, self.weights, self.full_within.delta)
        return Within(
            X,
            design.codes,
            design.counts,
            self.weights,
            means,
            self.sample_codes,
            own,
            centres,
            self.samples,
            self.full_within.delta,
            slopes,
        )


def add_to_diagonal(matrix: np.ndarray, values: np.ndarray | float) -> None:
    """Add values to the diagonal of a matrix in place, in memory or on the GPU."""
    each = namespace(matrix).arange(len(matrix))
    matrix[each, each] += asarray_like(matrix, values)


def scored(
    products: np.ndarray,
    Z: Sequence[np.ndarray],
    means: np.ndarray,
    centre: np.ndarray,
    traces: Sequence[float],
    counts: np.ndarray,
    covariates: tuple[np.ndarray, np.ndarray] | None = None,
) -> list[FoldSpace]:
    """Compute ``K = G Z`` and the scores of the held-out cells on Z, for every Z.

    ``products`` are those of the held-out cells with all Z side by side, and perhaps further columns. ``traces`` are
    the noise of a cell for every Z, and ``counts`` the number of cells of each group mean, (C,). ``covariates`` are
    those of the held-out cells, n x q, and their slopes, q x p.
    """
    together = np.hstack(Z)
    products = products[:, : together.shape[1]] - centre @ together
    if covariates is not None:
        products -= covariates[0] @ (covariates[1] @ together)
    scores = np.split(products, len(Z), axis=1)
    return [FoldSpace(means @ z, s, Noise(d, counts)) for z, s, d in zip(Z, scores, traces, strict=True)]
