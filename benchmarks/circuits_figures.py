"""Figures from the tables of the circuit benchmarks: results/circuits_*.png.

python benchmarks/circuits_figures.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

OUT = Path(__file__).parent / "results"
BLUE, ORANGE, GREEN, RED, PURPLE, BROWN, *_ = sns.color_palette("colorblind")
ARMS = {
    "signs and L1": (BLUE, "o", "-"),
    "signs": (BLUE, "s", "--"),
    "L1": (ORANGE, "o", "-"),
    "neither": (ORANGE, "s", "--"),
}
MEASURES = {"r_sys": "system recovery", "r_supp": "support recovery", "r2_test": "test R²"}


def band(ax, table: pd.DataFrame, x: str, y: str, label: str, color, marker: str = "o", style: str = "-") -> None:
    """Median and quartiles over seeds."""
    groups = table.groupby(x)[y]
    middle = groups.median()
    ax.plot(middle.index, middle, label=label, color=color, marker=marker, ls=style, ms=4, lw=1.5)
    ax.fill_between(middle.index, groups.quantile(0.25), groups.quantile(0.75), color=color, alpha=0.15, lw=0)


def grid(table: pd.DataFrame, kernels: int) -> None:
    table = table[(table["noise"] == 0) & (table["kernels"] == kernels)]
    circuits = sorted(table["circuit"].unique())
    figure, axes = plt.subplots(
        3, len(circuits), figsize=(2.9 * len(circuits) + 1.6, 6.4), sharex=True, sharey="row", squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for column, circuit in zip(axes.T, circuits, strict=True):
        part = table[table["circuit"] == circuit]
        for ax, measure in zip(column, MEASURES, strict=True):
            for name, (color, marker, style) in ARMS.items():
                band(ax, part[part["arm"] == name], "n", measure, name, color, marker, style)
            ax.set(xscale="log", ylim=(-0.35, 1.05) if measure == "r2_test" else (-0.03, 1.05))
        column[0].set_title(f"circuit {circuit}, {kernels} kernels")
        column[-1].set_xlabel("samples")
        column[-1].set_xticks(sorted(part["n"].unique()), [f"{n:,}" for n in sorted(part["n"].unique())])
        column[-1].minorticks_off()
    for ax, label in zip(axes[:, 0], MEASURES.values(), strict=True):
        ax.set_ylabel(label)
    axes[0, -1].legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    save(figure, f"circuits_grid_{kernels}")


def signs(wrong: pd.DataFrame, t4t5: pd.DataFrame) -> None:
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.5), layout="constrained")
    for noise, color in ((0.0, BLUE), (0.5, ORANGE)):
        part = wrong[wrong["noise"] == noise]
        free = part[part["share"] < 0]
        label = f"noise {noise:g}"
        for ax, measure in zip(axes, ("r_sys", "r2_validation"), strict=False):
            band(ax, part[part["share"] >= 0].assign(share=lambda t: 100 * t["share"]), "share", measure, label, color)
            ax.axhline(free[measure].median(), color=color, ls=":", lw=1.5, label=f"{label}, no signs")
    axes[0].set(xlabel="wrong signs, %", ylabel="system recovery", title="circuit 2, 1,400 samples")
    axes[1].set(xlabel="wrong signs, %", ylabel="validation R²", title="what a user could see")
    axes[0].legend(frameon=False, fontsize=8)
    arms = {
        ("signs of the connectome", "L1"): ("signs and L1", BLUE, "o", "-"),
        ("signs of the connectome", "none"): ("signs", BLUE, "s", "--"),
        ("signs of transmitters", "L1"): ("signs of transmitters, L1", GREEN, "^", "-"),
        ("no signs", "L1"): ("lasso", ORANGE, "o", "-"),
    }
    for (given, penalty), (label, color, marker, style) in arms.items():
        part = t4t5[(t4t5["signs"] == given) & (t4t5["penalty"] == penalty)]
        band(axes[2], part, "n", "r_sys", label, color, marker, style)
    axes[2].set(xscale="log", xlabel="samples", ylabel="system recovery", title="inputs of T4a-d and T5a-d")
    axes[2].set_xticks(sorted(t4t5["n"].unique()), [str(n) for n in sorted(t4t5["n"].unique())])
    axes[2].minorticks_off()
    axes[2].legend(frameon=False, fontsize=8)
    save(figure, "circuits_signs")


def optimisers(tables: dict[str, pd.DataFrame]) -> None:
    titles = {
        "deep": ("digits, 50 layers", "test", "test accuracy"),
        "shallow": ("digits, 5 layers", "test", "test accuracy"),
        "integer": ("digits, 5 layers, integer weights", "test", "test accuracy"),
        "circuit": ("circuit 2, signs and L1", "r_sys", "system recovery"),
    }
    figure, axes = plt.subplots(1, 4, figsize=(14.5, 4.2), layout="constrained")
    palette = dict(zip(("adam", "sgd", "lamb", "madam", "nero", "eg"), sns.color_palette("colorblind"), strict=False))
    for ax, (part, (title, measure, label)) in zip(axes, titles.items(), strict=True):
        names = tables[part]["optimiser"].unique()
        for i, name in enumerate(names):
            color = palette.get(name, sns.color_palette("colorblind")[(i + 6) % 10])
            rows = tables[part][tables[part]["optimiser"] == name]
            mean = rows.groupby("learning_rate")[measure].mean()
            ax.plot(mean.index, mean, color=color, marker="osD^vPX"[i % 7], ms=4, lw=1.5, label=name)
        ax.set(xscale="log", ylim=(-0.03, 1.03), xlabel="learning rate", ylabel=label, title=title)
        ax.legend(frameon=False, fontsize=8, ncol=2, loc="upper center", bbox_to_anchor=(0.5, -0.18))
    save(figure, "circuits_optimisers")


def save(figure, name: str) -> None:
    sns.despine(figure)
    figure.savefig(OUT / f"{name}.png", dpi=110)
    plt.close(figure)


def read(name: str) -> pd.DataFrame:
    return pd.read_csv(OUT / f"circuits_{name}.csv", dtype={"circuit": str})


if __name__ == "__main__":
    table = read("arms")
    for kernels in np.unique(table["kernels"]):
        grid(table, kernels)
    signs(read("wrong_signs"), read("t4t5"))
    optimisers({part: read(f"optimisers_{part}") for part in ("deep", "shallow", "integer", "circuit")})
