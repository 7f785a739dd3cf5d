"""The search for sparse axes: maximise ``u' N u / u' M u`` over u with exactly k non-zero loadings.

M is positive definite: the denominator of the ratio, or the shrunken within-group scatter for the difference
(:mod:`flda._solve.refit`). N = H' Q H has few rows H (m x p): those of the objective and, for later axes of an effect,
one row M u for each earlier axis u, whose negative weight in Q keeps the axes orthogonal in M.

On a support A the optimum is the largest eigenvalue of Q K, where ``K = H_A M_AA^-1 H_A'`` (m x m). Adding a gene j or
removing a gene i changes K by a matrix of rank one:

* Adding j gives ``K + d d' / s``, where ``d = H_j - H_A M_AA^-1 M_Aj`` and ``s = M_jj - M_jA M_AA^-1 M_Aj`` are what
  the support leaves unexplained of the gene: of its column of H, and of its scatter.
* Removing i gives ``K - z z' / P_ii``, where P = M_AA^-1 and ``z = H_A P_i``.

So the exact gains of all additions, and of all swaps, cost a few products with an m x p matrix. The search adds the
gene with the largest exact gain until there are k, then swaps genes until no swap helps, and repeats this from several
starts. It only ever forms rows of M that belong to genes which some support has held.

The truncated Rayleigh flow (Tan, Wang, Liu and Zhang, J. R. Stat. Soc. B 80:1057, 2018) is the published alternative;
see :mod:`flda._solve.flow`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .rows import Rows

# the weight of an infinite penalty within the search, where effects weigh about 1; the refit then imposes it exactly
STRONG = 1e6
# a gene is linearly dependent on the support if less than this share of its scatter is unexplained
INDEPENDENT = 1e-9
# if there are no more genes than this to choose from, every one of them starts a search
MANY = 50
# the least relative gain in the objective for which genes are swapped
GAIN = 1e-10
# rounds of bounds, and number of matrices whose eigenvalues are computed at a time, when a gene is added
ROUNDS, BATCH = 3, 64


@dataclass(frozen=True)
class SparseProblem:
    """The search for one axis: maximise ``u' H' Q H u / u' M u`` over supports among the allowed genes.

    Attributes
    ----------
    scatter
        Function that returns rows of M.
    H, Q
        The rows H (m x p) and their symmetric weights Q (m x m), which give N = H' Q H.
    allowed
        Whether each gene may be selected, (p,) boolean.
    """

    scatter: Rows
    H: np.ndarray
    Q: np.ndarray
    allowed: np.ndarray

    @cached_property
    def own_ratio(self) -> np.ndarray:
        """``N_jj / M_jj`` of every gene, which is its objective when it is used alone; -inf where it is not allowed."""
        ratio = np.einsum("mp,mn,np->p", self.H, self.Q, self.H) / self.scatter.diagonal
        return np.where(self.allowed, ratio, -np.inf)

    def value(self, genes: Sequence[int] | np.ndarray) -> float:
        """Compute the objective of the best axis on a support."""
        genes = np.asarray(genes)
        return _on_support(self, genes, self.scatter(genes)[:, genes])[0]


def first(scores: np.ndarray, k: int) -> np.ndarray:
    """Return the indices of the k largest scores; ties go to the lower index."""
    return np.argsort(-scores, kind="stable")[:k]


def select(problem: SparseProblem, k: int, starts: Sequence[np.ndarray]) -> np.ndarray:
    """Return the best support of k genes that the search finds.

    The search starts from greedy growth to k genes, from greedy growth to 2 k genes and removal down to k, from the
    supports in ``starts``, and from every single gene if there are no more than MANY to choose from. Every start is
    improved by swaps until no swap helps, and the best result is returned.

    Parameters
    ----------
    problem
        The axis that is sought.
    k
        The number of genes.
    starts
        Further supports to start from, of at most k genes. Shorter ones are extended greedily.

    Returns
    -------
    Gene indices in ascending order, (k,).
    """
    best, best_value = None, -np.inf
    seen: set[tuple[int, ...]] = set()
    pool = np.flatnonzero(problem.allowed)
    if len(pool) == k:
        return extend(problem, pool, k)
    none = np.array([], dtype=np.int64)
    grown = _grown(problem, none, min(2 * k, len(pool)))
    supports = [np.sort(grown[:k]), drop(problem, np.sort(grown), k), *starts]
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
    """Add the gene with the largest exact gain until there are k genes.

    Genes of the start that are not allowed, or linearly dependent on those before them, are left out.
    """
    genes = np.asarray(genes, dtype=np.int64)
    if len(genes) == k and _independent(problem, genes):
        return np.sort(genes)
    return np.sort(_grown(problem, genes, k))


def _independent(problem: SparseProblem, genes: np.ndarray) -> bool:
    """Return whether genes are all allowed, and none is linearly dependent on those before it."""
    if not problem.allowed[genes].all():
        return False
    M = problem.scatter(genes)[:, genes]
    try:
        pivots = np.diag(np.linalg.cholesky(M)) ** 2
    except np.linalg.LinAlgError:
        return False
    return bool(np.all(pivots > INDEPENDENT * np.diag(M)))


def _grown(problem: SparseProblem, genes: np.ndarray, k: int) -> list[int]:
    """Do the work of :func:`extend`, and return the genes in the order in which they were added."""
    chosen: list[int] = []
    # the Cholesky factor of M_AA grows by one row for every gene, and d, s and K are updated along with it
    halves = np.empty((k, problem.H.shape[1]))  # L^-1 M_A, k x p, for the Cholesky factor L of M_AA
    rest, left = problem.H.copy(), problem.scatter.diagonal.copy()  # d (m x p) and s (p,) of every gene
    K = np.zeros((len(problem.H),) * 2)
    queue = [int(j) for j in genes]
    if queue:
        problem.scatter(queue)  # computes the rows of all genes in one pass over the data
    while len(chosen) < k:
        if queue:
            j = queue.pop(0)
            if left[j] <= INDEPENDENT * problem.scatter.diagonal[j] or not problem.allowed[j]:
                continue
        else:
            free = _free(problem, left, chosen)
            if len(free) == 0:
                raise ValueError(
                    "no further gene is linearly independent of those selected; ask for fewer genes (n_genes)."
                )
            j = int(free[_best_addition(problem.Q, K, rest[:, free], left[free])[0]])
        d, half = rest[:, j] / np.sqrt(left[j]), halves[: len(chosen)]
        row = (problem.scatter([j])[0] - half[:, j] @ half) / np.sqrt(left[j])
        halves[len(chosen)] = row
        rest -= d[:, None] * row
        left -= row**2
        K += np.outer(d, d)
        chosen.append(j)
    return chosen


def drop(problem: SparseProblem, genes: np.ndarray, k: int) -> np.ndarray:
    """Remove the gene that is missed least until k genes are left."""
    M = problem.scatter(genes)[:, genes]
    while len(genes) > k:
        _, missed, *_ = _on_support(problem, genes, M)
        i = int(np.argmin(missed))
        genes, M = np.delete(genes, i), np.delete(np.delete(M, i, axis=0), i, axis=1)
    return genes


def swap(problem: SparseProblem, genes: np.ndarray) -> np.ndarray:
    """Exchange one gene at a time for another one, until no exchange improves the objective."""
    best, best_value = np.sort(genes), -np.inf
    genes = best
    while True:
        rows = problem.scatter(genes)
        now, missed, P, Z = _on_support(problem, genes, rows[:, genes])
        if now <= best_value:  # the expected gain was rounding error; without this check the loop might never end
            return best
        best, best_value = genes, now
        if len(genes) >= problem.allowed.sum():
            return best
        found = _exchange(problem, genes, rows, P, Z, missed, now + GAIN * abs(now))
        if found is None:
            return best
        genes = np.sort(np.append(np.delete(genes, found[0]), found[1]))


def _exchange(
    problem: SparseProblem,
    genes: np.ndarray,
    rows: np.ndarray,
    P: np.ndarray,
    Z: np.ndarray,
    missed: np.ndarray,
    threshold: float,
) -> tuple[int, int] | None:
    """Find an exchange that raises the objective above a threshold.

    Without gene i, K loses ``z z'``, and more of every gene is unexplained: its d gains ``z b_j``, and its s gains
    ``b_j^2``. The objective of ``K + e e'`` reaches m, above the largest eigenvalue of Q K, if
    ``e' Q e + |F e|^2 >= m`` (see :class:`_Arrowheads`). With ``e = d / sqrt(s)`` this takes one product with the rows
    d for every i, and the few genes that pass are then evaluated exactly.

    Returns
    -------
    The index of the gene that leaves, and the gene that comes, or None.
    """
    H, Q = problem.H[:, genes], problem.Q
    B, K = P @ rows, Z @ H.T
    rest, left = problem.H - H @ B, problem.scatter.diagonal - np.einsum("kp,kp->p", rows, B)  # d and s
    size, slack = np.trace(K), 1e-9
    Qrest = Q @ rest
    own = np.einsum("mp,mp->p", rest, Qrest)
    outside = problem.allowed.copy()
    outside[genes] = False
    for i in np.argsort(missed, kind="stable"):  # the gene that is missed least is the likeliest to be replaced
        z, b = Z[:, i] / np.sqrt(P[i, i]), B[i] / np.sqrt(P[i, i])
        less, s = K - np.outer(z, z), left + b**2
        free = outside & (s > INDEPENDENT * problem.scatter.diagonal)
        R = _root(less, size)
        L, V = np.linalg.eigh(R.T @ Q @ R)
        if len(L) and _above(threshold, L):
            F = ((R @ V) / np.sqrt(threshold - L)).T @ Q
            corners = own + b * (2 * (z @ Qrest) + (z @ Q @ z) * b)
            reach = F @ rest
            reach += (F @ z)[:, None] * b
            sums = np.einsum("rp,rp->p", reach, reach)
            # corners and sums can be large and opposite, so rounding errors are on the scale of both
            free &= corners + sums >= threshold * s - slack * (abs(threshold) * s + np.abs(corners) + sums)
        some = np.flatnonzero(free)
        if len(some) == 0:
            continue
        j, value = _best_addition(Q, less, rest[:, some] + z[:, None] * b[some], s[some], size, threshold)
        if value > threshold:
            return int(i), int(some[j])
    return None


def _on_support(
    problem: SparseProblem, genes: np.ndarray, M: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Compute the objective of a support, how much each gene would be missed, ``P = M_AA^-1`` and ``Z = H_A P``.

    M holds the rows and columns of the support, M_AA.

    Setting the loading u_i to zero costs about ``u_i^2 / P_ii`` of ``u' M u = 1``, as in the test of a single
    coefficient of a regression.
    """
    P = np.linalg.inv(M)
    Z = problem.H[:, genes] @ P
    R = _root(Z @ problem.H[:, genes].T)  # K = R R'
    if R.shape[1] == 0:  # the rows of H are zero on this support
        return -np.inf, np.zeros(len(genes)), P, Z
    tops, V = np.linalg.eigh(R.T @ problem.Q @ R)
    # u = M_AA^-1 H_A' w with w = R (R'R)^-1 v, as in the group space; R'R is diagonal
    u = Z.T @ (R / np.sum(R**2, axis=0)) @ V[:, -1]
    return float(tops[-1]), u**2 / np.diag(P), P, Z


