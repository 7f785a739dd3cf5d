"""The dual solver: M_e through the N x N Gram matrix of the cells. It suits data with fewer cells than genes.

With R the weighted residuals of the cells (``M_e = R'R``), a = 1 - g and ``Kc = R T^-1 R'``, Woodbury's identity gives
::

    M_e(g)^-1 = (a R'R + g T)^-1 = T^-1 (I - a R' (g I + a Kc)^-1 R T^-1) / g

This form never divides by a, so g close or equal to 1 needs no special case. The group means are further rows of the
same Gram matrix, so a fold is evaluated from it without reading the data again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np
import scipy.sparse as sp
from scipy.linalg import LinAlgError

from .._data import arrays
from .._data.device import OnDevice, asarray_like, to_numpy
from .._data.symmetric import Cholesky
from .._design.design import Design
from .._design.splits import Split
from .._logging import get_logger
from .folds import FoldSpace, Training, add_to_diagonal
from .krylov import FOLD_TOLERANCE, N_PROBES, SMALL, Run, diagonalised, in_step, solving_and_tracing, through
from .objective import Noise
from .residuals import target_diagonal
from .sample_weights import donor_scaling
from .slopes import with_slopes
from .solver import Fold, Inverse, Solver, singular_message
from .within import Within

logger = get_logger(__name__)

SINGLE_FROM = 1000  # cells from which the Gram matrix is summed in single precision
SINGLE_ERROR = 1e-4  # largest share of a residual that a correction may leave; above, double precision is needed
CORRECTED = 1e-13  # relative residual that a correction is expected to leave, from which it is the last one
# largest relative error of the noise by one random vector; that of the noise itself is 4 to 1,000 times less, because
# errors of single entries average out in a trace
NOISE_ERROR = 1e-7
EXACT = 1e-13  # relative residual that is a rounding error


def in_single_precision(within: Within) -> bool:
    """Return whether the Gram matrix of the cells is summed in single precision: in memory, if it is large."""
    return within.shape[0] >= SINGLE_FROM and not isinstance(within.X, OnDevice)


class Dual(Solver):
    """The solver that holds the Gram matrix of cells and groups, ``gram``, with N + C rows, and q more for covariates.

    It is on the GPU if X is worked on there.
    """

    name = "dual"

    def __init__(self, within: Within, target: str, prior: Design | None = None, splits: Sequence[Split] = ()):
        super().__init__(within, target, prior, splits)
        self._kind = target
        dtype = np.float32 if in_single_precision(within) else np.float64
        self.gram, self.variances, self._norms = within.cell_gram(target, dtype)
        self.target = target_diagonal(self.variances, target)

    def cell_norms(self) -> np.ndarray:
        return self._norms.copy()

    def squared_norm(self) -> float:
        """Compute the squared Frobenius norm of ``T^-1/2 M_e T^-1/2``, which equals that of Kc."""
        return float((self._cells**2).sum(dtype=np.float64))

    def factor(self, g: float) -> Inverse:
        return self._woodbury(g)[1]

    def solve_means(self, g: float) -> tuple[np.ndarray, Inverse]:
        apply, inverse = self._woodbury(g)
        if self._single or self.prior is not None:
            return inverse.solve(self.means.T), inverse
        # R T^-1 G' is a block of the Gram matrix, which saves a pass over the data
        N = self.within.shape[0]
        products = to_numpy(self.gram[:N, N:])
        if (units := self.within.units) is not None:  # the rows are the coefficients of the linear model
            C, rows = len(units.of_groups), units.to_groups.copy()
            rows[:C] -= rows[:C].mean(axis=0)
            products = products[:, 1:] @ rows.T
        return apply(self.means.T, products), inverse

    @property
    def _single(self) -> bool:
        """Whether the Gram matrix has single precision."""
        return bool(self.gram.dtype == np.float32)

    def _in_double_precision(self) -> None:
        """Sum the Gram matrix again, in double precision."""
        logger.info("the scatter within groups is ill-conditioned, so its products are repeated in double precision")
        self.gram, *_ = self.within.cell_gram(self._kind)

    def _factored(self, g: float) -> Cholesky:
        """Return the Cholesky factor of ``(1 - g) Kc + g I``."""
        matrix = (1 - g) * self._cells.astype(np.float64, copy=False)
        if self._single:  # the trace depends on the diagonal most, of which every entry is a sum without cancellation
            np.fill_diagonal(matrix, (1 - g) * self._norms)
        add_to_diagonal(matrix, g)
        try:
            return Cholesky(matrix)
        except LinAlgError:
            if not self._single:
                raise
            self._in_double_precision()
            return self._factored(g)

    def _woodbury(self, g: float) -> tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], Inverse]:
        """Return a function that applies M_e(g)^-1 to B (p x k), given ``R T^-1 B`` (N x k), and the inverse."""
        if g == 0:
            raise ValueError(singular_message(self.within))
        within, target = self.within, self.target[:, None]
        N, factored = within.shape[0], self._factored(g)

        def trace() -> float:
            # the trace of M_e(g)^-1 M_e is that of ((1 - g) Kc + g I)^-1 Kc = (I - g ((1 - g) Kc + g I)^-1) / (1 - g)
            if g == 1:
                return float(self._norms.sum())
            return float((N - g * factored.inverse_diagonal().sum()) / (1 - g))

        def corrected(residuals: np.ndarray) -> np.ndarray | None:
            """Solve ``((1 - g) Kc + g I) y = residuals`` with corrections from true residuals, and return ``R' y``.

            The result is None if single precision has too few digits for that, or for the noise.
            """
            k, scale, size = residuals.shape[1], np.linalg.norm(residuals), 1.0
            signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(N, N_PROBES))
            residuals = np.hstack([residuals, signs])
            inner = factored.solve(residuals)
            genes = within.genes_of(inner)
            while scale > 0:
                error = residuals - (1 - g) * within.cells_of(genes / target) - g * inner
                if size == 1 and g < 1:
                    # z is solved for as y, and its error is (1 - g) E y, with E the error of Kc. To first order that of
                    # the trace is the mean over random signs z of g y' E y.
                    shifts = g / (1 - g) * np.einsum("nk,nk->k", inner[:, k:], error[:, k:])
                    if np.abs(shifts).max() > NOISE_ERROR * noise():
                        return None
                    residuals, inner, error = residuals[:, :k], inner[:, :k], error[:, :k]
                before, size = size, float(np.linalg.norm(error) / scale)
                if size > max(SINGLE_ERROR * before, EXACT):
                    return None
                inner = inner + factored.solve(error)
                genes = within.genes_of(inner)
                if size * size / before <= CORRECTED:  # every correction shrinks the residual as much as the one before
                    break
            return genes[:, :k]

        def apply(B: np.ndarray, residuals: np.ndarray) -> np.ndarray:
            nonlocal factored
            genes = corrected(residuals) if self._single else None
            if genes is None:
                if self._single:
                    self._in_double_precision()
                    factored = self._factored(g)
                    noise.cache_clear()
                genes = within.genes_of(factored.solve(residuals))
            return (B - (1 - g) * genes) / target / g

        noise = cache(trace)
        return apply, Inverse(lambda B: apply(B, within.cells_of(B / target)), noise)

    def fold(self, split: Split) -> Fold:
        return _DualFold(self, split)

    def fold_spaces(self, splits: Sequence[Split], grid: Sequence[float]) -> Iterator[list[FoldSpace]]:
        """Evaluate all folds together, so that they share every product with the Gram matrix."""
        yield from in_step([_DualFold(self, split).evaluation(grid) for split in splits], self.plain_products)

    @property
    def _cells(self) -> np.ndarray:
        """Kc, the block of the Gram matrix that belongs to the cells."""
        N = self.within.shape[0]
        return self.gram[:N, :N]

    def plain_products(self, B: np.ndarray) -> np.ndarray:
        """Multiply the Gram matrix with B (k columns), with residuals from the group means whatever the error term.

        Folds start from these products.
        """
        within, N, gram = self.within, self.within.shape[0], self.gram

        def times(V: np.ndarray) -> np.ndarray:
            return to_numpy(gram @ asarray_like(gram, V.astype(gram.dtype))).astype(np.float64)

        if within.samples is None:
            return times(B)
        # the residuals of the full fit have the mean of each sample scaled by phi_s
        undo = 1 / donor_scaling(within.samples, within.weights, within.delta)

        def unscaled(V: np.ndarray) -> np.ndarray:
            return np.vstack([scale_samples(V[:N], within.sample_codes, undo), V[N:]])

        return unscaled(times(unscaled(B)))


class _DualFold(Fold):
    """The training cells of a split, evaluated from the Gram matrix of all cells.

    Every vector of the fold is a linear combination of the vectors behind the rows of the Gram matrix: vector i is
    sqrt(w) times the residual of cell i from the mean of its group, and vector N + c is the centred mean of group c,
    both in the metric of T. So every inner product of the fold is a product of coefficients with the Gram matrix, and
    the Gram matrix of the training residuals R is never formed. With E the map from residuals of the training fit to
    coefficients (:meth:`_coefficients`), it is ``E' gram E``.
    """

    def __init__(self, dual: Dual, split: Split):
        within = dual.within
        training = Training(within, split)
        codes, train, test = training.codes, split.train, split.known
        C, R, units = len(training.counts), len(dual.gram), training.units
        self.dual, self.split, self.training = dual, split, training
        self._average = arrays.indicator(codes, C) * training.shares
        self._change = self._about_means = np.empty((0, len(train)))
        self._roots = np.sqrt(within.cell_weights[train])[:, None]
        self._held_out = _cells_as_rows(within, test, np.arange(len(test)), np.ones(len(test)), R)
        own = _cells_as_rows(within, train, codes, training.shares, R)  # means of the training groups
        self._own, deviations = own.toarray(), training.deviations
        if deviations is not None and within.covariates is not None:
            # the slopes of the training cells are those of the full fit and a change, a combination of training rows
            values, Y = within.covariates.values, self._roots * deviations.Y
            of_means = arrays.indicator(codes, C) @ (training.shares[:, None] * values[train])
            self._change = np.linalg.solve(Y.T @ Y, Y.T)
            self._about_means = (self._roots * (values[train] - of_means[codes])).T
            q = len(self._change)
            of_rows, slopes = np.zeros((q, R)), np.zeros((q, R))
            of_rows[:, train] = slopes[:, train] = self._change
            slopes[:, R - q :] = np.eye(q)
            if units is None:
                self._held_out = self._held_out.toarray() - values[test] @ of_rows
                self._own = np.vstack([self._own - of_means @ of_rows, slopes])
            else:  # the cells less what covariates predict, and the fitted group means
                C, full = split.design.n_groups, split.design.unit_model
                assert full is not None
                predicted = values[test] @ (slopes - of_rows)
                if units.covariates is not None:
                    m = units.of_groups.shape[1]
                    predicted -= values[test][:, m:] @ slopes[m:]
                self._held_out = (self._held_out.toarray() + predicted) / full.root[test][:, None]
                self._own = units.to_groups @ slopes
        # the unweighted mean of the group means is taken off them, and not off the slopes of covariates
        of_groups = np.r_[np.ones(C), np.zeros(len(self._own) - C)]
        self._centre = of_groups / C @ self._own
        self._own -= of_groups[:, None] * self._centre

    def _residuals(self, products: np.ndarray) -> np.ndarray:
        """Turn products with the rows of the training cells (n x k) into products with the residuals R of their fit.

        The mean over its training group and what covariates predict are subtracted, and sample means are scaled by
        phi_s.
        """
        training = self.training
        products = products - (self._average @ products)[training.codes]
        products -= self._about_means.T @ (self._change @ products)
        if training.scaling is not None:
            products = scale_samples(products, training.sample_codes, training.scaling)
        return products / np.sqrt(training.norm)

    def _coefficients(self, V: np.ndarray) -> np.ndarray:
        """Express ``R' V`` (V n x k) as coefficients of all rows; this is the transpose of :meth:`_residuals`."""
        training = self.training
        V = V / np.sqrt(training.norm)
        if training.scaling is not None:
            V = scale_samples(V, training.sample_codes, training.scaling)
        V = V - self._change.T @ (self._about_means @ V)
        V -= self._average.T @ (arrays.indicator(training.codes, self._average.shape[0]) @ V)
        out = np.zeros((len(self.dual.gram), V.shape[1]))
        out[self.split.train] = V
        return out

    def _of_training(self, products: np.ndarray) -> np.ndarray:
        """Turn products with all rows into products with the residuals R of the training cells."""
        return self._residuals(products[self.split.train])

    def group_spaces(self, grid: Sequence[float]) -> list[FoldSpace]:
        return in_step([self.evaluation(grid)], self.dual.plain_products)[0]

    def evaluation(self, grid: Sequence[float]) -> Run[list[FoldSpace]]:
        """Return a run that does the work of :meth:`group_spaces`; it waits for :meth:`Dual.plain_products`."""
        train, n = self.split.train, len(self.split.train)
        if self.dual.prior is None:
            products = yield np.vstack([self._own, self._centre]).T
            to_means, to_centre = products[:, :-1], products[train, -1]
            means, residuals = self._own @ to_means, self._of_training(to_means)  # G T^-1 G' and R T^-1 G'
            test_means = self._held_out @ to_means - self._centre @ to_means  # products of (x - centre) with G
        else:
            means, residuals, test_means, to_centre = self._shrunken()
        # with the identity as target, ((1 - g) Kc + g I)^-1 R T^-1 G' and the noise tr(((1 - g) Kc + g I)^-1 Kc)
        if n <= SMALL:
            cells = self._of_training((yield self._coefficients(np.eye(n))))  # Kc
            found, traces = diagonalised(cells, np.ones(n), grid, residuals)
        else:
            trace = np.nan  # only g = 1 needs it, which no default grid has
            if 1 in grid:
                trace = float(np.trace(self._of_training((yield self._coefficients(np.eye(n))))))
            run = solving_and_tracing(np.ones(n), trace, grid, residuals, FOLD_TOLERANCE)
            found, traces = yield from through(run, self._coefficients, self._of_training)
        inner = [(1 - g) * solution for g, solution in zip(grid, found, strict=True)]
        combined = self._coefficients(np.hstack(inner))
        products = yield combined
        corrections = np.split(self._held_out @ products - to_centre @ combined[train], len(grid), axis=1)
        counts, out = self.training.n_effective, []
        for g, solution, correction, noise in zip(grid, inner, corrections, traces, strict=True):
            K = (means - residuals.T @ solution) / g
            out.append(FoldSpace(K, (test_means - correction) / g, Noise(noise, counts)))
        return out

    def _shrunken(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Compute the products of shrunken means with G, R and held-out cells, and those of their centre with rows.

        Shrunken means are not a combination of the rows, because each gene is shrunken differently, so their products
        take one pass over the data.
        """
        dual, within, train = self.dual, self.dual.within, self.split.train
        of_training = self.training.within()
        means = dual.shrunken_fold(self.training, of_training.means)
        origin = means.mean(axis=0)
        G = with_slopes(means - origin, of_training.of_covariates)
        B, R = np.vstack([G, origin - within.centre]).T / dual.target[:, None], len(G)
        products = arrays.times(within.X, B) - within.centre @ B  # one row for every cell
        if within.covariates is not None and of_training.covariates is not None:
            products -= within.covariates.values @ (of_training.covariates.slopes @ B)
        weighted = self._roots * products[train]
        test_means = products[self.split.known][:, :R] - (origin - within.centre) @ B[:, :R]
        return G @ B[:, :R], self._residuals(weighted[:, :R]), test_means, weighted[:, R]


def _cells_as_rows(within: Within, cells: np.ndarray, rows: np.ndarray, shares: np.ndarray, width: int) -> sp.csr_array:
    """Express weighted sums of centred cells as combinations of the rows of the Gram matrix.

    A centred cell is its unweighted residual plus the centred mean of its group. ``rows`` gives the sum to which each
    cell belongs, ``shares`` its weight in that sum, and ``width`` the number of rows of the Gram matrix.

    Returns
    -------
    Coefficients, (number of sums) x ``width``.
    """
    N = within.shape[0]
    residuals = shares / np.sqrt(within.cell_weights[cells])
    columns = np.concatenate([cells, N + within.codes[cells]])
    return sp.csr_array(
        (np.concatenate([residuals, shares]), (np.tile(rows, 2), columns)), shape=(rows.max(initial=-1) + 1, width)
    )


def scale_samples(rows: np.ndarray, sample_codes: np.ndarray, scaling: np.ndarray) -> np.ndarray:
    """Multiply the mean of each sample, over the rows (n x k) that belong to it, by the factor of the sample."""
    change = ((scaling - 1) / np.bincount(sample_codes))[:, None]
    return rows + (change * arrays.block_sums(rows, sample_codes, len(scaling)))[sample_codes]
