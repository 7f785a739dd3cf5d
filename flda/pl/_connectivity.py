"""Connectivity of the types of the design, and its relation to the axes of genes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import seaborn as sns
from anndata import AnnData

from .._adata.read import in_memory
from .._adata.record import Record
from .._docs import documented
from ._common import check_axis, finish, heatmap, level_colors, new_axes, number, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@documented
def connectivity(
    adata: AnnData,
    axis: str | None = None,
    *,
    direction: str | None = None,
    n_partners: int = 30,
    ax: Axes | None = None,
    show: bool = False,
    save: str | os.PathLike | None = None,
    key: str = "flda",
) -> Axes:
    """Draw the signed connectivity of the types, or their scores on a gene axis and its wiring axis.

    Without ``axis``, the matrix shows the strongest partners (rows) by types (columns, in the order of the design),
    with lines between the levels of the first factor. Colour is proportional to the signed square root, so weak
    partners are visible next to strong ones. The numbers on the colour scale have the units of the matrix. With an
    axis, every type is a point: its mean gene score is drawn against its score on the pattern of partners that covaries
    with the axis. The title is the result of :func:`flda.circuits.link_axes`. The pattern was found with these types,
    so the points lie closer to a line than new types would. For the held-out R², each type is left out in turn.

    Parameters
    ----------
    {adata}
        The results of :func:`flda.circuits.link_axes` are also needed.
    axis
        Name of a gene axis, or None for the matrix.
    direction
        ``"inputs"`` or ``"outputs"``; by default inputs for the matrix, and for an axis the direction of the larger
        share.
    n_partners
        Number of partners to show.
    {ax}
    {shown}
    {key}

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> types = list(adata.obs["subtype"].cat.categories)
    >>> wiring = pd.DataFrame(0.0, index=["Mi1", "Tm9"], columns=types)
    >>> wiring.loc["Mi1", types[:4]], wiring.loc["Tm9", types[4:]] = 60.0, 50.0
    >>> links = flda.circuits.link_axes(adata, wiring, "subtype", directions="inputs")
    >>> [label.get_text() for label in flda.pl.connectivity(adata).get_yticklabels()]
    ['Mi1', 'Tm9']
    >>> flda.pl.connectivity(adata, "dendrite_1").get_xlabel()
    'dendrite_1, mean of genes per type'
    """
    record = Record(adata, key)
    found, factors = record.connectivity, record.params["factors"]
    links = found["links"]
    known = list(dict.fromkeys(links["direction"]))
    if direction is not None and direction not in known:
        raise ValueError(f"there are no links with direction={direction!r}; use one of {known}.")
    if axis is None:
        return finish(_matrix(adata, found, factors, direction or known[0], n_partners, ax), show, save)
    axis = check_axis(axis, dict.fromkeys(links["axis"]))
    rows = links[links["axis"] == axis].set_index("direction")
    direction = direction or str(rows["share"].idxmax())
    return finish(_pair(adata, found, factors, rows.loc[direction], axis, direction, ax), show, save)


def _matrix(
    adata: AnnData, found: dict[str, Any], factors: list[str], direction: str, n_partners: int, ax: Axes | None
) -> Axes:
    types = list(map(str, found["params"]["types"]))
    matrix = pd.DataFrame(np.asarray(found["matrix"]), index=list(found["pre"]), columns=list(found["post"]))
    table = matrix[types] if direction == "inputs" else matrix.loc[types].T
    if not found["params"]["within"]:
        table = table.drop(index=[t for t in types if t in table.index])
    table = table[table.any(axis=1)]
    n_all = len(table)
    table = table.loc[table.abs().sum(axis=1).sort_values(ascending=False, kind="stable").index[:n_partners]]
    values = table.to_numpy(dtype=float)
    signed = bool((values < 0).any())
    shown = np.sign(values) * np.sqrt(np.abs(values))
    reach = float(np.abs(shown).max())

    ax = new_axes(ax, 2.6 + 0.36 * len(types), 1.4 + 0.2 * len(table))
    heatmap(
        ax, shown, {"shrink": 0.8, "pad": 0.02}, cmap="RdBu_r" if signed else "Blues", vmin=-reach if signed else 0,
        vmax=reach, linewidth=0.5, edgecolor="white",
    )  # fmt: skip
    bar = ax.collections[0].colorbar
    if bar is not None:
        marks = np.array([m for m in (-1, -0.5, 0, 0.5, 1) if signed or m >= 0]) * reach
        bar.set_ticks(marks.tolist(), labels=[number(np.sign(m) * m**2).replace("-", "−") if m else "0" for m in marks])
        bar.set_label("connection (− inhibitory, + excitatory)" if signed else "connection", fontsize=8)
    first = _levels(adata, found["params"]["groupby"], factors[0]).reindex(types).to_numpy()
    for i in np.flatnonzero(first[1:] != first[:-1]):
        ax.axvline(float(i) + 1, color="black", linewidth=1.2)
    ax.set_xticks(np.arange(len(types)) + 0.5, list(map(words, types)), rotation=90 if len(types) > 6 else 0)
    ax.set_yticks(np.arange(len(table)) + 0.5, [words(t) for t in table.index], rotation=0, fontsize=8)
    ax.tick_params(length=0)
    cut = f", {len(table)} strongest of {n_all}" if n_all > len(table) else ""
    ax.set_ylabel(f"{'presynaptic' if direction == 'inputs' else 'postsynaptic'} partners{cut}")
    ax.set_title(f"{direction} of the types", fontsize=10, loc="left")
    return ax


def _pair(
    adata: AnnData, found: dict[str, Any], factors: list[str], link: pd.Series, axis: str, direction: str,
    ax: Axes | None,
) -> Axes:  # fmt: skip
    scores = found["scores"].set_index("type")
    x, y = (scores[f"{what} {axis}"].to_numpy(dtype=float) for what in ("genes", direction))
    color = next(f for f in factors if f in str(link["effect"]).split(":"))
    shades = level_colors(adata, color)
    level = _levels(adata, found["params"]["groupby"], color).reindex(scores.index)
    ax = new_axes(ax, 4.8, 3.8)
    for name, shade in shades.items():
        own = (level == name).to_numpy()
        ax.scatter(x[own], y[own], color=shade, edgecolors="black", linewidths=0.8, s=55, label=words(name), zorder=3)
    _write_names(ax, x, y, list(map(words, scores.index)))
    ax.axhline(0, color="0.85", linewidth=0.8, zorder=0)
    ax.axvline(0, color="0.85", linewidth=0.8, zorder=0)
    ax.margins(0.14)
    ax.set_xlabel(words(f"{axis}, mean of genes per type", 60))
    ax.set_ylabel(f"{direction} along " + str(link["partners"]).replace(" -", " −"), fontsize=9)
    least = f" (at least {1 / link['n_distinct']:.2g})" if np.isfinite(link["n_distinct"]) else ""
    ax.set_title(
        f"{100 * link['share']:.0f} % of the {direction}, expected {100 * link['expected']:.0f} %; "
        f"p = {link['pval']:.2g}{least}\nheld-out R² {link['held_out_r2']:.2f}, {int(link['n_types'])} types",
        fontsize=9, loc="left",
    )  # fmt: skip
    ax.legend(title=words(color), frameon=False, fontsize=8, title_fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    sns.despine(ax=ax)
    return ax


def _write_names(ax: Axes, x: np.ndarray, y: np.ndarray, names: list[str]) -> None:
    """Names to the right of the points; where points are close, the names are moved apart."""
    span = np.ptp(x) or 1.0, np.ptp(y) or 1.0
    placed: list[tuple[float, float]] = []
    for i in np.argsort(y, kind="stable"):
        u, v = (x[i] - x.min()) / span[0], (y[i] - y.min()) / span[1]
        while any(abs(u - a) < 0.12 and abs(v - b) < 0.055 for a, b in placed):
            v += 0.01
        placed.append((u, v))
        ax.text(x[i] + 0.03 * span[0], y.min() + v * span[1], names[i], fontsize=8, va="center", ha="left")


def _levels(adata: AnnData, groupby: str, factor: str) -> pd.Series:
    """Level of a factor by type."""
    obs = in_memory(adata.obs)[[groupby, factor]].dropna().astype(str)
    return obs.drop_duplicates(groupby).set_index(groupby)[factor]
