"""Panels: genes chosen together for all axes, against the union of the lists of single axes, at equal size.

    python benchmarks/panels.py [--quick] [--objectives]

Every fold of the certificate (five, whole donors if there are any) chooses the genes again without its cells, at the
shrinkage that cross-validation chooses for all genes, and refits the axes on them in the same way for all choices:

* panel: flda.PanelFLDA, the genes that maximise the sum of log(1 + ratio) over all axes.
* union: the genes of flda.SparseFLDA, taken from the lists of all axes in turn, best genes first, until the panel is
  full. The lists are as short as they can be for this.
* markers: the same with mode="marker".

With ``--objectives`` the panel also maximises, for comparison, the sum of the shares ``J_S / J_S(all genes)`` of the
effects S, the sum of their logarithms, or the smallest share. J_S is the sum of log(1 + ratio) over the axes of S.

The worst axis is that with the lowest held-out SNR, among the axes whose SNR with all genes exceeds two standard errors
(an axis that does not exist is none to be measured). ``mean`` is the mean over these axes of ``log(1 + SNR / (1 +
cross-talk))``, which counts a negative estimate as zero.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from flda import FLDA, PanelFLDA, SparseFLDA, datasets
from flda._logging import quiet
from flda._solve.panel import PanelProblem, select_panel
from flda.inference._certificate import certify_together

from problems import PROBLEMS

OUT = Path(__file__).parent / "results"
SIZES = {"t4t5": (10, 30), "rnamix": (12, 24), "pbmc68k": (24, 48), "mice_protein": (12, 24)}
N_GENES = 1000  # the most variable genes, if there are more


class Union(PanelFLDA):
    """A panel of the genes of single axes, taken in turn from their lists."""

    mode = "axis"

    def _choose_genes(self, solved):
        n = self._problem.demands.n_genes
        options = {name: value for name, value in self.get_params().items() if name in FLDA().get_params()}
        k = max(1, n // sum(solved.prepared.n_components.values()))
        while True:
            model = SparseFLDA(**{**options, "shrinkage": solved.g}, n_genes=k, mode=self.mode)
            with quiet():
                model._fit(solved.prepared)
            report = model.gene_report_.sort_values(["rank", "axis"], kind="stable")
            genes = report["gene"].drop_duplicates().to_numpy()  # arrays have no names, so these are indices
            if len(genes) >= n:
                return np.sort(genes[:n])
            k += 1


class Markers(Union):
    mode = "marker"


@dataclass(frozen=True)
class OtherObjective(PanelProblem):
    """The same search for a function of the shares of the effects."""

    kind: str = "min"
    full: np.ndarray | None = None

    def _utility(self, J: np.ndarray) -> np.ndarray:
        share = J / self.information(self.full)[:, None]
        if self.kind == "shares":
            return share.sum(axis=0)
        if self.kind == "logs":
            return np.log(share + 1e-3).sum(axis=0)
        return share.min(axis=0) + 1e-3 * share.sum(axis=0)  # the sum tells genes apart that leave the least share

    def of_products(self, K):
        return float(self._utility(self.information(K)[:, None])[0])

    def gains(self, K, e, sign=1.0):
        now = self.information(K)[:, None]
        each = [PanelProblem(self.scatter, self.means, [p], self.allowed, self.demands) for p in self.pairs]
        change = np.stack([one.gains(K, e, sign) for one in each])
        return self._utility(now + change) - self._utility(now)


class Shares(PanelFLDA):
    kind = "shares"

    def _choose_genes(self, solved):
        p = self._problem
        return select_panel(
            OtherObjective(p.scatter, p.means, p.pairs, p.allowed, p.demands, kind=self.kind, full=solved.K)
        )


class Logs(Shares):
    kind = "logs"


class Smallest(Shares):
    kind = "min"


def load(name: str):
    """Return expression as an array of at most N_GENES genes, labels, interactions and donors."""
    if name == "t4t5":
        adata = datasets.t4t5_simulated(1500, N_GENES)
        return adata.X, adata.obs[["dendrite", "axon"]], "all", None
    X, y, interactions, donors = PROBLEMS[name]()
    X = X.toarray() if hasattr(X, "toarray") else np.asarray(X)
    if X.shape[1] > N_GENES:
        X = X[:, np.sort(np.argsort(-X.var(axis=0))[:N_GENES])]
    return X, y, interactions, donors


def rows(name: str, sizes, models) -> list[dict]:
    """Certify all models at all sizes, and summarise each over the axes that exist."""
    X, y, interactions, donors = load(name)
    out = []
    for n in sizes:
        given = {label: kind(n_genes=n, interactions=interactions) for label, kind in models.items()}
        start = time.process_time()
        table = certify_together({"all": FLDA(interactions=interactions), **given}, X, y, donors)
        seconds = time.process_time() - start
        whole = table[table["genes"] == "all"]
        real = whole.loc[whole["snr"] > 2 * whole["se_snr"], "axis"]
        for label, part in table[table["axis"].isin(real)].groupby("genes", sort=False):
            worst = part.loc[part["snr"].idxmin()]
            pure = np.log1p(np.maximum(part["snr"], 0) / (1 + np.maximum(part["crosstalk"], 0)))
            out.append(
                {
                    "data": name, "n_genes": n, "choice": label, "axes": len(real), "worst": worst["snr"],
                    "se": worst["se_snr"], "axis": worst["axis"], "mean": pure.mean(),
                    "crosstalk": part["crosstalk"].mean(), "seconds": seconds,
                }
            )  # fmt: skip
            print(out[-1], flush=True)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the proteins of mice only")
    parser.add_argument("--objectives", action="store_true", help="also other objectives")
    parser.add_argument("--data", nargs="+", choices=SIZES, default=list(SIZES))
    args = parser.parse_args()
    models = {"panel": PanelFLDA, "union": Union, "markers": Markers}
    if args.objectives:
        models |= {"shares": Shares, "logs": Logs, "smallest": Smallest}
    found = []
    for name in ["mice_protein"] if args.quick else args.data:
        found += rows(name, SIZES[name], models)
    table = pd.DataFrame(found)
    OUT.mkdir(exist_ok=True)
    table.to_csv(OUT / "panels.csv", index=False, float_format="%.4g")
    print("| data | genes | axes | choice | worst axis, SNR | mean log(1 + SNR / (1 + T)) | cross-talk |")
    print("|---|---|---|---|---|---|---|")
    for row in table.itertuples():
        size = "all" if row.choice == "all" else row.n_genes
        print(
            f"| {row.data} | {size} | {row.axes} | {row.choice} | {row.worst:.2f} +- {row.se:.2f} ({row.axis}) | "
            f"{row.mean:.3f} | {row.crosstalk:.3f} |"
        )


if __name__ == "__main__":
    main()
