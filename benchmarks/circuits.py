"""Recovery of known circuits: how much sign constraints and an L1 penalty help, and where they do not.

    python benchmarks/circuits.py grid --kernels 3            # the paper's central figure, about 10 minutes on one core
    python benchmarks/circuits.py grid --kernels 28 --circuits 2 3B --samples 340 1400 5500
    python benchmarks/circuits.py white wrong_signs reach
    python benchmarks/circuits_t4t5.py && python benchmarks/circuits_optimisers.py
    python benchmarks/circuits_figures.py

Every part appends its rows to ``benchmarks/results/circuits_<part>.csv`` as it runs, and skips the rows that the file
already has.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

from flda.circuits import (
    CircuitModel,
    fit_circuit,
    recover_circuit,
    simulate,
    support_recovery,
    system_recovery,
    unit_report,
)

OUT = Path(__file__).parent / "results"
CIRCUITS = ["1", "2", "3A", "3B"]
ARMS = [("signed", True), ("signed", False), ("unsigned", True), ("unsigned", False)]
N_SEEDS = 10
POOL = 5500


def penalty_of(circuit: str, kernels: int) -> float:
    """L1 weight in units of half the mean squared error, chosen on seeds that are not in the tables."""
    if circuit == "1":
        return 0.2
    return 0.005 if kernels <= 3 else 0.05


def rate_of(circuit: str) -> float:
    """Learning rate; the weights of circuit 1 are three times as large as those of the others."""
    return 0.1 if circuit == "1" else 0.03


def append(part: str, rows: list[dict]) -> None:
    path = OUT / f"circuits_{part}.csv"
    pd.DataFrame(rows).to_csv(
        path, mode="a", header=not path.exists(), index=False, float_format="%.6g", lineterminator="\n"
    )


def done(part: str, **keys) -> bool:
    path = OUT / f"circuits_{part}.csv"
    if not path.exists():
        return False
    table = pd.read_csv(path, dtype={"circuit": str})
    return bool(np.logical_and.reduce([table[name] == value for name, value in keys.items()]).any())


def dice(weights, truth) -> float:
    return support_recovery(weights, truth) if any((np.abs(w) > 0.07).any() for w in weights.values()) else 0.0


def r_squared(model: CircuitModel, fit: np.ndarray, X: np.ndarray, y: np.ndarray) -> float:
    return model.score(model.weights(fit), X, y)


def grid(circuits, kernels, samples, *, stimulus="smooth", restarts=2, part="grid") -> None:
    """System recovery, support recovery and test R^2 against the number of samples.

    Each seed has its own samples, starting weights and minibatches.
    """
    for name in circuits:
        for k in kernels:
            todo = [
                (n, arm)
                for n in samples
                for arm in ARMS
                if not done(part, circuit=name, kernels=k, n=n, signs=arm[0], l1=arm[1], stimulus=stimulus)
            ]
            if not todo:
                continue
            retina = simulate.retina_circuit(name, n_kernels=k, random_state=7)
            X, y = retina.sample(POOL, stimulus=stimulus, random_state=1)
            validation = retina.sample(500, stimulus=stimulus, random_state=2)
            X_test, y_test = retina.sample(500, stimulus=stimulus, random_state=3)
            for n, (signs, l1) in todo:
                model = retina.model if signs == "signed" else retina.model.unsigned()
                n_fits = N_SEEDS * restarts
                samples_of = np.repeat(np.arange(N_SEEDS), restarts)  # restarts of one seed have the same samples
                clock = time.perf_counter()
                fits = fit_circuit(
                    model, X, y, validation=validation, penalties=np.full(n_fits, penalty_of(name, k) if l1 else 0.0),
                    seeds=np.arange(n_fits) + 100, learning_rate=rate_of(name),
                    subsets=np.stack([np.random.default_rng(s).permutation(POOL)[:n] for s in samples_of]),
                )  # fmt: skip
                seconds = (time.perf_counter() - clock) / n_fits
                held = np.array([r_squared(model, f, *validation) for f in fits]).reshape(N_SEEDS, restarts)
                rows = []
                for seed, best in enumerate(held.argmax(axis=1)):
                    fit = fits[seed * restarts + best]
                    weights = model.weights(fit)
                    units = unit_report(model, weights, X_test)
                    rows.append(
                        {
                            "circuit": name, "kernels": k, "n": n, "stimulus": stimulus, "signs": signs, "l1": l1,
                            "penalty": penalty_of(name, k) if l1 else 0.0, "restarts": restarts, "seed": seed,
                            "r_sys": system_recovery(weights, retina.truth), "r_supp": dice(weights, retina.truth),
                            "r2_test": r_squared(model, fit, X_test, y_test),
                            "units_driven": int((units["active"] > 0.01).sum()), "seconds": seconds,
                        }
                    )  # fmt: skip
                append(part, rows)
                mean = pd.DataFrame(rows)[["r_sys", "r_supp", "r2_test"]].mean().round(3).to_dict()
                print(name, k, n, stimulus, signs, l1, mean, f"{seconds:.1f} s a fit", flush=True)


def wrong_signs() -> None:
    """Recovery and fit if some signs are wrong, and whether the held-out R^2 would show it to a user."""
    retina = simulate.retina_circuit("2", n_kernels=3)
    X, y = retina.sample(1400, random_state=11)
    X_val, y_val = retina.sample(500, random_state=12)
    X_test, y_test = retina.sample(500, random_state=13)
    true = np.flatnonzero(retina.model.parameters(retina.truth))

    def best_fit(model, target, target_val, penalty, seed):
        fits = fit_circuit(
            model, X, target, validation=(X_val, target_val), penalties=np.full(2, penalty),
            seeds=[2 * seed, 2 * seed + 1], learning_rate=0.03,
        )  # fmt: skip
        best = max(fits, key=lambda f: r_squared(model, f, X_val, target_val))
        return {
            "r_sys": system_recovery(model.weights(best), retina.truth),
            "r2_test": r_squared(model, best, X_test, y_test),
            "r2_validation": r_squared(model, best, X_val, target_val),
        }

    for noise in (0.0, 0.5):
        rng = np.random.default_rng(99)
        target, target_val = (v + noise * v.std() * rng.normal(size=v.shape) for v in (y, y_val))
        penalty = 0.005 if noise == 0 else 0.02
        for share in (None, 0.0, 0.01, 0.02, 0.05, 0.1, 0.2):
            if done("wrong_signs", share=-1.0 if share is None else share, noise=noise):
                continue
            rows = []
            for seed in range(5):
                signs = retina.model.signs.copy()
                flipped = np.random.default_rng(seed).choice(
                    len(signs), size=round((share or 0) * len(signs)), replace=False
                )
                signs[flipped] *= -1
                model = retina.model.unsigned() if share is None else retina.model.with_signs(signs)
                rows.append(
                    {
                        "noise": noise, "share": -1.0 if share is None else share, "seed": seed,
                        "true_flipped": int(np.isin(flipped, true).sum()),
                        **best_fit(model, target, target_val, penalty, seed),
                    }
                )  # fmt: skip
            append("wrong_signs", rows)
            print(pd.DataFrame(rows).mean().round(3).to_dict(), flush=True)


def reach() -> None:
    """Time and recovery of one call of recover_circuit: circuit 2, 3 kernels, 340 samples, signs and L1."""
    rows = []
    for seed in range(N_SEEDS):
        retina = simulate.retina_circuit("2", n_kernels=3)
        X, y = retina.sample(340, random_state=seed)
        held = retina.sample(500, random_state=1000 + seed)
        for label, options in (("one fit", {"penalties": [0.005], "n_restarts": 1}), ("path x restarts", {})):
            clock = time.perf_counter()
            found = recover_circuit(retina.model, X, y, validation=held, random_state=seed, **options)
            rows.append(
                {
                    "call": label, "seed": seed, "seconds": time.perf_counter() - clock, "penalty": found.penalty,
                    "r_sys": system_recovery(found.weights, retina.truth), "r_supp": dice(found.weights, retina.truth),
                    "r2_validation": float(found.path.loc[found.path["chosen"], "r2_validation"].iloc[0]),
                }
            )  # fmt: skip
            print(rows[-1], flush=True)
    append("reach", rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+")
    parser.add_argument("--circuits", nargs="+", default=CIRCUITS)
    parser.add_argument("--kernels", nargs="+", type=int, default=[3])
    parser.add_argument("--samples", nargs="+", type=int, default=[60, 340, 1400, 5500])
    args = parser.parse_args()
    for part in args.parts:
        if part == "grid":
            grid(args.circuits, args.kernels, args.samples, restarts=2 if max(args.kernels) <= 3 else 1)
        elif part == "white":
            grid(["2"], [3], [1400], stimulus="white")
        else:
            globals()[part]()


if __name__ == "__main__":
    main()
