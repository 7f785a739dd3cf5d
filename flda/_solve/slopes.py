"""Slopes of expression on covariates.

Covariates z_i (q numbers per cell) have slopes Gamma (q x p), which come from how cells deviate from their samples:
with ``y_i = z_i - z_s``, z_s the mean of a sample, and ``A = sum_i w_{c(i)} y_i y_i'``, they are
``Gamma = A^-1 sum_i w_{c(i)} y_i x_i'``. Means and scatter are then those of ``x_i - Gamma' z_i``, and the weights of
:mod:`flda._solve.within` are multiplied by ``1 / (1 - tr(A^-1 sum_i w_{c(i)}^2 y_i y_i'))`` for the degrees of freedom
that the slopes cost. With one sample per group and all interactions in the fit this is least squares on the cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .._data import arrays
from .._design.covariates import Covariates

LEAST_VARIATION = 1e-6  # share of a covariate that varies within samples, below which it has no slope


class Deviations:
    """How the covariates of cells deviate from the means of their samples.

    Parameters
    ----------
    covariates
        The covariates of the cells.
    codes
        Sample of each cell, (N,).
    weights
        Weight w of each cell, (N,).
    centred
        Whether the deviations are those from the means of the samples. In the linear model of single units, which has
        no other mean, they are those from zero.

    Attributes
    ----------
    covariates
        As above.
    means
        Mean z_s of every sample, S x q.
    Y
        The deviations y_i, N x q.
    A
        ``sum_i w y_i y_i'``, q x q.
    factor
        What the weights of the scatter have to be multiplied by, because the slopes take degrees of freedom.

    Raises
    ------
    ValueError
        If a covariate does not vary within samples.
    """

    def __init__(self, covariates: Covariates, codes: np.ndarray, weights: np.ndarray, *, centred: bool = True):
        Z, sizes = covariates.values, np.bincount(codes)
        means = arrays.group_sums(Z, codes, len(sizes)) / sizes[:, None]
        self.covariates, self.means = covariates, means if centred else np.zeros_like(means)
        self.Y = Z - self.means[codes]
        self.A = self.Y.T @ (weights[:, None] * self.Y)
        check_variation(covariates, self.Y)
        taken = np.sum(np.linalg.inv(self.A) * (self.Y.T @ (weights[:, None] ** 2 * self.Y)))
        if taken >= 1:
            raise ValueError(
                f"{len(self.A)} columns of covariates leave no degree of freedom within groups; use fewer covariates."
            )
        self.factor = float(1 / (1 - taken))


def check_variation(covariates: Covariates, Y: np.ndarray) -> None:
    """Refuse covariates whose deviations Y (N x q) from the means of samples do not identify their slopes."""
    for effect, columns in covariates.columns.items():
        rest = np.delete(np.arange(Y.shape[1]), np.r_[columns])
        others = Y[:, rest] @ np.linalg.lstsq(Y[:, rest], Y[:, columns], rcond=None)[0]
        left = np.linalg.svd(Y[:, columns] - others, compute_uv=False)[-1]
        if left <= LEAST_VARIATION * np.linalg.norm(covariates.values[:, columns]):
            raise ValueError(
                f"the covariate {effect.name!r} hardly varies between cells of one group (and donor) beside the other "
                "covariates, so its slope cannot be estimated; leave it out, bin it into a factor, or, if it differs "
                "between donors only, fit one row per donor (pseudobulk samples)."
            )


@dataclass(frozen=True)
class Slopes:
    """The slopes of covariates.

    Attributes
    ----------
    values
        The covariates z_i of the cells, N x q.
    slopes
        Gamma, q x p.
    deviations
        How the covariates deviate from their sample means.
    """

    values: np.ndarray
    slopes: np.ndarray
    deviations: Deviations

    @classmethod
    def fit(cls, X, deviations: Deviations, weights: np.ndarray) -> Slopes:
        """Fit the slopes to cells with these ``weights``, (N,), in one pass over X."""
        products = arrays.transposed_times(X, weights[:, None] * deviations.Y).T
        return cls(deviations.covariates.values, np.linalg.solve(deviations.A, products), deviations)

    @property
    def squares(self) -> float:
        """The squares that the slopes take from the cells, ``tr(Gamma' A Gamma)``."""
        return float(np.sum(self.slopes * (self.deviations.A @ self.slopes)))


def with_slopes(means: np.ndarray, slopes: np.ndarray | None) -> np.ndarray:
    """Put the slopes of covariates, if there are any, below the group means: (C + q) x p."""
    return means if slopes is None else np.vstack([means, slopes])
