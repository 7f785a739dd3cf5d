"""Certificates of counterfactual means: whole groups are left out of the fit and predicted.

A group is left out with all of its cells. The rest is fitted again, and the mean of the group is predicted from its
*source* groups, which differ from it in the changed factors only: the mean over them of ``y_s + m_c - m_s``, with y_s
the observed mean of source s, and m_c and m_s the means that the fit of the rest gives the left-out group and the
source. That is the mean of the counterfactual cells of :func:`flda.tl.counterfactual`. Four predictions are compared:

============  ======================================================================================================
no change     the mean of the y_s
additive      m are the values of the main effects by weighted least squares
``fitted``    m are the values of all effects of the fit that the rest identifies
``shrunken``  m are posterior means under the factorial prior, with all that the rest identifies of the effects
============  ======================================================================================================

**R2.** With y the observed mean of the left-out group, whose units give it the noise variance N_j in gene j, and yhat
a prediction, ``D = sum_j ((yhat_j - y_j)^2 - N_j)`` estimates the squared distance to the true mean. R2 is
``1 - D / D0``, where D0 is that of no change. So 1 is a perfect prediction, 0 is as good as no change, and the noise
of the left-out cells counts neither for nor against a prediction.

**Genes that differ** between the left-out group and its sources are found with one half of its units (Welch's t, false
discovery rate of 5 %) and judged with the other half, and the other way round. Otherwise the noise that selects a gene
would make no change look worse than it is.

**Standard errors** are those of a jackknife over blocks of units, up to ten, stratified by group (Kott, J. Off. Stat.
17:521, 2001). All predictions are linear in the group means. The weights, and the sizes of the prior, are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import false_discovery_control
from scipy.stats import t as student

from .._design.design import Design
from .._design.effects import Effect
from .._design.entry import checked_cells, donor_codes
from .._error.weights import group_weights
from .._logging import warn
from .._progress import each
from .._solve.prior import FactorialMeans
from ..estimators import FLDA
from ..estimators._counterfactual import counterfactual_groups
from ._block_means import BlockMeans

CERTIFIED = ("fitted", "shrunken")  # the means that can predict a group without cells
RATE = 0.05  # false discovery rate of the genes that differ
CLEAR = 2.0  # standard errors from which a difference counts
ALL_GROUPS = "all groups"
KINDS_OF_GENES = ("all", "differing")


def certify_counterfactual(
    model: FLDA,
    X,
    y,
    donor: ArrayLike | None = None,
    *,
    change: Mapping[str, Any] | str | Sequence[str],
    group_means: str | Sequence[str] = CERTIFIED,
    random_state: int | None = 0,
    n_jobs: int | None = None,
) -> pd.DataFrame:
    """Predict groups that are left out of the fit, and compare with no change and with the additive mean.

    The changed factor is known to the fit from all other groups only. What can be predicted depends on the design:

    * With two factors a group that is left out says nothing of its own interaction, and neither does any other. Then
      ``"fitted"`` *is* the additive mean, up to groups that have no cells, and ``"shrunken"`` is an additive mean that
      gives less to genes whose effects are not clear.
    * With three or more factors, interactions of fewer factors are known from the other groups, and can make a
      prediction better than the additive mean, or worse.

    Parameters
    ----------
    model
        Estimator whose effects are used. It is cloned and not changed.
    X, y
        Expression and labels, as in :meth:`flda.FLDA.fit`.
    donor
        Donor of each cell, (N,). Standard errors are then those of donors. If a factor varies between donors, donors
        are also the noise of the left-out mean, and every donor counts the same; otherwise the prediction is about the
        donors at hand.
    change
        Factor -> its level: the groups with this level are left out, one at a time. Or the name of a factor, or
        several: every group is left out.
    group_means
        The means to judge: ``"fitted"``, ``"shrunken"``, or both.
    random_state
        Seed of the assignment of units to blocks and halves.
    n_jobs
        Number of threads, as in joblib. The result does not depend on it.

    Returns
    -------
    DataFrame with one row per group, set of genes and kind of means, and rows for all groups together (sums of the
    squared distances, with standard errors by the jackknife over groups):

    * ``group``: levels joined by a colon, or ``"all groups"``; ``n_cells``, ``n_units``
    * ``genes``: ``"all"``, or ``"differing"`` for genes that differ between the group and its sources; ``n_genes``
    * ``group_means``: the kind of means
    * ``r2, se_r2``: 1 less the squared distance of the prediction over that of no change
    * ``r2_additive, se_r2_additive``: the same for the additive mean
    * ``difference, se_difference``: ``r2 - r2_additive``
    * ``reading``: what the numbers mean, in words

    R2 is NaN if the group does not differ from its sources by more than two standard errors, or cannot be predicted.
    A group of one unit has no standard errors.

    Raises
    ------
    ValueError
        If a factor or a level is unknown, or no group can be predicted without its own cells.

    Examples
    --------
    >>> from flda import FLDA
    >>> from flda.datasets import t4t5_simulated
    >>> adata = t4t5_simulated(n_obs=600, n_vars=200)
    >>> table = certify_counterfactual(FLDA(), adata.X, adata.obs[["dendrite", "axon"]], change={"dendrite": "T5"})
    >>> row = table.query("group == 'T5:a' and genes == 'differing' and group_means == 'fitted'").iloc[0]
    >>> row["reading"].split("; ")[1], float(row["difference"])
    ('the same as the additive mean', 0.0)
    """
    X, labels = checked_cells(X, y, donor)
    donors, names = donor_codes(donor, len(labels))
    kinds = [group_means] if isinstance(group_means, str) else list(group_means)
    for kind in kinds:
        if kind not in CERTIFIED:
            raise ValueError(
                f"group_means={kind!r}: a group that is left out has no observed mean; use one of {list(CERTIFIED)}."
            )
    design = model.design_of(labels)
    tasks, refused = _tasks(design, change)
    if not tasks:
        raise ValueError(f"no group can be predicted without its own cells: {refused[0][1]}.")
    data = BlockMeans.of(X, design, donors, names, random_state)
    rows, parts = [], []
    judged = each(partial(_judge, data, kinds=kinds), tasks, desc="counterfactuals", n_jobs=n_jobs, total=len(tasks))
    for found in judged:
        rows += [row for row, _ in found]
        parts += [part for _, part in found]
    for group, reason in refused:
        name = _name(design, group)
        warn(f"group {name} cannot be predicted: {reason}")
        rows += [
            {"group": name, "genes": genes, "group_means": kind, "reading": f"cannot be predicted: {reason}"}
            for kind in kinds
            for genes in KINDS_OF_GENES
        ]
    return pd.DataFrame([*rows, *_together(parts)], columns=COLUMNS)


COLUMNS = [
    "group", "genes", "group_means", "n_cells", "n_units", "n_genes", "r2", "se_r2", "r2_additive", "se_r2_additive",
    "difference", "se_difference", "reading",
]  # fmt: skip


@dataclass(frozen=True)
class _Task:
    """A group to leave out, by its index, and the indices of its sources."""

    group: int
    sources: np.ndarray


def _tasks(design: Design, change: Mapping[str, Any] | str | Sequence[str]) -> tuple[list[_Task], list[tuple]]:
    """Return the groups that can be left out, and the others with the reason."""
    groups, table = design.table.groups, design.table
    if isinstance(change, Mapping):
        targets = counterfactual_groups(design, change)
        if targets.n_levels != table.n_levels:
            raise ValueError(f"change={dict(change)} names a number that no group has, so there is nothing to judge.")
        wanted = (targets.groups == groups).all(axis=1)
        changed = list(change)
    else:
        changed = [change] if isinstance(change, str) else list(change)
        if not changed:
            raise ValueError("change names no factor; name at least one.")
        wanted = np.ones(len(groups), dtype=bool)
        for name in changed:
            if name not in table.factors:
                raise ValueError(f"change names {name!r}, which is not a factor; factors are {list(table.factors)}.")
    fixed = [j for j, f in enumerate(table.factors) if f not in changed]
    tasks: list[_Task] = []
    refused: list[tuple] = []
    if not wanted.any():
        raise ValueError(f"no group has the levels {change}.")
    for c in np.flatnonzero(wanted):
        same = (groups[:, fixed] == groups[c, fixed]).all(axis=1)
        same[c] = False
        rest = np.delete(groups, c, axis=0)
        alone = [f for j, f in enumerate(table.factors) if groups[c, j] not in rest[:, j]]
        mains = [e for e in design.contrasts if len(e) == 1]
        if alone:
            refused.append((c, f"no other group has its level of {alone[0]!r}"))
        elif not same.any():
            refused.append((c, f"no group differs from it in {' and '.join(map(repr, changed))} alone"))
        elif table.at(rest).estimable(mains) != mains:
            refused.append((c, "the other groups do not identify the main effects"))
        else:
            tasks.append(_Task(int(c), np.flatnonzero(same)))
    return tasks, refused


def _name(design: Design, group: int) -> str:
    row = design.table.groups[group]
    return ":".join(str(design.levels[f][c]) for f, c in zip(design.table.factors, row, strict=True))


def _judge(data: BlockMeans, task: _Task, kinds: list[str]) -> list[tuple[dict, tuple | None]]:
    """Return the rows of the table for one group, and what the rows for all groups need."""
    c, B = task.group, data.n_blocks
    maps = {kind: _weights(data, task, kind) for kind in ("additive", *kinds)}
    rest = np.delete(np.arange(data.design.n_groups), c)

    def predictions(G: np.ndarray) -> dict[str, np.ndarray]:
        start = G[task.sources].mean(axis=0)
        return {"no change": start} | {kind: start + np.sum(L * G[rest], axis=0) for kind, L in maps.items()}

    at = predictions(data.means)
    halves = _differing(data, task, at["no change"])
    judged = {
        "all": [_Judged(data, c, data.everything, np.ones(data.sums.shape[1], dtype=bool))],
        "differing": [_Judged(data, c, keep, use) for keep, use in halves],
    }
    distances = {
        genes: {kind: sum(j.distance(yhat) for j in of) for kind, yhat in at.items()} for genes, of in judged.items()
    }
    changes = {genes: {kind: np.zeros(B) for kind in at} for genes in judged}
    for b in range(B):
        G = data.change(b, data.everything, data.means)
        moved = predictions(G)  # predictions are linear in the means, so these are their changes
        for genes, of in judged.items():
            for j in of:
                own = j.moved(b, G[c])
                for kind in at:
                    changes[genes][kind][b] += j.change(own, at[kind], moved[kind])

    known = data.units[c] > 1
    rows = []
    for genes, of in judged.items():
        base = {
            "group": _name(data.design, c),
            "n_cells": int(data.design.counts[c]),
            "n_units": int(data.units[c]),
            "genes": genes,
            "n_genes": float(np.mean([j.n_genes for j in of])) if of else 0.0,
        }
        for kind in kinds:
            factor = (B - 1) / B if known and B > 1 else np.nan
            D0 = distances[genes]["no change"]
            unclear = not D0 > 0 or bool(CLEAR * _error(changes[genes]["no change"], factor) > D0)
            numbers = {} if unclear else _numbers(distances[genes], changes[genes], kind, factor)
            alike = bool(np.allclose(maps[kind], maps["additive"], atol=1e-9))
            part = None if unclear else (genes, kind, distances[genes], alike)
            rows.append(({**base, "group_means": kind, **numbers, "reading": _reading(numbers, alike)}, part))
    return rows


class _Judged:
    """Units of a left-out group, and genes, with which predictions are judged.

    Parameters
    ----------
    data
        All units.
    group
        The group that is left out.
    keep
        The samples to judge with; all samples of all groups stand for all of the group.
    genes
        The genes to judge.
    """

    def __init__(self, data: BlockMeans, group: int, keep: np.ndarray, genes: np.ndarray):
        self._data, self._group, self._keep, self._genes = data, group, keep, genes
        self._whole = bool(keep.all())
        means = data.means if self._whole else data.means_of(keep)
        self._means, self._y = means, means[group]
        self._noise = data.variances[group] / data.units_in(keep)[group]
        self.n_genes = int(genes.sum())

    def distance(self, yhat: np.ndarray) -> float:
        """Estimate the squared distance of a prediction, (p,), to the true mean."""
        return float(np.sum(((yhat - self._y) ** 2 - self._noise)[self._genes]))

    def moved(self, b: int, of_group: np.ndarray) -> np.ndarray:
        """Return how the mean changes if the block b is left out; ``of_group`` is the change with all units, (p,)."""
        return of_group if self._whole else self._data.change(b, self._keep, self._means)[self._group]

    def change(self, own: np.ndarray, yhat: np.ndarray, moved: np.ndarray) -> float:
        """Compute how a distance changes if the mean moves by ``own`` and the prediction by ``moved``."""
        error = (yhat - self._y)[self._genes]
        return float(np.sum((error + (moved - own)[self._genes]) ** 2 - error**2))


def _weights(data: BlockMeans, task: _Task, kind: str) -> np.ndarray:
    """Compute the weights of the means of the other groups in ``m_c - m_s``, averaged over sources.

    ``kind`` is ``"additive"``, ``"fitted"`` or ``"shrunken"``. The weights are (C - 1) x 1, or (C - 1) x p if they
    depend on the gene.
    """
    design, effects = data.design, list(data.design.contrasts)
    others = np.delete(np.arange(design.n_groups), task.group)
    whole = replace(design.table, estimable_parts={})
    table = whole.at(whole.groups[others])
    G, units = data.means[others], data.units[others]
    df = np.maximum(units - 1, 0)
    pooled = df @ data.variances[others] / max(df.sum(), 1)
    kept: Sequence[Effect] = [e for e in effects if len(e) == 1]
    if kind == "fitted":
        kept = table.estimable(effects)
    elif kind == "shrunken":
        kept, table = table.estimable_in_part(effects)
    row = table.at(whole.groups[[task.group]]).model_matrix(kept)[0]
    row = row - table.at(whole.groups[task.sources]).model_matrix(kept).mean(axis=0)
    if kind == "shrunken":
        own = replace(design, table=table, contrasts=table.contrasts(kept), counts=design.counts[others])
        noise = np.maximum(pooled, 1e-6 * (pooled.mean() or 1.0)) / units[:, None]
        return FactorialMeans.fit(G, noise, own).weights(row)
    return (row @ table.coefficients(kept, group_weights(table, kept, G, pooled, 1 / units)))[:, None]


def _differing(data: BlockMeans, task: _Task, start: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return each half of the units with the genes that the other half finds; empty if there are too few units.

    ``start`` is the mean of the sources, (p,), with which the group is compared by Welch's t.
    """
    c, S, v = task.group, task.sources, data.variances
    own = np.flatnonzero(data.samples.groups == c)
    own = own[np.argsort(data.block[own], kind="stable")]
    found = []
    for h in range(2):
        finds, judges = np.zeros((2, len(data.block)), dtype=bool)
        finds[own[h::2]], judges[own[1 - h :: 2]] = True, True
        n = data.units_in(finds)[c]
        if min(n, data.units_in(judges)[c]) < 2:
            return []
        parts = np.vstack([v[[c]] / n, v[S] / data.units[S][:, None] / len(S) ** 2])
        df = np.maximum(np.r_[n, data.units[S]] - 1, 1)[:, None]
        total = parts.sum(axis=0)
        difference = np.abs(data.means_of(finds)[c] - start)
        p = np.ones(len(total))
        real = total > 0
        p[real] = 2 * student.sf(
            difference[real] / np.sqrt(total[real]), total[real] ** 2 / np.sum(parts**2 / df, axis=0)[real]
        )
        use = false_discovery_control(p) < RATE
        if use.any():
            found.append((judges, use))
    return found


