"""The table of groups, and the share of each effect in the variance."""

from __future__ import annotations

import os
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
import seaborn as sns
from anndata import AnnData

from .._adata.record import Record
from .._docs import documented
from ._common import BLUE, GREY, annotate, finish, hatch, heatmap, inches, joined, new_axes, words

LETTER = 0.085  # inches that a letter of a label takes
MOST_NUMBERS = 60  # rows and columns that are labelled one by one

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@documented
def design(
    adata: AnnData,
    *,
    ax: Axes | None = None,
    show: bool = False,
    save: str | os.PathLike | None = None,
    key: str = "flda",
) -> Axes:
    """Draw the number of cells in every group of the design, with a row per level of the first factor.

    Groups without cells are hatched. A table with more than 60 rows or columns has a scale instead of numbers. The
    title says which effects the design can estimate and which it cannot. Cells are summed over the levels of nuisance
    factors.

    Parameters
    ----------
    {adata}
    {ax}
    {shown}
    {key}

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.pl.design(adata).get_title(loc="left")
    'estimable: dendrite, axon, dendrite:axon'
    """
    record = Record(adata, key)
    factors = record.params["factors"]
    counts = record.design.groupby(factors, observed=False)["n_cells"].sum().reset_index()
    rows = list(dict.fromkeys(counts[factors[0]].astype(str))) if len(factors) > 1 else ["cells"]
    rest = factors[1:] or factors
    columns = list(dict.fromkeys(joined(counts, rest)))
    table = counts["n_cells"].to_numpy().reshape(len(rows), len(columns))

    many = max(table.shape) > MOST_NUMBERS  # as with a numeric factor of many values
    width, height = (min(n, MOST_NUMBERS) for n in reversed(table.shape))
    report = record.estimability
    estimable = report["estimable"].astype(bool)
    lines = [f"estimable: {', '.join(report.loc[estimable, 'effect'])}"]
    lines += [f"not estimable: {row.effect}, {row.reason}" for row in report[~estimable].itertuples()]
    if n_empty := int((table == 0).sum()):
        lines.insert(0, f"{n_empty} of {table.size} groups {'is' if n_empty == 1 else 'are'} empty")
    upright = max(map(len, columns)) > 5
    room = max(3.2, 0.52 * width) if ax is None else inches(ax)  # inches for the table and for the title above it
    title = [part for line in lines for part in textwrap.wrap(words(line, 400), max(30, int(14 * room)))]
    beside = LETTER * max(len(words(row)) for row in rows)
    below = LETTER * max(len(words(column)) for column in columns) if upright else 0.2
    ax = new_axes(ax, room + beside + 0.6, 0.36 * height + below + 0.17 * len(title) + 0.7)
    grid: dict[str, Any] = {} if many else {"linewidth": 1, "edgecolor": "white"}
    heatmap(ax, table, {} if many else None, cmap="Blues", vmin=0, **grid)
    if not many:
        annotate(ax, table, table.astype(float), [[str(n) for n in row] for row in table])
        hatch(ax, np.argwhere(table == 0))
    shown = np.arange(0, len(columns), -(-len(columns) // MOST_NUMBERS))
    ax.set_xticks(shown + 0.5, [words(columns[i]) for i in shown], rotation=90 if upright else 0)
    shown = np.arange(0, len(rows), -(-len(rows) // MOST_NUMBERS))
    ax.set_yticks(shown + 0.5, [words(rows[i]) for i in shown], rotation=0)
    ax.set_xlabel(words(" × ".join(rest), 60))
    ax.set_ylabel(words(factors[0]) if len(factors) > 1 else "")
    ax.set_title("\n".join(title), loc="left", fontsize=9)
    return finish(ax, show, save)


@documented
def variance(
    adata: AnnData,
    *,
    ax: Axes | None = None,
    show: bool = False,
    save: str | os.PathLike | None = None,
    key: str = "flda",
) -> Axes:
    """Draw the share of every effect in the variance of expression, summed over genes and corrected for noise.

    An effect that is absent has a share near zero, which the correction can make negative.

    Parameters
    ----------
    {adata}
    {ax}
    {shown}
    {key}

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> [label.get_text() for label in flda.pl.variance(adata).get_yticklabels()]
    ['dendrite', 'axon', 'dendrite:axon', 'within']
    """
    table = Record(adata, key).variance
    share = table["share"].to_numpy(dtype=float)
    ax = new_axes(ax, 5.2, 0.9 + 0.3 * len(table))
    ax.barh(range(len(table)), share, color=[GREY if e == "within" else BLUE for e in table["effect"]])
    ax.set_yticks(range(len(table)), table["effect"].map(words))
    for row, s in enumerate(share):  # to the right of zero, where no name stands
        ax.annotate(
            f"{100 * s:.2g} %" if np.isfinite(s) else "", (np.nanmax([s, 0.0]), row), (3, 0),
            textcoords="offset points", va="center", fontsize=8,
        )  # fmt: skip
    ax.invert_yaxis()
    ax.axvline(0, color="black", linewidth=0.8)
    ax.margins(x=0.15)
    ax.set_xlabel("share of the variance of expression")
    sns.despine(ax=ax)
    return finish(ax, show, save)
