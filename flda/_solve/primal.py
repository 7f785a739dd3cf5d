"""The primal solver: M_e as a p x p matrix, factored by Cholesky. It suits data with no more genes than cells.

The training scatter of a fold follows from that of all cells: subtract the scatter of the held-out cells, and correct
for the shift of the centres. With n_s training cells in sample s, d_s their mean less the centre h_s of the full fit,
and the weights w of the full fit, ::

    M_train = (M_e - M_test - sum_s w_{c(s)} n_s d_s d_s') / norm

is the scatter of the training cells about their own sample means. With covariates, ``e_i`` the residuals of the full
fit and y_i the deviations of the covariates from the training samples, it also loses ``C' A^-1 C`` for
``A = sum_i w y_i y_i'`` and ``C = sum_i w y_i e_i'``, and the slopes change by ``A^-1 C``. With donors in the error
term, the donor level of the training samples is then added. A fold therefore reads its held-out cells only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.linalg import LinAlgError

from .._data import arrays
from .._data.device import asarray_like, to_numpy
from .._data.symmetric import Cholesky
from .._design.design import Design
from .._design.splits import Split
from .folds import FoldSpace, Training, add_to_diagonal, scored
from .krylov import solve_grid
from .parts import fold_of_cells, scatter_by_fold
from .residuals import target_diagonal
from .solver import Fold, Inverse, Solver, singular_message
from .within import Within

SINGULAR_SHARE = 1e-13  # share of a gene's variance that other genes leave unexplained, below which it is dependent


class Primal(Solver):
    """The solver that holds M_e as a p x p matrix, ``scatter``, on the GPU if X is worked on there."""

    name = "primal"

    def __init__(self, within: Within, target: str, prior: Design | None = None, splits: Sequence[Split] = ()):
        super().__init__(within, target, prior, splits)
        found = scatter_by_fold(within, splits)
        self._parts: list[tuple[Split, np.ndarray, np.ndarray]] = []
        if found is None:
            self.scatter = within.gene_scatter()
        else:
            self.scatter = found[0].sum(axis=0)
            self._parts = list(zip(splits, *found, strict=False))  # the last part is of cells that no split holds out
        self.variances = within.variances_of(self.scatter)
        self.target = target_diagonal(self.variances, target)

    def cell_norms(self) -> np.ndarray:
        return self.within.cell_norms(self.target)

    def squared_norm(self) -> float:
        scale = asarray_like(self.scatter, 1 / np.sqrt(self.target))
        return float(((self.scatter * scale[:, None] * scale) ** 2).sum())

    def factor(self, g: float) -> Inverse:
        within, target = self.within, self.target
        matrix = (1 - g) * self.scatter
        # the row of a constant gene is zero, so any positive diagonal entry gives it a loading of zero
        means = within.means
        constant = (self.variances == 0) & (np.ptp(means, axis=0) <= 1e-12 * np.abs(means).max(axis=0))
        add_to_diagonal(matrix, np.where(constant, 1.0, g) * target)
        diagonal = to_numpy(matrix.diagonal()).copy()
        try:
            factored = Cholesky(matrix)
        except LinAlgError:
            raise ValueError(singular_message(within)) from None
        # pivot^2 over diagonal entry is the share of a gene's variance that the genes before it leave unexplained
        if np.min(factored.diagonal**2 / diagonal) < SINGULAR_SHARE:
            raise ValueError(singular_message(within))

        def trace() -> float:
            if g == 1:
                return float(np.sum(self.variances / target))
            # M_e(g)^-1 M_e = (I - g M_e(g)^-1 T) / (1 - g), which is zero for a gene without variance
            shares = 1 - g * factored.inverse_diagonal() * target
            return float(np.sum(shares[self.variances > 0]) / (1 - g))

        return Inverse(factored.solve, trace)

    def fold(self, split: Split) -> _PrimalFold:
        return _PrimalFold(self, split)

    def fold_spaces(self, splits: Sequence[Split], grid: Sequence[float]) -> Iterator[list[FoldSpace]]:
        """Evaluate the folds one after the other; if X is not in memory, all held-out cells are read in one pass."""
        labels = None if arrays.in_memory(self.within.X) else fold_of_cells(splits, self.within.shape[0])
        if labels is None or self.within.units is not None:
            yield from super().fold_spaces(splits, grid)
        else:
            folds, solutions = [], []
            for split in splits:
                folds.append(self.fold(split))
                solutions.append(folds[-1].solutions(grid))
                folds[-1].forget()
            products = _held_out_products(self.within, [np.hstack(Z) for Z, _ in solutions], labels)
            for split, fold, found in zip(splits, folds, solutions, strict=True):
                yield fold.scored(*found, products[split.known].astype(np.float64))
        self._parts = []

    def part_of(self, split: Split) -> tuple[np.ndarray, np.ndarray]:
        """Return the scatter of the held-out cells of a split, p x p, and their sums in each sample, S x p."""
        for known, scatter, sums in self._parts:
            if known is split:
                return scatter, sums
        within = self.within
        held_out = arrays.by_rows(within.X)[split.test]
        sums = arrays.group_sums(held_out, within.sample_codes[split.test], len(within.sample_means))
        return within.gene_scatter(split.test, sums), sums

    def rows(self, genes: Sequence[int]) -> np.ndarray:
        return to_numpy(self.scatter[asarray_like(self.scatter, np.asarray(genes))])

    def block(self, genes: np.ndarray) -> np.ndarray | None:
        chosen = asarray_like(self.scatter, genes)
        return to_numpy(self.scatter[chosen[:, None], chosen])


class _PrimalFold(Fold):
    """The training cells of a split, whose scatter is downdated from that of all cells."""

    def __init__(self, primal: Primal, split: Split):
        within, training = primal.within, Training(primal.within, split)
        self.primal = primal
        of_test, sums = primal.part_of(split)
        own = (within.sample_sums - sums)[training.full] / training.sample_counts[:, None]
        if training.units is not None:
            own = np.zeros_like(own)
        sizes = training.sample_counts * training.weights[training.groups]  # w n_s / norm
        # the formula at the top of this module
        scatter = (primal.scatter - of_test) / training.norm
        shift, self.covariates, deviations = own - within.centres[training.full], None, training.deviations
        if deviations is not None and within.covariates is not None:
            values, slopes = within.covariates.values, within.covariates.slopes
            weights = within.cell_weights[:, None]
            # sums of w z x' over the training cells, from those of all cells less those of the held-out cells
            held_out = arrays.by_rows(within.X)[split.test]
            of_test = arrays.transposed_times(held_out, weights[split.test] * values[split.test]).T
            products = within.covariate_sums - of_test
            products -= training.norm * (sizes[:, None] * deviations.means).T @ own  # sums of w y x'
            A = deviations.Y.T @ (weights[split.train] * deviations.Y)
            C = products - A @ slopes
            change = np.linalg.solve(A, C)
            scatter -= asarray_like(scatter, C.T) @ asarray_like(scatter, change) / training.norm
            shift -= deviations.means @ slopes
            own = own - deviations.means @ (slopes + change)
            self.covariates = values[split.known], slopes + change
        if training.units is None:
            scatter -= _outer(scatter, shift, sizes)
            means = training.group_means(own)
        else:
            assert self.covariates is not None
            means, of_covariates = training.coordinates(self.covariates[1])
            self.covariates = None
            if of_covariates is not None and split.design.covariates is not None:
                self.covariates = split.design.covariates.values[split.known], of_covariates
        if training.scaling is not None:  # n M_donor of the training samples
            scatter += _outer(scatter, training.scaling[:, None] * (own - means[training.groups]), sizes)
        self.scatter = scatter
        if primal.prior is not None:
            means = primal.shrunken_fold(training, means)
        self.centre = means.mean(axis=0)
        self.means = means - self.centre
        if self.covariates is not None:
            self.means = np.vstack([self.means, self.covariates[1]])
        self.split, self.counts = split, training.n_effective

    def group_spaces(self, grid: Sequence[float]) -> list[FoldSpace]:
        Z, traces = self.solutions(grid)
        return self.scored(Z, traces, arrays.times(self.primal.within.raw_rows(self.split.known), np.hstack(Z)))

    def solutions(self, grid: Sequence[float]) -> tuple[list[np.ndarray], list[float]]:
        """Compute ``M_e(g)^-1 G'``, p x C, and the noise of a cell, for every g of a grid."""
        return solve_grid(self.scatter, self.primal.target, grid, self.means.T)

    def scored(self, Z: list[np.ndarray], traces: list[float], products: np.ndarray) -> list[FoldSpace]:
        """Return the group spaces from the solutions, and from products of the held-out cells with all of them."""
        return scored(products, Z, self.means, self.centre, traces, self.counts, self.covariates)

    def forget(self) -> None:
        """Free the scatter, which nothing needs after the solutions."""
        del self.scatter


def _held_out_products(within: Within, Z: list[np.ndarray], labels: np.ndarray) -> np.ndarray:
    """Multiply every cell with the matrix (p x k) of the fold that holds it out, N x k, in one pass.

    Cells of no fold, which have the label -1, get zeros. Single precision is enough for a criterion with three digits.
    """
    Z = [asarray_like(within.X, z) for z in Z]
    width = max(z.shape[1] for z in Z)

    def products(rows: slice, block) -> np.ndarray:
        own, block = labels[rows], arrays.as_float(block)
        out = np.zeros((len(own), width), dtype=np.float32)
        for f in np.unique(own[own >= 0]):
            cells = np.flatnonzero(own == f)
            out[cells, : Z[f].shape[1]] = to_numpy(block[asarray_like(within.X, cells)] @ Z[f])
        return out

    return arrays.map_rows(within.X, products, width, np.float32)


def _outer(scatter: np.ndarray, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Compute ``rows' diag(weights) rows``, on the GPU if the scatter is there."""
    return asarray_like(scatter, rows.T) @ asarray_like(scatter, rows * weights[:, None])
