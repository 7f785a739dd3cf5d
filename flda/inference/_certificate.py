"""Held-out certificates: what an axis shows on cells, or donors, that it was not fitted on.

Symbols are those of :mod:`flda.metrics` (file ``_ratios.py``), which derives the correction. Every fold f fits its axes
without its own cells and scores these. From the scores follow N_f, the mean square of an effect without noise, and V_f,
the variance within groups. The certificate is ``(1 - rho) sum_f N_f / sum_f V_f - kappa``, where rho and kappa correct
for the noise of the denominator. It is one ratio of sums, because a mean of ratios ``N_f / V_f`` is dominated by folds
whose V_f happens to be small.

**Scale.** An axis can be multiplied by any number without changing N_f / V_f, but the sums need a common scale. Each
axis is scaled such that its standardised loadings (loading times the standard deviation of the gene within groups) have
a sum of squares of 1. The variances of the genes are averaged over the training sets, so all folds use the same ones.
The unit within-group variance that an axis has in its own training cells is not used, because the training cells vary
more if the held-out cells happen to vary less. Ratio and weight of a fold would then depend on each other.

**Pooled scores.** If no folds hold out two units of every group, the scores of all folds are pooled, and N and V are
computed once from the pooled scores. The axes of a fold are first rotated, within each effect, to those of the fit to
all cells: the rotation R maximises ``trace(R' U_f' M_e(g) U)``, where U_f and U are the axes of the fold and of the
fit, and M_e(g) is the shrunken covariance within groups of all cells. For a single axis this chooses its sign. The
rotation does not look at group means, because these contain the held-out cells. The scores are then centred at the
grand mean of the group means of all cells. With more genes than cells the pooled scores of different folds are not
quite independent: the axes of one fold were fitted on the cells of the others. The estimate for an absent effect can
then be too large by up to about the noise of the means, ``sum_c Q_cc / n_c``.

**Three donors** in a group that have all levels: the folds overlap, and each holds out two thirds of the donors. The
products within a fold are as unbiased as those of disjoint folds. The variance estimates of different folds share
donors, so rho and kappa are half as large again: three pairs of three donors have two degrees of freedom, not three.

**Standard errors** come from the jackknife: leave out one fold (one unit if units are left out one at a time), and take
the spread of the estimates from the scores of the others. The ratio is replaced by its linear part, because ratios of
few cells have long tails. The fits are not repeated for this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
import pandas as pd
from joblib import hash as hash_of
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.metrics import recall_score

from .._design.design import Design
from .._design.effects import Effect
from .._design.entry import checked_cells, donor_codes
from .._design.splits import HoldOut, Split, hold_out
from .._logging import get_logger, quiet
from .._progress import each
from ..estimators import FLDA
from ..estimators._flda import SOLVE
from ..estimators._prepare import refuse_donors
from ..estimators._solved import Solved
from ..metrics._ratios import RatioSums
from ._alignment import Alignment

logger = get_logger(__name__)

OVERLAP = 1.5  # three pairs of three donors give a variance 2 degrees of freedom, where three separate pairs give it 3


def certify(
    model: FLDA,
    X,
    y,
    donor: ArrayLike | None = None,
    *,
    n_folds: int = 5,
    n_repeats: int = 1,
    random_state: int | None = 0,
    n_jobs: int | None = None,
) -> pd.DataFrame:
    """Estimate the held-out signal-to-noise ratio (SNR), cross-talk and accuracy of every axis by cross-validation.

    Each fold repeats the whole fit, tuning included, without its cells, and then scores these cells. From the held-out
    scores on an axis, the mean square of every effect is estimated without bias, summed over folds, and divided by the
    sum of the variances within groups. The ratio is corrected for the noise of the denominator. With folds it is
    nearly unbiased; pooled scores are less accurate (see below). The estimate for an effect that is zero may be
    negative; it is reported as it is.

    Every fold holds out two units (cells, or whole donors) or more of every group. Where that is impossible, for
    example with two or three replicates per group, one unit is left out at a time and the held-out scores are pooled;
    with more than 40 units, shares of all groups are left out in ``n_folds`` folds. The column ``scheme`` and a log
    message say which was done.
    If the noise is what the effects leave (``error="residual"``), every unit is left out once, alone if there are no
    more than 40 units or no more than ``n_folds``, and the variance within groups is that of what the effects leave of
    the pooled scores.
    A pooled ratio understates strong effects and, with many genes, overstates absent ones. A cell that is alone in
    its group is never held out: it takes part in every fit, and the certificate says nothing about its group.

    Parameters
    ----------
    model
        Estimator with the parameters to certify. It is cloned and not changed.
    X, y
        Expression and labels, as in :meth:`FLDA.fit`.
    donor
        Donor of each cell, (N,), as ``groups`` of :meth:`FLDA.fit`. Whole donors are then held out, and only products
        of different donors are used, so that nothing the cells of a donor share counts as an effect.
    n_folds
        The largest number of folds. Fewer are used if they would hold out less than two units of a group.
    n_repeats
        Number of times that the cells are assigned to folds. One unit at a time needs no repeats.
    random_state
        Seed of these assignments.
    n_jobs
        Number of threads, as in joblib. The result does not depend on it.

    Returns
    -------
    DataFrame with one row per axis:

    * ``axis, effect, component``
    * ``snr``: the SNR of the effect of the axis
    * ``crosstalk``: the sum of the SNR of all other effects; for a named contrast, of the effects that cannot
      contribute to it
    * ``snr_<effect>``: the SNR of every effect in the fit and of every named contrast
    * ``se_snr, se_crosstalk``: standard errors of the estimates, by the jackknife over folds, or over units if they are
      left out one at a time. They describe the noise of the held-out units. Two folds give a rough value; more repeats
      make it more precise
    * ``accuracy``: balanced accuracy with which all axes of the effect predict the levels of its factors; each held-out
      cell gets the levels whose fitted value in the training cells is nearest
    * ``chance``: one over the number of levels (for an interaction, of combinations of levels; 1/2 for a contrast,
      whose accuracy is that of telling the cells of its two sides apart)
    * ``scheme``: ``"folds"`` or ``"pooled"``
    * ``n_folds, n_repeats``: the number of folds that were used in each repeat, and of repeats

    A value is NaN if the held-out scores do not vary within groups.

    Raises
    ------
    ValueError
        If no unit can be held out without losing an effect, for example because all groups of an interaction have one
        cell. The message names the groups.

    Examples
    --------
    >>> from flda.datasets import t4t5_simulated
    >>> adata = t4t5_simulated(n_obs=600, n_vars=200)
    >>> table = certify(FLDA(shrinkage=0.2), adata.X, adata.obs[["dendrite", "axon"]])
    >>> table.loc[0, "axis"], bool(table.loc[0, "snr"] > 10 * abs(table.loc[0, "crosstalk"]))
    ('dendrite_1', True)
    """
    options = {"n_folds": n_folds, "n_repeats": n_repeats, "random_state": random_state, "n_jobs": n_jobs}
    return certify_together({"": model}, X, y, donor, **options).drop(columns="genes")  # type: ignore[arg-type]


def certify_together(
    models: Mapping[str, FLDA],
    X,
    y,
    donor: ArrayLike | None = None,
    *,
    n_folds: int = 5,
    n_repeats: int = 1,
    random_state: int | None = 0,
    n_jobs: int | None = None,
) -> pd.DataFrame:
    """Certify several models of one design on the same folds.

    Models with the same ``shrinkage`` setting share its value within a fold: it is tuned for the first of them, on the
    training cells of the fold.

    Parameters
    ----------
    models
        Name -> estimator. Interactions and nuisance must be the same in all.
    X, y, donor, n_folds, n_repeats, random_state, n_jobs
        As in :func:`certify`.

    Returns
    -------
    DataFrame with the columns of :func:`certify` and, after ``axis``, the column ``genes`` with the name of the model.
    """
    X, labels = checked_cells(X, y, donor)
    donors, _ = donor_codes(donor, len(labels))
    first = next(iter(models.values()))
    design = first.design_of(labels)
    refuse_donors(design, donors)
    plan = hold_out(design, donors, random_state, n_folds, n_repeats)
    if plan.scheme == "pooled" or plan.n_folds != n_folds:
        logger.info("certificate: %s", plan.reason)
    whole: dict[str, FLDA] = {}
    if plan.scheme == "pooled":
        whole = {name: _fit_to_all(model, X, labels, donors) for name, model in models.items()}
    alignments = {name: Alignment(model, X, design) for name, model in whole.items()}
    found: dict[str, list[pd.DataFrame]] = {name: [] for name in models}

    def judged(split: Split) -> dict[str, _Part]:
        """Fit every model without the held-out cells of a fold, and score these cells."""
        tuned: list[tuple[FLDA, Solved]] = []
        out = {}
        for name, model in models.items():
            own = _fit_in_fold(model, split, X, labels, tuned)
            rotation, centre = None, None
            if name in alignments:
                rotation, centre = alignments[name].rotation(own), whole[name].means_.mean(axis=0)
            out[name] = _Part.of(own, split, X, rotation, centre)
        return out

    for splits in plan.splits:
        folds = list(each(judged, splits, desc="certificate", n_jobs=n_jobs, total=plan.n_folds))
        parts = {name: [fold[name] for fold in folds] for name in models}
        for name, of_model in parts.items():
            found[name].append(_estimate(of_model, design, donors, plan))
    tables = []
    for name, of_repeats in found.items():
        mean = pd.concat(of_repeats).groupby(level=0, sort=False).mean()
        tables.append(_table(name, mean, design))
    table = pd.concat(tables, ignore_index=True)
    return table.assign(scheme=plan.scheme, n_folds=plan.n_folds, n_repeats=n_repeats)


@dataclass(frozen=True)
class _Part:
    """What one fold says about the cells that it held out.

    Attributes
    ----------
    split
        The fold.
    axes
        Names of the axes.
    scores
        Scores of the held-out cells in units of the training metric, (n, k), rotated and centred if they are pooled.
    loadings, variances
        Axes (p x k, rotated in the same way), and variance of every gene within groups of the training cells, (p,).
    predicted
        Effect name -> predicted levels of its factors, one row per held-out cell.
    """

    split: Split
    axes: np.ndarray
    scores: np.ndarray
    loadings: np.ndarray
    variances: np.ndarray
    predicted: dict[str, np.ndarray]

    @classmethod
    def of(cls, model: FLDA, split: Split, X, rotation: np.ndarray | None, centre: np.ndarray | None) -> _Part:
        """Score the held-out cells of a fold with its model, which was fitted without them."""
        scores, loadings = model.transform(X[split.test]), model.components_.T
        predicted = _predicted(model, scores)
        if rotation is not None and centre is not None:
            scores = (scores - model.transform(centre[None])) @ rotation
            loadings = loadings @ rotation
        return cls(split, model.get_feature_names_out(), scores, loadings, model.within_sd_**2, predicted)


def _fit_in_fold(model: FLDA, split: Split, X, labels: pd.DataFrame, tuned: list[tuple[FLDA, Solved]]) -> FLDA:
    """Fit a clone on the training cells, with the shrinkage and, if possible, the solve of an earlier model.

    ``tuned`` holds the models fitted in this fold, with their solves, and gets this one.
    """
    shrinkage, like = model.shrinkage, None
    for earlier, solved in reversed(tuned):
        if earlier.shrinkage == model.shrinkage:
            shrinkage = solved.g
            alike = (hash_of(getattr(earlier, name)) == hash_of(getattr(model, name)) for name in SOLVE)
            like = solved if all(alike) else like
    with quiet():
        own = clone(model).set_params(shrinkage=shrinkage)
        tuned.append((model, own._fit(own._prepare(*split.training_data(X, labels)), like, axes_only=True)))
    return own


def _fit_to_all(model: FLDA, X, labels: pd.DataFrame, donors: np.ndarray | None) -> FLDA:
    """Fit a clone on all cells; the fit has been logged before, or is none of the user's."""
    with quiet():
        return clone(model).fit(X, labels, donors)


