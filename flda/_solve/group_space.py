"""The factorized discriminant in group space: a p x p eigenproblem reduced to C x C.

Every axis of effect S maximises ``u' N_S u / u' M_e(g) u``, where ``N_S = M_S - sum_{T != S} lambda_T M_T`` and
``M_T = G' Q_T G``. The range of N_S is spanned by the group means, so u lies in the span of ``Z = M_e(g)^-1 G'``. With
``u = Z w`` and ``K = G Z = G M_e(g)^-1 G'`` (C x C) the problem becomes
``w' K (Q_S - sum_T lambda_T Q_T) K w / w' K w``. Writing ``K = R R'`` and ``v = R' w`` leaves one small symmetric
eigenproblem for v, that of ``R' (Q_S - sum_T lambda_T Q_T) R``, in coordinates in which the metric M_e(g) is the
identity. An infinite lambda_T confines v to the null space of ``B_T R``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import eigh, null_space

# eigenvalues of K below this share of the largest are rounding error
RANK_TOLERANCE = 1e-13
# an effect whose size in the group means is below this share of the largest possible one is rounding error
ABSENT = 1e-12


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

    def axes(
        self, own: np.ndarray, others: Sequence[tuple[np.ndarray, float]], n_components: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute the axes of one effect.

        Parameters
        ----------
        own
            Contrasts B_S of the effect, df_S x C.
        others
            Contrasts B_T and penalty lambda_T of every other effect; a penalty may be infinite.
        n_components
            Number of axes. Fewer are returned if the group means span fewer dimensions.

        Returns
        -------
        eigenvalues
            The maximised ratios, (k,), largest first.
        weights
            Group weights w, C x k. The axes are ``u = Z w``, with ``u' M_e(g) u = 1``, and distinct axes are orthogonal
            in M_e(g).

        Raises
        ------
        ValueError
            If infinite penalties leave no direction.
        """
        if self.rank == 0:  # all group means are equal: there is no axis
            return np.empty(0), self._to_weights
        # in the coordinates v the metric is the identity, so this is an ordinary symmetric eigenproblem
        objective = self._scatter(own)
        for contrasts, penalty in others:
            if np.isfinite(penalty):
                objective -= penalty * self._scatter(contrasts)
        basis = self._allowed([b for b, penalty in others if np.isinf(penalty)])
        values, v = eigh(basis.T @ objective @ basis)
        best = np.argsort(-values, kind="stable")[:n_components]
        return values[best], self._to_weights @ basis @ v[:, best]

    def _scatter(self, contrasts: np.ndarray) -> np.ndarray:
        """Compute ``R' Q R`` of an effect, with Q = B'B / df."""
        half = contrasts @ self._root
        return half.T @ half / len(contrasts)

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
            raise ValueError(
                f"an infinite penalty leaves no direction: the group means span {self.rank} dimensions and the effects "
                "with an infinite penalty take all of them. Use more genes or finite penalties."
            )
        return basis
