"""M_e through the Gram matrix of the cells, for fewer cells than genes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from .._data import arrays
from .._data.device import Cholesky, beside, host, namespace
from .folds import Fold, Training, _add_to_diagonal, singular_message
from .within import Within, donor_lift, target_diagonal


class Dual:
    """M_e through the Gram matrix of cells and groups, (N + C) x (N + C)."""

    name = "dual"

    def __init__(self, within: Within, target: str):
        self.within = within
        self.gram, self.variances = within.cell_gram(target)
        self.target = target_diagonal(self.variances, target)

    def cell_norms(self) -> np.ndarray:
        """Squared length of each weighted residual in the metric of T, (N,)."""
        return host(self._cells.diagonal()).copy()

    def squared_norm(self) -> float:
        """Squared Frobenius norm of T^-1/2 M_e T^-1/2."""
        return float((self._cells**2).sum())

    def factor(self, g: float):
        """A function that applies M_e(g)^-1 to p x k arrays."""
        if g == 0:
            raise ValueError(singular_message(self.within))
        factored = _shifted(self._cells, g)

        def apply(B: np.ndarray) -> np.ndarray:
            scaled = B / self.target[:, None]
            inner = factored.solve(self.within.cells_of(scaled))
            return (scaled - (1 - g) * self.within.genes_of(inner) / self.target[:, None]) / g

        return apply

    def fold(self, train: np.ndarray, test: np.ndarray, codes: np.ndarray, counts: np.ndarray) -> Fold:
        """Training cells, held-out cells, group of each training cell and cells per training group."""
        return _DualFold(self, train, test, codes, counts)

    @property
    def _cells(self) -> np.ndarray:
        N = self.within.shape[0]
        return self.gram[:N, :N]

    @cached_property
    def plain_gram(self) -> np.ndarray:
        """The Gram matrix with residuals from the group means, whatever the error term: folds start from it."""
        within, N = self.within, self.within.shape[0]
        if within.samples is None:
            return self.gram
        undo = 1 / donor_lift(within.samples, within.weights)
        out = self.gram.copy()
        out[:N] = lifted(out[:N], within.places, undo)
        out[:, :N] = lifted(out[:, :N].T, within.places, undo).T
        return out


class _DualFold:
    """The same from the Gram matrix of cells and groups: every vector is a combination of its rows."""

    def __init__(self, dual: Dual, train, test, codes, counts):
        within, gram = dual.within, dual.plain_gram
        (N, _), C = within.shape, len(counts)
        part = Training(within, train, codes, counts)
        groups = within.codes[train][np.unique(codes, return_index=True)[1]]
        # row i of the Gram matrix is sqrt(w) times the residual of cell i; row N + c the mean of group c
        unweight = 1 / np.sqrt(within.cell_weights)
        average = arrays.indicator(codes, C) * part.shares
        means = sp.csr_array(
            (
                np.concatenate([unweight[train] * part.shares, np.ones(C)]),
                (np.concatenate([codes, np.arange(C)]), np.concatenate([train, N + groups])),
            ),
            shape=(C, N + within.means.shape[0]),
        )
        held_out = sp.csr_array(
            (
                np.concatenate([unweight[test], np.ones(len(test))]),
                (np.tile(np.arange(len(test)), 2), np.concatenate([test, N + within.codes[test]])),
            ),
            shape=(len(test), gram.shape[0]),
        )
        centre = beside(gram, means.mean(axis=0))
        average, means, held_out, codes, train = (
            beside(gram, part) for part in (average, means, held_out, codes, train)
        )

        def centred(rows: np.ndarray) -> np.ndarray:
            """Subtract the mean of its training group from each training column, and magnify the donors."""
            rows = rows - (average @ rows.T).T[:, codes]
            return rows if part.lift is None else lifted(rows.T, part.places, part.lift).T

        scale = np.sqrt(part.norm)
        to_means = (means @ gram) - centre @ gram  # centred training means against every row, C x (N + C)
        self.means = (means @ to_means.T).T - (to_means @ centre)[:, None]
        self.residuals = centred(to_means[:, train]).T / scale  # R T^-1 G', n x C
        self.cells = centred(centred(gram[namespace(gram).ix_(train, train)]).T) / scale**2
        self.test_means = held_out @ to_means.T - to_means @ centre
        self.test_residuals = centred((held_out @ gram[:, train]) - centre @ gram[:, train]) / scale

    def group_spaces(self, grid: Sequence[float]) -> list[tuple[np.ndarray, np.ndarray]]:
        out = []
        for g in grid:
            inner = (1 - g) * _shifted(self.cells, g).solve(self.residuals)
            K = (self.means - self.residuals.T @ inner) / g
            out.append((host(K), host((self.test_means - self.test_residuals @ inner) / g)))
        return out


def lifted(rows: np.ndarray, places: np.ndarray, lift: np.ndarray) -> np.ndarray:
    """Rows (n x k) with the mean of each sample multiplied by its factor."""
    change = beside(rows, ((lift - 1) / np.bincount(places))[:, None])
    return rows + (change * arrays.block_sums(rows, places, len(lift)))[beside(rows, places)]


def _shifted(cells: np.ndarray, g: float) -> Cholesky:
    """Cholesky factor of ``g I + (1 - g) cells``."""
    matrix = (1 - g) * cells
    _add_to_diagonal(matrix, g)
    return Cholesky(matrix)
