"""What to look at before weights are read as a circuit: driven units, fits that agree, sign-flipped twins."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from .metrics import system_recovery
from .models import CircuitModel, Weights

FEW, MANY = 0.01, 0.99  # shares of samples below and above which a unit's threshold is hardly ever crossed
SMALL_SHARE = 0.01


def unit_report(model: CircuitModel, weights: Weights, X: np.ndarray) -> pd.DataFrame:
    """How much the samples drive every hidden unit, and how much of the output it carries.

    Parameters
    ----------
    model, weights
        The circuit.
    X
        ``(n_samples, n_inputs)``.

    Returns
    -------
    DataFrame with a row per hidden unit: ``population, unit, active`` (share of samples in which it fires),
    ``output_share`` (mean squared change of the response, its mean taken off, when the unit is held at its mean
    activity, over the variance of the response).

    Examples
    --------
    >>> from flda.circuits import simulate
    >>> retina = simulate.retina_circuit("2", n_kernels=3)
    >>> X, y = retina.sample(200, random_state=0)
    >>> report = unit_report(retina.model, retina.truth, X)
    >>> int((report["active"] > 0.01).sum()), len(report)
    (4, 25)
    """
    activity = model.activities(weights, X)
    last = model.populations[-1].name
    response = activity[last]
    variance = response.var(axis=0).sum()
    rows = []
    for p in model.populations[1:-1]:
        for unit in range(p.size):
            own = activity[p.name][:, unit]
            share = 0.0
            if own.any() and variance > 0:
                change = response - model.activities(weights, X, clamp={(p.name, unit): own.mean()})[last]
                share = float(change.var(axis=0).sum() / variance)
            rows.append((p.name, unit, float((own > 0).mean()), share))
    return pd.DataFrame(rows, columns=["population", "unit", "active", "output_share"])


def agreement(fits: Sequence[Weights]) -> float:
    """Mean system recovery between all pairs of fits; NaN for fewer than two.

    Parameters
    ----------
    fits
        Weights by connection, one dictionary per fit.

    Examples
    --------
    >>> agreement([{"w": np.ones(2)}, {"w": np.ones(2)}])
    1.0
    """
    pairs = [
        system_recovery(a, b)
        for a, b in combinations(fits, 2)
        if any(np.any(w != 0) for w in (*a.values(), *b.values()))
    ]
    return float(np.mean(pairs)) if pairs else float("nan")


def flip_unit(
    model: CircuitModel, weights: Weights, population: str, unit: int
) -> tuple[CircuitModel, dict[str, np.ndarray]]:
    """The sign-flipped twin of a hidden unit: another circuit with the same responses.

    ``relu(z) = z + relu(-z)``: negating a unit's inputs and threshold and adding its linear part to the direct path
    from its inputs to its targets changes nothing. With free signs and thresholds, H hidden units have 2^H such
    circuits, and no data tell them apart.

    Parameters
    ----------
    model, weights
        The circuit.
    population, unit
        The hidden unit.

    Returns
    -------
    The twin's model (its signs are free where the twin needs it, its thresholds changed) and weights.

    Raises
    ------
    ValueError
        When an input of the unit has no direct synapse onto a target of the unit, so that there is no twin.

    Examples
    --------
    >>> from flda.circuits import simulate
    >>> retina = simulate.retina_circuit("2", n_kernels=3)
    >>> X, y = retina.sample(50, random_state=0)
    >>> twin, flipped = flip_unit(retina.model, retina.truth, "amacrine", 6)
    >>> bool(np.allclose(twin.predict(flipped, X), y))
    True
    """
    own = next((p for p in model.populations[1:-1] if p.name == population), None)
    if own is None or not own.rectify:
        raise ValueError(f"{population!r} is not a rectifying hidden population of this circuit.")
    gain = float(np.broadcast_to(own.gain, own.size)[unit])
    threshold = np.broadcast_to(np.asarray(own.threshold, float), own.size).copy()
    missing = _missing_skips(model, weights, population, unit)
    if missing:
        raise ValueError(
            f"unit {unit} of {population!r} has no twin: no direct synapses {missing[0]} carry its linear part."
        )
    found = {name: np.array(w, float) for name, w in weights.items()}
    thresholds: dict[str, float | np.ndarray] = {}
    for out in (c for c in model.connections if c.source == population):
        v = weights[out.name][unit]
        target = next(p for p in model.populations if p.name == out.target)
        for into in (c for c in model.connections if c.target == population):
            w = weights[into.name][:, unit]
            if w.any() and v.any():
                found[f"{into.source}->{out.target}"] += gain * np.outer(w, v)
        level = np.broadcast_to(np.asarray(thresholds.get(target.name, target.threshold), float), target.size)
        thresholds[target.name] = level + np.broadcast_to(target.gain, target.size) * v * threshold[unit]
    for into in (c for c in model.connections if c.target == population):
        found[into.name][:, unit] *= -1
    threshold[unit] *= -1
    thresholds[population] = threshold
    signs = model.signs.copy()
    twin = model.with_thresholds(thresholds)
    values = twin.parameters(found)
    signs[values * signs < 0] = np.nan
    return twin.with_signs(signs), found


def flip_twins(model: CircuitModel, weights: Weights) -> pd.DataFrame:
    """Which hidden units have a sign-flipped twin inside the model, and what rules it out for the others.

    Parameters
    ----------
    model, weights
        The circuit, as recovered.

    Returns
    -------
    DataFrame with a row per rectifying hidden unit that has inputs and targets: ``population, unit, skip`` (direct
    synapses could carry its linear part), ``signs`` (the known signs allow negated inputs), ``threshold`` (its
    threshold is 0, or would be wrong in the twin) and ``twin`` (all three: its sign is not identifiable).

    Examples
    --------
    >>> from flda.circuits import simulate
    >>> retina = simulate.retina_circuit("2", n_kernels=3)
    >>> bool(flip_twins(retina.model, retina.truth)["twin"].any())
    False
    """
    known = model.weights(model.signs)  # NaN marks free synapses
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
            skip = not _missing_skips(model, weights, p.name, unit)
            signs = all(np.isnan(s[w != 0]).all() for w, s in used)
            threshold = float(np.broadcast_to(p.threshold, p.size)[unit]) == 0
            rows.append((p.name, unit, skip, signs, threshold, skip and signs and threshold))
    return pd.DataFrame(rows, columns=["population", "unit", "skip", "signs", "threshold", "twin"])


def circuit_notes(model: CircuitModel, weights: Weights, X: np.ndarray, report: pd.DataFrame) -> list[str]:
    """Sentences about units that the samples do not determine.

    Parameters
    ----------
    model, weights
        The circuit, as recovered.
    X
        ``(n_samples, n_inputs)``.
    report
        From :func:`unit_report`.

    Examples
    --------
    >>> from flda.circuits import simulate
    >>> retina = simulate.retina_circuit("2", n_kernels=3)
    >>> X, y = retina.sample(100, stimulus="white", random_state=0)
    >>> print(circuit_notes(retina.model, retina.truth, X, unit_report(retina.model, retina.truth, X))[0])
    25 of 25 amacrine units fire in fewer than 1 % of the samples (0, 1, 2, ...): ...
    """
    notes = []
    first = model.populations[0].name
    silent = np.flatnonzero(~(np.asarray(X) != 0).any(axis=0))
    if len(silent):
        notes.append(
            f"{_listed(silent)} of the {first} units are zero in every sample: their synapses cannot be recovered."
        )
    for p in model.populations[1:-1]:
        own = report[report["population"] == p.name]
        quiet = own.loc[own["active"] < FEW, "unit"].to_numpy()
        if len(quiet) and p.rectify:
            notes.append(
                f"{len(quiet)} of {p.size} {p.name} units fire in fewer than 1 % of the samples ({_few(quiet)}): "
                "the stimulus does not drive them, and their synapses, if any, are not recovered."
            )
        always = own.loc[own["active"] > MANY, "unit"].to_numpy()
        if len(always) and p.rectify:
            notes.append(
                f"{len(always)} of {p.size} {p.name} units fire in nearly all samples ({_few(always)}): "
                "they act linearly, and a direct path could stand in for them."
            )
        total = own["output_share"].sum()
        if total < SMALL_SHARE:
            notes.append(
                f"all {p.name} units together carry {total:.2%} of the response's variance: the fit says next to "
                "nothing about them, and known signs will not help; choose a stimulus that drives them."
            )
    twins = flip_twins(model, weights)
    twins = twins[twins["twin"]]
    if len(twins):
        where = ", ".join(f"{p} {u}" for p, u in zip(twins["population"][:5], twins["unit"][:5], strict=True))
        notes.append(
            f"{len(twins)} hidden units have a sign-flipped twin with the same responses ({where}): fix their signs."
        )
    return notes


def _missing_skips(model: CircuitModel, weights: Weights, population: str, unit: int) -> list[str]:
    """Direct connections that the twin of a unit needs and the circuit lacks."""
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


def _few(items: np.ndarray) -> str:
    return ", ".join(str(i) for i in items[:3]) + (", ..." if len(items) > 3 else "")


def _listed(items: np.ndarray) -> str:
    return f"{len(items)} ({_few(items)})"
