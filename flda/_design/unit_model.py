"""The linear model of single units, whose residuals are the noise.

Where no group has two units, nothing varies within groups, and the noise is what the effects leave
(``error="residual"``). With the model matrix M (N x q), which holds the coding D of the effects in the group of every
unit and the columns of covariates beside it, the model is ``x_i = M_i b + e_i / sqrt(omega_i)``. The weights omega_i,
such as the number of cells of a pseudobulk sample, have the mean one; without them all are one. Multiplied by the roots
of the weights, rows of X and M follow ordinary least squares with N - q degrees of freedom, and a group mean is the
fitted one, ``D_c b``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import block_diag

from .covariates import Covariates
from .effects import Effect

MODEL = Effect(("the effects",))  # the columns of the effects, beside those of covariates


@dataclass(frozen=True)
class UnitModel:
    """The linear model of units.

    Attributes
    ----------
    of_groups
        Coding D of the effects on the groups with the intercept first, C x m.
    codes
        Group of each unit, (N,).
    covariates
        The covariates of the units, or None.
    weights
        Precision weights omega_i with the mean one, (N,), or None.
    """

    of_groups: np.ndarray
    codes: np.ndarray
    covariates: Covariates | None = None
    weights: np.ndarray | None = None

    @property
    def root(self) -> np.ndarray:
        """The roots of the weights, (N,)."""
        return np.ones(len(self.codes)) if self.weights is None else np.sqrt(self.weights)

    @cached_property
    def columns(self) -> Covariates:
        """The rows of M times the roots of the weights, N x q, as columns of a fit without any mean."""
        blocks, columns = [self.of_groups[self.codes]], {MODEL: slice(0, self.of_groups.shape[1])}
        if self.covariates is not None:
            first = self.of_groups.shape[1]
            blocks.append(self.covariates.values)
            columns |= {e: slice(first + s.start, first + s.stop) for e, s in self.covariates.columns.items()}
        return Covariates(self.root[:, None] * np.hstack(blocks), columns)

    @cached_property
    def to_groups(self) -> np.ndarray:
        """The map from the coefficients to fitted group means and, below them, slopes of covariates, (C + k) x q."""
        q = self.columns.values.shape[1]
        return block_diag(self.of_groups, np.eye(q - self.of_groups.shape[1]))

    @property
    def df(self) -> int:
        """Degrees of freedom that the model leaves, N - q."""
        return len(self.codes) - self.columns.values.shape[1]

    def full_rank(self) -> bool:
        """Return whether the units identify all coefficients and leave a degree of freedom."""
        M = self.columns.values
        return self.df > 0 and int(np.linalg.matrix_rank(M)) == M.shape[1]

    @cached_property
    def _basis(self) -> tuple[np.ndarray, np.ndarray]:
        return np.linalg.qr(self.columns.values)

    @cached_property
    def covariance(self) -> np.ndarray:
        """Covariance of the fitted group means for a unit variance of a unit of weight one, C x C."""
        half = np.linalg.solve(self._basis[1].T, self.to_groups[: len(self.of_groups)].T)
        return half.T @ half

    @cached_property
    def leverage(self) -> np.ndarray:
        """Share of the variance of each unit that the fit takes, (N,)."""
        return np.sum(self._basis[0] ** 2, axis=1)

    def coefficients(self, values: np.ndarray) -> np.ndarray:
        """Fit values of the units, N x k, and return the coefficients, q x k."""
        Q, R = self._basis
        return np.linalg.solve(R, Q.T @ (self.root[:, None] * values))

    def group_means(self, values: np.ndarray) -> np.ndarray:
        """Return the fitted group means of values of the units, C x k."""
        return self.to_groups[: len(self.of_groups)] @ self.coefficients(values)

    def residuals(self, values: np.ndarray) -> np.ndarray:
        """Return the residuals of values of the units times the roots of the weights, N x k."""
        scaled = self.root[:, None] * values
        return scaled - self._basis[0] @ (self._basis[0].T @ scaled)


def precision_weights(values: np.ndarray, name: object) -> np.ndarray:
    """Check a column of precision weights and scale it to the mean one.

    Raises
    ------
    ValueError
        If a value is missing, not finite or not above zero.
    """
    try:
        weights = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"weights={name!r}: the column holds no numbers; name one with a number above 0.") from None
    if not (np.isfinite(weights) & (weights > 0)).all():
        bad = int(np.sum(~(np.isfinite(weights) & (weights > 0))))
        raise ValueError(
            f"weights={name!r}: {bad} of {len(weights)} values are missing or not above 0; leave these rows out."
        )
    return weights / weights.mean()
