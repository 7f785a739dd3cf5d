"""How well counterfactual means predict groups that were left out of the fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import seaborn as sns
from anndata import AnnData

from .._adata.record import Record
from .._docs import documented
from ._common import BLUE, GREEN, GREY, ORANGE, new_axes, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOWEST = -1.0  # R2 below this is drawn at the edge


@documented
def counterfactual(adata: AnnData, *, genes: str = "all", ax: Axes | None = None, key: str = "flda") -> Axes:
    """Draw R2 of every group that was left out: of counterfactual means, and of the additive mean.

    The line at 1 is a perfect prediction and the line at 0 is no change. Bars are two standard errors. Values below -1
    are drawn at the left edge. Groups without a value are those that do not differ clearly from their sources, or
    cannot be predicted.

    Parameters
    ----------
    {adata}
        The results of :func:`flda.tl.certify_counterfactual` are also needed.
    genes
        ``"all"``, or ``"differing"`` for the genes that differ between a group and its sources.
    {ax}
    {key}

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.tl.certify_counterfactual(adata, {"dendrite": "T5"})
    >>> [text.get_text() for text in flda.pl.counterfactual(adata).get_yticklabels()][0]
    'T5:a'
    """
    table = Record(adata, key).counterfactual_certificate
    kinds = list(dict.fromkeys(table["genes"]))
    if genes not in kinds:
        raise ValueError(f"the certificate has no rows with genes={genes!r}; it has {kinds}.")
    table = table[table["genes"] == genes]
    groups, means = list(dict.fromkeys(table["group"])), list(dict.fromkeys(table["group_means"]))
    ax = new_axes(ax, 5.2, 1.2 + 0.3 * len(groups))
    first = table[table["group_means"] == means[0]].set_index("group")
    series = [("additive mean", first["r2_additive"], first["se_r2_additive"], ORANGE, "s")]
    for name, color, marker in zip(means, (BLUE, GREEN), ("o", "^"), strict=False):
        rows = table[table["group_means"] == name].set_index("group")
        series.append((name, rows["r2"], rows["se_r2"], color, marker))
    offsets = np.linspace(-0.22, 0.22, len(series))
    for (label, r2, se, color, marker), offset in zip(series, offsets, strict=True):
        ax.errorbar(
            r2.reindex(groups).clip(lower=LOWEST), np.arange(len(groups)) + offset,
            xerr=2 * se.reindex(groups).fillna(0.0), fmt=marker, color=color, label=label,
            markersize=4, elinewidth=0.8,
        )  # fmt: skip
    for value in (0.0, 1.0):
        ax.axvline(value, color=GREY, linewidth=0.8, linestyle=":", zorder=0)
    ax.set_yticks(np.arange(len(groups)), list(map(words, groups)), fontsize=8)
    ax.set_xlim(LOWEST - 0.1, 1.15)
    ax.invert_yaxis()
    ax.set_xlabel("R² of the left-out mean (0: no change)")
    ax.set_title(f"groups left out of the fit, {genes} genes", fontsize=10)
    ax.legend(fontsize=7.5, frameon=False, loc="lower left")
    sns.despine(ax=ax)
    return ax
