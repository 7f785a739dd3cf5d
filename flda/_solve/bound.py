"""How far the objective of a sparse axis can be from that of the best support: a bound by branch and bound.

The bounds of :mod:`flda._solve.relaxation` hold for all supports of a :class:`Choice`, and :mod:`flda._solve.cones`
extends them to all directions. A part of the problem is closed once its bound is no higher than the best value known.

1. The bound of all supports needs a few columns of W only. Genes that no support better than the best one known can
   hold are left out; in practice few stay, and W is formed for these.
2. The diagonal D is made larger where that lowers the bound (:mod:`flda._solve.diagonal`).
3. The part with the highest bound is cut in two, into the supports with and without one gene, until all parts are
   closed or the limit is reached. The bound is then that of the open part with the highest one, so it holds wherever
   the search ends, and equals the best value if no part is open.
"""

from __future__ import annotations

import heapq
import itertools
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from .cones import halve, largest, orthants
from .diagonal import best_diagonal
from .relaxation import Choice, Dual, Relaxable, lowest, relax
from .rows import Rows

ROUNDING = 1e-9  # relative differences of the objective below this are rounding error
KEPT, FIXING = 12, 6  # duals that a part hands on, and those from which genes are fixed
CONES = 3000  # most cones of one part
FINE = 0.002  # a cone whose bound exceeds that at its edges by less than this share is narrow enough
SHARE = 0.1  # ... or less than this share of what the bound at the edges exceeds the best value by
COARSE = 0.02  # the same in the first bound of all genes
# most of the denominator that directions may take which move there: if few directions are left without them, and else
SMALL, LARGE, FEW_DIRECTIONS = 0.05, 0.6, 3
FIRST_LOOK = 1e9  # work of one bound on the first cones that no limit forbids
OVERHEAD, WORK_OF_BOUND = 1e5, 5.0  # work of a few calls, and of a bound for each gene and direction
COST_OF_ROWS = 10.0  # work of an entry of W that is taken from its rows
WORK_OF_DIAGONAL = 20.0  # work of a larger diagonal, for the third power of the number of genes
RELAXATIONS = 30  # most relaxations of one part
DENSE = 2500  # W is formed for this many genes at most


@dataclass(frozen=True)
class Part:
    """Supports among which the best one may be, with what is known about them.

    Attributes
    ----------
    choice
        The supports.
    bound
        Upper bound of their objective.
    cones
        Directions in which they may still exceed the best value known, n x d x d.
    duals
        Bounds found so far, the latest last.
    scores
        How much it helps to branch on each gene, (p,).
    """

    choice: Choice
    bound: float
    cones: np.ndarray
    duals: list[Dual]
    scores: np.ndarray

    def direction(self) -> np.ndarray:
        """Return the direction in which the bound is largest, (d,)."""
        d = self.cones.shape[1]
        corners = np.swapaxes(self.cones, 0, 1).reshape(d, -1)
        return corners[:, int(lowest(self.duals, corners, self.choice).argmax())] if self.duals else corners[:, 0]

    @property
    def gene(self) -> int:
        """The free gene to branch on."""
        return int(self.choice.free[np.argmax(self.scores[self.choice.free])])


@dataclass(frozen=True)
class Bounded:
    """The result of :func:`best_bound`.

    Attributes
    ----------
    bound
        No support has a larger objective. It is infinite if one look at all directions takes too long.
    nodes
        Number of parts that were bounded.
    genes
        Number of genes that were left after the first step.
    better
        The best support that was met, if it is better than the one that was given; else None.
    """

    bound: float
    nodes: int
    genes: int
    better: np.ndarray | None = None


class Limit:
    """Counts work, in units that take about a nanosecond, so that the result does not depend on the machine."""

    def __init__(self, work: float, nodes: float = np.inf):
        self.nodes, self.left, self._nodes_left = 0, work, nodes

    def count(self) -> None:
        """Count one node."""
        self.nodes += 1
        self._nodes_left -= 1

    def spend(self, entries: float, calls: int = 1) -> None:
        """Count an operation on a number of entries, with the overhead of some calls."""
        self.left -= entries + OVERHEAD * calls

    def affords(self, work: float) -> bool:
        """Whether an operation takes less than half of the work that is left."""
        return work < self.left / 2

    @property
    def reached(self) -> bool:
        """Whether no further node may be opened."""
        return self.left <= 0 or self._nodes_left <= 0