def _above(m: float, L: np.ndarray) -> bool:
    """Return whether m is so far above the largest of the ascending eigenvalues L that the difference has digits.

    Rounding errors of all eigenvalues are on the scale of the largest absolute one, and rows on which an axis must be
    zero make some of them very negative.
    """
    return bool(m > L[-1] + 1e-6 * max(abs(m), abs(L[-1])) + 1e-12 * np.abs(L).max())


def _root(K: np.ndarray, size: float = 0.0) -> np.ndarray:
    """Compute R with K = R R', without the directions that are rounding error next to K or to ``size``."""
    values, vectors = np.linalg.eigh(K)
    keep = values > 1e-12 * max(values[-1], size, 0.0)
    return vectors[:, keep] * np.sqrt(values[keep])


def top(K: np.ndarray, Q: np.ndarray) -> float:
    """Compute the largest eigenvalue of Q K on the range of K, or -inf if K is zero."""
    R = _root(K)
    return float(np.linalg.eigvalsh(R.T @ Q @ R)[-1]) if R.shape[1] else -np.inf


def _free(problem: SparseProblem, left: np.ndarray, taken: Sequence[int]) -> np.ndarray:
    """Return the genes that may be added to a support, whose unexplained scatter s is ``left``."""
    free = problem.allowed & (left > INDEPENDENT * problem.scatter.diagonal)
    free[np.asarray(taken, dtype=np.int64)] = False
    return np.flatnonzero(free)


