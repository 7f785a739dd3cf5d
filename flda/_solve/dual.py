"""The dual solver: M_e through the N x N Gram matrix of the cells. It suits data with fewer cells than genes.

With R the weighted residuals of the cells (``M_e = R'R``), a = 1 - g and ``Kc = R T^-1 R'``, Woodbury's identity gives
::

    M_e(g)^-1 = (a R'R + g T)^-1 = T^-1 (I - a R' (g I + a Kc)^-1 R T^-1) / g

This form never divides by a, so g close or equal to 1 needs no special case. The group means are further rows of the
same Gram matrix, so a fold is evaluated from it without reading the data again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from .._data import arrays
from .._data.device import asarray_like, namespace, to_numpy
from .._data.symmetric import Cholesky
from .._design.design import Design
from .._design.splits import Split
from .folds import FoldSpace, Training, add_to_diagonal
from .krylov import solve_grid
from .objective import Noise
from .slopes import with_slopes
from .solver import Fold, Inverse, Solver, singular_message
from .within import Within, donor_scaling, target_diagonal


class Dual(Solver):
    """The solver that holds the Gram matrix of cells and groups, ``gram``, with N + C rows, and q more for covariates.

    It is on the GPU if X is worked on there.
    """

    name = "dual"

    def __init__(self, within: Within, target: str, prior: Design | None = None):
        super().__init__(within, target, prior)
        self.gram, self.variances = within.cell_gram(target)
        self.target = target_diagonal(self.variances, target)

    def cell_norms(self) -> np.ndarray:
        return to_numpy(self._cells.diagonal()).copy()

    def squared_norm(self) -> float:
        """Compute the squared Frobenius norm of ``T^-1/2 M_e T^-1/2``, which equals that of Kc."""
        return float((self._cells**2).sum())

    def factor(self, g: float) -> Inverse:
        return self._woodbury(g)[1]

    def solve_means(self, g: float) -> tuple[np.ndarray, Inverse]:
        apply, inverse = self._woodbury(g)
        if self.prior is not None:
            return inverse.solve(self.means.T), inverse
        # R T^-1 G' is a block of the Gram matrix, which saves a pass over the data
        N = self.within.shape[0]
        products = to_numpy(self.gram[:N, N:])
        if (units := self.within.units) is not None:  # the rows are the coefficients of the linear model
            C, rows = len(units.of_groups), units.to_groups.copy()
            rows[:C] -= rows[:C].mean(axis=0)
            products = products[:, 1:] @ rows.T
        return apply(self.means.T, products), inverse

    def _woodbury(self, g: float) -> tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], Inverse]:
        """Return a function that applies M_e(g)^-1 to B (p x k), given ``R T^-1 B`` (N x k), and the inverse."""
        if g == 0:
            raise ValueError(singular_message(self.within))
        N, target = self.within.shape[0], self.target[:, None]
        matrix = (1 - g) * self._cells
        add_to_diagonal(matrix, g)
        factored = Cholesky(matrix)

        def apply(B: np.ndarray, residuals: np.ndarray) -> np.ndarray:
            inner = factored.solve(residuals)
            return (B / target - (1 - g) * self.within.genes_of(inner) / target) / g

        def trace() -> float:
            # the trace of M_e(g)^-1 M_e is that of ((1 - g) Kc + g I)^-1 Kc = (I - g ((1 - g) Kc + g I)^-1) / (1 - g)
            if g == 1:
                return float(self.cell_norms().sum())
            return float((N - g * factored.inverse_diagonal().sum()) / (1 - g))

        return apply, Inverse(lambda B: apply(B, self.within.cells_of(B / target)), trace)

    def fold(self, split: Split) -> Fold:
        return _DualFold(self, split)

    @property
    def _cells(self) -> np.ndarray:
        """Kc, the block of the Gram matrix that belongs to the cells."""
        N = self.within.shape[0]
        return self.gram[:N, :N]

    @cached_property
    def plain_gram(self) -> np.ndarray:
        """The Gram matrix with residuals from the group means, whatever the error term; folds start from it."""
        within, N = self.within, self.within.shape[0]
        if within.samples is None:
            return self.gram
        # the residuals of the full fit have the mean of each sample scaled by phi_s
        undo = 1 / donor_scaling(within.samples, within.weights, within.delta)
        out = self.gram.copy()
        out[:N] = scale_samples(out[:N], within.sample_codes, undo)
        out[:, :N] = scale_samples(out[:, :N].T, within.sample_codes, undo).T
        return out


class _DualFold(Fold):
    """The training cells of a split, evaluated from the Gram matrix of all cells.

    Every vector of the fold is a linear combination of the vectors behind the rows of the Gram matrix: vector i is
    sqrt(w) times the residual of cell i from the mean of its group, and vector N + c is the centred mean of group c,
    both in the metric of T. So every inner product of the fold is a product of coefficients with the Gram matrix.
    """

    def __init__(self, dual: Dual, split: Split):
        within, gram = dual.within, dual.plain_gram
        training = Training(within, split)
        codes, train, test = training.codes, split.train, split.known
        C, units = len(training.counts), training.units
        average = asarray_like(gram, arrays.indicator(codes, C) * training.shares)
        train_rows, group_of = asarray_like(gram, train), asarray_like(gram, codes)
        deviations, change = training.deviations, np.empty((0, len(train)))
        roots = np.sqrt(within.cell_weights[train])[:, None]
        if deviations is not None and within.covariates is not None:
            # the slopes of the training cells are those of the full fit and a change, a combination of training rows
            values, Y = within.covariates.values, roots * deviations.Y
            of_means = arrays.indicator(codes, C) @ (training.shares[:, None] * values[train])
            change = np.linalg.solve(Y.T @ Y, Y.T)
            about_means = asarray_like(gram, roots * (values[train] - of_means[codes]))
        to_change = asarray_like(gram, change.T)

        def residuals(rows: np.ndarray) -> np.ndarray:
            """Turn products with the training rows (k x n) into products with the residuals R of the training fit.

            The mean over its training group and what covariates predict are subtracted from each column, and sample
            means are scaled by phi_s.
            """
            rows = rows - (average @ rows.T).T[:, group_of]
            if len(change):
                rows = rows - (rows @ to_change) @ about_means.T
            if training.scaling is not None:
                rows = scale_samples(rows.T, training.sample_codes, training.scaling).T
            return rows / np.sqrt(training.norm)

        held_out = asarray_like(gram, _cells_as_rows(within, test, np.arange(len(test)), np.ones(len(test))))
        own = asarray_like(gram, _cells_as_rows(within, train, codes, training.shares))  # means of the training groups
        if deviations is not None and within.covariates is not None:
            q = len(change)
            of_rows, slopes = np.zeros((q, len(gram))), np.zeros((q, len(gram)))
            of_rows[:, train] = slopes[:, train] = change
            slopes[:, len(gram) - q :] = np.eye(q)
            if units is None:
                held_out = held_out - asarray_like(gram, values[test] @ of_rows)
                own = asarray_like(gram, np.vstack([own.toarray() - of_means @ of_rows, slopes]))
            else:  # the cells less what covariates predict, and the fitted group means
                C, full = split.design.n_groups, split.design.unit_model
                assert full is not None
                predicted = values[test] @ (slopes - of_rows)
                if units.covariates is not None:
                    m = units.of_groups.shape[1]
                    predicted -= values[test][:, m:] @ slopes[m:]
                held_out = (held_out + asarray_like(gram, predicted)) / asarray_like(gram, full.root[test][:, None])
                own = asarray_like(gram, units.to_groups @ slopes)
        to_train = held_out @ gram[:, train_rows]  # products of held-out cells with the training rows
        if dual.prior is None:
            # the unweighted mean of the group means is taken off them, and not off the slopes of covariates
            of_groups = asarray_like(gram, np.r_[np.ones(C), np.zeros(own.shape[0] - C)])
            centre = (of_groups / C) @ own
            to_means = (own @ gram) - of_groups[:, None] * (centre @ gram)  # products of G with every row
            self.means = (own @ to_means.T).T - (to_means @ centre)[:, None] * of_groups  # G T^-1 G'
            self.residuals = residuals(to_means[:, train_rows]).T  # R T^-1 G', n x C
            self.test_means = held_out @ to_means.T - to_means @ centre  # products of (x - centre) with G
            to_centre = centre @ gram[:, train_rows]
        else:
            # shrunken means are not a combination of the rows, because each gene is shrunken differently, so their
            # products take one pass over the data
            of_training = training.within()
            means = dual.shrunken_fold(training, of_training.means)
            origin = means.mean(axis=0)
            G = with_slopes(means - origin, of_training.of_covariates)
            B, R = np.vstack([G, origin - within.centre]).T / dual.target[:, None], len(G)
            products = arrays.times(within.X, B) - within.centre @ B  # one row for every cell
            if within.covariates is not None and of_training.covariates is not None:
                products -= within.covariates.values @ (of_training.covariates.slopes @ B)
            self.means = asarray_like(gram, G @ B[:, :R])
            weighted = asarray_like(gram, roots * products[train])
            self.residuals = residuals(weighted[:, :R].T).T
            self.test_means = asarray_like(gram, products[test][:, :R] - (origin - within.centre) @ B[:, :R])
            to_centre = weighted[:, R]
        # Kc of the training cells, and the products of (x - centre) of the held-out cells with R
        self.cells = residuals(residuals(gram[namespace(gram).ix_(train_rows, train_rows)]).T)
        self.test_residuals = residuals(to_train - to_centre)
        self.counts = training.n_effective

    def group_spaces(self, grid: Sequence[float]) -> list[FoldSpace]:
        # with the identity as target, ((1 - g) Kc + g I)^-1 R T^-1 G' and the noise tr(((1 - g) Kc + g I)^-1 Kc)
        found, traces = solve_grid(self.cells, np.ones(len(self.cells)), grid, to_numpy(self.residuals))
        out = []
        for g, inner, trace in zip(grid, found, traces, strict=True):
            inner = asarray_like(self.cells, (1 - g) * inner)
            K = (self.means - self.residuals.T @ inner) / g
            scores = (self.test_means - self.test_residuals @ inner) / g
            out.append(FoldSpace(to_numpy(K), to_numpy(scores), Noise(trace, self.counts)))
        return out


def _cells_as_rows(within: Within, cells: np.ndarray, rows: np.ndarray, shares: np.ndarray) -> sp.csr_array:
    """Express weighted sums of centred cells as combinations of the rows of the Gram matrix.

    A centred cell is its unweighted residual plus the centred mean of its group. ``rows`` gives the sum to which each
    cell belongs and ``shares`` its weight in that sum.

    Returns
    -------
    Coefficients, (number of sums) x (N + C + q).
    """
    N, C = within.shape[0], len(within.coefficients)
    residuals = shares / np.sqrt(within.cell_weights[cells])
    columns = np.concatenate([cells, N + within.codes[cells]])
    return sp.csr_array(
        (np.concatenate([residuals, shares]), (np.tile(rows, 2), columns)), shape=(rows.max(initial=-1) + 1, N + C)
    )


def scale_samples(rows: np.ndarray, sample_codes: np.ndarray, scaling: np.ndarray) -> np.ndarray:
    """Multiply the mean of each sample, over the rows (n x k) that belong to it, by the factor of the sample."""
    change = asarray_like(rows, ((scaling - 1) / np.bincount(sample_codes))[:, None])
    return rows + (change * arrays.block_sums(rows, sample_codes, len(scaling)))[asarray_like(rows, sample_codes)]