def _estimate(parts: Sequence[_Part], design: Design, donors: np.ndarray | None, plan: HoldOut) -> pd.DataFrame:
    """Estimate SNR, standard errors and accuracy from the folds of one repeat, with one row per axis."""
    variances = np.mean([part.variances for part in parts], axis=0)
    scores = []
    for part in parts:
        length = np.sqrt(np.einsum("jk,j,jk->k", part.loadings, variances, part.loadings))
        scores.append(part.scores / np.where(length > 0, length, 1))
    # An axis of perfect markers has no variance within groups. Its scores are in units of the shrinkage target, and V
    # is then what it would be if one cell had a typical deviation.
    least = 1 / len(design.codes)
    folds = range(len(parts))
    without = [[k for k in folds if k != out] for out in folds]  # the folds that remain if one is left out
    if plan.scheme == "pooled":
        cells = [part.split.test for part in parts]

        def sums(kept: Sequence[int]) -> RatioSums | None:
            chosen = np.concatenate([cells[k] for k in kept])
            of_them = design.subset(chosen)
            if of_them is None:
                return None
            return RatioSums.of(
                np.concatenate([scores[k] for k in kept]), of_them, None if donors is None else donors[chosen]
            ).at_least(least)

    else:
        each = [
            RatioSums.of(s, part.split.held_out, None if donors is None else donors[part.split.test])  # type: ignore[arg-type]
            for s, part in zip(scores, parts, strict=True)
        ]

        def sums(kept: Sequence[int]) -> RatioSums | None:
            total = reduce(add, [each[k] for k in kept]) / len(kept)
            total = total.correlated(OVERLAP) if plan.overlapping and len(kept) > 1 else total
            return total.at_least(least)

        if plan.overlapping:  # fold k holds out all parts but part k, so without part k only fold k remains
            without = [[k] for k in folds]
    return _with_errors(parts, sums, without, design)


