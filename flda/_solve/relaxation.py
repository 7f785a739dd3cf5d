"""Upper bounds of the objective over all supports of k genes, without visiting the supports.

On a support A, with the denominator W and the rows H of an effect, the objective of the best axis is the largest
eigenvalue of ``K_A = H_A W_AA^-1 H_A'`` (d x d). Let D be a positive diagonal such that ``W1 = W - D`` is positive
semidefinite; the shrinkage of W gives one. For any matrix U (p x d) let ``C = U' W1 U`` and ``R = H' - W1 U``. Then, as
``2 v' W1 u <= v' W1 v + u' W1 u``, every axis v on A has

    2 w'H v - v'W v  <=  2 w'R' v - v'D v + w'C w  <=  w' (C + sum_{i in A} R_i R_i' / D_i) w

so that ``w' K_A w <= w'C w + sum_{i in A} (q_i' w)^2`` with ``q_i = R_i / sqrt(D_i)``. Over all supports of k genes the
right-hand side is largest for the k genes with the largest ``(q_i' w)^2``. That is a bound for *any* U, which is called
a :class:`Dual` here: no rounding error and no early stop of the search for a good U makes it wrong.

The best U for a direction w comes from the perspective relaxation of best-subset regression (Xie and Deng, SIAM J.
Optim. 30:3359, 2020): give gene i a share z_i in [0, 1] of a place in the support, with ``sum z <= k``. Then
``U = (W1 + D / z)^-1 H'`` maximises ``2 w'H u - u'W1 u - sum_i D_i u_i^2 / z_i``, its value F(z) is concave in z with
the gradient ``(q_i' w)^2``, and F(z) equals the bound when z is optimal. :func:`relax` climbs F. Only genes with
``z_i > 0`` need their columns of W.

An axis that must be zero on further rows Z (``Z v = 0``) has the same bound with ``H + V'Z`` in place of H, for any V.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

ABSENT = 1e-6  # a share below this is zero
FIRST = 5  # the relaxation starts from this times k genes
ENTRIES = 2**22  # most entries of an array of genes x directions
FEW = 50  # genes that get a share in one round, at least


@dataclass(frozen=True)
class Relaxable:
    """The problem of one axis: the largest ``|H u|^2 / u' W u`` over u with k non-zero entries and ``Z u = 0``.

    Attributes
    ----------
    columns
        Function that returns columns of W for some genes, p x len(genes).
    diagonal
        Diagonal of W, (p,).
    D
        Positive diagonal such that W - D is positive semidefinite, (p,).
    H
        Rows of the effect, d x p.
    Z
        Rows on which the axis must be zero, r x p.
    cost
        Work to get one entry of a column, in units of about a nanosecond.
    """

    columns: Callable[[np.ndarray], np.ndarray]
    diagonal: np.ndarray
    D: np.ndarray
    H: np.ndarray
    Z: np.ndarray
    cost: float = 1.0

    def value(self, genes: np.ndarray) -> float:
        """Compute the objective of the best axis on a support."""
        W, H, Z = self.columns(genes)[genes], self.H[:, genes], self.Z[:, genes]
        X, Y = np.split(np.linalg.solve(W, np.vstack([H, Z]).T), [len(H)], axis=1)
        K, cross, inner = H @ X, Z @ X, Z @ Y
        if len(Z):
            K = K - cross.T @ np.linalg.pinv(inner, rcond=1e-10, hermitian=True) @ cross
        return float(np.linalg.eigvalsh((K + K.T) / 2)[-1])

    def subset(self, genes: np.ndarray, W: np.ndarray) -> Relaxable:
        """Return the problem of some genes alone, with their block of W in memory."""
        return Relaxable(
            lambda chosen: W[:, chosen], W.diagonal(), self.D[genes], self.H[:, genes], self.Z[:, genes]
        )  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """Which supports are meant: those that hold all genes ``inside``, and k further ones out of ``free``.

    Both are indices in ascending order.
    """

    inside: np.ndarray
    free: np.ndarray
    k: int

    @property
    def only(self) -> np.ndarray | None:
        """The support, if there is only one."""
        if self.k == 0:
            return self.inside
        return np.sort(np.r_[self.inside, self.free]) if len(self.free) <= self.k else None

    def with_gene(self, gene: int) -> Choice:
        """Return the supports that hold a free gene."""
        return Choice(np.sort(np.r_[self.inside, gene]), self.free[self.free != gene], self.k - 1)

    def without_gene(self, gene: int) -> Choice:
        """Return the supports that do not hold a free gene."""
        return replace(self, free=self.free[self.free != gene])


@dataclass(frozen=True)
class Dual:
    """A bound for all directions w and all supports: ``w'C w + sum_{i in A} (q_i' w)^2``.

    Attributes
    ----------
    C
        d x d.
    q
        p x d.
    z
        The shares of the genes in the relaxation that it came from, (p,).
    gap
        How much each gene adds to the difference between bound and objective, (p,): ``D_i u_i^2 (1 / z_i - 1)``.
    rounds, work
        Steps of the climb, and its work in units of about a nanosecond.
    """

    C: np.ndarray
    q: np.ndarray
    z: np.ndarray
    gap: np.ndarray
    rounds: int = 0
    work: float = 0.0

    def bound(self, w: np.ndarray, choice: Choice) -> np.ndarray:
        """Compute the bound for directions w (d x n) over the supports of a choice, (n,)."""
        parts = (self.q @ w) ** 2
        fixed = np.einsum("dn,de,en->n", w, self.C, w) + parts[choice.inside].sum(axis=0)
        return fixed + sum_of_largest(parts[choice.free], choice.k)

    def with_and_without(self, w: np.ndarray, choice: Choice) -> tuple[np.ndarray, np.ndarray]:
        """Compute the bounds over the supports that hold each free gene, and over those that do not: (f, n) each."""
        parts, k = (self.q[choice.free] @ w) ** 2, choice.k
        fixed = np.einsum("dn,de,en->n", w, self.C, w) + ((self.q[choice.inside] @ w) ** 2).sum(axis=0)
        f = len(parts)
        ordered = np.partition(parts, (f - k - 1, f - k), axis=0)
        total = fixed + ordered[f - k :].sum(axis=0)
        least, following = ordered[f - k], ordered[f - k - 1]  # the last gene of the best support, and the next one
        held = parts >= least
        return np.where(held, total, total - least + parts), np.where(held, total - parts + following, total)

    def subset(self, genes: np.ndarray) -> Dual:
        """Return the bound for supports among some genes."""
        return Dual(self.C, self.q[genes], self.z[genes], self.gap[genes])


def sum_of_largest(parts: np.ndarray, k: int) -> np.ndarray:
    """Compute the sum of the k largest entries of each column."""
    if k >= len(parts):
        return parts.sum(axis=0)
    if k == 0:
        return np.zeros(parts.shape[1:])
    return np.partition(parts, len(parts) - k, axis=0)[len(parts) - k :].sum(axis=0)


def capped(weights: np.ndarray, k: int) -> tuple[np.ndarray, float]:
    """Compute ``z = min(1, weights / tau)`` with ``sum z = k``, and tau; with k entries or fewer z is one."""
    if len(weights) <= k:
        return np.ones(len(weights)), 0.0
    descending = -np.sort(-weights)
    rest = np.cumsum(descending[::-1])[::-1]  # rest[j] is the sum without the j largest
    taus = rest[:k] / (k - np.arange(k))
    j = int(np.argmax(descending[:k] <= taus)) if (descending[:k] <= taus).any() else k - 1
    return np.minimum(1, weights / max(taus[j], 1e-300)), float(taus[j])


def relax(
    problem: Relaxable,
    w: np.ndarray,
    choice: Choice,
    start: np.ndarray | None = None,
    *,
    target: float = -np.inf,
    rounds: int = 40,
    tolerance: float = 1e-4,
    work: float = np.inf,
) -> Dual:
    """Compute a good dual for a direction.

    Parameters
    ----------
    problem
        The axis.
    w
        Direction, (d,), of norm one.
    choice
        The supports.
    start
        Shares to start from, (p,). They are used where they are not zero for all free genes.
    target
        The climb ends as soon as the bound is not above this.
    rounds
        Most steps of the climb.
    tolerance
        The climb ends when bound and F differ by less than this share of F.
    work
        The climb ends once it has taken this much work, in units of about a nanosecond.

    Returns
    -------
    The dual with the lowest bound that was met.
    """
    z = _start(problem, w, choice, start)
    free = np.zeros(len(z), dtype=bool)
    free[choice.free] = True
    best, found, count, spent = np.inf, None, 0, 0.0
    for _ in range(max(rounds, 1)):
        A = np.flatnonzero(z > ABSENT)
        count += 1
        spent += len(A) * (0.2 * len(A) ** 2 + len(z) * (problem.cost + 0.5 * (len(problem.H) + len(problem.Z))))
        try:
            U, C, R = _dual(problem, A, z[A])
        except LinAlgError:  # the columns of the genes with a share are linearly dependent
            break
        dual = Dual(C, R / np.sqrt(problem.D)[:, None], z, np.zeros(len(z)))
        gradient = (dual.q @ w) ** 2
        bound = float(dual.bound(w[:, None], choice)[0])
        u = U @ w
        if bound < best:
            gap = np.zeros(len(z))
            gap[A] = problem.D[A] * u**2 * (1 / z[A] - 1)
            best, found = bound, replace(dual, gap=gap)
        reached = float(w @ C @ w + gradient[A] @ z[A])  # F(z)
        if best <= target or best - reached < tolerance * reached or spent > work:
            break
        z = _step(problem, choice, free, z, gradient)
    if found is None:  # U = 0 is a dual too
        d, p = problem.H.shape
        found = Dual(np.zeros((d, d)), problem.H.T / np.sqrt(problem.D)[:, None], z, np.zeros(p))
    return replace(found, rounds=count, work=spent)


def _start(problem: Relaxable, w: np.ndarray, choice: Choice, start: np.ndarray | None) -> np.ndarray:
    z = np.zeros(len(problem.D))
    if start is not None:
        z[choice.free] = np.clip(start[choice.free], 0, 1)
    if z.sum() < 0.5:
        alone = (w @ problem.H[:, choice.free]) ** 2 / problem.diagonal[choice.free]
        first = choice.free[np.argsort(-alone, kind="stable")[: FIRST * choice.k]]
        z[first] = choice.k / max(len(first), choice.k)
    z[choice.inside] = 1
    return z


def _dual(problem: Relaxable, A: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute ``U = (W1 + D / z)^-1 (H + V'Z)'`` on the genes A such that ``Z U = 0``, C and R."""
    columns, D = problem.columns(A), problem.D[A]
    S = columns[A]
    S[np.diag_indices(len(A))] += D * (1 / z - 1)
    H, Z = problem.H, problem.Z
    X, Y = np.split(
        cho_solve(cho_factor(S, lower=True, check_finite=False), np.vstack([H, Z])[:, A].T), [len(H)], axis=1
    )
    if len(Z):
        V = -np.linalg.lstsq(Z[:, A] @ Y, Z[:, A] @ X, rcond=1e-10)[0]
        X, H = X + Y @ V, H + V.T @ Z
    product = columns @ X  # W1 U, once D U is taken off
    product[A] -= D[:, None] * X
    C = X.T @ product[A]
    return X, (C + C.T) / 2, H.T - product


