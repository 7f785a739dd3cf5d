"""The arena in which FLDA meets its peers: what their axes carry, and which levels they predict, on held-out cells.

    FLDA_DATA_DIR=... python benchmarks/compare.py [--seeds 3] [--folds 5] [--only DATA ...] [--quick]

All methods (benchmarks/peers.py) are fitted to the training cells of the same folds, on the 1,000 genes that vary most
in them, and measured on the held-out cells. The cells are assigned to folds once per seed. A cell that is alone in its
group is never held out, and a fold whose training cells cannot estimate an effect is left out. Where cells have donors,
whole donors are held out, and there are as few folds as give every fold two donors of every group.

**Axes.** The axes of an effect, as many as it has degrees of freedom, are made uncorrelated within the groups of the
training cells, in their order, and scaled to a standard deviation of one there. Two copies of an axis thus count once.
Axes that belong to no effect are assigned to effects by their SNR in training: the first axis of every effect and then
its others, each time by the Hungarian algorithm. S is the SNR of the axis for its own effect and T, the cross-talk, the
sum of its SNR for all others. Both come from the unbiased numerators and the within-group variance of
flda.metrics.mean_products, summed over the folds of a seed before they are divided, because a variance in the
denominator with few degrees of freedom inflates a mean of ratios. A fold in which an axis is noisy therefore counts
more. ``first`` is the first axis of an effect, ``all`` the sum over its axes. Where two axes of an effect have nearly
the same eigenvalue (mixture of rnamix), either may come first in a fold, and only ``all`` compares methods.

A fold whose held-out cells cannot estimate an effect or the variance within groups is left out. Where that is more than
half of the folds (uch, whose folds hold out no group with two cells), none is, and the held-out scores of all
folds of a seed are pooled as if they were of one set of axes. For that, the axes that a fold has for an effect are
rotated together (a single axis: given the sign) and multiplied by one number, such that the scores of the cells that
were trained on in both folds agree best with those of the first fold. ``first`` is then what corresponds to the first
axis of the first fold. Scores from different folds are not quite independent, which adds about one over the group size
to S and T; it does so for every method.

**The headline** is the mean over effects of log S / (n + T), with n = 1 for the first axis and the number of axes for
``all``, S at least 0.01 and T at least 0. It leaves out effects of which no method has a signal of 0.1, since the log
of nothing is noise. Axes that a method does not have are left out too, and its difference to FLDA is over the effects
that it has. A method that cannot be fitted (scikit-learn's LDA to groups of one and two) is left out of the data set.

**Levels.** Balanced accuracy, plain accuracy, log-loss with every level weighed alike, and the expected calibration
error over ten equal bins of the confidence, from the held-out probabilities of all folds of a seed together.

**Standard errors.** With v the value of all K folds of a seed and v_k that without fold k, the pseudo-value of fold k
is K v - (K - 1) v_k (the jackknife; for a mean over folds it is the value of the fold). The difference between a method
and FLDA is taken fold by fold, and its standard error is the standard deviation of these differences over all folds and
seeds, divided by the root of their number. Folds of a seed share training cells, and seeds share all cells. The errors
therefore say how much the choice of folds matters, and are too small as errors for new data.

**Frontier.** A method beats FLDA on an effect if its S is larger and its T smaller, each by two paired standard errors.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed, parallel_config
from scipy.linalg import solve_triangular
from scipy.optimize import linear_sum_assignment
from sklearn.exceptions import ConvergenceWarning

from flda._design.design import Design
from flda._design.make import make_design
from flda._design.splits import Split, folds
from flda._logging import quiet
from flda.metrics import effect_snr, mean_products

from compare_output import draw, show
from peers import Cells, Methods, methods, timed
from problems import PROBLEMS

OUT = Path(__file__).parent / "results"
N_GENES = 1000
N_BINS = 10  # of the confidence
SHOWN = 0.1  # smallest signal of an effect that counts in the headline
AXES = ["signal", "crosstalk", "log_ratio"]
LEVELS = ["balanced_accuracy", "accuracy", "log_loss", "calibration_error"]


@dataclass(frozen=True)
class Problem:
    """A data set: dense expression, labels as text, donors as integers or None, and its design."""

    name: str
    X: np.ndarray
    y: pd.DataFrame
    interactions: str | None
    donors: np.ndarray | None
    design: Design

    @classmethod
    def load(cls, name: str) -> Problem:
        X, y, interactions, donors = PROBLEMS[name]()
        dense = (X.toarray() if hasattr(X, "toarray") else np.asarray(X)).astype(np.float64)
        codes = None if donors is None else pd.factorize(np.asarray(donors), sort=True)[0]
        y = y.astype(str).reset_index(drop=True)
        return cls(name, dense, y, interactions, codes, make_design(y, interactions=interactions))

    def splits(self, seed: int, n_folds: int) -> list[Split]:
        """The folds of a seed in which all effects can be estimated in training."""
        if self.donors is not None:
            fewest = pd.Series(self.donors).groupby(self.design.codes).nunique().min()
            n_folds = max(2, min(n_folds, fewest // 2))
        return [s for s in folds(self.design, self.donors, seed, n_folds) if s.training is not None]

    def training(self, split: Split, genes: np.ndarray) -> Cells:
        X, y, donors = split.training_data(self.X, self.y)
        return Cells(X[:, genes], y.reset_index(drop=True), split.training, self.interactions, donors)


@dataclass(frozen=True)
class Fold:
    """What the methods gave in one fold.

    Attributes
    ----------
    scores
        Method -> effect -> scores of all cells, training cells included, (N, df).
    levels
        Method -> factor -> probabilities of the levels of the held-out cells, (n, L).
    seconds
        Method -> seconds of its fit.
    """

    split: Split
    scores: dict[str, dict[str, np.ndarray]]
    levels: dict[str, dict[str, np.ndarray]]
    seconds: dict[str, float]


# ---------------------------------------------------------------------------------------------------------- one fold


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Silence what hundreds of fits would repeat, and only within this context: tests call these functions too."""
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "Only one sample available")  # groups of one cell in LDA
        warnings.filterwarnings("ignore", "The least populated class")
        yield


