"""The search for a panel: few genes on which the axes of all effects are good together.

On a support A the axes of an effect S have the ratios ``rho_1, rho_2, ...``, the eigenvalues of ``M_S`` in the metric
of the denominator W_S, both restricted to A (:mod:`flda._solve.objective`). The panel maximises ::

    J(A) = sum_S weight_S sum_c log(1 + rho_c)

where ``log(1 + rho)`` is twice the information, in nats, of a Gaussian channel with the signal-to-noise ratio rho. It
is the criterion by which shrinkage and numbers of genes are chosen on held-out cells (:mod:`flda._solve.criterion`).
Being concave, it pays more for a gene of an axis that has little yet than for one more gene of an axis that has much. J
never falls when a gene is added.

All effects share one matrix. Let G be the group means, ``K = G_A M_AA^-1 G_A'`` with M = M_e(g), T_S the rows of what
counts against the axes of S, and U_S those rows with the rows of S itself below them. Then ::

    sum_c log(1 + rho_c) = log det(M + M_S + ...)_A - log det(M + ...)_A
                         = log det(I + U_S K U_S') - log det(I + T_S K T_S')

Adding gene j changes K to ``K + e e'`` with ``e = (G_j - G_A M_AA^-1 M_Aj) / sqrt(s)`` and
``s = M_jj - M_jA M_AA^-1 M_Aj``, so the exact gain of every gene is

    log(1 + e' B(U_S) e) - log(1 + e' B(T_S) e),      B(U) = U' (I + U K U')^-1 U.

Removing gene i gives ``K - z z' / P_ii`` with P = M_AA^-1 and ``z = G_A P_i``. The search is that of
:mod:`flda._solve.search` with these gains: greedy growth, then exchanges of single genes, from several starts.

A panel may have to hold some genes, a least number of genes from each of several classes, and no more than a budget of
costs. At every step only those genes may be added with which these demands can still be met.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import cholesky, solve_triangular

from .rows import Rows
from .search import GAIN, INDEPENDENT, MANY, first


@dataclass(frozen=True)
class Pair:
    """The rows of one effect.

    Attributes
    ----------
    against
        T_S, the rows of what counts against its axes, m x C.
    both
        U_S, the same rows with those of the effect itself below them.
    weight
        The weight of the effect in J.
    """

    against: np.ndarray
    both: np.ndarray
    weight: float = 1.0


@dataclass(frozen=True)
class Demands:
    """What a panel must hold, and what it may cost.

    Attributes
    ----------
    n_genes
        The largest number of genes.
    included
        Indices of genes that it holds in any case, (i,).
    home
        The class of every gene, (p,), counted from 0.
    least
        The least number of genes of each class, (classes,).
    cost
        The cost of every gene, (p,).
    budget
        The largest sum of costs.
    """

    n_genes: int
    included: np.ndarray
    home: np.ndarray
    least: np.ndarray
    cost: np.ndarray
    budget: float = np.inf

    def missing(self, genes: np.ndarray) -> np.ndarray:
        """Compute how many genes of each class a support still lacks, (classes,)."""
        return np.maximum(self.least - np.bincount(self.home[genes], minlength=len(self.least)), 0)

    def reserve(self, genes: np.ndarray, allowed: np.ndarray) -> tuple[float, np.ndarray]:
        """Compute the least cost of all genes that a support still lacks, and what each class's dearest one costs.

        Genes of a class without enough allowed genes cost infinity.
        """
        total, dearest = 0.0, np.zeros(len(self.least))
        for h, lacks in enumerate(self.missing(genes)):
            if lacks:
                free = allowed & (self.home == h)
                free[genes] = False
                costs = np.sort(self.cost[free])[:lacks]
                total, dearest[h] = total + (costs.sum() if len(costs) == lacks else np.inf), np.max(costs, initial=0)
        return total, dearest

    def open(self, genes: np.ndarray, allowed: np.ndarray) -> np.ndarray:
        """Tell which genes may be added to a support so that it can still be completed, (p,) boolean."""
        lacks = self.missing(genes)
        if len(genes) >= self.n_genes:
            return np.zeros(len(allowed), dtype=bool)
        out = allowed.copy()
        out[genes] = False
        if lacks.sum() >= self.n_genes - len(genes):
            out &= lacks[self.home] > 0
        if np.isfinite(self.budget):
            reserve, dearest = self.reserve(genes, allowed)
            # a gene that the support lacks takes the place of the dearest one in the reserve, or of itself
            spared = np.minimum(self.cost, dearest[self.home])
            spent = self.cost[genes].sum() + reserve
            out &= spent + self.cost - spared <= self.budget * (1 + 1e-12)
        return out


@dataclass(frozen=True)
class PanelProblem:
    """The search for a panel.

    Attributes
    ----------
    scatter
        Rows of M.
    means
        G, centred group means, C x p.
    pairs
        The rows of every effect.
    allowed
        Whether each gene may be selected, (p,) boolean.
    demands
        What the panel must hold, and what it may cost.
    """

    scatter: Rows
    means: np.ndarray
    pairs: Sequence[Pair]
    allowed: np.ndarray
    demands: Demands

    def information(self, K: np.ndarray) -> np.ndarray:
        """Compute ``sum_c log(1 + rho_c)`` of every effect from K."""
        return np.array([_log_det(p.both, K) - _log_det(p.against, K) for p in self.pairs])

    def products(self, genes: np.ndarray) -> np.ndarray:
        """Compute K of a support."""
        G = self.means[:, genes]
        return G @ np.linalg.solve(self.scatter(genes)[:, genes], G.T)

    def value(self, genes: np.ndarray) -> float:
        """Compute J of a support."""
        return self.of_products(self.products(genes))

    def of_products(self, K: np.ndarray) -> float:
        """Compute J from K."""
        return float(np.array([p.weight for p in self.pairs]) @ self.information(K))

    def gains(self, K: np.ndarray, e: np.ndarray, sign: float = 1.0) -> np.ndarray:
        """Compute by how much J grows when K changes by ``sign e_j e_j'``, for every column of e (C x n), (n,)."""
        out = np.zeros(e.shape[1])
        for p in self.pairs:
            for rows, side in ((p.both, p.weight), (p.against, -p.weight)):
                if len(rows):
                    V = solve_triangular(_root(rows, K), rows, lower=True) @ e
                    squares = np.einsum("mn,mn->n", V, V)
                    out += side * np.log1p(np.maximum(sign * squares, 1e-12 - 1))
        return out


