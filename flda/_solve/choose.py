"""The choice of the solver, and a solve that checks its own residual."""

from __future__ import annotations

import logging
import os

import numpy as np

from .._data import arrays
from .._data.device import OnDevice, free_memory
from .._logging import get_logger
from .cost import CLEARLY, WORTH_IT, cost
from .dual import Dual
from .iterative import Iterative
from .objective import Noise
from .primal import Primal
from .solver import Solver

logger = get_logger(__name__)

SOLVERS: dict[str, type[Solver]] = {"primal": Primal, "dual": Dual, "iterative": Iterative}
LARGE = 10_000  # rows of a matrix above which it is not formed: a fold, or a g, would need too much memory and time
COPIES = 2.5  # number of copies of its matrix that a factorisation, or a fold, holds at a time
UNSOLVED = 1e-3  # relative residual above which a solve has failed
REFINED = {"primal": 1e-12, "dual": 1e-12, "iterative": 1e-10}  # relative residual that needs no refinement


def choose_solver(solver: str, X, g: float | str, n_groups: int) -> type[Solver]:
    """Choose the solver with the least cost (:func:`cost`), as far as memory allows.

    The iterative solver estimates the noise of the group means by random vectors, and it is the one whose cost depends
    on the data most. So it is chosen only if it saves CLEARLY and the others take longer than WORTH_IT, or if both
    other matrices have more than LARGE rows or take more than half of the free memory. It cannot compute
    ``"ledoit-wolf"`` or ``"oas"``. Without shrinkage the choice is always primal. A matrix on disk or of dask is read
    by rows, so it has no Gram matrix of cells and the dual solver is not an option.

    Parameters
    ----------
    solver
        ``"auto"``, or the name of a solver, which is then returned.
    X
        Expression, N x p.
    g
        The shrinkage: a number or the name of a method.
    n_groups
        The number of groups, C.

    Raises
    ------
    ValueError
        If ``solver="dual"`` and the data are not in memory.
    """
    N, p = X.shape
    if solver == "dual" and not arrays.in_memory(X):
        raise ValueError("solver='dual' needs the data in memory; load them, or use solver='primal' or 'iterative'.")
    if solver != "auto":
        return SOLVERS[solver]
    memory = free_memory() if isinstance(X, OnDevice) else available_memory()
    sides = {"primal": p, "dual": N + n_groups}
    if not arrays.in_memory(X):
        del sides["dual"]
    needed = {name: COPIES * 8.0 * side**2 for name, side in sides.items()}
    chosen = min(needed, key=needed.__getitem__)
    if g == 0:
        chosen = "primal"
    elif needed[chosen] > memory / 2 or (sides[chosen] > LARGE and g not in ("ledoit-wolf", "oas")):
        chosen = "iterative"
    elif not isinstance(X, OnDevice):
        possible = [name for name in sides if needed[name] <= memory / 2 and sides[name] <= LARGE] or [chosen]
        costs = {name: cost(name, X, g, n_groups) for name in possible}
        chosen = min(costs, key=costs.__getitem__)
        if costs[chosen] > WORTH_IT and g not in ("ledoit-wolf", "oas"):
            chosen = "iterative" if cost("iterative", X, g, n_groups) < CLEARLY * costs[chosen] else chosen
    logger.log(
        logging.INFO if chosen == "iterative" else logging.DEBUG,
        "solver %s: %d cells x %d genes; primal takes %.2g GB, dual %.2g, %.2g are free",
        chosen, N, p, needed["primal"] / 1e9, needed.get("dual", np.inf) / 1e9, memory / 1e9,
    )  # fmt: skip
    return SOLVERS[chosen]


def available_memory() -> float:
    """Return the number of free bytes of memory, or infinity where the system does not report it."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            free = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
        return 1024.0 * free
    except (OSError, StopIteration):
        try:
            return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        except (ValueError, OSError, AttributeError):
            return np.inf


def solve(solver: Solver, g: float) -> tuple[np.ndarray, float, Noise]:
    """Compute Z = M_e(g)^-1 G' (p x C) for the centred group means, its relative residual, and the noise of the means.

    The residual ``|M_e(g) Z - G'| / |G'|`` is computed with the scatter as a product with the data, so it also checks
    the matrix that was factored. Iterative refinement continues as long as each step at least halves the residual.

    Raises
    ------
    ValueError
        If all group means are equal, or the residual exceeds UNSOLVED.
    """
    rhs, means = solver.means.T, solver.group_means
    if np.all(np.ptp(means, axis=0) <= 1e-12 * np.abs(means).max(axis=0)):
        raise ValueError(
            "every gene has the same mean in all groups, so nothing separates the groups; check X and the labels."
        )
    Z, inverse = solver.solve_means(g)
    scale = np.linalg.norm(rhs)

    def error_of(Z: np.ndarray) -> np.ndarray:
        return rhs - ((1 - g) * solver.within.times(Z) + g * solver.target[:, None] * Z)

    error = error_of(Z)
    residual = np.linalg.norm(error) / scale
    while residual > REFINED[solver.name]:
        refined = Z + inverse.solve(error)
        error = error_of(refined)
        better = np.linalg.norm(error) / scale
        if better > residual / 2:
            break
        Z, residual = refined, better
    if residual > UNSOLVED:
        raise ValueError(
            f"solver={solver.name!r} reached a relative residual of {residual:.1g} at shrinkage {g:.3g}, which is too "
            "large: the within-group scatter is ill-conditioned. Set a larger shrinkage, or use fewer genes."
        )
    return Z, float(residual), Noise(inverse.trace(), solver.within.n_effective)
