"""Genes and wiring: the worm's gap junctions, the speed of the bilinear model, links, T4/T5, and signs of the fly.

    FLDA_DATA_DIR=... python benchmarks/wiring.py [--parts worm ...] [--seeds 40]

About five minutes on one core. Every part writes ``results/wiring_<part>.csv`` as it goes; the parts are described
where they are computed.
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.metrics import roc_auc_score

import flda
from flda import datasets
from flda.circuits import (
    BilinearModel,
    SpatialConnectomeModel,
    audit_signs,
    compare_connectivity,
    decompose_connectivity,
    link_axes,
    signed_wiring,
    signs_from_transmitters,
    system_recovery,
)
from flda.circuits.wiring import cross_validate, differential_expression

RESULTS = Path(__file__).parent / "results"
TYPES = [f"{d}{a}" for d in ("T4", "T5") for a in "abcd"]
FACTORS = pd.DataFrame({"dendrite": [t[:2] for t in TYPES], "axon": [t[2] for t in TYPES]}, index=TYPES)
TABLES = ((2, 4), (3, 4), (4, 4), (4, 6), (5, 8))  # 8, 12, 16, 24 and 40 types
ALIASES = {"CT1(M10)": "CT1", "CT1(Lo1)": "CT1", **{f"R{i}": "R1-6" for i in range(1, 7)}}
STRENGTH = 0.4  # of a planted link, in standard deviations of the noise of a connection
PARTS = ("worm", "rules", "binding", "speed", "links", "t4t5", "signs", "whole", "figure")


def write(name: str, rows: list[dict] | pd.DataFrame) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    RESULTS.mkdir(exist_ok=True)
    table.to_csv(RESULTS / f"wiring_{name}.csv", index=False, float_format="%.5g", lineterminator="\n")
    return table


def worm() -> None:
    """Gap junctions from innexins: in sample, held-out pairs, neurons and classes, both nulls."""
    data = datasets.celegans_gap_junctions()
    X, B, C = (data[k] for k in ("genes", "gap_junctions", "contact"))
    models = {
        "SCM, published alpha .215": (SpatialConnectomeModel(0.215), 99),
        "SCM, alpha by GCV": (SpatialConnectomeModel(), 5),
        "SCM, alpha 100": (SpatialConnectomeModel(100.0), 5),
        "bilinear, d = 12, alpha 1e-6": (BilinearModel(12, max_iter=60), 0),
        "bilinear, d = 2, alpha 1e-6": (BilinearModel(2), 0),
        "bilinear, d = 12, alpha 30": (BilinearModel(12, alpha=30.0, max_iter=60), 0),
        "bilinear, d = 3, non-negative": (BilinearModel(3, alpha=1.0, nonnegative=True, max_iter=20, tol=1e-5), 0),
    }
    rows = []
    for name, (model, n_nulls) in models.items():
        table = cross_validate(model, X, B, contact=C, classes=data["classes"], n_nulls=n_nulls)
        plain = {"contact": C, "classes": data["classes"], "n_nulls": 0, "n_boots": 0}
        again = [cross_validate(model, X, B, **plain, random_state=k)["score"] for k in (1, 2, 3)]  # other folds
        table["sd_partitions"] = pd.concat([table["score"], *again], axis=1).std(axis=1)
        rows.append(table.rename_axis("held_out").reset_index().assign(model=name))
        print(name, table[["score", "permutation_mean", "degree_mean"]].round(3).to_dict("index"), flush=True)
        write("worm", pd.concat(rows))


def rules() -> None:
    """Single rules against random networks, and pairs of genes with neurons or whole classes exchanged."""
    data = datasets.celegans_gap_junctions()
    X, B, C = (data[k] for k in ("genes", "gap_junctions", "contact"))
    keys = ["gene_pre", "gene_post"]
    table = SpatialConnectomeModel(0.215).fit(X, B, contact=C).rule_table(X, B, contact=C)
    neurons = differential_expression(X, B, contact=C)
    classes = differential_expression(X, B, contact=C, classes=data["classes"])
    both = neurons.merge(
        classes.drop(columns=["connected", "unconnected", "z", "pval_degree"]),
        on=keys,
        suffixes=("_neurons", "_classes"),
    )
    table = write("worm_rules", table.merge(both, on=keys, suffixes=("_rule", "_pair")))
    print({c: int((table[c] <= 0.05).sum()) for c in table if c.startswith(("pval_adj", "pval_family"))}, flush=True)


def binding(n_seeds: int) -> None:
    """Are rules found that are there? Wiring simulated from the measured binding pairs of Beat, Side, dpr and DIP.

    150 types express each of these genes with probability .15; half of the ordered pairs of types touch; the log odds
    of a connection are -4, plus effects of both types (standard deviation .7), plus .8 for each measured pair of which
    the presynaptic type has one gene and the postsynaptic the other (in either direction).
    """
    measured = datasets.fly_binding_pairs()
    families = {"Beat", "Side", "Dpr", "DIP", "DIPc"}
    own = measured[measured["family_1"].isin(families) & measured["family_2"].isin(families) & measured["detected"]]
    genes = sorted(set(own["gene_1"]) | set(own["gene_2"]))
    truth = pd.DataFrame(False, index=genes, columns=genes)
    for one, two in zip(own["gene_1"], own["gene_2"], strict=True):
        truth.loc[one, two] = truth.loc[two, one] = True
    rows = []
    for seed in range(n_seeds):
        rng = np.random.default_rng(seed)
        X = pd.DataFrame((rng.random((150, len(genes))) < 0.15).astype(float), columns=genes)
        C = (rng.random((150, 150)) < 0.5).astype(float)
        effects = rng.normal(scale=0.7, size=(2, 150))
        odds = -4 + effects[0][:, None] + effects[1] + 0.8 * (X.to_numpy() @ truth.to_numpy() @ X.to_numpy().T)
        B = C * (rng.random((150, 150)) < 1 / (1 + np.exp(-odds)))
        found = differential_expression(X, B, contact=C, directed=True, n_permutations=999, random_state=seed)
        scm = SpatialConnectomeModel(directed=True).fit(X, B, contact=C)
        bilinear = BilinearModel(10, alpha=10.0, directed=True, max_iter=100).fit(X, B, contact=C)
        right = truth.to_numpy()[
            truth.index.get_indexer(found["gene_pre"]), truth.index.get_indexer(found["gene_post"])
        ]
        called = ((found["pval_adj"] <= 0.1) & (found["z"] > 0)).to_numpy()
        flat = truth.to_numpy().ravel()
        rows.append(
            {
                "seed": seed, "genes": len(genes), "true_pairs": int(flat.sum()), "pairs": flat.size,
                "density": B.sum() / C.sum(), "auc_differential": roc_auc_score(right, found["z"]),
                "auc_scm": roc_auc_score(flat, scm.rules_.to_numpy().ravel()),
                "auc_bilinear": roc_auc_score(flat, bilinear.rules_.to_numpy().ravel()),
                "called": int(called.sum()), "true_of_called": right[called].mean() if called.any() else np.nan,
                "found": right[called].sum() / right.sum(), "family_calls": int((found["pval_family"] <= 0.05).sum()),
            }
        )  # fmt: skip
    print(write("binding", rows).mean().round(3).to_dict(), flush=True)


def descend(
    X: np.ndarray, B: np.ndarray, C: np.ndarray, d: int, alpha: float, rate: float, goals: np.ndarray, seconds: float
) -> np.ndarray:
    """Alternating gradient steps on ``sum c (b - x'A B'x)^2 + alpha / 2 (|A|^2 + |B|^2)``; seconds until each goal."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, X.shape[1], d)) * 0.1
    reached = np.full(len(goals), np.nan)
    start = time.process_time()
    while time.process_time() - start < seconds and np.isnan(reached).any():
        u = X @ b
        residual = C * (B - (X @ a) @ u.T)
        loss = np.sum(residual**2) + alpha / 2 * (np.sum(a**2) + np.sum(b**2))
        if not np.isfinite(loss) or loss > 1e6:
            return np.full(len(goals), np.nan)
        reached = np.where(np.isnan(reached) & (loss <= goals), time.process_time() - start, reached)
        a = a - rate * (-2 * X.T @ residual @ u + alpha * a)
        v = X @ a
        residual = C * (B - v @ (X @ b).T)
        b = b - rate * (-2 * X.T @ residual.T @ v + alpha * b)
    return reached


