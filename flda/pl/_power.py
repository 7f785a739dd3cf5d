"""Simulated cells beside real ones, and how large a study must be."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import seaborn as sns
from matplotlib.ticker import NullFormatter

from ..simulate import Fidelity
from ..simulate._power import MEASURES, Power
from ._common import BLUE, GREY, ORANGE, new_axes, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_POINTS = 5000  # dots drawn, evenly spaced in the order of the genes


def fidelity(found: Fidelity, kind: str = "auc", *, ax: Axes | None = None) -> Axes:
    """Simulated against real cells, one measure at a time.

    Parameters
    ----------
    found
        From :func:`flda.simulate.fidelity`.
    kind
        ``"auc"``: how well classifiers tell the two apart, by group, with the median; ``"variance"``: variance against
        mean of every gene; ``"zeros"``: share of zeros against mean; ``"correlation"``: pairs of genes; ``"library"``:
        total counts.
    ax
        Where to draw.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(200, 60)
    >>> simulated = flda.simulate.fit_counts(adata, ["dendrite", "axon"]).sample()
    >>> found = flda.simulate.fidelity(adata, simulated, ["dendrite", "axon"])
    >>> flda.pl.fidelity(found, "zeros").get_ylabel()
    'share of zeros'
    """
    draw: dict[str, Callable[[Fidelity, Axes], None]] = {
        "auc": _auc, "variance": _variance, "zeros": _zeros, "correlation": _correlation, "library": _library
    }  # fmt: skip
    if kind not in draw:
        raise ValueError(f"kind={kind!r}: use one of {list(draw)}.")
    ax = new_axes(ax, 4.2, 3.4)
    draw[kind](found, ax)
    return ax


def power(found: Power, measure: str = "purity", *, ax: Axes | None = None) -> Axes:
    """Purity of axes, or stability of gene lists, against the number of cells per group.

    Lines are medians over simulated studies, bands their intervals, dots the numbers tried; the dotted line is the
    target. Of several numbers of donors each has lines of its own dashes.

    Parameters
    ----------
    found
        From :func:`flda.simulate.power`.
    measure
        ``"purity"`` or ``"stability"``.
    ax
        Where to draw.

    Examples
    --------
    >>> import flda
    >>> pilot = flda.datasets.t4t5_simulated(160, 60)
    >>> found = flda.simulate.power(pilot, ["dendrite", "axon"], n_cells=[5, 20], n_studies=2, n_genes=5, shrinkage=0.5)
    >>> flda.pl.power(found, "stability").get_xlabel()
    'cells per group'
    """
    if measure not in MEASURES:
        raise ValueError(f"measure={measure!r}: use one of {list(MEASURES)}.")
    table = found.curves[found.curves["measure"] == measure]
    effects, donors = list(dict.fromkeys(table["effect"])), list(dict.fromkeys(table["n_donors"]))
    ax = new_axes(ax, 5.4, 3.4)
    for effect, shade in zip(effects, sns.color_palette("colorblind", len(effects)), strict=True):
        for d, dashes in zip(donors, ["-", "--", ":", "-."] * len(donors), strict=False):
            part = table[(table["effect"] == effect) & (table["n_donors"] == d)].sort_values("n_cells")
            label = words(effect) if len(donors) == 1 else f"{words(effect)}, {d} donors"
            ax.plot(part["n_cells"], part["median"], dashes, marker="o", markersize=3.5, color=shade, label=label)
            ax.fill_between(part["n_cells"], part["lower"], part["upper"], color=shade, alpha=0.15, linewidth=0)
    ax.axhline(found.needed.loc[found.needed["measure"] == measure, "target"].iloc[0], color=GREY, ls=":", lw=1)
    ax.set_xscale("log")
    ticks = sorted(set(table["n_cells"]))
    ax.set_xticks(ticks, [str(t) for t in ticks])
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set(xlabel="cells per group", ylim=(0, 1.03))
    ax.set_ylabel({"purity": "purity of the first axis", "stability": "genes selected again"}[measure])
    ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    sns.despine(ax=ax)
    return ax


def _auc(found: Fidelity, ax: Axes) -> None:
    table = found.groups[["auc", "auc_linear"]].rename(columns={"auc": "random forest", "auc_linear": "logistic"})
    sns.stripplot(table, ax=ax, palette=[BLUE, ORANGE], size=4, alpha=0.7)
    ax.hlines(table.median(), np.arange(2) - 0.25, np.arange(2) + 0.25, color="black", lw=1.5, zorder=3)
    ax.axhline(0.5, color=GREY, ls=":", lw=1)
    ax.set(ylabel="AUC, real against simulated", xlabel="", ylim=(0, 1.03))
    sns.despine(ax=ax)


def _variance(found: Fidelity, ax: Axes) -> None:
    _by_mean(found, ax, "variance", "variance within groups")
    ax.set_yscale("log")


def _zeros(found: Fidelity, ax: Axes) -> None:
    _by_mean(found, ax, "zeros", "share of zeros")


def _by_mean(found: Fidelity, ax: Axes, column: str, label: str) -> None:
    step = max(1, len(found.genes) // MAX_POINTS)
    for kind, shade in (("real", BLUE), ("simulated", ORANGE)):
        part = found.genes[found.genes[f"mean_{kind}"] > 0].iloc[::step]
        ax.scatter(
            part[f"mean_{kind}"], part[f"{column}_{kind}"], s=4, alpha=0.35, color=shade, label=kind, rasterized=True
        )
    ax.set_xscale("log")
    ax.set(xlabel="mean count of a gene", ylabel=label)
    ax.legend(frameon=False, markerscale=3, fontsize=8)
    sns.despine(ax=ax)


def _correlation(found: Fidelity, ax: Axes) -> None:
    table = found.correlations.iloc[:: max(1, len(found.correlations) // MAX_POINTS)]
    ax.scatter(table["real"], table["simulated"], s=4, alpha=0.35, color=BLUE, rasterized=True)
    ends = np.array([table.to_numpy().min(), table.to_numpy().max()])
    ax.plot(ends, ends, color=GREY, ls=":", lw=1)
    ax.set(xlabel="correlation of two genes, real", ylabel="simulated")
    sns.despine(ax=ax)


def _library(found: Fidelity, ax: Axes) -> None:
    for kind, shade in (("real", BLUE), ("simulated", ORANGE)):
        values = found.library.loc[found.library["kind"] == kind, "log10_counts"]
        sns.ecdfplot(values, ax=ax, color=shade, label=kind)
    ax.set(xlabel="log10 of the counts of a cell", ylabel="share of cells")
    ax.legend(frameon=False, fontsize=8)
    sns.despine(ax=ax)
