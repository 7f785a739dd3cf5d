"""Rules between genes, for ``wiring.py``: gap junctions of the worm, binding pairs, and the speed of the fit."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.metrics import roc_auc_score

from flda import datasets
from flda.circuits.wiring import BilinearModel, SpatialConnectomeModel, cross_validate, differential_expression

RESULTS = Path(__file__).parent / "results"


def write(name: str, rows: list[dict] | pd.DataFrame) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    RESULTS.mkdir(exist_ok=True)
    table.to_csv(RESULTS / f"wiring_{name}.csv", index=False, float_format="%.5g", lineterminator="\n")
    return table


def worm() -> None:
    """Gap junctions predicted from innexins: in sample, and for held-out pairs, neurons and classes, with nulls."""
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
        plain = {"contact": C, "classes": data["classes"], "n_nulls": 0, "n_resamples": 0}
        again = [cross_validate(model, X, B, **plain, random_state=k)["score"] for k in (1, 2, 3)]  # with other folds
        table["sd_partitions"] = pd.concat([table["score"], *again], axis=1).std(axis=1)
        rows.append(table.rename_axis("held_out").reset_index().assign(model=name))
        print(name, table[["score", "permutation_mean", "degree_mean"]].round(3).to_dict("index"), flush=True)
        write("worm", pd.concat(rows))


def rules() -> None:
    """Single rules compared with random networks, and pairs of genes with neurons or whole classes permuted."""
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
    """Recovery of known rules: wiring is simulated from the measured binding pairs of Beat, Side, dpr and DIP.

    Each of 150 types expresses each of these genes with probability 0.15, and half of the ordered pairs of types touch.
    The log odds of a connection are -4, plus effects of both types (standard deviation 0.7), plus 0.8 for each measured
    pair of which one gene is expressed by the presynaptic and the other by the postsynaptic type (either way round).
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
        found = differential_expression(X, B, contact=C, directed=True, n_resamples=999, random_state=seed)
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
    """Seconds in which alternating gradient steps reach each goal.

    The objective is ``sum c (b - x'A B'x)^2 + alpha / 2 (|A|^2 + |B|^2)``.
    """
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
    """Seconds until the objective is close to the best, for exact alternating solutions and for gradient descent.

    Gradient descent is as published: alternating steps of one size, from small random factors. Each of four step sizes
    may take ``seconds`` of processor time, so a ratio may be a lower bound.
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


def network(n: int, n_genes: int = 50) -> tuple[np.ndarray, sp.csr_array, sp.csr_array, np.ndarray]:
    """Genes of n neurons in families of four, connections, about 100 contacts each, and the families."""
    rng = np.random.default_rng(0)
    family = np.repeat(np.arange(n // 4), 4)
    X = (rng.random((n // 4, n_genes)) < 0.3).astype(float)[family]
    i, j = np.repeat(np.arange(n), 100), rng.integers(0, n, 100 * n)
    key = np.unique((i * n + j)[i != j])
    i, j = np.divmod(key, n)
    effects = rng.normal(size=(2, n))
    odds = -2 + 0.5 * effects[0][i] + 0.5 * effects[1][j] + 0.8 * X[i, 0] * X[j, 1]
    b = (rng.random(len(i)) < 1 / (1 + np.exp(-odds))).astype(float)
    return X, *(sp.csr_array((values, (i, j)), (n, n)) for values in (b, np.ones(len(i)))), family


def sparse() -> None:
    """Processor seconds and memory of differential expression on sparse networks of growing size."""
    rows = []
    for n, n_resamples in ((248, 99), (1000, 99), (2000, 0), (2000, 99), (2000, 999), (4000, 99), (10_000, 99)):
        X, B, C, family = network(n)
        classes = family if n_resamples == 999 else None
        start = time.process_time()
        differential_expression(X, B, contact=C, directed=True, classes=classes, n_resamples=n_resamples)
        rows.append({"neurons": n, "pairs": C.nnz, "permutations": n_resamples, **_used(start)})
        print(rows[-1], flush=True)
        write("sparse", rows)


def sparse_models() -> None:
    """Processor seconds and memory of the models of wiring and of cross-validation on the same networks."""
    rows = []
    for n in (248, 1000, 3000, 10_000):
        for n_genes, name, model in (
            (20, "SCM, penalty by GCV", SpatialConnectomeModel(directed=True)),
            (20, "bilinear, d = 3", BilinearModel(3, alpha=1.0, directed=True, tol=1e-5)),
            (100, "SCM, penalty 100", SpatialConnectomeModel(100.0, directed=True)),
            (100, "bilinear, d = 3", BilinearModel(3, alpha=1.0, directed=True, tol=1e-5)),
        ):
            X, B, C, _ = network(n, n_genes)
            start = time.process_time()
            model.fit(X, B, contact=C)
            rows.append({"neurons": n, "genes": n_genes, "what": name, **_used(start)})
            print(rows[-1], flush=True)
        X, B, C, family = network(n, 20)
        start = time.process_time()
        model = SpatialConnectomeModel(10.0, directed=True)
        table = cross_validate(model, X, B, contact=C, classes=family, n_nulls=1, n_resamples=50)
        rows.append({"neurons": n, "genes": 20, "what": "cross-validation, 3 nulls", **_used(start)})
        rows[-1]["held-out classes"] = table.loc["classes", "score"]
        print(rows[-1], flush=True)
        write("sparse_models", rows)


def _used(start: float) -> dict[str, float]:
    """Seconds of the processor since the start, and the largest memory so far."""
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"seconds": time.process_time() - start, "MB": megabytes}