def _step(problem: Relaxable, choice: Choice, free: np.ndarray, z: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Make one step of the climb: ``z_i`` proportional to ``|u_i| sqrt(D_i) = z_i |q_i' w|``, with new genes."""
    root, weights, tau = np.sqrt(gradient), np.zeros(len(z)), 0.0
    active = np.flatnonzero(free & (z > ABSENT))
    weights[active] = z[active] * root[active]
    if len(active) > choice.k:
        tau = capped(weights[active], choice.k)[1]
    if tau == 0:  # too few genes: more must come in
        tau = -np.sort(-root[choice.free])[min(choice.k, len(choice.free)) - 1]
        tau = max(0.5 * float(tau), 1e-300)
    new = np.flatnonzero(free & (z <= ABSENT) & (root > tau))
    if len(new):
        # the best share of a gene alone: then its gradient falls to tau^2
        new = new[np.argsort(-root[new], kind="stable")[: max(FEW, 2 * choice.k)]]
        left = np.maximum(problem.diagonal[new] - problem.D[new], 1e-12 * problem.diagonal[new])
        weights[new] = tau * np.clip(problem.D[new] / left * (root[new] / tau - 1), 0, 0.3)
    used = np.flatnonzero(weights > 0)
    out = np.zeros(len(z))
    out[used] = capped(weights[used], choice.k)[0]
    out[choice.inside] = 1
    return out


def lowest(duals: Sequence[Dual], w: np.ndarray, choice: Choice) -> np.ndarray:
    """Compute the lowest bound of several duals for directions w (d x n), (n,)."""
    at_a_time = max(1, ENTRIES // len(duals[0].q))  # the bounds of a block hold an array of genes x directions
    blocks = [w[:, start : start + at_a_time] for start in range(0, w.shape[1], at_a_time)]
    return np.concatenate([np.min([dual.bound(block, choice) for dual in duals], axis=0) for block in blocks])
