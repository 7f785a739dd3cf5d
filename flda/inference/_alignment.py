"""Rotations that make the axes of a fold comparable with those of the fit to all cells."""

from __future__ import annotations

import numpy as np

from .._data.arrays import group_sums
from .._design.design import Design
from ..estimators import FLDA

MAX_CELLS = 5000  # the covariance within groups is computed from at most so many cells


class Alignment:
    """Rotate the axes of other fits to those of a fit to all cells.

    Within each effect, R is the orthogonal matrix that maximises ``trace(R' U_f' M U)``, where U_f and U (p x df) are
    the axes of the other fit and of this one, and ``M = (1 - g) S + g diag(S)`` is the covariance S within groups of
    all cells with the shrinkage g of this fit. The rotation moves no variance from one effect to another. It depends on
    the directions of the axes alone and not on group means: signs that follow the group means of the training cells
    would make the held-out means of a few donors agree by construction.

    Parameters
    ----------
    model
        The fit to all cells.
    X
        Expression of these cells.
    design
        Their design.
    """

    def __init__(self, model: FLDA, X, design: Design) -> None:
        rows = np.arange(len(design.codes))
        if len(rows) > MAX_CELLS:
            rows = np.random.RandomState(0).choice(rows, MAX_CELLS, replace=False)
            rows.sort()
            X = X[rows]
        self.model, self.X = model, X
        part = design.subset(rows) if design.residual else None
        self.units = None if part is None else part.unit_model
        self.codes = np.unique(design.codes[rows], return_inverse=True)[1].ravel()
        self.g, self.variances = model.shrinkage_, model.within_sd_**2
        self.scores = self._within(model.transform(X))

    def _within(self, scores: np.ndarray) -> np.ndarray:
        """Subtract the mean of the group, or what the effects explain of single units, from every row."""
        if self.units is not None:
            return self.units.residuals(scores)
        counts = np.bincount(self.codes)
        return scores - (group_sums(scores, self.codes, len(counts)) / counts[:, None])[self.codes]

    def rotation(self, fold: FLDA) -> np.ndarray:
        """Compute the rotation (k x k) from the scores on the axes of ``fold`` to those of the fit to all cells."""
        df = self.units.df if self.units is not None else max(len(self.codes) - int(self.codes.max()) - 1, 1)
        covariance = self._within(fold.transform(self.X)).T @ self.scores / df
        target = (fold.components_ * self.variances) @ self.model.components_.T
        overlap = (1 - self.g) * covariance + self.g * target
        effects = self.model.axes_["effect"].to_numpy()
        out = np.zeros(overlap.shape)
        for effect in dict.fromkeys(effects):
            own = np.flatnonzero(effects == effect)
            left, _, right = np.linalg.svd(overlap[np.ix_(own, own)])
            out[np.ix_(own, own)] = left @ right
        return out
