"""Weights that minimise the penalised error of a circuit under known signs, by a bounded quasi-Newton method.

The problem is ``min E(theta) + sum_i penalty_i |theta_i|`` with ``s_i theta_i >= 0`` where the sign s_i is known. On
that side of zero ``|theta_i| = s_i theta_i`` is linear, so the problem is smooth with bounds, and scipy's L-BFGS-B
solves it with exact zeros. A weight of unknown sign is the difference of two weights that are not negative.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from ._models import CircuitModel
from ._objective import Objective
from ._samples import Samples

CHUNK = 100  # iterations after which the working set is chosen anew
MAX_CHUNKS = 12
PROGRESS = 1e-3  # relative decrease within a chunk below which the minimum counts as reached
TOLERANCE = 1e-7  # relative decrease within an iteration below which a chunk ends
FIRST_STEP = 0.01  # length of the first step, relative to the weights: a longer one can silence all units for ever
MEMORY = 20  # gradients that L-BFGS keeps
SLACK = 1e-3  # a weight leaves zero where the gradient exceeds its penalty by this fraction


class Problem:
    """Samples of a circuit, prepared for repeated minimisation.

    Parameters
    ----------
    model
        The circuit.
    samples
        Inputs ``(n, n_inputs)`` and responses ``(n, n_outputs)``.
    """

    def __init__(self, model: CircuitModel, samples: Samples) -> None:
        self.model, self.samples = model, samples
        self.all = Objective(model, *samples, np.arange(model.n_parameters))

    def value(self, theta: np.ndarray, penalties: np.ndarray) -> float:
        """Error plus penalty."""
        at = np.flatnonzero(theta)
        return Objective(self.model, *self.samples, at)(theta[at])[0] + float(penalties @ np.abs(theta))

    def solve(self, theta: np.ndarray, penalties: np.ndarray) -> np.ndarray:
        """Minimise the penalised error from the weights ``theta``, on a working set.

        Most weights of a sparse circuit are zero and stay so. A chunk of iterations changes only the weights that are
        not zero and those that the gradient draws away from zero by more than their penalty.

        Parameters
        ----------
        theta
            ``(n_parameters,)`` weights to start from.
        penalties
            ``(n_parameters,)`` L1 weight of each.
        """
        signs = self.model.signs
        before = np.inf
        for _ in range(MAX_CHUNKS):
            error, gradient = self.all(theta)
            pull = np.where(np.isnan(signs), np.abs(gradient), -signs * gradient)
            drawn = pull > penalties * (1 + SLACK)
            value = error + float(penalties @ np.abs(theta))
            if value <= 0 or before - value < PROGRESS * value:
                break
            before = value
            at = np.flatnonzero((theta != 0) | drawn)
            if len(at) == 0:
                break
            objective = self.all if len(at) == len(theta) else Objective(self.model, *self.samples, at)
            theta = theta.copy()
            theta[at] = _bounded(objective, theta[at], signs[at], penalties[at], value)
        return theta


def _bounded(
    objective: Objective, theta: np.ndarray, signs: np.ndarray, penalties: np.ndarray, unit: float
) -> np.ndarray:
    """Weights after at most ``CHUNK`` iterations of L-BFGS-B; ``unit`` is the value at the start.

    The variables are ``u = (s theta, or theta+ where the sign is unknown; theta- of these)``, in units of ``scale``.
    """
    free = np.flatnonzero(np.isnan(signs))
    side = np.where(np.isnan(signs), 1.0, signs)
    n = len(theta)
    start = np.concatenate([np.maximum(side * theta, 0.0), np.maximum(-theta[free], 0.0)])
    scale = FIRST_STEP * (np.linalg.norm(start) or 1.0)
    slope = np.concatenate([penalties, penalties[free]])

    def weights(u):
        found = side * u[:n]
        found[free] -= u[n:]
        return found

    def value(v):
        error, gradient = objective(weights(scale * v))
        change = np.concatenate([side * gradient, -gradient[free]]) + slope
        return (error + scale * (slope @ v)) / unit, scale * change / unit

    fit = minimize(
        value, start / scale, jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * len(start),
        options={"maxiter": CHUNK, "maxfun": 2 * CHUNK, "ftol": TOLERANCE, "gtol": 0.0, "maxcor": MEMORY},
    )  # fmt: skip
    return weights(scale * fit.x)
