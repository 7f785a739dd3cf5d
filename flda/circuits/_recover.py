"""Recovery of sparse circuits from stimuli and responses, under known signs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from .._logging import get_logger
from ._diagnose import circuit_notes, mean_agreement, unit_report
from ._fit import check_samples, fit_circuit
from ._models import CircuitModel

logger = get_logger(__name__)

PARAMETERISATIONS = ("projected", "absolute", "multiplicative", "free")


@dataclass
class CircuitRecovery:
    """The result of :func:`recover_circuit`.

    Attributes
    ----------
    model : CircuitModel
        The circuit, with the signs that were used.
    weights : dict
        Weights ``(n_source, n_target)`` of the chosen fit by connection, signs included.
    penalty : float
        The chosen L1 penalty.
    path : DataFrame
        One row per penalty and restart, with the columns ``penalty, restart, r2, r2_validation, n_synapses`` (weights
        whose absolute value exceeds the threshold) and ``chosen``.
    support : dict
        For every synapse the share of the accepted restarts that recover it, by connection. Accepted are the restarts
        at the chosen penalty whose validation R^2 is within the tolerance of the best.
    units : DataFrame
        Table of :func:`unit_report` for the chosen weights and the training inputs.
    agreement : float
        Mean system recovery between pairs of accepted restarts; NaN if there is only one.
    notes : list of str
        Reasons not to read the weights as the true circuit, one sentence each. They are also logged as warnings.

    Examples
    --------
    >>> from flda.circuits import recover_circuit, simulate
    >>> retina = simulate.retina_circuit("2", n_kernels=3)
    >>> X, y = retina.sample(300)
    >>> found = recover_circuit(retina.model, X, y, penalties=[0.005], n_restarts=1, n_steps=500)
    >>> found.predict(X).shape
    (300,)
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
        """Predict responses with the recovered weights.

        Parameters
        ----------
        X
            ``(n_samples, n_inputs)``.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            One dimension if there is one output unit.
        """
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

    Minimises half the mean squared error plus an L1 penalty over minibatches, for several penalties and from several
    random starts at once, and judges each fit on validation samples. Prediction alone cannot choose the penalty,
    because without noise every small penalty predicts perfectly. The **largest** penalty is therefore chosen whose best
    restart comes within ``tolerance`` of the highest validation R^2. Good prediction does not prove that the weights
    are right, so read ``notes``, ``units`` and ``agreement`` of the result.

    Parameters
    ----------
    model
        Wiring diagram, signs, gains and thresholds.
    X
        ``(n_samples, n_inputs)`` activity of the first population.
    y
        ``(n_samples,)`` or ``(n_samples, n_outputs)`` responses of the last population.
    validation
        Samples ``(X, y)`` that are not used for fitting, or the share of the given samples to hold out.
    penalties
        L1 weights, in units of the loss per unit of weight. By default six values, from 3e-5 to 0.1 of the smallest
        penalty at which the covariance of the inputs with the responses would leave all weights of a direct connection
        at zero.
    parameterisation
        ``"projected"``: proximal Adam, with exact zeros. ``"absolute"``: Adam on phi, with weights ``sign |phi|``, the
        method of the paper. ``"multiplicative"``: Madam on ``|w|``. The last two do not reach exact zeros. ``"free"``:
        projected, with all signs ignored.
    n_restarts
        Number of random starts per penalty.
    tolerance
        Accepted loss of validation R^2.
    threshold
        Absolute weight, in units of the weights, above which a synapse counts as recovered.
    n_steps, learning_rate, batch_size
        As in :func:`fit_circuit`.
    random_state
        Seed of the starts, the minibatches and the held-out samples.

    Returns
    -------
    CircuitRecovery
        Weights of the chosen fit, with all fits and the checks.

    Raises
    ------
    ValueError
        If the data do not fit the model, hold NaN or infinite values, or have constant responses; if a penalty is
        negative; or if the parameterisation is unknown.

    References
    ----------
    Bagherian D et al. Fine-grained system identification of nonlinear neural circuits. KDD (2021). The choice of the
    penalty and the proximal form are this package's own.

    Examples
    --------
    >>> from flda.circuits import recover_circuit, simulate, system_recovery
    >>> retina = simulate.retina_circuit("2", n_kernels=3)
    >>> X, y = retina.sample(400)
    >>> found = recover_circuit(retina.model, X, y, penalties=[0.005], n_restarts=2)
    >>> system_recovery(found.weights, retina.truth) > 0.9
    True
    """
    if parameterisation not in PARAMETERISATIONS:
        raise ValueError(
            f"parameterisation {parameterisation!r} is unknown; choose one of {', '.join(PARAMETERISATIONS)}."
        )
    X, y, held = _split(model, X, y, validation, random_state)
    grid = _penalty_grid(penalties, X, y)
    if parameterisation == "free":
        model, parameterisation = model.unsigned(), "projected"

    n_penalties = len(grid)
    fits = fit_circuit(
        model, X, y, validation=held, penalties=np.repeat(grid, n_restarts),
        seeds=np.tile(np.arange(n_restarts), n_penalties) + 1000 * random_state, parameterisation=parameterisation,
        n_steps=n_steps, learning_rate=learning_rate, batch_size=batch_size,
    )  # fmt: skip
    path = pd.DataFrame(
        {
            "penalty": np.repeat(grid, n_restarts),
            "restart": np.tile(np.arange(n_restarts), n_penalties),
            "r2": [model.score(model.weights(f), X, y) for f in fits],
            "r2_validation": [model.score(model.weights(f), *held) for f in fits],
            "n_synapses": (np.abs(fits) > threshold).sum(axis=1),
        }
    )
    # the largest penalty whose best restart predicts nearly as well as the best of all fits
    best = path.groupby("penalty")["r2_validation"].max()
    penalty = float(best.index[best >= best.max() - tolerance].max())
    at_penalty = path["penalty"] == penalty
    chosen = int(path["r2_validation"].where(at_penalty).idxmax())
    path["chosen"] = path.index == chosen
    # restarts that predict as well as the chosen one: where their weights differ, the data do not determine them
    accepted = np.flatnonzero(at_penalty & (path["r2_validation"] >= path.loc[chosen, "r2_validation"] - tolerance))

    weights = model.weights(fits[chosen])
    support = model.weights((np.abs(fits[accepted]) > threshold).mean(axis=0))
    units = unit_report(model, weights, X)
    agreement = mean_agreement([model.weights(fits[i]) for i in accepted])
    notes = circuit_notes(model, weights, X, units)
    notes += _fit_notes(path, chosen, agreement, int(at_penalty.sum()), len(accepted), grid)
    for note in notes:
        logger.warning("%s", note)
    return CircuitRecovery(model, weights, penalty, path, support, units, agreement, notes)


def _split(
    model: CircuitModel, X: np.ndarray, y: np.ndarray, validation: tuple[np.ndarray, np.ndarray] | float, seed: int
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Checked training samples, and the validation samples as given or held out at random."""
    X, y = check_samples(model, X, y)
    if isinstance(validation, tuple):
        return X, y, check_samples(model, *validation, what="validation ")
    order = np.random.default_rng(seed).permutation(len(X))
    n_held = round(validation * len(X))
    if not 2 <= n_held <= len(X) - 2:
        raise ValueError(
            f"validation={validation:g} of {len(X)} samples leaves fewer than 2 samples to fit or to validate; give "
            "more samples, or another share."
        )
    held, rest = order[:n_held], order[n_held:]
    return X[rest], y[rest], (X[held], y[held])


