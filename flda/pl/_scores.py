"""Scores of the cells on the axes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import seaborn as sns
from anndata import AnnData
from scipy.stats import t as student

from .._adata.read import expression, in_memory, labels
from .._adata.record import Record
from .._data.arrays import group_sums
from .._docs import documented
from ._common import BLUE, MAX_DISTINCT, MISSING, check_axis, finish, level_colors, new_axes, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.figure import Figure

SHOWN = 20_000  # cells drawn at most in the picture of one axis; means and bands use all of them


@documented
def scores(
    adata: AnnData,
    x: str | None = None,
    y: str | None = None,
    *,
    color: str | None = None,
    held_out: bool | None = None,
    ax: Axes | None = None,
    show: bool = False,
    save: str | os.PathLike | None = None,
    key: str = "flda",
) -> Axes:
    """Draw the scores of the cells on one axis, by the levels of its effect, or on a pair of axes.

    With ``x`` alone, cells are drawn by the levels of the axis's effect, with the mean of the groups and its 95 %
    confidence band for every level of ``color``. A numeric factor is drawn to scale, with the curve of the degree that
    the fit gives it. On an axis of a main effect the lines of all levels lie close together
    and run in parallel; lines that are not parallel show an interaction. Without ``x``, or with ``x`` and ``y``, the
    figure is a scatter plot with the mean of every group of the design.

    Fitted cells lie closer to the mean of their group than new cells would, and their confidence bands are too narrow
    for the same reason. The difference grows with the number of genes per cell. Run :func:`flda.tl.held_out_scores`
    first to draw every cell on axes that were fitted without it.

    Parameters
    ----------
    {adata}
    x, y
        Names of axes; by default the first axes of the first two effects.
    color
        A gene, whose expression then has a colour scale, or a column of ``obs``, of levels or of numbers; by default
        the first factor of the effect of ``x`` for a pair of axes, and another factor of the design for one axis.
        Colours of levels are those of ``uns["<color>_colors"]`` if present, else a
        palette that is safe for colour-blind readers.
    held_out
        Whether to draw the scores of :func:`flda.tl.held_out_scores`. By default, they are drawn if they have been
        computed. The labels of the axes then say "held out".
    {ax}
    {shown}
    {key}

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.pl.scores(adata, "axon_1", "axon_2", color="axon").get_xlabel()
    'axon_1'
    >>> ax = flda.pl.scores(adata, "axon_1")
    >>> [label.get_text() for label in ax.get_xticklabels()]
    ['a', 'b', 'c', 'd']
    """
    record = Record(adata, key)
    axes, names = record.axes, record.axis_names
    for name in (x, y):
        if name is not None:
            check_axis(name, names)
    factors, obs = record.params["factors"], in_memory(adata.obs)
    labels(adata, list(dict.fromkeys([*factors, *([] if color is None or color in adata.var_names else [color])])))
    of_effect = dict(zip(names, map(record.factors_of, axes["effect"]), strict=True))
    if held_out is None:
        held_out = "held_out_scores" in record
    values = record.held_out_scores if held_out else record.scores
    scored = values.notna().all(axis=1).to_numpy()  # not the cells that no fold held out
    values, obs = values[scored], obs[scored]
    note = ", held out" if held_out else ""
    scale = _numbers(adata, color, obs, record.params["layer"], scored)
    if x is not None and y is None:
        numeric = record.params.get("numeric")
        ax = _one_axis(adata, obs, values[x], of_effect[x], factors, color, numeric, ax, scale)
        ax.set_ylabel(words(f"{x} score{note}", 60))
        return finish(ax, show, save)
    firsts = axes.drop_duplicates("effect")["axis"].tolist()
    x = x or firsts[0]
    y = y or next((a for a in [*firsts, *names] if a != x), x)
    ax = _pair(adata, obs, values[[x, y]], factors, color or of_effect[x][0], ax, scale)
    ax.set_xlabel(words(f"{x}{note}", 60))
    ax.set_ylabel(words(f"{y}{note}", 60))
    return finish(ax, show, save)


def _numbers(
    adata: AnnData, color: str | None, obs: pd.DataFrame, layer: str | None, cells: np.ndarray
) -> np.ndarray | None:
    """The numbers that have a colour scale, of these cells: a column of many numbers, or a gene; None for levels."""
    if color is None:
        return None
    if color in obs:
        column = obs[color]
        many = pd.api.types.is_numeric_dtype(column) and column.dtype != bool and column.nunique() > MAX_DISTINCT
        return pd.to_numeric(column).to_numpy(dtype=float, na_value=np.nan) if many else None
    if color not in adata.var_names:
        raise ValueError(f"color={color!r} is neither a column of obs nor a gene.")
    X = expression(adata, layer)[:, [adata.var_names.get_loc(color)]]
    return group_sums(X, np.arange(adata.n_obs), adata.n_obs)[cells, 0]


def _scale(ax: Axes, points: PathCollection, title: str) -> None:
    """A colour scale for points."""
    bar = cast("Figure", ax.figure).colorbar(points, ax=ax, shrink=0.8, pad=0.02)
    bar.set_label(words(title), fontsize=8)
    if bar.solids is not None:
        bar.solids.set_alpha(1)


def _pair(
    adata: AnnData, obs: pd.DataFrame, table: pd.DataFrame, factors: list[str], color: str, ax: Axes | None,
    scale: np.ndarray | None,
) -> Axes:  # fmt: skip
    """Scatter plot of two axes, and group means."""
    ax = new_axes(ax, 4.8, 3.8)
    xy = table.to_numpy()
    order = np.random.default_rng(0).permutation(len(xy))  # no level is drawn on top of all others
    if scale is not None:
        points = ax.scatter(
            xy[order, 0], xy[order, 1], s=np.clip(3000 / len(xy), 2, 18), linewidths=0, alpha=0.7, rasterized=True,
            c=scale[order], cmap="viridis", plotnonfinite=True,
        )  # fmt: skip
        _scale(ax, points, color)
        ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
        ax.axvline(0, color="0.8", linewidth=0.8, zorder=0)
        sns.despine(ax=ax)
        return ax
    known = level_colors(adata, color, obs)
    levels = obs[color].astype(str).to_numpy()
    ax.scatter(
        xy[order, 0], xy[order, 1], s=np.clip(3000 / len(xy), 2, 18), linewidths=0, alpha=_alpha(len(xy), 0.5),
        rasterized=True, c=[known.get(levels[i], MISSING) for i in order],
    )  # fmt: skip
    columns = list(dict.fromkeys([*factors, color]))
    groups = obs.groupby(columns, observed=True, dropna=False).ngroup().to_numpy()
    means = pd.DataFrame(xy).groupby([levels, groups]).mean()
    several = len(means) < len(xy)  # where every cell is a group of its own, its point is the mean
    for level, shade in known.items():
        mean = means.loc[level] if several else means.iloc[:0]
        edge: dict[str, Any] = {"edgecolors": "black", "linewidths": 1} if several else {"linewidths": 0}
        ax.scatter(mean[0], mean[1], s=50, color=shade, label=words(level), zorder=3, **edge)
    ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    ax.axvline(0, color="0.8", linewidth=0.8, zorder=0)
    _legend(ax, color, len(known))
    return ax


def _one_axis(
    adata: AnnData, obs: pd.DataFrame, scores: pd.Series, own: list[str], factors: list[str], color: str | None,
    numeric: Mapping[str, int | str] | Sequence[str] | None, ax: Axes | None, scale: np.ndarray | None,
) -> Axes:  # fmt: skip
    """Cells of one axis by the levels of a factor of its effect, with means and bands by a second factor."""
    kinds = {} if numeric is None else dict(numeric) if isinstance(numeric, Mapping) else dict.fromkeys(numeric, 1)
    own = sorted(own, key=lambda f: f in kinds)  # numbers last, on the horizontal axis
    title = color
    if scale is not None and color not in factors:
        color = own[-1]  # cells at their levels, with numbers as colours
    elif color is None:
        others = [f for f in factors if f not in own] or own[:-1] or own
        color = (own[:-1] or others)[0]
    known = level_colors(adata, color, obs)
    by = next((f for f in reversed(own) if f != color), own[0])
    positions, to_scale = _positions(adata, by, obs, by in kinds)
    columns = {"by": by, "color": color, **{f"factor{i}": f for i, f in enumerate(factors)}}
    labelled = obs[list(set(columns.values()))].notna().all(axis=1).to_numpy()
    table = pd.DataFrame({name: obs.loc[labelled, c].astype(str) for name, c in columns.items()})
    table["score"] = scores[labelled]

    longest = max(len(words(level)) for level in positions)
    tall = 3.4 + (0.05 * longest if len(positions) * longest > 40 else 0)  # slanted names take height
    ax = new_axes(ax, max(4.2, 2.4 + 0.55 * len(positions)), tall)
    gap = np.diff(sorted(positions.values())).min() if len(positions) > 1 else 1.0
    if to_scale and color == by:  # one curve, not a colour for every value
        table["color"], known, color = "", {"": BLUE}, ""
    step = 0 if color == by else (0.2 if to_scale else 0.7) * gap / len(known)  # numbers stay near their place
    offset = {level: step * (i - (len(known) - 1) / 2) for i, level in enumerate(known)}
    center = table["by"].map(positions) + table["color"].map(offset)
    rng = np.random.default_rng(0)
    drawn = rng.permutation(len(table))[:SHOWN]
    jitter = rng.uniform(-1, 1, len(drawn)) * (0.4 * step or 0.25 * gap)
    shaded = scale is not None and title not in factors
    points = ax.scatter(
        center.to_numpy()[drawn] + jitter, table["score"].to_numpy()[drawn], s=np.clip(2000 / len(drawn), 1.5, 18),
        c=scale[labelled][drawn] if scale is not None and shaded else [known[v] for v in table["color"].iloc[drawn]],
        linewidths=0, alpha=0.7 if shaded else _alpha(len(drawn), 0.35), rasterized=True,
    )  # fmt: skip
    if shaded:
        _scale(ax, points, str(title))
        known, color = dict.fromkeys(known, "0.4"), ""
    means = _means(table)
    for level, shade in known.items():
        line = means[means["color"] == level]
        at = line["by"].map(positions) + offset[level]
        order = np.argsort(at.to_numpy())
        at, line = at.to_numpy()[order], line.iloc[order]
        if color != by and len(line) > 1:
            _curve(ax, at, line["mean"].to_numpy(), kinds.get(by) if to_scale else None, shade)
            ax.fill_between(
                at, line["mean"] - line["half"], line["mean"] + line["half"], color=shade, alpha=0.3, linewidth=0
            )
        ax.errorbar(
            at, line["mean"], yerr=line["half"], fmt="o", color=shade, markeredgecolor="black", ecolor="black",
            elinewidth=1, capsize=2, markersize=6, zorder=3, label=words(level),
        )  # fmt: skip
    ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    if not to_scale:
        names = list(map(words, positions))
        crowded = sum(map(len, names)) > 40
        ax.set_xticks(range(len(positions)), names, rotation=35 if crowded else 0, ha="right" if crowded else "center")
    ax.set_xlabel(words(by))
    if color:
        _legend(ax, color, len(known))
    sns.despine(ax=ax)
    return ax


def _positions(adata: AnnData, factor: str, obs: pd.DataFrame, is_number: bool) -> tuple[dict[str, float], bool]:
    """Place of every level on the horizontal axis, and whether it is the value of the level."""
    levels = list(level_colors(adata, factor, obs))
    if is_number:
        values = pd.to_numeric(pd.Series(levels), errors="coerce")
        if values.notna().all():
            return dict(zip(levels, values.astype(float), strict=True)), True
    return {level: float(i) for i, level in enumerate(levels)}, False


def _curve(ax: Axes, x: np.ndarray, y: np.ndarray, kind: int | str | None, shade: Any) -> None:
    """Draw the polynomial of the degree of the fit through the means, or lines between them for other kinds."""
    if isinstance(kind, int) and kind < len(x):
        fitted = np.polynomial.Polynomial.fit(x, y, kind)
        x, y = fitted.linspace(100)
    ax.plot(x, y, color=shade, linewidth=1.2, zorder=2)


def _means(table: pd.DataFrame) -> pd.DataFrame:
    """Unweighted mean over groups at every level of two factors, and half the width of its 95 % interval.

    The variance of that mean is the mean over its C groups of v_c / n_c, over C, with v_c pooled over all groups.
    """
    groups = table.groupby([c for c in table if c != "score"])["score"].agg(["mean", "count", "var"])
    free = (groups["count"] - 1).sum()
    pooled = ((groups["count"] - 1) * groups["var"].fillna(0)).sum() / max(free, 1)
    cells = groups.assign(noise=pooled / groups["count"]).groupby(level=["by", "color"])
    out = cells["mean"].mean().to_frame("mean")
    out["half"] = student.ppf(0.975, max(free, 1)) * np.sqrt(cells["noise"].sum()) / cells.size()
    return out.reset_index()


def _alpha(n: int, least: float) -> float:
    """Opacity of n points: few are seen one by one, many as a cloud."""
    return float(np.clip(150 / max(n, 1), least, 0.8))


def _legend(ax: Axes, title: str, n: int) -> None:
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(
        handles, labels, title=words(title), frameon=False, loc="upper left", bbox_to_anchor=(1, 1),
        fontsize=8, title_fontsize=8, ncols=1 + n // 16, markerscale=0.9,
    )  # fmt: skip
    sns.despine(ax=ax)
