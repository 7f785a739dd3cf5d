"""Figures results/circuits_*.png from the tables of the circuit benchmarks, and the tables of RESULTS.md as text.

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
ARMS = ["signs and L1", "signs", "L1", "neither"]


def band(ax, table: pd.DataFrame, x: str, y: str, label: str, color, marker: str = "o", style: str = "-") -> None:
    """Median and quartiles over seeds."""
    groups = table.groupby(x)[y]
    middle = groups.median()
    ax.plot(middle.index, middle, label=label, color=color, marker=marker, ls=style, ms=4, lw=1.5)
    ax.fill_between(middle.index, groups.quantile(0.25), groups.quantile(0.75), color=color, alpha=0.15, lw=0)


def grid(table: pd.DataFrame) -> None:
    """Mean system recovery as a map: a panel per circuit, a row per arm, a column per noise, samples and kernels."""
    columns = sorted(set(table[["noise", "n", "kernels"]].itertuples(index=False, name=None)))
    means = table.groupby(["circuit", "arm", "noise", "n", "kernels"])["r_sys"].mean()
    circuits = sorted(table["circuit"].unique())
    figure, axes = plt.subplots(len(circuits), 1, figsize=(12, 7), sharex=True, layout="constrained")
    for ax, circuit in zip(axes, circuits, strict=True):
        values = np.array([[means.get((circuit, arm, *column), np.nan) for column in columns] for arm in ARMS])
        image = ax.imshow(values, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        for (i, j), value in np.ndenumerate(values):
            if np.isfinite(value):
                color = "black" if value > 0.55 else "white"
                ax.text(j, i, two_digits(value), ha="center", va="center", fontsize=7, color=color)
        for j in range(1, len(columns)):
            if columns[j][:2] != columns[j - 1][:2]:
                ax.axvline(j - 0.5, color="white", lw=4 if columns[j][0] != columns[j - 1][0] else 1.5)
        ax.set_yticks(range(len(ARMS)), ARMS)
        ax.set_title(f"circuit {circuit}", loc="left", fontsize=10)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    labels = [str(kernels) for _, _, kernels in columns]
    for group in dict.fromkeys(column[:2] for column in columns):
        own = [j for j, column in enumerate(columns) if column[:2] == group]
        labels[own[(len(own) - 1) // 2]] += f"\n{group[1]:,} samples\nnoise {group[0]:g}"
    axes[-1].set_xticks(range(len(columns)), labels, fontsize=8)
    axes[-1].set_xlabel("kernels")
    figure.colorbar(image, ax=axes, shrink=0.5, label="system recovery")
    save(figure, "circuits_arms")


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


def shapes(table: pd.DataFrame) -> None:
    """What one learning rate for all depths and widths costs, against the best rate of every shape."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for name, color, marker in (("madam", BLUE, "o"), ("adam", ORANGE, "s"), ("sgd", GREEN, "^")):
        own = table[table["optimiser"] == name]
        wide = own.pivot_table("test", ["depth", "width"], "learning_rate")
        lost = wide.rsub(wide.max(axis=1), axis=0)
        axes[0].plot(lost.columns, lost.max(), marker + "-", color=color, label=f"{name}, worst shape", ms=4)
        axes[0].plot(lost.columns, lost.mean(), marker + ":", color=color, label=f"{name}, mean", ms=4)
        best = lost.mean().idxmin()
        by_depth = wide[best].groupby("depth").mean()
        axes[1].plot(by_depth.index, by_depth, marker + "-", color=color, label=f"{name}, {best:.2g}", ms=4)
    axes[0].set(xscale="log", xlabel="learning rate for all 12 shapes", ylabel="test accuracy lost to the best rate")
    axes[1].set(xlabel="layers", ylabel="test accuracy", title="at the best rate for all shapes", ylim=(0.5, 1))
    axes[1].set_xticks(sorted(table["depth"].unique()))
    axes[0].legend(frameon=False, fontsize=8, ncol=3, loc="upper center", bbox_to_anchor=(0.5, -0.18))
    axes[1].legend(frameon=False, fontsize=8)
    save(figure, "circuits_shapes")


def two_digits(value: float) -> str:
    return f"{value:.2f}".replace("-0.00", "0.00")


def markdown(table: pd.DataFrame) -> None:
    """Print a table of RESULTS.md."""
    print("\n| " + " | ".join(map(str, table.columns)) + " |")
    print("|" + "---|" * table.shape[1])
    for row in table.itertuples(index=False):
        print("| " + " | ".join(map(str, row)) + " |")


def fits() -> pd.DataFrame:
    """Fits of the parts targets and arms, which share some."""
    keys = ["circuit", "kernels", "n", "noise", "arm", "seed"]
    return pd.concat([read("arms"), read("targets")]).drop_duplicates(keys)


