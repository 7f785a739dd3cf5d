"""Exact tests by relabelling types: all relabellings if there are few, a random sample if there are many.

Which type carries which labels of the design is exchangeable under the null hypothesis. A statistic is therefore
compared with its values under all permutations of the types, or under all permutations within strata.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

MAX_ALL = 50_000  # largest number of relabellings that are all evaluated; 8 types have 40,320
STEP = 2_000_000  # numbers held in memory at once

Statistic = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Relabelled:
    """The p-value of a statistic under relabelling, and the number of relabellings that it can distinguish.

    Attributes
    ----------
    pval : float
        Share of relabellings, the observed one included, whose statistic is at least the observed one.
    n_distinct : float
        Number of relabellings with different statistics on generic data. The smallest possible p-value is
        1 / n_distinct. Infinite if only a sample of the relabellings was drawn.
    """

    pval: float
    n_distinct: float


@lru_cache(maxsize=64)
def relabellings(strata: tuple[int, ...], n_resamples: int, random_state: int) -> tuple[np.ndarray, bool]:
    """Orders of the types ``(P, n)``, permuted within strata, the observed one first; and whether these are all."""
    rows = [np.flatnonzero(np.array(strata) == s) for s in np.unique(strata)]
    if math.prod(math.factorial(len(r)) for r in rows) <= MAX_ALL:
        out = np.array([_filled(rows, pick, len(strata)) for pick in itertools.product(*map(_orders, rows))])
        return out, True
    # sorting independent random keys within each stratum gives uniform permutations, all of them in one array
    keys = np.random.default_rng(random_state).random((n_resamples, len(strata)))
    drawn = np.empty((n_resamples + 1, len(strata)), dtype=int)
    drawn[0] = np.arange(len(strata))  # the observed order counts as one of the sample, so that no p-value is zero
    for r in rows:
        drawn[1:, r] = r[np.argsort(keys[:, r], axis=1)]
    return drawn, False


def relabelling_test(
    statistic: Statistic,
    V: np.ndarray,
    strata: np.ndarray,
    *,
    n_resamples: int,
    random_state: int,
    paired: bool = False,
) -> Relabelled:
    """Test a statistic of the labels' contribution V ``(n, k)`` against all orders of its rows within strata.

    Parameters
    ----------
    statistic
        Function of U ``(P, n, k)``, which holds P orders of the rows of V; returns ``(P,)``. It may depend only on
        U U', or with ``paired`` only on U V'.
    V
        Contribution of the labels, from :func:`effect_labels`.
    strata
        ``(n,)`` stratum of every type.
    n_resamples, random_state
        Number of orders to draw if they are too many to evaluate all, and the seed.
    paired
        See ``statistic``.
    """
    orders, exact = relabellings(tuple(strata.tolist()), n_resamples, random_state)
    drawn = _evaluated(statistic, V, orders)
    # statistics that are equal in exact arithmetic differ by rounding; they must count as ties
    pval = float(np.mean(drawn >= drawn[0] - 1e-9 * max(np.abs(drawn).max(), 1e-300)))
    if not exact:
        return Relabelled(pval, math.inf)
    # Orders that leave U U' (or U V') unchanged have the observed statistic whatever the data, for example those that
    # exchange two types with the same labels. Arbitrary data show how many there are.
    root = np.random.default_rng(0).normal(size=(len(V), len(V)))
    generic = _evaluated(along(root @ V) if paired else explained_by(root @ root.T), V, orders)
    return Relabelled(pval, len(orders) / int(np.isclose(generic, generic[0], rtol=1e-9, atol=0).sum()))


def explained_by(K: np.ndarray) -> Statistic:
    """Statistic ``tr(V' K V)``; with K = G G' it is the squared length of the profiles G along V."""
    return lambda V: np.einsum("pnk,pnk->p", V, np.matmul(K, V))


def along(T: np.ndarray) -> Statistic:
    """Statistic ``tr(T' U)`` for T ``(n, k)``."""
    return lambda U: np.einsum("pnk,nk->p", U, T)


def _evaluated(statistic: Statistic, V: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """Statistic of every order, computed in blocks that fit into memory."""
    step = max(1, STEP // V.size)
    return np.concatenate([statistic(V[orders[i : i + step]]) for i in range(0, len(orders), step)])


def _orders(rows: np.ndarray) -> Iterator[tuple[int, ...]]:
    return itertools.permutations(rows.tolist())


def _filled(rows: list[np.ndarray], pick: tuple[tuple[int, ...], ...], n: int) -> np.ndarray:
    """One order of all types from the orders picked for the strata."""
    order = np.empty(n, dtype=int)
    for r, values in zip(rows, pick, strict=True):
        order[r] = values
    return order
