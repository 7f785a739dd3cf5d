"""Z = M_e(g)^-1 G' for the shrunken within scatter M_e(g) = (1 - g) M_e + g T.

``Primal`` holds M_e (p x p) and suits p <= N; ``Dual`` holds the Gram matrix of the cells (N x N) and
suits N < p. Both can also evaluate cross-validation folds from what they hold, so tuning g never reads the
data again for its scatter.

Dual algebra: with R the weighted residuals (M_e = R'R), a = 1 - g and Kc = R T^-1 R',
``M_e(g)^-1 = T^-1 (I - a R' (g I + a Kc)^-1 R T^-1) / g`` (Woodbury); small a and g need no division by a.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from .._data import arrays
from .._data.device import beside, namespace
from .._design.samples import Samples
from .within import Within, donor_lift, lifted_centres


class Fold(Protocol):
    """A training set and its held-out cells, in group space."""

    def group_spaces(self, grid: Sequence[float]) -> list[tuple[np.ndarray, np.ndarray]]:
        """For every g, K = G M_e(g)^-1 G' (C x C) of the training cells and ``(x - centre)' Z`` of held-out ones."""
        ...


class Training:
    """How the training cells of a fold make up group means and the within scatter.

    Attributes
    ----------
    places
        Sample (or group) of each training cell, (n,); ``place_counts`` (S,) are their cells, ``groups`` (S,) their
        training groups and ``full`` (S,) their places among all cells.
    shares
        Weight of each training cell in the mean of its group, (n,).
    weights
        Weight of each training group in the scatter, (C,), and ``norm``, the sum that the full weights are divided by.
    samples
        The training samples, when donors are in the error term; ``lift`` (S,) are their phi.
    """

    def __init__(self, within: Within, train: np.ndarray, codes: np.ndarray, counts: np.ndarray):
        self.full, first, self.places = np.unique(within.places[train], return_index=True, return_inverse=True)
        self.place_counts = np.bincount(self.places)
        self.groups = codes[first]
        n_places = np.bincount(self.groups)
        self.shares = 1 / (n_places[self.groups] * self.place_counts)[self.places]
        # the first cell of each training group tells its group in the full design
        raw = within.weights[within.codes[train][np.unique(codes, return_index=True)[1]]]
        self.norm = np.sum(raw * (counts - n_places))
        self.weights = raw / self.norm
        self.samples, self.lift = None, None
        if within.samples is not None and len(self.groups) > len(counts):
            self.samples = Samples(self.places, self.place_counts, self.groups)
            self.lift = donor_lift(self.samples, self.weights)

    def means(self, own: np.ndarray) -> np.ndarray:
        """Group means from the means of the places."""
        n_places = np.bincount(self.groups)
        return arrays.indicator(self.groups, len(n_places)) @ own / n_places[:, None]

    def within(self, within: Within, train: np.ndarray, codes: np.ndarray, counts: np.ndarray) -> Within:
        """The within scatter of the training cells."""
        X = within.X[train]  # type: ignore[index]
        own = arrays.group_sums(X, self.places, len(self.full)) / self.place_counts[:, None]
        means = self.means(own)
        centres = means[self.groups]
        if self.samples is not None:
            centres = lifted_centres(own, means, self.samples, self.weights)
        return Within(X, codes, counts, self.weights, means, self.places, own, centres, self.samples)


def _add_to_diagonal(matrix: np.ndarray, values: np.ndarray | float) -> None:
    each = namespace(matrix).arange(len(matrix))
    matrix[each, each] += beside(matrix, values)


def singular_message(within: Within) -> str:
    """What to do about a scatter that cannot be inverted."""
    (N, p), C = within.shape, len(within.counts)
    return (
        f"the within-group scatter of {p} genes from {N} cells in {C} groups is singular (linearly dependent genes, "
        "or no fewer genes than cells less groups) and shrinkage is 0. Set shrinkage='auto' or a number above 0."
    )
