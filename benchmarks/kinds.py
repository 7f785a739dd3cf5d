"""Does leaving a gene out find cancelling genes that its F ratios do not show?

    python benchmarks/kinds.py [--seeds 40]

A 2 x 2 table of 400 cells and 60 genes, main effects only. Six genes carry A (shift .8 between the levels) and B (.6);
the axis of A has to cancel what they bring of B. Further genes:

* pure: six carry A alone (.5)
* strong: three carry B alone, .6, with which the axis can cancel
* weak: three carry B alone, .25, too little for a significant F
* mixed: three carry A (.35) and, with the opposite sign, B (.3)
* correlated: three without effect, correlated .5 with the first six, which cancel noise and not B

The other genes are noise. The axis of A has 16 genes. Each of them is judged by two rules:

* F: flda.metrics.specificity calls it cancelling (another F is larger and significant).
* held-out: ten folds refit the axis of A on the selected genes, and on these without the gene. It is cancelling if,
  over the folds, the held-out cross-talk grows by more than two standard errors without it, and the held-out SNR does
  not change by more than two. ``smaller`` also calls it if the SNR falls, but by a smaller share than the cross-talk
  grows.

Strong, weak and mixed genes are there to be found; pure and correlated genes and noise must not be called.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from flda import FLDA, SparseFLDA
from flda._design.make import make_design
from flda._design.splits import folds
from flda.metrics import effect_snr

OUT = Path(__file__).parent / "results"
KINDS = ["both"] * 6 + ["pure"] * 6 + ["strong"] * 3 + ["weak"] * 3 + ["mixed"] * 3 + ["correlated"] * 3
N_GENES, N_FOLDS, G = 16, 10, 0.2


def simulate(seed: int) -> tuple[np.ndarray, pd.DataFrame, np.ndarray]:
    """Return expression, labels and the kind of every gene."""
    rng = np.random.default_rng(seed)
    y = pd.DataFrame({"A": ["p", "q"] * 200, "B": ["r"] * 200 + ["s"] * 200})
    a, b = (y["A"] == "q").to_numpy(float)[:, None], (y["B"] == "s").to_numpy(float)[:, None]
    X = rng.normal(size=(400, 60))
    X[:, 21:24] = np.sqrt(0.5) * X[:, 21:24] + np.sqrt(0.5) * X[:, :6].mean(axis=1, keepdims=True) * np.sqrt(6)
    X[:, :6] += 0.8 * a + 0.6 * b
    X[:, 6:12] += 0.5 * a
    X[:, 12:15] += 0.6 * b
    X[:, 15:18] += 0.25 * b
    X[:, 18:21] += 0.35 * a - 0.3 * b
    return X, y, np.array(KINDS + ["noise"] * 36)


def held_out(X: np.ndarray, y: pd.DataFrame, genes: np.ndarray) -> np.ndarray:
    """Return SNR and cross-talk of the axis of A on the held-out cells of every fold, (folds, 2)."""
    design, out = make_design(y, interactions=None), []
    for split in folds(design, None, 0, N_FOLDS):
        model = FLDA(interactions=None, shrinkage=G).fit(X[np.ix_(split.train, genes)], y.iloc[split.train])
        found = effect_snr(model.transform(X[np.ix_(split.test, genes)])[:, :1], split.held_out)
        out.append([found["A"][0], found["B"][0]])
    return np.array(out)


def judge(seed: int) -> pd.DataFrame:
    """Judge every selected gene of the axis of A by both rules."""
    X, y, kinds = simulate(seed)
    model = SparseFLDA(n_genes=N_GENES, interactions=None, shrinkage=G).fit(X, y)
    report = model.gene_report_.query("axis == 'A_1'")
    genes, rows = report["gene"].to_numpy(), []
    whole = held_out(X, y, genes)
    for gene, kind in zip(genes, report["kind"], strict=True):
        change = held_out(X, y, genes[genes != gene]) - whole
        mean, se = change.mean(axis=0), change.std(axis=0, ddof=1) / np.sqrt(N_FOLDS)
        grows = mean[1] > 2 * se[1]
        still = abs(mean[0]) < 2 * se[0]
        less = -mean[0] / whole[:, 0].mean() < mean[1] / max(abs(whole[:, 1].mean()), 1e-3)
        rows.append((kinds[gene], kind == "cancelling", grows and still, grows and (still or less), mean[1]))
    return pd.DataFrame(rows, columns=["gene", "F", "held_out", "smaller", "change of cross-talk"]).assign(seed=seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=40)
    args = parser.parse_args()
    found = pd.concat([judge(seed) for seed in range(args.seeds)])
    found["held_out_only"] = found["held_out"] & ~found["F"]
    table = found.groupby("gene")[["F", "held_out", "smaller", "held_out_only", "change of cross-talk"]].mean()
    table["selected"] = found.groupby("gene").size()
    table = table.loc[[k for k in [*dict.fromkeys(KINDS), "noise"] if k in table.index]].reset_index()
    OUT.mkdir(exist_ok=True)
    table.to_csv(OUT / "kinds.csv", index=False, float_format="%.4g")
    print("| gene | selected | F | held-out | smaller | held-out and not F | change of cross-talk |")
    print("|---|---|---|---|---|---|---|")
    for row in table.itertuples(index=False):
        shares = " | ".join(f"{value:.2f}" for value in row[1:5])
        print(f"| {row.gene} | {row.selected} | {shares} | {row[5]:.4f} |")


if __name__ == "__main__":
    main()
