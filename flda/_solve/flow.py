"""The truncated Rayleigh flow (Tan, Wang, Liu and Zhang, J. R. Stat. Soc. B 80:1057, 2018)."""

from __future__ import annotations

import numpy as np

from .rows import largest_eigenvalue
from .search import SparseProblem, first, top


def flow(
    problem: SparseProblem,
    start: np.ndarray,
    k: int,
    *,
    step: float = 0.9,
    tol: float = 1e-9,
    max_iter: int = 5000,
) -> tuple[np.ndarray, float, int]:
    """Run the truncated Rayleigh flow of Tan et al. (2018) on genes scaled to unit variance.

    Each iteration computes ``x + (eta / rho) (N - rho M) x``, where rho is the Rayleigh quotient and
    ``eta = step / lambda_max(M)``, keeps the k largest entries, and normalises. N is indefinite here, and where rho is
    small or negative this step would overshoot along directions that N penalises heavily. So the divisor rho is
    replaced by ``(|rho| + |lambda_min(N)| / lambda_max(M)) / 2`` if that is larger: the smallest divisor for which the
    step is a contraction along these directions.

    Parameters
    ----------
    problem
        The axis that is sought.
    start
        Loadings to start from, (p,).
    k
        The number of non-zero loadings.
    step
        The step eta as a share of ``1 / lambda_max(M)``.
    tol
        Iterations stop when the objective changes by less than this, relatively, over ten iterations.
    max_iter
        The largest number of iterations.

    Returns
    -------
    Loadings (p,) and objective of the best iterate, and the number of iterations.
    """
    scale = np.sqrt(problem.scatter.diagonal)
    largest = largest_eigenvalue(problem.scatter)
    eta = step / largest
    H = problem.H / scale
    penalised = max(top(H @ H.T, -problem.Q), 0.0) / largest  # |lambda_min(N)| / lambda_max(M)

    def truncate(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Keep the k largest entries of y among the allowed genes; return their genes and their normalised values."""
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
        # x + (eta / divisor) (N - rho M) x with N = H' Q H; only the k genes of x enter the products
        y = eta / max(rho, (abs(rho) + penalised) / 2, np.finfo(float).tiny) * (H.T @ (problem.Q @ Hx) - rho * Mx)
        y[genes] += x
        genes, x = truncate(y)
    value, genes, x = best
    u = np.zeros(len(scale))
    u[genes] = x / scale[genes]
    return u, value, len(history)
