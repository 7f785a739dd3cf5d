"""Which genes differ: rankings by score, pattern and F, against rankings of other methods.

    FLDA_DATA_DIR=... python benchmarks/genes.py [--seeds 10] [--only NAME ...]

Every ranking orders all genes for one effect. FLDA runs at its defaults, without interactions where none is planted
(t4t5 and mice_protein have all), as the baselines do. ``score`` and ``pattern`` are summed over the
axes of the effect, each axis with its share of the eigenvalues of the effect as weight, and ``F`` is one number per
effect. Baselines, each on the same cells:

* anova: F of the factor in a linear model of main effects with one variance (interactions: F of the interaction in the
  model with all effects).
* wilcoxon: each level against all others, the largest absolute z over levels (scanpy's rank_genes_groups does the
  same, level by level). Interactions have none.
* lda: one LDA per factor with the covariance within levels pooled, and shrunken by Ledoit and Wolf in standardised
  genes; standardised loadings, the largest over axes. Interactions have none.

Simulated problems have planted genes, several seeds each: ``precision`` is the share of planted genes among the first
20 (or among as many as are planted, if fewer), ``average_precision`` that of the whole ranking, both averaged over
effects. Differences to the best baseline are paired over seeds. Real problems have a few known genes: the number of
them among the first ones, and the average precision.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.metrics import average_precision_score

from flda import FLDA, datasets
from flda._data.summary import summarise
from flda._design.make import make_design
from flda._design.samples import sample_units
from flda._error.gene_f import gene_f
from flda._logging import quiet

OUT = Path(__file__).parent / "results"
METHODS = ("score", "pattern", "F", "anova", "wilcoxon", "lda")
BASELINES = METHODS[3:]
ADDITIVE = {"interactions": None}

# X, labels, planted genes by effect, donors, options of FLDA
Problem = tuple[np.ndarray, pd.DataFrame, dict[str, np.ndarray], np.ndarray | None, dict]


def t4t5(seed: int) -> Problem:
    """Simulated T4/T5: 600 x 500, 2 x 4, effects of .35 in natural logarithms (a third of the default)."""
    adata = datasets.t4t5_simulated(600, 500, effect_size=0.35, random_state=seed)
    truth = {e: adata.var[f"truth_{e}"].to_numpy() for e in ("dendrite", "axon", "dendrite:axon")}
    return adata.X.toarray(), adata.obs[["dendrite", "axon"]], truth, None, {}


def mixed(seed: int) -> Problem:
    """Mixed selectivity: 240 x 300, 2 x 3; 30 genes carry A, 30 carry B, 30 carry both, at sizes of their own."""
    rng = np.random.default_rng(seed)
    y = _labels(rng, 240, A="pq", B="rst")
    X = rng.normal(size=(240, 300)) * rng.lognormal(0, 0.7, 300)
    sd = X.std(axis=0)
    for name, genes in (("A", np.r_[0:30, 60:90]), ("B", np.r_[30:60, 60:90])):
        X[:, genes] += _effects(rng, y[name], len(genes)) * sd[genes] * rng.uniform(0.15, 0.5, len(genes))
    own = np.arange(300)
    return X, y, {"A": (own < 30) | ((own >= 60) & (own < 90)), "B": (own >= 30) & (own < 90)}, None, ADDITIVE


def blocks(seed: int) -> Problem:
    """Correlated blocks: 240 x 300, 2 x 3, 15 blocks of 20 genes correlated .6; half of one block each carries A, B."""
    rng = np.random.default_rng(seed)
    y = _labels(rng, 240, A="pq", B="rst")
    shared = np.repeat(rng.normal(size=(240, 15)), 20, axis=1)
    X = np.sqrt(0.4) * rng.normal(size=(240, 300)) + np.sqrt(0.6) * shared
    truth = {}
    for name, start in (("A", 0), ("B", 20)):
        genes = np.r_[start : start + 10, start + 100 : start + 105]
        X[:, genes] += _effects(rng, y[name], len(genes)) * 0.25
        truth[name] = np.isin(np.arange(300), genes)
    return X, y, truth, None, ADDITIVE


def binarised(seed: int) -> Problem:
    """Detected or not: 240 x 300, 2 x 3; detection shifts by .2 to .5 with A or B; five genes are perfect markers."""
    rng = np.random.default_rng(seed)
    y = _labels(rng, 240, A="pq", B="rst")
    chance = np.broadcast_to(rng.uniform(0.1, 0.9, 300), (240, 300)).copy()
    truth = {}
    for name, start in (("A", 0), ("B", 30)):
        genes = np.arange(start, start + 30)
        chance[:, genes] += _effects(rng, y[name], 30) * rng.uniform(0.1, 0.25, 30)
        truth[name] = np.isin(np.arange(300), genes)
    X = (rng.random((240, 300)) < np.clip(chance, 0.02, 0.98)).astype(float)
    X[:, :5] = (y["A"] == "p").to_numpy()[:, None]
    return X, y, truth, None, ADDITIVE


def unequal(seed: int) -> Problem:
    """Unequal variances: 20 cells of sd 3 against 180 of sd 1, crossed with a balanced factor; 200 genes, 20 and 20."""
    rng = np.random.default_rng(seed)
    y = pd.DataFrame({"A": np.repeat(["p", "q"], [20, 180]), "B": np.tile(["r", "s"], 100)})
    rare = (y["A"] == "p").to_numpy()
    wide = rng.random(200) < 0.5  # half of the genes
    X = rng.normal(size=(200, 200)) * np.where(rare[:, None] & wide, 3.0, 1.0)
    X[:, :20] += 1.0 * rare[:, None]
    X[:, 20:40] += 0.5 * (y["B"] == "s").to_numpy()[:, None]
    own = np.arange(200)
    return X, y, {"A": own < 20, "B": (own >= 20) & (own < 40)}, None, ADDITIVE


def _labels(rng: np.random.Generator, n: int, **levels: str) -> pd.DataFrame:
    return pd.DataFrame({f: rng.choice(list(names), n, p=rng.dirichlet(np.full(len(names), 20.0)))
                         for f, names in levels.items()})  # fmt: skip


def _effects(rng: np.random.Generator, labels: pd.Series, n: int) -> np.ndarray:
    """Random effects of the levels, N x n, with a mean square of one over the levels."""
    codes, levels = pd.factorize(labels)
    values = rng.normal(size=(len(levels), n))
    values -= values.mean(axis=0)
    return (values / np.sqrt(np.mean(values**2, axis=0)))[codes]


def uch() -> Problem:
    """NMR spectra: bins of hippurate and citrate; ``X`` is an intensity."""
    adata = datasets.uch()
    truth = {s: adata.var[s].to_numpy() for s in ("hippurate", "citrate")}
    return np.asarray(adata.X), adata.obs[["hippurate", "citrate", "time"]], truth, None, ADDITIVE


def mice_protein() -> Problem:
    """Proteins of mice: those of which Ts65Dn mice have three copies of the gene; the mouse is the donor."""
    adata = datasets.mice_protein()
    labels = adata.obs[["genotype", "treatment", "behaviour"]]
    truth = {"genotype": adata.var["triplicated"].to_numpy()}
    return np.asarray(adata.X), labels, truth, adata.obs["mouse"].to_numpy(), {}


def rnamix() -> Problem:
    """RNA mixtures: spike-ins for the amount; the 2,000 genes with the largest variance and all spike-ins."""
    adata = datasets.rnamix()
    X = adata.X.toarray()
    spike = adata.var["spike_in"].to_numpy()
    kept = np.union1d(np.argsort(-X.var(axis=0))[:2000], np.flatnonzero(spike & (X.var(axis=0) > 0)))
    labels = adata.obs[["mixture", "amount", "protocol"]]
    return X[:, kept], labels, {"amount": spike[kept]}, None, ADDITIVE


SIMULATED: dict[str, Callable[[int], Problem]] = {
    f.__name__: f for f in (t4t5, mixed, blocks, binarised, unequal)
}  # fmt: skip
REAL: dict[str, Callable[[], Problem]] = {f.__name__: f for f in (uch, mice_protein, rnamix)}


def rankings(problem: Problem) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield effect, method and the number by which the method orders the genes."""
    X, labels, truth, donors, options = problem
    y = labels.astype(str).reset_index(drop=True)
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = FLDA(**options).fit(X, y, donors)
    design = model.design_
    codes = None if donors is None else pd.factorize(donors)[0]
    units = sample_units(design, codes)
    found = summarise(X, units.codes, len(units.counts))
    with quiet():
        F = gene_f(design, codes, found.sums, found.squares)
    # with donors all baselines see one mean per donor and group, as a careful user would do by hand
    means = found.sums / units.counts[:, None]
    groups = design.group_levels().astype(str)
    if donors is not None:
        X, y = means, groups.iloc[units.groups].reset_index(drop=True)
    for effect in truth:
        axes = np.flatnonzero(model.axes_["effect"] == effect)
        share = model.eigenvalues_[axes] / model.eigenvalues_[axes].sum()
        yield effect, "score", np.sqrt(share @ (model.components_[axes] * model.within_sd_) ** 2)
        yield effect, "pattern", np.sqrt(share @ model.patterns_[axes] ** 2)
        yield effect, "F", F[effect].to_numpy()
        yield effect, "anova", anova(X, y, effect)
        if ":" not in effect:
            yield effect, "wilcoxon", wilcoxon(X, y[effect])
            yield effect, "lda", lda(X, y[effect])


