"""The factorized discriminant in group space: a p x p eigenproblem reduced to C x C.

Every axis of effect S maximises ``u' N u / u' W u`` (:mod:`flda._solve.objective`). N and W - M_e(g) are sums of
squares ``|a G u|^2`` of a few rows ``a G``, so u lies in the span of ``Z = M_e(g)^-1 G'``. With ``u = Z w`` and
``K = G Z = G M_e(g)^-1 G'`` (C x C), ``K = R R'`` and ``v = R' w``, all these squares are ``|a R v|^2`` and
``u' M_e(g) u = v' v``. So with the rows a_S of the effect and the rows a_T of what counts against it, the ratio is one
small eigenproblem in v, ``R' a_S' a_S R v = value (I + R' a_T' a_T R) v``. That of the difference is
``R' (a_S' a_S - a_T' a_T) R v = value v``. An infinite penalty confines v to the null space of its rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import cholesky, eigh, null_space, solve_triangular

from .objective import Terms

# eigenvalues of K below this share of the largest are rounding error
RANK_TOLERANCE = 1e-13
# an effect whose size in the group means is below this share of the largest possible one is rounding error
ABSENT = 1e-12


class NoDirectionError(ValueError):
    """Infinite penalties, or axes that come first, leave no direction for an axis."""


class GroupSpace:
    """The space of the group means in the metric of M_e(g).

    It depends on K alone, so all effects and penalties share one.

    Parameters
    ----------
    K
        ``G M_e(g)^-1 G'`` of the centred group means, C x C.

    Attributes
    ----------
    rank
        Dimension of the space of the group means, at most C - 1.
    """

    def __init__(self, K: np.ndarray):
        values, vectors = eigh((K + K.T) / 2)
        keep = values > RANK_TOLERANCE * max(values[-1], 0.0)
        self.rank = int(keep.sum())
        self._root = vectors[:, keep] * np.sqrt(values[keep])  # R
        self._to_weights = vectors[:, keep] / np.sqrt(values[keep])  # w = R (R'R)^-1 v solves v = R' w

    def axes(self, terms: Terms, n_components: int) -> tuple[np.ndarray, np.ndarray]:
        """Compute the axes of one effect.

        Parameters
        ----------
        terms
            The objective of the effect.
        n_components
            Number of axes. Fewer are returned if the group means span fewer dimensions.

        Returns
        -------
        eigenvalues
            The maximised objectives, (k,), largest first.
        weights
            Group weights w, C x k. The axes are ``u = Z w``, with ``u' M_e(g) u = 1``. Distinct axes are orthogonal in
            the denominator W.

        Raises
        ------
        NoDirectionError
            If infinite penalties leave no direction.
        """
        if self.rank == 0:  # all group means are equal: there is no axis
            return np.empty(0), self._to_weights
        basis = self._allowed(terms.nulled)
        own, against = terms.own @ self._root @ basis, terms.against @ self._root @ basis
        if terms.ratio:
            # with the denominator L L' the axes are L'^-1 times the left singular vectors of L^-1 (a_S R)'
            L = cholesky(np.eye(basis.shape[1]) + against.T @ against, lower=True)
            left, sizes, _ = np.linalg.svd(solve_triangular(L, own.T, lower=True), full_matrices=False)
            values, v = sizes**2, solve_triangular(L, left, lower=True, trans="T")
        else:
            values, v = eigh(own.T @ own - against.T @ against)
        best = np.argsort(-values, kind="stable")[:n_components]
        return values[best], self._to_weights @ basis @ (v[:, best] / np.linalg.norm(v[:, best], axis=0))

    def _allowed(self, nulled: Sequence[np.ndarray]) -> np.ndarray:
        """Return an orthonormal basis of the directions v along which no effect with an infinite penalty varies."""
        if not nulled:
            return np.eye(self.rank)
        # each effect is scaled to norm 1, so that a weak one counts as much as a strong one when the rank is decided
        rows, largest = [], np.linalg.norm(self._root, 2)
        for b in nulled:
            row = b @ self._root
            norm = np.linalg.norm(row, 2)
            if norm > ABSENT * np.linalg.norm(b, 2) * largest:
                rows.append(row / norm)
        basis = null_space(np.vstack(rows), rcond=1e-11) if rows else np.eye(self.rank)
        if basis.shape[1] == 0:
            raise NoDirectionError(
                f"an infinite penalty leaves no direction: the group means span {self.rank} dimensions and the effects "
                "with an infinite penalty take all of them. Use more genes or finite penalties."
            )
        return basis
