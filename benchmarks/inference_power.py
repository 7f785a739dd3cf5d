"""Power of the tests of effects beside the best valid peer, within each regime of ``inference_regimes.py``.

    python benchmarks/inference_power.py [--quick] [--jobs 2] [--genes 40] [--data-sets 200] [--only WORD ...]

Writes ``benchmarks/results/inference_power.csv`` and prints it as Markdown. The effect moves 20 % of the genes or a
single gene. Its size is found on other data sets, such that the best valid peer has a power near 0.65. Peers: Welch's t
of every gene, and limma's moderated t in a linear model of the units, each with the test of Simes over genes;
PERMANOVA of Euclidean distances, labels permuted within blocks.
"""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
from inference_regimes import REGIMES, Data, M, P, W, arguments, markdown, run, shift_of, store
from joblib import Parallel, delayed
from scipy.stats import f as f_distribution
from scipy.stats import false_discovery_control
from scipy.stats import t as t_distribution

from flda._error.variances import moderated, prior_variance

AIM, N_AIM = 0.65, 40  # power of the best peer, and data sets that find its size


def simes(p):
    return np.min(np.sort(p) * len(p) / np.arange(1, len(p) + 1))


def welch(data: Data, rng):
    """P-values of the contrast of group means, with the degrees of freedom of Satterthwaite."""
    groups = [data.Y[data.group == g] for g in np.unique(data.group)]
    noise = np.stack([c**2 * x.var(axis=0, ddof=1) / len(x) for c, x in zip(data.contrast, groups, strict=True)])
    with np.errstate(invalid="ignore"):
        df = noise.sum(axis=0) ** 2 / sum(v**2 / (len(x) - 1) for v, x in zip(noise, groups, strict=True))
    b = sum(c * x.mean(axis=0) for c, x in zip(data.contrast, groups, strict=True))
    with np.errstate(invalid="ignore"):
        p = 2 * t_distribution.sf(np.abs(b) / np.sqrt(noise.sum(axis=0)), df)
    p = np.where(noise.sum(axis=0) > 0, p, 1.0)  # constant genes
    return simes(p), p


def moderated_t(data: Data, rng):
    """P-values of the group in a linear model of the units with their blocks and further columns (Smyth 2004)."""
    columns = [np.ones(len(data.Y)), data.group]
    if data.block is not None:
        columns += [1.0 * (data.block == b) for b in np.unique(data.block)[1:]]
    if data.extra is not None:
        columns.append(data.extra)
    D = np.column_stack(columns)
    back = np.linalg.pinv(D)
    df = len(D) - D.shape[1]
    v = np.sum((data.Y - D @ (back @ data.Y)) ** 2, axis=0) / df
    prior = prior_variance(v, df)
    total = min(df + prior[0], df * len(v))  # never more than all genes have together, as in limma
    F = (back @ data.Y)[1] ** 2 / (moderated(v, df, prior) * np.sum(back[1] ** 2))
    p = f_distribution.sf(F, 1, total)
    return simes(p), p


def permanova(data: Data, rng, n=199):
    """The p-value of the sum of squares between two groups among permutations, within blocks if there are any."""
    Y, group = data.Y, data.group
    block = np.zeros(len(Y)) if data.block is None else data.block
    if data.block is not None:
        Y = Y - np.stack([Y[block == b].mean(axis=0) for b in block])
    labels = np.empty((n + 1, len(Y)))
    labels[0] = group
    place = np.argsort(block, kind="stable")
    for row in labels[1:]:
        row[place] = group[np.lexsort((rng.random(len(Y)), block))]
    x = labels - labels.mean(axis=1, keepdims=True)
    squares = np.sum((x @ Y) ** 2, axis=1)  # all else is the same in every permutation
    return np.mean(squares >= squares[0] * (1 - 1e-9)), None


PEERS = {W: welch, M: moderated_t, P: permanova}


def simulated(name, p, n_changed, size, seed):
    rng = np.random.default_rng(seed)
    shift = shift_of(rng, p, n_changed, size)
    return REGIMES[name].simulate(rng, shift), shift != 0, rng


def peer_power(name, p, n_changed, size, seeds):
    """Power of every valid peer at 0.05."""
    hits = []
    for seed in seeds:
        data, _, rng = simulated(name, p, n_changed, size, [seed, p, 1])
        hits.append([PEERS[peer](data, rng)[0] <= 0.05 for peer in REGIMES[name].peers])
    return np.mean(hits, axis=0)


def size_for(name, p, n_changed):
    """Find the size at which the best valid peer has the power that is aimed at, by bisection."""
    low, high = 0.0, 1.0
    while peer_power(name, p, n_changed, high, range(20)).max() < 0.95 and high < 30:
        high *= 2
    for _ in range(6):
        middle = (low + high) / 2
        above = peer_power(name, p, n_changed, middle, range(N_AIM)).max() > AIM
        low, high = (low, middle) if above else (middle, high)
    return float(f"{(low + high) / 2:.2g}")


def one(name, p, n_changed, size, n_flips, seed):
    data, changed, rng = simulated(name, p, n_changed, size, [seed, p, 2])
    test = run(data, n_flips, seed)
    out = {column: float(test.table[column].item() <= 0.05) for column in ("pval", "pval_sum", "pval_max")}
    out["genes called"] = (test.genes["pval_adj"] <= 0.1).to_numpy()[changed].mean()
    for peer in REGIMES[name].peers:
        pval, of_genes = PEERS[peer](data, rng)
        out[peer] = float(pval <= 0.05)
        if of_genes is not None:
            out[f"genes, {peer}"] = (false_discovery_control(of_genes) <= 0.1)[changed].mean()
    return out


def row(name, p, n_changed, n_sets, n_flips, jobs):
    size = size_for(name, p, n_changed)
    found = pd.DataFrame(Parallel(jobs)(delayed(one)(name, p, n_changed, size, n_flips, s) for s in range(n_sets)))
    row = {"regime": name, "genes": p, "changed": n_changed, "size": size, "data sets": n_sets}
    return row | found.mean().round(3).to_dict()


def main() -> None:
    args = arguments(__doc__.splitlines()[0], 200)
    columns = ["regime", "genes", "changed", "size", "data sets", "pval", "pval_sum", "pval_max", *PEERS]
    extra = ["genes called", *(f"genes, {peer}" for peer in (W, M))]
    for p in args.genes:
        rows = []
        for n_changed in (p // 5, 1):
            for name in (name for name in args.names if REGIMES[name].peers):
                start = time.perf_counter()
                rows.append(row(name, p, n_changed, args.data_sets, args.flips, args.jobs))
                print(rows[-1], f"{time.perf_counter() - start:.0f} s", flush=True)
                if not args.quick:
                    table = pd.DataFrame(rows[-1:]).reindex(columns=[*columns, *extra])
                    store(table, "inference_power.csv", ["regime", "genes", "changed"])
        print(f"\n{p} genes, {args.data_sets} data sets\n")
        table = pd.DataFrame(rows).reindex(columns=[*columns, *extra]).fillna("-")
        markdown(table, [c for c in columns if c not in ("genes", "data sets")])


if __name__ == "__main__":
    main()
