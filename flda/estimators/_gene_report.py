"""What every selected gene does."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pandas as pd

from .._design.design import Design
from .._design.effects import Effect
from ..metrics._genes import gene_f, largest_signs, specificity

COLLINEAR = 1e-9  # genes whose correlation within groups misses 1 by less carry the same information


def gene_report(
    axes: pd.DataFrame,
    U: np.ndarray,
    *,
    within_sd: np.ndarray,
    means: np.ndarray,
    design: Design,
    names: np.ndarray | None,
    rows: Callable[[np.ndarray], np.ndarray],
    shrinkage: float,
) -> pd.DataFrame:
    """What every selected gene does: one row per axis and gene with a non-zero loading, largest score first.

    Parameters
    ----------
    axes
        Row per axis, with ``axis`` and ``effect``.
    U
        Loadings, p x k.
    within_sd
        Within-group standard deviation, (p,).
    means
        Group means, C x p.
    design
        The design of the groups.
    names
        Gene names; indices if None.
    rows
        Gives rows of the shrunken within scatter, for the collinear genes.
    shrinkage
        The g in those rows.

    Returns
    -------
    The columns of ``SparseFLDA.gene_report_``.
    """
    ratios = gene_f(means, within_sd**2, design)
    names = np.arange(len(U)) if names is None else np.asarray(names)
    signs = largest_signs(U * within_sd[:, None])
    tables = []
    for j, (axis, effect) in enumerate(zip(axes["axis"], axes["effect"], strict=True)):
        genes = np.flatnonzero(U[:, j])
        score = signs[j] * U[genes, j] * within_sd[genes]
        order = np.lexsort((names[genes].astype(str), -np.abs(score)))
        genes, score = genes[order], score[order]
        share, kind = specificity(ratios.iloc[genes], effect)
        own = next(e for e in design.effects if e.name == effect)
        tables.append(
            pd.DataFrame(
                {
                    "axis": axis,
                    "effect": effect,
                    "rank": np.arange(1, len(genes) + 1),
                    "gene": names[genes],
                    "score": score,
                    "loading": signs[j] * U[genes, j],
                    "within_sd": within_sd[genes],
                    **{f"F_{e}": ratios[e].to_numpy()[genes] for e in ratios},
                    "specificity": share,
                    "kind": kind,
                    "collinear": _collinear(genes, rows(genes), shrinkage, within_sd, means, names),
                    **_level_means(own, means[:, genes], design),
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def _level_means(effect: Effect, means: np.ndarray, design: Design) -> dict[str, np.ndarray]:
    """Mean of the group means at every occupied combination of the levels of an effect."""
    margin = design.table.margin(effect)
    out = {}
    for levels in itertools.product(*(range(len(design.levels[f])) for f in effect)):
        rows = (margin == levels).all(axis=1)
        if rows.any():
            name = ":".join(str(design.levels[f][i]) for f, i in zip(effect, levels, strict=True))
            out[f"mean_{name}"] = means[rows].mean(axis=0)
    return out


def _collinear(genes, rows, shrinkage, within_sd, means, names) -> list[tuple]:
    """For every gene the names of the others that are a multiple of it, in noise and in group means."""
    if shrinkage == 1:
        return [()] * len(genes)  # the rows hold no correlations
    sd = np.where(within_sd > 0, within_sd, np.inf)
    profiles = (means - means.mean(axis=0)) / sd
    size = np.linalg.norm(profiles, axis=0)
    out = []
    for i, row in zip(genes, rows, strict=True):
        r = row / ((1 - shrinkage) * sd[i] * sd)
        r[i] = 0
        near = np.flatnonzero(np.abs(r) >= 1 - COLLINEAR)
        gap = np.linalg.norm(profiles[:, near] - np.sign(r[near]) * profiles[:, [i]], axis=0)
        out.append(tuple(names[near[gap <= 1e-6 * size[i]]].tolist()))
    return out