def anova(X: np.ndarray, y: pd.DataFrame, effect: str) -> np.ndarray:
    """F of an effect: the sum of squares that it adds to the other effects, over the residual variance."""
    design = make_design(y, interactions="all" if ":" in effect else None)
    full = np.hstack([np.ones((len(y), 1)), *(design.table.coding(e)[design.codes] for e in design.contrasts)])
    rest = [design.table.coding(e)[design.codes] for e in design.contrasts if e.name != effect]
    reduced = np.hstack([np.ones((len(y), 1)), *rest])
    left = [_residual_squares(X, D) for D in (full, reduced)]
    df = np.linalg.matrix_rank(full) - np.linalg.matrix_rank(reduced)
    spread = left[0] / (len(y) - np.linalg.matrix_rank(full))
    varies = left[1] > 1e-12 * np.sum(X**2, axis=0)
    return np.where(varies, (left[1] - left[0]) / df / np.maximum(spread, 1e-12 * left[1].max()), np.nan)


def _residual_squares(X: np.ndarray, D: np.ndarray) -> np.ndarray:
    return np.sum((X - D @ np.linalg.lstsq(D, X, rcond=None)[0]) ** 2, axis=0)


def wilcoxon(X: np.ndarray, labels: pd.Series) -> np.ndarray:
    """The largest absolute z of the rank sum over levels, with the correction for ties."""
    ranks, n = rankdata(X, axis=0), len(X)
    spread = ranks.var(axis=0, ddof=1)
    best = np.zeros(X.shape[1])
    for level in labels.unique():
        own = (labels == level).to_numpy()
        m = own.sum()
        variance = m * (n - m) / n * spread
        z = np.divide(np.abs(ranks[own].sum(axis=0) - m * (n + 1) / 2), np.sqrt(variance),
                      out=np.zeros(X.shape[1]), where=variance > 0)  # fmt: skip
        best = np.maximum(best, z)
    return best


