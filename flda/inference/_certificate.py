"""Held-out certificates: what an axis shows on cells, or donors, that it was not fitted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import recall_score
from sklearn.utils import check_random_state

from .._design.design import Design, make_design
from .._design.effects import Effect
from .._design.samples import between_factors, donor_strata
from .._design.splits import folds
from .._logging import get_logger
from .._progress import progress
from ..estimators import FLDA, donor_codes, expression, label_frame
from ..metrics import effect_snr

logger = get_logger(__name__)


ACCURACY = ":accuracy"  # name of a column; no effect can have this name, because none starts with a colon


def certify(
    model: FLDA,
    X,
    y,
    donor: ArrayLike | None = None,
    *,
    n_folds: int = 5,
    n_repeats: int = 1,
    random_state: int | None = 0,
) -> pd.DataFrame:
    """Estimate the held-out signal-to-noise ratio (SNR), cross-talk and accuracy of every axis by cross-validation.

    Each fold repeats the whole fit, tuning included, without its cells, and then scores these cells. From the held-out
    scores on an axis, the mean square of every effect is estimated without bias (see :func:`flda.metrics.effect_snr`)
    and divided by the within-group variance. The result is the average over folds. The estimate for an effect that is
    zero may be negative; it is reported as it is.

    Parameters
    ----------
    model
        Estimator with the parameters to certify. It is cloned and not changed.
    X, y
        Expression and labels, as in :meth:`FLDA.fit`.
    donor
        Donor of each cell, (N,), as ``groups`` of :meth:`FLDA.fit`. Whole donors are then held out, and the noise of
        the donors is subtracted as well. For a factor that varies between donors, that takes two held-out donors of
        each level, so there are at most half as many folds as donors per level.
    n_folds
        Number of folds.
    n_repeats
        Number of times that the cells are assigned to folds.
    random_state
        Seed of these assignments.

    Returns
    -------
    DataFrame with one row per axis:

    * ``axis, effect, component``
    * ``snr``: the SNR of the effect of the axis
    * ``crosstalk``: the sum of the SNR of all other effects
    * ``snr_<effect>``: the SNR of every effect in the fit
    * ``sd_snr, sd_crosstalk``: standard deviations over folds and repeats. Folds share training cells, so these show
      how much the fits differ and are not standard errors
    * ``accuracy``: balanced accuracy with which all axes of the effect predict the levels of its factors; each cell
      gets the levels whose fitted value in the training cells is nearest
    * ``chance``: one over the number of levels (for an interaction, of combinations of levels)
    * ``n_folds, n_repeats``: the number of folds that could be used, and of repeats

    A value is NaN if no fold could estimate it.

    Raises
    ------
    ValueError
        If no fold keeps every effect estimable among both its training cells and its held-out cells.

    Examples
    --------
    >>> from flda.datasets import t4t5_simulated
    >>> adata = t4t5_simulated(n_obs=600, n_vars=200)
    >>> table = certify(FLDA(shrinkage=0.2), adata.X, adata.obs[["dendrite", "axon"]])
    >>> table.loc[0, "axis"], bool(table.loc[0, "snr"] > 10 * abs(table.loc[0, "crosstalk"]))
    ('dendrite_1', True)
    """
    options = {"n_folds": n_folds, "n_repeats": n_repeats, "random_state": random_state}
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
) -> pd.DataFrame:
    """Certify several models of one design on the same folds.

    Models with the same ``shrinkage`` setting share its value within a fold: it is tuned for the first of them, on the
    training cells of the fold.

    Parameters
    ----------
    models
        Name -> estimator. Interactions and nuisance must be the same in all.
    X, y, donor, n_folds, n_repeats, random_state
        As in :func:`certify`.

    Returns
    -------
    DataFrame with the columns of :func:`certify` and, after ``axis``, the column ``genes`` with the name of the model.
    """
    labels = label_frame(y)[0]
    X = expression(X, len(labels))
    donors, _ = donor_codes(donor, len(labels))
    first = next(iter(models.values()))
    design = make_design(labels, interactions=first.interactions, nuisance=first.nuisance)
    n_folds = _folds_with_two_donors(design, donors, n_folds)
    rng = check_random_state(random_state)
    rows: dict[str, list[pd.DataFrame]] = {name: [] for name in models}
    n_used = 0
    every = [split for _ in range(n_repeats) for split in folds(design, donors, rng, n_folds)]
    for split in progress(every, desc="certificate"):
        held_out = split.held_out
        # the within-group variance of held-out scores needs a group with two held-out cells
        if split.training is None or held_out is None or len(split.test) == held_out.n_groups:
            continue
        n_used += 1
        tuned: dict[object, float] = {}
        for name, model in models.items():
            own = split.fit(model, X, labels, shrinkage=tuned.get(model.shrinkage, model.shrinkage))
            tuned[model.shrinkage] = own.shrinkage_
            scores = own.transform(X[split.test])
            ratios = pd.DataFrame(effect_snr(scores, held_out, None if donors is None else donors[split.test]))
            ratios[ACCURACY] = _accuracies(own, scores, held_out)
            rows[name].append(ratios.set_index(own.get_feature_names_out()))
    if n_used == 0:
        raise ValueError(
            f"no fold of {n_folds} keeps every effect estimable among both its training cells and its held-out cells; "
            "use fewer folds, fewer interactions, or more cells (donors) per group."
        )
    if n_used < n_folds * n_repeats:
        logger.warning("the certificate uses %d folds; the others lack groups that the effects need", n_used)
    return _table(rows, design, n_used, n_repeats)


def _folds_with_two_donors(design: Design, donors: np.ndarray | None, n_folds: int) -> int:
    """Return the largest number of folds, up to ``n_folds``, such that every fold holds out two donors per level.

    That takes four donors in every combination of levels that vary between donors. With two or three in some
    combination, every fold holds out one donor of it, and a warning is logged. With a single one, ``n_folds`` is
    returned.
    """
    if donors is None or not (between := between_factors(design, donors)):
        return n_folds
    fewest = int(np.bincount(donor_strata(design, donors)).min())
    if fewest >= 4:
        return min(n_folds, fewest // 2)
    if fewest == 1:
        return n_folds
    logger.warning(
        "a level of %s has %d donors: with fewer than 4 the certificate cannot subtract the noise of donors, and its "
        "SNR for effects of %s is too high",
        between[0], fewest, between[0],
    )  # fmt: skip
    return min(n_folds, fewest)


def _accuracies(model: FLDA, scores: np.ndarray, held_out: Design) -> np.ndarray:
    """Compute the balanced accuracy of the levels of the effect of each axis on held-out scores, (k,)."""
    design, table = model.design_, model.axes_
    centroids = model.transform(model.means_)
    out = np.empty(len(table))
    for effect in design.effects:
        axes = (table["effect"] == effect.name).to_numpy()
        levels, first = np.unique(design.table.margin(effect), axis=0, return_index=True)
        # fitted values of this effect alone, at every combination of its levels
        means = (design.fitted(effect) @ centroids[:, axes])[first]
        nearest = ((scores[:, None, axes] - means) ** 2).sum(axis=2).argmin(axis=1)
        truth = held_out.table.margin(effect)[held_out.codes]
        out[axes] = _balanced_accuracy(truth, levels[nearest])
    return out


def _balanced_accuracy(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Compute the mean recall over the combinations of levels that occur, from two tables of level codes."""
    codes = np.unique(np.vstack([truth, predicted]), axis=0, return_inverse=True)[1].ravel()
    true, guess = codes[: len(truth)], codes[len(truth) :]
    return float(recall_score(true, guess, labels=np.unique(true), average="macro", zero_division=0))


