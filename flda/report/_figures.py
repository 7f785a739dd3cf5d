"""The figures of a results folder and of its report: one list for both."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData

from .. import get, pl
from .._adata.results import Keys
from ..pl._common import params
from ._answers import best_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 130
MAX_AXES = 12  # axes in the figure of all loadings
MAX_EFFECTS = 8  # effects with figures of their own


@dataclass(frozen=True)
class Picture:
    """A drawn figure: name of the file without suffix, section of the report, caption, PNG bytes."""

    name: str
    section: str
    caption: str
    png: bytes


def pictures(adata: AnnData, key: str = "flda") -> Iterator[Picture]:
    """Draw what there is to see in the results, one figure at a time.

    Parameters
    ----------
    adata
        With the results of :func:`flda.tl.flda` and of any later step.
    key
        The ``key_added`` of the fit.
    """
    import matplotlib.pyplot as plt

    for name, section, caption, draw in _plan(adata, key):
        figure = draw()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI)
        plt.close(figure)
        yield Picture(re.sub(r"[^\w.-]+", "-", name), section, caption, buffer.getvalue())


def _plan(adata: AnnData, key: str) -> Iterator[tuple[str, str, str, Callable[[], Any]]]:
    """Name, section, caption and how to draw it."""
    results, factors = get.results(adata, key), params(adata, key)["factors"]

    def of(draw: Callable[..., Axes], *arguments: str, **options) -> Callable[[], Any]:
        return lambda: draw(adata, *arguments, **options, key=key).figure

    yield "design", "design", "Cells in every group of the design; hatched groups are empty.", of(pl.design)
    if "variance" in results:
        caption = "Share of every effect in the variance of expression, corrected for noise."
        yield "variance", "design", caption, of(pl.variance)
    if "certificate" in results:
        for genes in dict.fromkeys(results["certificate"]["genes"]):
            caption = (
                f"Held-out variance of every effect (columns) on every axis (rows) of {genes} genes, in units of the "
                "variance within groups. Boxes mark the own effect; the rest of a row is cross-talk."
            )
            yield f"certificate_{genes}", "axes", caption, of(pl.certificate, genes=genes)

    honest = Keys(key).obsm_held_out in adata.obsm
    cells = (
        "Every cell is scored on axes that were fitted without it."
        if honest
        else "Fitted cells: they lie closer to the means of their groups than new cells would."
    )
    if len(results["axes"]) > 1:
        caption = f"Cells on the first two axes, with the mean of every group. {cells}"
        yield "scores", "scores", caption, lambda: _pairs(adata, factors, key)
    best = best_axes(results)[:MAX_EFFECTS]
    for axis in best:
        caption = f"Scores on {axis}, with means and 95 % confidence bands of the groups. {cells}"
        yield f"scores_{axis}", "scores", caption, of(pl.scores, axis)

    axes = results.get("sparse_axes", results["axes"])
    names = axes["axis"].tolist()
    caption = (
        "Leading genes of every axis. Hatched: cancelling genes, which carry other effects more than the axis's own."
    )
    yield "loadings", "genes", caption, lambda: _all_loadings(adata, names[:MAX_AXES], key)
    chosen = best_axes(results, "selected")[:MAX_EFFECTS]
    for axis in [a for a in chosen if a in names]:
        caption = (
            f"Expression of the genes of {axis} in every group, less the gene's mean, in standard deviations within "
            "groups. A pure gene changes between blocks and not within them."
        )
        yield f"genes_{axis}", "genes", caption, of(pl.genes, axis)
    if "path" in results:
        for axis in [a for a in chosen if a in set(results["path"]["axis"])]:
            yield f"path_{axis}", "evidence", f"What {axis} gains from more genes.", of(pl.path, axis)
    if "stability" in results:
        caption = "How often the selected genes of every axis are selected again in half of the data."
        yield "stability", "evidence", caption, of(pl.stability)


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
    legend = None
    for ax, name in zip(panels.flat, names, strict=False):
        pl.loadings(adata, name, ax=ax, key=key)
        if ax.get_legend():  # one for all panels
            legend = legend or (ax.get_legend().legend_handles, [t.get_text() for t in ax.get_legend().get_texts()])
            ax.get_legend().remove()
    if legend:
        figure.legend(*legend, frameon=False, fontsize=8, loc="outside upper right", ncols=2)
    for ax in panels.flat[len(names) :]:
        ax.remove()
    return figure
