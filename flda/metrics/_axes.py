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

from .._data.arrays import group_sums, indicator
from .._design.design import Design
from .._design.effects import Effect
from .._design.samples import Samples, sample_units

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
    units, donor = _units(design, donors)
    own = group_sums(scores, units.codes, len(donor)) / units.counts[:, None]
    squares = group_sums((scores - own[units.codes]) ** 2, units.codes, len(donor))
    own -= own.mean(axis=0)  # effects do not see a common shift, and without it the products are less noisy
    found = [_products(np.outer(m, m), s, units, donor) for m, s in zip(own.T, squares.T, strict=True)]
    return np.array([T for T, _ in found]), np.array([v.mean() for _, v in found])


def total_products(
    sums: np.ndarray, squares: np.ndarray, design: Design, donors: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """:func:`mean_products` of every gene, summed over genes, from sums and squares alone.

    Parameters
    ----------
    sums
        Sum of the cells of each sample (of each group without donors), S x p; samples in the order of their groups,
        then of their donors.
    squares
        Sum of the squared entries of these cells, (S,).
    design, donors
        As in :func:`mean_products`.

    Returns
    -------
    T (1, C, C) and the within-group variance (1,).
    """
    units, donor = _units(design, donors)
    own = sums / units.counts[:, None]
    spread = squares - units.counts * np.einsum("ij,ij->i", own, own)  # of the cells about the mean of their sample
    own -= own.mean(axis=0)
    T, v = _products(own @ own.T, spread, units, donor)
    return T[None], np.array([v.mean()])


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
    >>> from flda._design.design import make_design
    >>> design = make_design(pd.DataFrame({"A": ["p", "p", "p", "q", "q", "q"]}))
    >>> snr = effect_snr(np.array([[0.0], [1.0], [2.0], [4.0], [5.0], [6.0]]), design)
    >>> round(float(snr["A"][0]), 3)  # means 1 and 5, variance 1: mean square 8, less 1/3 for noise
    7.667
    """
    T, v = mean_products(scores, design, donors)
    return {e.name: np.einsum("cd,kcd->k", design.scatter_weights(e), T) / v for e in design.contrasts}


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
        rows[effect.name] = np.einsum("cd,kcd->k", fitted.T @ fitted / design.n_groups, T)
    rows["within"] = within
    table = pd.DataFrame(rows).T
    return table / table.sum()


def explained_variance(scores: np.ndarray, design: Design, donors: np.ndarray | None = None) -> pd.DataFrame:
    """Share of every effect in the variance of each axis, noise taken off: see :func:`effect_shares`.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from flda._design.design import make_design
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
        margins = [Effect(m) for k in range(1, len(effect)) for m in itertools.combinations(effect, k)]
        out[effect.name] = row - sum(out[m.name] for m in margins if m.name in out)
    return pd.DataFrame(out).T.loc[[e.name for e in design.contrasts]]


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
        row = np.maximum(information.loc[effect.name], 0)
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


def _units(design: Design, donors: np.ndarray | None) -> tuple[Samples, np.ndarray]:
    """The samples, and the donor of each; without donors each group is one sample."""
    units = sample_units(design, donors)
    first = np.unique(units.codes, return_index=True)[1]
    return units, np.zeros(len(first), dtype=np.int64) if donors is None else donors[first]


def _products(D: np.ndarray, squares: np.ndarray, units: Samples, donor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """T (C, C) and the variance of each group (C,), from products D (S, S) of sample means and squares within (S,)."""
    A = indicator(units.groups, units.groups.max() + 1).toarray()
    n, n_samples = A @ units.counts, A.sum(axis=1)
    pooled = squares.sum() / max(n.sum() - n_samples.sum(), 1)
    cells = np.where(n > n_samples, A @ squares / np.maximum(n - n_samples, 1), pooled)
    same = donor[:, None] == donor
    pairs = np.outer(n_samples, n_samples) - A @ same @ A.T
    alone = A @ D @ A.T / np.outer(n_samples, n_samples) - np.diag(cells / n)
    T = np.where(pairs > 0, A @ (D * ~same) @ A.T / np.maximum(pairs, 1), alone)
    # a cell of a new donor: the spread of the donors' means, and that of cells less their part in it
    spread = (A @ np.diag(D) - np.diag(A @ D @ A.T) / n_samples) / np.maximum(n_samples - 1, 1)
    inverse = A @ (1 / units.counts) / n_samples
    return T, np.where(n_samples > 1, spread + cells * (1 - inverse), cells)