class Search:
    """Branch and bound on one problem.

    Parameters
    ----------
    problem
        The axis.
    best
        The largest objective known.
    limit
        When to stop.
    """

    def __init__(self, problem: Relaxable, best: float, limit: Limit):
        self.problem, self.best, self.limit = problem, best, limit
        self.better: np.ndarray | None = None

    def closed(self, bound: float | np.ndarray):
        """Whether a bound is no higher than the best value known."""
        return bound <= self.best * (1 + ROUNDING)

    def meet(self, genes: np.ndarray) -> None:
        """Take note of the objective of a support."""
        with suppress(np.linalg.LinAlgError):  # linearly dependent genes
            value = self.problem.value(genes)
            if not self.closed(value):
                self.best, self.better = value, genes

    def examine(self, part: Part, fine: float = FINE) -> Part | None:
        """Bound the supports of a part anew, and leave out genes; None if the part is closed."""
        while True:
            self.limit.count()
            if (only := part.choice.only) is not None:
                self.meet(only)
                return None
            before = len(part.choice.free)
            found = self._cover(part, fine)
            if found is None:
                return None
            part = self._fix_genes(found)
            if self.closed(part.bound):
                return None
            if part.choice.only is None and (len(part.choice.free) > 0.8 * before or self.limit.reached):
                return part

    def run(self, part: Part) -> float:
        """Branch until all parts are closed or the limit is reached, and return the bound."""
        order = itertools.count()
        queue = [(-part.bound, next(order), part)]
        while queue and not self.limit.reached:
            part = heapq.heappop(queue)[2]
            if self.closed(part.bound):
                return self.best
            for choice in (part.choice.with_gene(part.gene), part.choice.without_gene(part.gene)):
                child = self.examine(replace(part, choice=choice))
                if child is not None:
                    bound = min(child.bound, part.bound)  # a part of a set has no larger optimum
                    heapq.heappush(queue, (-bound, next(order), replace(child, bound=bound)))
        top = -queue[0][0] if queue else self.best
        return self.best if self.closed(top) else top

    def _cover(self, part: Part, fine: float) -> Part | None:
        """Bound the supports of a part in all of its directions; None if it is closed."""
        choice, cones, duals = part.choice, part.cones, list(part.duals)
        new: list[Dual] = []
        values = self._values(duals, cones, choice)
        seen: set[bytes] = set()
        while True:
            bounds = np.minimum(largest(cones, values), part.bound)
            self.limit.spend(WORK_OF_BOUND * len(choice.free) * cones.shape[0] * cones.shape[1] + 100 * cones.size)
            stay = ~self.closed(bounds)
            cones, values, bounds = cones[stay], values[stay], bounds[stay]
            if len(cones) == 0:
                return None
            top = int(bounds.argmax())
            corner = int(values[top].argmax())
            w, at_corner = np.ascontiguousarray(cones[top][:, corner]), values[top, corner]
            enough = len(new) >= RELAXATIONS or (self.limit.reached and np.isfinite(at_corner))
            if w.tobytes() not in seen and not enough and not self.closed(at_corner):
                seen.add(w.tobytes())
                start = (new or duals)[-1].z if new or duals else None
                rounds, left = 12 if duals else 40, self.limit.left
                dual = relax(self.problem, w, choice, start, target=self.best, rounds=rounds, tolerance=1e-3, work=left)
                self.limit.spend(dual.work, calls=4 * dual.rounds)
                new.append(dual)
                values = np.minimum(values, self._values([dual], cones, choice))
                ranks = np.where(np.isin(np.arange(len(dual.z)), choice.free), dual.z, -1)
                ranks[choice.inside] = 2
                self.meet(np.sort(np.argsort(-ranks, kind="stable")[: len(choice.inside) + choice.k]))
                continue
            reached = max(values.max() / self.best, 1.0)  # cones need not be finer than the rest of the bound
            wide = bounds > self.best * reached * (1 + max(fine, SHARE * (reached - 1)))
            if not wide.any() or len(cones) + wide.sum() > CONES or self.limit.reached:
                break
            halves, middles, edge = halve(cones[wide])
            self.limit.spend(WORK_OF_BOUND * len(choice.free) * len(middles) * len([*duals, *new]), calls=4)
            at_middles = lowest([*duals, *new], middles.T, choice)
            of_halves = np.concatenate([values[wide]] * 2)
            of_halves[np.arange(len(halves)), edge] = np.tile(at_middles, 2)
            cones, values = np.concatenate([cones[~wide], halves]), np.concatenate([values[~wide], of_halves])
        return Part(choice, float(bounds.max()), cones, [*duals, *new][-KEPT:], self._scores([*duals, *new], w, choice))

    @staticmethod
    def _values(duals: list[Dual], cones: np.ndarray, choice: Choice) -> np.ndarray:
        """Compute the bounds at the vectors that span each cone, n x d."""
        n, d = cones.shape[:2]
        if not duals:
            return np.full((n, d), np.inf)
        return lowest(duals, np.swapaxes(cones, 0, 1).reshape(d, n * d), choice).reshape(n, d)

    @staticmethod
    def _scores(duals: list[Dual], w: np.ndarray, choice: Choice) -> np.ndarray:
        """Compute what each gene adds to the difference between bound and objective in a direction."""
        dual = duals[int(np.argmin([d.bound(w[:, None], choice)[0] for d in duals]))]
        return dual.gap + 1e-9 * dual.z * dual.gap.sum()

    def _fix_genes(self, part: Part) -> Part:
        """Fix genes without which, or with which, no support of a part exceeds the best value known."""
        choice, cones = part.choice, part.cones
        n, d = cones.shape[:2]
        without, within = np.zeros(len(choice.free)), np.zeros(len(choice.free))
        for some in np.array_split(np.arange(n), max(1, n * d * len(choice.free) // 2_000_000)):
            w = np.swapaxes(cones[some], 0, 1).reshape(d, -1)
            self.limit.spend(3 * WORK_OF_BOUND * len(choice.free) * w.shape[1] * min(FIXING, len(part.duals)), calls=4)
            pairs = [dual.with_and_without(w, choice) for dual in part.duals[-FIXING:]]
            for out, bounds in zip((within, without), zip(*pairs, strict=True), strict=True):
                by_gene = np.min(bounds, axis=0).reshape(-1, len(some), d)
                np.maximum(out, largest(cones[some], by_gene.transpose(1, 2, 0)).max(axis=0), out=out)
        leave, keep = self.closed(within), self.closed(without)
        # no support is better if neither those with a gene nor those without it are, or if too many genes are needed
        if (leave & keep).any() or keep.sum() > choice.k:
            return replace(part, bound=self.best)
        inside = np.sort(np.r_[choice.inside, choice.free[keep]])
        return replace(part, choice=Choice(inside, choice.free[~keep & ~leave], choice.k - int(keep.sum())))


def best_bound(
    W: Rows,
    H: np.ndarray,
    Z: np.ndarray,
    allowed: np.ndarray,
    k: int,
    value: float,
    *,
    K: np.ndarray | None = None,
    work: float = 1e9,
    nodes: float = np.inf,
) -> Bounded:
    """Bound the largest ``|H u|^2 / u' W u`` over u with k non-zero entries among the allowed genes and ``Z u = 0``.

    Parameters
    ----------
    W
        The denominator, with a ridge such that ``W - diag(ridge)`` is positive semidefinite.
    H, Z
        Rows of the effect (d x p), and rows on which the axis is zero (r x p).
    allowed
        Genes that may be selected, (p,) boolean.
    k
        Number of genes.
    value
        The objective that was found, positive.
    K
        A matrix that is not below ``H u u' H' / u' W u`` for any such u, such as ``H W^-1 H'``, d x d. It lets
        directions along which the objective is small move to the denominator.
    work, nodes
        When to stop. A unit of work takes about a nanosecond.
    """
    limit, known = Limit(work, nodes), value
    found = _bound_from(W, H, Z, allowed, k, known, K, limit)
    while found.better is not None and K is not None and not limit.reached:
        # directions have moved to the denominator by the value known, so a larger value gives a lower bound
        genes = found.better
        reached = Relaxable(lambda chosen: W(chosen).T, W.diagonal, W.ridge, H, Z).value(genes)
        if reached <= known * (1 + ROUNDING) or found.bound <= reached * (1 + ROUNDING):
            break
        known = reached
        again = _bound_from(W, H, Z, allowed, k, known, K, limit)
        found = replace(
            again, bound=min(again.bound, found.bound), better=genes if again.better is None else again.better
        )
    return found


def _bound_from(
    W: Rows, H: np.ndarray, Z: np.ndarray, allowed: np.ndarray, k: int, value: float, K: np.ndarray | None, limit: Limit
) -> Bounded:
    """Bound the objective from one value that is known."""
    turn, n_lead, share = _leading(H, K, value)
    H = turn.T @ H
    H, moved = H[:n_lead], H[n_lead:] / np.sqrt(value)
    pool = np.flatnonzero(allowed)
    if WORK_OF_BOUND * len(pool) * n_lead * 2.0 ** (n_lead - 1) > max(limit.left, FIRST_LOOK):
        return Bounded(np.inf, limit.nodes, len(pool), None)
    moved = moved[:, pool]
    scale = 1 / np.sqrt(W.diagonal[pool] - np.einsum("mp,mp->p", moved, moved))  # in these units diag(W) is one
    H, Z, moved = H[:, pool] * scale, Z[:, pool] * scale, moved * scale
    Z = Z / np.maximum(np.linalg.norm(Z, axis=1, keepdims=True), 1e-300)

    def columns(genes: np.ndarray) -> np.ndarray:
        rows = W(pool[genes])[:, pool] * scale * scale[genes, None]
        return (rows - moved[:, genes].T @ moved).T

    D = np.minimum((1 - share) * W.ridge[pool] * scale**2, 1.0)
    problem = Relaxable(columns, np.ones(len(pool)), D, H, Z, COST_OF_ROWS)
    everything = Choice(np.empty(0, dtype=np.int64), np.arange(len(pool)), k)
    part: Part | None = Part(everything, np.inf, orthants(np.eye(n_lead)), [], scores=np.zeros(len(pool)))
    assert part is not None
    best, better = value, None
    if D.min() > 0:
        search = Search(problem, best, limit)
        part, best = search.examine(part, fine=COARSE), search.best
        better = None if search.better is None else pool[search.better]
        if part is None:
            return Bounded(best, limit.nodes, k, better)
    kept = np.sort(np.r_[part.choice.inside, part.choice.free])
    block = W.block(pool[kept]) if len(kept) <= DENSE and not limit.reached else None
    if block is None:
        return Bounded(max(best, part.bound), limit.nodes, len(kept), better)
    dense = block * np.outer(scale[kept], scale[kept]) - moved[:, kept].T @ moved[:, kept]
    place = np.full(len(pool), -1)
    place[kept] = np.arange(len(kept))
    choice = Choice(place[part.choice.inside], place[part.choice.free], part.choice.k)
    part = replace(part, choice=choice, duals=[dual.subset(kept) for dual in part.duals], scores=part.scores[kept])
    problem = problem.subset(kept, dense)
    effort = WORK_OF_DIAGONAL * len(kept) ** 3
    if problem.D.min() <= 0 or limit.affords(effort):
        problem = best_diagonal(problem, dense, choice, part.direction(), best)
        limit.spend(effort)
    if problem.D.min() <= 0:  # W is singular, so there is no bound
        return Bounded(max(best, part.bound), limit.nodes, len(kept), better)
    search = Search(problem, best, limit)
    again = search.examine(part)
    bound = search.best if again is None else search.run(replace(again, bound=min(again.bound, part.bound)))
    better = better if search.better is None else pool[kept[search.better]]
    return Bounded(max(bound, search.best), limit.nodes, len(kept), better)


def _leading(H: np.ndarray, K: np.ndarray | None, value: float) -> tuple[np.ndarray, int, float]:
    """Choose the directions that stay in the numerator.

    ``|H u|^2 <= value u'Wu`` for all u means the same as ``|H_1 u|^2 <= value u'(W - H_2' H_2 / value) u``, where H_1
    are some of the rows and H_2 the others. The denominator on the right gets larger with ``value``, so a bound of that
    ratio which is above ``value`` is a bound of the ratio on the left too. As ``H_2' H_2 <= beta W`` for the largest
    eigenvalue beta of K on H_2, the new denominator is at least ``(1 - beta / value) W``.

    Returns
    -------
    An orthonormal basis of the directions (d x d), how many of its columns stay, and ``beta / value``.
    """
    if K is None:
        return np.linalg.eigh(H @ H.T)[1][:, ::-1], len(H), 0.0
    sizes, vectors = np.linalg.eigh(K)
    shares = np.append(np.maximum(sizes[::-1], 0) / value, 0.0)  # shares[j] if j directions stay
    n_lead = next(j for j in range(1, len(H) + 1) if shares[j] <= (SMALL if j < FEW_DIRECTIONS else LARGE))
    return vectors[:, ::-1], n_lead, float(shares[n_lead])
