"""How much of a circuit was recovered."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.optimize import linear_sum_assignment

ArrayOrWeights = np.ndarray | Mapping[str, np.ndarray]


def system_recovery(weights: ArrayOrWeights, truth: ArrayOrWeights) -> float:
    """System recovery ``2 <w, w*> / (||w||^2 + ||w*||^2)`` over all weights.

    One only for ``w = w*``: unlike a cosine it falls for weights of the wrong scale. Units are compared as they
    stand, without matching or rescaling; see :func:`matched_recovery` for units without names.

    Parameters
    ----------
    weights, truth
        Arrays of one shape, or dictionaries of such arrays with the same keys.

    Raises
    ------
    ValueError
        When shapes or keys differ, or both are zero everywhere.

    References
    ----------
    Bagherian D et al. Fine-grained system identification of nonlinear neural circuits. KDD (2021).

    Examples
    --------
    >>> system_recovery(np.array([1.0, 0.0]), np.array([1.0, 0.0]))
    1.0
    >>> system_recovery(np.array([2.0, 0.0]), np.array([1.0, 0.0]))
    0.8
    """
    w, t = _flat(weights, truth)
    norm = w @ w + t @ t
    if norm == 0:
        raise ValueError("recovery is not defined: all weights and all true weights are zero.")
    return float(2 * (w @ t) / norm)


def support_recovery(weights: ArrayOrWeights, truth: ArrayOrWeights, *, threshold: float = 0.07) -> float:
    """Support recovery: the Dice overlap (F1) of the synapses found and the true ones.

    Parameters
    ----------
    weights, truth
        As in :func:`system_recovery`. A synapse counts as found when its weight has the true kind of sign and an
        absolute value above the threshold; one found with the wrong sign is a false positive.
    threshold
        In units of the weights; .07 in the paper, whose weights are .2 to .8. It must follow their scale.

    Examples
    --------
    >>> support_recovery(np.array([0.5, 0.01, 0.2]), np.array([1.0, 0.0, 0.0]))
    0.6666666666666666
    """
    w, t = _flat(weights, truth)
    found, true = np.abs(w) > threshold, t != 0
    if not found.any() and not true.any():
        raise ValueError("support recovery is not defined: no weight exceeds the threshold and no true one is there.")
    return float(2 * np.sum(found & (w * t > 0)) / (found.sum() + true.sum()))


def canonical_scale(inputs: np.ndarray, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hidden units rescaled to input weights of unit norm, their outputs so that the circuit stays the same.

    A rectifying unit without a known threshold has no scale: ``v relu(w x) = (v c) relu(w x / c)``.

    Parameters
    ----------
    inputs
        ``(n_inputs, n_hidden)``.
    outputs
        ``(n_hidden, n_outputs)``.

    Returns
    -------
    Both, rescaled; units without input are left as they are.

    Examples
    --------
    >>> w, v = canonical_scale(np.array([[3.0], [4.0]]), np.array([[2.0]]))
    >>> w.ravel().tolist(), v.ravel().tolist()
    ([0.6, 0.8], [10.0])
    """
    norm = np.linalg.norm(inputs, axis=0)
    norm = np.where(norm > 0, norm, 1.0)
    return inputs / norm, outputs * norm[:, None]


def match_units(
    inputs: np.ndarray, outputs: np.ndarray, true_inputs: np.ndarray, true_outputs: np.ndarray
) -> np.ndarray:
    """Which recovered hidden unit stands for which true one (Hungarian matching).

    Maximises the summed inner products of the units' weights, inputs and outputs together, which is the numerator
    of :func:`system_recovery`.

    Parameters
    ----------
    inputs, true_inputs
        ``(n_inputs, n_hidden)``, with the same number of hidden units.
    outputs, true_outputs
        ``(n_hidden, n_outputs)``.

    Returns
    -------
    ``(n_hidden,)``: recovered unit ``order[j]`` stands for true unit j.

    Examples
    --------
    >>> w = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> match_units(w[:, ::-1], np.ones((2, 1)), w, np.ones((2, 1))).tolist()
    [1, 0]
    """
    if inputs.shape != true_inputs.shape or outputs.shape != true_outputs.shape:
        raise ValueError(
            f"weights {inputs.shape} and {outputs.shape} against a truth of {true_inputs.shape} and "
            f"{true_outputs.shape}: matching needs equal shapes; pad the smaller circuit with silent units."
        )
    gain = true_inputs.T @ inputs + true_outputs @ outputs.T
    return linear_sum_assignment(gain, maximize=True)[1]


def matched_recovery(
    inputs: np.ndarray, outputs: np.ndarray, true_inputs: np.ndarray, true_outputs: np.ndarray, *, rescale: bool = True
) -> float:
    """System recovery of hidden units that have no names: after matching, and with scales removed.

    Parameters
    ----------
    inputs, outputs, true_inputs, true_outputs
        As in :func:`match_units`.
    rescale
        Bring both circuits to their canonical scale first (see :func:`canonical_scale`); False where known
        thresholds fix it.

    Examples
    --------
    >>> w, v = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[1.0], [2.0]])
    >>> round(matched_recovery(3 * w[:, ::-1], v[::-1] / 3, w, v), 6)
    1.0
    """
    if rescale:
        inputs, outputs = canonical_scale(inputs, outputs)
        true_inputs, true_outputs = canonical_scale(true_inputs, true_outputs)
    order = match_units(inputs, outputs, true_inputs, true_outputs)
    return system_recovery({"in": inputs[:, order], "out": outputs[order]}, {"in": true_inputs, "out": true_outputs})


def _flat(weights: ArrayOrWeights, truth: ArrayOrWeights) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(weights, Mapping) != isinstance(truth, Mapping):
        raise ValueError("weights and truth must both be arrays or both be dictionaries of arrays.")
    if not isinstance(weights, Mapping) or not isinstance(truth, Mapping):
        weights, truth = {"weights": np.asarray(weights)}, {"weights": np.asarray(truth)}
    if set(weights) != set(truth):
        raise ValueError(f"weights of {sorted(weights)} cannot be compared with a truth of {sorted(truth)}.")
    for name in truth:
        if np.shape(weights[name]) != np.shape(truth[name]):
            raise ValueError(
                f"{name}: shape {np.shape(weights[name])} differs from the truth's {np.shape(truth[name])}."
            )
    pairs = [(np.ravel(weights[name]), np.ravel(truth[name])) for name in truth]
    w, t = (np.concatenate(part).astype(float) for part in zip(*pairs, strict=True))
    if not np.isfinite(w).all() or not np.isfinite(t).all():
        raise ValueError("weights hold NaN or infinite values; recovery is not defined.")
    return w, t
