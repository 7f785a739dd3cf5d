"""Genes and wiring: gap junctions of the worm, the bilinear model's speed, links, T4/T5, and signs of the fly.

    FLDA_DATA_DIR=... python benchmarks/wiring.py [--parts worm ...] [--seeds 40]

Takes about five minutes on one core. Every part writes ``results/wiring_<part>.csv`` as it runs; its function
describes it.
"""

from __future__ import annotations

import argparse
import logging
import time

import numpy as np
import pandas as pd
from anndata import AnnData
from wiring_rules import RESULTS, binding, rules, sparse, sparse_models, speed, worm, write

import flda
from flda import datasets
from flda.circuits import (
    audit_signs,
    compare_connectivity,
    decompose_connectivity,
    link_axes,
    signed_wiring,
    signs_from_transmitters,
    system_recovery,
)

TYPES = [f"{d}{a}" for d in ("T4", "T5") for a in "abcd"]
FACTORS = pd.DataFrame({"dendrite": [t[:2] for t in TYPES], "axon": [t[2] for t in TYPES]}, index=TYPES)
TABLES = ((2, 4), (3, 4), (4, 4), (4, 6), (5, 8))  # 8, 12, 16, 24 and 40 types
ALIASES = {"CT1(M10)": "CT1", "CT1(Lo1)": "CT1", **{f"R{i}": "R1-6" for i in range(1, 7)}}
STRENGTH = 0.4  # of a planted link, in standard deviations of the noise of a connection
PARTS = (
    "worm",
    "rules",
    "binding",
    "speed",
    "sparse",
    "sparse_models",
    "fib19",
    "links",
    "t4t5",
    "signs",
    "whole",
    "figure",
)


def planted(sizes: tuple[int, int], linked: bool, seed: int) -> tuple[AnnData, pd.DataFrame]:
    """Simulated cells of types with two factors, and the wiring of the types.

    Of 100 genes 12 depend on factor A, 12 on factor B and 76 on neither. Inputs from 20 partners depend on A and
    outputs on B, with 14 % of their variance; if not ``linked``, all of it is noise.
    """
    rng = np.random.default_rng([seed, *sizes, linked])
    n_a, n_b = sizes
    level = [v - v.mean() for v in (rng.normal(size=n_a), rng.normal(size=n_b))]
    level = [v / v.std() for v in level]
    a, b = np.repeat(np.arange(n_a), n_b), np.tile(np.arange(n_b), n_a)
    names = [f"A{i}B{j}" for i, j in zip(a, b, strict=True)]
    cell = np.repeat(np.arange(len(names)), 20)
    X = rng.normal(size=(len(cell), 100))
    X[:, :12] += np.outer(level[0][a][cell], rng.choice([-1, 1], 12))
    X[:, 12:24] += np.outer(level[1][b][cell], rng.choice([-1, 1], 12))
    obs = pd.DataFrame(
        {
            "A": np.array([f"a{i}" for i in a])[cell],
            "B": np.array([f"b{i}" for i in b])[cell],
            "type": np.array(names)[cell],
        },
        index=[f"c{i}" for i in range(len(cell))],
    )
    partners = [f"P{i}" for i in range(20)]
    wiring = pd.DataFrame(0.0, index=[*names, *partners], columns=[*names, *partners])
    signal = [np.outer(rng.normal(size=20), level[0][a]), np.outer(level[1][b], rng.normal(size=20))]
    wiring.loc[partners, names] = STRENGTH * linked * signal[0] + rng.normal(size=signal[0].shape)
    wiring.loc[names, partners] = STRENGTH * linked * signal[1] + rng.normal(size=signal[1].shape)
    return AnnData(X, obs=obs.astype("category")), wiring


