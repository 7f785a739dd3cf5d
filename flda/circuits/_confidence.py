"""How far the samples determine each weight: fits to halves of the samples, and starts from other weights."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .._progress import progress
from ._metrics import system_recovery
from ._models import CircuitModel
from ._path import FIRST, RUNG, ceiling, collapsed, sharpen, without_silent
from ._samples import Samples
from ._solve import Problem
from ._start import starting_weights

SAME = 0.01  # relative difference of two penalised errors that count as the same minimum


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


def restart(
    problem: Problem, penalty: float, lasso: np.ndarray, others: list[np.ndarray], n_restarts: int, seed: int,
) -> tuple[np.ndarray, int]:  # fmt: skip
    """L1 weights of the lowest minimum, and from how many starts it was reached.

    The weights ``others`` are the first restarts. Random ones follow until the lowest minimum has been reached twice.
    """
    penalties = penalty * problem.model.penalties
    minima = [(problem.value(lasso, penalties), lasso)]
    for i in progress(range(n_restarts - 1), desc="restarts"):
        given = i < len(others)
        theta = problem.solve(others[i], penalties) if given else descend(problem, penalty, seed + 10 + i)
        minima.append((problem.value(theta, penalties), theta))
        minima.sort(key=lambda m: m[0])
        reached = sum(value <= minima[0][0] * (1 + SAME) for value, _ in minima)
        if reached > 1 and i + 1 >= len(others):
            break
    return minima[0][1], sum(value <= minima[0][0] * (1 + SAME) for value, _ in minima)


def agreement(model: CircuitModel, a: np.ndarray, b: np.ndarray) -> float:
    """System recovery of one circuit by another; 0 if both have no synapse."""
    return system_recovery(model.weights(a), model.weights(b)) if a.any() or b.any() else 0.0
