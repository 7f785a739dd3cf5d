"""Sparse axes: maximise ``u' N u / u' M u`` over u with exactly k non-zero loadings.

M is the shrunken within scatter M_e(g). N = H' Q H with few rows H (m x p): the centred group means, and for later
axes of an effect one row M u for each earlier axis, whose negative weight in Q keeps the axes M-orthogonal.

On a support A the optimum is the top eigenvalue of Q K with ``K = H_A M_AA^-1 H_A'`` (m x m). Adding gene j changes
K by one rank: ``K + d d' / s`` with the part of the gene that the support does not explain,
``d = H_j - H_A M_AA^-1 M_Aj`` and ``s = M_jj - M_jA M_AA^-1 M_Aj``; removing gene i, with P = M_AA^-1, by
``K - z z' / P_ii``, ``z = H_A P_i``. So the exact gain of every addition, and of every swap, costs a few products with
an m x p matrix: the search is greedy in exact gains, then swaps until none helps, from several starts.

Only rows of M are ever formed, for genes that some support has held.

The truncated Rayleigh flow (Tan, Wang, Liu and Zhang, J. R. Stat. Soc. B 80:1057, 2018) is the published
alternative; it is matrix-free and here runs until the objective is still.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import eigh

from .rows import ScatterRows

# weight of a constraint inside the search, where effects weigh about 1; the refit then imposes it exactly
STRONG = 1e6


# a gene whose scatter the support explains up to this share is a copy of what the support holds
INDEPENDENT = 1e-9


# with no more genes than this to choose from, every one of them starts a search
MANY = 50


# swaps must gain this share of the objective
GAIN = 1e-10
# rounds of bounds, and matrices whose eigenvalues are taken at a time, when a gene is to be added
ROUNDS, BATCH = 3, 64


@dataclass(frozen=True)
class SparseProblem:
    """One axis: maximise ``u' H' Q H u / u' M u`` over supports among the allowed genes.

    Attributes
    ----------
    scatter
        Rows of M.
    H, Q
        m x p and symmetric m x m.
    allowed
        Which genes may be taken, (p,) boolean.
    """

    scatter: ScatterRows
    H: np.ndarray
    Q: np.ndarray
    allowed: np.ndarray

    @cached_property
    def own_ratio(self) -> np.ndarray:
        """``N_jj / M_jj`` of every gene: its objective when taken alone, -inf where not allowed."""
        ratio = np.einsum("mp,mn,np->p", self.H, self.Q, self.H) / self.scatter.diagonal
        return np.where(self.allowed, ratio, -np.inf)

    def value(self, genes: Sequence[int] | np.ndarray) -> float:
        """The objective of the best axis on a support."""
        return _on_support(self, np.asarray(genes))[0]


def first(scores: np.ndarray, k: int) -> np.ndarray:
    """Indices of the k largest scores, ties by position."""
    return np.argsort(-scores, kind="stable")[:k]


def select(problem: SparseProblem, k: int, starts: Sequence[np.ndarray]) -> np.ndarray:
    """The best support of k genes found, from several starts, each improved by swaps until none helps.

    The starts: greedy growth to k; greedy growth to 2 k and dropping back; those given; and with no more than
    ``MANY`` genes to choose from, greedy growth from every one of them.

    Parameters
    ----------
    problem
        The axis.
    k
        Number of genes.
    starts
        Further supports to start from, of at most k genes; shorter ones are extended greedily.

    Returns
    -------
    Sorted gene indices, (k,).
    """
    best, best_value = None, -np.inf
    seen: set[tuple[int, ...]] = set()
    pool = np.flatnonzero(problem.allowed)
    if len(pool) == k:
        return extend(problem, pool, k)
    none = np.array([], dtype=np.int64)
    supports = [none, drop(problem, extend(problem, none, min(2 * k, len(pool))), k), *starts]
    if len(pool) <= MANY:
        supports += [pool[[j]] for j in range(len(pool))]
    for start in supports:
        genes = swap(problem, extend(problem, start, k))
        key = tuple(genes)
        if key in seen:
            continue
        seen.add(key)
        value = problem.value(genes)
        if value > best_value:
            best, best_value = genes, value
    assert best is not None
    return best


def extend(problem: SparseProblem, genes: Sequence[int] | np.ndarray, k: int) -> np.ndarray:
    """Add the gene of the largest exact gain until there are k; genes of a start that are copies of others go."""
    chosen: list[int] = []
    half = np.empty((0, problem.H.shape[1]))  # L^-1 M_A for the Cholesky factor L of M_AA
    rest, left = problem.H.copy(), problem.scatter.diagonal.copy()  # d and s of every gene
    K = np.zeros((len(problem.H),) * 2)
    queue = [int(j) for j in genes]
    if queue:
        problem.scatter(queue)  # one pass for all
    while len(chosen) < k:
        if queue:
            j = queue.pop(0)
            if left[j] <= INDEPENDENT * problem.scatter.diagonal[j] or not problem.allowed[j]:
                continue
        else:
            j = _best_addition(problem, K, rest, left, chosen)[0]
        d = rest[:, j] / np.sqrt(left[j])
        row = (problem.scatter([j])[0] - half[:, j] @ half) / np.sqrt(left[j])
        half = np.vstack([half, row])
        rest -= d[:, None] * row
        left -= row**2
        K += np.outer(d, d)
        chosen.append(j)
    return np.sort(chosen)


def drop(problem: SparseProblem, genes: np.ndarray, k: int) -> np.ndarray:
    """Remove the gene that is missed least until k are left."""
    while len(genes) > k:
        _, missed, *_ = _on_support(problem, genes)
        genes = np.delete(genes, int(np.argmin(missed)))
    return genes


def swap(problem: SparseProblem, genes: np.ndarray) -> np.ndarray:
    """Exchange one gene at a time for the best other one, until no exchange improves the objective."""
    best, best_value = np.sort(genes), -np.inf
    genes = best
    while True:
        now, missed, P, Z = _on_support(problem, genes)
        if now <= best_value:  # the promised gain was rounding error; without this the loop could go in circles
            return best
        best, best_value = genes, now
        if len(genes) >= problem.allowed.sum():
            return best
        rows, H = problem.scatter(genes), problem.H[:, genes]
        B, K = P @ rows, Z @ H.T
        rest, left = problem.H - H @ B, problem.scatter.diagonal - np.einsum("kp,kp->p", rows, B)
        size = np.trace(K)
        threshold = now + GAIN * abs(now)
        for i in np.argsort(missed, kind="stable"):
            z = Z[:, i] / np.sqrt(P[i, i])
            b = B[i] / np.sqrt(P[i, i])
            found = _best_addition(
                problem, K - np.outer(z, z), rest + z[:, None] * b, left + b**2, genes, size=size, threshold=threshold
            )
            if found[1] > threshold:
                genes = np.sort(np.append(np.delete(genes, i), found[0]))
                break
        else:
            return best


def _on_support(problem: SparseProblem, genes: np.ndarray) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Objective, how much each gene would be missed, ``P = M_AA^-1`` and ``Z = H_A P``.

    Without gene i the best axis loses about ``u_i^2 / P_ii`` of its metric, the usual test of a single coefficient.
    """
    P = np.linalg.inv(problem.scatter(genes)[:, genes])
    Z = problem.H[:, genes] @ P
    R = _root(Z @ problem.H[:, genes].T)
    if R.shape[1] == 0:
        return -np.inf, np.zeros(len(genes)), P, Z
    tops, V = np.linalg.eigh(R.T @ problem.Q @ R)
    u = Z.T @ (R / np.sum(R**2, axis=0)) @ V[:, -1]  # the columns of R are orthogonal
    return float(tops[-1]), u**2 / np.diag(P), P, Z


