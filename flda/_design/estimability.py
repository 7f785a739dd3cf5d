"""Which effects the occupied groups identify: a report, and messages that say what is missing and what would help."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.sparse.csgraph import connected_components

from .effects import Effect
from .table import Table

MOST_NAMED = 5  # empty groups that a message names


def report(
    table: Table, levels: Mapping[str, np.ndarray], effects: Sequence[Effect], kept: Sequence[Effect],
    noise: Sequence[Effect] = (),
) -> pd.DataFrame:  # fmt: skip
    """Describe each effect in one row of a table: ``effect, df, estimable, left_out, missing, reason``.

    ``df`` are the degrees of freedom in the fit, or those that the effect would have had, and ``left_out`` those that
    cannot be estimated. ``missing`` names the empty groups (those of numeric factors only if they matter). ``reason``
    says why an effect cannot be estimated, or only in part, and what would make it estimable; it is empty if nothing is
    left out. Effects that are ``noise`` are left out because single units leave nothing else to measure it.
    """
    rows = []
    for effect in effects:
        whole = int(np.prod([table.basis(name).shape[1] for name in effect]))
        df = table.df(effect)
        left_out = whole - df if effect in kept else whole
        # a curve over numbers needs few of their combinations
        concerns = left_out > 0 or not any(name in table.parts for name in effect)
        names = group_names(table, levels, effect, table.missing(effect)) if concerns else []
        reason = _reason(table, levels, effect, names) if left_out else ""
        if effect in noise:
            reason = "no group has two units, so it is part of the noise; measure some groups twice"
        if left_out and effect in kept:
            reason = f"{left_out} of {whole} degrees of freedom are left out, because {reason}"
        rows.append(
            {
                "effect": effect.name,
                "df": df,
                "estimable": effect in kept,
                "left_out": left_out,
                "missing": ", ".join(names),
                "reason": reason,
            }
        )
    return pd.DataFrame(rows)


def group_names(table: Table, levels: Mapping[str, np.ndarray], effect: Effect, rows: np.ndarray) -> list[str]:
    """Return names such as ``"T4 x a"`` for rows of level codes of the factors of an effect."""
    factors = table.factors_of(effect)
    return [" x ".join(str(levels[f][i]) for f, i in zip(factors, row, strict=True)) for row in rows]


def _reason(table: Table, levels: Mapping[str, np.ndarray], effect: Effect, missing: Sequence[str]) -> str:
    """Say why an effect cannot be estimated as a whole, and what would make it estimable."""
    if not missing:
        return "the occupied groups confound it with the other effects; leave some of them out"
    n_all = int(np.prod([len(levels[f]) for f in table.factors_of(effect)]))
    listed = ", ".join(missing[:MOST_NAMED]) + (", ..." if len(missing) > MOST_NAMED else "")
    found = _level_to_drop(table, effect)
    if found is None:
        mend = "fill them or drop levels until none is empty"
    else:
        factor, code = found
        mend = f"without level {str(levels[factor][code])!r} of {factor!r} none would be"
    return f"{len(missing)} of {n_all} groups are empty ({listed}); {mend}"


def _level_to_drop(table: Table, effect: Effect) -> tuple[str, int] | None:
    """Return the factor and the level without which no group of an effect is empty, or None if there is none.

    Of several such levels it is the one with the fewest groups.
    """
    factors, missing = table.factors_of(effect), table.missing(effect)
    found: list[tuple[int, str, int]] = []
    for j, factor in enumerate(factors):
        codes = np.unique(missing[:, j])
        if len(codes) == 1 and table.n_levels[table.factors.index(factor)] > 2:
            n_groups = int(np.sum(table.groups[:, table.factors.index(factor)] == codes[0]))
            found.append((n_groups, factor, int(codes[0])))
    if not found:
        return None
    _, factor, code = min(found, key=lambda f: f[0])
    return factor, code


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
    factors = list(dict.fromkeys(table.factor(name) for (name,) in lost))
    for a, b in itertools.permutations(factors, 2):
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
    for a, b in itertools.combinations(factors, 2):
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
