"""Exact axes on given genes, for sparse axes and their bootstrap.

On a support A an axis of an effect maximises the objective of the effect (:mod:`flda._solve.objective`) over u whose
non-zero loadings lie in A. Let H (m x p) be the rows a G of the objective: those of the effect itself, and those of
effects with an infinite penalty. What counts against the axis in the ratio is added to the scatter, which gives the
denominator ``W = M_e(g) + (a_T G)' (a_T G)``; in the difference it is a part of H. Then the problem is that of
:mod:`flda._solve.group_space` with ``K = H_A W_AA^-1 H_A'``. To make further axes of an effect orthogonal to an earlier
axis u in W, the row ``W u`` is added to H, with the constraint that the new axis is zero on it.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from .group_space import GroupSpace, NoDirectionError
from .objective import Terms
from .rows import Rows, WithRows

SINGULAR_SHARE = 1e-13  # share of a gene's scatter that other genes leave unexplained, below which it is dependent


class Refit:
    """The axes of one effect on given supports, which are added one after the other.

    Parameters
    ----------
    terms
        The objective of the effect.
    means
        Group means G, C x p. The axes do not depend on a shift that all groups share.
    scatter
        The rows of M_e(g).

    Attributes
    ----------
    denominator
        The rows of W.
    earlier
        The genes and the loadings on them of the axes added so far.
    """

    def __init__(self, terms: Terms, means: np.ndarray, scatter: Rows):
        self.scatter = scatter
        against = terms.against @ means
        self.denominator: Rows = WithRows(scatter, against) if terms.ratio and len(against) else scatter
        subtracted = np.empty((0, means.shape[1])) if terms.ratio else against
        self._rows = [terms.own @ means, subtracted, *(a @ means for a in terms.nulled)]
        self.earlier: list[tuple[np.ndarray, np.ndarray]] = []

    @property
    def own(self) -> np.ndarray:
        """The rows of the effect itself, df x p."""
        return self._rows[0]

    @property
    def subtracted(self) -> np.ndarray:
        """The rows of what the difference subtracts, m x p; none for the ratio."""
        return self._rows[1]

    @property
    def zero(self) -> np.ndarray:
        """The rows on which an axis must be zero: effects with an infinite penalty, and the axes added so far."""
        return np.vstack([self.own[:0], *self._rows[2:]])

    @property
    def H(self) -> np.ndarray:
        """The rows of the objective, followed by one row W u for each axis found so far, m x p."""
        return np.vstack(self._rows)

    def weights(self, strong: float) -> np.ndarray:
        """Return the weight of each row of H in the numerator, (m,), with -strong for rows that must be zero."""
        own, subtracted = len(self._rows[0]), len(self._rows[1])
        return np.r_[np.ones(own), -np.ones(subtracted), np.full(len(self.H) - own - subtracted, -strong)]

    def add(self, genes: np.ndarray) -> tuple[float, np.ndarray]:
        """Compute the best axis on a support that is orthogonal in W to all axes added before, and add it.

        Returns
        -------
        Its eigenvalue and its loadings u on the support, (k,), with ``u' M_e(g) u = 1``.
        """
        values, loadings = self.together(genes, 1)
        self.append(genes, loadings[:, 0])
        return float(values[0]), loadings[:, 0]

    def append(self, genes: np.ndarray, loadings: np.ndarray) -> None:
        """Add an axis, given by its genes and its loadings on them."""
        self._rows.append(loadings[None, :] @ self.denominator(genes))
        self.earlier.append((genes, loadings))

    def together(self, genes: np.ndarray, n_components: int) -> tuple[np.ndarray, np.ndarray]:
        """Compute the best axes that share one support: eigenvalues and loadings (k x n_components).

        Raises
        ------
        NoDirectionError
            If infinite penalties, and the axes added before, leave no direction on this support.
        """
        W = self.denominator(genes)[:, genes]
        H = self.H[:, genes]
        try:
            values, U = self._solve(H, W, n_components)
        except NoDirectionError:
            values, U = np.empty(0), np.empty((len(genes), 0))
        if len(values) == 0:
            # the rows of H do not span the space of the loadings, as if a gene is zero in all cells; further rows,
            # which weigh nothing, make them span it
            values, U = self._solve(np.vstack([H, np.diag(np.sqrt(np.diag(W)))]), W, n_components)
        return values, U / np.sqrt(np.einsum("ik,ij,jk->k", U, self.scatter(genes)[:, genes], U))

    def _solve(self, H: np.ndarray, W: np.ndarray, n_components: int) -> tuple[np.ndarray, np.ndarray]:
        """Compute eigenvalues and axes within the span of ``W^-1 H'``; rows of H after the known ones weigh nothing."""
        try:
            factor = cho_factor(W)
            singular = bool(np.min(np.diag(factor[0]) ** 2 / np.diag(W)) < SINGULAR_SHARE)
        except LinAlgError:
            singular = True
        if singular:
            raise ValueError(
                "the scatter within groups of the selected genes is singular, as if one of them is constant or a copy "
                "of another in the cells at hand; set shrinkage to a number above 0, or select fewer genes."
            )
        Z = cho_solve(factor, H.T)  # W_AA^-1 H_A'
        ends = np.cumsum([len(rows) for rows in self._rows])
        own, subtracted, *zero = np.split(np.eye(len(H))[: ends[-1]], ends[:-1])
        # in the metric W the ratio has no further denominator, so both objectives are differences
        values, w = GroupSpace(H @ Z).axes(Terms(own, own, subtracted, zero, ratio=False), n_components)
        return values, Z @ w
