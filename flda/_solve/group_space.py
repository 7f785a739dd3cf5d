"""The factorized discriminant in group space.

Every axis of effect S maximises ``u' N_S u / u' M_e u`` with ``N_S = M_S - sum_T lambda_T M_T`` and
``M_T = G' Q_T G``, so it lies in the span of ``Z = M_e^-1 G'``. With ``u = Z w`` and ``K = G Z`` (C x C) the
p x p problem becomes ``w' K (Q_S - sum_T lambda_T Q_T) K w / w' K w``. Writing ``K = R R'`` and ``v = R' w``
leaves one small symmetric eigenproblem, ``R' (Q_S - sum_T lambda_T Q_T) R``, in coordinates where the
metric M_e is the identity. An infinite lambda_T confines v to the null space of ``B_T R``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import eigh, null_space

# directions of the group means shorter than this, relative to the longest, are rounding error
RANK_TOLERANCE = 1e-13
# an effect of the group means this much smaller than the largest it could have is rounding error
ABSENT = 1e-12


class GroupSpace:
    """All effects and penalties share one of these: it depends on K alone.

    Parameters
    ----------
    K
        ``G M_e^-1 G'`` of the centred group means, C x C.

    Attributes
    ----------
    rank
        Dimension of the space of group means, at most C - 1.
    """

    def __init__(self, K: np.ndarray):
        values, vectors = eigh((K + K.T) / 2)
        keep = values > RANK_TOLERANCE * max(values[-1], 0.0)
        self.rank = int(keep.sum())
        self._root = vectors[:, keep] * np.sqrt(values[keep])
        self._to_weights = vectors[:, keep] / np.sqrt(values[keep])

    def axes(
        self, own: np.ndarray, others: Sequence[tuple[np.ndarray, float]], n_components: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Axes of one effect.

        Parameters
        ----------
        own
            Contrasts B_S of the effect, df_S x C.
        others
            Contrasts and penalty of every other effect; the penalty may be infinite.
        n_components
            How many axes; fewer come back when the group means span fewer dimensions.

        Returns
        -------
        eigenvalues (k,), largest first, and group weights w (C x k): the axes are ``u = Z w``, with
        ``u' M_e u = 1`` and distinct axes M_e-orthogonal.
        """
        objective = self._scatter(own)
        for contrasts, penalty in others:
            if np.isfinite(penalty):
                objective -= penalty * self._scatter(contrasts)
        basis = self._allowed([b for b, penalty in others if np.isinf(penalty)])
        values, v = eigh(basis.T @ objective @ basis)
        best = np.argsort(-values, kind="stable")[:n_components]
        return values[best], self._to_weights @ basis @ v[:, best]

    def _scatter(self, contrasts: np.ndarray) -> np.ndarray:
        half = contrasts @ self._root
        return half.T @ half / len(contrasts)

    def _allowed(self, nulled: Sequence[np.ndarray]) -> np.ndarray:
        """Orthonormal basis of the directions that every nulled effect leaves untouched."""
        if not nulled:
            return np.eye(self.rank)
        # effects of any size count alike in the rank decision
        rows, largest = [], np.linalg.norm(self._root, 2)
        for b in nulled:
            row = b @ self._root
            norm = np.linalg.norm(row, 2)
            if norm > ABSENT * np.linalg.norm(b, 2) * largest:
                rows.append(row / norm)
        basis = null_space(np.vstack(rows), rcond=1e-11) if rows else np.eye(self.rank)
        if basis.shape[1] == 0:
            raise ValueError(
                f"an infinite penalty leaves no direction: the group means span {self.rank} dimensions and the "
                "nulled effects take all of them. Use more genes or finite penalties."
            )
        return basis
