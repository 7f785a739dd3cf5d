"""Recovery of sparse circuits from stimuli and responses, under known signs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from .._logging import get_logger
from ._fit import fit_lanes
from .diagnose import agreement, circuit_notes, unit_report
from .models import CircuitModel

logger = get_logger(__name__)

PARAMETERISATIONS = ("projected", "absolute", "multiplicative", "free")


@dataclass
class CircuitRecovery:
    """What :func:`recover_circuit` found.

    Attributes
    ----------
    model
        The circuit, with the signs that were used.
    weights
        Weights ``(n_source, n_target)`` of the chosen fit by connection, signs included.
    penalty
        The chosen L1 penalty.
    path
        DataFrame with a row per penalty and restart: ``penalty, restart, r2, r2_validation, n_synapses``
        (absolute value above ``threshold``), ``chosen``.
    support
        For every synapse the share of the accepted restarts in which it is there, by connection. Accepted are restarts
        at the chosen penalty whose held-out R^2 is within the tolerance of the best.
    units
        DataFrame of :func:`flda.circuits.diagnose.unit_report` for the chosen weights, on the training inputs.
    agreement
        Mean system recovery between accepted restarts; NaN with only one.
    notes
        What speaks against reading the weights as the circuit, one sentence each; also logged as warnings.
    """

    model: CircuitModel
    weights: dict[str, np.ndarray]
    penalty: float
    path: pd.DataFrame
    support: dict[str, np.ndarray]
    units: pd.DataFrame
    agreement: float
    notes: list[str] = field(default_factory=list)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Responses of the recovered circuit to inputs ``(n_samples, n_inputs)``."""
        return self.model.predict(self.weights, X)


def recover_circuit(
    model: CircuitModel,
    X: np.ndarray,
    y: np.ndarray,
    *,
    validation: tuple[np.ndarray, np.ndarray] | float = 0.2,
    penalties: Sequence[float] | None = None,
    parameterisation: str = "projected",
    n_restarts: int = 4,
    tolerance: float = 0.002,
    threshold: float = 0.07,
    n_steps: int = 4000,
    learning_rate: float = 0.03,
    batch_size: int = 100,
    random_state: int = 0,
) -> CircuitRecovery:
    """Recover the weights of a circuit whose wiring diagram and signs are known.

    Minimises half the mean squared error plus an L1 penalty over minibatches, from several random starts and for
    several penalties at once, and judges every fit on validation samples. Prediction alone cannot choose the penalty
    (without noise every small one predicts perfectly), so the **largest** penalty is taken whose best restart comes
    within ``tolerance`` of the best held-out R^2. Nor does prediction certify the weights: read ``notes``, ``units``
    and ``agreement``.

    Parameters
    ----------
    model
        Wiring, signs, gains and thresholds.
    X
        ``(n_samples, n_inputs)`` activity of the first population.
    y
        ``(n_samples,)`` or ``(n_samples, n_outputs)`` responses of the last population.
    validation
        Samples ``(X, y)`` that take no part in the fit, or the share of the given ones to set aside.
    penalties
        L1 weights in units of the loss per unit of weight; default six values from 3e-5 to 1e-1 of the largest one at
        which the inputs' covariance with the response would let any weight leave zero.
    parameterisation
        "projected": proximal Adam, exact zeros. "absolute": Adam on w with ``|w|`` in the circuit, the method of the
        paper. "multiplicative": Madam on ``|w|``; neither of these two reaches zero. "free": signs ignored.
    n_restarts
        Random starts per penalty.
    tolerance
        In units of R^2.
    threshold
        Absolute weight above which a synapse counts as there, in units of the weights.
    n_steps, learning_rate, batch_size
        Of the optimiser; the learning rate, in units of the weights, decays to zero along a half cosine.
    random_state
        Seed of starts, batches and the split.

    Raises
    ------
    ValueError
        For data that do not fit the model, NaN or infinite values, or constant responses.

    References
    ----------
    Bagherian D et al. Fine-grained system identification of nonlinear neural circuits. KDD (2021). Selection rule
    and proximal form are this package's.

    Examples
    --------
    >>> from flda.circuits import simulate, system_recovery
    >>> retina = simulate.retina_circuit("2", n_kernels=3)
    >>> X, y = retina.sample(400, random_state=0)
    >>> found = recover_circuit(retina.model, X, y, penalties=[0.005], n_restarts=2)
    >>> system_recovery(found.weights, retina.truth) > 0.9
    True
    """
    if parameterisation not in PARAMETERISATIONS:
        raise ValueError(f"parameterisation {parameterisation!r} is not one of {', '.join(PARAMETERISATIONS)}.")
    X, y = check_data(model, X, y)
    if isinstance(validation, tuple):
        X_val, y_val = check_data(model, *validation, what="validation ")
    else:
        order = np.random.default_rng(random_state).permutation(len(X))
        n_val = round(validation * len(X))
        if not 2 <= n_val <= len(X) - 2:
            raise ValueError(
                f"validation={validation:g} of {len(X)} samples leaves too few on one side; give more data."
            )
        X_val, y_val, X, y = X[order[:n_val]], y[order[:n_val]], X[order[n_val:]], y[order[n_val:]]
    if penalties is None:
        # one input onto one output is the shortest path that any circuit can have
        ceiling = np.abs((X - X.mean(0)).T @ (y - y.mean(0))).max() / len(X)
        penalties = ceiling * np.geomspace(3e-5, 1e-1, 6)
    grid = np.asarray(penalties, float)
    if grid.ndim != 1 or len(grid) == 0 or not (np.isfinite(grid).all() and (grid >= 0).all()):
        raise ValueError("penalties must be a list of numbers that are zero or positive.")
    if parameterisation == "free":
        model, parameterisation = model.unsigned(), "projected"

    lane_penalty = np.repeat(grid, n_restarts)
    fits = fit_lanes(
        model, X, y, X_val, y_val, lane_penalty, seeds=np.tile(np.arange(n_restarts), len(grid)) + 1000 * random_state,
        parameterisation=parameterisation, n_steps=n_steps, learning_rate=learning_rate, batch_size=batch_size,
    )  # fmt: skip
    path = pd.DataFrame(
        {
            "penalty": lane_penalty,
            "restart": np.tile(np.arange(n_restarts), len(grid)),
            "r2": [r_squared(model, p, X, y) for p in fits],
            "r2_validation": [r_squared(model, p, X_val, y_val) for p in fits],
            "n_synapses": (np.abs(fits) > threshold).sum(axis=1),
        }
    )
    best = path.groupby("penalty")["r2_validation"].max()
    penalty = float(best.index[best >= best.max() - tolerance].max())
    here = path["penalty"] == penalty
    chosen = int(path["r2_validation"].where(here).idxmax())
    path["chosen"] = path.index == chosen
    accepted = np.flatnonzero(here & (path["r2_validation"] >= path.loc[chosen, "r2_validation"] - tolerance))
    weights = model.weights(fits[chosen])
    report = unit_report(model, weights, X)
    shared = agreement([model.weights(fits[i]) for i in accepted])
    notes = circuit_notes(model, weights, X, report)
    notes += _fit_notes(path, chosen, shared, int(here.sum()), len(accepted), grid)
    for note in notes:
        logger.warning("%s", note)
    support = model.weights((np.abs(fits[accepted]) > threshold).mean(axis=0))
    return CircuitRecovery(model, weights, penalty, path, support, report, shared, notes)


