"""Markdown tables and the figure of benchmarks/compare.py."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

FLOOR = 0.01  # lower signals and cross-talk are drawn here
MARKERS = "o^h*sdvDPXp<>8"


def beaten(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of methods whose signal is larger and whose cross-talk is smaller than FLDA's, each beyond two errors."""
    more = table["signal_diff"] > 2 * table["signal_diff_se"]
    less = table["crosstalk_diff"] < -2 * table["crosstalk_diff_se"]
    return table[more & less & (table["effect"] != "mean")]


def markdown(rows: pd.DataFrame, title: str) -> None:
    print(f"\n**{title}**\n")
    print("| " + " | ".join([str(rows.index.name or "method"), *map(str, rows.columns)]) + " |")
    print("|---" * (rows.shape[1] + 1) + "|")
    for name, row in rows.iterrows():
        print("| " + " | ".join([str(name), *row.astype(str)]) + " |")


def side_by_side(table: pd.DataFrame, columns: str, cell) -> pd.DataFrame:
    """One row per method and one column per value of ``columns``, filled by a function of a row."""
    methods, heads = (list(dict.fromkeys(table[c])) for c in ("method", columns))
    text = table.assign(text=[cell(row) for row in table.itertuples()])
    return text.pivot(index="method", columns=columns, values="text").reindex(methods)[heads].fillna("-")


def differences(table: pd.DataFrame, name: str, title: str) -> None:
    """Print the mean over effects: FLDA's value, and the difference of every other method to it."""

    def cell(row) -> str:
        if row.method == "FLDA":
            value = getattr(row, name)
            return "0" if pd.isna(value) else f"{value:.3f}"
        return f"{getattr(row, name + '_diff'):+.3f} +- {getattr(row, name + '_diff_se'):.3f}"

    markdown(side_by_side(table[table["effect"] == "mean"], "data", cell), title)


def show(axes: pd.DataFrame, levels: pd.DataFrame) -> None:
    """Print all tables."""
    for which in ("first", "all"):
        part = axes[axes["axes"] == which]
        differences(part, "log_ratio", f"Mean of log S / (n + T), {which} axes: FLDA, and differences to FLDA")
    differences(levels, "balanced_accuracy", "Balanced accuracy of the levels: FLDA, and differences to FLDA")
    differences(levels, "log_loss", "Balanced log-loss: FLDA, and differences to FLDA")
    frontier(axes)
    effects = axes[axes["effect"] != "mean"]
    for name, part in effects.groupby("data", sort=False):
        tables = {}
        for which, lines in part.groupby("axes", sort=False):
            tables[which] = side_by_side(lines, "effect", lambda r: f"{r.signal:.3g} / {r.crosstalk:.2g}")
        whole = pd.concat([t.add_suffix(f", {which}") for which, t in tables.items()], axis=1)
        seconds = part.groupby("method", sort=False)["seconds"].mean().map("{:.2g}".format)
        markdown(whole.assign(seconds=seconds), f"{name}: S / T of the first axis, and summed over all axes")
    for name, part in levels[levels["effect"] != "mean"].groupby("data", sort=False):

        def cell(r) -> str:
            return f"{r.balanced_accuracy:.3f}, {r.accuracy:.3f}, {r.log_loss:.2f}, {r.calibration_error:.3f}"

        seconds = part.groupby("method", sort=False)["seconds"].mean().map("{:.2g}".format)
        title = f"{name}: balanced accuracy, plain accuracy, balanced log-loss, calibration error"
        markdown(side_by_side(part, "effect", cell).assign(seconds=seconds), title)


def frontier(table: pd.DataFrame) -> None:
    rows = beaten(table)
    title = "Methods with more signal and less cross-talk than FLDA, both beyond two paired standard errors"
    if rows.empty:
        print(f"\n**{title}**: none")
        return
    columns = {
        "effect": rows["effect"],
        "axes": rows["axes"],
        "method": rows["method"],
        "S - FLDA's": [f"{r.signal_diff:+.3g} +- {r.signal_diff_se:.2g}" for r in rows.itertuples()],
        "T - FLDA's": [f"{r.crosstalk_diff:+.2g} +- {r.crosstalk_diff_se:.1g}" for r in rows.itertuples()],
    }
    markdown(pd.DataFrame(columns).set_index(rows["data"]), title)


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw the cross-talk of the first axis against its signal, one panel per effect."""
    table = table[(table["axes"] == "first") & (table["effect"] != "mean")]
    panels, methods = table[["data", "effect"]].drop_duplicates().to_numpy(), list(dict.fromkeys(table["method"]))
    n = min(6, len(panels))
    n_rows = -(-len(panels) // n)
    figure, axes = plt.subplots(n_rows, n, figsize=(2.9 * n, 2.8 * n_rows + 0.9), squeeze=False)
    palette = ["black", *sns.color_palette("colorblind", 10)]
    for ax, (data, effect) in zip(axes.flat, panels, strict=False):
        part = table[(table["data"] == data) & (table["effect"] == effect)]
        # FLDA is drawn last, on top of the others
        for row in sorted(part.itertuples(), key=lambda r: r.method == "FLDA"):
            i = methods.index(row.method)
            colour, filled = palette[i % len(palette)], i < len(palette)
            ax.scatter(
                max(row.signal, FLOOR), max(row.crosstalk, FLOOR), s=130 if row.method == "FLDA" else 60,
                color=colour if filled else "white", marker=MARKERS[i], edgecolor="black" if filled else colour,
                linewidth=0.6 if filled else 1.5, label=row.method, zorder=3,
            )  # fmt: skip
        log_panel(ax, f"{data}\n{effect}")
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    height = figure.get_figheight()
    label = "held-out signal S of the first axis (log; better to the right)"
    figure.supxlabel(label, fontsize=11, y=0.5 / height)
    figure.supylabel(f"held-out cross-talk T (log, drawn at {FLOOR} if lower; better below)", fontsize=11)
    sns.despine(figure)
    handles = {h: a for ax in axes.flat for a, h in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.tight_layout(rect=(0.01, 0.7 / height, 1, 1))
    figure.legend(
        [handles[m] for m in methods], methods, loc="lower center", ncols=min(len(methods), 2 * n), frameon=False,
        columnspacing=1.2, handletextpad=0.1,
    )  # fmt: skip
    figure.savefig(path, dpi=100)
    plt.close(figure)


def log_panel(ax, title: str) -> None:
    """Logarithmic axes with a few plain numbers; cross-talk of one within-group variance is a line."""
    ax.set(xscale="log", yscale="log")
    ax.set_title(title, fontsize=10)
    ax.axhline(1, color="0.7", lw=0.8, zorder=0)
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    ax.set_xlim(left / 1.15, right * 1.15)
    ax.set_ylim(min(low, FLOOR) / 1.3, max(1.3 * high, 1.5))
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0,) if right / left > 30 else (1.0, 2.0, 5.0)))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