def _penalty_grid(penalties: Sequence[float] | None, X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Checked penalties, or six default values."""
    if penalties is None:
        # The gradient at w = 0 of one input connected straight to one output is their covariance. Longer paths have
        # smaller gradients, so this bounds the useful penalties of any circuit from above.
        ceiling = np.abs((X - X.mean(0)).T @ (y - y.mean(0))).max() / len(X)
        penalties = ceiling * np.geomspace(3e-5, 1e-1, 6)
    grid = np.asarray(penalties, float)
    if grid.ndim != 1 or len(grid) == 0 or not (np.isfinite(grid).all() and (grid >= 0).all()):
        raise ValueError("penalties must be a list of finite numbers, none of them negative.")
    return grid


def _fit_notes(
    path: pd.DataFrame, chosen: int, agreement: float, n_restarts: int, n_accepted: int, grid: np.ndarray
) -> list[str]:
    """Sentences about the fits themselves: poor prediction, restarts that differ, and the ends of the path."""
    notes = []
    r2, penalty = path.loc[chosen, "r2_validation"], path.loc[chosen, "penalty"]
    if r2 < 0.9:
        notes.append(
            f"the best fit predicts the validation responses with R^2 {r2:.2f}: fits may be stuck in local minima, a "
            "sign may be wrong, or synapses may be missing. Try more restarts, then parameterisation='free'."
        )
    if n_accepted < 2 <= n_restarts:
        notes.append(f"only 1 of {n_restarts} restarts reached the highest validation R^2: add restarts.")
    if n_accepted > 1 and agreement < 0.9:
        notes.append(
            f"restarts predict equally well with different weights (agreement {agreement:.2f}): the data do not "
            "determine the weights."
        )
    if penalty == 0:
        notes.append("the chosen fit has no penalty: without noise, a high R^2 then says nothing about the weights.")
    elif len(grid) > 1 and penalty == grid.max():
        notes.append(f"the largest penalty, {penalty:g}, was chosen: add larger ones.")
    return notes
