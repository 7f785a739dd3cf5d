"""How far the selected genes are from the best ones: optimality gaps of sparse axes on 2,000 genes.

``SparseFLDA`` with the shrinkage that cross-validation chooses, on the simulated T4/T5 cells and on the 2,000 most
variable genes of the RNA mixtures, for 10 and 20 genes per axis. Every axis is bounded with three efforts: 0.1 (twice
the default of ``flda.tl.rank_genes``), 1, and one that makes about a minute per data set (``--effort``). A gap of 0
means that the genes are proven to be the best ones. The axes beyond the first one of an effect are bounded given the
axes before them. Seconds are those of the processor, for all axes of the data set and k, without the fit. Prints
Markdown.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd

from flda import SparseFLDA
from flda._logging import quiet

from problems import PROBLEMS

SIZES = (10, 20)
DATA = ("t4t5", "rnamix")
N_GENES = 2000


def data(name: str):
    """A problem on its most variable genes."""
    X, y, interactions, _ = PROBLEMS[name]()
    X = X.toarray() if hasattr(X, "toarray") else np.asarray(X)
    if X.shape[1] > N_GENES:
        X = X[:, np.sort(np.argsort(-X.var(axis=0), kind="stable")[:N_GENES])]
    return X, y, interactions


def gaps(name: str, efforts: list[float]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The gaps of every axis (rows) with each effort (columns), and the seconds of each k and effort."""
    X, y, interactions = data(name)
    g = SparseFLDA(interactions=interactions, n_genes=10).fit(X, y).shrinkage_
    rows, seconds = [], []
    for k in SIZES:
        base, columns = 0.0, {}
        for effort in [0.0, *efforts]:
            start = time.process_time()
            model = SparseFLDA(interactions=interactions, n_genes=k, shrinkage=g, gap_effort=effort).fit(X, y)
            spent = time.process_time() - start
            if effort == 0:
                base = spent
            else:
                columns[effort] = model.optimality_gap_.to_numpy()
                seconds.append({"data": name, "k": k, "effort": effort, "fit": base, "bounds": spent - base})
        design = model.design_
        levels = {e.name: design.df(e) for e in model.effects_}
        table = model.axes_[["axis", "effect", "component", "eigenvalue", "dense_eigenvalue"]]
        rows.append(
            table.assign(data=name, g=g, k=k, df=table["effect"].map(levels), **{str(e): columns[e] for e in efforts})
        )
    return pd.concat(rows, ignore_index=True), pd.DataFrame(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--effort", type=float, default=2.0)
    parser.add_argument("--only", nargs="+", default=list(DATA), choices=DATA, help="data sets")
    args = parser.parse_args()
    efforts = [0.1, 1.0, args.effort]
    with quiet():
        found, seconds = zip(*(gaps(name, efforts) for name in args.only), strict=True)
    table, times = pd.concat(found), pd.concat(seconds)
    heads = " | ".join(f"gap, effort {e:g}" for e in efforts)
    print(f"| data | axis | df | k | eigenvalue | all genes | {heads} |\n{'|---' * (6 + len(efforts))}|")
    for row in table.to_dict("records"):
        values = " | ".join(f"{100 * row[str(e)]:.2f} %" for e in efforts)
        print(
            f"| {row['data']} | {row['axis']} | {row['df']} | {row['k']} | {row['eigenvalue']:.3g} | "
            f"{row['dense_eigenvalue']:.3g} | {values} |"
        )
    print(f"\n| data | axes | n | {heads} |\n{'|---' * (3 + len(efforts))}|")
    kind = np.where(table["component"] > 1, "later axes", np.where(table["df"] == 1, "df 1", "first axes, df > 1"))
    for (name, axes), part in table.groupby(["data", kind], sort=False):
        values = " | ".join(f"{100 * part[str(e)].median():.2f} %" for e in efforts)
        print(f"| {name} | {axes}, median | {len(part)} | {values} |")
    print("\n| data | k | effort | seconds of the fit | seconds of the bounds |\n|---|---|---|---|---|")
    for row in times.to_dict("records"):
        print(f"| {row['data']} | {row['k']} | {row['effort']:g} | {row['fit']:.1f} | {row['bounds']:.1f} |")


if __name__ == "__main__":
    main()
