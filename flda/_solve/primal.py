"""M_e as a p x p matrix, factored by Cholesky: for no more genes than cells.

The training scatter of a fold is the scatter of all cells, less that of the held-out cells, less what the shift of the
centres adds: with s_i the sizes and d_i the shifts, ``M_train = (M_e - M_test - sum_i s_i d_i d_i') / norm``. So a fold
reads its held-out cells only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import LinAlgError

from .._data import arrays
from .._data.device import Cholesky, asarray_like, to_numpy
from .._design.design import Design
from .._design.splits import Split
from .folds import Training, add_to_diagonal, scored
from .solver import Apply, Fold, Solver, singular_message
from .within import Within, target_diagonal

SINGULAR_SHARE = 1e-13  # unexplained share of a gene's variance below which genes count as dependent


class Primal(Solver):
    """M_e as a p x p matrix, ``scatter``, where the data are."""

    name = "primal"

    def __init__(self, within: Within, target: str, prior: Design | None = None):
        super().__init__(within, target, prior)
        self.scatter = within.gene_scatter()
        self.variances = within.variances_of(self.scatter)
        self.target = target_diagonal(self.variances, target)

    def cell_norms(self) -> np.ndarray:
        return self.within.cell_norms(self.target)

    def squared_norm(self) -> float:
        scale = asarray_like(self.scatter, 1 / np.sqrt(self.target))
        return float(((self.scatter * scale[:, None] * scale) ** 2).sum())

    def factor(self, g: float) -> Apply:
        return self.factor_of(self.scatter, g)

    def factor_of(self, scatter: np.ndarray, g: float) -> Apply:
        """A function that applies ``((1 - g) scatter + g T)^-1``, for the scatter of all cells or of a fold."""
        within, target = self.within, self.target
        matrix = (1 - g) * scatter
        # a constant gene has an empty row: any positive diagonal gives it a loading of zero
        means = within.means
        constant = (self.variances == 0) & (np.ptp(means, axis=0) <= 1e-12 * np.abs(means).max(axis=0))
        add_to_diagonal(matrix, np.where(constant, 1.0, g) * target)
        diagonal = to_numpy(matrix.diagonal()).copy()
        try:
            factored = Cholesky(matrix)
        except LinAlgError:
            raise ValueError(singular_message(within)) from None
        # pivot over diagonal: the share of a gene's variance that the genes before it do not explain
        if np.min(factored.diagonal**2 / diagonal) < SINGULAR_SHARE:
            raise ValueError(singular_message(within))
        return factored.solve

    def fold(self, split: Split) -> Fold:
        return _PrimalFold(self, split)

    def rows(self, genes: Sequence[int]) -> np.ndarray:
        return to_numpy(self.scatter[asarray_like(self.scatter, np.asarray(genes))])


class _PrimalFold(Fold):
    def __init__(self, primal: Primal, split: Split):
        within, training = primal.within, Training(primal.within, split)
        self.primal = primal
        held_out = arrays.by_rows(within.X)[split.test]
        sums = arrays.group_sums(held_out, within.sample_codes[split.test], len(within.sample_means))
        own = (within.sample_sums - sums)[training.full] / training.sample_counts[:, None]
        means = training.group_means(own)
        sizes = training.sample_counts * training.weights[training.groups]
        scatter = (primal.scatter - within.gene_scatter(split.test, sums)) / training.norm
        scatter -= _outer(scatter, own - within.centres[training.full], sizes)
        if training.scaling is not None:
            scatter += _outer(scatter, training.scaling[:, None] * (own - means[training.groups]), sizes)
        self.scatter = scatter
        if primal.prior is not None:
            means = primal.shrunken_fold(training, means)
        self.centre = means.mean(axis=0)
        self.means = means - self.centre
        self.held_out = within.X[split.known]  # type: ignore[index]

    def group_spaces(self, grid: Sequence[float]) -> list[tuple[np.ndarray, np.ndarray]]:
        Z = [self.primal.factor_of(self.scatter, g)(self.means.T) for g in grid]
        return scored(self.held_out, Z, self.means, self.centre)


def _outer(scatter: np.ndarray, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """``rows' diag(weights) rows``, where the scatter is."""
    return asarray_like(scatter, rows.T) @ asarray_like(scatter, rows * weights[:, None])
