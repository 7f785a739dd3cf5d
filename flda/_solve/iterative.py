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

from .._data.device import MAX_TRIANGLE
from .._design.design import Design
from .._design.splits import Split
from .folds import Training, scored
from .solver import Apply, Fold, Solver, singular_message
from .within import Within, target_diagonal

TOLERANCE = 1e-11  # of the residual in the metric of T, relative
FOLD_TOLERANCE = 1e-4  # the same in folds, whose criterion needs three digits
MAX_BASIS_BYTES = 2**30
SINGULAR = 1e-14  # length below which a direction is rounding error, relative to the largest entry of H
NEARLY_EXHAUSTED = 1e-6  # the same, below which a direction must be made orthogonal again


class Iterative(Solver):
    """M_e through products with thin matrices; nothing large is held."""

    name = "iterative"

    def __init__(self, within: Within, target: str, prior: Design | None = None):
        super().__init__(within, target, prior)
        self.variances = within.gene_variances()
        self.target = target_diagonal(self.variances, target)

    def cell_norms(self) -> np.ndarray:
        return self.within.cell_norms(self.target)

    def squared_norm(self) -> float:
        raise ValueError(
            "solver='iterative' cannot compute the shrinkage of Ledoit and Wolf or OAS, which need the whole scatter. "
            "Set shrinkage='cv' or a number."
        )

    def factor(self, g: float) -> Apply:
        if g == 0:
            raise ValueError(singular_message(self.within))
        return lambda B: solve_family(self.within.times, self.target, [g], B)[0]

    def fold(self, split: Split) -> Fold:
        return _IterativeFold(self, split)


class _IterativeFold(Fold):
    """A run of its own on the training cells."""

    def __init__(self, solver: Iterative, split: Split):
        training = Training(solver.within, split)
        self.target, self.within = solver.target, training.within()
        means = self.within.means if solver.prior is None else solver.shrunken_fold(training, self.within.means)
        self.centre = means.mean(axis=0)
        self.means = means - self.centre
        self.held_out = solver.within.X[split.known]  # type: ignore[index]

    def group_spaces(self, grid: Sequence[float]) -> list[tuple[np.ndarray, np.ndarray]]:
        Z = solve_family(self.within.times, self.target, grid, self.means.T, FOLD_TOLERANCE)
        return scored(self.held_out, Z, self.means, self.centre)


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
    limit = max(r, min(len(B), MAX_TRIANGLE, MAX_BASIS_BYTES // (8 * len(B))))
    basis = np.empty((len(B), limit), order="F")
    H = np.zeros((limit, limit))
    basis[:, :r] = start
    new, next_look = slice(0, r), 0
    while True:
        V = basis[:, : new.stop]
        W = scale * times(scale * basis[:, new])
        products = V.T @ W
        H[: new.stop, new] = products
        H[new, : new.stop] = products.T
        W -= V @ products
        W -= V @ (V.T @ W)  # once more: the first time leaves rounding error of the size of the products
        done = new.stop
        Q, beta, order = qr(W, mode="economic", pivoting=True)
        lengths, size = np.abs(np.diag(beta)), np.abs(H[:done, :done]).max()
        fresh = int(np.sum(lengths > SINGULAR * size))
        last = fresh == 0 or done + fresh > limit
        # solutions cost more the larger the basis is: they are looked at whenever it has grown by a fifth
        if last or done >= next_look:
            solutions = [_small(H[:done, :done], g, sizes[keep], r) for g in grid]
            rest = beta[:, np.argsort(order)]
            worst = max(
                (1 - g) * np.linalg.norm(rest @ y[new]) / np.linalg.norm(sizes)
                for g, y in zip(grid, solutions, strict=True)
            )
            if last or worst <= tolerance:
                return [scale * (basis[:, :done] @ y @ right[keep]) for y in solutions]
            next_look = done + done // 5
        new = slice(done, done + fresh)
        Q = Q[:, :fresh]
        if lengths[fresh - 1] < NEARLY_EXHAUSTED * size:
            # Q holds rounding error, which is not orthogonal to the basis yet
            Q = qr(Q - V @ (V.T @ Q), mode="economic")[0]
        basis[:, new] = Q


def _small(H: np.ndarray, g: float, sizes: np.ndarray, r: int) -> np.ndarray:
    matrix = (1 - g) * H
    matrix[np.diag_indices_from(matrix)] += g
    rhs = np.zeros((len(H), r))
    rhs[:r] = np.diag(sizes)
    return cho_solve(cho_factor(matrix, check_finite=False), rhs, check_finite=False)
