"""Random networks that keep contacts and expected degrees."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from ..._logging import get_logger

logger = get_logger(__name__)


class MaximumEntropy:
    """The most random networks with given contacts and given expected degrees.

    Every pair in contact is connected independently with probability ``1 / (1 + exp(-(t_i + s_j)))``, where the t and s
    are such that every neuron has its observed number of connections on average (undirected: s = t). Neurons with no
    connection keep none, and those connected to every contact keep all.

    Attributes
    ----------
    probability
        ``(n, m)``, zero without contact.
    undirected
        Whether a pair is drawn once for both directions.

    References
    ----------
    Park J, Newman MEJ. Statistical mechanics of networks. Phys. Rev. E 70:066117 (2004); as null of the connectome
    model in Kovács IA, Barabási DL, Barabási A-L. PNAS 117:33570 (2020).

    Examples
    --------
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
        """Networks like B ``(n, m)``, 0 or 1, within contact ``(n, m)``.

        Raises
        ------
        ValueError
            For connections with strengths: degrees are counts.
        """
        B = np.asarray(B, dtype=float)
        touching = np.asarray(contact) > 0
        if not np.isin(B[touching], (0, 1)).all():
            raise ValueError("the degree-preserving null needs connections of 0 or 1; threshold B first.")
        free = touching.copy()
        probability = np.where(touching, B, 0.0)
        while True:  # neurons without a choice leave their contacts' degrees, which may leave others without a choice
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
        """``(n, m)``: variance of every connection."""
        return self.probability * (1 - self.probability)

    def sample(self, rng: np.random.Generator) -> np.ndarray:
        """One network ``(n, m)`` of 0 and 1."""
        drawn = (rng.random(self.probability.shape) < self.probability).astype(float)
        if self.undirected:
            drawn = np.triu(drawn) + np.triu(drawn, 1).T
        return drawn


def _undirected(B: np.ndarray, free: np.ndarray) -> np.ndarray:
    diagonal = np.eye(len(B), dtype=bool)
    degree = B.sum(axis=1)

    def at(t: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        p = np.where(free, expit(np.where(diagonal, t[:, None], t[:, None] + t[None, :])), 0.0)
        v = p * (1 - p)
        return p, degree - p.sum(axis=1), np.where(diagonal, v.sum(axis=1), v)

    return _newton(at, len(B), degree)


def _directed(B: np.ndarray, free: np.ndarray) -> np.ndarray:
    n, m = B.shape
    degree = np.concatenate([B.sum(axis=1), B.sum(axis=0)])

    def at(t: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        p = np.where(free, expit(t[:n, None] + t[None, n:]), 0.0)
        v = p * (1 - p)
        slope = np.block([[np.diag(v.sum(axis=1)), v], [v.T, np.diag(v.sum(axis=0))]])
        return p, degree - np.concatenate([p.sum(axis=1), p.sum(axis=0)]), slope

    return _newton(at, n + m, degree)


def _newton(at, size: int, degree: np.ndarray) -> np.ndarray:
    """Damped Newton steps on the concave likelihood until expected degrees are the observed ones."""
    t = np.zeros(size)
    p, gap, slope = at(t)
    for _ in range(200):
        if np.abs(gap).max() <= 1e-9 * max(1.0, degree.max()):
            return p
        ridge = 1e-12 * max(slope.diagonal().max(), 1e-300)
        step = np.linalg.solve(slope + ridge * np.eye(size), gap)  # gap has no part in the null space of slope
        length = 1.0
        while length > 1e-6:
            new = at(t + length * step)
            if np.linalg.norm(new[1]) < np.linalg.norm(gap):
                break
            length /= 2
        else:
            break
        t = t + length * step
        p, gap, slope = new
    if np.abs(gap).max() > 1e-3:
        logger.warning("random networks miss the observed degrees by up to %.2g connections", np.abs(gap).max())
    return p
