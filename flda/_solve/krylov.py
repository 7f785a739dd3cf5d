"""Systems ``((1 - g) M + g T) Z = B`` for a whole grid of g at once.

In coordinates in which the target T is the identity, ``(1 - g) M + g T`` becomes ``(1 - g) A + g I`` with
``A = T^-1/2 M T^-1/2``, so the Krylov space of A is the same for every g. Block Lanczos with full orthogonalisation
builds one orthonormal basis V of it. With ``H = V' A V`` the solution for a right-hand side B and any g is
``V ((1 - g) H + g I)^-1 V' B``, which is what block conjugate gradients would return. So a whole grid of g costs one
run, which ends when the largest residual over the grid is small enough. A small g on ill-conditioned data needs many
products.

The noise ``tr(((1 - g) A + g I)^-1 A)`` comes from the same run: random vectors z of signs are further right-hand
sides, and the trace is the mean of ``z' ((1 - g) A + g I)^-1 A z`` over them (Hutchinson, Commun. Stat. Simul. 18:1059,
1989).

A run is a generator: it yields the blocks that M is to be applied to, and is sent the products. So several runs, such
as those of the folds of a cross-validation, share every product with a large matrix (:func:`in_step`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

import numpy as np
from scipy.linalg import cho_factor, cho_solve, eigh, qr

from .._data.device import asarray_like, to_numpy
from .._data.symmetric import MAX_TRIANGLE
from .._data.threads import one_blas_thread

TOLERANCE = 1e-11  # largest relative residual in the metric of T
FOLD_TOLERANCE = 1e-2  # the same within folds, whose criterion needs only three digits
MAX_BASIS_BYTES = 2**30  # memory for the basis V
SINGULAR = 1e-14  # length, relative to the largest entry of H, below which a new direction is rounding error
LOOSE = 1e-4  # tolerance from which one orthogonalisation is enough
SHORTENED = 1e-4  # unless it leaves less than this share of the length of a new direction
NEARLY_EXHAUSTED = 1e-6  # relative length below which new directions are orthogonalised once more
N_PROBES = 4  # random vectors for a trace, which has a relative error of about sqrt(2 / (N_PROBES * trace))
FEW = 200  # rows up to which a trace is exact
SMALL = 600  # rows of a matrix that is diagonalised, as that takes no longer than the products of a Krylov space


Solutions = list[np.ndarray]
Result = TypeVar("Result")
Run = Generator[np.ndarray, np.ndarray, Result]


def in_step(runs: Sequence[Run[Result]], times: Callable[[np.ndarray], np.ndarray]) -> list[Result]:
    """Advance several runs together, and return their results.

    All blocks for which the runs wait, with one number of rows, go to ``times`` side by side.
    """
    results: dict[int, Result] = {}
    sent: dict[int, np.ndarray | None] = dict.fromkeys(range(len(runs)))
    while sent:
        blocks: dict[int, np.ndarray] = {}
        for i, product in sent.items():
            try:
                blocks[i] = runs[i].send(product)  # type: ignore[arg-type]  # None starts a run
            except StopIteration as stop:
                results[i] = stop.value
        sent = {}
        if blocks:
            ends = np.cumsum([block.shape[1] for block in blocks.values()])
            products = np.split(times(np.hstack(list(blocks.values()))), ends[:-1], axis=1)
            sent = dict(zip(blocks, products, strict=True))
    return [results[i] for i in range(len(runs))]


def through(
    run: Run[Result], before: Callable[[np.ndarray], np.ndarray], after: Callable[[np.ndarray], np.ndarray]
) -> Run[Result]:
    """Translate a run: every block passes through ``before`` on its way out, and its product through ``after``."""
    product = None
    while True:
        try:
            block = run.send(product)  # type: ignore[arg-type]  # None starts a run
        except StopIteration as stop:
            return stop.value
        product = after((yield before(block)))


def solve_and_trace(
    times: Callable[[np.ndarray], np.ndarray],
    target: np.ndarray,
    trace: float,
    grid: Sequence[float],
    B: np.ndarray,
    tolerance: float,
) -> tuple[list[np.ndarray], list[float]]:
    """Solve for every g, and compute the noise ``tr(((1 - g) M + g T)^-1 M)``, in one run.

    Parameters
    ----------
    times, target, grid, B, tolerance
        As in :func:`solve_family`.
    trace
        ``tr(T^-1 M)``, which is the noise at g = 1.

    Returns
    -------
    One solution (n x k), and one noise, for each g.
    """
    return in_step([solving_and_tracing(target, trace, grid, B, tolerance)], times)[0]


def solving_and_tracing(
    target: np.ndarray, trace: float, grid: Sequence[float], B: np.ndarray, tolerance: float
) -> Run[tuple[Solutions, list[float]]]:
    """Return a run that does the work of :func:`solve_and_trace`."""
    n, k = B.shape
    # with few rows the unit vectors give the exact trace; more rows get random signs, the same ones in every call
    z = np.sqrt(n) * np.eye(n) if n <= FEW else np.random.default_rng(0).choice([-1.0, 1.0], size=(n, N_PROBES))
    root = np.sqrt(target)[:, None]
    found = yield from solving(target, grid, np.hstack([B, root * z]), tolerance)
    # ((1 - g) A + g I)^-1 A = (I - g ((1 - g) A + g I)^-1) / (1 - g)
    noise = [
        (n - g * float(np.sum(z * root * Z[:, k:])) / z.shape[1]) / (1 - g) if g < 1 else trace
        for g, Z in zip(grid, found, strict=True)
    ]
    return [Z[:, :k] for Z in found], noise


def solve_grid(
    matrix, target: np.ndarray, grid: Sequence[float], B: np.ndarray
) -> tuple[list[np.ndarray], list[float]]:
    """Apply :func:`solve_and_trace` to a matrix in memory or on the GPU, to the accuracy that a fold needs."""
    if len(matrix) <= SMALL:
        return diagonalised(to_numpy(matrix), target, grid, B)

    # three digits are enough, so the matrix is kept in single precision, which halves what every product reads; in the
    # metric of the target no entry is too large or too small for that
    trace, scale = float(np.sum(to_numpy(matrix.diagonal()) / target)), 1 / np.sqrt(target)[:, None]
    single = (matrix * asarray_like(matrix, scale) * asarray_like(matrix, scale.T)).astype(np.float32)

    def times(V: np.ndarray) -> np.ndarray:
        return to_numpy(single @ asarray_like(single, V.astype(np.float32))).astype(np.float64)

    found, noise = solve_and_trace(times, np.ones(len(target)), trace, grid, scale * B, FOLD_TOLERANCE)
    return [scale * Z for Z in found], noise


def diagonalised(
    matrix: np.ndarray, target: np.ndarray, grid: Sequence[float], B: np.ndarray
) -> tuple[Solutions, list[float]]:
    """Do the work of :func:`solve_and_trace` for a small matrix, exactly."""
    root = np.sqrt(target)[:, None]
    values, vectors = eigh(matrix / root / root.T)
    values, turned = values.clip(0), vectors.T @ (B / root)
    shrunken = [(1 - g) * values + g for g in grid]
    return [vectors @ (turned / s[:, None]) / root for s in shrunken], [float(np.sum(values / s)) for s in shrunken]


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
    return in_step([solving(target, grid, B, tolerance)], times)[0]


def solving(target: np.ndarray, grid: Sequence[float], B: np.ndarray, tolerance: float) -> Run[Solutions]:
    """Return a run that does the work of :func:`solve_family`."""
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
        W = scale * (yield scale * basis[:, new])  # A times the newest block of the basis
        before = np.linalg.norm(W, axis=0)
        # W is orthogonalised against the whole basis, not only against its last two blocks as in plain Lanczos, because
        # rounding errors would destroy the orthogonality of V
        products = V.T @ W
        H[: new.stop, new] = products
        H[new, : new.stop] = products.T
        W -= V @ products
        # what the first time leaves are rounding errors of the size of W before; they are removed where they matter
        if tolerance < LOOSE or np.any(np.linalg.norm(W, axis=0) < SHORTENED * before):
            W -= V @ (V.T @ W)
        done = new.stop
        # pivoting sorts the new directions by length; those of zero length add nothing to the Krylov space
        with one_blas_thread():
            Q, beta, order = qr(W, mode="economic", pivoting=True)
        lengths, size = np.abs(np.diag(beta)), np.abs(H[:done, :done]).max()
        fresh = int(np.sum(lengths > SINGULAR * size))
        last = fresh == 0 or done + fresh > limit
        # solutions cost more the larger the basis is, so they are computed whenever it has grown by a fifth
        if last or done >= next_look:
            # A V y leaves the basis only through its newest block: the residual is (1 - g) W y[new], with W = Q rest
            rest, found = beta[:, np.argsort(order)], {}
            for g in sorted(grid):  # the smallest g converges last, so the others often need not be solved for
                y = found[g] = _small(H[:done, :done], g, sizes[keep], r)
                if not last and (1 - g) * np.linalg.norm(rest @ y[new]) > tolerance * np.linalg.norm(sizes):
                    break
            else:
                return [scale * (basis[:, :done] @ found[g] @ right[keep]) for g in grid]
            next_look = done + done // 5
        new = slice(done, done + fresh)
        Q = Q[:, :fresh]
        if lengths[fresh - 1] < NEARLY_EXHAUSTED * size:
            # normalising a very short direction has amplified its rounding errors, which are not orthogonal to the
            # basis
            Q -= V @ (V.T @ Q)
            with one_blas_thread():
                Q = qr(Q, mode="economic")[0]
        basis[:, new] = Q


def _small(H: np.ndarray, g: float, sizes: np.ndarray, r: int) -> np.ndarray:
    """Solve the projected system ``((1 - g) H + g I) y = V' B``, where V' B is diag(sizes) over rows of zeros."""
    matrix = (1 - g) * H
    matrix[np.diag_indices_from(matrix)] += g
    rhs = np.zeros((len(H), r))
    rhs[:r] = np.diag(sizes)
    with one_blas_thread():
        return cho_solve(cho_factor(matrix, check_finite=False), rhs, check_finite=False)
