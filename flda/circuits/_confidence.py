"""How far the samples determine each weight: fits to halves of the samples, and standard errors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .._progress import progress
from ._metrics import system_recovery
from ._models import CircuitModel
from ._objective import Objective
from ._path import FIRST, RUNG, ceiling, collapsed, sharpen, without_silent
from ._samples import Samples
from ._solve import Problem
from ._start import starting_weights


class Halves(NamedTuple):
    """Fits to two separate halves of the samples.

    ``lasso`` and ``theta`` hold the L1 weights and the sharpened weights of both halves, ``error`` the mean squared
    error of each on the other half's samples over the variance of the responses, ``agreement`` the system recovery of
    one by the other, and ``confidence`` the same for each weight, ``2 min(|a|, |b|) / (|a| + |b|)``.
    """

    lasso: list[np.ndarray]
    theta: list[np.ndarray]
    error: float
    agreement: float
    confidence: np.ndarray


def fit_halves(model: CircuitModel, samples: Samples, penalty: float, seed: int) -> Halves:
    """Fit the circuit at one penalty to each half of the samples, from starts that differ."""
    X, y = samples
    order = np.random.default_rng([seed, 1]).permutation(len(X))
    parts = [(X[at], y[at]) for at in (order[: len(X) // 2], order[len(X) // 2 :])]
    lasso, theta, error = [], [], []
    for i, part in enumerate(progress(parts, desc="halves")):
        problem = Problem(model, part)
        lasso.append(descend(problem, penalty, seed + 1 + i))
        theta.append(without_silent(model, sharpen(problem, lasso[i], penalty), part[0])[0])
        error.append(1 - model.score(model.weights(theta[i]), *parts[1 - i]))
    a, b = np.abs(theta[0]), np.abs(theta[1])
    total = np.where(theta[0] * theta[1] < 0, 0.0, a + b)  # opposite signs do not agree at all
    either = (a > 0) | (b > 0)
    confidence = np.full(len(a), np.nan)
    confidence[either] = np.where(total[either] > 0, 2 * np.minimum(a, b)[either] / (a + b)[either], 0.0)
    return Halves(lasso, theta, float(np.mean(error)), agreement(model, theta[0], theta[1]), confidence)


def descend(problem: Problem, penalty: float, seed: int) -> np.ndarray:
    """L1 weights at a penalty from a random start, reached in the steps of the ladder."""
    model = problem.model
    theta = start = starting_weights(model, *problem.samples, seed)
    rungs = np.array([penalty])
    if penalty > 0:
        first = FIRST * ceiling(problem.samples)
        n = max(0, int(np.ceil(abs(np.log(first / penalty)) / np.log(RUNG) - 0.1)))
        rungs = np.geomspace(first, penalty, n + 1) if n else rungs
    for step in rungs:
        theta = problem.solve(theta, step * model.penalties)
        if collapsed(model, problem.samples, theta):
            theta = start
    return theta


def lowest(problem: Problem, penalty: float, starts: list[np.ndarray]) -> np.ndarray:
    """L1 weights of the lowest minimum that several weights lead to."""
    penalties = penalty * problem.model.penalties
    minima = [problem.solve(theta, penalties) for theta in starts]
    return min(minima, key=lambda theta: problem.value(theta, penalties))


def agreement(model: CircuitModel, a: np.ndarray, b: np.ndarray) -> float:
    """System recovery of one circuit by another; 0 if both have no synapse."""
    return system_recovery(model.weights(a), model.weights(b)) if a.any() or b.any() else 0.0


def standard_errors(problem: Problem, theta: np.ndarray, variance: float) -> np.ndarray:
    """Standard error of every weight that is not zero, from the curvature of the error; zero for the others.

    The covariance of the weights is ``v (J'J + v D^-2)^-1`` with the derivatives J of all responses by the weights, the
    variance v of a response about its prediction, and D the root mean square weight of each connection, which a weight
    is expected not to exceed by far. The choice of the weights that are zero is taken as given.
    """
    model, (X, y) = problem.model, problem.samples
    at = np.flatnonzero(theta)
    objective = Objective(model, X, y, at)
    size = np.zeros(len(theta))
    for s in model.synapses:
        own = theta[s.ids]
        size[s.ids] = np.sqrt(np.mean(own[own != 0] ** 2)) if own.any() else 0.0
    scaled = objective.jacobian(theta[at]).reshape(y.size, len(at)) * size[at]  # weights in units of D
    _, values, vectors = np.linalg.svd(scaled, full_matrices=False)
    spread = (variance / (values**2 + variance + 1e-300)) @ vectors**2
    if len(at) > y.size:  # directions that no response depends on
        spread += np.maximum(1 - (vectors**2).sum(axis=0), 0.0)
    errors = np.zeros(len(theta))
    errors[at] = size[at] * np.sqrt(spread)
    return errors
