"""Figures. Every function takes ``ax=`` and returns the matplotlib Axes it drew on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData

from ._keys import Keys
from .get import axes_df

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def scores(
    adata: AnnData,
    x: str | None = None,
    y: str | None = None,
    *,
    color: str | None = None,
    ax: Axes | None = None,
    key: str = "flda",
) -> Axes:
    """Scores of the cells on two axes, coloured by a column of ``obs``, with the mean of every group of the design.

    Cells that were fitted lie closer to their group's mean than new cells would, and the more so the more genes there
    are per cell; what an axis separates is in the certificate (:func:`flda.validate.certify`), not in this picture.

    Parameters
    ----------
    adata
        With the results of :func:`flda.tl.flda`.
    x, y
        Names of two axes; by default the first axes of the first two effects.
    color
        A categorical column of ``obs``, by default the first factor of the effect of ``x``. Colours are those of
        ``uns["<color>_colors"]`` if present, else a palette safe for colour-blind readers.
    ax
        Where to draw.
    key
        The ``key_added`` of the fit.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.pl.scores(adata, "axon_1", "axon_2", color="axon").get_xlabel()
    'axon_1'
    """
    import matplotlib.pyplot as plt
    import seaborn as sns

    axes = axes_df(adata, key=key)
    names = axes["axis"].tolist()
    firsts = axes.drop_duplicates("effect")["axis"].tolist()
    defaults = firsts if len(firsts) > 1 else names
    x = x or defaults[0]
    y = y or next((a for a in [*defaults, *names] if a != x), x)
    for name in (x, y):
        if name not in names:
            raise ValueError(f"there is no axis {name!r}; axes are {names}.")
    color = color or adata.uns[Keys(key).uns]["params"]["factors"][0]
    if color not in adata.obs:
        raise ValueError(f"obs has no column {color!r}.")
    levels = adata.obs[color].astype("category").cat.remove_unused_categories()
    palette = list(adata.uns.get(f"{color}_colors", []))
    if len(palette) < len(levels.cat.categories):
        n = len(levels.cat.categories)
        palette = sns.color_palette("colorblind") if n <= 10 else sns.color_palette("husl", n)
    if ax is None:
        ax = plt.subplots(figsize=(4.6, 4))[1]

    table = pd.DataFrame(adata.obsm[Keys(key).obsm][:, [names.index(x), names.index(y)]])
    size = np.clip(3000 / len(table), 2, 18)
    order = np.random.default_rng(0).permutation(len(table))  # no level is drawn on top of all others
    known = {level: palette[i] for i, level in enumerate(levels.cat.categories)}
    colors = np.array([known.get(v, (0.8, 0.8, 0.8)) for v in levels], dtype=object)
    ax.scatter(
        table[0].iloc[order], table[1].iloc[order], s=size, c=[*colors[order]], linewidths=0, alpha=0.6,
        rasterized=True,
    )  # fmt: skip
    factors = adata.uns[Keys(key).uns]["params"]["factors"]
    groups = adata.obs[list(dict.fromkeys([*factors, color]))].astype(str).agg("\x1f".join, axis=1).to_numpy()
    means = table.groupby([levels.to_numpy(), groups], observed=True).mean()
    for level, shade in known.items():
        mean = means.loc[level]
        ax.scatter(mean[0], mean[1], s=50, color=shade, edgecolors="black", linewidths=1, label=str(level), zorder=3)
    ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    ax.axvline(0, color="0.8", linewidth=0.8, zorder=0)
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.legend(
        title=color, frameon=False, loc="upper left", bbox_to_anchor=(1, 1), fontsize="small",
        ncols=1 + len(known) // 16,
    )  # fmt: skip
    sns.despine(ax=ax)
    return ax