def _numbers(
    distances: Mapping[str, float], changes: Mapping[str, np.ndarray], kind: str, factor: float
) -> dict[str, float]:
    """Return R2 of a kind of means and of the additive mean, their difference, and standard errors.

    ``factor`` times the sum of the squares of ``changes`` is a variance.
    """
    D0 = distances["no change"]
    ratio = {k: distances[k] / D0 for k in (kind, "additive")}
    # the linear part of the change of a ratio, which has no long tails
    moved = {k: (changes[k] - ratio[k] * changes["no change"]) / D0 for k in ratio}
    return {
        "r2": 1 - ratio[kind],
        "se_r2": _error(moved[kind], factor),
        "r2_additive": 1 - ratio["additive"],
        "se_r2_additive": _error(moved["additive"], factor),
        "difference": ratio["additive"] - ratio[kind],
        "se_difference": _error(moved[kind] - moved["additive"], factor),
    }


def _error(changes: np.ndarray, factor: float) -> float:
    """Return the standard error; the mean of the changes is the bias of a square, which is no part of it."""
    return float(np.sqrt(factor * np.sum((changes - changes.mean()) ** 2)))


def _reading(numbers: Mapping[str, float], alike: bool) -> str:
    """Say what the numbers of one row mean."""
    if not numbers:
        return "nothing to predict: the group does not differ clearly from its sources"
    r2, se, more, se_more = (numbers[k] for k in ("r2", "se_r2", "difference", "se_difference"))
    if not np.isfinite(se):
        return "too few units or groups for a standard error"
    return f"{_than(r2, se)} no change; {'the same as' if alike else _than(more, se_more)} the additive mean"


def _than(value: float, se: float) -> str:
    return "better than" if value > CLEAR * se else "worse than" if value < -CLEAR * se else "no better than"


def _together(parts: list[tuple | None]) -> list[dict]:
    """Return the rows for all groups together, with standard errors by the jackknife over groups."""
    rows = []
    known = [part for part in parts if part is not None]
    for genes, kind in dict.fromkeys((genes, kind) for genes, kind, *_ in known):
        own = [(d, alike) for g, k, d, alike in known if (g, k) == (genes, kind)]
        m, names = len(own), list(own[0][0])
        distances = {name: sum(d[name] for d, _ in own) for name in names}
        changes = {name: np.array([-d[name] for d, _ in own]) for name in names}
        numbers = _numbers(distances, changes, kind, m / (m - 1) if m > 2 else np.nan)
        reading = _reading(numbers, all(alike for _, alike in own))
        rows.append({"group": ALL_GROUPS, "genes": genes, "group_means": kind, **numbers, "reading": reading})
    return rows
