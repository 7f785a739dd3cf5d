"""Counterfactual means: how well are groups predicted that were left out of the fit?

    FLDA_DATA_DIR=... python benchmarks/counterfactual.py [--data additive pairs three mice_protein pbmc68k rnamix]

Every group is left out once and predicted from groups that differ from it in the changed factor only
(:func:`flda.inference.certify_counterfactual`). R2 is that of the change: 1 is a perfect prediction of the mean, 0 is
as good as no change. Simulated: 2 x 3 x 2 groups of 40 cells and 300 genes, of which 60 have the main effects, with no
interactions (``additive``), with interactions of two factors (``pairs``), and with one of all three (``three``); in
the last, what the other groups know of the interactions of two is wrong for the group that is left out. ``--seeds``
data sets each; the standard errors of the summary are over data sets. ``calibration`` repeats the simulation
``additive`` with fresh cells, and compares the spread of R2 with its standard error.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

from flda import FLDA
from flda._logging import quiet
from flda.inference import certify_counterfactual

OUT = Path(__file__).parent / "results"
SIMULATED = ("additive", "pairs", "three")
N_GENES = {"pbmc68k": 1000, "rnamix": 300}  # of the genes, those with the largest variance over all cells


def simulated(kind: str, seed: int, n: int = 40, p: int = 300, cells: int | None = None):
    """Cells of 2 x 3 x 2 groups around known means; ``cells`` is the seed of the cells alone."""
    rng = np.random.default_rng(seed)
    a, b, c = np.indices((2, 3, 2)).reshape(3, -1).repeat(n, axis=1)
    genes = np.zeros(p)
    genes[:60] = 1.0
    mean = sum(rng.normal(size=(k, p))[code] * genes * 0.7 for code, k in ((a, 2), (b, 3), (c, 2)))  # main effects
    some = np.zeros(p)
    some[rng.choice(60, 30, replace=False)] = 1.0
    if kind == "pairs":
        mean = mean + rng.normal(size=(6, p))[3 * a + b] * some * 0.7
    if kind == "three":
        mean = mean + rng.normal(size=(12, p))[6 * a + 2 * b + c] * some * 0.7
    rng = rng if cells is None else np.random.default_rng(cells)
    y = pd.DataFrame({"condition": a, "type": b, "sex": c}).astype(str)
    return mean + rng.normal(size=mean.shape), y, None, "condition", "all"


def mice_protein():
    """Genotype x treatment x behaviour, all between mice; each factor is changed in turn."""
    from flda.datasets import mice_protein as load

    adata = load()
    names = ["genotype", "treatment", "behaviour"]
    return [(adata.X, adata.obs[names], adata.obs["mouse"].to_numpy(), name, "all") for name in names]


def pbmc68k():
    """Blood cell type x phase of the cell cycle; log-normalised values of ``raw``."""
    import scanpy as sc

    adata = sc.datasets.pbmc68k_reduced().raw.to_adata()
    y = adata.obs[["bulk_labels", "phase"]]
    return [
        (_most_variable(adata, "pbmc68k"), y, None, "phase", "all"),
        (_most_variable(adata, "pbmc68k"), y, None, "bulk_labels", "all"),
    ]


def rnamix():
    """Mixture x amount x protocol, with the interactions of the protocol."""
    from flda.datasets import rnamix as load

    adata = load()
    pairs = ["amount:protocol", "mixture:protocol"]
    y = adata.obs[["mixture", "amount", "protocol"]]
    return [(_most_variable(adata, "rnamix"), y, None, name, pairs) for name in ("protocol", "amount")]


def _most_variable(adata, name: str):
    X = adata.X.toarray() if hasattr(adata.X, "toarray") else np.asarray(adata.X)
    X = X.astype(np.float64)
    return X[:, np.sort(np.argsort(-X.var(axis=0), kind="stable")[: N_GENES[name]])]


def run(X, y, donor, change, interactions, **more) -> pd.DataFrame:
    start = time.process_time()
    with quiet():
        table = certify_counterfactual(FLDA(interactions=interactions), X, y, donor, change=change)
    return table.assign(change=change, seconds=time.process_time() - start, **more)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """One row per data set, changed factor, genes and kind of means."""
    own = table[table["group"] != "all groups"]
    keys = ["data", "change", "genes", "group_means"]
    text = own["reading"].str.split("; ").str[-1]
    counts = own.assign(
        clear=own["r2"].notna(),
        better=text.str.startswith("better"),
        worse=text.str.startswith("worse"),
        than_no_change=own["reading"].str.startswith("better than no change"),
    )
    counts = counts.groupby(keys, sort=False)[["clear", "better", "worse", "than_no_change"]].sum()
    all_groups = table[table["group"] == "all groups"].groupby(keys, sort=False)
    columns = ["r2", "se_r2", "r2_additive", "se_r2_additive", "difference", "se_difference"]
    mean = all_groups[columns].mean()
    seeds = all_groups.size()
    for column in ("r2", "r2_additive", "difference"):  # over data sets, if there are several
        spread = all_groups[column].std() / np.sqrt(seeds)
        mean[f"se_{column}"] = spread.where(seeds > 1, mean[f"se_{column}"])
    return mean.join(counts).reset_index()


def calibration(n: int) -> pd.DataFrame:
    """Fresh cells around the same means: spread of R2 of one group, and its mean standard error."""
    rows = []
    for size in (10, 40):
        found = []
        for seed in range(n):
            X, y, _, _, _ = simulated("pairs", 0, n=size, p=100, cells=seed + 1)
            with quiet():
                table = certify_counterfactual(FLDA(), X, y, change={"condition": "1"}, random_state=seed)
            found.append(table.query("group == '1:1:0'"))
        found = pd.concat(found)
        for (genes, kind), part in found.groupby(["genes", "group_means"], sort=False):
            for what in ("r2", "difference"):
                row = {"cells": size, "genes": genes, "group_means": kind, "what": what}
                rows.append({**row, "mean": part[what].mean(), "sd": part[what].std(), "se": part[f"se_{what}"].mean()})
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=[*SIMULATED, "mice_protein", "pbmc68k", "rnamix", "calibration"])
    parser.add_argument("--seeds", type=int, default=10)
    args = parser.parse_args()
    tables = []
    for name in args.data:
        if name == "calibration":
            table = calibration(4 * args.seeds)
            table.to_csv(OUT / "counterfactual_calibration.csv", index=False, float_format="%.5g")
            print(table.round(3).to_string(index=False))
        elif name in SIMULATED:
            tables += [run(*simulated(name, seed), data=name, seed=seed) for seed in range(args.seeds)]
        else:
            tables += [run(*of, data=name, seed=0) for of in globals()[name]()]
        if tables:
            table = pd.concat(tables, ignore_index=True)
            file = OUT / "counterfactual_groups.csv"
            if file.exists():  # what other runs found of other data is kept
                old = pd.read_csv(file)
                table = pd.concat([old[~old["data"].isin(args.data)], table], ignore_index=True)
            table.to_csv(file, index=False, float_format="%.5g")
            summary(table).to_csv(OUT / "counterfactual.csv", index=False, float_format="%.5g")
    if tables:
        print(summary(table).round(3).to_string(index=False))
        print(table.groupby("data")["seconds"].max())


if __name__ == "__main__":
    main()
