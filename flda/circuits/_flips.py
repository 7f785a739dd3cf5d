"""Hidden units whose sign can be reversed without any change in the responses.

``relu(z) = z + relu(-z)``. A unit with drive z and output weight v therefore contributes ``v relu(z)`` =
``v z + v relu(-z)``: the inputs of the unit can be negated if direct synapses from its inputs to its targets carry the
linear part ``v z``. If signs and thresholds are free, a circuit with H hidden units has 2^H equivalent circuits.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ._models import CircuitModel, Population, Weights


def flip_unit(
    model: CircuitModel, weights: Weights, population: str, unit: int
) -> tuple[CircuitModel, dict[str, np.ndarray]]:
    """Reverse the sign of a hidden unit's inputs and compensate, so that the circuit's responses stay the same.

    Since ``relu(z) = z + relu(-z)``, the responses do not change if the inputs and the threshold of a unit are negated
    and its linear part is added to the direct synapses from its inputs to its targets. Responses alone can therefore
    never distinguish the two circuits; known signs or thresholds can (see :func:`flippable_units`).

    Parameters
    ----------
    model, weights
        The circuit.
    population, unit
        Name of a rectifying hidden population, and index of the unit.

    Returns
    -------
    model : CircuitModel
        The model of the equivalent circuit. Its thresholds differ, and synapses that would break their known sign have
        unknown signs.
    weights : dict
        Its weights by connection.

    Raises
    ------
    ValueError
        If the population is not a rectifying hidden population, or if an input of the unit has no direct synapse onto
        one of the unit's targets.

    Examples
    --------
    >>> import numpy as np
    >>> from flda.circuits import flip_unit, simulate
    >>> retina = simulate.retina_circuit("2", n_kernels=3)
    >>> X, y = retina.sample(50)
    >>> other, flipped = flip_unit(retina.model, retina.truth, "amacrine", 6)
    >>> bool(np.allclose(other.predict(flipped, X), y))
    True
    """
    own = next((p for p in model.populations[1:-1] if p.name == population), None)
    if own is None or not own.rectify:
        raise ValueError(f"{population!r} is not a rectifying hidden population of this circuit.")
    missing = _missing_paths(model, weights, population, unit)
    if missing:
        raise ValueError(
            f"unit {unit} of {population!r} cannot be flipped: no direct synapses {missing[0]} can carry its linear "
            "part."
        )
    gain = float(np.broadcast_to(own.gain, own.size)[unit])
    threshold = _thresholds(own).copy()
    flipped = {name: np.array(w, float) for name, w in weights.items()}
    thresholds: dict[str, float | np.ndarray] = {}
    for out in (c for c in model.connections if c.source == population):
        v = weights[out.name][unit]
        target = next(p for p in model.populations if p.name == out.target)
        # the linear part v (gain w x - threshold): its weights go to the direct synapses ...
        for into in (c for c in model.connections if c.target == population):
            w = weights[into.name][:, unit]
            if w.any() and v.any():
                flipped[f"{into.source}->{out.target}"] += gain * np.outer(w, v)
        # ... and its constant to the thresholds of the targets
        level = np.broadcast_to(np.asarray(thresholds.get(target.name, target.threshold), float), target.size)
        thresholds[target.name] = level + np.broadcast_to(target.gain, target.size) * v * threshold[unit]
    for into in (c for c in model.connections if c.target == population):
        flipped[into.name][:, unit] *= -1
    threshold[unit] *= -1
    thresholds[population] = threshold
    other = model.with_thresholds(thresholds)
    signs = model.signs.copy()
    signs[other.parameters(flipped) * signs < 0] = np.nan
    return other.with_signs(signs), flipped


def flippable_units(model: CircuitModel, weights: Weights) -> pd.DataFrame:
    """Report which hidden units could have the opposite sign within the model, and what excludes it for the others.

    Parameters
    ----------
    model, weights
        The circuit, for example as recovered.

    Returns
    -------
    DataFrame
        One row per rectifying hidden unit that has inputs and outputs, with the columns

        * ``population, unit``: name of the population and index of the unit
        * ``direct_path``: whether direct synapses could carry the unit's linear part
        * ``free_signs``: whether none of its inputs has a known sign
        * ``zero_threshold``: whether its threshold is zero; otherwise the flipped unit would need another threshold
        * ``flippable``: whether all three hold, so that the sign of the unit is not identifiable

    Examples
    --------
    >>> from flda.circuits import flippable_units, simulate
    >>> retina = simulate.retina_circuit("2", n_kernels=3)
    >>> bool(flippable_units(retina.model, retina.truth)["flippable"].any())
    False
    """
    known = model.weights(model.signs)  # NaN where the sign of a synapse is unknown
    rows = []
    for p in model.populations[1:-1]:
        if not p.rectify:
            continue
        into = [c.name for c in model.connections if c.target == p.name]
        out = [c.name for c in model.connections if c.source == p.name]
        for unit in range(p.size):
            used = [(weights[name][:, unit], known[name][:, unit]) for name in into]
            if not any(w.any() for w, _ in used) or not any(weights[name][unit].any() for name in out):
                continue
            path = not _missing_paths(model, weights, p.name, unit)
            free = all(np.isnan(s[w != 0]).all() for w, s in used)
            zero = float(_thresholds(p)[unit]) == 0
            rows.append((p.name, unit, path, free, zero, path and free and zero))
    columns = ["population", "unit", "direct_path", "free_signs", "zero_threshold", "flippable"]
    return pd.DataFrame(rows, columns=columns)


def _thresholds(p: Population) -> np.ndarray:
    """Threshold of every unit."""
    return np.broadcast_to(np.asarray(p.threshold, float), p.size)


def _missing_paths(model: CircuitModel, weights: Weights, population: str, unit: int) -> list[str]:
    """Direct connections that flipping a unit needs but that lack some of the synapses."""
    masks = {s.name: (s.rows, s.cols) for s in model.synapses}
    missing = []
    for into in (c for c in model.connections if c.target == population):
        for out in (c for c in model.connections if c.source == population):
            needed = np.outer(weights[into.name][:, unit], weights[out.name][unit]) != 0
            name = f"{into.source}->{out.target}"
            if name in masks:
                needed[masks[name]] = False
            if needed.any():
                missing.append(name)
    return missing
