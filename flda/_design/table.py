"""The table of occupied groups: coding of effects, least squares on the groups, and which effects are estimable.

Symbols are those of the module :mod:`flda._design.design`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.linalg import helmert
from scipy.sparse.csgraph import connected_components

from .effects import Effect


@dataclass(frozen=True)
class Table:
    """The occupied groups as integer level codes, with one row per group and one column per factor.

    Attributes
    ----------
    factors
        Names of the factors.
    n_levels
        The number of levels of each factor.
    groups
        Level codes of the groups, (C, F).
    """

    factors: tuple[str, ...]
    n_levels: tuple[int, ...]
    groups: np.ndarray

    def find(self, levels: np.ndarray) -> np.ndarray:
        """Return the group of each row of level codes.

        Every row must be an occupied combination, and the groups must be in lexicographic order.
        """
        known = np.ravel_multi_index(tuple(self.groups.T), self.n_levels)
        return np.searchsorted(known, np.ravel_multi_index(tuple(levels.T), self.n_levels))

    def margin(self, effect: Effect) -> np.ndarray:
        """Return the level codes of the factors of ``effect``, one row per group."""
        return self.groups[:, [self.factors.index(f) for f in effect]]

    def df(self, effect: Effect) -> int:
        """Return the degrees of freedom of an effect: the product of (number of levels - 1) over its factors."""
        return int(np.prod([self.n_levels[self.factors.index(f)] - 1 for f in effect]))

    def coding(self, effect: Effect) -> np.ndarray:
        """Compute X_S (C x df_S), the sum-to-zero coding of an effect on the groups."""
        columns = np.ones((len(self.groups), 1))
        for factor in effect:
            j = self.factors.index(factor)
            coded = _sum_to_zero(self.n_levels[j])[self.groups[:, j]]
            columns = (columns[:, :, None] * coded[:, None, :]).reshape(len(columns), -1)
        return columns

    def missing(self, effect: Effect) -> np.ndarray:
        """Return the combinations of levels of ``effect`` that no group has, as level codes."""
        sizes = [self.n_levels[self.factors.index(f)] for f in effect]
        seen = np.zeros(sizes, dtype=bool)
        seen[tuple(self.margin(effect).T)] = True
        return np.argwhere(~seen)

    def estimable(self, effects: Sequence[Effect]) -> list[Effect]:
        """Return the effects that the groups identify, in the order given.

        The decision goes by the rank of the coding, one order of interaction after the other. An effect is kept if its
        columns are linearly independent of all kept effects of lower order and of all other effects of its own order
        together. An interaction is dropped together with any of its margins.
        """
        kept: list[Effect] = []
        for order in sorted({len(e) for e in effects}):
            peers = [e for e in effects if len(e) == order and _margins(e) <= {*map(frozenset, kept)}]
            base = [np.ones((len(self.groups), 1)), *map(self.coding, kept)]
            full = _rank([*base, *map(self.coding, peers)])
            # an effect is identified if leaving it out lowers the rank by all of its degrees of freedom
            kept += [
                e for e in peers if full - _rank([*base, *(self.coding(o) for o in peers if o != e)]) == self.df(e)
            ]
        return [e for e in effects if e in kept]

    def model_matrix(self, effects: Sequence[Effect]) -> np.ndarray:
        """Compute ``D = [1, X_S for every S]`` (C x m), the intercept and the coding of effects on the groups."""
        return np.hstack([np.ones((len(self.groups), 1)), *map(self.coding, effects)])

    def df_left(self, effects: Sequence[Effect]) -> int:
        """Return the degrees of freedom that effects leave of the group means; 0 if they fit every mean."""
        return len(self.groups) - 1 - sum(map(self.df, effects))

    def coefficients(self, effects: Sequence[Effect], weights: np.ndarray | None = None) -> np.ndarray:
        """Compute ``(D' W D)^+ D' W`` (m x C), which maps group means to their weighted least-squares coefficients.

        D is the model matrix and W holds the ``weights`` of the groups, (C,); without them all groups weigh the same.
        """
        root = np.ones(len(self.groups)) if weights is None else np.sqrt(weights)
        return np.linalg.pinv(root[:, None] * self.model_matrix(effects)) * root

    def contrasts(self, effects: Sequence[Effect], weights: np.ndarray | None = None) -> dict[Effect, np.ndarray]:
        """Compute B_S (df_S x C) of every effect: its rows of :meth:`coefficients`."""
        splits = np.cumsum([1, *map(self.df, effects)])
        parts = np.split(self.coefficients(effects, weights), splits)[1:-1]
        return dict(zip(effects, parts, strict=True))


def report(
    table: Table, levels: Mapping[str, np.ndarray], effects: Sequence[Effect], kept: Sequence[Effect]
) -> pd.DataFrame:
    """Describe each effect in one row of a table: ``effect, df, estimable, missing, reason``.

    ``missing`` names the empty groups, and ``reason`` says why the effect cannot be estimated (empty if it can).
    """
    rows = []
    for effect in effects:
        missing = table.missing(effect)
        names = [" x ".join(str(levels[f][i]) for f, i in zip(effect, m, strict=True)) for m in missing]
        n_all = int(np.prod([len(levels[f]) for f in effect]))
        reason = ""
        if effect not in kept and names:
            listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            reason = f"{len(names)} of {n_all} groups are empty ({listed})"
        elif effect not in kept:
            reason = "the occupied groups confound it with the other effects"
        rows.append(
            {
                "effect": effect.name,
                "df": table.df(effect),
                "estimable": effect in kept,
                "missing": ", ".join(names),
                "reason": reason,
            }
        )
    return pd.DataFrame(rows)


def refuse_confounded(table: Table, levels: Mapping[str, np.ndarray], lost: Sequence[Effect]) -> None:
    """Raise an error that explains why main effects cannot be separated, if some of them are lost.

    Parameters
    ----------
    table, levels
        The occupied groups, and the levels of each factor.
    lost
        Main effects that the groups do not identify.

    Raises
    ------
    ValueError
        If ``lost`` is not empty. The message names factors that are confounded, nested, or fall into blocks.
    """
    if not lost:
        return
    for (a,), (b,) in itertools.permutations(lost, 2):
        pairs = np.unique(table.margin(Effect((a, b))), axis=0)
        if len(pairs) == len(levels[a]):  # each level of a occurs with only one level of b
            if len(pairs) == len(levels[b]):
                raise ValueError(
                    f"factors {a!r} and {b!r} are perfectly confounded: each level of one occurs with only one level "
                    "of the other. Keep one of them."
                )
            raise ValueError(
                f"factor {a!r} is nested in {b!r}: each level of {a!r} occurs with only one level of {b!r}, so "
                f"their effects cannot be separated. Leave one out, or fit {a!r} within each level of {b!r}."
            )
    for (a,), (b,) in itertools.combinations(lost, 2):
        # a graph whose nodes are the levels of a and of b, and whose edges are the occupied pairs
        links = np.zeros((len(levels[a]) + len(levels[b]),) * 2)
        rows = table.margin(Effect((a, b)))
        links[rows[:, 0], len(levels[a]) + rows[:, 1]] = 1
        n_blocks = connected_components(links, directed=False)[0]
        if n_blocks > 1:
            raise ValueError(
                f"the table of {a!r} x {b!r} falls into {n_blocks} blocks that share no level, so the effects of the "
                "two factors cannot be separated. Fit each block alone, or leave one factor out."
            )
    raise ValueError(
        f"the effects of {', '.join(repr(e.name) for e in lost)} cannot be separated on the occupied groups. "
        "Leave one of them out."
    )


def _sum_to_zero(n_levels: int) -> np.ndarray:
    """Return an orthonormal basis, L x (L - 1), of the vectors of L entries that sum to zero."""
    return helmert(n_levels).T


def _margins(effect: Effect) -> set[frozenset[str]]:
    """Return every proper, non-empty subset of the factors of an effect."""
    return {frozenset(s) for k in range(1, len(effect)) for s in itertools.combinations(effect, k)}


def _rank(blocks: Sequence[np.ndarray]) -> int:
    """Compute the rank of matrices with the same rows, side by side."""
    return int(np.linalg.matrix_rank(np.hstack(blocks)))