def speed(seconds: float) -> None:
    """Seconds until the objective is within a share of the best, alternating exact solutions and gradient descent.

    Gradient descent as published: alternating steps of one size from small random factors. Four step
    sizes; each may take ``seconds`` of the processor, so a ratio may be a lower bound.
    """
    data = datasets.celegans_gap_junctions()
    X, B, C = (data[k].to_numpy() for k in ("genes", "gap_junctions", "contact"))
    gaps, rows = np.array([1e-2, 1e-3, 1e-4]), []
    for d in (2, 12):
        path = BilinearModel(d, tol=1e-10, max_iter=3000).fit(X, B, contact=C).objective_
        best, fast = path[-1], np.full(len(gaps), np.nan)
        goals = best * (1 + gaps)
        for k, goal in enumerate(goals):
            model = BilinearModel(d, tol=-1.0, max_iter=int(np.argmax(path <= goal)) + 1)
            took = []
            for _ in range(5):
                start = time.process_time()
                model.fit(X, B, contact=C)
                took.append(time.process_time() - start)
            fast[k] = np.median(took)
        for rate in (3e-3, 1e-3, 3e-4, 1e-4):
            slow = descend(X, B, C, d, 1e-6, rate, goals, seconds)
            for gap, f, s in zip(gaps, fast, slow, strict=True):
                rows.append(
                    {
                        "d": d, "gap": gap, "objective": best, "step": rate, "seconds_exact": f, "seconds_descent": s,
                        "limit": seconds, "ratio": s / f, "ratio_at_least": (s if np.isfinite(s) else seconds) / f,
                    }
                )  # fmt: skip
            print(d, rate, slow.round(2), fast.round(4), flush=True)
            write("speed", rows)


