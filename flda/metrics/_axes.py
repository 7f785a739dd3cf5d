"""What the scores of cells on an axis say about every effect of the design.

The measures are those of the papers, with what their public code gets wrong put right: effects are least squares on
the group means, so every group counts the same however many cells it has; noise in the means is taken off with the
groups' own variances (the sandwich), or the donors' own; interactions are measured like main effects. An unbiased
estimate of zero is as often negative as positive and is reported so.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd

from ..arrays import group_sums
from ..design import Design, Effect, effect_name
from ..donors import Samples

N_BINS = 10  # of the papers


def mean_products(
    scores: np.ndarray, design: Design, donors: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Unbiased estimates of the products ``t_c t_d`` of the true group means t, and the within-group variance.

    The square of an observed mean holds its own noise. Without donors cells are independent: ``v_c / n_c`` comes off
    the diagonal, v_c the group's own variance (the pooled one in a group of one cell). With donors only products of
    different donors enter, so whatever the cells of a donor share stays out; two groups that one and the same donor
    fills fall back on the noise of the cells.

    Parameters
    ----------
    scores
        Scores of cells, (N, k).
    design
        Their groups.
    donors
        Donor of each cell as an integer, (N,).

    Returns
    -------
    T (k, C, C), and the variance among the cells of a group, donors included, averaged over groups, (k,).
    """
    n = design.counts[:, None]
    means = group_sums(scores, design.codes, design.n_groups) / n
    T = np.einsum("ck,dk->kcd", means, means)
    v = _variances(scores, means, design.codes, n)
    _off_diagonal(T, v / n)
    if donors is None:
        return T, v.mean(axis=0)

    samples = Samples.of(design.codes, donors)
    n_samples = samples.counts[:, None]
    own = group_sums(scores, samples.codes, len(n_samples)) / n_samples
    donor = donors[np.unique(samples.codes, return_index=True)[1]]
    donor = np.unique(donor, return_inverse=True)[1]
    table = np.zeros((donor.max() + 1, design.n_groups, scores.shape[1]))
    # effects do not see a common shift, and without it the products are less noisy
    table[donor, samples.groups] = own - own.mean(axis=0)
    seen = np.zeros(table.shape[:2])
    seen[donor, samples.groups] = 1
    pairs = seen.sum(axis=0)[:, None] * seen.sum(axis=0) - seen.T @ seen
    total = table.sum(axis=0)
    across = np.einsum("ck,dk->kcd", total, total) - np.einsum("jck,jdk->kcd", table, table)
    means = total / seen.sum(axis=0)[:, None]
    alone = np.einsum("ck,dk->kcd", means, means)
    _off_diagonal(alone, v / n)
    T = np.where(pairs > 0, across / np.maximum(pairs, 1), alone)

    # a cell of a new donor: the spread of donors' means, and that of cells less their part in it
    spread = _variances(own, group_sums(own, samples.groups, len(n)) / seen.sum(axis=0)[:, None], samples.groups,
                        seen.sum(axis=0)[:, None])  # fmt: skip
    cells = group_sums((scores - own[samples.codes]) ** 2, design.codes, design.n_groups)
    cells /= np.maximum(n - seen.sum(axis=0)[:, None], 1)
    inverse = group_sums(1 / n_samples, samples.groups, len(n)) / seen.sum(axis=0)[:, None]
    several = seen.sum(axis=0) > 1
    v[several] = (spread + cells * (1 - inverse))[several]
    return T, v.mean(axis=0)


