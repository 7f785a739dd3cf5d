"""The held-out statistic of an effect, and the F ratio of its genes.

Over the folds, e is the training estimate of the effect in the group of a held-out cell and s the score of the cell, on
one axis; every group counts the same. ``r = sum e s / sqrt(sum e^2 sum s^2)`` without centring is the correlation that
cross-validation maximises for the shrinkage (``cross_validate``), and the statistic is

    max over g of the mean over axes of  -sign(r) log(1 - r^2)

so the shrinkage is tuned anew under every permutation. The sign keeps apart what cannot be told from nothing.
"""

from __future__ import annotations

import numpy as np


class Products:
    """Sums over held-out cells of e s, e e and s s, for every shrinkage and axis."""

    def __init__(self, n_grid: int, n_components: int):
        self.sums = np.zeros((3, n_grid, n_components))

    def add(self, g: int, es: np.ndarray, ee: np.ndarray, ss: np.ndarray) -> None:
        """Add those of one fold at one shrinkage, each (k,); k may be less than the number of axes."""
        self.sums[:, g, : len(es)] += np.stack([es, ee, ss])

    def statistic(self) -> float:
        """The best over the grid."""
        es, ee, ss = self.sums
        total = ee * ss
        r = np.divide(es, np.sqrt(total), out=np.zeros_like(es), where=total > 0)
        r2 = np.minimum(r**2, 1 - 1e-12)
        return float(np.max(np.mean(-np.sign(r) * np.log1p(-r2), axis=1)))


def gene_ratios(means: np.ndarray, noise: np.ndarray, contrasts: np.ndarray) -> np.ndarray:
    """F ratio of each gene: mean square of the effect over what noise alone would give it; 0 for a constant gene.

    ``means`` are (..., C, p), ``noise`` (..., p) and ``contrasts`` B_S.
    """
    centred = means - means.mean(axis=-2, keepdims=True)
    square = np.sum((contrasts @ centred) ** 2, axis=-2) / len(contrasts)
    return np.divide(square, noise, out=np.zeros_like(square), where=noise > 0)
