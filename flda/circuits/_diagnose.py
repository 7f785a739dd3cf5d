"""Checks before recovered weights are read as a circuit: driven units, fits that agree, signs that are identifiable."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ._flips import flippable_units
from ._models import CircuitModel, Weights

RARE, NEARLY_ALWAYS = 0.01, 0.99  # shares of samples in which a unit is active that leave its threshold unexplored
SMALL_SHARE = 0.01  # share of the response variance below which a population hardly affects the fit


def unit_report(model: CircuitModel, weights: Weights, X: np.ndarray) -> pd.DataFrame:
    """Report how often the samples activate each hidden unit, and how much of the response depends on it.

    Parameters
    ----------
    model, weights
        The circuit.
    X
        ``(n_samples, n_inputs)``.

    Returns
    -------
    DataFrame
        One row per hidden unit, with the columns

        * ``population, unit``: name of the population and index of the unit
        * ``active``: share of the samples in which the unit is active
        * ``output_share``: variance of the change in the response when the unit is held at its mean activity, divided
          by the variance of the response

    Examples
    --------
    >>> from flda.circuits import simulate, unit_report
    >>> retina = simulate.retina_circuit("2", n_kernels=3)
    >>> X, y = retina.sample(200)
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
            # a unit held at its mean activity keeps its contribution to the mean response; only the part that varies
            # with the stimulus is removed
            if own.any() and variance > 0:
                change = response - model.activities(weights, X, clamp={(p.name, unit): own.mean()})[last]
                share = float(change.var(axis=0).sum() / variance)
            rows.append((p.name, unit, float((own > 0).mean()), share))
    return pd.DataFrame(rows, columns=["population", "unit", "active", "output_share"])


def circuit_notes(model: CircuitModel, weights: Weights, X: np.ndarray, report: pd.DataFrame) -> list[str]:
    """List, as sentences, the parts of a circuit that the samples leave undetermined.

    Parameters
    ----------
    model, weights
        The circuit, as recovered.
    X
        ``(n_samples, n_inputs)``.
    report
        Table of :func:`unit_report` for the same circuit and samples.

    Returns
    -------
    list of str
        Empty if there is nothing to report.

    Examples
    --------
    >>> from flda.circuits import circuit_notes, simulate, unit_report
    >>> retina = simulate.retina_circuit("2", n_kernels=3)
    >>> X, y = retina.sample(100, stimulus="white")
    >>> print(circuit_notes(retina.model, retina.truth, X, unit_report(retina.model, retina.truth, X))[0])
    4 of 4 amacrine units with synapses are active in fewer than 1 % of the samples (6, 7, 11, ...): ...
    """
    notes = []
    for p in model.populations[1:-1]:
        own = report[report["population"] == p.name]
        connected = _connected(model, weights, p.name)
        quiet = own.loc[(own["active"] < RARE) & connected, "unit"].to_numpy()
        if len(quiet) and p.rectify:
            notes.append(
                f"{len(quiet)} of {connected.sum()} {p.name} units with synapses are active in fewer than 1 % of the "
                f"samples ({_first_few(quiet)}): the stimulus hardly drives them, so their synapses are uncertain."
            )
        always = own.loc[(own["active"] > NEARLY_ALWAYS) & connected, "unit"].to_numpy()
        if len(always) and p.rectify:
            notes.append(
                f"{len(always)} of {p.size} {p.name} units are active in more than 99 % of the samples "
                f"({_first_few(always)}): they act linearly, so direct synapses could replace them."
            )
        total = own["output_share"].sum()
        if total < SMALL_SHARE:
            notes.append(
                f"all {p.name} units together carry {total:.2%} of the response's variance: the fit contains almost no "
                "information about them, and known signs will not help; choose a stimulus that drives them."
            )
    units = flippable_units(model, weights)
    units = units[units["flippable"]]
    if len(units):
        where = ", ".join(f"{p} {u}" for p, u in zip(units["population"][:5], units["unit"][:5], strict=True))
        notes.append(
            f"the signs of {len(units)} hidden units ({where}) can be reversed without changing the responses: specify "
            "them in the model."
        )
    return notes


def silent_facts(model: CircuitModel, X: np.ndarray, silent: dict[str, np.ndarray]) -> list[str]:
    """Sentences that name the inputs that are zero in every sample, and the hidden units that affect no response.

    Parameters
    ----------
    model, X
        The circuit and its inputs.
    silent
        Indices of the units that affect no response, by hidden population.
    """
    facts = []
    first = model.populations[0]
    off = np.flatnonzero(~(X != 0).any(axis=0))
    if len(off):
        facts.append(
            f"{len(off)} of {first.size} {first.name} units ({_first_few(off)}) are zero in every sample, so their "
            "synapses cannot be recovered and are reported as zero."
        )
    facts += [
        f"{len(silent[p.name])} of {p.size} {p.name} units ({_first_few(silent[p.name])}) affect no response in any "
        "sample, so their synapses are reported as zero."
        for p in model.populations[1:-1]
        if len(silent[p.name])
    ]
    return facts


def _connected(model: CircuitModel, weights: Weights, population: str) -> np.ndarray:
    """Which units of a population have inputs and outputs."""
    size = next(p.size for p in model.populations if p.name == population)
    into, out = np.zeros(size, bool), np.zeros(size, bool)
    for c in model.connections:
        if c.target == population:
            into |= (weights[c.name] != 0).any(axis=0)
        if c.source == population:
            out |= (weights[c.name] != 0).any(axis=1)
    return into & out


def _first_few(items: np.ndarray) -> str:
    return ", ".join(str(i) for i in items[:3]) + (", ..." if len(items) > 3 else "")
