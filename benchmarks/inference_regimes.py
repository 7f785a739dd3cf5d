"""Levels of the tests of effects and genes, one row for each regime of data.

    python benchmarks/inference_regimes.py [--quick] [--jobs 2] [--genes 40 500] [--data-sets 400] [--only WORD ...]

Writes ``benchmarks/results/inference_levels.csv`` and prints it as Markdown. Every regime simulates data in which the
tested effect is absent, and then data in which it moves 20 % of the genes, for the false discovery proportion. The
power of the same tests is measured by ``inference_power.py``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from flda import FLDA
from flda._logging import quiet
from flda.inference import EffectTests, effect_tests

OUT = Path(__file__).parent / "results"
SHARES = np.array([0.40, 0.30, 0.20, 0.10])  # of the cells, by group of a 2 x 2 table


@dataclass
class Data:
    """One data set, for :func:`flda.inference.effect_tests` and for its peers.

    ``Y`` are the units that a peer compares (cells, means of donors, or means of samples), ``group`` their groups,
    ``contrast`` the contrast of the groups that is the effect, ``block`` what units are paired by, and ``extra`` a
    further column of a linear model of the units.
    """

    X: np.ndarray
    y: pd.DataFrame
    effect: str = "A"
    donor: np.ndarray | None = None
    interactions: str | None = None
    nuisance: tuple[str, ...] = ()
    numeric: dict[str, int | str] | None = None
    Y: np.ndarray | None = None
    group: np.ndarray | None = None
    contrast: tuple[float, ...] = (-1, 1)
    block: np.ndarray | None = None
    extra: np.ndarray | None = None


def run(data: Data, n_flips: int, seed: int) -> EffectTests:
    model = FLDA(interactions=data.interactions, nuisance=data.nuisance, numeric=data.numeric)
    with quiet():
        return effect_tests(
            model, data.X, data.y, data.donor, effects=[data.effect], n_resamples=n_flips, random_state=seed
        )


def frame(a, b=None):
    return pd.DataFrame({"A": a.astype(str)} if b is None else {"A": a.astype(str), "B": b.astype(str)})


# Cells as units. Every function takes a generator and what the tested effect adds to each gene (zero if it is absent).


def noise(rng, n, p, law="normal"):
    return rng.standard_t(3, size=(n, p)) / np.sqrt(3) if law == "t3" else rng.normal(size=(n, p))


def two_groups(rng, shift, sizes, sds=(1, 1), law="normal", blocks=0):
    """Two groups; with ``blocks``, genes of one block of genes have a correlation of 0.9."""
    group, p = np.repeat(np.arange(len(sizes)), sizes), len(shift)
    X = noise(rng, len(group), p, law)
    if blocks:
        X = np.sqrt(0.1) * X + np.sqrt(0.9) * rng.normal(size=(len(X), blocks))[:, np.arange(p) % blocks]
    X = X * np.asarray(sds)[group][:, None] + (group > 0)[:, None] * shift
    return Data(X, frame(group), Y=X, group=group, contrast=(-1, 1) if len(sizes) == 2 else (-1, 0.5, 0.5))


def interaction(rng, shift, law="normal"):
    """2 x 2 with 60, 60, 60 and 10 cells, the last group with sd 2.5; A moves half of the genes by 0.5, B the rest."""
    group, p = np.repeat(np.arange(4), [60, 60, 60, 10]), len(shift)
    a, b = group // 2, group % 2
    X = noise(rng, len(group), p, law) * np.array([1, 1, 1, 2.5])[group][:, None]
    X[:, : p // 2] += 0.5 * a[:, None]
    X[:, p // 2 :] += 0.5 * b[:, None]
    X += (a * b)[:, None] * shift
    return Data(X, frame(a, b), "A:B", interactions="all", Y=X, group=group, contrast=(1, -1, -1, 1))


def with_age(rng, shift, sizes, sds=(1, 1)):
    """Two groups whose ages differ, with a correlation of about 0.5; every gene has a slope on age, N(0, 1) per sd."""
    data = two_groups(rng, shift, sizes, sds)
    age = rng.normal(size=len(data.X)) + 1.15 * data.group
    data.X += np.outer(age, rng.normal(size=len(shift)))
    data.y["age"], data.nuisance, data.numeric, data.Y = age, ("age",), {"age": "linear"}, data.X
    return data


def counts(rng, shift, depth=1.0, correction=None):
    """100 + 100 cells, zero-inflated negative-binomial counts (20 % dropout), log1p of counts per 10,000.

    The library of a cell has about 3,000 counts, times ``depth`` in the second group. ``correction`` is the number of
    bins of log depth that enter as a nuisance factor; or "linear" or "spline": log depth is a covariate; or "thinned":
    counts are thinned to the smallest depth.
    """
    group, p = np.repeat([0, 1], 100), len(shift)
    depths = 3000 * rng.lognormal(0, 0.35, size=200) * np.where(group == 1, depth, 1.0)
    share = rng.lognormal(np.log(0.5), 1.0, size=p) / 3000  # half a count of the median gene
    rate = share * np.exp(group[:, None] * shift) * rng.gamma(2, 0.5, size=(200, p)) * depths[:, None]
    X = rng.poisson(rate) * (rng.random((200, p)) > 0.2)
    total = depths
    if correction == "thinned":
        X = rng.binomial(X, (depths.min() / depths)[:, None])
        total = np.full(200, depths.min())
    X, y = np.log1p(X * (1e4 / total)[:, None]), frame(group)
    if correction in ("linear", "spline"):
        y["depth"] = np.log(depths)
        return Data(X, y, nuisance=("depth",), numeric={"depth": correction}, Y=X, group=group)
    if not isinstance(correction, int):
        return Data(X, y, Y=X, group=group)
    y["depth"] = pd.qcut(np.log(depths), correction, labels=False).astype(str)
    return Data(X, y, nuisance=("depth",), Y=X, group=group)


def table_of_counts(rng, shift, effect):
    """300 cells in a 2 x 2 table with shares of 40 to 10 %; log-normalised counts, three latent factors, B present."""
    a, b = cells(rng)
    X = log_counts(rng, a, b, shift * (2 * a - 1)[:, None] / 2 if effect == "A" else shift * (a * b)[:, None])
    group = 2 * a + b
    contrast = (-0.5, -0.5, 0.5, 0.5) if effect == "A" else (1, -1, -1, 1)
    return Data(X, frame(a, b), effect, interactions="all", Y=X, group=group, contrast=contrast)


def sparse_table(rng, shift):
    """600 cells in a 2 x 4 table, log-normalised counts of which four in five are zero; B moves its last level."""
    group, p = np.repeat(np.arange(8), 75), len(shift)
    a, b = group // 4, group % 4
    rate = rng.lognormal(np.log(0.2), 1.0, size=p) * np.exp((b == 3)[:, None] * shift)
    library = rng.lognormal(0, 0.35, size=(600, 1))
    X = np.log1p(rng.poisson(rng.gamma(2, rate / 2, size=(600, p)) * library) / library)
    return Data(X, frame(a, b), "B", interactions="all", Y=X, group=group)


def cells(rng, n=300):
    group = rng.permutation(np.repeat(np.arange(4), np.round(SHARES * n).astype(int)))
    return group // 2, group % 2


def log_counts(rng, a, b, log_rates, donors=None, donor_sd=0.3):
    """Log-normalised negative-binomial counts; B moves the last quarter of the genes, library sizes vary twofold."""
    n, p = len(a), log_rates.shape[1]
    eta = rng.normal(0.5, 1.0, size=p) + 0.3 * rng.normal(size=(n, 3)) @ rng.normal(size=(3, p)) + log_rates
    eta[:, -(p // 4) :] += 0.5 * rng.choice([-1, 1], size=p // 4) * (2 * b - 1)[:, None]
    if donors is not None:
        eta += (donor_sd * rng.normal(size=(donors.max() + 1, 2)) @ rng.normal(size=(2, p)))[donors]
    library = rng.lognormal(0, 0.35, size=(n, 1))
    return np.log1p(rng.poisson(rng.gamma(2, np.exp(eta) / 2) * library) / library)


# Donors as units.


def means_of(X, codes):
    return np.stack([X[codes == c].mean(axis=0) for c in range(codes.max() + 1)])


def donors_of_counts(rng, shift, given=True):
    """6 + 6 donors of 20 to 80 cells, A between and B within them, log-normalised counts, donors differ with sd 0.3."""
    donor = np.repeat(np.arange(12), rng.integers(20, 80, size=12))
    a, b = donor % 2, rng.choice(2, p=[0.6, 0.4], size=len(donor))
    X = log_counts(rng, a, b, shift * (a - 0.5)[:, None], donor)
    return Data(X, frame(a, b), donor=donor if given else None, Y=means_of(X, donor), group=np.arange(12) % 2)


def between(rng, shift, donors, sds, cells):
    """Donors of two groups, sd ``sds`` between donors, ``cells`` per donor (a number, or the ends of a range)."""
    level = np.repeat([0, 1], donors)
    sizes = [cells[k] if isinstance(cells[k], int) else rng.integers(*cells[k]) for k in level]
    donor = np.repeat(np.arange(len(level)), sizes)
    own = rng.normal(size=(len(level), len(shift))) * np.asarray(sds)[level][:, None] + level[:, None] * shift
    X = rng.normal(size=(len(donor), len(shift))) + own[donor]
    return Data(X, frame(level[donor]), donor=donor, Y=means_of(X, donor), group=level)


def paired(rng, shift, donors, rank=2):
    """Donors with both conditions, 30 cells each.

    Donors differ with sd 0.5, and their responses with sd 0.3 along two directions, or 0.2 gene by gene (``rank`` 0).
    """
    p = len(shift)
    donor, a = np.repeat(np.arange(donors), 60), np.tile(np.repeat([0, 1], 30), donors)
    own = 0.2 * rng.normal(size=(donors, 2, p))
    if rank:
        own = rng.normal(size=(donors, 2, rank)) @ rng.normal(size=(rank, p)) * 0.3 / np.sqrt(rank)
    X = rng.normal(size=(len(donor), p)) + own[donor, a] + 0.5 * rng.normal(size=(donors, p))[donor]
    X += a[:, None] * shift
    Y = means_of(X, 2 * donor + a)
    return Data(X, frame(a), donor=donor, Y=Y, group=np.tile([0, 1], donors), block=np.repeat(np.arange(donors), 2))


def split_plot(rng, shift, effect):
    """4 + 4 donors; A differs between donors (sd 1) and B within donors, whose responses differ with sd 0.3."""
    p = len(shift)
    donor, b = np.repeat(np.arange(8), 40), np.tile(np.repeat([0, 1], 20), 8)
    a = (donor >= 4).astype(int)
    X = rng.normal(size=(320, p)) + rng.normal(size=(8, p))[donor] + 0.3 * rng.normal(size=(8, 2, p))[donor, b]
    X += {"A": a, "B": b, "A:B": a * b}[effect][:, None] * shift
    samples, of_donor = means_of(X, 2 * donor + b), np.repeat([0, 1], 4)
    data = Data(X, frame(a, b), effect, donor=donor, interactions="all")
    if effect == "A":
        data.Y, data.group = means_of(X, donor), of_donor
    elif effect == "A:B":
        data.Y, data.group = samples[1::2] - samples[::2], of_donor
    else:
        data.Y, data.group, data.block = samples, np.tile([0, 1], 8), np.repeat(np.arange(8), 2)
        data.extra = (data.group - 0.5) * np.repeat(of_donor - 0.5, 2)
    return data


def libraries(rng, shift):
    """8 libraries of 40 cells, 2 of each donor, one per condition; the units are libraries, donor is a nuisance factor.

    Donors differ with sd 1 and libraries with sd 0.3.
    """
    p, library = len(shift), np.repeat(np.arange(8), 40)
    a, donor = library % 2, library // 2
    X = rng.normal(size=(320, p)) + rng.normal(size=(4, p))[donor] + 0.3 * rng.normal(size=(8, p))[library]
    X += a[:, None] * shift
    y, units = frame(a).assign(donor=donor.astype(str)), np.arange(8)
    return Data(
        X, y, donor=library, nuisance=("donor",), Y=means_of(X, library), group=units % 2, block=units // 2
    )  # fmt: skip


def batches(rng, shift):
    """12 donors of 20 to 60 cells; A and a batch differ between donors, 4 of 6 donors of each level in one batch."""
    p, donor = len(shift), np.repeat(np.arange(12), rng.integers(20, 60, size=12))
    level, batch = np.repeat([0, 1], 6), np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0])
    own = 0.3 * rng.normal(size=(12, p)) + batch[:, None] * 0.5 * rng.normal(size=p) + level[:, None] * shift
    X = rng.normal(size=(len(donor), p)) + own[donor]
    y = frame(level[donor]).assign(batch=batch[donor].astype(str))
    return Data(X, y, donor=donor, nuisance=("batch",), Y=means_of(X, donor), group=level, extra=batch - 0.5)


@dataclass(frozen=True)
class Regime:
    """A regime of data, the shift of a gene for the false discovery proportion, and the peers that are valid in it."""

    simulate: Callable[..., Data]
    size: float
    peers: tuple[str, ...] = ()


W, M, P = "Welch t + Simes", "moderated t + Simes", "PERMANOVA"
REGIMES = {
    "20 cells of sd 3, 180 of sd 1": Regime(partial(two_groups, sizes=(20, 180), sds=(3, 1)), 2.0, (W,)),
    "20 cells of sd 1, 180 of sd 3": Regime(partial(two_groups, sizes=(20, 180), sds=(1, 3)), 1.0, (W,)),
    "2 x 2, one group of 10 with sd 2.5: A:B": Regime(interaction, 2.5, (W,)),
    "the same, t3 noise: A:B": Regime(partial(interaction, law="t3"), 2.5, (W,)),
    "60 + 60 cells, age goes with A and is a covariate": Regime(partial(with_age, sizes=(60, 60)), 0.8),
    "20 cells of sd 3, 180 of sd 1, the same": Regime(partial(with_age, sizes=(20, 180), sds=(3, 1)), 2.5),
    "2 x 2 counts, shares 40 to 10 %: A": Regime(partial(table_of_counts, effect="A"), 0.6, (W,)),
    "2 x 2 counts, shares 40 to 10 %: A:B": Regime(partial(table_of_counts, effect="A:B"), 1.2, (W,)),
    "2 x 4 sparse counts: B, 3 degrees of freedom": Regime(sparse_table, 1.0),
    "counts, same depth": Regime(counts, 0.7, (W, M, P)),
    "counts, depth x 2": Regime(partial(counts, depth=2.0), 0.7),
    "counts, depth x 2, 5 bins of depth": Regime(partial(counts, depth=2.0, correction=5), 0.7),
    "counts, depth x 2, 20 bins of depth": Regime(partial(counts, depth=2.0, correction=20), 0.7),
    "counts, depth x 2, log depth as covariate": Regime(partial(counts, depth=2.0, correction="linear"), 0.7),
    "counts, depth x 2, spline of log depth": Regime(partial(counts, depth=2.0, correction="spline"), 0.7),
    "counts, depth x 2, thinned to one depth": Regime(partial(counts, depth=2.0, correction="thinned"), 0.7, (W,)),
    "6 + 6 donors, counts": Regime(donors_of_counts, 1.5, (W, M, P)),
    "6 + 6 donors, counts, donors not given": Regime(partial(donors_of_counts, given=False), 1.5),
    "4 donors of sd .6, 8 of sd .2": Regime(
        partial(between, donors=(4, 8), sds=(0.6, 0.2), cells=((5, 30), (60, 120))), 1.5, (W,)
    ),
    "4 donors x 6 cells, 8 x 100, sd .1": Regime(
        partial(between, donors=(4, 8), sds=(0.1, 0.1), cells=(6, 100)), 1.0, (W,)
    ),
    "3 paired donors": Regime(partial(paired, donors=3), 1.0, (M, P)),
    "4 paired donors": Regime(partial(paired, donors=4), 1.0, (M, P)),
    "6 paired donors": Regime(partial(paired, donors=6), 1.0, (M, P)),
    "10 paired donors": Regime(partial(paired, donors=10), 0.6, (M, P)),
    "6 paired donors, slopes of sd .2": Regime(partial(paired, donors=6, rank=0), 0.7, (M, P)),
    "split plot, 4 + 4 donors: A": Regime(partial(split_plot, effect="A"), 4.0, (W, M, P)),
    "split plot, 4 + 4 donors: B": Regime(partial(split_plot, effect="B"), 0.9, (M, P)),
    "split plot, 4 + 4 donors: A:B": Regime(partial(split_plot, effect="A:B"), 2.0, (W, M, P)),
    "8 libraries in 4 donors": Regime(libraries, 1.3, (M, P)),
    "12 donors, batch partly confounded": Regime(batches, 1.0, (M,)),
    "15 + 15 cells, t3 noise": Regime(partial(two_groups, sizes=(15, 15), law="t3"), 1.5, (W, M, P)),
    "30 + 60 cells, 10 blocks of genes, correlation .9": Regime(
        partial(two_groups, sizes=(30, 60), blocks=10), 1.0, (W, M, P)
    ),
    "3 + 3 cells": Regime(partial(two_groups, sizes=(3, 3)), 4.0, (W, M, P)),
    "4 + 4 cells": Regime(partial(two_groups, sizes=(4, 4)), 3.0, (W, M, P)),
    "6 + 6 cells": Regime(partial(two_groups, sizes=(6, 6)), 2.5, (W, M, P)),
    "6 + 6 cells, sd 2 and 1": Regime(partial(two_groups, sizes=(6, 6), sds=(2, 1)), 4.0, (W,)),
    "1, 30 and 40 cells": Regime(partial(two_groups, sizes=(1, 30, 40), sds=(1, 1, 1)), 6.0),
}


def shift_of(rng, p, n_changed, size):
    shift = np.zeros(p)
    shift[rng.choice(p, n_changed, replace=False)] = size * rng.choice([-1, 1], n_changed)
    return shift


def one_level(name, p, n_flips, seed):
    """The p-values of a data set without the effect, and for every other seed the false discoveries in one with it."""
    regime = REGIMES[name]
    rng = np.random.default_rng([seed, p])
    test = run(regime.simulate(rng, np.zeros(p)), n_flips, seed)
    effect, genes = test.table.iloc[0], test.genes
    out = {
        "effect p <= .05": effect["pval"] <= 0.05,
        "sum p <= .05": effect["pval_sum"] <= 0.05,
        "max p <= .05": effect["pval_max"] <= 0.05,
        "null genes p <= .05": np.mean(genes["pval"] <= 0.05),
        "any gene at FDR .1": (genes["pval_adj"] <= 0.1).any(),
    }
    if seed % 2:
        return {k: float(v) for k, v in out.items()}
    shift = shift_of(rng, p, p // 5, regime.size)
    genes = run(regime.simulate(rng, shift), n_flips, seed).genes
    called = (genes["pval_adj"] <= 0.1).to_numpy()
    out["FDP at FDR .1"] = called[shift == 0].sum() / max(called.sum(), 1)
    out["true genes called"] = called[shift != 0].mean()
    return {k: float(v) for k, v in out.items()}


def level(name, p, n_sets, n_flips, jobs):
    found = pd.DataFrame(Parallel(jobs)(delayed(one_level)(name, p, n_flips, s) for s in range(n_sets)))
    row = {"regime": name, "genes": p, "data sets": n_sets, "flips": n_flips}
    for column in found:
        row |= {column: found[column].mean(), f"se, {column}": found[column].std() / np.sqrt(found[column].count())}
    return row


def markdown(table, columns):
    """Print columns with their standard errors as a Markdown table."""
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for row in table.to_dict("records"):
        text = [f"{row[c]:.3f} ({row[f'se, {c}']:.3f})" if f"se, {c}" in row else str(row[c]) for c in columns]
        print("| " + " | ".join(text) + " |")


def store(table, name, keys):
    """Put rows into a CSV of results, in place of those with the same keys."""
    OUT.mkdir(exist_ok=True)
    if (OUT / name).exists():
        old = pd.read_csv(OUT / name)
        fresh = pd.MultiIndex.from_frame(table[keys])
        table = pd.concat([old[~pd.MultiIndex.from_frame(old[keys]).isin(fresh)], table])
    order = {regime: i for i, regime in enumerate(REGIMES)}
    table = table.sort_values(keys, key=lambda c: c.map(order) if c.name == "regime" else c)
    table.sort_values("genes", kind="stable").to_csv(
        OUT / name, index=False, float_format="%.4g", lineterminator="\n"
    )  # fmt: skip


def arguments(description, data_sets):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="40 data sets a row")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--genes", type=int, nargs="+", default=[40, 500])
    parser.add_argument("--data-sets", type=int, default=data_sets)
    parser.add_argument("--flips", type=int, default=199)
    parser.add_argument("--only", nargs="+", help="regimes whose names contain one of these words", default=[""])
    args = parser.parse_args()
    args.data_sets = 40 if args.quick else args.data_sets
    args.names = [name for name in REGIMES if any(word in name for word in args.only)]
    return args


def main() -> None:
    args = arguments(__doc__.splitlines()[0], 400)
    for p in args.genes:
        rows = []
        for name in args.names:
            start = time.perf_counter()
            rows.append(level(name, p, args.data_sets, args.flips, args.jobs))
            shown = {k: v if isinstance(v, str | int) else round(float(v), 3) for k, v in rows[-1].items()}
            print(
                {k: v for k, v in shown.items() if "se, " not in k}, f"{time.perf_counter() - start:.0f} s", flush=True
            )
            if not args.quick:
                store(pd.DataFrame(rows[-1:]), "inference_levels.csv", ["regime", "genes"])
        table = pd.DataFrame(rows)
        print(f"\n{p} genes, {args.data_sets} data sets\n")
        markdown(table, ["regime", "effect p <= .05", "null genes p <= .05", "any gene at FDR .1", "FDP at FDR .1",
                         "true genes called"])  # fmt: skip


if __name__ == "__main__":
    main()
