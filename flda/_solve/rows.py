"""Rows of the shrunken within scatter, computed when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh

from .._data import arrays
from .._data.device import beside, host
from .choose import Inverse
from .primal import Primal


class ScatterRows:
    """Rows of M_e(g), computed when asked for and kept."""

    def __init__(self, inverse: Inverse, g: float):
        self._inverse, self._g = inverse, g
        self._rows: dict[int, np.ndarray] = {}
        shrunken = (1 - g) * inverse.variances + g * inverse.target
        # a gene without any variance can carry no axis; any positive diagonal keeps it out
        self.diagonal = np.where(shrunken > 0, shrunken, inverse.target)

    def __call__(self, genes: Sequence[int] | np.ndarray) -> np.ndarray:
        """M_e(g)[genes], len(genes) x p."""
        new = [int(j) for j in dict.fromkeys(genes) if int(j) not in self._rows]
        if new:
            for j, row in zip(new, self._unshrunken(new), strict=True):
                row = (1 - self._g) * row
                row[j] = self.diagonal[j]
                self._rows[j] = row
        return np.stack([self._rows[int(j)] for j in genes])

    def _unshrunken(self, genes: list[int]) -> np.ndarray:
        if isinstance(self._inverse, Primal):
            scatter = self._inverse.scatter
            return host(scatter[beside(scatter, np.asarray(genes))])
        within = self._inverse.within
        X = self._columns[:, genes]
        if arrays.in_memory(X):
            block = host(arrays.dense(X))
        else:
            block = arrays.map_rows(X, lambda rows, block: arrays.dense(block), len(genes))
        block -= within.centres[:, genes][within.places]
        return within.genes_of(np.sqrt(within.cell_weights)[:, None] * block).T

    @cached_property
    def _columns(self):
        return arrays.by_columns(self._inverse.within.X)

    @cached_property
    def largest_eigenvalue(self) -> float:
        """Of M_e(g) in coordinates where every gene has unit variance."""
        within, scale = self._inverse.within, np.sqrt(self.diagonal)
        ridge = self.diagonal - (1 - self._g) * self._inverse.variances

        def times(v):
            x = np.ravel(v) / scale
            return ((1 - self._g) * within.times(x[:, None])[:, 0] + ridge * x) / scale

        p = len(scale)
        if p < 3:
            return float(np.linalg.eigvalsh(np.column_stack([times(e) for e in np.eye(p)]))[-1])
        operator = LinearOperator((p, p), matvec=times, dtype=np.float64)
        return float(eigsh(operator, k=1, v0=np.ones(p), tol=1e-3, return_eigenvectors=False)[0])
