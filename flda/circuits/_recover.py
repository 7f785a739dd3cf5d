"""Recovery of sparse circuits from stimuli and responses, under known signs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from .._logging import get_logger, warn
from .._progress import progress
from ._confidence import Halves, agreement, fit_halves, lowest, standard_errors
from ._diagnose import circuit_notes, silent_facts, unit_report
from ._models import CircuitModel
from ._path import Fit, climb, sharpen, without_silent
from ._samples import Samples, split_samples
from ._solve import Problem

logger = get_logger(__name__)

EXACT = 1e-6  # error of prediction, over the variance of the responses, below which no restart can pay
SAME = 0.95  # agreement from which on two starts have found the same circuit, and no further one is needed
OTHER = 0.9  # agreement below which they have found different ones
UNCERTAIN = 0.2  # relative standard error above which weights are uncertain; benchmarks/RESULTS.md shows its errors


@dataclass
class CircuitRecovery:
    """The result of :func:`recover_circuit`.

    Attributes
    ----------
    model : CircuitModel
        The circuit, with the signs that were used.
    weights : dict
        Weights ``(n_source, n_target)`` by connection, signs included. Synapses of hidden units that affect no response
        are zero.
    penalty : float
        The chosen L1 penalty.
    path : DataFrame
        One row per start and penalty, with the columns ``start, penalty, r2_validation, n_synapses`` (weights that are
        not zero) and ``chosen``.
    confidence : dict
        For every synapse, by connection, how well two fits to separate halves of the samples agree on it:
        ``2 min(|a|, |b|) / (|a| + |b|)``, which is 1 for equal weights and 0 if only one half has the synapse. NaN
        where neither has it, or if halves were not fitted.
    standard_errors : dict
        Standard error of every weight that is not zero, by connection, from the curvature of the error and the variance
        of the validation responses about their prediction. The zeros are taken as given, so it is a lower bound.
    relative_error : float
        Root of the summed squares of the standard errors over that of the weights.
    units : DataFrame
        Table of :func:`unit_report` for the weights and all samples.
    agreement : float
        System recovery of one half's weights by the other half; NaN if halves were not fitted.
    learning : DataFrame
        The learning curve: ``n_samples, r2_validation, agreement`` of the halves and of all samples. For all samples
        the agreement is that of the halves with them.
    warnings : list of str
        Reasons not to read the weights as the true circuit, one sentence each. They are also logged as warnings.
    notes : list of str
        The warnings, and after them facts to know, such as the units that no sample activates.

    Examples
    --------
    >>> from flda.circuits import recover_circuit, simulate
    >>> retina = simulate.retina_circuit("2", n_kernels=3)
    >>> X, y = retina.sample(300)
    >>> found = recover_circuit(retina.model, X, y, halves=False)
    >>> found.predict(X).shape
    (300,)
    """

    model: CircuitModel
    weights: dict[str, np.ndarray]
    penalty: float
    path: pd.DataFrame
    confidence: dict[str, np.ndarray]
    standard_errors: dict[str, np.ndarray]
    relative_error: float
    units: pd.DataFrame
    agreement: float
    learning: pd.DataFrame
    warnings: list[str] = field(default_factory=list)
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
    validation: Samples | float = 0.2,
    penalties: Sequence[float] | None = None,
    halves: bool = True,
    n_restarts: int = 4,
    random_state: int = 0,
) -> CircuitRecovery:
    """Recover the weights of a circuit whose wiring diagram and signs are known.

    Minimises half the mean squared error plus an L1 penalty, with every known sign as a bound, by scipy's L-BFGS-B. The
    penalties form a ladder, on which each fit starts from its neighbour's weights. At every penalty a few rounds of
    reweighted L1 remove the shrinkage. The penalty with the smallest error on validation samples is chosen, where
    without noise errors differ by orders of magnitude long after R^2 has reached 1.000, and the circuit is fitted at
    it to all samples.

    Further starts follow until two of them find the same circuit, unless the first predicts without error. Where signs
    are unknown, many starts end in a wrong minimum. Two more fits, each to one half of the samples and from a start of
    its own, say how far the data determine each weight. Good prediction does not prove that the weights are right, so
    read ``warnings``, ``confidence`` and ``units`` of the result.

    Parameters
    ----------
    model
        Wiring diagram, signs, gains and thresholds. Give ``model.unsigned()`` to ignore the signs.
    X
        ``(n_samples, n_inputs)`` activity of the first population.
    y
        ``(n_samples,)`` or ``(n_samples, n_outputs)`` responses of the last population.
    validation
        Samples ``(X, y)`` that only choose the penalty, or the share of the given samples to hold out for the choice.
    penalties
        L1 weights, in units of the loss per unit of weight. By default a ladder with two steps per factor of ten,
        within 6e-6 to 0.2 of the largest covariance of an input with a response. It starts at 6e-3 and goes the way on
        which the validation error falls. ``[0.0]`` fits without a penalty.
    halves
        Whether to fit the halves of the samples. Without them there is no ``confidence`` and no ``agreement``.
    n_restarts
        Largest number of starts.
    random_state
        Seed of the starts, the halves and the held-out samples.

    Returns
    -------
    CircuitRecovery
        Weights, with the path, the confidence and the checks.

    Raises
    ------
    ValueError
        If the data do not fit the model, hold NaN or infinite values, or have constant responses; or if a penalty is
        negative.

    References
    ----------
    Bagherian D et al. Fine-grained system identification of nonlinear neural circuits. KDD (2021). Byrd RH et al. A
    limited memory algorithm for bound constrained optimization. SIAM J. Sci. Comput. 16:1190 (1995). Candes EJ, Wakin
    MB, Boyd SP. Enhancing sparsity by reweighted l1 minimization. J. Fourier Anal. Appl. 14:877 (2008). The ladder, the
    choice of the penalty and the halves are this package's own.

    Examples
    --------
    >>> from flda.circuits import recover_circuit, simulate, system_recovery
    >>> retina = simulate.retina_circuit("2", n_kernels=3)
    >>> found = recover_circuit(retina.model, *retina.sample(400))
    >>> system_recovery(found.weights, retina.truth) > 0.99
    True
    """
    if n_restarts < 1:
        raise ValueError(f"n_restarts={n_restarts} must be at least 1.")
    train, held = split_samples(model, X, y, validation, random_state)
    grid = _checked(penalties)
    seed = 1000 * random_state
    problem = Problem(model, train)
    ladders, best, again = _search(problem, held, n_restarts, grid, seed)
    whole = train if isinstance(validation, tuple) else _joined(train, held)
    problem = Problem(model, whole)
    parts = fit_halves(model, whole, best.penalty, seed) if halves else None
    lasso = lowest(problem, best.penalty, [best.lasso, *(parts.lasso if parts and best.error > EXACT else [])])
    theta, silent = without_silent(model, sharpen(problem, lasso, best.penalty), whole[0])

    weights = model.weights(theta)
    units = unit_report(model, weights, whole[0])
    errors = standard_errors(problem, theta, best.error * float(whole[1].var(axis=0).mean()))
    relative = float(np.linalg.norm(errors) / (np.linalg.norm(theta) or np.nan))
    learning = _learning_curve(model, theta, best, parts, len(whole[0]))
    again = np.fmin(again, agreement(model, theta, best.theta))  # the start of a half may have led elsewhere
    warnings = _recovery_notes(best, again, relative, learning, grid) + circuit_notes(model, weights, whole[0], units)
    facts = silent_facts(model, whole[0], silent)
    for note in warnings:
        warn(note)
    for note in facts:
        logger.info("%s", note)
    return CircuitRecovery(
        model=model,
        weights=weights,
        penalty=best.penalty,
        path=_path_table(ladders, best),
        confidence=model.weights(parts.confidence if parts else np.full(model.n_parameters, np.nan)),
        standard_errors=model.weights(errors),
        relative_error=relative,
        units=units,
        agreement=parts.agreement if parts else np.nan,
        learning=learning,
        warnings=warnings,
        notes=warnings + facts,
    )


def _checked(penalties: Sequence[float] | None) -> list[float] | None:
    if penalties is None:
        return None
    grid = np.asarray(penalties, float)
    if grid.ndim != 1 or len(grid) == 0 or not (np.isfinite(grid).all() and (grid >= 0).all()):
        raise ValueError("penalties must be a list of finite numbers, none of them negative.")
    return [float(penalty) for penalty in grid]


def _search(
    problem: Problem, held: Samples, n_restarts: int, grid: list[float] | None, seed: int
) -> tuple[list[list[Fit]], Fit, float]:
    """Fits along the ladder from one start after the other, until two find the same circuit or one makes no error.

    Returns
    -------
    ladders : list of list of Fit
        The fits of every start.
    best : Fit
        The one with the smallest error on held-out samples.
    again : float
        Agreement with it of the most similar best fit of another start; NaN if there was one start.
    """
    ladders: list[list[Fit]] = []
    for start in range(n_restarts):
        fits = climb(problem, held, seed + 100 * start, grid)
        ladders.append(list(progress(fits, desc=f"penalties, start {start + 1}")))
        tops = [min(ladder, key=lambda f: f.error) for ladder in ladders]
        best = min(tops, key=lambda f: f.error)
        others = [agreement(problem.model, f.theta, best.theta) for f in tops if f is not best]
        again = max(others, default=np.nan)
        if best.penalty == 0 or best.error < EXACT or again >= SAME:
            break
    return ladders, best, again


def _joined(a: Samples, b: Samples) -> Samples:
    return np.concatenate([a[0], b[0]]), np.concatenate([a[1], b[1]])


def _path_table(ladders: list[list[Fit]], best: Fit) -> pd.DataFrame:
    rows = [
        (start, f.penalty, 1 - f.error, int((f.theta != 0).sum()), f is best)
        for start, fits in enumerate(ladders)
        for f in fits
    ]
    table = pd.DataFrame(rows, columns=["start", "penalty", "r2_validation", "n_synapses", "chosen"])
    return table.sort_values(["start", "penalty"], ascending=[True, False], ignore_index=True)


def _learning_curve(
    model: CircuitModel, theta: np.ndarray, best: Fit, parts: Halves | None, n_samples: int
) -> pd.DataFrame:
    rows = [(n_samples, 1 - best.error, np.nan)]
    if parts:
        shared = float(np.mean([agreement(model, half, theta) for half in parts.theta]))
        rows = [(n_samples // 2, 1 - parts.error, parts.agreement), (n_samples, 1 - best.error, shared)]
    return pd.DataFrame(rows, columns=["n_samples", "r2_validation", "agreement"])


def _recovery_notes(
    best: Fit, again: float, relative: float, learning: pd.DataFrame, grid: list[float] | None
) -> list[str]:
    """Sentences about the fits themselves: uncertain weights, starts that differ, and poor prediction."""
    notes = []
    if not relative < UNCERTAIN:
        note = (
            f"too few samples for this noise: the standard errors of the weights amount to {relative:.0%} of the "
            "weights, and the choice of the synapses adds to it. Record more, or read only synapses of high confidence."
        )
        if len(learning) > 1:
            (n, r2, shared), (n_all, r2_all, _) = learning.itertuples(index=False)
            note += (
                f" Learning curve: R^2 {r2:.3f} from {n} samples and {r2_all:.3f} from all {n_all}; fits to the two "
                f"halves agree by {shared:.2f}."
            )
        notes.append(note)
    if again < OTHER and best.error >= EXACT and best.penalty > 0:
        notes.append(
            f"other fits that should find the same circuit agree with it only by {again:.2f}, so these weights can "
            "belong to a wrong minimum. Raise n_restarts, or specify signs that are unknown."
        )
    if best.error > 0.5:
        notes.append(
            f"the best fit predicts the validation responses with R^2 {1 - best.error:.2f}: samples may be too few or "
            "noisy, a sign may be wrong, or synapses may be missing. Compare with model.unsigned()."
        )
    if best.penalty == 0:
        notes.append("the chosen fit has no penalty: without noise, a high R^2 then says nothing about the weights.")
    elif grid is not None and len(grid) > 1 and best.penalty == max(grid):
        notes.append(f"the largest penalty, {best.penalty:g}, was chosen: add larger ones.")
    return notes
