"""Stimuli and responses of a circuit, checked, and held out for validation."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._models import CircuitModel

Samples = tuple[np.ndarray, np.ndarray]  # inputs (n, n_inputs) and responses (n, n_outputs)


def check_samples(model: CircuitModel, X: Any, y: Any, what: str = "") -> Samples:
    """Inputs ``(n, n_inputs)`` and responses ``(n, n_outputs)`` as floats, if they fit the model and are finite.

    Parameters
    ----------
    model, X, y
        As in :func:`recover_circuit`.
    what
        Name of the samples in error messages, such as ``"validation "``.
    """
    X, y = np.asarray(X, float), np.asarray(y, float)
    first, last = model.populations[0], model.populations[-1]
    y = y[:, None] if y.ndim == 1 else y
    if X.ndim != 2 or X.shape[1] != first.size:
        raise ValueError(
            f"{what}X has shape {X.shape}; it needs one column for each of the {first.size} units of population "
            f"{first.name!r}."
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
                "remove those samples."
            )
    if len(y) and (y == y[0]).all():
        raise ValueError(f"{what}y is the same in all {len(y)} samples; a circuit cannot be recovered from it.")
    return X, y


def split_samples(
    model: CircuitModel, X: np.ndarray, y: np.ndarray, validation: Samples | float, seed: int
) -> tuple[Samples, Samples]:
    """Checked training samples, and the validation samples as given or held out at random."""
    X, y = check_samples(model, X, y)
    if isinstance(validation, tuple):
        return (X, y), check_samples(model, *validation, what="validation ")
    order = np.random.default_rng(seed).permutation(len(X))
    n_held = round(validation * len(X))
    if not 2 <= n_held <= len(X) - 2:
        raise ValueError(
            f"validation={validation:g} of {len(X)} samples leaves fewer than 2 samples to fit or to validate; give "
            "more samples, or another share."
        )
    held, rest = order[:n_held], order[n_held:]
    return (X[rest], y[rest]), (X[held], y[held])
