"""The genes of an axis: their loadings, and their expression over the design."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import seaborn as sns
from anndata import AnnData
from matplotlib.patches import Rectangle

from .. import get
from .._adata.fitted import Fitted
from .._adata.record import Record
from .._data.arrays import group_sums
from .._docs import documented
from ._common import BLUE, GREEN, ORANGE, check_axis, finish, heatmap, inches, joined, level_colors, new_axes, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KIND_COLORS = {"pure": BLUE, "interaction-typical": GREEN, "cancelling": ORANGE}


@documented
def loadings(
    adata: AnnData,
    axis: str | None = None,
    *,
    n_genes: int = 10,
    ax: Axes | None = None,
    show: bool = False,
    save: str | os.PathLike | None = None,
    key: str = "flda",
) -> Axes:
    """Draw the standardised loadings of the leading genes of an axis, the largest first.

    Pure genes are blue, genes that are typical of an interaction green. Cancelling genes, which help the axis by
    cancelling other effects in its other genes, are orange and hatched; see :func:`flda.metrics.specificity`. The mark
    "n.s." stands beside genes that do not differ significantly on their own (column ``significant`` of
    :func:`flda.get.rank_genes_df`).

    Parameters
    ----------
    {adata}
        After :func:`flda.tl.rank_genes`, the axes are those of the selected genes.
    {axis}
    n_genes
        Number of genes to show.
    {ax}
    {shown}
    {key}

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.tl.rank_genes(adata, n_genes=5)
    >>> len(flda.pl.loadings(adata, "axon_1").patches)
    5
    """
    table = leading(adata, axis, n_genes, key)
    ax = new_axes(ax, 4.2, 0.9 + 0.24 * len(table))
    values, kinds = table["score"].to_numpy(), table["kind"]
    bars = ax.barh(np.arange(len(table)), values, color=[KIND_COLORS[k] for k in kinds])
    for bar, kind in zip(bars, kinds, strict=True):
        if kind == "cancelling":
            bar.set(hatch="////", edgecolor="white", linewidth=0)
    for row in np.flatnonzero(~table["significant"].to_numpy()).tolist():  # on the free side of the bar
        ax.text(0, row, " n.s. ", ha="right" if values[row] > 0 else "left", va="center", fontsize=6.5, color="0.35")
    ax.set_yticks(np.arange(len(table)), table["gene"].map(words))
    ax.invert_yaxis()
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_xlabel("standardised loading")
    ax.set_title(words(table["axis"].iloc[0]), fontsize=10)
    if kinds.nunique() > 1:
        first = {kind: bars[list(kinds).index(kind)] for kind in KIND_COLORS if kind in set(kinds)}
        ax.legend(first.values(), first.keys(), frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    ax.tick_params(axis="y", labelsize=8, length=0)
    sns.despine(ax=ax, left=True)
    return finish(ax, show, save)


@documented
def genes(
    adata: AnnData,
    axis: str | None = None,
    *,
    n_genes: int = 20,
    ax: Axes | None = None,
    show: bool = False,
    save: str | os.PathLike | None = None,
    key: str = "flda",
) -> Axes:
    """Draw the expression of the leading genes of an axis in all groups of the design.

    Each square is a group mean minus the gene's mean over groups, in within-group standard deviations. Groups form
    blocks by the levels of the axis's effect, sorted by the score of these genes on the axis; genes are sorted by their
    loadings. A pure gene changes between blocks and not within them.

    Parameters
    ----------
    {adata}
        After :func:`flda.tl.rank_genes`, the genes are the selected ones.
    {axis}
    n_genes
        Number of genes to show.
    {ax}
    {shown}
    {key}

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.tl.rank_genes(adata, n_genes=5)
    >>> ax = flda.pl.genes(adata, "axon_1")
    >>> len(ax.get_yticklabels()), len(ax.get_xticklabels())
    (5, 8)
    """
    record = Record(adata, key)
    fit, table = record.params, leading(adata, axis, n_genes, key).sort_values("loading", ascending=False)
    factors, own = fit["factors"], record.factors_of(str(table["effect"].iloc[0]))
    groups, means = _group_means(Fitted.read(adata, key, real_cells_only=False), table["gene"].tolist(), factors)
    means = means - means.mean(axis=0)
    others = [f for f in factors if f not in own]
    blocks = pd.DataFrame({"block": joined(groups, own), "score": means @ table["loading"].to_numpy()})
    blocks["score"] = blocks.groupby("block")["score"].transform("mean")
    order = blocks.sort_values(["score", "block"], kind="stable").index  # within a block in the order of the levels
    of_group, groups = blocks.loc[order, "block"].reset_index(drop=True), groups.loc[order]
    sd = record.within_sd[table["gene"]].to_numpy()
    shown = (means[order] / np.where(sd > 0, sd, np.inf)).T

    ax = new_axes(ax, max(4.2, 2.4 + 0.17 * len(groups)), 1.9 + 0.2 * len(table))
    limit = np.percentile(np.abs(shown), 98) or 1.0  # one extreme group must not make all others pale
    heatmap(
        ax, shown, {"label": "mean, within-group sd", "shrink": 0.7, "pad": 0.02, "extend": "both"},
        cmap="RdBu_r", vmin=-limit, vmax=limit, rasterized=True,
    )  # fmt: skip
    labels = joined(groups, others) if others else of_group.tolist()
    ax.set_xticks(np.arange(len(groups)) + 0.5, list(map(words, labels)), rotation=90, fontsize=6.5)
    ax.set_yticks(np.arange(len(table)) + 0.5, table["gene"].map(words), rotation=0, fontsize=7.5)
    ax.tick_params(length=0)
    ax.set_xlabel(words(" × ".join(others or own), 60))
    height = _head_blocks(ax, of_group, level_colors(adata, own[0]) if len(own) == 1 else {}, bool(others))
    ax.set_title(words(f"{table['axis'].iloc[0]}: groups by {' × '.join(own)}", 60), fontsize=10, pad=height)
    return finish(ax, show, save)


def leading(adata: AnnData, axis: str | None, n_genes: int, key: str) -> pd.DataFrame:
    """Rows of the ranking of one axis: the selected genes, or the first ones if none are selected."""
    record = Record(adata, key)
    axes = record.sparse_axes if "sparse_axes" in record else record.axes
    axis = check_axis(axis, axes["axis"])
    effect = axes.loc[axes["axis"] == axis, "effect"].iloc[0]
    table = get.rank_genes_df(adata, effect, key=key)
    table = table[table["axis"] == axis]
    if table["selected"].any():
        table = table[table["selected"]]
    return table.head(n_genes)


def _group_means(fitted: Fitted, names: list[str], factors: list[str]) -> tuple[pd.DataFrame, np.ndarray]:
    """Levels of every occupied group, and the mean expression of some genes in it (groups x genes)."""
    X = fitted.X[:, fitted.record.gene_names.get_indexer(names)]
    cells = fitted.labels[factors].astype("category").groupby(factors, observed=True, sort=True)
    codes, counts = cells.ngroup().to_numpy(), cells.size()
    return counts.index.to_frame(index=False), group_sums(X, codes, len(counts)) / counts.to_numpy()[:, None]


def _head_blocks(ax: Axes, blocks: pd.Series, colors: dict, named: bool) -> float:
    """Lines between blocks of groups, and a coloured strip with the name of each above; their height in points."""
    starts = np.flatnonzero((blocks != blocks.shift()).to_numpy()).tolist()
    ends = [*starts[1:], len(blocks)]
    transform, room = ax.get_xaxis_transform(), inches(ax) / len(blocks)
    names = blocks.map(words)
    narrow = named and any(0.075 * len(names[s]) > room * (e - s) for s, e in zip(starts, ends, strict=True))
    for start, end in zip(starts, ends, strict=True):
        if start:
            ax.axvline(start, color="black", linewidth=0.8)
        shade = colors.get(blocks[start])
        if shade is not None:
            ax.add_patch(Rectangle((start, 1.0), end - start, 0.02, color=shade, transform=transform, clip_on=False))
        if named:
            ax.text(
                (start + end) / 2, 1.03, names[start], transform=transform, va="bottom", fontsize=7.5,
                ha="left" if narrow else "center", rotation=35 if narrow else 0,
            )  # fmt: skip
    return 8.0 + named * (17 + narrow * 2.6 * max(map(len, names)))
