"""How well the weights of a circuit were recovered."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.optimize import linear_sum_assignment

ArrayOrWeights = np.ndarray | Mapping[str, np.ndarray]


def system_recovery(weights: ArrayOrWeights, truth: ArrayOrWeights) -> float:
    """Compute system recovery, the similarity of all recovered weights w to the true weights w*.

    ``2 <w, w*> / (|w|^2 + |w*|^2)``. It is 1 only for ``w = w*``: unlike a cosine, it also falls if the scale of the
    weights is wrong. Units are compared in the given order and at the given scale; for hidden units without names see
    :func:`matched_recovery`.

    Parameters
    ----------
    weights, truth
        Arrays of the same shape, or dictionaries of such arrays with the same keys.

    Returns
    -------
    float
        Between -1 and 1.

    Raises
    ------
    ValueError
        If shapes or keys differ, if weights are NaN or infinite, or if all weights on both sides are zero.

    References
    ----------
    Bagherian D et al. Fine-grained system identification of nonlinear neural circuits. KDD (2021).

    Examples
    --------
    >>> import numpy as np
    >>> from flda.circuits import system_recovery
    >>> system_recovery(np.array([1.0, 0.0]), np.array([1.0, 0.0]))
    1.0
    >>> system_recovery(np.array([2.0, 0.0]), np.array([1.0, 0.0]))
    0.8
    """
    w, t = _flat(weights, truth)
    norm = w @ w + t @ t
    if norm == 0:
        raise ValueError("system recovery is undefined: all weights and all true weights are zero.")
    return float(2 * (w @ t) / norm)


def support_recovery(weights: ArrayOrWeights, truth: ArrayOrWeights, *, threshold: float = 0.07) -> float:
    """Compute support recovery, the Dice overlap (F1 score) of the recovered synapses and the true ones.

    Parameters
    ----------
    weights, truth
        As in :func:`system_recovery`. A synapse counts as recovered if the absolute value of its weight exceeds the
        threshold and its sign is right. A synapse with the wrong sign is a false positive.
    threshold
        In units of the weights. The default, 0.07, is that of the paper, whose weights are 0.2 to 0.8; weights of
        another scale need another threshold.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    ValueError
        As in :func:`system_recovery`, or if there are neither recovered nor true synapses.

    References
    ----------
    Bagherian D et al. Fine-grained system identification of nonlinear neural circuits. KDD (2021).

    Examples
    --------
    >>> import numpy as np
    >>> from flda.circuits import support_recovery
    >>> support_recovery(np.array([0.5, 0.01, 0.2]), np.array([1.0, 0.0, 0.0]))
    0.6666666666666666
    """
    w, t = _flat(weights, truth)
    found, true = np.abs(w) > threshold, t != 0
    if not found.any() and not true.any():
        raise ValueError(
            f"support recovery is undefined: no weight exceeds threshold={threshold:g}, and no true weight is non-zero."
        )
    return float(2 * np.sum(found & (w * t > 0)) / (found.sum() + true.sum()))


def canonical_scale(inputs: np.ndarray, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rescale hidden units to input weights of unit norm without changing the circuit's responses.

    The scale of a rectifying unit without a known threshold is undetermined, because
    ``v relu(w x) = (v c) relu(w x / c)`` for every positive c.

    Parameters
    ----------
    inputs
        ``(n_inputs, n_hidden)`` weights onto the hidden units.
    outputs
        ``(n_hidden, n_outputs)`` weights from the hidden units.

    Returns
    -------
    inputs, outputs : ndarray
        The rescaled weights. Units without inputs do not change.

    Examples
    --------
    >>> import numpy as np
    >>> from flda.circuits import canonical_scale
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
    """Match recovered hidden units to true ones, one to one.

    The matching maximises the sum of the inner products of matched units' weights, inputs and outputs together, which
    is the numerator of :func:`system_recovery`. It is found by the Hungarian algorithm.

    Parameters
    ----------
    inputs, true_inputs
        ``(n_inputs, n_hidden)``, with the same number of hidden units.
    outputs, true_outputs
        ``(n_hidden, n_outputs)``.

    Returns
    -------
    ndarray of shape (n_hidden,)
        Recovered unit ``order[j]`` corresponds to true unit j.

    Raises
    ------
    ValueError
        If the shapes of the two circuits differ.

    Examples
    --------
    >>> import numpy as np
    >>> from flda.circuits import match_units
    >>> w = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> match_units(w[:, ::-1], np.ones((2, 1)), w, np.ones((2, 1))).tolist()
    [1, 0]
    """
    if inputs.shape != true_inputs.shape or outputs.shape != true_outputs.shape:
        raise ValueError(
            f"recovered weights have shapes {inputs.shape} and {outputs.shape}, true ones {true_inputs.shape} and "
            f"{true_outputs.shape}; add hidden units with zero weights to the smaller circuit."
        )
    # gain[j, k]: inner product of the weights of true unit j and recovered unit k
    gain = true_inputs.T @ inputs + true_outputs @ outputs.T
    return linear_sum_assignment(gain, maximize=True)[1]


def matched_recovery(
    inputs: np.ndarray, outputs: np.ndarray, true_inputs: np.ndarray, true_outputs: np.ndarray, *, rescale: bool = True
) -> float:
    """Compute system recovery after hidden units have been matched and rescaled.

    Parameters
    ----------
    inputs, outputs, true_inputs, true_outputs
        As in :func:`match_units`.
    rescale
        Whether to bring both circuits to their canonical scale first (see :func:`canonical_scale`). Set it to False if
        known thresholds fix the scale.

    Returns
    -------
    float
        :func:`system_recovery` of the matched circuit.

    Raises
    ------
    ValueError
        As in :func:`match_units` and :func:`system_recovery`.

    Examples
    --------
    >>> import numpy as np
    >>> from flda.circuits import matched_recovery
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
    """All weights of both circuits as vectors in the same order."""
    if isinstance(weights, Mapping) != isinstance(truth, Mapping):
        raise ValueError("weights and truth must both be arrays, or both be dictionaries of arrays.")
    if not isinstance(weights, Mapping) or not isinstance(truth, Mapping):
        weights, truth = {"weights": np.asarray(weights)}, {"weights": np.asarray(truth)}
    if set(weights) != set(truth):
        raise ValueError(
            f"weights have the connections {sorted(weights)} and truth has {sorted(truth)}; use the same names."
        )
    for name in truth:
        if np.shape(weights[name]) != np.shape(truth[name]):
            raise ValueError(
                f"{name!r} has shape {np.shape(weights[name])} in weights and {np.shape(truth[name])} in truth; "
                "they must be equal."
            )
    pairs = [(np.ravel(weights[name]), np.ravel(truth[name])) for name in truth]
    w, t = (np.concatenate(part).astype(float) for part in zip(*pairs, strict=True))
    if not np.isfinite(w).all() or not np.isfinite(t).all():
        raise ValueError("weights or truth hold NaN or infinite values, for which recovery is undefined.")
    return w, t
