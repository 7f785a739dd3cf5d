"""The held-out criterion: how well axes predict the effect that they are for on cells that were not fitted.

The axes come from the training cells. Let s be the score of a held-out cell on an axis of effect S, and e the training
estimate of S in the group of that cell, on the same axis. r is the correlation of s and e without centring, over all
held-out cells, where every group counts the same. Whatever part of s is not proportional to e counts against the axis,
be it within-group noise or another effect.

The criterion of an effect is ``-sign(r) log(1 - r^2)``, averaged over its axes. Without the sign this is twice the
information, in nats, of a Gaussian channel with correlation r. The sign ranks an axis that points the wrong way below
one without information.
"""

from __future__ import annotations

import numpy as np

LARGEST_R2 = 1 - 1e-12  # larger values of r^2 are cut off here, which keeps the logarithm finite


class Criterion:
    """Sums of e s, e^2 and s^2 over held-out cells, for the axes of one effect and every value of a grid.

    Parameters
    ----------
    n_grid
        The number of values of what is tuned: of the shrinkage, or of the number of genes.
    n_components
        The number of axes, k.
    """

    def __init__(self, n_grid: int, n_components: int):
        self.sums = np.zeros((3, n_grid, n_components))

    def add(self, i: int, e: np.ndarray, s: np.ndarray, weights: np.ndarray) -> None:
        """Add the held-out cells of a fold for the grid value with index i.

        Parameters
        ----------
        i
            Index of the grid value.
        e, s
            Estimated effects and scores, n x k. k may be less than the number of axes.
        weights
            Weight of each cell, (n,): one over the number of cells of its group, so that every group counts the same.
        """
        self.add_sums(i, weights @ (e * s), weights @ e**2, weights @ s**2)

    def add_sums(self, i: int, es: np.ndarray, ee: np.ndarray, ss: np.ndarray) -> None:
        """Add sums of e s, e^2 and s^2 over the held-out cells of a fold, (k,) each, for grid value i."""
        self.sums[:, i, : len(es)] += np.stack([es, ee, ss])

    def values(self, *, signed: bool = False) -> np.ndarray:
        """Compute the criterion for every value of the grid, (n_grid,).

        An axis that points the wrong way counts as zero, or negatively if ``signed``.
        """
        es, ee, ss = self.sums
        total = ee * ss
        if not signed:
            es = np.maximum(es, 0)
        r2 = np.divide(es**2, total, out=np.zeros_like(es), where=total > 0)
        return -(np.sign(es) * np.log1p(-np.minimum(r2, LARGEST_R2))).mean(axis=-1)
