"""Recovery of known circuits by the public defaults: what signs and an L1 penalty are worth, and what noise costs.

    python benchmarks/circuits.py                # everything that RESULTS.md shows, resumed where it stopped
    python benchmarks/circuits.py --quick        # one seed, 3 kernels, a few minutes
    python benchmarks/circuits.py targets notes  # parts
    python benchmarks/circuits_t4t5.py && python benchmarks/circuits_optimisers.py
    python benchmarks/circuits_figures.py        # figures, and the tables of RESULTS.md as text

Parts: targets (signs and L1, 3 and 28 kernels, without noise, three seeds), notes (how often the warnings are right),
white (a stimulus that hardly drives the hidden units), limit (what a perfect choice of the penalty, or the true
synapses given, would recover of circuit 1), arms (signs and L1, L1, signs, neither: three seeds with 3 kernels, one
with more, 5,500 samples where 1,400 with noise are few), wrong_signs, restarts (what 20 starts instead of 4 recover
without signs). The arms with 28 kernels take most of the time. Every part appends its rows to
``benchmarks/results/circuits_<part>.csv`` as it runs, the telling rows first, and skips the rows that the file already
has. Each fit is one call of ``recover_circuit`` with its defaults; the arms without L1 set ``penalties=[0.0]``,
and those without signs pass ``model.unsigned()``.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from flda.circuits import CircuitModel, recover_circuit, simulate, support_recovery, system_recovery

OUT = Path(__file__).parent / "results"
CIRCUITS = ["1", "2", "3A", "3B"]
ARMS = {"signs and L1": (True, True), "L1": (False, True), "signs": (True, False), "neither": (False, False)}
KEYS = ["circuit", "kernels", "n", "noise", "stimulus", "arm", "seed"]
TRUTH = 7  # seed of the weights of circuit 1
# kernels, samples and noise of the part arms, the telling ones first
CELLS = [(3, 340, 0.0), (28, 1400, 0.0), (3, 1400, 0.3), (28, 1400, 0.3), (28, 340, 0.0), (3, 340, 0.3), (8, 340, 0.0)]
CELLS += [(28, 5500, 0.3), (3, 1400, 0.1), (28, 1400, 0.1), (16, 1400, 0.0), (8, 1400, 0.3), (16, 340, 0.0)]
CELLS += [(28, 340, 0.1), (28, 340, 0.3)]
CELLS += [cell for cell in product((3, 8, 16), (340, 1400), (0.0, 0.1, 0.3)) if cell not in CELLS]


def jobs(part: str, quick: bool) -> list[tuple]:
    """Fits of a part, the cheap and the telling ones first, as the values of ``KEYS``."""
    seeds = range(1 if quick else 3)
    if part == "targets":
        cells = [(c, 3, 340) for c in CIRCUITS]
        if not quick:
            cells += [(c, 28, 340) for c in CIRCUITS] + [(c, 28, 1400) for c in CIRCUITS]
        return [(c, k, n, 0.0, "smooth", "signs and L1", s) for (c, k, n), s in product(cells, seeds)]
    if part == "arms":
        cells = [(3, 340, 0.0)] if quick else CELLS
        chosen = [(k, n, noise, s) for s in seeds for k, n, noise in cells if s == 0 or k == 3]
        return [
            (c, k, n, noise, "smooth", arm, s)
            for k, n, noise, s in chosen
            for c, arm in product(CIRCUITS, ARMS)
            if n < 5500 or "L1" in arm
        ]
    if part == "white":
        return [("2", 3, 1400, 0.0, "white", arm, s) for arm, s in product(ARMS, seeds)]
    cells = [(3, 60, 0.0), (3, 340, 0.1), (3, 340, 0.3), (3, 1400, 0.1), (3, 1400, 0.3), (8, 340, 0.0), (8, 340, 0.1)]
    cells += [] if quick else [(3, 140, 0.1), (8, 700, 0.3), (16, 340, 0.1)]
    return [(c, k, n, noise, "smooth", "signs and L1", 100) for (k, n, noise), c in product(cells, CIRCUITS)]


def fit(circuit: str, kernels: int, n: int, noise: float, stimulus: str, arm: str, seed: int) -> dict:
    """One recovery, scored on the true weights and on 500 new samples without noise."""
    retina = simulate.retina_circuit(circuit, n_kernels=kernels, random_state=TRUTH)
    X, y = retina.sample(n, stimulus=stimulus, noise=noise, random_state=10 + seed)
    X_test, y_test = retina.sample(500, stimulus=stimulus, random_state=1000 + seed)
    signs, l1 = ARMS[arm]
    clock, cpu = time.perf_counter(), time.process_time()
    found = recover_circuit(
        retina.model if signs else retina.model.unsigned(), X, y, random_state=seed,
        **({} if l1 else {"penalties": [0.0], "halves": False}),
    )  # fmt: skip
    seconds, cpu = time.perf_counter() - clock, time.process_time() - cpu
    some = any((np.abs(w) > 0.07).any() for w in found.weights.values())
    return {
        "r_sys": system_recovery(found.weights, retina.truth),
        "r_supp": support_recovery(found.weights, retina.truth) if some else 0.0,
        "r2_test": found.model.score(found.weights, X_test, y_test),
        "relative_error": found.relative_error, "agreement": found.agreement, "warnings": len(found.warnings),
        "starts": found.path["start"].nunique(), "share_of_ceiling": found.penalty / ceiling(X, y),
        "seconds": seconds, "cpu_seconds": cpu,
    }  # fmt: skip


def ceiling(X: np.ndarray, y: np.ndarray) -> float:
    return float(np.abs((X - X.mean(0)).T @ (y - y.mean())).max() / len(X))


def run(part: str, quick: bool, only: dict) -> None:
    path = OUT / f"circuits_{part}{'_quick' if quick else ''}.csv"
    tables = [path] if quick else [path, OUT / "circuits_targets.csv", OUT / "circuits_arms.csv"]
    known: set[tuple] = set()  # targets and arms share fits
    for table in filter(Path.exists, tables):
        known |= set(pd.read_csv(table, dtype={"circuit": str})[KEYS].itertuples(index=False, name=None))
    for job in jobs(part, quick):
        row = dict(zip(KEYS, job, strict=True))
        if job in known or any(row[key] not in values for key, values in only.items() if values):
            continue
        row |= fit(*job)
        pd.DataFrame([row]).to_csv(
            path, mode="a", header=not path.exists(), index=False, float_format="%.6g", lineterminator="\n"
        )
        print({key: round(v, 4) if isinstance(v, float) else v for key, v in row.items()}, flush=True)


def recorded(part: str, quick: bool, jobs: Iterable[dict], fit: Callable[[dict], dict]) -> None:
    """Append a row for each job that the table of the part does not have."""
    path = OUT / f"circuits_{part}{'_quick' if quick else ''}.csv"
    known = pd.read_csv(path, dtype={"circuit": str}) if path.exists() else None
    for job in jobs:
        if known is not None and len(known.merge(pd.DataFrame([job]), on=list(job))):
            continue
        row = job | fit(job)
        pd.DataFrame([row]).to_csv(
            path, mode="a", header=not path.exists(), index=False, float_format="%.6g", lineterminator="\n"
        )
        print(row, flush=True)


def limit(quick: bool) -> None:
    """Circuit 1 with noise: the default, the best penalty of a ladder by the truth, and the true synapses given."""
    retina = simulate.retina_circuit("1", n_kernels=3, random_state=TRUTH)
    masks = [np.where(retina.truth[c.name] != 0, c.signs, 0.0) for c in retina.model.connections]
    given = CircuitModel(
        retina.model.populations,
        [replace(c, signs=mask) for c, mask in zip(retina.model.connections, masks, strict=True)],
    )

    def one(job: dict) -> dict:
        X, y = retina.sample(1400, noise=job["noise"], random_state=10 + job["seed"])
        shares = 6e-3 * 10 ** (0.5 * np.arange(-4, 3))
        options = [(retina.model, None), (given, [0.0]), *((retina.model, [p]) for p in shares * ceiling(X, y))]
        fits = [
            recover_circuit(model, X, y, penalties=penalties, random_state=job["seed"], halves=False)
            for model, penalties in options
        ]
        default, known, *rungs = (system_recovery(f.weights, retina.truth) for f in fits)
        return {
            "default": default, "best_penalty": max(rungs), "share_of_ceiling": shares[int(np.argmax(rungs))],
            "synapses_given": known,
        }  # fmt: skip

    pairs = product((0.3, 0.1), range(1 if quick else 8))
    recorded("limit", quick, [{"noise": noise, "seed": seed} for noise, seed in pairs], one)


def wrong_signs(quick: bool) -> None:
    """Recovery and fit if some signs are wrong, and whether the validation R^2 would show it to a user."""
    retina = simulate.retina_circuit("2", n_kernels=3)
    X, clean = retina.sample(1400, random_state=11)
    true = np.flatnonzero(retina.model.parameters(retina.truth))

    def one(job: dict) -> dict:
        y = clean + job["noise"] * clean.std() * np.random.default_rng(99).normal(size=len(clean))
        signs = retina.model.signs.copy()
        n_flipped = round(max(job["share"], 0) * len(signs))
        flipped = np.random.default_rng(job["seed"]).choice(len(signs), size=n_flipped, replace=False)
        signs[flipped] *= -1
        model = retina.model.unsigned() if job["share"] < 0 else retina.model.with_signs(signs)
        found = recover_circuit(model, X, y, random_state=job["seed"], halves=False)
        return {
            "true_flipped": int(np.isin(flipped, true).sum()),
            "r_sys": system_recovery(found.weights, retina.truth),
            "r2_validation": float(found.path.loc[found.path["chosen"], "r2_validation"].iloc[0]),
        }

    grid = product(range(1 if quick else 5), (0.0, 0.5), (-1.0, 0.0, 0.01, 0.02, 0.05, 0.1, 0.2))
    recorded("wrong_signs", quick, [{"noise": n, "share": share, "seed": s} for s, n, share in grid], one)


def restarts(quick: bool) -> None:
    """L1 without signs from up to 20 starts, on the samples of the part arms."""

    def one(job: dict) -> dict:
        retina = simulate.retina_circuit(job["circuit"], n_kernels=job["kernels"], random_state=TRUTH)
        X, y = retina.sample(job["n"], noise=job["noise"], random_state=10)
        found = recover_circuit(retina.model.unsigned(), X, y, n_restarts=20, halves=False)
        return {
            "r_sys": system_recovery(found.weights, retina.truth), "starts": found.path["start"].nunique(),
            "r2_validation": float(found.path.loc[found.path["chosen"], "r2_validation"].iloc[0]),
            "warnings": len(found.warnings),
        }  # fmt: skip

    cells = [(3, 340, 0.0)] if quick else [(3, 340, 0.0), (3, 1400, 0.3), (8, 1400, 0.0)]
    grid = [dict(zip(KEYS[:4], (c, *cell), strict=True)) for cell, c in product(cells, CIRCUITS)]
    recorded("restarts", quick, grid, one)


def main() -> None:
    alone = {"limit": limit, "wrong_signs": wrong_signs, "restarts": restarts}
    parts = ["targets", "notes", "white", "limit", "arms", "wrong_signs", "restarts"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=parts, help=", ".join(parts))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--circuits", nargs="+", dest="circuit")
    parser.add_argument("--kernels", nargs="+", type=int)
    parser.add_argument("--samples", nargs="+", type=int, dest="n")
    parser.add_argument("--noise", nargs="+", type=float)
    parser.add_argument("--arms", nargs="+", dest="arm", choices=list(ARMS))
    args = parser.parse_args()
    logging.getLogger("flda").setLevel(logging.ERROR)
    for part in args.parts:
        if part in alone:
            alone[part](args.quick)
        else:
            run(part, args.quick, {key: getattr(args, key) for key in ("circuit", "kernels", "n", "noise", "arm")})


if __name__ == "__main__":
    main()
