"""Accuracy of the certificates, false discoveries and stability of gene lists, and the speed of the tests.

    python benchmarks/inference.py [STUDY ...] [--jobs 2]

Every study prints its table and writes it to ``benchmarks/results/inference_<study>.csv``. All data are simulated from
the truth that is stated in each function. Levels and power of the tests are measured by ``inference_regimes.py`` and
``inference_power.py``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from inference_regimes import cells
from joblib import Parallel, delayed

from flda import FLDA, SparseFLDA
from flda._design.make import make_design
from flda._design.splits import hold_out
from flda._logging import quiet
from flda.datasets import t4t5_simulated
from flda.inference import certify, effect_tests, stability_selection
from flda.inference._certificate import certify_together
from flda.metrics import effect_snr, mean_products

from problems import PROBLEMS

OUT = Path(__file__).parent / "results"


def frame(a, b):
    return pd.DataFrame({"A": a.astype(str), "B": b.astype(str)})


def one_certificate(seed):
    """The certificate of 1,500 cells, and the SNR of the same fit on 20,000 other cells."""
    adata = t4t5_simulated(21500, 600, random_state=seed)
    y = adata.obs[["dendrite", "axon"]].reset_index(drop=True)
    X = adata.X.toarray()
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(y))
    train, test = order[:1500], order[1500:]
    design = make_design(y.iloc[test])
    models = {"all": FLDA(random_state=0), "selected": SparseFLDA(n_genes=20, random_state=0)}
    with quiet():
        predicted = certify_together(models, X[train], y.iloc[train], n_repeats=2)
        rows = []
        for name, model in models.items():
            model.fit(X[train], y.iloc[train])
            snr = pd.DataFrame(effect_snr(model.transform(X[test]), design)).set_index(model.get_feature_names_out())
            for axis, row in snr.iterrows():
                own = axis.rsplit("_", 1)[0]
                rows.append({"axis": axis, "genes": name, "real_snr": row[own], "real_crosstalk": row.sum() - row[own]})
    return predicted.merge(pd.DataFrame(rows), on=["axis", "genes"]).assign(seed=seed)


def certificate(jobs, n_sims=8):
    """Predicted (1,500 cells, two repeats of five folds) against realised SNR and cross-talk (20,000 other cells)."""
    table = pd.concat(Parallel(jobs)(delayed(one_certificate)(s) for s in range(n_sims)))
    table["snr ratio"] = table["snr"] / table["real_snr"]
    mean = table.groupby(["genes", "axis"], sort=False)[
        ["snr", "real_snr", "snr ratio", "crosstalk", "real_crosstalk"]
    ].mean()
    return mean.reset_index()


def one_gene(n, sd, snr, n_sims):
    """Certificates of one gene in a 2 x 2 table of n cells per group (or one n for each) with effect A only.

    ``sd`` is the standard deviation of each group, and ``snr`` the true SNR: mean square over the mean variance.
    """
    group = np.repeat(np.arange(4), n)
    a, b = group // 2, group % 2
    y, sd = frame(a, b), np.array(sd, dtype=float)
    mean = (2 * a - 1) * np.sqrt(snr / 2 * np.mean(sd**2))  # means of +-m have a mean square of 2 m^2
    out = []
    for seed in range(n_sims):
        X = (mean + sd[group] * np.random.default_rng(seed).normal(size=len(group)))[:, None]
        with quiet():
            out.append(certify_together({"": FLDA(shrinkage=0.1)}, X, y, random_state=seed).iloc[[0]])
    return pd.concat(out, ignore_index=True)


def paired_donors(n_donors, n_genes, n_sims):
    """Certificates of an absent effect B: every donor has 15 cells of both levels, and a slope of its own, sd 0.3.

    With several genes, the slopes lie along two random directions of the genes.
    """
    donors, b = np.repeat(np.arange(n_donors), 30), np.tile(np.repeat([0, 1], 15), n_donors)
    y, out = pd.DataFrame({"B": b.astype(str)}), []
    for seed in range(n_sims):
        rng = np.random.default_rng(seed)
        directions = rng.normal(size=(2, n_genes)) if n_genes > 1 else np.array([[1.0]])
        slopes = 0.3 * rng.normal(size=(n_donors, len(directions))) @ directions
        X = rng.normal(size=(len(b), n_genes)) + (2 * b[:, None] - 1) * slopes[donors]
        with quiet():
            out.append(certify_together({"": FLDA(shrinkage=0.3)}, X, y, donors, random_state=seed).iloc[[0]])
    return pd.concat(out, ignore_index=True)


def no_effect(n, n_genes, n_sims):
    """Certificates of pure noise: a 2 x 2 table of n cells per group, main effects only."""
    group = np.repeat(np.arange(4), n)
    y, out = frame(group // 2, group % 2), []
    for seed in range(n_sims):
        X = np.random.default_rng(seed).normal(size=(len(group), n_genes))
        with quiet():
            model = FLDA(shrinkage=0.3, interactions=None)
            out.append(certify_together({"": model}, X, y, random_state=seed).iloc[[0]])
    return pd.concat(out, ignore_index=True)


def many_genes(n, size, seed):
    """A certificate of 100 independent genes in a 2 x 2 table, and the mean true SNR of the fits that it consists of.

    20 genes carry A and 20 others B, with means of +-size and unit variance.
    """
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(4), n)
    y = frame(group // 2, group % 2)
    means = np.zeros((4, 100))
    means[:, :20] = size * (2 * (np.arange(4)[:, None] // 2) - 1) * rng.choice([-1, 1], 20)
    means[:, 20:40] = size * (2 * (np.arange(4)[:, None] % 2) - 1) * rng.choice([-1, 1], 20)
    X, model = means[group] + rng.normal(size=(len(group), 100)), FLDA(shrinkage=0.3, interactions=None)
    design, true = make_design(y, interactions=None), []
    with quiet():
        row = certify_together({"": model}, X, y, random_state=seed).iloc[0]
        for split in hold_out(design, None, seed, 5).splits[0]:
            u = split.fit(model, X, y).components_[0]
            true.append([(means @ u) @ design.scatter_weights(e) @ (means @ u) / (u @ u) for e in design.effects])
    snr, crosstalk = np.mean(true, axis=0)
    return {
        "cells per group": n, "scheme": row["scheme"], "snr": row["snr"], "true snr": snr,
        "snr / true": row["snr"] / snr, "crosstalk": row["crosstalk"], "true crosstalk": crosstalk,
        "se_snr": row["se_snr"],
    }  # fmt: skip


def certificates_of_many_genes(jobs, n_sims=40):
    """Certificates of 100 genes with few cells, beside the true SNR of the fits without the held-out cells."""
    settings = [(n, size) for n in (2, 3, 4, 6, 10) for size in (0.6, 1.5)]
    rows = Parallel(jobs)(delayed(many_genes)(n, size, seed) for n, size in settings for seed in range(n_sims))
    table = pd.DataFrame(rows).assign(effect=np.repeat([size for _, size in settings], n_sims))
    groups = table.groupby(["cells per group", "effect", "scheme"])
    return groups.mean().assign(**{"median of ratio": groups["snr / true"].median()}).reset_index()


def small_certificates(jobs, n_sims=500):
    """Certificates of few cells or donors: the mean of the estimates beside the true SNR."""
    equal, unequal = [1, 1, 1, 1], [3, 1, 1, 0.5]
    settings = [(f"one gene, {n} cells per group", one_gene, (n, equal, 8.0), 8.0) for n in (3, 4, 6, 10, 15, 25)]
    settings += [(f"one gene, {n} cells per group", one_gene, (n, equal, 50.0), 50.0) for n in (6, 15)]
    settings += [
        (f"one gene, {n} cells per group, sd 3/1/1/0.5", one_gene, (n, unequal, 8.0), 8.0)
        for n in (6, 15, [5, 10, 20, 40])
    ]
    for n_donors in (2, 3, 4, 6):
        settings.append((f"no effect, {n_donors} paired donors, one gene", paired_donors, (n_donors, 1), 0.0))
        settings.append((f"no effect, {n_donors} paired donors, 60 genes", paired_donors, (n_donors, 60), 0.0))
    settings += [(f"no effect, {n} cells per group, 100 genes", no_effect, (n, 100), 0.0) for n in (2, 3, 4, 6)]
    rows = []
    found = Parallel(jobs)(delayed(function)(*options, n_sims) for _, function, options, _ in settings)
    for (name, _, _, truth), table in zip(settings, found, strict=True):
        rows.append(
            {
                "data": name,
                "true snr": truth,
                "mean snr": table["snr"].mean(),
                "standard error": table["snr"].std() / np.sqrt(len(table)),
                "median snr": table["snr"].median(),
                "median se_snr": table["se_snr"].median(),
                "sd of snr": table["snr"].std(),
                "scheme": table["scheme"].iloc[0],
                "n_folds": table["n_folds"].iloc[0],
                "data sets": len(table),
            }
        )
    return pd.DataFrame(rows)


def correlated_genes(rng, size_of_b):
    """400 cells x 500 genes: 20 carry A, 100 without an effect are correlated with these, and 40 carry B."""
    a, b = cells(rng, 400)
    shared = rng.normal(size=(400, 20))
    eta = rng.normal(0.5, 1.0, size=500) + np.zeros((400, 1))
    eta[:, :20] += 0.6 * shared + 0.3 * rng.choice([-1, 1], 20) * (2 * a[:, None] - 1)
    eta[:, 20:120] += 0.6 * np.repeat(shared, 5, axis=1)
    eta[:, 120:160] += size_of_b * rng.choice([-1, 1], 40) * (2 * b[:, None] - 1)
    return np.log1p(rng.poisson(rng.gamma(3, np.exp(eta) / 3))), frame(a, b)


def one_gene_list(seed, n_resamples):
    X, y = correlated_genes(np.random.default_rng(seed), 0.3)
    genes = effect_tests(FLDA(shrinkage=0.5), X, y, effects=["A"], n_resamples=n_resamples).genes
    hit = genes["pval_adj"] <= 0.1
    return {
        "fdp": hit[20:].sum() / max(hit.sum(), 1),
        "power": hit[:20].mean(),
        "correlated null genes called": hit[20:120].mean(),
        "other null genes called": hit[120:].mean(),
        "any false gene at pval_max 0.05": float((genes["pval_max"] <= 0.05)[20:].any()),
        "genes called": hit.sum(),
    }


def genes(jobs, n_sims=200, n_resamples=99):
    """False discovery proportion at a reported rate of 0.1: 20 of 500 genes are true, 100 null genes resemble them."""
    table = pd.DataFrame(Parallel(jobs)(delayed(one_gene_list)(s, n_resamples) for s in range(n_sims)))
    return (
        pd.DataFrame({"mean": table.mean(), "standard error": table.std() / np.sqrt(len(table))})
        .rename_axis("")
        .reset_index()
    )


def one_stability(seed):
    X, y = correlated_genes(np.random.default_rng(seed), 0.0)
    model = SparseFLDA(n_genes=20, shrinkage=0.5)
    found = stability_selection(model, X, y, n_resamples=50, random_state=seed).genes
    found = found[found["effect"] == "A"].set_index("gene")["frequency"].reindex(range(500), fill_value=0.0)
    kinds = {"true (20)": found[:20], "null, correlated with true (100)": found[20:120], "null (380)": found[120:]}
    return [
        {"genes": kind, "mean frequency": f.mean(), ">= 0.6": np.sum(f >= 0.6), ">= 0.9": np.sum(f >= 0.9)}
        for kind, f in kinds.items()
    ]


def stability(jobs, n_sims=20):
    """Selection frequencies over 50 halves with 20 genes selected in each, and genes per data set above a threshold."""
    rows = Parallel(jobs)(delayed(one_stability)(s) for s in range(n_sims))
    return pd.DataFrame([r for row in rows for r in row]).groupby("genes", sort=False).mean().reset_index()


def variances(jobs, n_sims=40000):
    """Corrected mean squares without any effect, in groups of 10/300/60/40 cells with sd 3/1/1/0.5."""
    rng = np.random.default_rng(0)
    n, v = np.array([10, 300, 60, 40]), np.array([3.0, 1.0, 1.0, 0.5]) ** 2
    group = np.repeat(np.arange(4), n)
    design = make_design(frame(group // 2, group % 2))
    scores = np.sqrt(v)[group][:, None] * rng.normal(size=(410, n_sims))
    means = np.stack([scores[group == c].mean(axis=0) for c in range(4)])
    T, _ = mean_products(scores, design)
    pooled = np.sum(v * (n - 1)) / (n.sum() - 4)
    rows = []
    for effect in design.effects:
        Q = design.scatter_weights(effect)
        rows.append(
            {
                "effect": ":".join(effect),
                "uncorrected": np.einsum("ck,cd,dk->k", means, Q, means).mean(),
                "noise, by algebra": np.diag(Q) @ (v / n),
                "noise, pooled variance": np.diag(Q) @ (pooled / n),
                "corrected": np.einsum("cd,kcd->k", Q, T).mean(),
            }
        )
    return pd.DataFrame(rows)


def flips(jobs, n_resamples=1000):
    """P5: flips of all effects on 3,833 x 2,000 CSR, 2 x 4, against one fit with its tuning."""
    adata = t4t5_simulated(3833, 2000)
    y = adata.obs[["dendrite", "axon"]]
    start = time.perf_counter()
    effect_tests(FLDA(), adata.X, y, n_resamples=n_resamples)
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    FLDA(random_state=0).fit(adata.X, y)
    fit = time.perf_counter() - start
    return pd.DataFrame([{"effects": 3, "flips": n_resamples, "seconds": seconds, "one fit with tuning, s": fit}])


def real(jobs, n_resamples=999):
    """The whole of a fit, its certificate and its tests on real data; mice are the donors of mice_protein."""
    rows = []
    for name in ("mice_protein", "rnamix", "uch", "pbmc68k"):
        X, y, interactions, donors = PROBLEMS[name]()
        model, start = FLDA(interactions=interactions), time.perf_counter()
        certificate = certify(model, X, y, donors)
        middle = time.perf_counter()
        tests = effect_tests(model, X, y, donors, n_resamples=n_resamples)
        end = time.perf_counter()
        found = tests.genes[tests.genes["pval_adj"] <= 0.1].groupby("effect").size()
        for row in tests.table.itertuples():
            first = certificate[certificate["effect"] == row.effect].iloc[0]
            rows.append(
                {
                    "data": name, "effect": row.effect, "F": row.statistic, "pval": row.pval, "unit": row.unit,
                    "units": row.n_units, "genes at FDR .1": int(found.get(row.effect, 0)), "of": X.shape[1],
                    "SNR of first axis": first["snr"], "se": first["se_snr"], "crosstalk": first["crosstalk"],
                    "scheme": first["scheme"], "certify, s": middle - start, "tests, s": end - middle,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


STUDIES = {
    f.__name__: f
    for f in (
        real,
        certificate,
        small_certificates,
        certificates_of_many_genes,
        genes,
        stability,
        variances,
        flips,
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="*", choices=[*STUDIES, []], default=[])
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    for name in args.studies or STUDIES:
        start = time.perf_counter()
        table = STUDIES[name](args.jobs)
        table.to_csv(OUT / f"inference_{name}.csv", index=False, float_format="%.4g", lineterminator="\n")
        print(f"\n{name}: {STUDIES[name].__doc__.splitlines()[0]} ({time.perf_counter() - start:.0f} s)\n")
        print(table.to_string(index=False, float_format="%.3g"), flush=True)


if __name__ == "__main__":
    main()