def _best_addition(
    Q: np.ndarray, K: np.ndarray, rest: np.ndarray, left: np.ndarray, size: float = 0.0, threshold: float = -np.inf
) -> tuple[int, float]:
    """Find the gene with the largest objective once it is added.

    Parameters
    ----------
    Q
        The weights of the rows of H, m x m.
    K
        ``H_A M_AA^-1 H_A'`` of the support, m x m.
    rest, left
        d (m x n) and s (n,) of the n genes that may be added: what the support leaves unexplained of them.
    size
        Scale on which directions of K count as rounding error.
    threshold
        Genes that cannot reach this objective are not evaluated.

    Returns
    -------
    The index of the gene among the n and its objective, or (-1, -inf) if no gene can reach the threshold.
    """
    e = rest / np.sqrt(left)  # e_j = d / sqrt(s): gene j changes K by e_j e_j'
    Qe = Q @ e
    c = np.einsum("mp,mp->p", e, Qe)
    R = _root(K, size)
    if R.shape[1] == 0:  # K = 0, so the objective of gene j is e_j' Q e_j
        j = int(first(c, 1)[0])
        return j, float(c[j])
    L, V = np.linalg.eigh(R.T @ Q @ R)
    return _Arrowheads(L, (R @ V).T @ Qe, c).best(threshold)


