"""Random starting weights for the fit of a circuit."""

from __future__ import annotations

import numpy as np

from ._models import CircuitModel, Population

STREAM = 20210814  # separates these random numbers from other uses of the same seed
OUTPUT_INHIBITION = 0.2  # of the weights drawn for it


def starting_weights(model: CircuitModel, X: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
    """Random free weights ``(n_parameters,)`` under which every unit is active in part of the samples.

    A unit that is never active has no gradient and would stay silent for ever. Population by population, half-normal
    weights are therefore rescaled such that a rectifying unit with a positive threshold is active in a share of the
    samples (drawn once per seed between 0.2 and 0.5), and such that the output varies as much as the responses.

    Parameters
    ----------
    model
        The circuit.
    X, y
        Inputs ``(n, n_inputs)`` and responses ``(n, n_outputs)``; the first 500 samples are used.
    seed
        Seed of the weights.
    """
    rng = np.random.default_rng([seed, STREAM])
    share = rng.uniform(0.2, 0.5)
    X, y = X[:500], y[:500]
    free = np.isnan(model.signs)
    theta = np.abs(rng.normal(size=model.n_parameters)) * np.where(
        free, rng.choice([-1.0, 1.0], model.n_parameters), model.signs
    )
    # variance 2 / (number of inputs), as He et al. (2015) derive for relu units
    for s in model.synapses:
        theta[s.ids] *= np.sqrt(2.0 / np.bincount(s.cols, minlength=s.shape[1])[s.cols])
    last = model.populations[-1]
    for p in model.populations[1:]:  # in the order of the activity: a population's drive depends on the earlier ones
        arriving = [s for s, c in zip(model.synapses, model.connections, strict=True) if c.target == p.name]
        if p is last:
            # less inhibition than excitation, or a rectified output could be zero in all samples
            for s in arriving:
                theta[np.unique(s.ids[theta[s.ids] < 0])] *= np.where(
                    np.isnan(model.signs[s.ids]).all(), 1.0, OUTPUT_INHIBITION
                )
        drive = model.drive(model.weights(theta), X, p.name)
        threshold = np.broadcast_to(np.asarray(p.threshold, float), p.size)
        if p is last:
            scale = _scale_of_output(p, drive, y)
        else:
            # the drive is exceeded in the wanted share of the samples at `level`; the same for negated weights
            level = np.quantile(drive, 1 - share, axis=0)
            negated = np.quantile(-drive, 1 - share, axis=0)
            for s in arriving:  # weights of unknown sign are negated where that drives the unit better
                turn = (negated > level)[s.cols] & free[s.ids]
                theta[s.ids[turn]] *= -1
            level = np.quantile(model.drive(model.weights(theta), X, p.name), 1 - share, axis=0)
            usable = (level > 0) & (threshold > 0) & p.rectify
            scale = np.divide(threshold, level, out=np.ones(p.size), where=usable).clip(0.05, 3.0)
        for s in arriving:  # a weight shared by several units takes the mean of their factors
            factor = np.bincount(s.ids, scale[s.cols], model.n_parameters) / np.maximum(
                np.bincount(s.ids, minlength=model.n_parameters), 1
            )
            theta[s.ids] = (theta * np.where(factor > 0, factor, 1.0))[s.ids]
    return theta


def _scale_of_output(p: Population, drive: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Factor of every output unit's drive under which its responses are nearest to y, yet vary at least half as much.

    With a threshold the response is not proportional to the drive, and no response at all leaves no gradient.
    """
    spread = drive.std(axis=0)
    factors = np.geomspace(1e-2, 1e3, 101)[:, None] * np.divide(
        y.std(axis=0), spread, out=np.ones(p.size), where=spread > 0
    )
    responses = np.stack([p.respond(f * drive) for f in factors])  # (factor, sample, unit)
    error = ((responses - y) ** 2).mean(axis=1)
    error[responses.std(axis=1) < 0.5 * y.std(axis=0)] = np.inf
    return np.where(spread > 0, factors[error.argmin(axis=0), np.arange(p.size)], 1.0)