def joined(values: pd.Series, digits: int = 2) -> str:
    return ", ".join(f"{value:.{digits}f}" for value in values)


def joined_integers(values: pd.Series) -> str:
    return ", ".join(map(str, values))


def tables() -> None:
    """Print the tables of RESULTS.md."""
    arms = fits()
    rows = []
    for (kernels, n, circuit), own in read("targets").groupby(["kernels", "n", "circuit"]):
        seconds = own["cpu_seconds"]
        rows.append(
            {
                "circuit": circuit, "kernels": kernels, "samples": f"{n:,}", "fits": len(own),
                "system recovery of each": joined(own.sort_values("seed")["r_sys"], 4),
                "fits that warn": int((own["warnings"] > 0).sum()),
                "processor seconds a fit": f"{seconds.min():.1f} to {seconds.max():.1f}",
            }
        )  # fmt: skip
    markdown(pd.DataFrame(rows))
    rows = []
    for (noise, n, kernels), own in arms.groupby(["noise", "n", "kernels"]):
        row = {"noise": f"{noise:g}", "samples": f"{n:,}", "kernels": kernels}
        for circuit, part in own.groupby("circuit"):
            means = part.groupby("arm")["r_sys"].mean().reindex(ARMS)
            row[f"circuit {circuit}"] = ", ".join("-" if np.isnan(m) else two_digits(m) for m in means)
        rows.append(row)
    markdown(pd.DataFrame(rows))
    rows = []
    for arm in ARMS:
        own = arms[arms["arm"] == arm]
        low, warned = own["r_sys"] < 0.9, own["warnings"] > 0
        rows.append(
            {
                "arm": arm, "fits": len(own), "below 0.9": low.sum(), "warn, of those below": (low & warned).sum(),
                "0.9 or more": (~low).sum(), "warn, of those above": (~low & warned).sum(),
                "processor seconds, median": f"{own['cpu_seconds'].median():.1f}",
            }
        )  # fmt: skip
    markdown(pd.DataFrame(rows))
    silent = arms[(arms["r_sys"] < 0.9) & (arms["warnings"] == 0)]
    print(silent[["circuit", "kernels", "n", "noise", "arm", "seed", "r_sys", "r2_test", "relative_error"]].round(2))
    if (OUT / "circuits_restarts.csv").exists():
        markdown(read("restarts").round({"r_sys": 2, "r2_validation": 3}))
    if (OUT / "circuits_white.csv").exists():
        white = read("white").groupby("arm", sort=False).agg({"r_sys": joined, "r2_test": joined, "warnings": list})
        markdown(white.reset_index())
    if (OUT / "circuits_limit.csv").exists():
        limit = read("limit")
        columns = ["default", "best_penalty", "synapses_given"]
        markdown(limit.groupby("noise")[columns].agg(["mean", "min", "max"]).round(2).reset_index())
        print(limit.round(2).to_string())
    notes = read("notes")
    low = notes["r_sys"] < 0.9
    warned = notes["warnings"] > 0
    print(f"\nnotes: {len(notes)} fits; below .9: {low.sum()}, warned {(low & warned).sum()}")
    print(f"above: {(~low).sum()}, warned {(~low & warned).sum()}")
    cost = arms.groupby(["kernels", "n", "arm"])["cpu_seconds"].median().unstack().round(1)
    markdown(cost.reset_index())
    for part in ("shapes", "longer"):
        if (OUT / f"circuits_optimisers_{part}.csv").exists():
            optimisers = read(f"optimisers_{part}")
            index = ["optimiser", "depth", "width"] if part == "shapes" else ["start", "optimiser"]
            print("\n" + optimisers.pivot_table("test", index, "learning_rate").round(3).to_string())
    wrong = read("wrong_signs").groupby(["noise", "share"]).agg(
        seeds=("seed", "size"), hit=("true_flipped", joined_integers), recovery=("r_sys", joined),
        validation=("r2_validation", lambda r2: joined(r2, 3)),
    )  # fmt: skip
    wrong = wrong.reset_index()
    wrong["share"] = wrong["share"].map(lambda share: "no signs" if share < 0 else f"{share:.0%}")
    names = {"share": "wrong signs", "hit": "true synapses among them", "recovery": "system recovery"}
    markdown(wrong.rename(columns={**names, "validation": "validation R²"}))


def save(figure, name: str) -> None:
    sns.despine(figure)
    figure.savefig(OUT / f"{name}.png", dpi=110)
    plt.close(figure)


def read(name: str) -> pd.DataFrame:
    return pd.read_csv(OUT / f"circuits_{name}.csv", dtype={"circuit": str})


if __name__ == "__main__":
    grid(fits())
    shapes(read("optimisers_shapes"))
    tables()
    signs(read("wrong_signs"), read("t4t5"))
    optimisers({part: read(f"optimisers_{part}") for part in ("deep", "shallow", "integer", "circuit")})
