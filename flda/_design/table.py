"""The table of occupied groups: coding of effects, least squares on the groups, and which effects are estimable.

Symbols are those of the module :mod:`flda._design.design`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from scipy.linalg import helmert

from .effects import Effect
from .trends import Part, part_at

RANK_TOLERANCE = 1e-10  # singular values below this share of the largest are rounding error


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
    parts
        The parts of numeric factors, by name. A name that is not among them is that of a factor, with all its levels.
    estimable_parts
        Effect -> orthonormal columns V, for an interaction of which only the coefficients ``V' b_S`` are estimable.
    """

    factors: tuple[str, ...]
    n_levels: tuple[int, ...]
    groups: np.ndarray
    parts: Mapping[str, Part] = field(default_factory=dict)
    estimable_parts: Mapping[Effect, np.ndarray] = field(default_factory=dict)

    def find(self, levels: np.ndarray) -> np.ndarray:
        """Return the group of each row of level codes.

        Every row must be an occupied combination, and the groups must be in lexicographic order.
        """
        known = np.ravel_multi_index(tuple(self.groups.T), self.n_levels)
        return np.searchsorted(known, np.ravel_multi_index(tuple(levels.T), self.n_levels))

    def at(self, groups: np.ndarray) -> Table:
        """Return the same factors with other groups, given as rows of level codes."""
        return replace(self, groups=groups)

    def of(self, columns: Sequence[int], groups: np.ndarray) -> Table:
        """Return some of the factors, by their indices, with groups that are rows of level codes of these factors."""
        factors = tuple(self.factors[j] for j in columns)
        return Table(factors, tuple(self.n_levels[j] for j in columns), groups, self.parts)

    def with_value(self, factor: str, values: np.ndarray, value: float) -> Table:
        """Return the table with one more level of a numeric factor, the last one, which no group has.

        Parameters
        ----------
        factor
            A factor whose parts are polynomials or a spline.
        values
            The values of its levels, (L,).
        value
            The value of the new level.
        """
        parts = dict(self.parts)
        for degree, name in enumerate(self.parts_of(factor), start=1):
            kind = None if name.endswith(".spline") else degree
            row = part_at(parts[name], kind, values, value)
            parts[name] = replace(parts[name], basis=np.vstack([parts[name].basis, row]))
        n_levels = tuple(n + (f == factor) for f, n in zip(self.factors, self.n_levels, strict=True))
        return replace(self, n_levels=n_levels, parts=parts)

    def factor(self, name: str) -> str:
        """Return the factor with this name, or the factor of the part with this name."""
        return self.parts[name].factor if name in self.parts else name

    def factors_of(self, effect: Effect) -> Effect:
        """Return the factors of an effect, without their parts."""
        return Effect(map(self.factor, effect))

    def parts_of(self, factor: str) -> list[str]:
        """Return the names of the parts of a factor in the order of their degrees; a plain factor is its only part."""
        return [name for name, part in self.parts.items() if part.factor == factor] or [factor]

    def basis(self, name: str) -> np.ndarray:
        """Return the coding of the levels of a factor, or of a part of one, L x k."""
        return self.parts[name].basis if name in self.parts else _sum_to_zero(self.n_levels[self.factors.index(name)])

    def margin(self, effect: Effect) -> np.ndarray:
        """Return the level codes of the factors of ``effect``, one row per group."""
        return self.groups[:, [self.factors.index(f) for f in self.factors_of(effect)]]

    def df(self, effect: Effect) -> int:
        """Return the degrees of freedom of an effect: the product over its factors, or the estimable part of it."""
        if effect in self.estimable_parts:
            return self.estimable_parts[effect].shape[1]
        return int(np.prod([self.basis(name).shape[1] for name in effect]))

    def coding(self, effect: Effect) -> np.ndarray:
        """Compute X_S (C x df_S), the sum-to-zero coding of an effect on the groups."""
        columns = np.ones((len(self.groups), 1))
        for name in effect:
            coded = self.basis(name)[self.groups[:, self.factors.index(self.factor(name))]]
            columns = (columns[:, :, None] * coded[:, None, :]).reshape(len(columns), -1)
        return columns @ self.estimable_parts[effect] if effect in self.estimable_parts else columns

    def missing(self, effect: Effect) -> np.ndarray:
        """Return the combinations of levels of ``effect`` that no group has, as level codes."""
        sizes = [self.n_levels[self.factors.index(f)] for f in self.factors_of(effect)]
        seen = np.zeros(sizes, dtype=bool)
        seen[tuple(self.margin(effect).T)] = True
        return np.argwhere(~seen)

    def estimable(self, effects: Sequence[Effect]) -> list[Effect]:
        """Return the effects that the groups identify, in the order given.

        The decision goes by the rank of the coding, one order of interaction after the other. An effect is kept if its
        columns are linearly independent of all kept effects of lower order and of all other effects of its own order
        together. An interaction is dropped together with any of its margins.
        """
        return self._estimable(effects, in_part=False)[0]

    def estimable_in_part(self, effects: Sequence[Effect]) -> tuple[list[Effect], Table]:
        """Return the effects of which the groups identify some coefficients, and the table with these alone.

        An interaction b_S that is not estimable as a whole is kept with the coefficients ``V' b_S`` that are, given all
        effects of lower order and all others of its own order. Main effects are kept as a whole or not at all.
        """
        kept, found = self._estimable(effects, in_part=True)
        return kept, replace(self, estimable_parts=found)

    def _estimable(self, effects: Sequence[Effect], *, in_part: bool) -> tuple[list[Effect], dict[Effect, np.ndarray]]:
        kept: list[Effect] = []
        found: dict[Effect, np.ndarray] = {}
        for order in sorted({len(e) for e in effects}):
            peers = [e for e in effects if len(e) == order and _margins(e) <= {*map(frozenset, kept)}]
            of_kept = [self.coding(e) @ found[e] if e in found else self.coding(e) for e in kept]
            base = [np.ones((len(self.groups), 1)), *of_kept]
            codings = {e: self.coding(e) for e in peers}
            full = _rank([*base, *codings.values()])
            for effect in peers:
                others = [*base, *(X for o, X in codings.items() if o != effect)]
                # an effect is identified if leaving it out lowers the rank by all of its degrees of freedom
                rank = full - _rank(others)
                if rank == self.df(effect):
                    kept.append(effect)
                elif in_part and order > 1 and rank:
                    # what the others leave of the columns has the estimable coefficients as its row space
                    U, s, _ = np.linalg.svd(np.hstack(others), full_matrices=False)
                    Q = U[:, s > s[0] * RANK_TOLERANCE]
                    left = codings[effect] - Q @ (Q.T @ codings[effect])
                    found[effect] = np.linalg.svd(left)[2][:rank].T
                    kept.append(effect)
        return [e for e in effects if e in kept], found

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


@cache
def _sum_to_zero(n_levels: int) -> np.ndarray:
    """Return an orthonormal basis, L x (L - 1), of the vectors of L entries that sum to zero."""
    basis = helmert(n_levels).T
    basis.flags.writeable = False  # every effect gets the same array
    return basis


def _margins(effect: Effect) -> set[frozenset[str]]:
    """Return every proper, non-empty subset of the names of an effect."""
    return {frozenset(s) for k in range(1, len(effect)) for s in itertools.combinations(effect, k)}


def _rank(blocks: Sequence[np.ndarray]) -> int:
    """Compute the rank of matrices with the same rows, side by side."""
    return int(np.linalg.matrix_rank(np.hstack(blocks)))
