"""How closely cells simulated by flda.simulate resemble the RNA mixtures to which the model was fitted.

    FLDA_DATA_DIR=... python benchmarks/fidelity.py

The design is mixture x amount x protocol, 55 groups of 1 to 25 cells, with as many simulated cells as real ones. The
model has the main effects and the interactions that the table identifies. Areas under the curve are computed on
held-out cells, by group. ``genes``: the number of genes, those with the largest mean counts. ``compared with``: either
the cells to which the model was fitted, or the half of each group that was not used for the fit.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from fidelity_measures import Fidelity, fidelity
from matplotlib.axes import Axes

import flda
from flda._logging import quiet

OUT = Path(__file__).parent / "results"
FACTORS = ["mixture", "amount", "protocol"]
BLUE, ORANGE, GREY = "#0173b2", "#de8f05", "#949494"  # of seaborn's colorblind palette
MAX_POINTS = 5000  # points drawn, evenly spaced in the order of the genes


def halves(adata):
    """Split the cells of every group into two halves; the first half has a cell of every group."""
    rng = np.random.default_rng(0)
    order = adata.obs.iloc[rng.permutation(adata.n_obs)]
    rank = order.groupby(FACTORS, observed=True).cumcount().reindex(adata.obs_names).to_numpy()
    return adata[rank % 2 == 0].copy(), adata[rank % 2 == 1].copy()


def draw_variance(found: Fidelity, ax: Axes) -> None:
    """Variance within groups against mean, one point per gene."""
    _against_mean(found, ax, "variance", "variance within groups")
    ax.set_yscale("log")


def draw_zeros(found: Fidelity, ax: Axes) -> None:
    """Share of zero counts against mean, one point per gene."""
    _against_mean(found, ax, "zeros", "share of zeros")


def _against_mean(found: Fidelity, ax: Axes, column: str, label: str) -> None:
    step = max(1, len(found.genes) // MAX_POINTS)
    for kind, shade in (("real", BLUE), ("simulated", ORANGE)):
        part = found.genes[found.genes[f"mean_{kind}"] > 0].iloc[::step]
        ax.scatter(
            part[f"mean_{kind}"], part[f"{column}_{kind}"], s=4, alpha=0.35, color=shade, label=kind, rasterized=True
        )
    ax.set_xscale("log")
    ax.set(xlabel="mean count of a gene", ylabel=label)
    ax.legend(frameon=False, markerscale=3, fontsize=8)


def draw_correlation(found: Fidelity, ax: Axes) -> None:
    """Correlation of two genes in simulated cells against that in real cells, one point per pair."""
    table = found.correlations.iloc[:: max(1, len(found.correlations) // MAX_POINTS)]
    ax.scatter(table["real"], table["simulated"], s=4, alpha=0.35, color=BLUE, rasterized=True)
    ends = np.array([table.to_numpy().min(), table.to_numpy().max()])
    ax.plot(ends, ends, color=GREY, ls=":", lw=1)
    ax.set(xlabel="correlation of two genes, real", ylabel="simulated")


def draw_library(found: Fidelity, ax: Axes) -> None:
    """Distribution of total counts over cells."""
    for kind, shade in (("real", BLUE), ("simulated", ORANGE)):
        values = found.library.loc[found.library["kind"] == kind, "log10_counts"]
        sns.ecdfplot(values, ax=ax, color=shade, label=kind)
    ax.set(xlabel="log10 of the counts of a cell", ylabel="share of cells")
    ax.legend(frameon=False, fontsize=8)


def draw_auc(found: Fidelity, ax: Axes) -> None:
    """AUC of both classifiers, one point per group, with the median."""
    table = found.groups[["auc", "auc_linear"]].rename(columns={"auc": "random forest", "auc_linear": "logistic"})
    sns.stripplot(table, ax=ax, palette=[BLUE, ORANGE], size=4, alpha=0.7)
    ax.hlines(table.median(), np.arange(2) - 0.25, np.arange(2) + 0.25, color="black", lw=1.5, zorder=3)
    ax.axhline(0.5, color=GREY, ls=":", lw=1)
    ax.set(ylabel="AUC, real against simulated", xlabel="", ylim=(0, 1.03))


PANELS = (draw_variance, draw_zeros, draw_correlation, draw_library, draw_auc)


def draw(found: Fidelity):
    """All panels in one figure."""
    fig, axes = plt.subplots(2, 3, figsize=(11, 6.4), layout="constrained")
    for ax, panel in zip(axes.flat, PANELS, strict=False):
        panel(found, ax)
    axes.flat[5].set_axis_off()
    sns.despine(fig)
    return fig


def main() -> None:
    adata = flda.datasets.rnamix()
    order = np.argsort(-np.asarray(adata.layers["counts"].mean(axis=0)).ravel(), kind="stable")
    groups, summary = [], []
    for n_genes in (2000, 10_000):
        part = adata[:, np.sort(order[:n_genes])].copy()
        first, second = halves(part)
        for name, fitted, real in (("fitted cells", part, part), ("other half", first, second)):
            with quiet():
                model = flda.simulate.fit_counts(fitted, FACTORS)
            found = fidelity(real, model.sample(real.obs[FACTORS], random_state=1), FACTORS)
            row = {"genes": n_genes, "compared with": name}
            groups.append(found.groups.assign(**row))
            known = found.groups["auc"].dropna()
            summary.append({**row, **found.summary.set_index("measure")["value"], "axes": model.loadings.shape[1],
                            "groups": len(known), "groups with AUC <= 0.75": int((known <= 0.75).sum())})  # fmt: skip
            pd.concat(groups).to_csv(OUT / "fidelity_groups.csv", index=False, float_format="%.4g", lineterminator="\n")
            pd.DataFrame(summary).to_csv(OUT / "fidelity.csv", index=False, float_format="%.4g", lineterminator="\n")
            print(pd.Series(summary[-1]).to_string(), flush=True)
            if (n_genes, name) == (2000, "other half"):
                draw(found).savefig(OUT / "fidelity.png", dpi=130)


if __name__ == "__main__":
    main()