def lda(X: np.ndarray, labels: pd.Series) -> np.ndarray:
    """Largest standardised loading over the axes of one LDA per factor, its covariance shrunken by Ledoit and Wolf."""
    codes, levels = pd.factorize(labels)
    means = np.stack([X[codes == c].mean(axis=0) for c in range(len(levels))])
    R = X - means[codes]
    sd = R.std(axis=0)
    sd = np.where(sd > 1e-9 * np.abs(X).max(axis=0), sd, np.sqrt(np.mean(sd**2)))
    R, G = R / sd, (means - means.mean(axis=0)) / sd
    g = ledoit_wolf_shrinkage(R, assume_centered=True)
    mean = np.mean(R**2)
    # (a R'R / n + b I)^-1 G' by the identity of Woodbury, as there may be more genes than cells
    a, b = (1 - g) / len(R), g * mean
    inner = np.linalg.solve(b * np.eye(len(R)) + a * R @ R.T, a * R @ G.T)
    Z = (G.T - R.T @ inner) / b
    values, vectors = np.linalg.eigh(G @ Z)
    kept = values > 1e-9 * values[-1]
    return np.abs(Z @ (vectors[:, kept] / np.sqrt(values[kept]))).max(axis=1)


def quality(values: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Precision of the first 20 and average precision; NaN ranks last."""
    values = np.where(np.isnan(values), -1.0, values)
    order, k = np.argsort(-values, kind="stable"), min(20, int(truth.sum()))
    return {
        "precision": float(truth[order[:k]].mean()),
        "first": int(truth[order[:k]].sum()),
        "of": k,
        "average_precision": float(average_precision_score(truth, values)),
    }


def run(seeds: int, only: list[str] | None = None) -> pd.DataFrame:
    """Return a row per data set, seed, effect and method."""
    rows = []
    for name, make in [*SIMULATED.items(), *REAL.items()]:
        if only and name not in only:
            continue
        problems = [(0, make())] if name in REAL else ((s, make(s)) for s in range(seeds))
        for seed, problem in problems:
            for effect, method, values in rankings(problem):
                found = quality(values, problem[2][effect])
                rows.append({"data": name, "seed": seed, "effect": effect, "method": method, **found})
        print(f"{name} done", flush=True)
    return pd.DataFrame(rows)


def simulated_table(results: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Mean over effects and seeds +- standard error over seeds; effects without a baseline are left out of its mean."""
    part = results[results["data"].isin(SIMULATED) & ~results["effect"].str.contains(":")]
    per_seed = part.groupby(["data", "method", "seed"], sort=False)[measure].mean()
    table = per_seed.groupby(["data", "method"], sort=False).agg(["mean", "sem"])
    wide = table.apply(lambda r: f"{r['mean']:.3f} ± {r['sem']:.3f}", axis=1).unstack("method")[list(METHODS)]
    best, plain = [], per_seed.unstack("method")
    for name in wide.index:
        of = plain.loc[name]
        base = of[list(BASELINES)].mean().idxmax()
        for method in ("pattern", "F"):
            gap = of[method] - of[base]
            best.append((name, f"{method} less best", f"{gap.mean():+.3f} ± {gap.sem():.3f} ({base})"))
    gaps = pd.DataFrame(best, columns=["data", "what", "value"]).pivot(index="data", columns="what", values="value")
    return wide.join(gaps).reset_index()


def other_table(results: pd.DataFrame) -> pd.DataFrame:
    """Known genes among the first k and average precision, of real data and of simulated interactions."""
    part = results[results["data"].isin(REAL) | results["effect"].str.contains(":")]
    found = part.groupby(["data", "effect", "method"], sort=False)[["first", "of", "average_precision"]].mean()
    text = found.apply(lambda r: f"{r['first']:.3g} of {r['of']:.3g}, {r['average_precision']:.3f}", axis=1)
    wide = text.unstack("method")
    return wide[[m for m in METHODS if m in wide]].fillna("").reset_index()


def _markdown(table: pd.DataFrame) -> str:
    lines = [table.columns, ["---"] * table.shape[1], *table.to_numpy()]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--only", nargs="+", choices=[*SIMULATED, *REAL])
    args = parser.parse_args()
    results = run(args.seeds, args.only)
    OUT.mkdir(exist_ok=True)
    results.to_csv(OUT / "genes.csv", index=False, float_format="%.4g")
    if results["data"].isin(SIMULATED).any():
        for measure in ("precision", "average_precision"):
            print(f"\n**{measure.replace('_', ' ')}**\n\n" + _markdown(simulated_table(results, measure)))
    others = other_table(results)
    if len(others):
        print("\n**known genes among the first, average precision**\n\n" + _markdown(others))


if __name__ == "__main__":
    main()
