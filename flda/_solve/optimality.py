"""The optimality gap of a sparse axis: how much better the best axis with as many genes can be.

The gap is ``bound / value - 1``, where no axis with as many genes has an objective above the bound
(:mod:`flda._solve.bound`). It is about the problem that the search for this axis solved: the objective of the effect,
over the allowed genes, zero along effects with an infinite penalty, and orthogonal to the axes of the effect that were
found before. So the gap of a second axis says nothing about another choice of the first one.

The difference ``u'(N - P) u / u' M u`` is at most lambda > 0 for all supports if and only if the ratio
``u' N u / u' (M + P / lambda) u`` is. So its bound is a lambda for which the bound of that ratio is not above lambda.
"""

from __future__ import annotations

import numpy as np

from .bound import ROUNDING, best_bound
from .refit import Refit
from .rows import Rows, WithRows

TRIES = 3  # values of lambda that are tried for the difference


def optimality_gap(
    refit: Refit,
    value: float,
    k: int,
    allowed: np.ndarray,
    inner: np.ndarray,
    *,
    work: float,
) -> float:
    """Compute the gap of an axis, before it is added to the refit.

    Parameters
    ----------
    refit
        The effect and its axes so far.
    value
        The objective of the axis.
    k
        Its number of genes.
    allowed
        Genes that may be selected, (p,) boolean.
    inner
        ``T M_e(g)^-1 T'`` for the rows T of the effect followed by those that count against it.
    work
        When branch and bound stops, in units of about a nanosecond. The gap is valid wherever it stops.

    Returns
    -------
    The gap, at least 0, or NaN if the objective of the axis is not positive.
    """
    if not value > 0:
        return np.nan
    d = len(refit.own)

    def bound(W: Rows, weight: float, target: float) -> float:
        """Bound the ratio; the rows that count against the axis have been added to M_e(g) with a weight."""
        own, cross, rest = inner[:d, :d], np.sqrt(weight) * inner[d:, :d], weight * inner[d:, d:]
        K = own - cross.T @ np.linalg.solve(np.eye(len(rest)) + rest, cross)  # H W^-1 H'
        K = (K + K.T) / 2
        # directions move to the denominator by this K, which holds for all u, orthogonal to earlier axes or not
        found = best_bound(W, refit.own, refit.zero, allowed, k, target, K=K, work=work)
        return min(found.bound, max(float(np.linalg.eigvalsh(_without_earlier(K, refit))[-1]), target))

    if not len(refit.subtracted):
        reached = bound(refit.denominator, 1.0, value)
    else:
        reached, trial = np.inf, value
        for attempt in range(TRIES):
            W = WithRows(refit.denominator, refit.subtracted / np.sqrt(trial))
            found = bound(W, 1 / trial, trial)
            if found <= trial * (1 + ROUNDING):
                reached = trial
                break
            # the bound falls relative to lambda as lambda grows
            trial = value + 2**attempt * max(found - value, 0.01 * value)
        d_all = inner[:d, :d]
        reached = min(reached, float(np.linalg.eigvalsh(d_all)[-1]))
    gap = reached / value - 1
    return gap if gap > ROUNDING else 0.0


def _without_earlier(K: np.ndarray, refit: Refit) -> np.ndarray:
    """Take the axes found before off ``H W^-1 H'``, as later axes are orthogonal to them in W."""
    if not refit.earlier:
        return K
    rows = refit.zero[-len(refit.earlier) :]  # W u of each earlier axis
    cross = np.column_stack([refit.own[:, genes] @ loadings for genes, loadings in refit.earlier])
    within = np.column_stack([rows[:, genes] @ loadings for genes, loadings in refit.earlier])
    return K - cross @ np.linalg.solve((within + within.T) / 2, cross.T)