def links(n_seeds: int) -> None:
    """Share of links with p <= 0.05: true ones (A to inputs, B to outputs), wrong ones, and all if there is no link."""
    rows = []
    for sizes in TABLES:
        for linked in (True, False):
            for seed in range(n_seeds):
                adata, wiring = planted(sizes, linked, seed)
                flda.tl.flda(adata, ["A", "B"], interactions=None, n_components=1, shrinkage=0.1)
                found = link_axes(adata, wiring, "type", n_resamples=499, random_state=seed)
                for row in found.itertuples():
                    right = (row.direction, row.effect) in (("inputs", "A"), ("outputs", "B"))
                    rows.append(
                        {
                            "n_types": row.n_types, "seed": seed, "linked": linked, "direction": row.direction,
                            "axis": row.axis, "kind": ("right" if right else "wrong") if linked else "none",
                            "pval": row.pval, "pval_within": row.pval_within, "share": row.share, "r2": row.held_out_r2,
                        }
                    )  # fmt: skip
        table = write("links", rows)
        print(
            sizes,
            table[table["n_types"] == np.prod(sizes)]
            .groupby(["kind", "axis"])["pval"]
            .agg(lambda p: (p <= 0.05).mean())
            .to_dict(),
            flush=True,
        )


def connectomes() -> dict[str, pd.DataFrame]:
    """Synapses between the types of both connectomes; those of flyvis have signs."""
    tables = {}
    for name, edges in (("flyvis", datasets.flyvis_connectome()), ("FlyWire", datasets.flywire_connectivity())):
        weight = edges["n_synapses"].astype(float) * edges.get("sign", 1)
        table = weight.groupby([edges["pre"], edges["post"]]).sum().unstack(fill_value=0.0)
        names = table.index.union(table.columns)
        tables[name] = table.reindex(index=names, columns=names, fill_value=0.0)
    return tables


def t4t5() -> None:
    """Inputs and outputs of T4a to T5d by dendrite, axon and interaction in two connectomes, and their agreement."""
    tables, rows = connectomes(), []
    scales = {"synapses": lambda m: m, "square root": lambda m: np.sign(m) * np.sqrt(np.abs(m))}
    for (name, table), (scale, change), within in (
        (t, s, w) for t in tables.items() for s in scales.items() for w in (False, True)
    ):
        found = decompose_connectivity(change(table), FACTORS, within=within)
        rows.append(found.assign(connectome=name, scale=scale, among_themselves=within))
    found = write("t4t5", pd.concat(rows))
    print(found[(found["scale"] == "synapses") & ~found["among_themselves"]].round(4).to_string(), flush=True)

    merged = {}
    for name, table in tables.items():  # one name per type: the two compartments of CT1 are one cell
        short = lambda t: t.split("(")[0]  # noqa: E731
        merged[name] = table.abs().groupby(short).sum().T.groupby(short).sum().T
    agreement = []
    for (scale, change), within in ((s, w) for s in scales.items() for w in (False, True)):
        pair = (change(merged["flyvis"]), change(merged["FlyWire"]))
        agreement.append(
            compare_connectivity(*pair, FACTORS, within=within).assign(scale=scale, among_themselves=within)
        )
    found = write("t4t5_agreement", pd.concat(agreement))
    print(found.round(4).to_string(), flush=True)


def fib19() -> None:
    """Shares of single neurons and of types of FIB-19, and the certificate of FLDA on the same features."""
    neurons = datasets.t4t5_fib19_wiring()
    shares, certificates = [], []
    for direction in ("inputs", "outputs"):
        own = neurons[:, (neurons.var["direction"] == direction) & ~neurons.var["among"]]
        for weighting in ("raw", "sqrt", "log1p"):
            X = own.X if weighting == "raw" else own.layers[weighting]
            single = pd.DataFrame(X, index=own.obs_names, columns=own.var_names)
            types = single.groupby(own.obs["type"].astype(str)).mean()
            for level, table, factors in (
                ("neurons", single, own.obs[["dendrite", "axon"]].astype(str)),
                ("types", types, FACTORS),
            ):
                matrix = table.T if direction == "inputs" else table
                found = decompose_connectivity(matrix, factors, directions=direction, n_resamples=1999)
                shares.append(found.assign(level=level, weighting=weighting))
            adata = own.copy()
            adata.X = np.array(X)
            flda.tl.flda(adata, ["dendrite", "axon"])
            flda.tl.certify(adata, random_state=0)
            certificates.append(flda.get.certificate_df(adata).assign(direction=direction, weighting=weighting))
    print(write("fib19", pd.concat(shares)).round(4).to_string(), flush=True)
    print(write("fib19_certificate", pd.concat(certificates)).round(3).to_string(), flush=True)


