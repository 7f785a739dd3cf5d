"""Exact axes on given genes, for sparse axes and their bootstrap.

On a support A an axis of effect S maximises ``u' (M_S - sum_T lambda_T M_T) u / u' M u`` over u whose non-zero loadings
lie in A; M is the shrunken within-group scatter. Let H (m x p) be the rows ``H_T = B_T G`` of all effects in the fit,
one below the other. Then the problem is that of :mod:`flda._solve.group_space` with ``K = H_A M_AA^-1 H_A'``. To make
further axes of an effect M-orthogonal to an earlier axis u, the row ``M u`` is added to H, with the constraint that the
new axis is zero on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from .._design.design import Design
from .._design.effects import Effect
from .group_space import GroupSpace


class Refit:
    """The axes of one effect on given supports, which are added one after the other.

    Parameters
    ----------
    effect, design, penalties
        The effect S, the design, and the penalty lambda_T of every effect in the fit.
    means
        Group means G, C x p. The axes do not depend on a shift that all groups share.
    scatter
        Function that returns the rows of M of some genes, len(genes) x p.

    Attributes
    ----------
    contrasts
        Matrix that selects the rows of S from H, df_S x m.
    others
        The same matrix for every other effect, with its penalty.
    """

    def __init__(
        self,
        effect: Effect,
        design: Design,
        penalties: Mapping[Effect, float],
        means: np.ndarray,
        scatter: Callable[[np.ndarray], np.ndarray],
    ):
        self.scatter = scatter
        # M_T = G' Q_T G = (B_T G)' (B_T G) / df_T: with the rows B_T G in place of G, contrasts only select rows
        self._rows = [b @ means for b in design.contrasts.values()]
        sizes = [len(rows) for rows in self._rows]
        picks = dict(zip(design.contrasts, np.split(np.eye(sum(sizes)), np.cumsum(sizes)[:-1]), strict=True))
        self.contrasts = picks[effect]
        self.others = [(b, penalties[e]) for e, b in picks.items() if e != effect]
        self._n_earlier = 0

    @property
    def H(self) -> np.ndarray:
        """The rows B_T G of every effect, followed by one row M u for each axis found so far, m x p."""
        return np.vstack(self._rows)

    def add(self, genes: np.ndarray) -> tuple[float, np.ndarray]:
        """Compute the best axis on a support that is M-orthogonal to all axes added before, and add it.

        Returns
        -------
        Its eigenvalue and its loadings on the support, (k,).
        """
        values, loadings = self.together(genes, 1)
        self._rows.append(loadings[:, :1].T @ self.scatter(genes))
        self._n_earlier += 1
        return float(values[0]), loadings[:, 0]

    def together(self, genes: np.ndarray, n_components: int) -> tuple[np.ndarray, np.ndarray]:
        """Compute the best axes that share one support: eigenvalues and loadings (k x n_components)."""
        H = self.H[:, genes]
        Z = cho_solve(cho_factor(self.scatter(genes)[:, genes]), H.T)  # M_AA^-1 H_A'
        m, n = len(H), self._n_earlier

        def padded(b: np.ndarray) -> np.ndarray:
            """Extend contrasts of the effects by zeros for the rows M u."""
            return np.hstack([b, np.zeros((len(b), n))])

        constraints = [(padded(b), penalty) for b, penalty in self.others]
        if n:  # the last n rows of H are u' M of the earlier axes; an infinite penalty makes the new axis zero on them
            constraints.append((np.eye(m)[-n:], np.inf))
        values, w = GroupSpace(H @ Z).axes(padded(self.contrasts), constraints, n_components)
        return values, Z @ w