def select_panel(problem: PanelProblem, starts: Sequence[np.ndarray] = ()) -> np.ndarray:
    """Return the best panel that the search finds, gene indices in ascending order.

    The search starts from greedy growth, from greedy growth to twice as many genes and removal, from the genes that are
    best alone, and from the supports in ``starts``. With costs it also starts from growth by gain per cost. If there
    are no more than MANY genes to choose from, every one of them starts a search. Every start is improved by
    exchanges until none helps, and the best result is returned.
    """
    demands, fixed = problem.demands, problem.demands.included
    pool = np.setdiff1d(np.flatnonzero(problem.allowed), fixed)
    supports = [grow(problem, fixed)]
    if np.isfinite(demands.budget):
        supports.append(grow(problem, fixed, per_cost=True))
    else:
        twice = replace(problem, demands=replace(demands, n_genes=2 * demands.n_genes))
        supports.append(shrink(problem, grow(twice, fixed)))
    alone = problem.means / np.sqrt(problem.scatter.diagonal)
    scores = problem.gains(np.zeros((len(alone),) * 2), alone)
    supports += [_fill(problem, s) for s in (first(scores, len(scores)), *starts)]
    if len(pool) <= MANY:
        supports += [_fill(problem, pool[[j]]) for j in range(len(pool))]
    best, best_value, seen = None, -np.inf, set()
    for start in supports:
        if tuple(start) in seen:
            continue
        seen.add(tuple(start))
        genes = exchange(problem, start)
        if (value := problem.value(genes)) > best_value:
            best, best_value = genes, value
    assert best is not None
    return best


def _fill(problem: PanelProblem, order: np.ndarray) -> np.ndarray:
    """Add genes in the given order as far as the demands allow, and then by growth."""
    genes = problem.demands.included
    while (free := problem.demands.open(genes, problem.allowed)[order]).any():
        genes = np.append(genes, order[np.argmax(free)])
        if len(order) == 1:
            break
    return grow(problem, genes)


