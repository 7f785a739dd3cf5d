"""Truncated Rayleigh flow."""

from __future__ import annotations

import numpy as np

from .search import (
    SparseProblem,
    _top,
    first,
)


def flow(
    problem: SparseProblem,
    start: np.ndarray,
    k: int,
    *,
    step: float = 0.9,
    tol: float = 1e-9,
    max_iter: int = 5000,
) -> tuple[np.ndarray, float, int]:
    """Truncated Rayleigh flow of Tan et al. (2018), on genes scaled to unit variance.

    Each iteration takes ``x + (eta / rho) (N - rho M) x`` with rho the Rayleigh quotient, keeps the k largest
    entries and normalises. ``eta = step / lambda_max(M)``. N is indefinite here, and directions that it penalises
    heavily would be overshot where rho is small or negative: the divisor is then
    ``(|rho| + |lambda_min(N)| / lambda_max(M)) / 2``, the smallest that keeps the step a contraction there.

    Returns
    -------
    Loadings (p,), objective and number of iterations, of the best iterate. Stops when the objective changes by less
    than ``tol``, relatively, over ten iterations.
    """
    scale = np.sqrt(problem.scatter.diagonal)
    largest = problem.scatter.largest_eigenvalue
    eta = step / largest
    H = problem.H / scale
    penalised = max(_top(H @ H.T, -problem.Q), 0.0) / largest

    def truncate(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        kept = np.sort(first(np.where(problem.allowed, np.abs(y), -1.0), k))
        return kept, y[kept] / np.linalg.norm(y[kept])

    genes, x = truncate(start * scale)
    history: list[float] = []
    best: tuple[float, np.ndarray, np.ndarray] = (-np.inf, genes, x)
    for _ in range(max_iter):
        Mx = (x / scale[genes]) @ problem.scatter(genes) / scale
        Hx = H[:, genes] @ x
        bottom = Mx[genes] @ x
        rho = (Hx @ problem.Q @ Hx) / bottom
        history.append(rho)
        if rho > best[0]:
            best = rho, genes, x
        if len(history) > 10 and np.ptp(history[-10:]) <= tol * abs(rho):
            break
        y = eta / max(rho, (abs(rho) + penalised) / 2, np.finfo(float).tiny) * (H.T @ (problem.Q @ Hx) - rho * Mx)
        y[genes] += x
        genes, x = truncate(y)
    value, genes, x = best
    u = np.zeros(len(scale))
    u[genes] = x / scale[genes]
    return u, value, len(history)
