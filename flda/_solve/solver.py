"""What every solver must do: apply M_e(g)^-1 for any g, and evaluate folds from what it holds.

A solver reads the data once for what it holds (nothing, a p x p or an N x N matrix). After that ``factor(g)`` gives a
function that applies ``M_e(g)^-1 = ((1 - g) M_e + g T)^-1``, and ``fold(split)`` gives the same for the training cells
of a split, in the space of the groups.

==============  ==================================  ===================================
solver          holds                               suits
==============  ==================================  ===================================
``primal``      M_e, p x p                          no more genes than cells
``dual``        the Gram matrix of cells, N x N     fewer cells than genes, in memory
``iterative``   nothing                             both sides large
==============  ==================================  ===================================
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np

from .._data import arrays
from .._data.device import to_numpy
from .._design.design import Design
from .._design.splits import Split
from .folds import Training
from .prior import FactorialMeans, posterior_means
from .within import Within

Apply = Callable[[np.ndarray], np.ndarray]  # p x k -> p x k


class Fold(ABC):
    """The training cells of a split, in the space of the groups, and the scores of its held-out cells."""

    @abstractmethod
    def group_spaces(self, grid: Sequence[float]) -> list[tuple[np.ndarray, np.ndarray]]:
        """For every g, ``K = G M_e(g)^-1 G'`` (C x C) of the training cells, and ``(x - centre)' Z`` of held-out ones.

        The held-out cells are those of ``split.known``; ``Z = M_e(g)^-1 G'``.
        """


class Solver(ABC):
    """M_e(g)^-1 for every g.

    Parameters
    ----------
    within
        The data: group means and the within scatter.
    target
        ``"identity"`` or ``"diagonal"``: the shrinkage target T.
    prior
        The design whose factorial prior shrinks the group means; None takes them as observed.

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

    def __init__(self, within: Within, target: str, prior: Design | None = None):
        self.within = within
        self.prior = prior

    @abstractmethod
    def cell_norms(self) -> np.ndarray:
        """Squared length of each weighted residual in the metric of T, (N,)."""

    @abstractmethod
    def squared_norm(self) -> float:
        """Squared Frobenius norm of ``T^-1/2 M_e T^-1/2``."""

    @abstractmethod
    def factor(self, g: float) -> Apply:
        """A function that applies M_e(g)^-1 to p x k arrays."""

    @abstractmethod
    def fold(self, split: Split) -> Fold:
        """The same for the training cells of a split; the target T stays that of all cells."""

    def solve_means(self, g: float) -> tuple[np.ndarray, Apply]:
        """``Z = M_e(g)^-1 G'`` (p x C) before any refinement, and the function of :meth:`factor`."""
        apply = self.factor(g)
        return apply(self.means.T), apply

    @cached_property
    def group_means(self) -> np.ndarray:
        """Means of the groups that axes are made of, C x p: observed, or shrunken by the factorial prior."""
        return self.within.means if self.posterior is None else self.posterior.at(self.posterior.design.table.groups)

    @cached_property
    def posterior(self) -> FactorialMeans | None:
        """The posterior of the group means under the factorial prior; None where they are taken as observed."""
        if self.prior is None:
            return None
        return posterior_means(self.within.means, self.variances, self.within.n_effective, self.prior)

    @cached_property
    def centre(self) -> np.ndarray:
        """Unweighted mean of the group means, (p,): the origin of the axes."""
        return self.group_means.mean(axis=0)

    @cached_property
    def means(self) -> np.ndarray:
        """G: group means less their unweighted mean, C x p. Effects do not see the difference; rounding does."""
        return self.group_means - self.centre

    def shrunken_fold(self, training: Training, means: np.ndarray) -> np.ndarray:
        """Means of the training cells of a fold (C x p) shrunken by their own prior; the variances are of all cells."""
        return posterior_means(means, self.variances, training.n_effective, training.design).at(
            training.design.table.groups
        )

    def rows(self, genes: Sequence[int]) -> np.ndarray:
        """Rows of M_e, without shrinkage, for a few genes: len(genes) x p."""
        X = self._columns[:, genes]
        if arrays.in_memory(X):
            block = to_numpy(arrays.dense(X))
        else:
            block = arrays.map_rows(X, lambda rows, block: arrays.dense(block), len(genes))
        within = self.within
        block -= within.centres[:, genes][within.sample_codes]
        return within.genes_of(np.sqrt(within.cell_weights)[:, None] * block).T

    @cached_property
    def _columns(self):
        """The data in a format whose columns can be sliced cheaply."""
        return arrays.by_columns(self.within.X)


def singular_message(within: Within) -> str:
    """What to do about a scatter that cannot be inverted."""
    (N, p), C = within.shape, len(within.counts)
    return (
        f"the within-group scatter of {p} genes from {N} cells in {C} groups is singular (linearly dependent genes, "
        "or no fewer genes than cells less groups) and shrinkage is 0. Set shrinkage='auto' or a number above 0."
    )
