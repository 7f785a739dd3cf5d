"""Rows of the shrunken within-group scatter, which are computed when they are first needed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh

from .solver import Solver


class ScatterRows:
    """Rows of M_e(g), which are computed when they are first needed and then kept.

    Parameters
    ----------
    solver
        The solver, which computes rows of M_e.
    g
        The shrinkage.

    Attributes
    ----------
    diagonal
        The diagonal of M_e(g), (p,).
    """

    def __init__(self, solver: Solver, g: float):
        self._solver, self._g = solver, g
        self._rows: dict[int, np.ndarray] = {}
        shrunken = (1 - g) * solver.variances + g * solver.target
        # at g = 0 a gene without variance would have a zero here; any positive value keeps divisions finite
        self.diagonal = np.where(shrunken > 0, shrunken, solver.target)

    def __call__(self, genes: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return ``M_e(g)[genes]``, len(genes) x p."""
        new = [int(j) for j in dict.fromkeys(genes) if int(j) not in self._rows]
        if new:
            for j, row in zip(new, self._solver.rows(new), strict=True):
                row = (1 - self._g) * row
                row[j] = self.diagonal[j]
                self._rows[j] = row
        return np.stack([self._rows[int(j)] for j in genes])

    @cached_property
    def largest_eigenvalue(self) -> float:
        """The largest eigenvalue of M_e(g) in coordinates in which every gene has unit variance."""
        within, scale = self._solver.within, np.sqrt(self.diagonal)
        ridge = self.diagonal - (1 - self._g) * self._solver.variances  # g T

        def times(v):
            x = np.ravel(v) / scale
            return ((1 - self._g) * within.times(x[:, None])[:, 0] + ridge * x) / scale

        p = len(scale)
        if p < 3:
            return float(np.linalg.eigvalsh(np.column_stack([times(e) for e in np.eye(p)]))[-1])
        operator = LinearOperator((p, p), matvec=times, dtype=np.float64)
        return float(eigsh(operator, k=1, v0=np.ones(p), tol=1e-3, return_eigenvectors=False)[0])