def _root(K: np.ndarray, size: float = 0.0) -> np.ndarray:
    """R with K = R R', without the directions that are rounding error next to K or to ``size``."""
    values, vectors = eigh(K)
    keep = values > 1e-12 * max(values[-1], size, 0.0)
    return vectors[:, keep] * np.sqrt(values[keep])


def _top(K: np.ndarray, Q: np.ndarray) -> float:
    """Largest eigenvalue of Q K on the range of K."""
    R = _root(K)
    return float(np.linalg.eigvalsh(R.T @ Q @ R)[-1]) if R.shape[1] else -np.inf


def _best_addition(
    problem: SparseProblem,
    K: np.ndarray,
    rest: np.ndarray,
    left: np.ndarray,
    taken: Sequence[int] | np.ndarray,
    size: float = 0.0,
    threshold: float = -np.inf,
) -> tuple[int, float]:
    """The gene with the largest objective once added, and that objective; (-1, -inf) if none exceeds the threshold.

    Parameters
    ----------
    problem
        The axis.
    K
        ``H_A M_AA^-1 H_A'`` of the support, m x m.
    rest, left
        d (m x p) and s (p,) of every gene: what the support does not explain of it.
    taken
        Genes of the support, and those that may not be added.
    size
        Scale on which directions of K count as rounding error.
    """
    free = problem.allowed & (left > INDEPENDENT * problem.scatter.diagonal)
    free[np.asarray(taken, dtype=np.int64)] = False
    genes = np.flatnonzero(free)
    if len(genes) == 0:
        raise ValueError("no further gene is linearly independent of those selected; ask for fewer genes.")
    e = rest[:, genes] / np.sqrt(left[genes])  # gene j changes K by e_j e_j'
    Qe = problem.Q @ e
    c = np.einsum("mp,mp->p", e, Qe)
    R = _root(K, size)
    if R.shape[1] == 0:
        j = first(c, 1)[0]
        return int(genes[j]), float(c[j])
    L, V = np.linalg.eigh(R.T @ problem.Q @ R)
    j, value = _Arrowheads(L, (R @ V).T @ Qe, c).best(threshold)
    return (int(genes[j]), value) if j >= 0 else (-1, -np.inf)


