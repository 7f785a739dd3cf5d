"""The iterative solver: products M_e B only (:mod:`flda._solve.krylov`). It forms neither p x p nor N x N matrices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .._data import arrays
from .._design.design import Design
from .._design.splits import Split
from .folds import FoldSpace, Training, scored
from .krylov import FOLD_TOLERANCE, TOLERANCE, solve_and_trace
from .residuals import target_diagonal
from .slopes import with_slopes
from .solver import Fold, Inverse, Solver, singular_message
from .within import Within


class Iterative(Solver):
    """The solver that applies M_e through products with thin matrices and holds no large matrix."""

    name = "iterative"

    def __init__(self, within: Within, target: str, prior: Design | None = None, splits: Sequence[Split] = ()):
        super().__init__(within, target, prior, splits)
        self.variances = within.gene_variances()
        self.target = target_diagonal(self.variances, target)
        self.trace = float(np.sum(self.variances / self.target))  # tr(T^-1 M_e)

    def cell_norms(self) -> np.ndarray:
        return self.within.cell_norms(self.target)

    def squared_norm(self) -> float:
        raise ValueError(
            "solver='iterative' cannot compute shrinkage='ledoit-wolf' or 'oas', which need the whole scatter. "
            "Set shrinkage='cv' or a number."
        )

    def factor(self, g: float) -> Inverse:
        return Inverse(lambda B: self._solve(g, B)[0], lambda: self._solve(g, np.empty((len(self.target), 0)))[1])

    def solve_means(self, g: float) -> tuple[np.ndarray, Inverse]:
        Z, noise = self._solve(g, self.means.T)  # the noise takes no run of its own
        return Z, Inverse(self.factor(g).solve, lambda: noise)

    def _solve(self, g: float, B: np.ndarray) -> tuple[np.ndarray, float]:
        """Compute ``M_e(g)^-1 B`` and the noise ``tr(M_e(g)^-1 M_e)``."""
        if g == 0:
            raise ValueError(singular_message(self.within))
        (Z,), (noise,) = solve_and_trace(self.within.times, self.target, self.trace, [g], B, TOLERANCE)
        return Z, noise

    def fold(self, split: Split) -> Fold:
        return _IterativeFold(self, split)


class _IterativeFold(Fold):
    """The training cells of a split, solved by a run of their own."""

    def __init__(self, solver: Iterative, split: Split):
        training = Training(solver.within, split)
        self.target, self.within = solver.target, training.within()
        self.counts = training.n_effective
        means = self.within.means if solver.prior is None else solver.shrunken_fold(training, self.within.means)
        self.centre = means.mean(axis=0)
        self.means = with_slopes(means - self.centre, self.within.of_covariates)
        self.held_out = solver.within.raw_rows(split.known)
        self.covariates, design = None, split.design
        if design.covariates is not None and self.within.of_covariates is not None:
            self.covariates = design.covariates.values[split.known], self.within.of_covariates

    def group_spaces(self, grid: Sequence[float]) -> list[FoldSpace]:
        # only g = 1 needs tr(T^-1 M_e) of the training cells, which takes a pass over the data
        trace = float(np.sum(self.within.gene_variances() / self.target)) if 1 in grid else np.nan
        Z, noise = solve_and_trace(self.within.times, self.target, trace, grid, self.means.T, FOLD_TOLERANCE)
        products = arrays.times(self.held_out, np.hstack(Z))
        return scored(products, Z, self.means, self.centre, noise, self.counts, self.covariates)
