"""Exact tests by relabelling types: all relabellings when there are few, a random sample when there are many."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

MAX_ALL = 50_000  # relabellings up to which all are looked at: 8 types have 40,320
STEP = 2_000_000  # numbers held at once

Statistic = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Relabelled:
    """p-value of a statistic under relabelling, with what it could have been.

    Attributes
    ----------
    pval
        Share of relabellings, the observed one included, whose statistic is at least the observed one.
    n_distinct
        Number of relabellings with different statistics whatever the data, so that 1 / n_distinct is the smallest
        p-value; infinite if only a sample was drawn.
    """

    pval: float
    n_distinct: float


@lru_cache(maxsize=64)
def relabellings(strata: tuple[int, ...], n_permutations: int, random_state: int) -> tuple[np.ndarray, bool]:
    """``(P, n)`` orders of the types, exchanged within strata, the observed one first; and whether these are all."""
    rows = [np.flatnonzero(np.array(strata) == s) for s in np.unique(strata)]
    if math.prod(math.factorial(len(r)) for r in rows) <= MAX_ALL:
        out = np.array([_filled(rows, pick, len(strata)) for pick in itertools.product(*map(_orders, rows))])
        return out, True
    keys = np.random.default_rng(random_state).random((n_permutations, len(strata)))
    drawn = np.empty((n_permutations + 1, len(strata)), dtype=int)
    drawn[0] = np.arange(len(strata))
    for r in rows:
        drawn[1:, r] = r[np.argsort(keys[:, r], axis=1)]
    return drawn, False


def relabelling_test(
    statistic: Statistic,
    V: np.ndarray,
    strata: np.ndarray,
    *,
    n_permutations: int,
    random_state: int,
    paired: bool = False,
) -> Relabelled:
    """Test a statistic of what the labels contribute, V ``(n, k)``, against all orders of its rows within strata.

    The statistic takes U ``(P, n, k)``, which are such orders of V, and depends on U U' alone; ``paired``: on U V'.
    """
    orders, exact = relabellings(tuple(strata.tolist()), n_permutations, random_state)
    drawn = _evaluated(statistic, V, orders)
    pval = float(np.mean(drawn >= drawn[0] - 1e-9 * max(np.abs(drawn).max(), 1e-300)))
    if not exact:
        return Relabelled(pval, math.inf)
    # orders that leave U U' (U V') as it is have the same statistic on any data, so also on arbitrary data
    root = np.random.default_rng(0).normal(size=(len(V), len(V)))
    generic = _evaluated(along(root @ V) if paired else explained_by(root @ root.T), V, orders)
    return Relabelled(pval, len(orders) / int(np.isclose(generic, generic[0], rtol=1e-9, atol=0).sum()))


def explained_by(K: np.ndarray) -> Statistic:
    """``tr(V' K V)`` as a statistic: with K = G G' the squared length of the profiles G along V."""
    return lambda V: np.einsum("pnk,pnk->p", V, np.matmul(K, V))


def along(T: np.ndarray) -> Statistic:
    """``tr(T' U)`` as a statistic, for T ``(n, k)``."""
    return lambda U: np.einsum("pnk,nk->p", U, T)


def _evaluated(statistic: Statistic, V: np.ndarray, orders: np.ndarray) -> np.ndarray:
    step = max(1, STEP // V.size)
    return np.concatenate([statistic(V[orders[i : i + step]]) for i in range(0, len(orders), step)])


def _orders(rows: np.ndarray) -> Iterator[tuple[int, ...]]:
    return itertools.permutations(rows.tolist())


def _filled(rows: list[np.ndarray], pick: tuple[tuple[int, ...], ...], n: int) -> np.ndarray:
    order = np.empty(n, dtype=int)
    for r, values in zip(rows, pick, strict=True):
        order[r] = values
    return order
