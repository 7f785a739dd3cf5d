"""Held-out certificates: what an axis shows on cells that it was not fitted on."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
import pandas as pd
from sklearn.base import clone

from ._progress import progress
from .arrays import group_sums
from .design import Design, effect_name, make_design
from .estimators import FLDA, label_frame
from .shrinkage import folds

logger = logging.getLogger(__name__)


def certify(model: FLDA, X, y, groups=None, *, n_folds: int = 5, random_state: int | None = 0) -> pd.DataFrame:
    """Held-out signal and cross-talk of every axis, by cross-validation of the whole fit.

    Each fold refits the model, tuning included, without its cells, and scores those cells. On the held-out
    scores of an axis the variance of every effect is estimated from the group means, less what noise alone adds
    to it, and divided by the within-group variance. Averages over folds; an unbiased estimate of zero may be
    negative and is reported so.

    Parameters
    ----------
    model
        Estimator with the parameters to certify; it is cloned, never changed.
    X, y, groups
        As in :meth:`FLDA.fit`. With ``groups`` (donors) whole donors are held out.
    n_folds, random_state
        Number of folds and seed of their choice.

    Returns
    -------
    DataFrame with one row per axis: ``axis, effect, component, snr`` (own effect over within variance), ``crosstalk``
    (sum over the other effects), ``snr_<effect>`` for every effect in the fit, ``n_folds`` that could be used. NaN
    where no fold could estimate an effect.

    Examples
    --------
    >>> from flda.datasets import t4t5_simulated
    >>> adata = t4t5_simulated(n_obs=600, n_vars=200)
    >>> table = certify(FLDA(shrinkage=0.2), adata.X, adata.obs[["dendrite", "axon"]])
    >>> table.loc[0, "axis"], bool(table.loc[0, "snr"] > 10 * abs(table.loc[0, "crosstalk"]))
    ('dendrite_1', True)
    """
    table = certify_together({"": model}, X, y, groups, n_folds=n_folds, random_state=random_state)
    return table.drop(columns="genes")


def certify_together(
    models: Mapping[str, FLDA], X, y, groups=None, *, n_folds: int = 5, random_state: int | None = 0
) -> pd.DataFrame:
    """Certificates of several models of one design, on the same folds.

    Models with the same ``shrinkage`` setting share its value within a fold: it is tuned once, on the fold's training
    cells, instead of once for each model with the same result.

    Parameters
    ----------
    models
        Name -> estimator; interactions and nuisance must be the same in all.
    X, y, groups, n_folds, random_state
        As in :func:`certify`.

    Returns
    -------
    The columns of :func:`certify` after ``axis`` and ``genes``, the name of the model.
    """
    labels = label_frame(y)[0]
    donors = None if groups is None else pd.factorize(np.asarray(groups), sort=True)[0]
    first = next(iter(models.values()))
    design = make_design(labels, interactions=first.interactions, nuisance=first.nuisance)
    tables: dict[str, list[pd.DataFrame]] = {name: [] for name in models}
    n_used = 0
    split = folds(design, donors, random_state, n_folds)
    for train, test in progress(split, desc="certificate", total=n_folds):
        held_out = design.subset(test)
        if design.subset(train) is None or held_out is None or len(test) == held_out.n_groups:
            continue
        n_used += 1
        tuned: dict[object, float] = {}
        for name, model in models.items():
            own = clone(model).set_params(shrinkage=tuned.get(model.shrinkage, model.shrinkage))
            own.fit(X[train], labels.iloc[train], None if donors is None else donors[train])
            tuned[model.shrinkage] = own.shrinkage_
            ratios = effect_snr(own.transform(X[test]), held_out)
            tables[name].append(pd.DataFrame(ratios).set_axis(own.get_feature_names_out(), axis=0))
    if n_used == 0:
        raise ValueError(
            f"no fold of {n_folds} keeps every effect estimable both among the cells kept and held out; "
            "use fewer folds, fewer interactions, or more cells (donors) per group."
        )
    if n_used < n_folds:
        logger.warning("certificate from %d folds; the others lack groups that the effects need", n_used)
    of_axis = {
        f"{effect_name(e)}_{c + 1}": (effect_name(e), c + 1) for e in design.effects for c in range(design.df(e))
    }
    rows = []
    for name, parts in tables.items():
        for axis, snr in pd.concat(parts).groupby(level=0, sort=False).mean().iterrows():
            effect, component = of_axis[str(axis)]
            rows.append(
                {
                    "axis": axis,
                    "genes": name,
                    "effect": effect,
                    "component": component,
                    "snr": snr[effect],
                    "crosstalk": snr.sum() - snr[effect],
                    **{f"snr_{other}": value for other, value in snr.items()},
                    "n_folds": n_used,
                }
            )
    return pd.DataFrame(rows)


def effect_snr(scores: np.ndarray, design: Design) -> dict[str, np.ndarray]:
    """Variance of every effect in the group means of the scores (n, k), over their within-group variance.

    The mean square ``m' Q_S m`` of effect S expects ``sum_c Q_S[c, c] v_c / n_c`` from noise alone, which is
    subtracted; v_c is the group's own variance, or the pooled one in a group of one cell. The divisor is the
    mean of v_c over groups.
    """
    n = design.counts[:, None]
    means = group_sums(scores, design.codes, design.n_groups) / n
    squares = group_sums((scores - means[design.codes]) ** 2, design.codes, design.n_groups)
    pooled = squares.sum(axis=0) / (n.sum() - len(n))
    v = np.where(n > 1, squares / np.maximum(n - 1, 1), pooled)
    out: dict[str, np.ndarray] = {}
    for effect in design.contrasts:
        Q = design.scatter_weights(effect)
        variance = np.einsum("ck,cd,dk->k", means, Q, means) - np.diag(Q) @ (v / n)
        out[effect_name(effect)] = variance / v.mean(axis=0)
    return out
