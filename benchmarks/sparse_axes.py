"""Sparse axes on held-out cells: SparseFLDA against other methods that select k genes.

    FLDA_DATA_DIR=... python benchmarks/sparse_axes.py [--splits 10] [--jobs 2] [--quick]

The first axis of every main effect, with 5, 10, 20 and 50 genes, is fitted on a training half of the cells and
evaluated on the other half (mixed: on new cells). S is the held-out variance of the effect of the axis over the
within-group variance, and T that of all other effects together. The figure of merit is log S / (1 + T), with S at least
0.01 and T at least 0. Values are means over splits, then over main effects. Differences to the default are taken split
by split, and their standard errors are over splits; splits share cells, so the errors say how much the choice of the
split matters, and are too small as errors for new data.

* flda (default): ``SparseFLDA()``. flda marker: ``mode="marker"``. flda difference: ``objective="difference"``.
* converged flow: ``selector="flow"``, the truncated Rayleigh flow until its objective no longer changes, then a refit.
* no penalty: ``penalty=0``, which is sparse LDA of one effect.
* F ranking + refit: the k genes with the largest F of the effect, then the best axis on them.
* L1 logistic: multinomial regression, one per factor, on standardised genes (on rnamix and t4t5, on the 1,000 genes
  with the largest F in training). Of a fine path of C, the value is used whose number of genes is nearest to k;
  ``genes`` has that number. The axis is the leading right-singular vector of the class-centred coefficients.
* reference scheme: the dense axis of the difference with a ridge of 0.01 towards the identity, then two steps of the
  truncated Rayleigh flow (eta 0.01, or less where that would diverge) on unscaled genes, without a refit.

All but the reference scheme and the logistic regression use the same shrinkage in a split, the choice of
``FLDA()`` in training, so they differ in selection only. ``seconds`` is the time of one fit of all axes, dense solve
included (F ranking: one fit per effect; logistic: the path for all k). Prints Markdown and writes a CSV and a figure.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from joblib import Parallel, delayed, parallel_config
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from flda import FLDA, SparseFLDA
from flda._data.summary import summarise
from flda._design.design import Design
from flda._design.effects import Effect
from flda._design.make import make_design
from flda._error.gene_f import gene_f
from flda._logging import quiet
from flda.metrics import effect_snr

from problems import PROBLEMS

SIZES = (5, 10, 20, 50)
DATA = ("mixed", "t4t5", "rnamix", "pbmc68k")
REAL = ("rnamix", "pbmc68k")
FLOOR = 1e-3  # lower values of purity are drawn here
DEFAULT, FLOW = "flda (default)", "converged flow"
OURS = {
    DEFAULT: {},
    "flda marker": {"mode": "marker"},
    "flda difference": {"objective": "difference"},
    FLOW: {"selector": "flow"},
    "no penalty": {"penalty": 0},
}
METHODS = [*OURS, "F ranking + refit", "L1 logistic", "reference scheme"]
KEY = ["data", "method", "k", "effect", "split"]
VALUES = ["snr", "crosstalk", "merit", "genes", "seconds"]


def mixed(seed: int):
    """2 x 2, 500 genes: 30 carry both A and B with independent signs, 8 weak ones A only and 8 B only.

    Effects of +-0.35 to 0.65 (pure genes 0.3) noise sd; each gene shares one of five factors, correlation 0.3.
    200 cells per group for training, then 2,000 per group for testing.
    """
    rng = np.random.default_rng(seed)
    groups = np.concatenate([np.repeat(np.arange(4), 200), np.repeat(np.arange(4), 2000)])
    a, b = 2 * (groups // 2)[:, None] - 1, 2 * (groups % 2)[:, None] - 1
    factor = rng.integers(5, size=500)
    X = np.sqrt(0.7) * rng.normal(size=(len(groups), 500)) + np.sqrt(0.3) * rng.normal(size=(len(groups), 5))[:, factor]
    sizes = rng.uniform(0.35, 0.65, size=(2, 30)) * rng.choice([-1, 1], size=(2, 30))
    X[:, :30] += a * sizes[0] + b * sizes[1]
    X[:, 30:38] += 0.3 * a * rng.choice([-1, 1], size=8)
    X[:, 38:46] += 0.3 * b * rng.choice([-1, 1], size=8)
    y = pd.DataFrame({"A": a[:, 0].astype(str), "B": b[:, 0].astype(str)})
    return X, y, "all", np.arange(800), np.arange(800, len(groups))


def halved(name: str, seed: int):
    """A problem, and a random half of the cells of every group for training; the odd cell of a group is one of them."""
    X, y, interactions, _ = PROBLEMS[name]()
    order = np.random.default_rng(seed).permutation(len(y))
    codes = pd.Series(make_design(y, interactions=interactions).codes[order])
    rank, size = codes.groupby(codes).cumcount(), codes.map(codes.value_counts())
    train = (rank < (size + 1) // 2).to_numpy()
    return X, y, interactions, np.sort(order[train]), np.sort(order[~train])


class Training:
    """Group means, residuals and scatter of the training cells, computed directly, independently of the package."""

    def __init__(self, X, design: Design):
        X = (X.toarray() if hasattr(X, "toarray") else np.asarray(X)).astype(float)
        self.design = design
        self.means = np.stack([X[design.codes == c].mean(axis=0) for c in range(design.n_groups)])
        self.residuals = X - self.means[design.codes]
        self.means -= self.means.mean(axis=0)
        self.freedom = len(X) - design.n_groups
        self.variances = np.sum(self.residuals**2, axis=0) / self.freedom

    def signal(self, effect: Effect, x: np.ndarray) -> np.ndarray:
        """(M_S - the sum of M_T over the other effects) x."""
        Q = sum((1 if e == effect else -1) * self.design.scatter_weights(e) for e in self.design.contrasts)
        return self.means.T @ (Q @ (self.means @ x))

    def noise(self, g: float, target: float | np.ndarray, x: np.ndarray) -> np.ndarray:
        """M_e(g) x."""
        return (1 - g) / self.freedom * (self.residuals.T @ (self.residuals @ x)) + g * target * x


def reference_scheme(training: Training, effect: Effect, dense: np.ndarray, k: int, g: float = 0.01) -> np.ndarray:
    target = training.variances.mean()
    largest = (1 - g) / training.freedom * np.linalg.norm(training.residuals, ord=2) ** 2 + g * target
    eta = min(0.01, 0.9 / largest)
    x = dense / np.linalg.norm(dense)
    for _ in range(2):
        signal, noise = training.signal(effect, x), training.noise(g, target, x)
        rho = (x @ signal) / (x @ noise)
        y = x + eta / rho * (signal - rho * noise)
        y[np.argsort(-np.abs(y), kind="stable")[k:]] = 0
        x = y / np.linalg.norm(y)
    return x


def logistic_axes(X, labels: pd.Series, f: np.ndarray) -> dict[int, np.ndarray]:
    """Axis for every k from one path of C, where each fit starts from the previous one."""
    kept = np.sort(np.argsort(-f, kind="stable")[:1000])
    X = X[:, kept].toarray() if hasattr(X, "toarray") else X[:, kept]
    scaler = StandardScaler().fit(X)
    Z = scaler.transform(X)
    levels = pd.get_dummies(labels).to_numpy(float)
    C = 1.05 / np.abs(Z.T @ (levels - levels.mean(axis=0))).max()  # just above the largest C that selects no gene
    model = LogisticRegression(l1_ratio=1, solver="saga", tol=1e-3, max_iter=1000, warm_start=True, random_state=0)
    best: dict[int, np.ndarray] = {}
    for _ in range(200):
        coefficients = model.set_params(C=C).fit(Z, labels).coef_
        if len(coefficients) > 1:
            coefficients = coefficients - coefficients.mean(axis=0)
        used, axis = np.any(coefficients != 0, axis=0), np.zeros(len(f))
        axis[kept] = np.linalg.svd(coefficients, full_matrices=False)[2][0] * used / scaler.scale_
        n = np.count_nonzero(used)
        for k in SIZES:
            if n and (k not in best or abs(n - k) < abs(np.count_nonzero(best[k]) - k)):
                best[k] = axis
        if n >= max(SIZES):
            break
        C *= 1.04
    return best


def compare(X, y, interactions, train, test, name: str, split: int) -> list[dict]:
    """All methods on one split: one row per method, k and main effect."""
    design, held_out = (make_design(y, interactions=interactions).subset(part) for part in (train, test))
    if design is None or held_out is None:
        return []
    X_train, y_train = X[train], y.iloc[train].reset_index(drop=True)
    mains = [e for e in design.effects if len(e) == 1]
    training = Training(X_train, design)
    g = FLDA(interactions=interactions).fit(X_train, y_train).shrinkage_
    found = summarise(X_train, design.codes, design.n_groups)
    ratios = gene_f(design, None, found.sums, found.squares).fillna(-np.inf)
    rows: list[dict] = []

    def record(method: str, k: int, axes: dict[Effect, np.ndarray], seconds: float) -> None:
        snr = effect_snr(X[test] @ np.column_stack([axes[e] for e in mains]), held_out)
        for j, e in enumerate(mains):
            S = snr[e.name][j]
            T = sum(v[j] for v in snr.values()) - S
            merit = np.log(max(S, 0.01) / (1 + max(T, 0)))
            line = [S, T, merit, np.count_nonzero(axes[e]), seconds]
            rows.append(dict(zip(KEY + VALUES, [name, method, k, e.name, split, *line], strict=True)))

    def sparse(k: int, **parameters) -> dict[Effect, np.ndarray]:
        model = SparseFLDA(n_genes=k, interactions=interactions, n_components=1, shrinkage=g, **parameters)
        model.fit(X_train, y_train)
        return dict(zip(model.effects_, model.components_, strict=True))

    start = time.perf_counter()
    fixed = FLDA(
        interactions=interactions, n_components=1, objective="difference", shrinkage=0.01, shrinkage_target="identity"
    )
    starts = dict(zip(design.effects, fixed.fit(X_train, y_train).components_, strict=True))
    solved = time.perf_counter() - start
    for k in SIZES:
        start = time.perf_counter()
        axes = {e: reference_scheme(training, e, starts[e], k) for e in mains}
        record("reference scheme", k, axes, solved + time.perf_counter() - start)
        for method, parameters in OURS.items():
            start = time.perf_counter()
            axes = sparse(k, **parameters)
            record(method, k, axes, time.perf_counter() - start)
        start, axes = time.perf_counter(), {}
        for e in mains:
            candidates = np.zeros(X.shape[1], dtype=bool)
            candidates[np.argsort(-ratios[e.name].to_numpy(), kind="stable")[:k]] = True
            axes[e] = sparse(k, candidates=candidates, mode="marker")[e]  # k of k genes: only the weights are optimised
        record("F ranking + refit", k, axes, time.perf_counter() - start)
    start = time.perf_counter()
    logistic = {e: logistic_axes(X_train, y_train[e[0]], ratios[e[0]].to_numpy()) for e in mains}
    seconds = time.perf_counter() - start
    for k in SIZES:
        record("L1 logistic", k, {e: logistic[e][k] for e in mains}, seconds)
    return rows


def draw(table: pd.DataFrame, path: Path) -> None:
    names, palette = list(dict.fromkeys(table["data"])), sns.color_palette("colorblind")
    figure, axes = plt.subplots(2, len(names), figsize=(3 * len(names), 5.8), sharex=True, squeeze=False)
    for (top, bottom), name in zip(axes.T, names, strict=True):
        for method, colour, marker in zip(METHODS, (0, 1, 8, 2, 3, 4, 9, 7), "oD*s^vPX", strict=True):
            line = table[(table["data"] == name) & (table["method"] == method)]
            style = {
                "color": palette[colour],
                "marker": marker,
                "ms": 4.5,
                "lw": 1 + (method == DEFAULT),
                "label": method,
            }
            top.plot(line["genes"], line["snr"], **style)
            bottom.plot(line["genes"], line["purity"].clip(lower=FLOOR), **style)
        top.set(title=f"{name} ({'real' if name in REAL else 'simulated'})")
        bottom.set(xscale="log", yscale="log", ylim=(FLOOR * 0.8, 1.2), xlabel="genes per axis")
        bottom.set_xticks(SIZES, labels=map(str, SIZES))
        bottom.minorticks_off()
        top.set_ylim(bottom=0)
    axes[0, 0].set_ylabel("held-out SNR")
    axes[1, 0].set_ylabel(f"held-out cross-talk / SNR\n(drawn at {FLOOR} when lower)")
    sns.despine(figure)
    figure.tight_layout(rect=(0, 0.1, 1, 1))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=120)


def report(rows: pd.DataFrame) -> pd.DataFrame:
    """Print tables with one row per data set and method, and return one row per data set, method and k."""
    by_split = rows.groupby(["data", "method", "k", "split"], sort=False)[VALUES].mean().reset_index()
    default = by_split[by_split["method"] == DEFAULT].set_index(["data", "k", "split"])["merit"]
    by_split["difference"] = by_split["merit"] - default.loc[
        pd.MultiIndex.from_frame(by_split[["data", "k", "split"]])
    ].to_numpy()  # fmt: skip
    groups = by_split.groupby(["data", "method", "k"], sort=False)
    table = groups[[*VALUES, "difference"]].mean()
    table["difference_se"], table["splits"] = groups["difference"].sem(), groups.size()
    table["purity"] = table["crosstalk"] / table["snr"].where(table["snr"] > 0)
    order = {name: i for i, name in enumerate([*DATA, *METHODS])}
    table = table.reset_index().sort_values(["data", "method", "k"], key=lambda c: c.map(order) if c.name != "k" else c)
    ks = " | ".join(map(str, SIZES))
    print(f"| data | method | log S / (1 + T), k = {ks} | S, k = {ks} | T / S, k = {ks} | seconds, k = 50 |")
    print("|---" * (3 + 3 * len(SIZES)) + "|")
    for (data, method), part in table.groupby(["data", "method"], sort=False):
        merit = [
            f"{row.merit:.2f}" if method == DEFAULT else f"{row.difference:+.2f} +- {row.difference_se:.2f}"
            for row in part.itertuples()
        ]
        cells = [*merit, *map("{:.3g}".format, part["snr"]), *map("{:.3f}".format, part["purity"])]
        print(f"| {data} | {method} | {' | '.join(cells)} | {part['seconds'].iloc[-1]:.2g} |")
    return table


def one(name: str, split: int) -> list[dict]:
    """All methods on one split of one data set."""
    with quiet():
        return compare(*(mixed(split) if name == "mixed" else halved(name, split)), name, split)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=2, help="worker processes, with one BLAS thread each")
    parser.add_argument("--only", nargs="+", default=list(DATA), choices=DATA, help="data sets")
    parser.add_argument("--quick", action="store_true", help="two splits of mixed and pbmc68k")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    args = parser.parse_args()
    if args.quick:
        args.splits, args.only = 2, ["mixed", "pbmc68k"]
    jobs = [(name, split) for name in args.only for split in range(args.splits)]
    with parallel_config("loky", n_jobs=args.jobs, inner_max_num_threads=1):
        found = Parallel()(delayed(one)(*job) for job in jobs)
    for job, rows in zip(jobs, found, strict=True):
        if not rows:
            print(f"{job[0]}, split {job[1]} left out: an effect cannot be estimated in one half")
    table = report(pd.DataFrame([row for rows in found for row in rows]))
    table.to_csv(args.out, index=False, float_format="%.4g")
    draw(table, args.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
