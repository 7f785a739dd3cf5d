"""Random networks that keep contacts and expected degrees."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import expit

from ..._logging import warn


class MaximumEntropy:
    """The maximum-entropy distribution over networks with given contacts and given expected degrees.

    Every pair in contact is connected independently, with probability ``1 / (1 + exp(-(t_i + s_j)))``. The parameters t
    and s are such that the expected number of connections of every neuron is its observed number (in undirected
    networks s = t). Neurons without connections never get one, and neurons connected to all their contacts keep all.

    Parameters
    ----------
    probability
        ``(n, m)`` probability of every connection, zero without contact. Use :meth:`fit` to compute it from a network.
    undirected
        Whether a pair of neurons is drawn once for both directions.

    Attributes
    ----------
    probability : ndarray of shape (n, m)
        Probability of every connection.
    variance : ndarray of shape (n, m)
        Variance of every connection.
    undirected : bool
        Whether a pair of neurons is drawn once for both directions.

    References
    ----------
    Park J, Newman MEJ. Statistical mechanics of networks. Phys. Rev. E 70:066117 (2004).

    As a null of the connectome model: Kovács IA, Barabási DL, Barabási A-L. Uncovering the genetic blueprint of the C.
    elegans nervous system. PNAS 117:33570 (2020).

    Examples
    --------
    >>> import numpy as np
    >>> from flda.circuits.wiring import MaximumEntropy
    >>> B = np.array([[0, 1, 1], [1, 0, 0], [1, 0, 0]])
    >>> null = MaximumEntropy.fit(B, 1 - np.eye(3), undirected=True)
    >>> null.probability.sum(axis=1).round(6).tolist()
    [2.0, 1.0, 1.0]
    """

    def __init__(self, probability: np.ndarray, undirected: bool) -> None:
        self.probability = probability
        self.undirected = undirected

    @classmethod
    def fit(cls, B: np.ndarray, contact: np.ndarray, *, undirected: bool) -> MaximumEntropy:
        """Compute the probabilities that reproduce the degrees of a network.

        Parameters
        ----------
        B
            ``(n, m)`` connections, 0 or 1.
        contact
            ``(n, m)``, positive where neurons touch.
        undirected
            Whether B is symmetric and a pair is drawn once for both directions.

        Returns
        -------
        MaximumEntropy
            Random networks with the contacts and expected degrees of B.

        Raises
        ------
        ValueError
            If connections are not 0 or 1, because degrees are numbers of connections.

        Examples
        --------
        >>> import numpy as np
        >>> from flda.circuits.wiring import MaximumEntropy
        >>> MaximumEntropy.fit(np.eye(3), np.ones((3, 3)), undirected=False).probability.round(3).tolist()[0]
        [0.333, 0.333, 0.333]
        """
        B = np.asarray(B, dtype=float)
        touching = np.asarray(contact) > 0
        if not np.isin(B[touching], (0, 1)).all():
            raise ValueError("random networks with given degrees need connections of 0 or 1; threshold B first.")
        free = touching.copy()
        probability = np.where(touching, B, 0.0)
        # A neuron with no connection, or connected to all its contacts, has probabilities of 0 or 1, for which t is
        # infinite. Such neurons are fixed and removed; this may leave others with none or all, so it is repeated.
        while True:
            rows, cols = ((free * B).sum(axis=k) for k in (1, 0))
            n_rows, n_cols = (free.sum(axis=k) for k in (1, 0))
            fixed = ((rows == 0) | (rows == n_rows))[:, None] | ((cols == 0) | (cols == n_cols))[None, :]
            if not (free & fixed).any():
                break
            free &= ~fixed
        if free.any():
            solve = _undirected if undirected else _directed
            probability = np.where(free, solve(B * free, free), probability)
        return cls(probability, undirected)

    @property
    def variance(self) -> np.ndarray:
        """Variance of every connection, ``(n, m)``."""
        return self.probability * (1 - self.probability)

    def sample(self, rng: np.random.Generator) -> np.ndarray:
        """Draw one random network.

        Parameters
        ----------
        rng
            Source of random numbers.

        Returns
        -------
        ndarray of shape (n, m)
            Connections, 0 or 1.
        """
        drawn = (rng.random(self.probability.shape) < self.probability).astype(float)
        if self.undirected:
            drawn = np.triu(drawn) + np.triu(drawn, 1).T
        return drawn


def _undirected(B: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Probabilities of the free pairs; a self-connection has log odds t_i rather than 2 t_i."""
    diagonal = np.eye(len(B), dtype=bool)
    degree = B.sum(axis=1)

    def at(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        p = np.where(free, expit(np.where(diagonal, t[:, None], t[:, None] + t[None, :])), 0.0)
        return p, degree - p.sum(axis=1)

    def step(p: np.ndarray, gap: np.ndarray) -> np.ndarray:
        v = p * (1 - p)
        return _solved(np.where(diagonal, v.sum(axis=1), v), gap)

    return newton(at, step, degree)


def _directed(B: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Probabilities of the free pairs; the parameters t of the rows and s of the columns in one vector."""
    n = len(B)
    degree = np.concatenate([B.sum(axis=1), B.sum(axis=0)])

    def at(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        p = np.where(free, expit(t[:n, None] + t[None, n:]), 0.0)
        return p, degree - np.concatenate([p.sum(axis=1), p.sum(axis=0)])

    def step(p: np.ndarray, gap: np.ndarray) -> np.ndarray:
        v = p * (1 - p)
        return _solved(np.block([[np.diag(v.sum(axis=1)), v], [v.T, np.diag(v.sum(axis=0))]]), gap)

    return newton(at, step, degree)


def _solved(slope: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """Solve for the step of Newton's method.

    In a directed network a constant added to t and subtracted from s changes nothing, so the Hessian is singular. The
    ridge makes it invertible and hardly changes the step: the gradient is orthogonal to the null space.
    """
    ridge = 1e-12 * max(slope.diagonal().max(), 1e-300)
    return np.linalg.solve(slope + ridge * np.eye(len(slope)), gap)


def newton(
    at: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    step: Callable[[np.ndarray, np.ndarray], np.ndarray],
    degree: np.ndarray,
) -> np.ndarray:
    """Take damped Newton steps on the concave log-likelihood until the expected degrees equal the observed ones.

    ``at(t)`` returns the probabilities p and the gradient (observed minus expected degrees), and ``step(p, gradient)``
    the step of Newton's method there. Returns the probabilities; a warning says if the degrees differ.
    """
    t = np.zeros(len(degree))
    p, gap = at(t)
    for _ in range(200):
        if np.abs(gap).max() <= 1e-9 * max(1.0, degree.max()):
            return p
        direction = step(p, gap)
        length = 1.0
        while length > 1e-6:
            new = at(t + length * direction)
            if np.linalg.norm(new[1]) < np.linalg.norm(gap):
                break
            length /= 2
        else:
            break
        t = t + length * direction
        p, gap = new
    if np.abs(gap).max() > 1e-3:
        warn(f"expected degrees of the random networks differ from the observed ones by up to {np.abs(gap).max():.2g}")
    return p