@without_warnings()
def run_fold(problem: Problem, split: Split, methods: Methods) -> Fold:
    """Fit all methods to the training cells of a fold."""
    X = problem.X[split.train]
    genes = np.sort(np.argsort(-X.var(axis=0), kind="stable")[:N_GENES])
    cells = problem.training(split, genes)
    everyone, fold = problem.X[:, genes] - cells.X.mean(axis=0), Fold(split, {}, {}, {})
    for name, fit in methods.items():
        try:
            fitted, fold.seconds[name] = timed(fit, cells)
        except np.linalg.LinAlgError as error:
            print(f"{problem.name}: {name} cannot be fitted: {error}", file=sys.stderr)
            continue
        if fitted.axes is not None:
            axes = fitted.axes if isinstance(fitted.axes, dict) else assigned(fitted.axes, cells)
            fold.scores[name] = {e: standardised(everyone @ U, split) for e, U in axes.items()}
        for other, posterior in fitted.posteriors.items():
            fold.levels[other] = posterior(problem.X[split.test][:, genes])
            fold.seconds.setdefault(other, fold.seconds[name])
    return fold


def assigned(axes: np.ndarray, cells: Cells) -> dict[str, np.ndarray]:
    """Assign axes to effects, df of each, by what they carry in training; the first axes of all effects come first."""
    effects = cells.design.effects
    snr = pd.DataFrame(effect_snr((cells.X - cells.X.mean(axis=0)) @ axes, cells.design))
    own = snr[[e.name for e in effects]].to_numpy().clip(0)
    value = np.log1p(own) - np.log1p(own.sum(axis=1, keepdims=True) - own)
    out: dict[str, list[int]] = {e.name: [] for e in effects}
    rest = np.arange(len(value))
    for slots in (range(len(effects)), np.repeat(range(len(effects)), [cells.design.df(e) - 1 for e in effects])):
        rows, columns = linear_sum_assignment(-value[rest][:, slots])
        pairs = sorted(zip(rest[rows], np.asarray(slots)[columns], strict=True), key=lambda p: -value[p[0], p[1]])
        for axis, effect in pairs:
            out[effects[effect].name].append(axis)
        rest = np.delete(rest, rows)
    return {e: axes[:, found] for e, found in out.items() if found}


