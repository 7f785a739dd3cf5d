"""The experiment from which the defaults were chosen: one option of FLDA is changed at a time.

    FLDA_DATA_DIR=... python benchmarks/defaults.py [--seeds 3] [--folds 5] [--only DATA ...] [--quick]

The data sets, the folds and all measures are those of benchmarks/compare.py, which explains them. Printed and written
are the mean over effects of log S / (n + T) on held-out cells, for the first axes and for all axes together, and the
balanced accuracy and the balanced log-loss of the levels. The columns are data sets, the first row is the default, and
all other rows are differences to it with paired standard errors. A positive difference of the first three measures, and
a negative one of the log-loss, is better than the default.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from compare import AXES, LEVELS, OUT, arena, overall, summary

from compare_output import differences
from peers import Methods, ours
from problems import PROBLEMS

OPTIONS = {
    "difference": {"objective": "difference"},
    "difference, penalty 10": {"objective": "difference", "penalty": 10.0},
    "penalty 0.3": {"penalty": 0.3},
    "penalty 3": {"penalty": 3.0},
    "penalty 10": {"penalty": 10.0},
    "lack_of_fit 0": {"lack_of_fit": 0.0},
    "lack_of_fit 0.1": {"lack_of_fit": 0.1},
    "lack_of_fit 1": {"lack_of_fit": 1.0},
    "weights equal": {"weights": "equal"},
    "reliability False": {"reliability": False},
    "group_means shrunken": {"group_means": "shrunken"},
    "shrinkage 0.5": {"shrinkage": 0.5},
    "shrinkage 0.9": {"shrinkage": 0.9},
    "shrinkage ledoit-wolf": {"shrinkage": "ledoit-wolf"},
    "target identity": {"shrinkage_target": "identity"},
    "within balanced": {"within": "balanced"},
}
MEASURES = {
    "log_ratio, first axes": "Mean of log S / (n + T), first axes",
    "log_ratio, all axes": "Mean of log S / (n + T), all axes",
    "balanced_accuracy": "Balanced accuracy",
    "log_loss": "Balanced log-loss",
}


def variants() -> Methods:
    """The default, and every option."""
    return {"FLDA": ours("FLDA")} | {name: ours(name, **options) for name, options in OPTIONS.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="how often the cells are assigned to folds")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2, help="worker processes, with one BLAS thread each")
    parser.add_argument("--only", nargs="+", default=list(PROBLEMS), choices=list(PROBLEMS), help="data sets")
    parser.add_argument("--out", type=Path, default=OUT / "defaults.csv")
    parser.add_argument("--quick", action="store_true", help="one seed of two folds of one data set: a check")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.folds, args.only = 1, 2, ["pbmc68k"]
    found = [arena(name, args.seeds, args.folds, args.jobs, variants()) for name in args.only]
    axes, levels = (
        overall(summary(pd.DataFrame([r for part in rows for r in part]), names), names)
        for rows, names in zip(zip(*found, strict=True), (AXES, LEVELS), strict=True)
    )
    tables = {
        "log_ratio, first axes": (axes[axes["axes"] == "first"], "log_ratio"),
        "log_ratio, all axes": (axes[axes["axes"] == "all"], "log_ratio"),
        "balanced_accuracy": (levels, "balanced_accuracy"),
        "log_loss": (levels, "log_loss"),
    }
    parts = []
    for measure, (table, name) in tables.items():
        differences(table, name, f"{MEASURES[measure]}: default, and differences to it")
        part = table[table["effect"] == "mean"]
        columns = {name: "value", f"{name}_diff": "difference", f"{name}_diff_se": "standard_error"}
        parts.append(part.rename(columns=columns)[["data", "method", *columns.values()]].assign(measure=measure))
    args.out.parent.mkdir(exist_ok=True)
    pd.concat(parts).to_csv(args.out, index=False, float_format="%.4g", lineterminator="\n")


if __name__ == "__main__":
    main()
