"""How large a study must be."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import seaborn as sns
from matplotlib.ticker import NullFormatter

from ..simulate._power import MEASURES, Power
from ._common import GREY, finish, new_axes, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def power(
    found: Power,
    measure: str = "purity",
    *,
    ax: Axes | None = None,
    show: bool = False,
    save: str | os.PathLike | None = None,
) -> Axes:
    """Draw the purity of axes, or the stability of gene lists, against the number of cells per group.

    Lines are medians over simulated studies, bands are their intervals, and dots mark the numbers of cells that were
    tried. The dotted line is the target. If several numbers of donors were tried, each has its own line style.

    Parameters
    ----------
    found
        Result of :func:`flda.simulate.power`.
    measure
        ``"purity"`` or ``"stability"``.
    ax
        matplotlib Axes to draw on; by default those of a new figure.
    show, save
        Whether to show the figure, and the path of a file to write it to.

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
    return finish(ax, show, save)
