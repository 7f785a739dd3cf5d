"""Exact axes on given genes: the loop over supports that sparse axes and their bootstrap share.

On a support A an axis of effect S maximises ``u' (M_S - sum_T lambda_T M_T) u / u' M u`` over u with non-zero loadings
in A only. With the rows ``H_T = B_T G`` of every effect in the fit, one below the other (H, m x p), that is the problem
of :mod:`flda._solve.group_space` with ``K = H_A M_AA^-1 H_A'``. Each further axis adds the row ``M u`` of the axis
before to H, and the constraint that the axis is zero on it: axes of an effect are M-orthogonal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from .._design.design import Design
from .._design.effects import Effect
from .group_space import GroupSpace


class Refit:
    """The axes of one effect on supports, added one after the other.

    Parameters
    ----------
    effect, design, penalties
        The effect S, and what its axes avoid.
    means
        Group means G, C x p; effects do not see a shift of all.
    scatter
        Gives rows of M for genes, len(genes) x p.

    Attributes
    ----------
    contrasts
        df_S x m: picks the rows of S from H.
    others
        The same for every other effect, with its penalty.
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
        self._rows = [b @ means for b in design.contrasts.values()]
        sizes = [len(rows) for rows in self._rows]
        picks = dict(zip(design.contrasts, np.split(np.eye(sum(sizes)), np.cumsum(sizes)[:-1]), strict=True))
        self.contrasts = picks[effect]
        self.others = [(b, penalties[e]) for e, b in picks.items() if e != effect]
        self._n_earlier = 0

    @property
    def H(self) -> np.ndarray:
        """B_T G of every effect, then a row M u for each axis so far, m x p."""
        return np.vstack(self._rows)

    def add(self, genes: np.ndarray) -> tuple[float, np.ndarray]:
        """The best axis on a support that is M-orthogonal to those added before: eigenvalue and loadings (k,)."""
        values, loadings = self.together(genes, 1)
        self._rows.append(loadings[:, :1].T @ self.scatter(genes))
        self._n_earlier += 1
        return float(values[0]), loadings[:, 0]

    def together(self, genes: np.ndarray, n_components: int) -> tuple[np.ndarray, np.ndarray]:
        """The best axes on one support: eigenvalues and loadings (k x n_components)."""
        H = self.H[:, genes]
        Z = cho_solve(cho_factor(self.scatter(genes)[:, genes]), H.T)
        m, n = len(H), self._n_earlier

        def padded(b: np.ndarray) -> np.ndarray:
            return np.hstack([b, np.zeros((len(b), n))])

        constraints = [(padded(b), penalty) for b, penalty in self.others]
        if n:
            constraints.append((np.eye(m)[-n:], np.inf))
        values, w = GroupSpace(H @ Z).axes(padded(self.contrasts), constraints, n_components)
        return values, Z @ w