def grow(
    problem: PanelProblem, genes: np.ndarray, *, without: Sequence[int] = (), per_cost: bool = False
) -> np.ndarray:
    """Add the gene with the largest gain (per cost) until the panel is full, or no further gene may be added."""
    M = problem.scatter
    # the Cholesky factor L of M_AA grows by one row for every gene, and with it all that follows from it
    half, e, left, K = (
        np.empty((0, problem.means.shape[1])),
        problem.means.copy(),
        M.diagonal.copy(),
        np.zeros((len(problem.means),) * 2),
    )
    chosen = np.array([], dtype=np.int64)
    queue = list(genes)
    if queue:
        M(queue)  # computes the rows of all genes in one pass over the data
    while True:
        if queue:
            j = int(queue.pop(0))
        else:
            free = problem.demands.open(chosen, problem.allowed) & (left > INDEPENDENT * M.diagonal)
            free[list(without)] = False
            others = np.flatnonzero(free)
            if len(others) == 0:
                return np.sort(chosen)
            gains = problem.gains(K, e[:, others] / np.sqrt(left[others]))
            j = int(others[np.argmax(gains / problem.demands.cost[others] if per_cost else gains)])
        d = e[:, j] / np.sqrt(left[j])
        row = (M([j])[0] - half[:, j] @ half) / np.sqrt(left[j])
        half = np.vstack([half, row])
        e -= d[:, None] * row
        left -= row**2
        K = K + np.outer(d, d)
        chosen = np.append(chosen, j)


def shrink(problem: PanelProblem, genes: np.ndarray) -> np.ndarray:
    """Remove the gene that is missed least until the panel has no more genes than it may have."""
    demands = problem.demands
    while len(genes) > demands.n_genes:
        fixed = np.isin(genes, demands.included)
        at_least = np.bincount(demands.home[genes], minlength=len(demands.least)) <= demands.least
        lost = np.where(fixed | at_least[demands.home[genes]], np.inf, losses(problem, genes))
        genes = np.delete(genes, int(np.argmin(lost)))
    return genes


def losses(problem: PanelProblem, genes: np.ndarray) -> np.ndarray:
    """Compute by how much J falls when each gene of a support is left out, (k,)."""
    P = np.linalg.inv(problem.scatter(genes)[:, genes])
    Z = problem.means[:, genes] @ P
    return -problem.gains(Z @ problem.means[:, genes].T, Z / np.sqrt(np.diag(P)), sign=-1.0)


def exchange(problem: PanelProblem, genes: np.ndarray) -> np.ndarray:
    """Exchange one gene at a time for another one, until no exchange improves J.

    With a budget, a gene is exchanged for as many as can be had instead.
    """
    while (better := _better(problem, genes)) is not None:
        genes = better
    return genes


def _better(problem: PanelProblem, genes: np.ndarray) -> np.ndarray | None:
    """Return a support that is better by one exchange, or None."""
    M, demands = problem.scatter, problem.demands
    rows, G = M(genes), problem.means[:, genes]
    P = np.linalg.inv(rows[:, genes])
    Z, B = G @ P, P @ rows
    K = Z @ G.T
    now = problem.of_products(K)
    threshold = now + GAIN * max(abs(now), 1.0)
    missed = -problem.gains(K, Z / np.sqrt(np.diag(P)), sign=-1.0)
    rest, left = problem.means - G @ B, M.diagonal - np.einsum("kp,kp->p", rows, B)
    for i in np.argsort(missed, kind="stable"):  # the gene that is missed least is the likeliest to be replaced
        if genes[i] in demands.included:
            continue
        others = np.delete(genes, i)
        # without gene i, K loses z z', and more of every gene is unexplained
        z, b = Z[:, i] / np.sqrt(P[i, i]), B[i] / np.sqrt(P[i, i])
        s = left + b**2
        free = demands.open(others, problem.allowed) & (s > INDEPENDENT * M.diagonal)
        free[genes[i]] = False
        new = np.flatnonzero(free)
        if len(new) == 0:
            continue
        gains = problem.gains(K - np.outer(z, z), (rest[:, new] + z[:, None] * b[new]) / np.sqrt(s[new]))
        best = int(np.argmax(gains))
        found = np.sort(np.append(others, new[best]))
        if np.isfinite(demands.budget):
            found = max((grow(problem, found), grow(problem, others, without=[genes[i]])), key=problem.value)
        elif now - missed[i] + gains[best] <= threshold:
            continue
        if problem.value(found) > threshold:
            return found
    return None


def _root(rows: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Compute the Cholesky factor of ``I + rows K rows'``."""
    return cholesky(np.eye(len(rows)) + rows @ K @ rows.T, lower=True)


def _log_det(rows: np.ndarray, K: np.ndarray) -> float:
    """Compute ``log det(I + rows K rows')``."""
    return 2 * float(np.log(np.diag(_root(rows, K))).sum()) if len(rows) else 0.0
