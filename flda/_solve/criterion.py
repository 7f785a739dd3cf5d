"""The held-out criterion: how well axes predict, on cells that were not fitted, the effect that they are for.

Axes come from training cells. With s the score of a held-out cell on an axis and e the training estimate of the axis's
own effect in the cell's group, r is the correlation of s with e without centring, over all held-out cells, every group
counting the same: whatever is left of s is within-group noise and the other effects alike. The criterion of an effect
is ``-sign(r) log(1 - r^2)``, twice the information of a Gaussian channel, averaged over its axes. The sign keeps axes
that point the wrong way below those that say nothing.
"""

from __future__ import annotations

import numpy as np

LARGEST_R2 = 1 - 1e-12  # keeps the logarithm finite


class Criterion:
    """Sums of e s, e e and s s of the axes of one effect over held-out cells, for every value of a grid.

    Parameters
    ----------
    n_grid
        Values of what is tuned: shrinkage, or number of genes.
    n_components
        Number of axes, k.
    """

    def __init__(self, n_grid: int, n_components: int):
        self.sums = np.zeros((3, n_grid, n_components))

    def add(self, i: int, e: np.ndarray, s: np.ndarray, weights: np.ndarray) -> None:
        """Add the held-out cells of a fold at grid value i.

        Parameters
        ----------
        e, s
            Estimated effects and scores, n x k; k may be less than the number of axes.
        weights
            Weight of each cell, (n,): one over the cells of its group, so that every group counts the same.
        """
        self.add_sums(i, weights @ (e * s), weights @ e**2, weights @ s**2)

    def add_sums(self, i: int, es: np.ndarray, ee: np.ndarray, ss: np.ndarray) -> None:
        """Add sums over the held-out cells of a fold at grid value i, each (k,)."""
        self.sums[:, i, : len(es)] += np.stack([es, ee, ss])

    def values(self, *, signed: bool = False) -> np.ndarray:
        """The criterion at every value of the grid, (n_grid,).

        An axis that points the wrong way counts as one that says nothing, or with ``signed`` as less than nothing.
        """
        es, ee, ss = self.sums
        total = ee * ss
        if not signed:
            es = np.maximum(es, 0)
        r2 = np.divide(es**2, total, out=np.zeros_like(es), where=total > 0)
        return -(np.sign(es) * np.log1p(-np.minimum(r2, LARGEST_R2))).mean(axis=-1)
