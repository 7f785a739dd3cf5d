"""The interface of all solvers: they apply M_e(g)^-1 for any g, and evaluate folds from what they hold.

A solver reads the data once, for the matrix that it holds. After that, ``factor(g)`` returns the inverse of
``M_e(g) = (1 - g) M_e + g T``, and ``fold(split)`` does the same for the training cells of a split, in the space of the
groups.

==============  ==================================  ===================================
solver          holds                               suits
==============  ==================================  ===================================
``primal``      M_e, p x p                          no more genes than cells
``dual``        the Gram matrix of cells, N x N     fewer cells than genes, in memory
``iterative``   no large matrix                     many cells and many genes
==============  ==================================  ===================================
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from .._data import arrays
from .._data.device import to_numpy
from .._design.design import Design
from .._design.splits import Split
from .folds import FoldSpace, Training
from .prior import FactorialMeans, posterior_means
from .slopes import with_slopes
from .within import Within

LARGEST_BLOCK = 50_000_000  # most numbers in the residuals of the genes of a block of M_e

Apply = Callable[[np.ndarray], np.ndarray]  # p x k -> p x k


@dataclass(frozen=True)
class Inverse:
    """The inverse of M_e(g).

    Attributes
    ----------
    solve
        Applies it to p x k arrays.
    trace
        Computes ``tr(M_e(g)^-1 M_e)``, the noise of a cell in the metric of M_e(g).
    """

    solve: Apply
    trace: Callable[[], float]


class Fold(ABC):
    """The training cells of a split, and its held-out cells, in the space of the groups."""

    @abstractmethod
    def group_spaces(self, grid: Sequence[float]) -> list[FoldSpace]:
        """Compute the group space for every g of a grid."""


class Solver(ABC):
    """A way to apply M_e(g)^-1 for any g.

    Parameters
    ----------
    within
        The data: group means and the within-group scatter.
    target
        The shrinkage target T, ``"identity"`` or ``"diagonal"``.
    prior
        Design whose factorial prior shrinks the group means. None uses the observed means.
    splits
        The splits that will be evaluated, which a solver may prepare for when it reads the data.

    Attributes
    ----------
    variances
        Within-group variances diag(M_e), (p,).
    target
        Diagonal of T, (p,).
    """

    name: ClassVar[str]
    variances: np.ndarray
    target: np.ndarray

    def __init__(self, within: Within, target: str, prior: Design | None = None, splits: Sequence[Split] = ()):
        self.within = within
        self.prior = prior

    @abstractmethod
    def cell_norms(self) -> np.ndarray:
        """Compute the squared length of each weighted residual in the metric of T, (N,)."""

    @abstractmethod
    def squared_norm(self) -> float:
        """Compute the squared Frobenius norm of ``T^-1/2 M_e T^-1/2``."""

    @abstractmethod
    def factor(self, g: float) -> Inverse:
        """Return the inverse of M_e(g)."""

    @abstractmethod
    def fold(self, split: Split) -> Fold:
        """Evaluate the training cells of a split; the target T stays that of all cells."""

    def fold_spaces(self, splits: Sequence[Split], grid: Sequence[float]) -> Iterator[list[FoldSpace]]:
        """Yield the group spaces of every split for all g of a grid, as ``fold(split).group_spaces(grid)`` does."""
        return (self.fold(split).group_spaces(grid) for split in splits)

    def solve_means(self, g: float) -> tuple[np.ndarray, Inverse]:
        """Compute ``Z = M_e(g)^-1 G'`` (p x C), unrefined, and the result of :meth:`factor`."""
        inverse = self.factor(g)
        return inverse.solve(self.means.T), inverse

    @cached_property
    def group_means(self) -> np.ndarray:
        """Group means from which the axes are computed, C x p: observed, or shrunken by the factorial prior."""
        return self.within.means if self.posterior is None else self.posterior.at(self.posterior.design.table.groups)

    @cached_property
    def posterior(self) -> FactorialMeans | None:
        """Posterior of the group means under the factorial prior, or None if the observed means are used."""
        if self.prior is None:
            return None
        return posterior_means(self.within.means, self.variances, self.within.n_effective, self.prior)

    @cached_property
    def centre(self) -> np.ndarray:
        """Unweighted mean of the group means, (p,), which is the origin of the axes."""
        return self.group_means.mean(axis=0)

    @cached_property
    def means(self) -> np.ndarray:
        """G, the group means less their unweighted mean, C x p, and below them the slopes of covariates, q x p.

        Effects do not depend on this shift, but products lose fewer digits without it.
        """
        return with_slopes(self.group_means - self.centre, self.within.of_covariates)

    def shrunken_fold(self, training: Training, means: np.ndarray) -> np.ndarray:
        """Shrink the group means (C x p) of the training cells of a fold by a prior that is fitted to them.

        The gene variances are those of all cells.
        """
        return posterior_means(means, self.variances, training.n_effective, training.design).at(
            training.design.table.groups
        )

    def columns(self, genes: Sequence[int] | np.ndarray):
        """Return the data of a few genes, N x len(genes), in memory or on the GPU.

        With precision weights the rows are multiplied by their roots.
        """
        X = self._columns[:, genes]
        if arrays.in_memory(X):
            return X
        return arrays.map_rows(X, lambda rows, block: arrays.dense(block), len(genes))

    def rows(self, genes: Sequence[int]) -> np.ndarray:
        """Compute rows of M_e, without shrinkage, for a few genes: len(genes) x p."""
        columns = self._columns if arrays.is_sparse(self._columns) and arrays.in_memory(self._columns) else None
        return self.within.genes_of(self._residuals(genes), columns).T

    def block(self, genes: np.ndarray) -> np.ndarray | None:
        """Compute rows and columns of M_e for some genes, or return None if their residuals take too much memory."""
        if self.within.shape[0] * len(genes) > LARGEST_BLOCK:
            return None
        residuals = self._residuals(genes)
        return residuals.T @ residuals

    def _residuals(self, genes: Sequence[int] | np.ndarray) -> np.ndarray:
        """Compute the weighted residuals of the cells for a few genes, N x len(genes)."""
        block, within = to_numpy(arrays.dense(self.columns(genes))), self.within
        block -= within.fitted_genes(genes)
        return np.sqrt(within.cell_weights)[:, None] * block

    @cached_property
    def _columns(self):
        """The data in a format whose columns can be sliced cheaply."""
        return arrays.by_columns(self.within.X)


def singular_message(within: Within) -> str:
    """Return the error message for a within-group scatter that cannot be inverted."""
    (N, p), C = within.shape, len(within.counts)
    return (
        f"the within-group scatter of {p} genes from {N} cells in {C} groups is singular at shrinkage=0 (genes are "
        "linearly dependent or vary between groups only, or there are at least as many genes as cells less groups). "
        "Set shrinkage='auto' or a number above 0."
    )