def _with_errors(
    parts: Sequence[_Part],
    sums: Callable[[Sequence[int]], RatioSums | None],
    without: Sequence[Sequence[int]],
    design: Design,
) -> pd.DataFrame:
    """Compute the estimates from all folds, and their standard errors from the folds that remain ``without`` a part."""
    axes = parts[0].axes
    everything = sums(range(len(parts)))
    assert everything is not None  # the choice of the folds has checked this
    table = pd.DataFrame(everything.snr(), index=axes)
    own = [axis.rsplit("_", 1)[0] for axis in axes]
    left = [found for kept in without if kept and (found := sums(kept)) is not None]
    against = {e.name: [o.name for o in design.others(e)] for e in design.effects}
    others = [against[effect] for effect in own]
    table = table.add_prefix("snr_")
    table["se_snr"] = everything.errors(left, [[effect] for effect in own])
    table["se_crosstalk"] = everything.errors(left, others)
    accuracy = {}
    for effect in design.effects:
        truth = np.concatenate([design.margin(effect)[design.codes[part.split.test]] for part in parts])
        guess = np.concatenate([p.predicted[effect.name] for p in parts])
        if effect in design.named:  # only the cells of its two sides
            truth, guess = truth[truth[:, 0] != 1], guess[truth[:, 0] != 1]
        accuracy[effect.name] = _balanced_accuracy(truth, guess)
    table["accuracy"] = [accuracy[name] for name in own]
    return table