def signs() -> None:
    """The sign of every edge of flyvis compared with the transmitter measured in its presynaptic type."""
    measured = signs_from_transmitters(datasets.flywire_optic_types())
    table = audit_signs(datasets.flyvis_connectome(), measured, names=ALIASES)
    write("signs", table)
    counts = table.groupby(["verdict", "referenced", "sign"]).agg(
        edges=("post", "size"), synapses=("n_synapses", "sum")
    )
    print(counts, flush=True)
    print(table[table["verdict"] == "conflict"], flush=True)


def fly_cells(rng: np.random.Generator, transmitters: dict[str, str]) -> AnnData:
    """Simulated T4/T5 cells with planted dendrite and axon genes, and 20 cells of every input type with its marker."""
    t4t5 = datasets.t4t5_simulated(n_obs=800, n_vars=300, random_state=int(rng.integers(1e6)))
    n, genes = t4t5.n_obs, [*t4t5.var_names, *sorted(set(transmitters.values()))]
    names = np.repeat(list(transmitters), 20)
    counts = rng.poisson(0.3, size=(n + len(names), len(genes))).astype(float)
    counts[:, t4t5.n_vars :] = rng.poisson(0.05, size=(len(counts), len(genes) - t4t5.n_vars))  # contamination
    counts[:n, : t4t5.n_vars] = t4t5.layers["counts"].toarray()
    counts[:n, genes.index("VAChT")] = rng.poisson(3.0, n)
    for name, gene in transmitters.items():
        rows = n + np.flatnonzero(names == name)
        counts[rows, genes.index(gene)] = rng.poisson(3.0, 20) * (rng.random(20) > 0.4)  # dropout
    obs = pd.DataFrame(
        {"type": [*t4t5.obs["subtype"].astype(str), *names]}, index=[f"c{i}" for i in range(len(counts))]
    )
    for factor in ("dendrite", "axon"):
        obs[factor] = pd.Categorical([*t4t5.obs[factor].astype(str), *[np.nan] * len(names)])
    log = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)
    return AnnData(log, obs=obs, var=pd.DataFrame(index=genes), layers={"counts": counts})


