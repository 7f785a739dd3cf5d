"""Fits of a circuit along a ladder of penalties, each sharpened by a reweighted L1 penalty."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ._models import CircuitModel
from ._samples import Samples
from ._solve import Problem
from ._start import starting_weights

N_REWEIGHTINGS = 4
KNEE = 0.02  # of a connection's largest weight: smaller weights keep more than half of their penalty
FIRST = (
    6e-3  # of the ceiling: the first penalty; a larger one can silence units before the others have found their place
)
RUNG = np.sqrt(10.0)  # ratio of neighbouring penalties
LOWEST, HIGHEST = 6e-6, 0.2  # of the ceiling: ends of the ladder
PATIENCE = 2  # rungs without improvement that end the ladder on one side
NO_ERROR = 1e-7  # of the responses' variance: a smaller error of prediction cannot be improved
COLLAPSED = 0.02  # R^2 of a fit in which the output unit, or all units before it, fell silent


class Fit(NamedTuple):
    """Weights of one penalty: those that minimise the L1 penalty, those after reweighting, and the error of the latter.

    ``error`` is the mean squared error on held-out samples divided by the variance of the responses.
    """

    penalty: float
    lasso: np.ndarray
    theta: np.ndarray
    error: float


def ceiling(samples: Samples) -> float:
    """Smallest penalty at which all weights of a direct connection from the inputs would be zero.

    It is the largest covariance of an input with a response, the gradient of the error at zero. Longer paths have
    smaller gradients there, so it bounds the useful penalties of any circuit.
    """
    X, y = samples
    return float(np.abs((X - X.mean(0)).T @ (y - y.mean(0))).max() / len(X))


def climb(problem: Problem, held: Samples, seed: int, penalties: Sequence[float] | None) -> Iterator[Fit]:
    """Fits of one random start along the ladder of penalties, or along the given penalties from the largest one down.

    The ladder starts at ``FIRST`` of the ceiling and goes down while the error on held-out samples falls, and up if it
    does not fall downwards. Every rung starts from the L1 weights of its neighbour.
    """
    model, (X, y) = problem.model, problem.samples
    start = starting_weights(model, X, y, seed)
    if penalties is not None:
        theta = start
        for penalty in sorted(penalties, reverse=True):
            fit = rung(problem, held, theta, penalty)
            yield fit
            theta = start if collapsed(model, problem.samples, fit.lasso) else fit.lasso
        return
    top = ceiling(problem.samples)
    penalty = FIRST * top
    first = rung(problem, held, start, penalty)
    while collapsed(model, problem.samples, first.lasso) and penalty > LOWEST * top:
        penalty /= RUNG  # a smaller penalty may leave the units alive
        first = rung(problem, held, start, penalty)
    yield first
    lowest = first.error
    for factor in (1 / RUNG, RUNG):
        if lowest < first.error:
            break  # the error fell downwards, so it does not fall upwards
        fit, worse = first, 0
        while worse < PATIENCE and lowest > NO_ERROR and LOWEST * top < fit.penalty * factor < HIGHEST * top:
            fit = rung(problem, held, fit.lasso, fit.penalty * factor)
            yield fit
            worse = 0 if fit.error < lowest else worse + 1
            lowest = min(lowest, fit.error)


def rung(problem: Problem, held: Samples, theta: np.ndarray, penalty: float) -> Fit:
    """Fit at one penalty from the weights ``theta``."""
    model = problem.model
    lasso = problem.solve(theta, penalty * model.penalties)
    sharp = without_silent(model, sharpen(problem, lasso, penalty), problem.samples[0])[0]
    X, y = held
    return Fit(penalty, lasso, sharp, max(0.0, 1 - model.score(model.weights(sharp), X, y)))


def sharpen(problem: Problem, theta: np.ndarray, penalty: float) -> np.ndarray:
    """Weights under penalties that fall with the size of a weight, ``penalty k / (|theta_i| + k)``, in a few rounds.

    The plain L1 penalty shrinks large weights and shares them among correlated inputs. The knee k is a fraction of the
    largest weight of the connection (Candes, Wakin and Boyd, 2008).
    """
    if penalty == 0:
        return theta
    for _ in range(N_REWEIGHTINGS):
        new = problem.solve(theta, penalty * _shares(problem.model, theta))
        same = np.linalg.norm(new - theta) <= 1e-4 * np.linalg.norm(theta)
        theta = new
        if same:
            break
    return without_idle(problem, theta, penalty * _shares(problem.model, theta))


def _shares(model: CircuitModel, theta: np.ndarray) -> np.ndarray:
    """Share of the penalty that each weight keeps, ``k / (|theta_i| + k)``."""
    share = model.penalties.copy()
    for s in model.synapses:
        own = np.abs(theta[s.ids])
        knee = KNEE * own.max(initial=0.0)
        if knee > 0:
            share[s.ids] = model.penalties[s.ids] * knee / (own + knee)
    return share


def without_idle(problem: Problem, theta: np.ndarray, penalties: np.ndarray) -> np.ndarray:
    """Weights without the hidden units whose removal lowers the penalised error.

    Descent cannot remove a unit that fires in a few samples, because its error has a step there.
    """
    model = problem.model
    value = problem.value(theta, penalties)
    for p in model.populations[1:-1]:
        for unit in range(p.size):
            fewer = theta.copy()
            for s, c in zip(model.synapses, model.connections, strict=True):
                end = s.rows if c.source == p.name else s.cols if c.target == p.name else None
                if end is not None:
                    fewer[s.ids[end == unit]] = 0.0
            if (fewer != theta).any() and problem.value(fewer, penalties) < value:
                theta, value = fewer, problem.value(fewer, penalties)
    return theta


def without_silent(model: CircuitModel, theta: np.ndarray, X: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Weights in which hidden units that affect no response have no synapses, and the indices of these units.

    Responses say nothing about the other synapses of a unit that no sample activates or that has no output.
    """
    theta, silent = theta.copy(), {}
    synapses = list(zip(model.synapses, model.connections, strict=True))
    for p in reversed(model.populations[1:-1]):  # a unit whose targets are silent has no output
        activity = model.activities(model.weights(theta), X)[p.name]
        reaches = np.zeros(p.size, bool)
        for s, c in synapses:
            if c.source == p.name:
                reaches |= np.bincount(s.rows, np.abs(theta[s.ids]), p.size) > 0
        off = ~reaches | (~activity.any(axis=0) & p.rectify)
        silent[p.name] = np.flatnonzero(off)
        for s, c in synapses:
            end = s.rows if c.source == p.name else s.cols if c.target == p.name else None
            if end is not None:
                gone = np.bincount(s.ids, ~off[end], model.n_parameters) == 0  # a shared weight may serve other units
                theta[s.ids[gone[s.ids]]] = 0.0
    return theta, silent


def collapsed(model: CircuitModel, samples: Samples, theta: np.ndarray) -> bool:
    """Whether the circuit predicts no better than a constant, as after the death of its output unit."""
    return model.score(model.weights(theta), *samples) < COLLAPSED