def _predicted(model: FLDA, scores: np.ndarray) -> dict[str, np.ndarray]:
    """Predict the levels of every effect for each row of scores: those whose fitted value is nearest."""
    design, table = model.design_, model.axes_
    centroids = model.transform(model.means_)
    out = {}
    for effect in design.effects:
        axes = (table["effect"] == effect.name).to_numpy()
        levels, first = np.unique(design.margin(effect), axis=0, return_index=True)
        if effect in design.named:
            # the weighted means of the groups on both sides, which differ in nothing that counts against the axis
            weights, levels = design.coding(effect)[:, 0], np.array([[0], [2]])
            sides = np.stack([np.maximum(-weights, 0), np.maximum(weights, 0)])
            means = sides / sides.sum(axis=1, keepdims=True) @ centroids[:, axes]
        else:
            # fitted values of this effect alone, at every combination of its levels
            means = (design.fitted(effect) @ centroids[:, axes])[first]
        nearest = ((scores[:, None, axes] - means) ** 2).sum(axis=2).argmin(axis=1)
        out[effect.name] = levels[nearest]
    return out


def _balanced_accuracy(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Compute the mean recall over the combinations of levels that occur, from two tables of level codes."""
    codes = np.unique(np.vstack([truth, predicted]), axis=0, return_inverse=True)[1].ravel()
    true, guess = codes[: len(truth)], codes[len(truth) :]
    return float(recall_score(true, guess, labels=np.unique(true), average="macro", zero_division=0))


def _table(name: str, rows: pd.DataFrame, design: Design) -> pd.DataFrame:
    """Complete the estimates of a model: one row per axis, with what the row is about."""
    of_axis: dict[str, tuple[Effect, int]] = {
        f"{e.name}_{c + 1}": (e, c + 1) for e in design.effects for c in range(design.df(e))
    }
    ratios = rows.filter(regex="^snr_")
    out = []
    for axis, row in rows.iterrows():
        effect, component = of_axis[str(axis)]
        own = f"snr_{effect.name}"
        out.append(
            {
                "axis": axis,
                "genes": name,
                "effect": effect.name,
                "component": component,
                "snr": row[own],
                "crosstalk": row[[f"snr_{e.name}" for e in design.others(effect)]].sum(skipna=False),
                **row[ratios.columns],
                "se_snr": row["se_snr"],
                "se_crosstalk": row["se_crosstalk"],
                "accuracy": row["accuracy"],
                "chance": 1 / (2 if effect in design.named else len(np.unique(design.margin(effect), axis=0))),
            }
        )
    return pd.DataFrame(out)
