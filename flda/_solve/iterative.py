"""The iterative solver: block Krylov with products M_e B only. It suits data where neither p x p nor N x N fits.

In coordinates in which the target T is the identity, ``M_e(g) = (1 - g) A + g I`` with ``A = T^-1/2 M_e T^-1/2``, so
the Krylov space of A is the same for every g. Block Lanczos with full orthogonalisation builds one orthonormal basis V
of it. With ``H = V' A V`` the solution for a right-hand side B and any g is ``V ((1 - g) H + g I)^-1 V' B``, which is
what block conjugate gradients would return. A whole grid of g therefore costs one run, which ends when the largest
residual over the grid is small enough. A small g on ill-conditioned data needs many products; the residual that is
reached is always reported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.linalg import cho_factor, cho_solve, qr

from .._data.symmetric import MAX_TRIANGLE
from .._design.design import Design
from .._design.splits import Split
from .folds import Training, scored
from .solver import Apply, Fold, Solver, singular_message
from .within import Within, target_diagonal

TOLERANCE = 1e-11  # largest relative residual in the metric of T
FOLD_TOLERANCE = 1e-4  # the same within folds, whose criterion needs only three digits
MAX_BASIS_BYTES = 2**30  # memory for the basis V
SINGULAR = 1e-14  # length, relative to the largest entry of H, below which a new direction is rounding error
NEARLY_EXHAUSTED = 1e-6  # relative length below which new directions are orthogonalised once more


class Iterative(Solver):
    """The solver that applies M_e through products with thin matrices and holds no large matrix."""

    name = "iterative"

    def __init__(self, within: Within, target: str, prior: Design | None = None):
        super().__init__(within, target, prior)
        self.variances = within.gene_variances()
        self.target = target_diagonal(self.variances, target)

    def cell_norms(self) -> np.ndarray:
        return self.within.cell_norms(self.target)

    def squared_norm(self) -> float:
        raise ValueError(
            "solver='iterative' cannot compute shrinkage='ledoit-wolf' or 'oas', which need the whole scatter. "
            "Set shrinkage='cv' or a number."
        )

    def factor(self, g: float) -> Apply:
        if g == 0:
            raise ValueError(singular_message(self.within))
        return lambda B: solve_family(self.within.times, self.target, [g], B)[0]

    def fold(self, split: Split) -> Fold:
        return _IterativeFold(self, split)


class _IterativeFold(Fold):
    """The training cells of a split, solved by a run of their own."""

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
    """Compute ``((1 - g) M + g diag(target))^-1 B`` for every g of a grid in one run.

    Parameters
    ----------
    times
        Function that applies M to p x k arrays.
    target
        Diagonal of the target, (p,), positive.
    grid
        Values of g, above 0.
    B
        Right-hand sides, p x k, of any rank.
    tolerance
        Largest relative residual, in the metric of the target.

    Returns
    -------
    One solution (p x k) for each g. If the basis reaches its largest size first, the residual may exceed ``tolerance``.
    """
    scale = 1 / np.sqrt(target)[:, None]
    # the basis starts with an orthonormal basis of the right-hand sides, which may be linearly dependent
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
        W = scale * times(scale * basis[:, new])  # A times the newest block of the basis
        # W is orthogonalised against the whole basis, not only against its last two blocks as in plain Lanczos, because
        # rounding errors would destroy the orthogonality of V
        products = V.T @ W
        H[: new.stop, new] = products
        H[new, : new.stop] = products.T
        W -= V @ products
        W -= V @ (V.T @ W)  # a second time, because the first leaves rounding errors of the size of the products
        done = new.stop
        # pivoting sorts the new directions by length; those of zero length add nothing to the Krylov space
        Q, beta, order = qr(W, mode="economic", pivoting=True)
        lengths, size = np.abs(np.diag(beta)), np.abs(H[:done, :done]).max()
        fresh = int(np.sum(lengths > SINGULAR * size))
        last = fresh == 0 or done + fresh > limit
        # solutions cost more the larger the basis is, so they are computed whenever it has grown by a fifth
        if last or done >= next_look:
            solutions = [_small(H[:done, :done], g, sizes[keep], r) for g in grid]
            # A V y leaves the basis only through its newest block: the residual is (1 - g) W y[new], with W = Q rest
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
            # normalising a very short direction has amplified its rounding errors, which are not orthogonal to the
            # basis
            Q = qr(Q - V @ (V.T @ Q), mode="economic")[0]
        basis[:, new] = Q


def _small(H: np.ndarray, g: float, sizes: np.ndarray, r: int) -> np.ndarray:
    """Solve the projected system ``((1 - g) H + g I) y = V' B``, where V' B is diag(sizes) over rows of zeros."""
    matrix = (1 - g) * H
    matrix[np.diag_indices_from(matrix)] += g
    rhs = np.zeros((len(H), r))
    rhs[:r] = np.diag(sizes)
    return cho_solve(cho_factor(matrix, check_finite=False), rhs, check_finite=False)