def whole(n_seeds: int) -> None:
    """All steps on simulated genes and real T4/T5 wiring: signs, mask, signed weights per pair of types, links.

    The true weights are the signed synapses of every (type, column) onto T4a to T5d in flyvis, summed by pair of types.
    Candidate inputs are all columns within a distance of two. Activity is rectified, and correlated between columns and
    types. The noise is half of the response's standard deviation. ``no genes``: the same without signs. ``wrong``: two
    types have the marker of the other transmitter.
    """
    edges = datasets.flyvis_connectome()
    edges = edges[edges["post"].isin(TYPES) & ~edges["pre"].isin(TYPES)].copy()
    edges["weight"] = edges["n_synapses"] * edges["sign"]
    sign = edges.groupby("pre")["sign"].first()
    truth = edges.groupby(["pre", "post"])["weight"].sum().unstack(fill_value=0.0)[TYPES]
    near = [(u, v) for u in range(-2, 3) for v in range(-2, 3) if abs(u + v) <= 2]
    units = pd.MultiIndex.from_tuples(
        sorted(
            {(p, u, v) for p in sign.index for u, v in near}
            | set(edges[["pre", "du", "dv"]].itertuples(index=False, name=None))
        )
    )
    pairs = edges[["pre", "post"]].drop_duplicates()
    marker = {1: "VAChT", -1: "Gad1"}
    rows = []
    for seed in range(n_seeds):
        rng = np.random.default_rng(seed)
        for n in (200, 800):
            xy = np.array([(u + v / 2, v * np.sqrt(3) / 2) for _, u, v in units])
            spread = np.exp(-np.linalg.norm(xy[:, None] - xy[None], axis=2) / 2)
            same = np.array(units.get_level_values(0))
            spread *= np.where(same[:, None] == same[None], 1.0, 0.4)
            field = rng.normal(size=(n, len(units))) @ np.linalg.cholesky(spread + 1e-6 * np.eye(len(units))).T
            activity = pd.DataFrame(np.maximum(field + 0.5, 0), columns=units)
            weight = edges.set_index(["post", "pre", "du", "dv"])["weight"]
            clean = pd.DataFrame({t: activity[list(weight[t].index)].to_numpy() @ weight[t].to_numpy() for t in TYPES})
            responses = clean + 0.5 * clean.std().to_numpy() * rng.normal(size=clean.shape)
            for arm in ("genes", "no genes", "wrong"):
                used = {pre: marker[s] for pre, s in sign.items()}
                if arm == "wrong":
                    used |= {pre: marker[-sign[pre]] for pre in ("Mi9", "Tm2")}
                cells = fly_cells(np.random.default_rng(seed), used)
                if arm == "no genes":
                    cells.obs["type"] = [t if t in TYPES else f"unknown {t}" for t in cells.obs["type"]]
                flda.tl.flda(cells, ["dendrite", "axon"], shrinkage=0.5)
                found = signed_wiring(
                    cells, pairs, activity, responses, groupby="type", layer="counts", random_state=seed
                )
                weights = found.weights.reindex(index=truth.index, columns=TYPES, fill_value=0.0)
                link = found.links.set_index("axis").loc["dendrite_1"]
                known = found.signs["sign"].reindex(sign.index)
                rows.append(
                    {
                        "seed": seed, "n_samples": n, "arm": arm, "signs_right": int((known == sign).sum()),
                        "signs_wrong": int((known == -sign).sum()), "n_input_types": len(sign),
                        "r_sys": system_recovery(weights.to_numpy(), truth.to_numpy()),
                        "r2_test": found.fits["r2_test"].mean(), "link_axis": "dendrite_1", "link_share": link["share"],
                        "link_pval": link["pval"], "link_r2": link["held_out_r2"],
                    }
                )  # fmt: skip
        print(
            write("whole", rows).groupby(["n_samples", "arm"])[["r_sys", "r2_test", "link_share"]].mean().round(3),
            flush=True,
        )


