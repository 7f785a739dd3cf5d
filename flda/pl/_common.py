"""Colours, names, numbers and sizes that several figures use."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import seaborn as sns
from anndata import AnnData
from matplotlib.patches import Rectangle

from .._adata.read import in_memory

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_DISTINCT = 10  # colours of the palette for colour-blind readers; more levels get shades in order
BLUE, ORANGE, GREEN, GREY = "#0173b2", "#de8f05", "#029e73", "#949494"  # of seaborn's colorblind palette
SAVED_DPI = 150
MISSING = "#d9d9d9"  # cells without a label


def new_axes(ax: Axes | None, width: float, height: float) -> Axes:
    """Return the given Axes, or Axes in a new figure of this size in inches."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def finish(ax: Axes, show: bool, save: str | os.PathLike | None) -> Axes:
    """Write and show the figure of the Axes, if asked for, and return the Axes."""
    if save is not None:
        if not isinstance(save, str | os.PathLike):
            raise ValueError(f"save={save!r} is no path; give the name of a file, such as 'figure.png'.")
        if not Path(save).parent.is_dir():
            raise ValueError(f"there is no folder {Path(save).parent} for save={os.fspath(save)!r}; create it first.")
        figure: Any = ax.figure.figure  # that of a subfigure, too
        figure.savefig(save, dpi=SAVED_DPI, bbox_inches="tight")
    if show:
        import matplotlib.pyplot as plt

        plt.show()
    return ax


def inches(ax: Axes) -> float:
    """Width of the Axes before its labels take space."""
    return float(ax.get_window_extent().width / ax.figure.dpi)


def level_colors(adata: AnnData, column: str, obs: pd.DataFrame | None = None) -> dict[str, Any]:
    """Level -> colour: scanpy's colours of the column if it has any, else colours safe for colour-blind readers.

    Levels are those of the cells in ``obs``, by default of all cells.
    """
    obs = in_memory(adata.obs) if obs is None else obs
    if column not in obs:
        raise ValueError(f"obs has no column {column!r}.")
    values = obs[column].astype("category")
    levels = [str(level) for level in values.cat.categories]
    palette = list(adata.uns.get(f"{column}_colors", []))
    if len(palette) < len(levels):
        name = "colorblind" if len(levels) <= MAX_DISTINCT else "viridis"
        palette = sns.color_palette(name, len(levels))
    used = set(values.dropna().astype(str))
    return {level: shade for level, shade in zip(levels, palette, strict=False) if level in used}


def check_axis(axis: str | None, names: Iterable[str]) -> str:
    """The axis, by default the first; an unknown axis is an error that lists the known ones."""
    names = list(names)
    if axis is not None and axis not in names:
        raise ValueError(f"there is no axis {axis!r}; axes are {names}.")
    return names[0] if axis is None else axis


def joined(table: pd.DataFrame, columns: list[str]) -> list[str]:
    """One name per row from the levels in some columns."""
    return [" × ".join(row) for row in table[columns].astype(str).itertuples(index=False)]


def words(name: object, width: int = 30) -> str:
    """A name for matplotlib: dollar signs are escaped, and a long name is cut to ``width`` characters."""
    text = str(name)
    return (text if len(text) <= width else f"{text[: width - 1]}…").replace("$", r"\$")


def heatmap(ax: Axes, values: Any, colorbar: dict[str, Any] | None = None, **options) -> None:
    """Draw a matrix as squares, the first row on top; ``colorbar`` holds the options of a colour scale.

    Unlike seaborn's heat map it leaves labels alone, and so need not draw the whole figure to measure them.
    """
    table = np.ma.masked_invalid(np.asarray(values, dtype=float))
    mesh = ax.pcolormesh(table, **options)
    ax.set(xlim=(0, table.shape[1]), ylim=(table.shape[0], 0))
    sns.despine(ax=ax, left=True, bottom=True)
    if colorbar is not None:
        bar = ax.figure.colorbar(mesh, ax=ax, **colorbar)
        bar.outline.set_linewidth(0)


def annotate(ax: Axes, shown: np.ndarray, values: np.ndarray, texts: list[list[str]], size: float = 8) -> None:
    """Write numbers into the squares of a heat map, dark on light and light on dark squares."""
    mesh = ax.collections[0]
    for i, j in np.ndindex(values.shape):
        if texts[i][j]:
            red, green, blue, _ = mesh.cmap(mesh.norm(shown[i, j])) if np.isfinite(values[i, j]) else (1, 1, 1, 1)
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
            ax.text(
                j + 0.5,
                i + 0.5,
                texts[i][j],
                ha="center",
                va="center",
                fontsize=size,
                color="white" if dark else "black",
            )


def hatch(ax: Axes, squares: Iterable[tuple[int, int]]) -> None:
    """Mark squares (row, column) of a heat map as empty."""
    for i, j in squares:
        ax.add_patch(Rectangle((j, i), 1, 1, fill=False, hatch="////", edgecolor=GREY, linewidth=0))


def number(value: float) -> str:
    """Format a number with at most three digits; the text is empty if the number is not finite."""
    if not np.isfinite(value):
        return ""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no minus before a zero
