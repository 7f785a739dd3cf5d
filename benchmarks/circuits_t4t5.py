"""T4 and T5: input weights from the fly connectome, recovered from simulated activity of the inputs.

    FLDA_DATA_DIR=... python benchmarks/circuits_t4t5.py          # about five minutes on one core

The true weight of every input (type, column offset) of T4a-d and T5a-d is its sign times its mean synapse count in the
flyvis connectome. Candidate inputs are all input types of the cell in every column within a distance of four. Activity
is simulated: the columns receive a Gaussian contrast field with exponential spatial correlation (length 2 columns). An
input type responds, with its polarity, to 0.8 times that field plus 0.6 times a field of its own, rectified. The
response is linear, with noise of half its standard deviation. The penalty is chosen on validation samples: the largest
within one standard error of the best.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import lasso_path

from flda import datasets
from flda.circuits import SignedLinear, signs_from_transmitters, support_recovery, system_recovery

OUT = Path(__file__).parent / "results"
SAMPLES = (50, 100, 200, 400, 800)
N_SEEDS, N_HELD, NOISE = 10, 500, 0.5


def candidates(edges: pd.DataFrame, post: str) -> pd.DataFrame:
    """All candidate inputs (type, column) of a type, with their true signed weights."""
    own = edges[edges["post"] == post].copy()
    own["weight"] = own["n_synapses"] * own["sign"]
    hexagon = [(u, v) for u in range(-4, 5) for v in range(-4, 5) if abs(u + v) <= 4]
    full = pd.MultiIndex.from_tuples(
        [(pre, u, v) for pre in sorted(own["pre"].unique()) for u, v in hexagon], names=["pre", "du", "dv"]
    )
    full = full.union(pd.MultiIndex.from_frame(own[["pre", "du", "dv"]]))
    table = own.set_index(["pre", "du", "dv"])["weight"].reindex(full, fill_value=0.0).reset_index()
    table["sign"] = table["pre"].map(own.groupby("pre")["sign"].first())
    return table


def activity(table: pd.DataFrame, n: int, rng: np.random.Generator) -> np.ndarray:
    """Rectified and correlated responses of all candidate inputs."""
    columns = table[["du", "dv"]].drop_duplicates().to_numpy(float)
    xy = np.column_stack([columns[:, 0] + columns[:, 1] / 2, columns[:, 1] * np.sqrt(3) / 2])
    distance = np.linalg.norm(xy[:, None] - xy[None], axis=2)
    root = np.linalg.cholesky(np.exp(-distance / 2.0) + 1e-9 * np.eye(len(xy)))
    at = pd.MultiIndex.from_arrays(columns.T.astype(int))
    shared = rng.normal(size=(n, len(xy))) @ root.T
    X = np.empty((n, len(table)))
    for i, (_, part) in enumerate(table.groupby("pre")):
        own = rng.normal(size=(n, len(xy))) @ root.T
        polarity = 1.0 if i % 2 else -1.0
        field = np.maximum(polarity * 0.8 * shared + 0.6 * own + 0.5, 0)
        X[:, part.index] = field[:, at.get_indexer(pd.MultiIndex.from_frame(part[["du", "dv"]]))]
    return X


def choose(path: np.ndarray, X: np.ndarray, y: np.ndarray) -> int:
    """Largest penalty (first of the path) within one standard error of the best."""
    errors = np.stack([((y - y.mean()) - (X - X.mean(0)) @ w) ** 2 for w in path])
    mean, best = errors.mean(axis=1), errors.mean(axis=1).argmin()
    paired = (errors - errors[best]).std(axis=1) / np.sqrt(len(y))
    return int(np.flatnonzero(mean <= mean[best] + np.maximum(paired, 1e-12))[0])


def main() -> None:
    warnings.simplefilter("ignore")  # the unsigned lasso does not converge for its smallest penalties
    edges = datasets.flyvis_connectome()
    measured = signs_from_transmitters(datasets.flywire_optic_types())
    posts = [f"{t}{a}" for t in ("T4", "T5") for a in "abcd"]
    signs_table, rows = [], []
    for post in posts:
        table = candidates(edges, post)
        from_transmitter = table["pre"].str.split("(").str[0].map(measured)
        for pre, part in table.groupby("pre"):
            signs_table.append(
                {
                    "post": post, "pre": pre, "synapses": part["weight"].abs().sum(),
                    "sign_connectome": part["sign"].iloc[0],
                    "sign_transmitter": from_transmitter[part.index[0]],
                }
            )  # fmt: skip
        truth = table["weight"].to_numpy()
        arms = {
            "signs of the connectome": table["sign"].to_numpy(float),
            "signs of transmitters": from_transmitter.to_numpy(float),
            "no signs": np.full(len(table), np.nan),
        }
        for seed in range(N_SEEDS):
            rng = np.random.default_rng([posts.index(post), seed])
            X = activity(table, max(SAMPLES) + 2 * N_HELD, rng)
            clean = X @ truth
            y = clean + NOISE * clean.std() * rng.normal(size=len(clean))
            held, test = slice(-2 * N_HELD, -N_HELD), slice(-N_HELD, None)
            same: list[dict] = []
            for n in SAMPLES:
                A, b = X[:n], y[:n]
                Ac, bc = A - A.mean(0), b - b.mean()
                for arm, signs in arms.items():
                    if arm == "signs of transmitters" and np.array_equal(signs, arms["signs of the connectome"]):
                        rows += [{**row, "signs": arm} for row in same if row["penalty"] == "L1"]  # the same fit
                        continue
                    if arm == "no signs":
                        alphas = np.abs(Ac.T @ bc).max() / n * np.geomspace(1, 1e-3, 20)
                        fits = {"L1": lasso_path(Ac, bc, alphas=alphas, max_iter=2000)[1].T}
                    else:
                        fits = {"L1": SignedLinear(signs).path(A, b, n_alphas=20)[1]}
                    if arm == "signs of the connectome":
                        fits["none"] = SignedLinear(signs).fit(A, b).coef_[None]
                    same = []
                    for penalty, path in fits.items():
                        w = path[choose(path, X[held], y[held])]
                        predicted = (X[test] - A.mean(0)) @ w + b.mean()
                        big = np.abs(w) > 0.3
                        same.append(
                            {
                                "post": post, "seed": seed, "n": n, "signs": arm, "penalty": penalty,
                                "r_sys": system_recovery(w, truth),
                                "r_supp": support_recovery(w, truth, threshold=0.3) if big.any() else 0.0,
                                "r2_test": 1 - ((clean[test] - predicted) ** 2).mean() / clean[test].var(),
                            }
                        )  # fmt: skip
                    rows += same
        print(post, len(table), int((truth != 0).sum()), flush=True)
        pd.DataFrame(rows).to_csv(OUT / "circuits_t4t5.csv", index=False, float_format="%.5g", lineterminator="\n")
    pd.DataFrame(signs_table).to_csv(
        OUT / "circuits_t4t5_signs.csv", index=False, float_format="%.5g", lineterminator="\n"
    )


if __name__ == "__main__":
    main()
