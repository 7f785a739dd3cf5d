"""M_e as a p x p matrix, for no more genes than cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import LinAlgError

from .._data import arrays
from .._data.device import Cholesky, beside, host
from .folds import Fold, Training, _add_to_diagonal, singular_message
from .within import Within, target_diagonal

SINGULAR_SHARE = 1e-13  # unexplained share of a gene's variance below which genes count as dependent


class Primal:
    """M_e as a p x p matrix, factored by Cholesky.

    Attributes
    ----------
    variances
        Within-group variances diag(M_e), (p,).
    target
        Diagonal of the shrinkage target T, (p,).
    """

    name = "primal"

    def __init__(self, within: Within, target: str):
        self.within = within
        self.scatter = within.gene_scatter()
        self.variances = within.variances_of(self.scatter)
        self.target = target_diagonal(self.variances, target)

    def cell_norms(self) -> np.ndarray:
        """Squared length of each weighted residual in the metric of T, (N,)."""
        return self.within.cell_norms(self.target)

    def squared_norm(self) -> float:
        """Squared Frobenius norm of T^-1/2 M_e T^-1/2."""
        scale = beside(self.scatter, 1 / np.sqrt(self.target))
        return float(((self.scatter * scale[:, None] * scale) ** 2).sum())

    def factor(self, g: float):
        """A function that applies M_e(g)^-1 to p x k arrays."""
        return _cholesky_of(self.scatter, g, self.target, self.within, self.variances)

    def fold(self, train: np.ndarray, test: np.ndarray, codes: np.ndarray, counts: np.ndarray) -> Fold:
        """Training cells, held-out cells, group of each training cell and cells per training group."""
        return _PrimalFold(self, train, test, codes, counts)


class _PrimalFold:
    """Training scatter = M_e - held-out part - shift of the centres, all p x p. Only held-out cells are read."""

    def __init__(self, primal: Primal, train, test, codes, counts):
        within, part = primal.within, Training(primal.within, train, codes, counts)
        self.held_out = arrays.by_rows(within.X)[test]
        held_out = arrays.group_sums(self.held_out, within.places[test], len(within.place_means))
        own = (within.place_sums - held_out)[part.full] / part.place_counts[:, None]
        means = part.means(own)
        shift = own - within.centres[part.full]
        size = part.place_counts * part.weights[part.groups]
        scatter = (primal.scatter - within.gene_scatter(test, held_out)) / part.norm
        scatter -= _outer(scatter, shift, size)
        if part.lift is not None:
            scatter += _outer(scatter, part.lift[:, None] * (own - means[part.groups]), size)
        self.scatter, self.primal = scatter, primal
        self.centre = means.mean(axis=0)
        self.means = means - self.centre

    def group_spaces(self, grid: Sequence[float]) -> list[tuple[np.ndarray, np.ndarray]]:
        primal = self.primal
        Z = [_cholesky_of(self.scatter, g, primal.target, primal.within, primal.variances)(self.means.T) for g in grid]
        scores = arrays.times(self.held_out, np.hstack(Z)) - self.centre @ np.hstack(Z)
        parts = np.split(scores, len(grid), axis=1)
        return [(self.means @ z, part) for z, part in zip(Z, parts, strict=True)]


def _outer(scatter: np.ndarray, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """``rows' diag(weights) rows``, where the scatter is."""
    return beside(scatter, rows.T) @ beside(scatter, rows * weights[:, None])


def _cholesky_of(scatter: np.ndarray, g: float, target: np.ndarray, within: Within, variances: np.ndarray):
    """A function that applies ``((1 - g) scatter + g T)^-1``."""
    matrix = (1 - g) * scatter
    # a constant gene has an empty row: any positive diagonal gives it a loading of zero
    constant = (variances == 0) & (np.ptp(within.means, axis=0) <= 1e-12 * np.abs(within.means).max(axis=0))
    _add_to_diagonal(matrix, np.where(constant, 1.0, g) * target)
    diagonal = host(matrix.diagonal()).copy()
    try:
        factored = Cholesky(matrix)
    except LinAlgError:
        raise ValueError(singular_message(within)) from None
    # pivot over diagonal: the share of a gene's variance that the genes before it do not explain
    if np.min(factored.diagonal**2 / diagonal) < SINGULAR_SHARE:
        raise ValueError(singular_message(within))
    return factored.solve
