"""Named contrasts: weighted sums of the fitted means of groups, such as a simple effect.

A contrast is a list of selections of groups, each with a weight; the weights sum to zero. A selection names levels of
some factors, and averages over the others with equal weight of their levels. Since every column of the coding sums to
zero over the levels of its factor, an effect with a factor that is averaged over does not contribute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .effects import SEPARATOR, Effect
from .table import Table

ESTIMABLE = 1e-9  # relative error up to which the means of the groups give a contrast
ZERO = 1e-10  # contributions to a contrast that are smaller than this share of the largest are rounding error

Selection = dict[str, tuple[int, ...]]  # factor -> codes of the levels over which it is averaged


@dataclass(frozen=True)
class Contrast:
    """A named contrast, scaled like an effect: with two groups it is their difference over the root of two.

    Attributes
    ----------
    selections
        The selections of groups.
    weights
        Their weights, (n,), with the sum zero and the norm one.
    """

    selections: tuple[Selection, ...]
    weights: np.ndarray

    def row(self, table: Table, effects: Sequence[Effect]) -> np.ndarray:
        """Return the weights of the coefficients of the model matrix of some effects, (m,), in the contrast."""
        return sum(w * selection_row(table, effects, s) for w, s in zip(self.weights, self.selections, strict=True))

    def acting(self, table: Table, effects: Sequence[Effect]) -> list[Effect]:
        """Return the effects that can contribute to the contrast."""
        parts = {e: np.abs(self.row(table, [e])[1:]).max() for e in effects}
        largest = max(parts.values(), default=0.0)
        return [e for e, size in parts.items() if size > ZERO * max(largest, 1e-300)]

    def coding(self, table: Table) -> np.ndarray:
        """Return the weights of the selections of each group, (C x 1): with the sign of the side."""
        out = np.zeros(len(table.groups))
        for weight, selection in zip(self.weights, self.selections, strict=True):
            out += weight * selected(table, selection)
        return out[:, None]

    def text(self, levels: Mapping[str, np.ndarray]) -> str:
        """Spell out the contrast, as in ``"cell_type=B, condition=stim less cell_type=B, condition=ctrl"``."""
        if len(self.selections) == 2:
            first, second = (self.selections[i] for i in np.argsort(-self.weights))
            return f"{described(first, levels)} less {described(second, levels)}"
        return " ".join(
            f"{w:+.3g} ({described(s, levels)})" for w, s in zip(self.weights, self.selections, strict=True)
        )

    def empty(self, table: Table, levels: Mapping[str, np.ndarray]) -> list[str]:
        """Describe the selections of which no group is occupied."""
        return [described(s, levels) for s in self.selections if not selected(table, s).any()]


def selection_row(table: Table, effects: Sequence[Effect], selection: Selection) -> np.ndarray:
    """Return the weights of the coefficients of a model matrix, (m,), in the mean of a selection of groups."""
    out = [np.ones(1)]
    for effect in effects:
        columns = np.ones(1)
        for name in effect:
            codes, basis = selection.get(table.factor(name)), table.basis(name)
            # a factor that is not named is averaged over, and its columns sum to zero
            mean = np.zeros(basis.shape[1]) if codes is None else basis[list(codes)].mean(axis=0)
            columns = np.outer(columns, mean).ravel()
        out.append(columns @ table.estimable_parts[effect] if effect in table.estimable_parts else columns)
    return np.concatenate(out)


def selected(table: Table, selection: Selection) -> np.ndarray:
    """Return which groups belong to a selection, (C,) boolean."""
    out = np.ones(len(table.groups), dtype=bool)
    for factor, codes in selection.items():
        out &= np.isin(table.groups[:, table.factors.index(factor)], codes)
    return out


def described(selection: Selection, levels: Mapping[str, np.ndarray]) -> str:
    """Spell out a selection, as in ``"cell_type=B, condition=stim"``."""
    return ", ".join(f"{f}={'|'.join(str(levels[f][i]) for i in codes)}" for f, codes in selection.items())


def parse_contrasts(contrasts: Any, levels: Mapping[str, np.ndarray], factors: Sequence[str]) -> dict[Effect, Contrast]:
    """Return named contrasts from every form in which they may be given.

    Parameters
    ----------
    contrasts
        Name -> a pair of selections (the first less the second), each a mapping from factors to a level or to several
        levels; or weights of groups, as a mapping or a Series, whose keys are tuples with one level of each factor; or
        a list of (weight, selection). None for no contrasts.
    levels
        Factor -> its levels, nuisance factors included.
    factors
        The factors that are not nuisance, whose levels make up the tuples.

    Raises
    ------
    ValueError
        If a name or a form cannot be used, a factor or a level does not exist, or the weights do not sum to zero.

    Examples
    --------
    >>> levels = {"type": np.array(["B", "T"]), "condition": np.array(["ctrl", "stim"])}
    >>> pair = ({"type": "B", "condition": "stim"}, {"type": "B", "condition": "ctrl"})
    >>> found = parse_contrasts({"stim in B": pair}, levels, ["type", "condition"])
    >>> found["stim in B",].selections
    ({'type': (0,), 'condition': (1,)}, {'type': (0,), 'condition': (0,)})
    """
    if contrasts is None:
        return {}
    if not isinstance(contrasts, Mapping):
        raise ValueError("contrasts must map names to pairs of groups, such as {'stim in B': ({...}, {...})}.")
    out = {}
    for name, given in contrasts.items():
        if not isinstance(name, str) or not name or SEPARATOR in name:
            raise ValueError(f"the contrast name {name!r} must be a text without {SEPARATOR!r}; rename it.")
        weights, selections = [], []
        for weight, item in _items(name, given, factors):
            weights.append(_number(name, weight))
            selections.append({f: _codes(name, f, level, levels) for f, level in item.items()})
        w = np.array(weights)
        size = float(np.linalg.norm(w))
        if size == 0:
            raise ValueError(f"all weights of contrast {name!r} are zero; give it others, or leave it out.")
        if abs(w.sum()) > 1e-8 * size:
            raise ValueError(
                f"the weights of contrast {name!r} sum to {w.sum():g}; they must sum to zero, not all zero."
            )
        out[Effect((name,))] = Contrast(tuple(selections), w / size)
    return out


def check_estimable(
    name: str, contrast: Contrast, whole: Table, table: Table, levels: Mapping[str, np.ndarray],
    asked: Sequence[Effect], kept: Sequence[Effect],
) -> None:  # fmt: skip
    """Refuse a contrast that needs an interaction which is not in the fit because its groups are empty.

    The contrast can be had if the means of the occupied groups give it in the model that was ``asked`` for, and the
    interactions that it needs were ``kept``, at least in part. ``whole`` is the table with all their coefficients.
    """
    acting = contrast.acting(whole, asked)
    if not np.abs(contrast.row(whole, asked)).max() > ZERO:
        raise ValueError(
            f"the contrast {name!r} is zero in a fit with {[e.name for e in asked]}, because none of these effects can "
            "contribute to it; add the interaction that it is about, or leave it out."
        )
    needed = [e for e in acting if e not in kept or e in table.estimable_parts]
    if not needed:
        return
    D, row = whole.model_matrix(asked), contrast.row(whole, asked)
    if np.linalg.norm(row @ np.linalg.pinv(D) @ D - row) > ESTIMABLE * np.linalg.norm(row):
        empty = contrast.empty(whole, levels)
        why = f"no cell has {' or '.join(empty)}" if empty else f"groups of {needed[0].name!r} that it needs are empty"
        raise ValueError(
            f"the contrast {name!r} cannot be estimated: {why}. Name occupied groups, or leave the interaction "
            f"{needed[0].name!r} out of the fit."
        )
    if lost := [e.name for e in needed if e not in kept]:
        raise ValueError(
            f"the contrast {name!r} needs the interaction {lost[0]!r}, which is left out because groups are empty; use "
            "interactions='estimable', or leave the interaction out of the fit by name."
        )


def _items(name: str, given: Any, factors: Sequence[str]) -> list[tuple[Any, Mapping[str, Any]]]:
    """Return the weights and the selections, with levels as given."""
    if isinstance(given, pd.Series):
        if set(given.index.names) == set(factors) and len(factors) > 1:
            given = given.reorder_levels(list(factors))
        given = given.to_dict()
    if isinstance(given, Mapping):
        out: list[tuple[Any, Mapping[str, Any]]] = []
        for key, weight in given.items():
            group = key if isinstance(key, tuple) else (key,)
            if len(group) != len(factors):
                raise ValueError(
                    f"contrast {name!r} names the group {key!r}; a group is a tuple with one level of each of "
                    f"{list(factors)}."
                )
            out.append((weight, dict(zip(factors, group, strict=True))))
        return out
    try:
        items = list(given)
        if len(items) == 2 and all(isinstance(side, Mapping) for side in items):
            return [(1.0, items[0]), (-1.0, items[1])]
        if items and all(len(pair) == 2 and isinstance(pair[1], Mapping) for pair in items):
            return [(weight, item) for weight, item in items]
    except TypeError:
        pass
    raise ValueError(
        f"contrast {name!r} must be a pair of mappings from factors to levels, such as ({{'condition': 'stim'}}, "
        "{'condition': 'ctrl'}), or map groups to weights."
    )


def _number(name: str, weight: Any) -> float:
    try:
        out = float(weight)
    except (TypeError, ValueError):
        out = np.nan
    if not np.isfinite(out):
        raise ValueError(f"contrast {name!r} has the weight {weight!r}; weights must be finite numbers.")
    return out


def _codes(name: str, factor: str, level: Any, levels: Mapping[str, np.ndarray]) -> tuple[int, ...]:
    """Return the codes of a level, or of several levels, of a factor."""
    if factor not in levels:
        raise ValueError(
            f"contrast {name!r} names the factor {factor!r}; the fit has {list(levels)}. Correct its name."
        )
    own = levels[factor]
    several = level if isinstance(level, list | tuple | set | np.ndarray | pd.Index) else [level]
    out = []
    for item in several:
        found = [i for i, known in enumerate(own) if known == item or str(known) == str(item)]
        found = found or [i for i, known in enumerate(own) if _same_number(known, item)]
        if not found:
            raise ValueError(
                f"contrast {name!r} names the level {item!r} of {factor!r}, which no cell has; levels are "
                f"{[str(known) for known in own]}."
            )
        out.append(found[0])
    if not out:
        raise ValueError(f"contrast {name!r} names no level of {factor!r}; name one, or leave the factor out.")
    return tuple(dict.fromkeys(out))


def _same_number(known: Any, item: Any) -> bool:
    """Whether both are the same number, one of them perhaps as text."""
    try:
        return float(known) == float(item)
    except (TypeError, ValueError):
        return False


def storable_contrasts(contrasts: Any, factors: Sequence[str]) -> dict[str, Any] | None:
    """Return contrasts in a form that files can hold, which :func:`parse_contrasts` reads again through `from_stored`.

    Every contrast is a dictionary of its items by number, each with a ``weight`` and ``levels``.
    """
    if not contrasts:
        return None
    if not isinstance(contrasts, Mapping):
        raise ValueError("contrasts must map names to pairs of groups, such as {'stim in B': ({...}, {...})}.")
    out = {}
    for name, given in contrasts.items():
        items = _items(name, given, factors)
        out[str(name)] = {
            str(i): {"weight": _number(name, weight), "levels": {f: _texts(level) for f, level in item.items()}}
            for i, (weight, item) in enumerate(items)
        }
    return out


def stored_contrasts(stored: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return contrasts that :func:`storable_contrasts` made, in a form that :func:`parse_contrasts` takes."""
    if stored is None:
        return None
    return {
        name: [(items[str(i)]["weight"], items[str(i)]["levels"]) for i in range(len(items))]
        for name, items in stored.items()
    }


def _texts(level: Any) -> list[str]:
    several = level if isinstance(level, list | tuple | set | np.ndarray | pd.Index) else [level]
    return [str(item) for item in several]
