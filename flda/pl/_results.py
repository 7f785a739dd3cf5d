"""Results on held-out cells and on halves of the data: purity, stability, and the number of genes of an axis."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import seaborn as sns
from anndata import AnnData
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import NullLocator

from .. import get
from .._adata.record import Record
from .._docs import documented
from ._common import BLUE, GREY, ORANGE, annotate, check_axis, finish, hatch, heatmap, new_axes, number, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PALE = "#a6cbe3"
STABLE = 0.8  # selection frequency above which a gene counts as stable, here and in the report


@documented
def certificate(
    adata: AnnData,
    *,
    genes: str | None = None,
    ax: Axes | None = None,
    show: bool = False,
    save: str | os.PathLike | None = None,
    key: str = "flda",
) -> Axes:
    """Draw the held-out variance of every effect (columns) on every axis (rows).

    Numbers are variances on held-out cells, in units of the variance within groups. The boxed square is the axis's own
    effect; all others in the row are cross-talk and should be pale. Named contrasts have columns too, which are no
    cross-talk, and neither are the effects that contribute to the contrast of a row. The estimates are unbiased, so the
    estimate of an absent effect can be negative.

    Parameters
    ----------
    {adata}
        The results of :func:`flda.tl.certify` are also needed.
    genes
        ``"all"`` for the axes of all genes, ``"selected"`` for those of the selected genes; by default ``"all"``.
    {ax}
    {shown}
    {key}

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.tl.certify(adata)
    >>> [text.get_text() for text in flda.pl.certificate(adata).get_xticklabels()]
    ['dendrite', 'axon', 'dendrite:axon']
    """
    record = Record(adata, key)
    table = record.certificate
    kinds = list(dict.fromkeys(table["genes"]))
    if genes is not None and genes not in kinds:
        raise ValueError(f"the certificate has no rows with genes={genes!r}; it has {kinds}.")
    table = table[table["genes"] == (genes or kinds[0])]
    effects = [e for e in record.effects if f"snr_{e}" in table]
    values = table[[f"snr_{e}" for e in effects]].to_numpy(dtype=float)

    ax = new_axes(ax, 2.4 + 0.75 * len(effects), 1.6 + 0.25 * len(table))
    strength = np.log10(1 + np.clip(values, 0, None))  # colour; numbers are as measured
    heatmap(
        ax, strength, {"label": "held-out variance / within", "shrink": 0.8, "pad": 0.02}, cmap="Blues", vmin=0,
        vmax=max(1.0, np.nanmax(strength)), linewidth=0.6, edgecolor="white",
    )  # fmt: skip
    ticks = [t for t in (0, 1, 10, 100, 1000, 10_000) if np.log10(1 + t) <= np.nanmax(strength)]
    if ax.collections[0].colorbar is not None:
        ax.collections[0].colorbar.set_ticks(np.log10(1 + np.array(ticks)), labels=[str(t) for t in ticks])
    annotate(ax, strength, values, [[number(v) for v in row] for row in values], size=7.5)
    hatch(ax, np.argwhere(~np.isfinite(values)))
    for i, own in enumerate(table["effect"]):
        ax.add_patch(Rectangle((effects.index(own), i), 1, 1, fill=False, edgecolor="black", linewidth=1.4))
    slanted = len(effects) > 2
    ax.set_xticks(
        np.arange(len(effects)) + 0.5, effects, rotation=30 if slanted else 0, ha="right" if slanted else "center"
    )
    ax.set_yticks(np.arange(len(table)) + 0.5, table["axis"].map(words), rotation=0, fontsize=8)
    ax.tick_params(length=0)
    ax.set_title(f"held-out cells, {table['genes'].iloc[0]} genes", fontsize=10)
    return finish(ax, show, save)


@documented
def path(
    adata: AnnData,
    axis: str | None = None,
    *,
    ax: Axes | None = None,
    show: bool = False,
    save: str | os.PathLike | None = None,
    key: str = "flda",
) -> Axes:
    """Draw objective, held-out SNR and held-out cross-talk of an axis against its number of genes.

    The objective on the fitted cells always grows with the number of genes, up to the objective of all genes (dotted
    line). The signal-to-noise ratio (SNR) on held-out cells need not grow.

    Parameters
    ----------
    {adata}
        The results of :func:`flda.tl.path` are also needed.
    {axis}
    {ax}
    {shown}
    {key}

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=100)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], interactions=None, shrinkage=0.5)
    >>> flda.tl.path(adata, n_genes=[3, 6])
    >>> len(flda.pl.path(adata, "axon_1").lines[0].get_xdata())
    2
    """
    table = Record(adata, key).path
    axis = check_axis(axis, dict.fromkeys(table["axis"]))
    table = table[table["axis"] == axis].sort_values("n_genes")
    ax = new_axes(ax, 4.6, 3.2)
    lines = {
        "objective, fitted cells": ("eigenvalue", GREY, "--", "s", 9),  # seen also where the SNR lies on it
        "SNR, held out": ("snr", BLUE, "-", "o", 5),
        "cross-talk, held out": ("crosstalk", ORANGE, "-", "^", 5),
    }
    for label, (column, color, style, marker, size) in lines.items():
        ax.plot(table["n_genes"], table[column], style, color=color, marker=marker, markersize=size, label=label)
    ax.axhline(table["dense_eigenvalue"].iloc[-1], color=GREY, linestyle=":", label="objective, all genes")
    ax.set_xscale("log")
    ax.set_xticks(table["n_genes"], [str(n) for n in table["n_genes"]])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_yscale("symlog", linthresh=0.1)
    ax.yaxis.set_major_formatter("{x:g}")
    drawn = table[["eigenvalue", "snr", "crosstalk", "dense_eigenvalue"]]
    ax.set_ylim(min(-0.03, 1.5 * drawn.min().min()), 2 * drawn.max().max())
    ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    ax.set_xlabel("genes in the axis")
    ax.set_ylabel("variance / within")
    ax.set_title(words(axis), fontsize=10)
    ax.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    sns.despine(ax=ax)
    return finish(ax, show, save)


@documented
def stability(
    adata: AnnData,
    axis: str | None = None,
    *,
    n_genes: int = 30,
    ax: Axes | None = None,
    show: bool = False,
    save: str | os.PathLike | None = None,
    key: str = "flda",
) -> Axes:
    """Draw how often genes are selected again in halves of the cells (or donors).

    A gene counts as selected if some axis of the effect uses it. Without ``axis``, every axis has a row with a dot for
    every selected gene. With ``axis``, each of the most frequent genes of its effect has a bar; genes that the axis
    selects on all cells have dark bars. The dotted line is at 0.8.

    Parameters
    ----------
    {adata_ranked}
        The results of :func:`flda.tl.stability` are also needed.
    axis
        Name of an axis, or None for all.
    n_genes
        Number of genes to show for one axis.
    {ax}
    {shown}
    {key}

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=100)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.tl.rank_genes(adata, n_genes=5)
    >>> flda.tl.stability(adata, n_resamples=2, n_bootstraps=0)
    >>> flda.pl.stability(adata, "axon_1").get_xlabel()
    'share of halves that select the gene'
    """
    table = Record(adata, key).stability["genes"]
    ranking = get.rank_genes_df(adata, key=key)
    selected = ranking.loc[ranking["selected"], ["axis", "effect", "gene"]]
    if axis is None:
        return finish(_all_axes(selected.merge(table, on=["effect", "gene"], how="left"), ax), show, save)
    axis = check_axis(axis, dict.fromkeys(selected["axis"]))
    effect = selected.loc[selected["axis"] == axis, "effect"].iloc[0]
    table = table[table["effect"] == effect].sort_values(["frequency", "gene"], ascending=[False, True]).head(n_genes)
    chosen = table["gene"].isin(selected.loc[selected["axis"] == axis, "gene"])
    ax = new_axes(ax, 5.4, 1.0 + 0.2 * len(table))
    ax.barh(np.arange(len(table)), table["frequency"], color=np.where(chosen, BLUE, PALE))
    ax.set_yticks(np.arange(len(table)), table["gene"].map(words))
    ax.axvline(STABLE, color="black", linewidth=0.8, linestyle=":")
    ax.set_xlim(0, 1)
    ax.set_ylim(len(table) - 0.4, -0.6)
    ax.set_xlabel("share of halves that select the gene")
    meaning = {"selected on all cells": BLUE, "not selected": PALE}
    ax.legend(
        handles=[Patch(color=shade, label=label) for label, shade in meaning.items()], frameon=False, fontsize=8,
        loc="upper left", bbox_to_anchor=(1, 1),
    )  # fmt: skip
    ax.set_title(words(axis), fontsize=10)
    ax.tick_params(axis="y", labelsize=7.5, length=0)
    sns.despine(ax=ax, left=True)
    return finish(ax, show, save)


def _all_axes(table: pd.DataFrame, ax: Axes | None) -> Axes:
    """One row per axis, one dot per selected gene, a bar at the median."""
    table = table.assign(frequency=table["frequency"].fillna(0.0))
    axes = list(dict.fromkeys(table["axis"]))
    ax = new_axes(ax, 5.0, 1.0 + 0.3 * len(axes))
    rng = np.random.default_rng(0)
    for row, axis in enumerate(axes):
        values = table.loc[table["axis"] == axis, "frequency"].to_numpy(dtype=float)
        ax.scatter(values, row + rng.uniform(-0.22, 0.22, len(values)), s=14, color=BLUE, alpha=0.7, linewidths=0)
        ax.plot([np.median(values)] * 2, [row - 0.35, row + 0.35], color="black", linewidth=2)
    ax.set_yticks(range(len(axes)), list(map(words, axes)), fontsize=8)
    ax.invert_yaxis()
    ax.axvline(STABLE, color="black", linewidth=0.8, linestyle=":")
    ax.set_xlim(-0.03, 1.03)
    ax.set_xlabel("share of halves that select the gene (bar: median)")
    sns.despine(ax=ax, left=True)
    return ax
