"""Rare groups: do simulated cells help, or does shrinking the group means?

    FLDA_DATA_DIR=... python benchmarks/rare_groups.py [--seeds 3] [--data t4t5 rnamix pbmc68k]

One group keeps 3, 5, 10, 20 or 50 of its cells in the training part. Everything is measured on real cells that no arm
was fitted to: half of every group, and the cells that were removed from the rare group. All arms use the shrinkage of
the scatter that is chosen on the real training cells.

* none: the real cells. oversampling: copies of the rare cells. balanced: ``within="balanced"``, where the covariance of
  every group has the same weight. factorial: ``group_means="shrunken"``, group means shrunken towards the factorial
  prediction. additive: the same without interactions, hence towards the sum of the main effects.
* simulate, thin, recombine, transfer: :func:`flda.pp.augment`, up to the size of the median group (amount 1) or half of
  it, at several variations.

``snr``, ``crosstalk``: of the axes of the main effects, summed over axes, mean over effects. ``log_snr``: mean of
log(1 + SNR). ``accuracy``: share of cells whose levels are all predicted correctly, mean over groups. ``rare``: the
same in the rare group. ``genes``: of the 10 genes that SparseFLDA selects for the first axis of each factor, the share
that carries its effect. On t4t5 the carriers are the planted genes; otherwise they are the genes that the same
procedure selects on all cells, which include the training cells, so that only differences between arms can be
interpreted.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scipy.sparse as sp
import seaborn as sns
from anndata import AnnData

from flda import FLDA, SparseFLDA
from flda._design.make import make_design
from flda._logging import quiet
from flda.datasets import rnamix, t4t5_simulated
from flda.datasets._common import from_counts
from flda.metrics import effect_snr
from flda.pp import augment

OUT = Path(__file__).parent / "results"
SIZES = (3, 5, 10, 20, 50)
N_GENES = 10


def t4t5(seed: int) -> tuple[AnnData, list[str], list]:
    """Simulated cells with known truth: 1,600 x 400 genes, 2 x 4, effects of half the default size."""
    adata = t4t5_simulated(1600, 400, effect_size=0.5, random_state=seed)
    return adata, ["dendrite", "axon"], [("T4", "b"), ("T5", "c"), ("T5", "a"), ("T4", "d")][seed % 4]


def rnamix_real(seed: int):
    """RNA mixtures, protocol x mixture (amounts together), the 500 genes with the largest mean count."""
    adata = rnamix()
    top = np.sort(np.argsort(-np.asarray(adata.layers["counts"].mean(axis=0)).ravel())[:500])
    groups = [("CEL-seq2", "33-33-33"), ("SORT-seq", "33-33-33")]
    return adata[:, top].copy(), ["protocol", "mixture"], groups[seed % 2]


def pbmc68k_real(seed: int):
    """Blood cells, the three cell types with the most cells x phase; counts from the logarithms and the total."""
    import scanpy as sc

    small = sc.datasets.pbmc68k_reduced()
    log = small.raw.X.toarray() if sp.issparse(small.raw.X) else np.asarray(small.raw.X)
    # log1p of counts per 10,000, stored with few digits; the totals are of all genes
    counts = sp.csr_matrix(np.round(np.expm1(log) * small.obs["n_counts"].to_numpy()[:, None] / 1e4).astype(np.float32))
    obs = small.obs[["bulk_labels", "phase"]].copy()
    adata = from_counts(counts, obs, pd.DataFrame(index=small.raw.var_names))
    types = obs["bulk_labels"].value_counts().index[:3]
    adata = adata[obs["bulk_labels"].isin(types)].copy()
    adata.obs["bulk_labels"] = adata.obs["bulk_labels"].cat.remove_unused_categories()
    sizes = adata.obs.groupby(["bulk_labels", "phase"], observed=True).size().sort_values(ascending=False)
    return adata, ["bulk_labels", "phase"], sizes.index[seed % 2]


DATA = {"t4t5": t4t5, "rnamix": rnamix_real, "pbmc68k": pbmc68k_real}


def split(adata: AnnData, factors, rare: tuple, n: int, rng) -> tuple[AnnData, AnnData]:
    """Half of every group trains; of the rare one n cells do (at most two thirds), all others test."""
    train = np.zeros(adata.n_obs, dtype=bool)
    for group, cells in adata.obs.groupby(factors, observed=True).indices.items():
        k = min(n, 2 * len(cells) // 3) if group == rare else (len(cells) + 1) // 2
        train[rng.permutation(cells)[:k]] = True
    return adata[train].copy(), adata[~train].copy()


def arms() -> list[tuple[str, float, float]]:
    """Name, amount (share of the median group), variation."""
    out = [(name, np.nan, np.nan) for name in ("none", "balanced", "factorial", "additive")]
    out += [(name, 1.0, 1.0) for name in ("transfer", "thin", "recombine")]
    out += [("oversampling", 0.5, 0.0), ("oversampling", 1.0, 0.0), ("transfer", 0.5, 1.0), ("thin", 1.0, 2.0)]
    return [*out, ("simulate", 0.5, 1.0), ("simulate", 1.0, 0.0), ("simulate", 1.0, 1.0), ("simulate", 1.0, 2.0)]


OPTIONS: dict[str, dict] = {
    "balanced": {"within": "balanced"},
    "factorial": {"group_means": "shrunken"},
    "additive": {"group_means": "shrunken", "interactions": None},
}  # of the fits; all other arms have the defaults


def training_data(name: str, amount: float, variation: float, train: AnnData, factors, seed: int):
    """Expression and labels to which an arm is fitted."""
    if name == "none" or name in OPTIONS:
        return train.X, train.obs[factors]
    median = int(train.obs.groupby(factors, observed=True).size().median())
    method = "thin" if name == "oversampling" else name
    with quiet():
        more = augment(train, factors, method=method, n_cells=max(2, round(amount * median)), variation=variation,
                       random_state=seed)  # fmt: skip
    return more.X, more.obs[factors]


def first_axes(X, y, **options) -> SparseFLDA:
    """Genes of the first axis of every main effect.

    An interaction belongs to the model, so that shrunken means may have one, but axes are not penalised for it.
    """
    design = make_design(y, interactions=options.get("interactions", "all"))
    penalty = {e.name: 0.0 for e in design.effects if len(e) > 1}
    return SparseFLDA(n_genes=N_GENES, n_components=1, penalty=penalty, **options).fit(X, y)


def selected(sparse: SparseFLDA) -> dict[str, list[np.ndarray]]:
    return {e: list(axes) for e, axes in sparse.selected_.items() if ":" not in e}


def recovery(sparse: SparseFLDA, truth: dict[str, np.ndarray]) -> float:
    """Share of the selected genes of each main effect that carry it, mean over effects."""
    return float(np.mean([truth[e][np.unique(np.concatenate(a))].mean() for e, a in selected(sparse).items()]))


def measure(dense: FLDA, sparse: SparseFLDA, test: AnnData, factors, rare: tuple, truth) -> dict[str, float]:
    design = make_design(test.obs[factors])
    snr = pd.DataFrame(effect_snr(dense.transform(test.X), design)).assign(effect=dense.axes_["effect"].to_numpy())
    own, cross = [], []
    for f in factors:
        part = snr[snr["effect"] == f].drop(columns="effect")
        own.append(part[f].sum())
        cross.append(part.sum().sum() - part[f].sum())
    right = (dense.predict(test.X).astype(str).to_numpy() == test.obs[factors].astype(str).to_numpy()).all(axis=1)
    by_group = pd.Series(right).groupby(design.codes).mean()
    in_rare = (test.obs[factors].astype(str).to_numpy() == np.array(rare, dtype=str)).all(axis=1)
    return {
        "snr": float(np.mean(own)), "log_snr": float(np.mean(np.log1p(np.maximum(own, 0)))),
        "crosstalk": float(np.mean(cross)), "accuracy": float(by_group.mean()), "rare": float(right[in_rare].mean()),
        "genes": recovery(sparse, truth),
    }  # fmt: skip


def one(data: str, seed: int, sizes) -> list[dict]:
    adata, factors, rare = DATA[data](seed)
    rng = np.random.default_rng(seed)
    with quiet():
        g = FLDA(random_state=0).fit(adata.X, adata.obs[factors]).shrinkage_
        whole = first_axes(adata.X, adata.obs[factors], shrinkage=g)
    truth = {}
    for e, axes in selected(whole).items():
        truth[e] = np.zeros(adata.n_vars, dtype=bool)
        truth[e][np.concatenate(axes)] = True
        if f"truth_{e}" in adata.var:
            truth[e] = adata.var[f"truth_{e}"].to_numpy()
    rows = []
    for n in sizes:
        train, test = split(adata, factors, rare, n, rng)
        n_rare = int((train.obs[factors] == list(rare)).all(axis=1).sum())
        if n_rare < n:
            continue
        with quiet():
            g = FLDA(random_state=0).fit(train.X, train.obs[factors]).shrinkage_
        for name, amount, variation in arms():
            start = time.perf_counter()
            X, y = training_data(name, amount, variation, train, factors, seed)
            options = {"shrinkage": g, **OPTIONS.get(name, {})}
            with quiet():
                dense, sparse = FLDA(**options).fit(X, y), first_axes(X, y, **options)
            rows.append(
                {"data": data, "seed": seed, "rare_cells": n, "arm": name, "amount": amount, "variation": variation,
                 **measure(dense, sparse, test, factors, rare, truth), "seconds": time.perf_counter() - start}
            )  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", nargs="+", default=list(DATA), choices=list(DATA))
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    args = parser.parse_args()
    path = OUT / "rare_groups.csv"
    rows: list[dict] = []
    for seed in range(args.seeds):
        for data in args.data:
            rows += one(data, seed, args.sizes)
            pd.DataFrame(rows).to_csv(path, index=False, float_format="%.4g", lineterminator="\n")
            print(f"{data}, seed {seed}: {sum(r['seconds'] for r in rows):.0f} s so far", flush=True)
    report()


def label(row) -> str:
    if np.isnan(row.amount):
        return row.arm
    varied = row.arm in ("simulate", "thin") and row.variation != 1
    return row.arm + (f", variation {row.variation:g}" if varied else "") + (", half" * (row.amount < 1))


def report() -> None:
    """Differences to no augmentation, within data, seed and size, and the figure, from the CSV."""
    table = pd.read_csv(OUT / "rare_groups.csv")
    table["method"] = [label(row) for row in table.itertuples()]
    values = ["log_snr", "crosstalk", "accuracy", "rare", "genes"]
    keys = ["data", "seed", "rare_cells"]
    base = table[table["arm"] == "none"].set_index(keys)[values]
    gain = table.set_index(keys)[values] - base.reindex(table.set_index(keys).index)
    table[[f"gain_{v}" for v in values]] = gain.to_numpy()
    few = table[table["rare_cells"] <= 10]
    for data, part in few.groupby("data", sort=False):
        print(f"\n{data}: 3 to 10 cells in the rare group; values of none, then gains over it")
        print(part[part["arm"] == "none"][values].mean().round(3).to_string())
        print(part.groupby("method", sort=False)[[f"gain_{v}" for v in values]].mean().round(3).to_string())
    shown = {
        "none": "0.5", "balanced": "#949494", "oversampling": "#d55e00", "thin": "#cc78bc", "recombine": "#ca9161",
        "transfer": "#de8f05", "simulate": "#0173b2", "factorial": "#029e73",
    }  # fmt: skip
    panels = {
        "log_snr": "log(1 + SNR)",
        "crosstalk": "cross-talk",
        "rare": "accuracy, rare group",
        "genes": "true genes",
    }
    data = list(dict.fromkeys(table["data"]))
    fig, axes = plt.subplots(len(data), 4, figsize=(13, 2.7 * len(data) + 0.4), layout="constrained", squeeze=False)
    for row, name in zip(axes, data, strict=True):
        for ax, (value, title) in zip(row, panels.items(), strict=True):
            for method, shade in shown.items():
                mean = table[(table["data"] == name) & (table["method"] == method)].groupby("rare_cells")[value].mean()
                ax.plot(
                    mean.index, mean, marker="o", ms=3.5, lw=1.5, color=shade, label=method,
                    ls="--" if method in ("none", "balanced") else "-", zorder=3 if method == "factorial" else 2,
                )  # fmt: skip
            ax.set_xscale("log")
            ax.set_xticks(SIZES, [str(n) for n in SIZES])
            ax.minorticks_off()
            ax.set_title(f"{name}: {title}", fontsize=10)
    for ax in axes[-1]:
        ax.set_xlabel("cells in the rare group")
    axes[0, -1].legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1))
    sns.despine(fig)
    fig.savefig(OUT / "rare_groups.png", dpi=130)


if __name__ == "__main__":
    main()
