"""A larger diagonal D with ``W - D`` positive semidefinite, for tighter bounds (:mod:`flda._solve.relaxation`).

The ridge of the shrinkage is one such diagonal, and the smallest eigenvalue of W, in units in which its diagonal is
one, is another one. For fixed shares z the bound falls by ``u_i^2 (1 / z_i - 1)`` for every unit of D_i, so the best D
is close to the solution of

    maximise  sum_i c_i D_i   over   D with W - D positive semidefinite and D >= l

with these weights c. The limits l keep genes without a share from entering. A barrier method solves it: Newton steps on
``c'D + mu (log det (W - D) + sum log (D - l))`` for a falling mu. The relaxed bound is convex in D, so a step towards
that solution which lowers the bound exists unless D is the best already.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.linalg import LinAlgError, cholesky, inv

from .relaxation import Choice, Relaxable, relax

MANY = 600  # the barrier method works on so many genes at most
STEPS, PASSES = 20, 3
MARGIN = 1e-12  # W - D is kept this far inside, for rounding errors
WORTH = 0.002  # a pass must lower the bound by this share, or it is the last one


def safe(D: np.ndarray, W: np.ndarray) -> np.ndarray:
    """Lower a diagonal until ``W - D`` is positive semidefinite, up to rounding; W has a diagonal of one.

    Returns
    -------
    The diagonal, (p,), which is positive if W is positive definite.
    """
    least = float(np.linalg.eigvalsh(W - np.diag(D))[0]) - MARGIN * len(W)
    if least >= 0:
        return D
    if (D + least).min() > 0:
        return D + least
    e = float(np.linalg.eigvalsh(W)[0]) - MARGIN * len(W)
    return np.full(len(W), max(e, 0.0))


def best_diagonal(problem: Relaxable, W: np.ndarray, choice: Choice, w: np.ndarray, best: float) -> Relaxable:
    """Exchange the diagonal of a problem for one with a lower bound in a direction.

    Parameters
    ----------
    problem
        The problem, with any diagonal, which need not be valid.
    W
        Its denominator, p x p, with a diagonal of one.
    choice
        The supports that are meant.
    w
        The direction, (d,).
    best
        The largest objective known. A bound that is not above it cannot be improved.

    Returns
    -------
    The problem with a valid diagonal.
    """
    flat = np.full(len(W), max(float(np.linalg.eigvalsh(W)[0]) - MARGIN * len(W), 0.0))
    diagonals = [D for D in (safe(problem.D, W), flat) if D.min() > 0]
    if not diagonals:
        return replace(problem, D=np.zeros(len(W)))
    problems = [replace(problem, D=D) for D in diagonals]
    now, bound, dual = min(((p, *_bound(p, choice, w, best)) for p in problems), key=lambda t: t[1])
    if len(W) > MANY:
        return now
    for _ in range(PASSES):
        before = bound
        if bound <= best:
            break
        D, gradient = now.D, (dual.q @ w) ** 2
        threshold = np.partition(gradient[choice.free], len(choice.free) - choice.k)[len(choice.free) - choice.k]
        lower = D * np.clip(1.1 * gradient / threshold, 0.02, 0.9)
        lower[dual.z >= 1] = 0.02 * D[dual.z >= 1]
        goal = _barrier(W, dual.gap / D, D, lower)
        for share in (1.0, 0.5, 0.25):
            other = replace(now, D=safe(D + share * (goal - D), W))
            if other.D.min() <= 0:
                continue
            reached, found = _bound(other, choice, w, best, dual.z)
            if reached < bound:
                now, bound, dual = other, reached, found
                break
        if bound > before * (1 - WORTH):
            break
    return now


def _bound(problem: Relaxable, choice: Choice, w: np.ndarray, best: float, start: np.ndarray | None = None):
    dual = relax(problem, w, choice, start, target=best, rounds=25, tolerance=1e-3)
    return float(dual.bound(w[:, None], choice)[0]), dual


def _barrier(W: np.ndarray, weights: np.ndarray, D: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Maximise ``weights' D`` with ``W - D`` positive semidefinite and ``D >= lower``, approximately."""
    c = np.maximum(weights / max(weights.max(), 1e-300), 1e-3)
    d = np.maximum(0.98 * D, 0.5 * (D + lower))
    mu = 0.3 * float(c @ d) / len(d)
    for _ in range(STEPS):
        try:
            P = inv(W - np.diag(d))
            room = 1 / (d - lower)
            slope = c - mu * np.diag(P) + mu * room
            step = np.linalg.solve(mu * (P * P + np.diag(room**2)), slope)
        except LinAlgError:
            return d
        length = 1.0
        while not _inside(W, d + length * step, lower):
            length /= 2
            if length < 1e-4:
                return d
        d = d + (length if length == 1 else 0.9 * length) * step
        if length == 1:
            mu = max(0.3 * mu, 1e-4 * float(c @ d) / len(d))
    return d


def _inside(W: np.ndarray, d: np.ndarray, lower: np.ndarray) -> bool:
    if (d <= lower).any():
        return False
    try:
        cholesky(W - np.diag(d), lower=True, check_finite=False)
    except LinAlgError:
        return False
    return True
