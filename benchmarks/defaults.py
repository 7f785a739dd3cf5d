"""Held-out quality of every choice of shrinkage, target and within scatter, from which the defaults were chosen.

    FLDA_DATA_DIR=... python benchmarks/defaults.py [--quick]

Every row is a five-fold certificate, refitted and tuned again in each fold, averaged over seeds of the folds.
``log_snr`` is the mean over effects of log(1 + summed held-out SNR of the axes of the effect). ``crosstalk`` is the
summed held-out cross-talk of all axes divided by their summed SNR. Prints a Markdown table and writes a CSV.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from flda import FLDA
from flda.inference import certify

from problems import PROBLEMS

DATA = ("t4t5", "t4t5_small", "correlated", "rnamix", "pbmc68k")  # those without donors and with enough cells
SHRINKAGE = [0.01, 0.1, 0.5, 0.9, 0.97, "ledoit-wolf", "oas", "cv"]


def quality(table: pd.DataFrame) -> dict[str, float]:
    """Summary of a certificate."""
    per_effect = table.groupby("effect", sort=False)[["snr", "crosstalk"]].sum()
    return {
        "log_snr": float(np.log1p(per_effect["snr"].clip(lower=0)).mean()),
        "crosstalk": float(table["crosstalk"].clip(lower=0).sum() / table["snr"].clip(lower=0).sum()),
    }


def row(name: str, target: str, within: str, g: float | str, n_seeds: int) -> dict:
    """Held-out quality of one choice on one data set."""
    X, y, interactions, _ = PROBLEMS[name]()
    start = time.perf_counter()
    model = FLDA(interactions=interactions, shrinkage=g, shrinkage_target=target, within=within, random_state=0)
    scores = [quality(certify(model, X, y, random_state=seed)) for seed in range(n_seeds)]
    fitted = model.fit(X, y)
    return {
        "data": name, "target": target, "within": within, "shrinkage": g, **pd.DataFrame(scores).mean().to_dict(),
        "g": fitted.shrinkage_, "s": time.perf_counter() - start,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed, two problems")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "defaults.csv")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*observed.*")
    names = ["t4t5_small", "correlated"] if args.quick else list(DATA)
    rows = []
    for name in names:
        for target, within, g in itertools.product(["identity", "diagonal"], ["pooled", "balanced"], SHRINKAGE):
            rows.append(row(name, target, within, g, 1 if args.quick else 2))
            print(
                "| " + " | ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for v in rows[-1].values()) + " |",
                flush=True,
            )
    pd.DataFrame(rows).to_csv(args.out, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