def standardised(scores: np.ndarray, split: Split) -> np.ndarray:
    """Make axes uncorrelated within the groups of the training cells, in their order, with variance one."""
    design, train = split.training, scores[split.train]
    means = np.stack([train[design.codes == c].mean(axis=0) for c in range(design.n_groups)])
    residuals = train - means[design.codes]
    residuals, scores = (s / np.linalg.norm(residuals, axis=0) for s in (residuals, scores))
    root = np.linalg.cholesky(residuals.T @ residuals + 1e-10 * np.eye(scores.shape[1]))
    return solve_triangular(root, scores.T, lower=True).T * np.sqrt(len(train) - design.n_groups)


# ------------------------------------------------------------------------------------------------- measures of a seed


def measurable(split: Split) -> bool:
    """Whether the held-out cells of a fold estimate all effects and the variance within groups."""
    return split.held_out is not None and len(split.test) > split.held_out.n_groups


def numerators(scores: np.ndarray, design: Design, donors: np.ndarray | None) -> np.ndarray:
    """The mean square of every effect, less its noise, and in the last column the within-group variance: (k, E + 1)."""
    T, within = mean_products(scores, design, donors)
    squares = [np.einsum("cd,kcd->k", design.scatter_weights(e), T) for e in design.contrasts]
    return np.column_stack([*squares, within])


def aligned(scores: list[np.ndarray], splits: list[Split]) -> list[np.ndarray]:
    """Rotate and scale the axes of every fold to agree best in the cells in training both there and in the first."""
    out = [scores[0]]
    for s, split in zip(scores[1:], splits[1:], strict=True):
        both = np.intersect1d(splits[0].train, split.train)
        A, B = (v[both] - v[both].mean(axis=0) for v in (s, scores[0]))
        U, _, V = np.linalg.svd(A.T @ B)
        out.append(s @ U @ V * np.linalg.norm(B) / np.linalg.norm(A))
    return out


def moments(scores: list[np.ndarray], splits: list[Split], alone: bool) -> Callable[[list[int]], np.ndarray | None]:
    """Return a function from folds to the numerators of axes over these folds, or None if they cannot be estimated.

    Parameters
    ----------
    scores
        Scores of all cells on the axes of every fold.
    alone
        Whether every fold is measured alone and numerators are summed; otherwise held-out scores are pooled.
    """
    if alone:
        parts = []
        for s, split in zip(scores, splits, strict=True):
            donors = None if split.donors is None else split.donors[split.test]
            parts.append(numerators(s[split.test], split.held_out, donors))
        return lambda kept: np.sum([parts[k] for k in kept], axis=0)
    rotated, whole = aligned(scores, splits), splits[0].design

    def pooled(kept: list[int]) -> np.ndarray | None:
        test = np.concatenate([splits[k].test for k in kept])
        design = whole.subset(test)
        if design is None:
            return None
        values = np.concatenate([rotated[k][splits[k].test] for k in kept])
        return numerators(values, design, None if splits[0].donors is None else splits[0].donors[test])

    return pooled


def axis_values(found: np.ndarray | None, own: int, n: int | None = None) -> np.ndarray:
    """Signal, cross-talk and log ratio, summed over the first n axes or all."""
    if found is None:
        return np.full(len(AXES), np.nan)
    ratios = found[:n, :-1] / found[:n, -1:]
    S = ratios[:, own].sum()
    T = ratios.sum() - S
    return np.array([S, T, np.log(max(S, 0.01) / (len(ratios) + max(T, 0)))])


