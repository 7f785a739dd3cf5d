"""Rows of the p x p matrices of the sparse search, which are computed when they are first needed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh

from .solver import Solver


class Rows(Protocol):
    """Rows of a symmetric positive definite matrix, p x p."""

    @property
    def diagonal(self) -> np.ndarray:
        """The diagonal, (p,)."""
        ...

    @property
    def ridge(self) -> np.ndarray:
        """A diagonal, (p,), without which the matrix is still positive semidefinite."""
        ...

    def __call__(self, genes: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the rows of some genes, len(genes) x p."""
        ...

    def block(self, genes: np.ndarray) -> np.ndarray | None:
        """Return the rows and columns of some genes, or None if that would take too much memory."""
        ...

    def times(self, B: np.ndarray) -> np.ndarray:
        """Return the product of the matrix with B, p x k."""
        ...


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
    def ridge(self) -> np.ndarray:
        """The part of the shrinkage target, g T, (p,)."""
        return self.diagonal - (1 - self._g) * self._solver.variances

    def block(self, genes: np.ndarray) -> np.ndarray | None:
        """Return the rows and columns of some genes, which are not kept."""
        block = self._solver.block(genes)
        if block is None:
            return None
        block = (1 - self._g) * block
        block[np.diag_indices(len(genes))] = self.diagonal[genes]
        return block

    def times(self, B: np.ndarray) -> np.ndarray:
        """Return ``M_e(g) B`` (p x k), in one pass over the data."""
        return (1 - self._g) * self._solver.within.times(B) + self.ridge[:, None] * B


class WithRows:
    """The matrix ``M + A' A`` for the rows of M and a few rows A, m x p."""

    def __init__(self, base: Rows, A: np.ndarray):
        self._base, self._A = base, A

    @cached_property
    def diagonal(self) -> np.ndarray:
        """The diagonal, (p,)."""
        return self._base.diagonal + np.einsum("mp,mp->p", self._A, self._A)

    @property
    def ridge(self) -> np.ndarray:
        """The ridge of M, (p,)."""
        return self._base.ridge

    def block(self, genes: np.ndarray) -> np.ndarray | None:
        """Return the rows and columns of some genes."""
        block = self._base.block(genes)
        return None if block is None else block + self._A[:, genes].T @ self._A[:, genes]

    def __call__(self, genes: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the rows of some genes, len(genes) x p."""
        genes = np.asarray(genes, dtype=np.int64)
        return self._base(genes) + self._A[:, genes].T @ self._A

    def times(self, B: np.ndarray) -> np.ndarray:
        """Return the product of the matrix with B, p x k."""
        return self._base.times(B) + self._A.T @ (self._A @ B)


class MatrixRows:
    """The rows of a matrix in memory."""

    def __init__(self, matrix: np.ndarray):
        self._matrix = matrix

    @property
    def diagonal(self) -> np.ndarray:
        """The diagonal, (p,)."""
        return self._matrix.diagonal()

    @property
    def ridge(self) -> np.ndarray:
        """Zero, (p,): nothing is known of the matrix."""
        return np.zeros(len(self._matrix))

    def block(self, genes: np.ndarray) -> np.ndarray | None:
        """Return the rows and columns of some genes."""
        return self._matrix[np.ix_(genes, genes)]

    def __call__(self, genes: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the rows of some genes, len(genes) x p."""
        return self._matrix[np.asarray(genes, dtype=np.int64)]

    def times(self, B: np.ndarray) -> np.ndarray:
        """Return the product of the matrix with B, p x k."""
        return self._matrix @ B


def largest_eigenvalue(rows: Rows) -> float:
    """Compute the largest eigenvalue of a matrix in coordinates in which its diagonal is one."""
    scale = np.sqrt(rows.diagonal)
    p = len(scale)

    def times(v):
        return rows.times((np.ravel(v) / scale)[:, None])[:, 0] / scale

    if p < 3:
        return float(np.linalg.eigvalsh(np.column_stack([times(e) for e in np.eye(p)]))[-1])
    operator = LinearOperator((p, p), matvec=times, dtype=np.float64)
    return float(eigsh(operator, k=1, v0=np.ones(p), tol=1e-3, return_eigenvectors=False)[0])