@dataclass(frozen=True)
class _Arrowheads:
    """Top eigenvalues of the arrowhead matrices ``[[L, b_j], [b_j', c_j]]``, one for every gene j that may be added.

    With K = R R' and R' Q R = V L V', the objective of ``K + e_j e_j'`` is the top eigenvalue for ``b_j = V' R' Q e_j``
    and ``c_j = e_j' Q e_j``: the largest root of ``m = c + sum_i b_i^2 / (m - L_i)``. With the largest L alone left in
    the sum that is a quadratic equation, and a bound on m in the other terms bounds m from the other side. A few rounds
    of bounds leave few genes to evaluate.

    Attributes
    ----------
    L
        Ascending, (r,).
    b, c
        r x n and (n,).
    """

    L: np.ndarray
    b: np.ndarray
    c: np.ndarray

    def best(self, threshold: float) -> tuple[int, float]:
        """The gene with the largest top eigenvalue, and that value; (-1, -inf) if no bound reaches the threshold."""
        genes, upper = self._candidates(threshold)
        r, best, best_value = len(self.L), -1, -np.inf
        for start in range(0, len(genes), BATCH):
            part = genes[start : start + BATCH]
            if upper[start] < best_value:  # bounds descend: no later gene can be better
                break
            arrow = np.zeros((len(part), r + 1, r + 1))
            arrow[:, np.arange(r), np.arange(r)] = self.L
            arrow[:, :r, r] = arrow[:, r, :r] = self.b[:, part].T
            arrow[:, r, r] = self.c[part]
            values = np.linalg.eigvalsh(arrow)[:, -1]
            if values.max() > best_value:
                best, best_value = int(part[values.argmax()]), float(values.max())
        return best, best_value

    def _candidates(self, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        """Genes that may hold the largest root, by descending upper bound, and the bounds."""
        genes = np.arange(len(self.c))
        lower = self._root_with(0.0, genes)
        # rounding, on the scale of the heaviest weights, must not hide the best gene between its own bounds
        slack = 1e-12 * max(np.abs(self.L).max(), np.abs(lower).max())
        for _ in range(ROUNDS):
            upper = self._root_with(self._others_at(lower, genes), genes)
            stay = upper >= max(lower.max() - slack, threshold)
            genes, upper = genes[stay], upper[stay]
            if len(genes) == 0:
                return genes, upper
            lower = self._root_with(self._others_at(upper, genes), genes)
        stay = upper >= max(lower.max() - slack, threshold)
        order = np.argsort(-upper[stay], kind="stable")
        return genes[stay][order], upper[stay][order]

    def _root_with(self, others: np.ndarray | float, genes: np.ndarray) -> np.ndarray:
        """Largest root when the terms of all but the largest L add ``others``: a quadratic equation."""
        top, corner = self.L[-1], self.c[genes] + others
        return (top + corner) / 2 + np.sqrt(((top - corner) / 2) ** 2 + self.b[-1, genes] ** 2)

    def _others_at(self, m: np.ndarray, genes: np.ndarray) -> np.ndarray:
        """What the terms of all but the largest L add at m."""
        squares = self.b[:-1, genes] ** 2
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = squares / np.maximum(m - self.L[:-1, None], 0)
        return np.where(squares > 0, terms, 0).sum(axis=0)
