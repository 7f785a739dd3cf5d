"""Shares of the effects in the variance of scores, and how much information scores have of the labels.

The measures are those of the papers, with three corrections to their public code, as in :mod:`flda.metrics._ratios`:
every group counts the same, the noise of the means is subtracted, and interactions are measured like main effects.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from .._design.design import Design
from .._design.effects import Effect
from ._input import Labels, given_design, scored_cells
from ._ratios import mean_products

N_BINS = 10  # number of bins in the papers


def effect_shares(T: np.ndarray, within: np.ndarray, design: Design) -> pd.DataFrame:
    """Compute the share of every effect, and of the within-group variance, in the variance of a table of equal groups.

    The variance of effect S is the mean over groups of its squared fitted value. In a complete table it is the mean
    square of :func:`effect_snr` times ``df_S / prod_{f in S} L_f``, and unlike the mean squares these variances add up.

    Parameters
    ----------
    T, within
        From :func:`mean_products`, (k, C, C) and (k,), or sums of such estimates over genes.
    design
        The design of the groups.

    Returns
    -------
    DataFrame with one row per effect, a last row ``within``, and one column per axis. Each column sums to one.
    """
    table = effect_variances(np.asarray(T, dtype=float), np.asarray(within, dtype=float), design)
    return table / table.sum()


def effect_variances(T: np.ndarray, within: np.ndarray, design: Design) -> pd.DataFrame:
    """Compute what :func:`effect_shares` divides by its sum."""
    rows = {}
    for effect in design.contrasts:
        fitted = design.fitted(effect)
        rows[effect.name] = np.einsum("cd,kcd->k", fitted.T @ fitted / design.n_groups, T)
    rows["within"] = within
    return pd.DataFrame(rows).T


def explained_variance(scores: ArrayLike, design: Design | Labels, donors: ArrayLike | None = None) -> pd.DataFrame:
    """Compute the share of every effect in the variance of each axis, without the noise of the means.

    Parameters
    ----------
    scores, design, donors
        As in :func:`mean_products`.

    Returns
    -------
    The DataFrame of :func:`effect_shares`.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> labels = pd.DataFrame({"A": ["p", "p", "p", "q", "q", "q"]})
    >>> explained_variance(np.array([[0.0], [1.0], [2.0], [4.0], [5.0], [6.0]]), labels).round(3)[0].tolist()
    [0.793, 0.207]
    """
    scores, design, donors = scored_cells(scores, design, donors)
    return effect_shares(*mean_products(scores, design, donors), design)


def mutual_information(scores: ArrayLike, design: Design | Labels, *, bins: int = N_BINS) -> pd.DataFrame:
    """Compute the mutual information, in bits, of each axis with every effect.

    The scores on an axis are cut into equally wide bins. For a main effect this is the mutual information of the bins
    with the levels of the factor. For an interaction it is what the combinations of levels tell beyond its margins:
    ``I_S = I(u; levels of S) - sum of I_T over proper subsets T``. The parts of a numeric factor have the levels of the
    factor, and so its information. Every group counts the same. The counting bias of
    Miller and Madow, ``(bins - 1) (levels - 1) / 2 n`` nats, is subtracted, where bins are those that hold cells and n
    is the effective number of cells. An axis without information is therefore near 0, and may be below.

    Parameters
    ----------
    scores, design
        As in :func:`mean_products`.
    bins
        Number of equally wide bins between the smallest and the largest score.

    Returns
    -------
    DataFrame with one row per effect and one column per axis.
    """
    scores, design, _ = scored_cells(scores, design)
    if not isinstance(bins, int | np.integer) or bins < 1:
        raise ValueError(f"bins={bins!r} must be a whole number of at least 1.")
    out: dict[str, np.ndarray] = {}
    weights = (1 / design.counts)[design.codes] / design.n_groups
    n_effective = 1 / np.sum(weights**2)  # the number of equally weighted cells with the same noise
    for effect in sorted(design.contrasts, key=len):
        levels = np.unique(design.table.margin(effect), axis=0, return_inverse=True)[1].ravel()[design.codes]
        row = np.array([_information(u, levels, weights, bins, n_effective) for u in scores.T])
        margins = [Effect(m) for k in range(1, len(effect)) for m in itertools.combinations(effect, k)]
        out[effect.name] = row - sum(out[m.name] for m in margins if m.name in out)
    return pd.DataFrame(out).T.loc[[e.name for e in design.contrasts]]


def modularity(information: pd.DataFrame) -> np.ndarray:
    """Compute how far each axis is about one effect only (Ridgeway and Mozer, NeurIPS 2018), between 0 and 1.

    It is ``1 - sum_{S != best} I_S^2 / ((F - 1) I_best^2)`` over the F effects of the design, interactions included.

    Parameters
    ----------
    information
        From :func:`mutual_information`; negative values count as zero.

    Returns
    -------
    One value per axis, (k,). NaN for an axis without any information, or if the design has a single effect.
    """
    values = np.sort(np.maximum(np.asarray(information, dtype=float), 0), axis=0)[::-1]
    best = values[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(best > 0, 1 - np.sum(values[1:] ** 2, axis=0) / (best**2 * (len(values) - 1)), np.nan)


def mutual_information_gap(
    information: pd.DataFrame, design: Design | Labels, blocks: Mapping[int, str] | None = None
) -> float:
    """Compute the mutual information gap (Chen et al., NeurIPS 2018).

    It is the mean over effects of (information of the best axis - that of the second best) / entropy of the effect.

    Parameters
    ----------
    information
        From :func:`mutual_information`; negative values count as zero.
    design
        The design, for the entropies: the logarithm of the number of levels for a factor, and of the degrees of freedom
        plus one for an interaction.
    blocks
        Column of ``information`` -> effect. All axes of one effect then count as a single axis, so that several axes of
        a factor do not close its gap. None compares all axes with each other.

    Returns
    -------
    The mean over effects.
    """
    gaps, design = [], given_design(design)
    for effect in design.contrasts:
        row = np.maximum(information.loc[effect.name], 0)
        if blocks is not None:
            row = row.groupby(lambda j: blocks[j]).max()
        first, second = np.sort([0.0, *row.to_numpy()])[::-1][:2]
        gaps.append((first - second) / np.log2(_n_levels(effect, design)))
    return float(np.mean(gaps))


def _n_levels(effect: Effect, design: Design) -> int:
    """Return the number of levels of a factor; for an interaction, the degrees of freedom plus one."""
    return design.df(effect) + 1


def _information(u: np.ndarray, levels: np.ndarray, weights: np.ndarray, bins: int, n: float) -> float:
    """Compute the mutual information, in bits, of one binned axis with labels, less its counting bias."""
    edges = np.linspace(u.min(), u.max(), bins + 1)
    binned = np.clip(np.searchsorted(edges, u, side="right") - 1, 0, bins - 1)
    joint = np.bincount(binned * (levels.max() + 1) + levels, weights, bins * (levels.max() + 1)).reshape(bins, -1)
    expected = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0)  # joint probabilities under independence
    filled = joint > 0
    nats = np.sum(joint[filled] * np.log(joint[filled] / expected[filled]))
    # Miller and Madow: the counts of empty bins are zero for sure, so such bins add no bias
    bias = (np.count_nonzero(joint.sum(axis=1)) - 1) * (joint.shape[1] - 1) / (2 * n)
    return (nats - bias) / np.log(2)