def effect_snr(scores: np.ndarray, design: Design, donors: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Mean square ``t' Q_S t`` of every effect in the true group means of the scores, over their within-group variance.

    Parameters
    ----------
    scores, design, donors
        As in :func:`mean_products`.

    Returns
    -------
    Effect name -> (k,).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from flda.design import make_design
    >>> design = make_design(pd.DataFrame({"A": ["p", "p", "p", "q", "q", "q"]}))
    >>> snr = effect_snr(np.array([[0.0], [1.0], [2.0], [4.0], [5.0], [6.0]]), design)
    >>> round(float(snr["A"][0]), 3)  # means 1 and 5, variance 1: mean square 8, less 1/3 for noise
    7.667
    """
    T, v = mean_products(scores, design, donors)
    return {effect_name(e): np.einsum("cd,kcd->k", design.scatter_weights(e), T) / v for e in design.contrasts}


def effect_shares(T: np.ndarray, within: np.ndarray, design: Design) -> pd.DataFrame:
    """Share of every effect, and of the within-group variance, in the variance of a table with equal groups.

    The variance of effect S is the mean over groups of its squared fitted value. It differs from the mean square of
    :func:`effect_snr` by the factor ``df_S / prod_{f in S} L_f`` in a complete table, and is what adds up.

    Parameters
    ----------
    T, within
        From :func:`mean_products`, or sums of such over genes, (k, C, C) and (k,).
    design
        The groups.

    Returns
    -------
    DataFrame, a row per effect and a last one ``within``, a column per axis.
    """
    rows = {}
    for effect in design.contrasts:
        fitted = design.fitted(effect)
        rows[effect_name(effect)] = np.einsum("cd,kcd->k", fitted.T @ fitted / design.n_groups, T)
    rows["within"] = within
    table = pd.DataFrame(rows).T
    return table / table.sum()


def explained_variance(scores: np.ndarray, design: Design, donors: np.ndarray | None = None) -> pd.DataFrame:
    """Share of every effect in the variance of each axis, noise taken off: see :func:`effect_shares`.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from flda.design import make_design
    >>> design = make_design(pd.DataFrame({"A": ["p", "p", "p", "q", "q", "q"]}))
    >>> explained_variance(np.array([[0.0], [1.0], [2.0], [4.0], [5.0], [6.0]]), design).round(3)[0].tolist()
    [0.793, 0.207]
    """
    return effect_shares(*mean_products(scores, design, donors), design)


def mutual_information(scores: np.ndarray, design: Design, *, bins: int = N_BINS) -> pd.DataFrame:
    """Information in bits that each axis, cut into equal bins, holds on every effect.

    That of a main effect is the mutual information with the factor's levels. That of an interaction is what its levels
    together tell beyond its margins: ``I_S = I(u; levels of S) - sum of I_T over proper subsets T``. Every
    group counts the same. The bias of counting, ``(bins - 1) (levels - 1) / 2 N`` nats (Miller and Madow), is taken
    off, so no information reads about 0, or less.

    Parameters
    ----------
    scores
        Scores of cells, (N, k).
    design
        Their groups.
    bins
        Number of equally wide bins between the smallest and the largest score.

    Returns
    -------
    DataFrame, a row per effect, a column per axis.
    """
    out: dict[str, np.ndarray] = {}
    weights = (1 / design.counts)[design.codes] / design.n_groups
    n_effective = 1 / np.sum(weights**2)
    for effect in sorted(design.contrasts, key=len):
        levels = np.unique(design.table.margin(effect), axis=0, return_inverse=True)[1].ravel()[design.codes]
        row = np.array([_information(u, levels, weights, bins, n_effective) for u in scores.T])
        margins = [m for k in range(1, len(effect)) for m in itertools.combinations(effect, k)]
        out[effect_name(effect)] = row - sum(out[effect_name(m)] for m in margins if effect_name(m) in out)
    return pd.DataFrame(out).T.loc[[effect_name(e) for e in design.contrasts]]


def modularity(information: pd.DataFrame) -> np.ndarray:
    """How far each axis is about one effect only (Ridgeway and Mozer, NeurIPS 2018), in [0, 1].

    ``1 - sum_{S != best} I_S^2 / ((F - 1) I_best^2)`` over the F effects, interactions included.

    Parameters
    ----------
    information
        From :func:`mutual_information`; negative values count as zero.

    Returns
    -------
    One value per axis, (k,); NaN for an axis without any information, or with one effect in the design.
    """
    values = np.sort(np.maximum(information.to_numpy(), 0), axis=0)[::-1]
    best = values[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(best > 0, 1 - np.sum(values[1:] ** 2, axis=0) / (best**2 * (len(values) - 1)), np.nan)


def mutual_information_gap(information: pd.DataFrame, design: Design, blocks: Mapping[int, str] | None = None) -> float:
    """Mutual information gap (Chen et al., NeurIPS 2018): mean over effects of (best - second best axis) / entropy.

    Parameters
    ----------
    information
        From :func:`mutual_information`.
    design
        For the entropies: of a factor's levels, and of an interaction as of its degrees of freedom plus one.
    blocks
        Column of ``information`` -> effect: axes of one effect count as one, so that several axes of a factor do not
        close its own gap. None compares all axes with each other.

    Returns
    -------
    The mean over effects, not over axes.
    """
    gaps = []
    for effect in design.contrasts:
        row = np.maximum(information.loc[effect_name(effect)], 0)
        if blocks is not None:
            row = row.groupby(lambda j: blocks[j]).max()
        first, second = np.sort([0.0, *row.to_numpy()])[::-1][:2]
        gaps.append((first - second) / np.log2(_n_levels(effect, design)))
    return float(np.mean(gaps))


def _n_levels(effect: Effect, design: Design) -> int:
    return design.df(effect) + 1


def _information(u: np.ndarray, levels: np.ndarray, weights: np.ndarray, bins: int, n: float) -> float:
    """Mutual information in bits of one binned axis with labels, bias taken off."""
    edges = np.linspace(u.min(), u.max(), bins + 1)
    binned = np.clip(np.searchsorted(edges, u, side="right") - 1, 0, bins - 1)
    joint = np.bincount(binned * (levels.max() + 1) + levels, weights, bins * (levels.max() + 1)).reshape(bins, -1)
    expected = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0)
    filled = joint > 0
    nats = np.sum(joint[filled] * np.log(joint[filled] / expected[filled]))
    bias = (np.count_nonzero(joint.sum(axis=1)) - 1) * (joint.shape[1] - 1) / (2 * n)
    return (nats - bias) / np.log(2)


def _variances(values: np.ndarray, means: np.ndarray, codes: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Variance of each group around its mean; the pooled one for a group of one."""
    squares = group_sums((values - means[codes]) ** 2, codes, len(n))
    pooled = squares.sum(axis=0) / max(n.sum() - len(n), 1)
    return np.where(n > 1, squares / np.maximum(n - 1, 1), pooled)


def _off_diagonal(T: np.ndarray, noise: np.ndarray) -> None:
    """Take the noise (C, k) of each group off the diagonal of T (k, C, C), in place."""
    groups = np.arange(T.shape[1])
    T[:, groups, groups] -= noise.T