@dataclass(frozen=True)
class _Arrowheads:
    """The largest eigenvalues of the arrowhead matrices ``[[L, b_j], [b_j', c_j]]``, one for each gene j to add.

    With ``K = R R'`` and ``R' Q R = V L V'``, the objective of ``K + e_j e_j'`` is the largest eigenvalue of the
    arrowhead matrix with ``b_j = V' R' Q e_j`` and ``c_j = e_j' Q e_j``. That is the largest root m of
    ``m = c + sum_i b_i^2 / (m - L_i)``. If all terms of the sum but that of the largest L_i are held fixed, this is a
    quadratic equation for m. The fixed terms fall with m, so evaluating them at a lower bound of the root gives an
    upper bound, and the other way round. A few rounds of bounds leave few genes whose eigenvalues must be computed.

    Attributes
    ----------
    L
        Eigenvalues of R' Q R in ascending order, (r,).
    b, c
        The borders b_j (r x n) and corners c_j (n,) of n genes.
    """

    L: np.ndarray
    b: np.ndarray
    c: np.ndarray

    def best(self, threshold: float) -> tuple[int, float]:
        """Find the gene with the largest of all top eigenvalues.

        Returns
        -------
        The gene, as an index into ``c``, and its eigenvalue, or (-1, -inf) if no upper bound reaches the threshold.
        """
        genes, upper = self._candidates(threshold)
        r, best, best_value = len(self.L), -1, -np.inf
        for start in range(0, len(genes), BATCH):
            part = genes[start : start + BATCH]
            if upper[start] < best_value:  # the bounds are in descending order, so no later gene can be better
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
        """Return the genes that may hold the largest root, by descending upper bound, and these bounds."""
        genes = np.arange(len(self.c))
        lower = self._root_with(0.0, genes)  # the other terms are positive above the largest L
        # rounding errors, on the scale of the largest weights, must not exclude the best gene by its own bounds
        slack = 1e-12 * max(np.abs(self.L).max(), np.abs(lower).max())
        m = max(lower.max() - slack, threshold)
        # the sum falls with m, so at any m it says on which side of m the root is; next to L the differences m - L have
        # too few digits for that
        if _above(m, self.L):
            sums = (1 / (m - self.L)) @ self.b**2
            # c and the sum can be large and opposite, so rounding errors are on the scale of both
            genes = np.flatnonzero(self.c + sums >= m - 1e-9 * (abs(m) + np.abs(self.c) + sums))
            lower = lower[genes]
            if len(genes) == 0:
                return genes, lower
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
        """Solve the quadratic equation for the largest root when all other terms add up to ``others``."""
        top, corner, squares = self.L[-1], self.c[genes] + others, self.b[-1, genes] ** 2
        half = np.abs(top - corner) / 2
        # the root less the larger of top and corner; in this form no digits cancel
        further = half + np.sqrt(half**2 + squares)
        return np.maximum(top, corner) + np.divide(squares, further, out=np.zeros_like(squares), where=further > 0)

    def _others_at(self, m: np.ndarray, genes: np.ndarray) -> np.ndarray:
        """Compute the sum of the terms of all but the largest L at m."""
        squares = self.b[:-1, genes] ** 2
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = squares / np.maximum(m - self.L[:-1, None], 0)
        return np.where(squares > 0, terms, 0).sum(axis=0)