def planted(sizes: tuple[int, int], linked: bool, seed: int) -> tuple[AnnData, pd.DataFrame]:
    """Cells of crossed types, 12 genes that follow a level score of factor A, 12 of B, 76 of neither, and their wiring.

    Inputs from 20 partners follow the level scores of A and outputs those of B, with 14 % of the variance;
    without ``linked`` all of it is noise.
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
    """Rejections at .05 of right links (A to inputs, B to outputs), wrong ones, and of all where there is none."""
    rows = []
    for sizes in TABLES:
        for linked in (True, False):
            for seed in range(n_seeds):
                adata, wiring = planted(sizes, linked, seed)
                flda.tl.flda(adata, ["A", "B"], interactions=None, n_comps=1, shrinkage=0.1)
                found = link_axes(adata, wiring, "type", n_permutations=499, random_state=seed)
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
    """Synapses between types of both connectomes; flyvis with the signs of its edges."""
    tables = {}
    for name, edges in (("flyvis", datasets.flyvis_connectome()), ("FlyWire", datasets.flywire_connectivity())):
        weight = edges["n_synapses"].astype(float) * edges.get("sign", 1)
        table = weight.groupby([edges["pre"], edges["post"]]).sum().unstack(fill_value=0.0)
        names = table.index.union(table.columns)
        tables[name] = table.reindex(index=names, columns=names, fill_value=0.0)
    return tables


def t4t5() -> None:
    """Inputs and outputs of T4a to T5d by dendrite, axon and interaction in both connectomes; whether these agree."""
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


def signs() -> None:
    """Every edge of flyvis against the transmitter measured in its presynaptic type."""
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
    """The whole way on simulated genes and real T4/T5 wiring: signs, mask, signed weights per type pair, links.

    Truth: signed synapses of every (type, column) onto T4a to T5d in flyvis, summed by type pair for scoring. All
    columns within two of the cell are candidates. Activity: rectified, correlated between columns and types. Noise:
    half of the response's standard deviation. ``no genes``: the same without signs; ``wrong``: two of the types with
    the other transmitter's marker.
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
            place = np.array([(u + v / 2, v * np.sqrt(3) / 2) for _, u, v in units])
            spread = np.exp(-np.linalg.norm(place[:, None] - place[None], axis=2) / 2)
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
    order = ["agree", "conflict", "reference only", "no evidence"]
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
