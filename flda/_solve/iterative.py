"""Z = M_e(g)^-1 G' when neither p x p nor N x N fits: block Krylov, with products M_e B only.

In coordinates where the target T is the identity, ``M_e(g) = (1 - g) A + g I`` with ``A = T^-1/2 M_e T^-1/2``: for
every g the same Krylov space of A. Block Lanczos with full orthogonalisation builds one orthonormal basis V of it, and
with ``H = V' A V`` the solution for a g is ``V ((1 - g) H + g I)^-1 V' B``, what block conjugate gradients would find.
So a whole grid of g costs one run, which ends when the residual of the slowest is small. Small g on ill-conditioned
data need many products; the residual is reported, not hoped for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.linalg import cho_factor, cho_solve, qr

from .._data import arrays
from .folds import Training, singular_message
from .within import Within, target_diagonal

TOLERANCE = 1e-11  # of the residual in the metric of T, relative
MAX_BASIS_BYTES = 2**30
SINGULAR = 1e-14


class Iterative:
    """M_e through products with thin matrices.

    Attributes
    ----------
    variances
        Within-group variances diag(M_e), (p,).
    target
        Diagonal of the shrinkage target T, (p,).
    """

    name = "iterative"

    def __init__(self, within: Within, target: str):
        self.within = within
        self.variances = within.gene_variances()
        self.target = target_diagonal(self.variances, target)

    def cell_norms(self) -> np.ndarray:
        """Squared length of each weighted residual in the metric of T, (N,)."""
        return self.within.cell_norms(self.target)

    def squared_norm(self) -> float:
        """Not known without the matrix."""
        raise ValueError(
            "solver='iterative' cannot tell Ledoit-Wolf's or OAS's shrinkage, which need the whole scatter. "
            "Set shrinkage='cv' or a number."
        )

    def factor(self, g: float) -> Callable[[np.ndarray], np.ndarray]:
        """A function that applies M_e(g)^-1 to p x k arrays."""
        if g == 0:
            raise ValueError(singular_message(self.within))
        return lambda B: self.family([g], B)[0]

    def family(self, grid: Sequence[float], B: np.ndarray) -> list[np.ndarray]:
        """M_e(g)^-1 B for every g."""
        return solve_family(self.within.times, self.target, grid, B)

    def fold(self, train: np.ndarray, test: np.ndarray, codes: np.ndarray, counts: np.ndarray) -> _IterativeFold:
        """Training cells, held-out cells, group of each training cell and cells per training group."""
        return _IterativeFold(self, train, test, codes, counts)


class _IterativeFold:
    """A run of its own on the training cells."""

    def __init__(self, inverse: Iterative, train, test, codes, counts):
        self.inverse = inverse
        self.training = Training(inverse.within, train, codes, counts).within(inverse.within, train, codes, counts)
        self.held_out = inverse.within.X[test]  # type: ignore[index]

    def group_spaces(self, grid: Sequence[float]) -> list[tuple[np.ndarray, np.ndarray]]:
        training = self.training
        Z = solve_family(training.times, self.inverse.target, grid, training.centred_means.T)
        scores = arrays.times(self.held_out, np.hstack(Z)) - training.centre @ np.hstack(Z)
        parts = np.split(scores, len(grid), axis=1)
        return [(training.centred_means @ z, part) for z, part in zip(Z, parts, strict=True)]


def solve_family(
    times: Callable[[np.ndarray], np.ndarray],
    target: np.ndarray,
    grid: Sequence[float],
    B: np.ndarray,
    tolerance: float = TOLERANCE,
) -> list[np.ndarray]:
    """``((1 - g) M + g diag(target))^-1 B`` for every g of a grid.

    Parameters
    ----------
    times
        Applies M to p x k arrays.
    target
        (p,), positive.
    grid
        Values of g, above 0.
    B
        Right-hand sides, p x k, of any rank.
    tolerance
        Largest relative residual, in the metric of the target.
    """
    scale = 1 / np.sqrt(target)[:, None]
    left, sizes, right = np.linalg.svd(scale * B, full_matrices=False)
    keep = sizes > SINGULAR * sizes[0] if sizes[0] > 0 else np.zeros(len(sizes), dtype=bool)
    if not keep.any():
        return [np.zeros_like(B) for _ in grid]
    start = left[:, keep]
    r = start.shape[1]
    limit = max(r, min(len(B), MAX_BASIS_BYTES // (8 * len(B))))
    basis = np.empty((len(B), limit), order="F")
    H = np.zeros((limit, limit))
    basis[:, :r] = start
    done, new = 0, slice(0, r)
    while True:
        V = basis[:, : new.stop]
        W = scale * times(scale * basis[:, new])
        products = V.T @ W
        H[: new.stop, new] = products
        H[new, : new.stop] = products.T
        for _ in range(2):
            W -= V @ (V.T @ W)
        done = new.stop
        Q, beta, order = qr(W, mode="economic", pivoting=True)
        fresh = int(np.sum(np.abs(np.diag(beta)) > SINGULAR * np.abs(H[:done, :done]).max()))
        solutions = [_small(H[:done, :done], g, sizes[keep], r) for g in grid]
        rest = beta[:, np.argsort(order)]
        worst = max(
            (1 - g) * np.linalg.norm(rest @ y[new]) / np.linalg.norm(sizes)
            for g, y in zip(grid, solutions, strict=True)
        )
        if worst <= tolerance or fresh == 0 or done + fresh > limit:
            break
        new = slice(done, done + fresh)
        basis[:, new] = Q[:, :fresh]
    return [scale * (basis[:, :done] @ y @ right[keep]) for y in solutions]


def _small(H: np.ndarray, g: float, sizes: np.ndarray, r: int) -> np.ndarray:
    matrix = (1 - g) * H
    matrix[np.diag_indices_from(matrix)] += g
    rhs = np.zeros((len(H), r))
    rhs[:r] = np.diag(sizes)
    return cho_solve(cho_factor(matrix, check_finite=False), rhs, check_finite=False)