def figure() -> None:
    import matplotlib.pyplot as plt
    import seaborn as sns

    blue, orange, grey, green = "#0173b2", "#de8f05", "#949494", "#029e73"
    fig, axes = plt.subplots(1, 4, figsize=(16.5, 3.9), layout="constrained")
    ax = axes[0]
    table = pd.read_csv(RESULTS / "wiring_worm.csv")
    table = table[table["model"] == "SCM, published alpha .215"].reset_index(drop=True)
    at = np.arange(len(table))
    spans = [table["score"] - table["lower"], table["upper"] - table["score"]]
    label = "C. elegans, 95 % over classes"
    ax.errorbar(at, table["score"], spans, fmt="o", color=blue, capsize=3, label=label)
    nulls = (("permutation", grey, "neurons exchange genes"), ("class", green, "classes exchange genes"))
    for k, (kind, shade, text) in enumerate((*nulls, ("degree", orange, "random, same degrees")), 1):
        drawn = table[f"{kind}_mean"], 2 * table[f"{kind}_sd"]
        ax.errorbar(at + 0.14 * k, *drawn, fmt="s", color=shade, capsize=3, label=f"{text}, 2 sd")
    ax.set_xticks(at, table["held_out"])
    ax.set_xlim(-0.5, len(at) - 0.2)
    ax.axhline(0.5, color="0.7", linewidth=0.8)
    ax.set_ylim(0.45, 0.8)
    ax.set_ylabel("area under the ROC curve")
    ax.set_title("gap junctions from innexins (SCM)", fontsize=10, loc="left")
    ax.legend(frameon=False, fontsize=8)

    ax = axes[1]
    table = pd.read_csv(RESULTS / "wiring_links.csv")
    styles = {
        ("right", "A_1"): (blue, "-", "A to inputs (planted)"),
        ("right", "B_1"): (green, "-", "B to outputs (planted)"),
        ("wrong", None): (orange, "--", "wrong links"),
        ("none", None): (grey, ":", "no link at all"),
    }
    for (kind, axis), (shade, style, text) in styles.items():
        rows = table[(table["kind"] == kind) & ((table["axis"] == axis) if axis else True)]
        share = (rows["pval"] <= 0.05).groupby(rows["n_types"]).mean()
        ax.plot(share.index, share, style, color=shade, marker="o", markersize=4, label=text)
    ax.axhline(0.05, color="black", linewidth=0.8)
    ax.set_xticks(sorted(table["n_types"].unique()))
    ax.set_ylim(-0.02, 1.02)
    ax.set_xlabel("cell types")
    ax.set_ylabel("share called at p ≤ 0.05")
    ax.set_title("simulated links", fontsize=10, loc="left")
    ax.legend(frameon=False, fontsize=8)

    ax = axes[2]
    table = pd.read_csv(RESULTS / "wiring_t4t5.csv")
    table = table[(table["scale"] == "synapses") & ~table["among_themselves"]]
    bars = [(c, d) for d in ("inputs", "outputs") for c in ("flyvis", "FlyWire")]
    left = np.zeros(len(bars))
    for effect, shade in (("dendrite", blue), ("axon", orange), ("dendrite:axon", grey)):
        own = table[table["effect"] == effect].set_index(["connectome", "direction"]).loc[bars]
        ax.barh(range(len(bars)), own["share"], left=left, color=shade, label=effect)
        for i, (share, p) in enumerate(zip(own["share"], own["pval"], strict=True)):
            if share > 0.25:
                ax.text(left[i] + share / 2, i, f"p = {p:.2g}", ha="center", va="center", color="white", fontsize=9)
        left = left + own["share"].to_numpy()
    ax.set_yticks(range(len(bars)), [f"{d}, {c}" for c, d in bars])
    ax.invert_yaxis()
    ax.set_xlabel("share of differences between T4a to T5d")
    ax.set_title("wiring by factor, 8 types", fontsize=10, loc="left")
    ax.legend(frameon=False, fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.16))

    ax = axes[3]
    table = pd.read_csv(RESULTS / "wiring_signs.csv")
    counts = table.groupby(["verdict", "referenced"]).size().unstack(fill_value=0)
    order = ["agree", "conflict", "reference only", "unsupported"]
    counts = counts.reindex(order, fill_value=0)
    ax.barh(order, counts[True], color=blue, label="sign with a reference")
    ax.barh(order, counts[False], left=counts[True], color=orange, label="default +1")
    for i, n in enumerate(counts.sum(axis=1)):
        ax.text(n + 6, i, str(n), va="center", fontsize=9)
    ax.invert_yaxis()
    ax.margins(x=0.12)
    ax.set_xlabel("edges of flyvis")
    ax.set_title("605 signs against measured transmitters", fontsize=10, loc="left")
    ax.legend(frameon=False, fontsize=8, loc="lower right")
    for a in axes:
        sns.despine(ax=a)
    fig.savefig(RESULTS / "wiring.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--seeds", type=int, default=40, help="simulations per size and arm")
    parser.add_argument("--seconds", type=float, default=8, help="processor time of a run of gradient descent")
    args = parser.parse_args()
    logging.getLogger("flda").setLevel("ERROR")
    steps = {
        "worm": worm,
        "rules": rules,
        "binding": lambda: binding(max(1, args.seeds // 10)),
        "speed": lambda: speed(args.seconds),
        "sparse": sparse,
        "sparse_models": sparse_models,
        "fib19": fib19,
        "links": lambda: links(args.seeds),
        "t4t5": t4t5,
        "signs": signs,
        "whole": lambda: whole(max(1, args.seeds // 20)),
        "figure": figure,
    }
    for part in args.parts:
        start = time.perf_counter()
        steps[part]()
        print(f"{part}: {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