def level_values(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The four measures of predicted levels."""
    best = probabilities.argmax(axis=1)
    right, confidence = best == truth, probabilities.max(axis=1)
    loss = -np.log(probabilities[np.arange(len(truth)), truth].clip(1e-12))
    by_level = pd.DataFrame({"right": right, "loss": loss}).groupby(truth).mean().mean()
    bins = np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)
    gaps = np.abs(np.bincount(bins, right - confidence, N_BINS))
    return np.array([by_level["right"], right.mean(), by_level["loss"], gaps.sum() / len(truth)])


def jackknife(value: Callable[[list[int]], np.ndarray], n: int) -> tuple[np.ndarray, np.ndarray]:
    """The value of all n folds (m,), and the pseudo-value of every fold (n, m)."""
    every = list(range(n))
    whole = value(every)
    if n == 1:
        return whole, whole[None]
    return whole, np.stack([n * whole - (n - 1) * value([j for j in every if j != k]) for k in every])


def rows_of(value: Callable[[list[int]], np.ndarray], results: list[Fold], method: str, names, **key) -> Iterator[dict]:
    """One row per fold, with values and pseudo-values."""
    whole, pseudo = jackknife(value, len(results))
    for k, (fold, line) in enumerate(zip(results, pseudo, strict=True)):
        values = dict(zip(names, whole, strict=True)) | dict(zip((f"{n}_fold" for n in names), line, strict=True))
        yield {**key, "method": method, "fold": k, **values, "seconds": fold.seconds[method]}


def in_all(found: list[dict]) -> list[str]:
    """Methods that could be fitted in every fold, in their order."""
    return [method for method in found[0] if all(method in other for other in found)]


def axis_rows(problem: Problem, seed: int, results: list[Fold], alone: bool) -> Iterator[dict]:
    """Rows of all methods and effects in the folds of a seed."""
    splits, names = [r.split for r in results], [e.name for e in problem.design.contrasts]
    for method in in_all([r.scores for r in results]):
        for effect in results[0].scores[method]:
            own = names.index(effect)
            of = moments([r.scores[method][effect] for r in results], splits, alone)
            for axes, n in (("first", 1), ("all", None)):

                def value(kept: list[int], of=of, n=n, own=own) -> np.ndarray:
                    return axis_values(of(kept), own, n)

                key = {"data": problem.name, "effect": effect, "axes": axes, "seed": seed}
                yield from rows_of(value, results, method, AXES, **key)


def level_rows(problem: Problem, seed: int, results: list[Fold]) -> Iterator[dict]:
    """Rows of all methods and factors in the folds of a seed."""
    design = problem.design
    for method in in_all([r.levels for r in results]):
        for j, factor in enumerate(design.table.factors):
            truths = [design.table.groups[design.codes[r.split.test], j] for r in results]
            found = [r.levels[method][factor] for r in results]

            def value(kept: list[int], found=found, truths=truths) -> np.ndarray:
                return level_values(np.concatenate([found[k] for k in kept]), np.concatenate([truths[k] for k in kept]))

            yield from rows_of(
                value, results, method, LEVELS, data=problem.name, effect=factor, axes="levels", seed=seed
            )


# ------------------------------------------------------------------------------------------------------------ summary


def summary(rows: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Means over seeds and paired standard errors, per data set, effect and method, with ``mean`` over the effects."""
    key = ["data", "effect", "axes", "seed", "fold"]
    flda = rows[rows["method"] == "FLDA"].drop(columns=["method", "seconds"])
    both = rows.merge(flda, on=key, suffixes=("", " of FLDA"))
    for n in names:
        for column in (n, f"{n}_fold"):
            both[f"{column}_diff"] = both[column] - both.pop(f"{column} of FLDA")
    fold = shown(both, names).drop(columns="effect").groupby(["data", "axes", "seed", "fold", "method"], sort=False)
    mean = fold.mean().assign(effect="mean", effects=fold.size()).reset_index()
    together = pd.concat([both.assign(effects=1), mean])
    groups = together.groupby(["data", "axes", "effect", "method"], sort=False)
    out = {}
    for n in names:
        out |= {n: groups[n].mean(), f"{n}_se": groups[f"{n}_fold"].sem()}
        out |= {f"{n}_diff": groups[f"{n}_diff"].mean(), f"{n}_diff_se": groups[f"{n}_fold_diff"].sem()}
    out |= {"effects": groups["effects"].mean(), "folds": groups.size(), "seconds": groups["seconds"].mean()}
    return pd.DataFrame(out).reset_index()


def shown(rows: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Rows of the effects of which some method has a signal; all rows if they are not of axes."""
    if "signal" not in names:
        return rows
    key = ["data", "effect"]
    best = rows.groupby([*key, "method"])["signal"].mean().groupby(key).max()
    return rows.merge(best[best >= SHOWN].index.to_frame(index=False), on=key)


def overall(table: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Differences to FLDA over all data sets, every effect weighed alike; data sets are independent."""
    part = table[table["effect"] == "mean"]
    out = []
    for (axes, method), lines in part.groupby(["axes", "method"], sort=False):
        w = lines["effects"] / lines["effects"].sum()
        row = {"data": "all", "axes": axes, "effect": "mean", "method": method}
        for n in names:
            row[f"{n}_diff"] = (w * lines[f"{n}_diff"]).sum()
            row[f"{n}_diff_se"] = np.sqrt((w**2 * lines[f"{n}_diff_se"] ** 2).sum())
        out.append(
            {**row, "effects": lines["effects"].sum(), "folds": lines["folds"].sum(), "seconds": lines["seconds"].sum()}
        )
    return pd.concat([table, pd.DataFrame(out)], ignore_index=True)


def arena(name: str, n_seeds: int, n_folds: int, n_jobs: int, methods: Methods) -> tuple[list[dict], list[dict]]:
    """Rows of the axes and of the levels of one data set."""
    start, problem = time.perf_counter(), Problem.load(name)
    splits = [(seed, split) for seed in range(n_seeds) for split in problem.splits(seed, n_folds)]
    able = [(seed, split) for seed, split in splits if measurable(split)]
    alone = 2 * len(able) >= len(splits)
    splits = able if alone else splits
    with parallel_config("loky", n_jobs=n_jobs, inner_max_num_threads=1):
        tasks = (delayed(run_fold)(problem, split, methods) for _, split in splits)
        results = []
        for result in Parallel(return_as="generator")(tasks):
            results.append(result)
            print(f"{name}: fold {len(results)} of {len(splits)}, {time.perf_counter() - start:.0f} s", file=sys.stderr)
    axes, levels = [], []
    for seed in range(n_seeds):
        own = [r for (s, _), r in zip(splits, results, strict=True) if s == seed]
        if not own:
            continue
        axes += axis_rows(problem, seed, own, alone)
        levels += level_rows(problem, seed, own)
    how = "each alone" if alone else "pooled"
    print(f"{name}: {len(splits)} folds, measured {how}, {time.perf_counter() - start:.0f} s", file=sys.stderr)
    return axes, levels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="how often the cells are assigned to folds")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2, help="worker processes, with one BLAS thread each")
    parser.add_argument("--only", nargs="+", default=list(PROBLEMS), choices=list(PROBLEMS), help="data sets")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the results")
    parser.add_argument("--quick", action="store_true", help="one seed of two folds of two data sets: a check")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.folds, args.only = 1, 2, ["correlated", "pbmc68k"]
    found = [arena(name, args.seeds, args.folds, args.jobs, methods()) for name in args.only]
    tables = []
    for rows, names in zip(zip(*found, strict=True), (AXES, LEVELS), strict=True):
        tables.append(overall(summary(pd.DataFrame([r for part in rows for r in part]), names), names))
    args.out.mkdir(exist_ok=True)
    for table, path in zip(tables, ("compare.csv", "compare_levels.csv"), strict=True):
        table.to_csv(args.out / path, index=False, float_format="%.4g", lineterminator="\n")
    show(*tables)
    draw(tables[0], args.out / "compare.png")


if __name__ == "__main__":
    main()