def _fit_notes(
    path: pd.DataFrame, chosen: int, shared: float, n_restarts: int, n_accepted: int, grid: np.ndarray
) -> list[str]:
    """Sentences about the fits themselves: prediction, restarts that differ or are stuck, the edge of the path."""
    notes = []
    r2, penalty = path.loc[chosen, "r2_validation"], path.loc[chosen, "penalty"]
    if r2 < 0.9:
        notes.append(
            f"the best fit predicts held-out responses with R^2 {r2:.2f}: stuck, a wrong sign, or missing synapses? "
            "Try more restarts, then compare with parameterisation='free'."
        )
    if n_accepted < 2 <= n_restarts:
        notes.append(f"only 1 of {n_restarts} restarts reached the best held-out R^2: add restarts.")
    if n_accepted > 1 and shared < 0.9:
        notes.append(
            f"restarts predict equally well with different weights (agreement {shared:.2f}): these are not determined."
        )
    if penalty == 0:
        notes.append("the chosen fit has no penalty: without noise a good R^2 says nothing about weights then.")
    elif len(grid) > 1 and penalty == grid.max():
        notes.append(f"the largest penalty, {penalty:g}, was chosen: extend the path upwards.")
    return notes


def check_data(model: CircuitModel, X: Any, y: Any, what: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Inputs ``(n, n_inputs)`` and responses ``(n, n_outputs)`` that fit the model and are finite."""
    X, y = np.asarray(X, float), np.asarray(y, float)
    first, last = model.populations[0], model.populations[-1]
    y = y[:, None] if y.ndim == 1 else y
    if X.ndim != 2 or X.shape[1] != first.size:
        raise ValueError(
            f"{what}X has shape {X.shape}; population {first.name!r} has {first.size} units: one column each."
        )
    if y.shape != (len(X), last.size):
        raise ValueError(
            f"{what}y has shape {y.shape}; {len(X)} samples of {last.size} output units need {(len(X), last.size)}."
        )
    for name, values in (("X", X), ("y", y)):
        bad = ~np.isfinite(values)
        if bad.any():
            row, col = np.argwhere(bad)[0]
            raise ValueError(
                f"{what}{name} holds {int(bad.sum())} NaN or infinite values, the first in sample {row}, column {col}; "
                "drop those samples."
            )
    if len(y) and (y == y[0]).all():
        raise ValueError(f"{what}y is the same in all {len(y)} samples: there is nothing to recover.")
    return X, y


def r_squared(model: CircuitModel, parameters: np.ndarray, X: np.ndarray, y: np.ndarray) -> float:
    """Share of the variance of y that the circuit predicts; y ``(n, n_outputs)``."""
    error = y - model.predict(model.weights(parameters), X).reshape(y.shape)
    return float(1 - (error**2).sum() / ((y - y.mean(axis=0)) ** 2).sum())
