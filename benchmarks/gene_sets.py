"""Gene sets: level on null sets of correlated genes, and power, against tests that take genes as units.

    python benchmarks/gene_sets.py [--seeds 400] [--genes 200]

A 2 x 3 table with 20 cells per group and 200 genes: 20 genes of the set, correlated .5 within groups; ten others carry
the two factors. ``effect`` is the shift of every gene of the set between the two levels of A, in units of its sd.
Without donors cells are independent. With donors there are eight, each with all groups, and every donor x group adds
noise of sd .5 to single genes and, together, to the set. The tests, each at .05, along all five axes:

* flips: flda.inference.gene_set_tests, 199 resamples.
* t: two-sample t-test of the patterns of the genes in the set against the others (a competitive test).
* hypergeometric: overlap of the set with the 15 genes of the largest absolute pattern.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import hypergeom, ttest_ind

from flda import FLDA
from flda.inference import gene_set_tests

OUT = Path(__file__).parent / "results"
N_SET, N_TOP = 20, 15
EFFECTS = (0.0, 0.3, 0.6, 0.9)


def simulate(
    seed: int, effect: float, *, donors: bool, n_genes: int = 200
) -> tuple[np.ndarray, pd.DataFrame, np.ndarray | None]:
    """Return expression, labels, and the donor of each cell or None."""
    rng = np.random.default_rng(seed)
    y = pd.DataFrame([(a, b) for a in "pq" for b in "rst" for _ in range(24 if donors else 20)], columns=["A", "B"])
    X = rng.normal(size=(len(y), n_genes))
    X[:, :N_SET] = np.sqrt(0.5) * (X[:, :N_SET] + rng.normal(size=(len(y), 1)))
    a, b = (y["A"] == "q").to_numpy(float), y["B"].map({"r": 0, "s": 1, "t": 2}).to_numpy(float)
    X[:, 20:25] += a[:, None]
    X[:, 25:30] += 0.8 * b[:, None]
    X[:, :N_SET] += effect * a[:, None]
    if not donors:
        return X, y, None
    donor = np.tile(np.arange(24) % 8, 6)
    sample = np.repeat(np.arange(6), 24) * 8 + donor
    X += 0.5 * rng.normal(size=(48, n_genes))[sample]
    X[:, :N_SET] += 0.5 * rng.normal(size=(48, 1))[sample]
    return X, y, donor


def p_values(seed: int, effect: float, *, donors: bool, n_genes: int = 200) -> pd.DataFrame:
    """Return the p-value of every test for every axis."""
    X, y, donor = simulate(seed, effect, donors=donors, n_genes=n_genes)
    sets = {"set": dict.fromkeys(range(N_SET), 1.0)}
    table = gene_set_tests(FLDA(shrinkage=0.5), X, y, donor, sets=sets, n_resamples=199, random_state=seed)
    size = np.abs(FLDA(shrinkage=0.5).fit(X, y, donor).patterns_)
    hits = [(np.argsort(-row)[:N_TOP] < N_SET).sum() for row in size]
    return table.assign(
        flips=table["pval"],
        t=[ttest_ind(row[:N_SET], row[N_SET:]).pvalue for row in size],
        hypergeometric=hypergeom.sf(np.array(hits) - 1, n_genes, N_SET, N_TOP),
    )[["axis", "flips", "t", "hypergeometric"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=400)
    parser.add_argument("--genes", type=int, default=200)
    args = parser.parse_args()
    parts = []
    for donors in (False, True):
        for effect in EFFECTS:
            for seed in range(args.seeds if effect == 0 else args.seeds // 4):
                found = p_values(seed, effect, donors=donors, n_genes=args.genes)
                parts.append(found.assign(unit="donor" if donors else "cell", effect=effect, seed=seed))
    results = pd.concat(parts, ignore_index=True)
    methods = ["flips", "t", "hypergeometric"]
    results[methods] = results[methods] <= 0.05
    rates = results.groupby(["unit", "effect", "axis"], sort=False)[methods].mean()
    rates["seeds"] = results.groupby(["unit", "effect", "axis"], sort=False).size()
    OUT.mkdir(exist_ok=True)
    rates.reset_index().to_csv(OUT / "gene_sets.csv", index=False, float_format="%.4g")
    print("| unit | effect | axis | flips | t | hypergeometric | seeds |\n|---|---|---|---|---|---|---|")
    for row in rates.reset_index().itertuples():
        if row.effect == 0 or row.axis == "A_1":
            shares = " | ".join(f"{getattr(row, name):.3f}" for name in methods)
            print(f"| {row.unit} | {row.effect} | {row.axis} | {shares} | {row.seeds} |")


if __name__ == "__main__":
    main()
