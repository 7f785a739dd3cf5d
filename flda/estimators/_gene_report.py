"""The gene report: what every selected gene contributes to its axis."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from .._design.design import Design
from .._design.effects import Effect
from ..metrics import largest_signs, significant, specificity

COLLINEAR = 1e-9  # two genes are collinear if their absolute within-group correlation is above 1 less this


def gene_report(
    axes: pd.DataFrame,
    U: np.ndarray,
    ratios: pd.DataFrame,
    *,
    within_sd: np.ndarray,
    patterns: np.ndarray,
    scatter_sd: np.ndarray,
    means: np.ndarray,
    design: Design,
    names: np.ndarray | None,
    rows: Callable[[np.ndarray], np.ndarray],
    shrinkage: float,
) -> pd.DataFrame:
    """Describe every selected gene: one row per axis and gene with a non-zero loading, the largest score first.

    Parameters
    ----------
    axes
        One row per axis, with columns ``axis`` and ``effect``.
    U
        Loadings, p x k.
    ratios
        F ratio of every gene for every effect.
    within_sd
        Within-group standard deviation of each gene, (p,).
    patterns
        Correlation of each gene with each axis, k x p.
    scatter_sd
        Root of the diagonal of M_e, (p,).
    means
        Group means, C x p.
    design
        The design of the groups.
    names
        Names of the genes. None uses their indices.
    rows
        Function that returns rows of M_e(g) for some genes, from which collinear genes are found.
    shrinkage
        The g of these rows.

    Returns
    -------
    DataFrame with the columns of ``SparseFLDA.gene_report_``.
    """
    names = np.arange(len(U)) if names is None else np.asarray(names)
    signs = largest_signs(U * within_sd[:, None])
    tables = []
    for j, (axis, effect) in enumerate(zip(axes["axis"], axes["effect"], strict=True)):
        genes = np.flatnonzero(U[:, j])
        score = signs[j] * U[genes, j] * within_sd[genes]
        order = np.lexsort((names[genes].astype(str), -np.abs(score)))
        genes, score = genes[order], score[order]
        own = next(e for e in design.effects if e.name == effect)
        rivals = [effect, *(e.name for e in design.others(own))]
        share, kind = specificity(ratios.iloc[genes][rivals], effect, {e.name: design.df(e) for e in design.judged})
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
                    "pattern": signs[j] * patterns[j, genes],
                    **{f"F_{e}": ratios[e].to_numpy()[genes] for e in ratios},
                    "significant": significant(ratios[effect].iloc[genes], design.df(own)),
                    "specificity": share,
                    "kind": kind,
                    "collinear": _collinear(genes, rows(genes), shrinkage, scatter_sd, means, names),
                    **_level_means(own, means[:, genes], design),
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def _level_means(effect: Effect, means: np.ndarray, design: Design) -> dict[str, np.ndarray]:
    """Average the group means over every occupied combination of the levels of an effect, or side of a contrast."""
    return {f"mean_{name}": means[groups].mean(axis=0) for name, groups in design.sides(effect).items() if groups.any()}


def _collinear(genes, rows, shrinkage, within_sd, means, names) -> list[tuple]:
    """Return, for every gene, the names of the other genes that are a multiple of it.

    A gene is a multiple of another one if the two are perfectly correlated within groups and have proportional group
    means, both with the same sign.
    """
    if shrinkage == 1:
        return [()] * len(genes)  # at g = 1 the rows are those of T, which hold no correlations
    sd = np.where(within_sd > 0, within_sd, np.inf)
    profiles = (means - means.mean(axis=0)) / sd  # group means in units of the within-group standard deviation
    size = np.linalg.norm(profiles, axis=0)
    out = []
    for i, row in zip(genes, rows, strict=True):
        r = row / ((1 - shrinkage) * sd[i] * sd)  # correlations: the shrinkage only changes the diagonal of M_e
        r[i] = 0
        near = np.flatnonzero(np.abs(r) >= 1 - COLLINEAR)
        gap = np.linalg.norm(profiles[:, near] - np.sign(r[near]) * profiles[:, [i]], axis=0)
        out.append(tuple(names[near[gap <= 1e-6 * size[i]]].tolist()))
    return out