def _table(rows: Mapping[str, Sequence[pd.DataFrame]], design: Design, n_used: int, n_repeats: int) -> pd.DataFrame:
    """Compute means and standard deviations over folds, with one row per axis and model."""
    of_axis: dict[str, tuple[Effect, int]] = {
        f"{e.name}_{c + 1}": (e, c + 1) for e in design.effects for c in range(design.df(e))
    }
    out = []
    for name, parts in rows.items():
        for axis, snr in pd.concat(parts).groupby(level=0, sort=False):
            effect, component = of_axis[str(axis)]
            accuracy = snr.pop(ACCURACY)
            own, mean = effect.name, snr.mean()
            out.append(
                {
                    "axis": axis,
                    "genes": name,
                    "effect": own,
                    "component": component,
                    "snr": mean[own],
                    "crosstalk": mean.sum() - mean[own],
                    **{f"snr_{other}": value for other, value in mean.items()},
                    "sd_snr": snr[own].std(),
                    "sd_crosstalk": (snr.sum(axis=1) - snr[own]).std(),
                    "accuracy": accuracy.mean(),
                    "chance": 1 / len(np.unique(design.table.margin(effect), axis=0)),
                    "n_folds": n_used,
                    "n_repeats": n_repeats,
                }
            )
    return pd.DataFrame(out)
