"""The figures of a results folder, which are also those of its report."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData

from .. import pl
from .._adata.record import Record
from .._progress import progress
from ._answers import best_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 130
MAX_AXES = 12  # axes in the figure of all loadings
MAX_EFFECTS = 8  # effects with figures of their own


@dataclass(frozen=True)
class Picture:
    """A drawn figure: its file name without suffix, its section of the report, its caption, and its PNG bytes."""

    name: str
    section: str
    caption: str
    png: bytes

    @property
    def of_data(self) -> bool:
        """Whether it shows cells or expression, and not only what the record of the fit holds."""
        return self.section == "scores" or self.name.startswith("genes_")


def pictures(adata: AnnData, key: str = "flda") -> Iterator[Picture]:
    """Draw the figures of the results, one at a time.

    Parameters
    ----------
    adata
        With the results of :func:`flda.tl.flda` and of any later step.
    key
        The ``key_added`` of the fit.
    """
    import matplotlib.pyplot as plt

    for name, section, caption, draw in progress(list(_plan(adata, key)), desc="figures"):
        figure = draw()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI)
        plt.close(figure)
        yield Picture(re.sub(r"[^\w.-]+", "-", name), section, caption, buffer.getvalue())


def _plan(adata: AnnData, key: str) -> Iterator[tuple[str, str, str, Callable[[], Any]]]:
    """Name, section, caption and drawing function of every figure."""
    record = Record(adata, key)
    factors = record.params["factors"]

    def of(draw: Callable[..., Axes], *arguments: str, **options) -> Callable[[], Any]:
        return lambda: draw(adata, *arguments, **options, key=key).figure

    caption = "Number of cells in every group of the design."
    if (record.design.groupby(factors, observed=False)["n_cells"].sum() == 0).any():
        caption += " Hatched groups are empty."
    yield "design", "design", caption, of(pl.design)
    caption = "Share of every effect in the variance of expression, corrected for noise."
    yield "variance", "design", caption, of(pl.variance)
    if "certificate" in record:
        for genes in dict.fromkeys(record.certificate["genes"]):
            caption = (
                f"Held-out variance of every effect (columns) on every axis (rows) of {genes} genes, in units of the "
                "variance within groups. The box marks the axis's own effect; the rest of the row is cross-talk."
            )
            yield f"certificate_{genes}", "axes", caption, of(pl.certificate, genes=genes)

    cells = (
        "Every cell is scored on axes that were fitted without it."
        if "held_out_scores" in record
        else "These are fitted cells, which lie closer to the means of their groups than new cells would."
    )
    if len(record.axes) > 1:
        caption = f"Cells on the first axes of the first two effects, with the mean of every group. {cells}"
        yield "scores", "scores", caption, lambda: _pairs(adata, factors, key)
    for axis in best_axes(record)[:MAX_EFFECTS]:
        caption = f"Scores on {axis}, with the means of the groups and their 95 % confidence bands. {cells}"
        yield f"scores_{axis}", "scores", caption, of(pl.scores, axis)

    names = record.sparse_axis_names if "sparse_axes" in record else record.axis_names
    which = "every axis" if len(names) <= MAX_AXES else f"the first {MAX_AXES} of {len(names)} axes"
    caption = f"Leading genes of {which}. Hatched genes are cancelling: they vary more with other effects. n.s.: "
    caption += "the gene does not differ significantly on its own."
    yield "loadings", "genes", caption, lambda: _all_loadings(adata, names[:MAX_AXES], key)
    chosen = [axis for axis in best_axes(record, "selected")[:MAX_EFFECTS] if axis in names]
    for axis in chosen:
        caption = (
            f"Mean expression of the genes of {axis} in every group, minus the gene's mean over groups, in standard "
            "deviations within groups. A pure gene changes between blocks and not within them."
        )
        yield f"genes_{axis}", "genes", caption, of(pl.genes, axis)
    if "path" in record:
        for axis in [a for a in chosen if a in set(record.path["axis"])]:
            caption = f"Objective, held-out SNR and held-out cross-talk of {axis} for several numbers of genes."
            yield f"path_{axis}", "tests", caption, of(pl.path, axis)
    if "stability" in record:
        caption = "How often the selected genes of every axis are selected again in halves of the data."
        yield "stability", "tests", caption, of(pl.stability)


def _pairs(adata: AnnData, factors: list[str], key: str) -> Figure:
    """The first axes of two effects, a panel per factor."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(factors), figsize=(4.6 * len(factors), 3.6), layout="constrained")
    for ax, factor in zip(np.atleast_1d(panels), factors, strict=True):
        pl.scores(adata, color=factor, ax=ax, key=key)
    return figure


def _all_loadings(adata: AnnData, names: list[str], key: str) -> Figure:
    """Loadings of every axis in a grid."""
    import matplotlib.pyplot as plt

    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure, panels = plt.subplots(
        rows, columns, figsize=(3.6 * columns, 2.9 * rows), layout="constrained", squeeze=False
    )
    legend: dict[str, Any] = {}
    for ax, name in zip(panels.flat, names, strict=False):
        pl.loadings(adata, name, ax=ax, key=key)
        if ax.get_legend():  # one for all panels
            kinds = [text.get_text() for text in ax.get_legend().get_texts()]
            legend = {**dict(zip(kinds, ax.get_legend().legend_handles, strict=True)), **legend}
            ax.get_legend().remove()
    if legend:
        figure.legend(legend.values(), legend.keys(), frameon=False, fontsize=8, loc="outside upper right", ncols=3)
    for ax in panels.flat[len(names) :]:
        ax.remove()
    return figure
