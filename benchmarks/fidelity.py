"""How far cells of flda.simulate can be told from those of the RNA mixtures they were fitted to.

    FLDA_DATA_DIR=... python benchmarks/fidelity.py

mixture x amount x protocol, 55 groups of 1 to 25 cells, as many simulated cells as real ones. Main effects and the
interactions that the table identifies; areas under the curve are of held-out cells, by group. ``genes``: those with the
largest mean counts. ``compared with``: the fitted cells, or the half of each group that the fit did not see.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import flda
from flda._logging import quiet

OUT = Path(__file__).parent / "results"
FACTORS = ["mixture", "amount", "protocol"]


def halves(adata):
    """Equal shares of every group with two cells or more; the first half has all groups."""
    rng = np.random.default_rng(0)
    order = adata.obs.iloc[rng.permutation(adata.n_obs)]
    rank = order.groupby(FACTORS, observed=True).cumcount().reindex(adata.obs_names).to_numpy()
    return adata[rank % 2 == 0].copy(), adata[rank % 2 == 1].copy()


def main() -> None:
    adata = flda.datasets.rnamix()
    order = np.argsort(-np.asarray(adata.layers["counts"].mean(axis=0)).ravel(), kind="stable")
    groups, summary = [], []
    for n_genes in (2000, 10_000):
        part = adata[:, np.sort(order[:n_genes])].copy()
        first, second = halves(part)
        for name, fitted, real in (("fitted cells", part, part), ("other half", first, second)):
            with quiet():
                model = flda.simulate.fit_counts(fitted, FACTORS)
            found = flda.simulate.fidelity(real, model.sample(real.obs[FACTORS], random_state=1), FACTORS)
            row = {"genes": n_genes, "compared with": name}
            groups.append(found.groups.assign(**row))
            known = found.groups["auc"].dropna()
            summary.append({**row, **found.summary.set_index("measure")["value"], "axes": model.loadings.shape[1],
                            "groups": len(known), "groups with AUC <= 0.75": int((known <= 0.75).sum())})  # fmt: skip
            pd.concat(groups).to_csv(OUT / "fidelity_groups.csv", index=False, float_format="%.4g", lineterminator="\n")
            pd.DataFrame(summary).to_csv(OUT / "fidelity.csv", index=False, float_format="%.4g", lineterminator="\n")
            print(pd.Series(summary[-1]).to_string(), flush=True)
            if (n_genes, name) == (2000, "other half"):
                fig, axes = plt.subplots(2, 3, figsize=(11, 6.4), layout="constrained")
                for ax, kind in zip(axes.flat, ("variance", "zeros", "correlation", "library", "auc"), strict=False):
                    flda.pl.fidelity(found, kind, ax=ax)
                axes.flat[5].set_axis_off()
                fig.savefig(OUT / "fidelity.png", dpi=130)


if __name__ == "__main__":
    main()
