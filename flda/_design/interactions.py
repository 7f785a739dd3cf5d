"""The interactions that a fit asks for."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from .effects import Effect
from .table import Table


def requested(
    table: Table, factors: Sequence[str], interactions: str | Iterable[str | Sequence[str]] | None
) -> list[Effect]:
    """Return the requested interactions, lowest order first, each with its factors in the order of ``factors``.

    An interaction with a numeric factor stands for one with each of its parts, in the order of their degrees.

    Parameters
    ----------
    table
        The factors and their parts.
    factors
        The factors that may interact.
    interactions
        As in :func:`flda._design.make.make_design`.
    """
    if interactions is None:
        return []
    if isinstance(interactions, str | bool):
        if interactions not in ("all", "estimable"):
            raise ValueError(f"interactions={interactions!r}: use 'all', 'estimable', None or a list such as ['a:b'].")
        orders = range(2, len(factors) + 1)
        return [e for k in orders for fs in itertools.combinations(factors, k) for e in _of_parts(table, fs)]
    found: list[Effect] = []
    for item in interactions:
        names = set(Effect.parse(item))
        known = {f: [p for p in table.parts_of(f) if p in names or f in names] for f in factors}
        chosen = [f for f in factors if known[f]]
        unknown = names - set(factors) - {p for f in factors for p in table.parts_of(f)}
        if unknown or len(chosen) < 2:
            raise ValueError(
                f"interaction {item!r} must join two or more of the factors {list(factors)}; correct its name."
            )
        found += [Effect(parts) for parts in itertools.product(*(known[f] for f in chosen))]
    out = list(dict.fromkeys(found))
    for effect in out:
        lacking = [Effect(m) for k in range(2, len(effect)) for m in itertools.combinations(effect, k) if m not in out]
        if lacking:
            raise ValueError(
                f"interaction {effect.name!r} needs its lower-order interactions "
                f"{[m.name for m in lacking]} in the list too."
            )
    order = [p for f in factors for p in table.parts_of(f)]
    return sorted(
        out, key=lambda e: (len(e), [factors.index(f) for f in table.factors_of(e)], [order.index(p) for p in e])
    )


def without_saturation(
    table: Table, mains: Sequence[Effect], interactions: Sequence[Effect], n: int
) -> tuple[list[Effect], list[Effect]]:
    """Return the interactions that leave a degree of freedom of n units, and those that are left out for it.

    The interactions of the highest order go first, and among these the ones with the most degrees of freedom.
    """
    kept, left = list(interactions), []
    while kept and 1 + sum(map(table.df, [*mains, *kept])) >= n:
        largest = max(kept, key=lambda e: (len(e), table.df(e), kept.index(e)))
        kept.remove(largest)
        left.append(largest)
    return kept, left


def _of_parts(table: Table, factors: Sequence[str]) -> list[Effect]:
    """Return the interactions of all parts of some factors."""
    return [Effect(parts) for parts in itertools.product(*map(table.parts_of, factors))]
