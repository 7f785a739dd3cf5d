"""Speed and memory of the exact fit and the sparse axes, as ratios within one run (P1, P2 and P4).

    python benchmarks/speed.py [--quick]

Every measurement runs in its own process, which reads the data from disk and reports its wall time and the rise of its
memory over that of the data. The fit is timed three times and the median is reported; slow references run once. Prints
Markdown.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy
import scipy.linalg
import scipy.sparse as sp
import sklearn

import flda
from flda import FLDA, SparseFLDA
from flda._design.design import make_design
from flda._solve.within import Within, target_diagonal

G = 0.3  # fixed shrinkage of every fit here


# --- what is measured: each function takes the data and returns the function to be timed -----------------------


def fit(X, y, **options):
    return lambda: FLDA(shrinkage=G, **options).fit(X, y)


def fit_cv(X, y):
    return lambda: FLDA(random_state=0).fit(X, y)


def sparse(X, y):
    return lambda: SparseFLDA(shrinkage=G, n_genes=20).fit(X, y)


def sparse_first(X, y):
    return lambda: SparseFLDA(shrinkage=G, n_genes=20, n_components=1).fit(X, y)


def dense_flow(X, y):
    """Truncated Rayleigh flow of one effect on p x p matrices from the dense axis, without the time to form N and M."""
    objective, metric, axis = dense_pair(X, y)
    scale = np.sqrt(np.diag(metric))
    N, M = objective / np.outer(scale, scale), metric / np.outer(scale, scale)

    def work():
        largest = scipy.linalg.eigh(M, eigvals_only=True, subset_by_index=[len(M) - 1, len(M) - 1])[0]
        x, history = axis * scale, []
        while len(history) < 5000:
            x = np.where(np.abs(x) >= np.sort(np.abs(x))[-20], x, 0)
            x /= np.linalg.norm(x)
            Nx, Mx = N @ x, M @ x
            rho = (x @ Nx) / (x @ Mx)
            history.append(rho)
            if len(history) > 10 and np.ptp(history[-10:]) <= 1e-9 * abs(rho):
                break
            x = x + 0.9 / largest / rho * (Nx - rho * Mx)

    return work


def gram(X, y):
    """One BLAS product of the dense matrix with its transpose, over the smaller side."""
    dense = X.toarray().astype(np.float64) if sp.issparse(X) else np.asarray(X, np.float64)
    return (lambda: dense @ dense.T) if dense.shape[0] < dense.shape[1] else (lambda: dense.T @ dense)


def dense_eigh(X, y, *, whole: bool = False):
    """One effect by a dense generalised eigensolver, without the time to form the two matrices."""
    objective, metric, _ = dense_pair(X, y)
    last = len(objective) - 1
    return lambda: scipy.linalg.eigh(objective, metric, subset_by_index=None if whole else [last, last])


def whole_eigh(X, y):
    """The same with all eigenvectors, as scikit-learn's eigen solver and the reference implementation compute them."""
    return dense_eigh(X, y, whole=True)


def sklearn_lda(X, y):
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    labels = y.iloc[:, 0].to_numpy()
    k = len(np.unique(labels))
    return lambda: LinearDiscriminantAnalysis(solver="eigen", shrinkage=G, priors=np.full(k, 1 / k)).fit(X, labels)


def one_factor(X, y):
    return lambda: FLDA(shrinkage=G, shrinkage_target="identity", within="balanced").fit(X, y.iloc[:, 0])


def dense_pair(X, y):
    """N and M of the first effect, p x p, and its dense axis."""
    design = make_design(y)
    within = Within.from_data(X, design.codes, design.counts, "pooled")
    scatter = within.gene_scatter()
    metric = (1 - G) * scatter + G * np.diag(target_diagonal(np.diag(scatter), "diagonal"))
    own, *others = design.effects
    Q = design.scatter_weights(own) - sum(design.scatter_weights(e) for e in others)
    objective = within.centred_means.T @ Q @ within.centred_means
    return objective, metric, FLDA(shrinkage=G).fit(X, y).components_[0]


MEASURES = {
    f.__name__: f
    for f in (fit, fit_cv, gram, dense_eigh, whole_eigh, sklearn_lda, one_factor, sparse, sparse_first, dense_flow)
}


# --- one measurement, in its own process -----------------------------------------------------------------------


def memory(field: str) -> float:
    """GB of a field of /proc/self/status, such as VmHWM (the highest) or VmRSS (now)."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(field))
    return int(line.split()[1]) / 1e6


def measure(name: str, data: Path, repeats: int) -> dict[str, float]:
    with np.load(data / "labels.npz", allow_pickle=True) as stored:
        import pandas as pd

        y = pd.DataFrame({k: stored[k] for k in stored.files})
    X = sp.load_npz(data / "X.npz") if (data / "X.npz").exists() else np.load(data / "X.npy")
    np.ones((500, 500)) @ np.ones((500, 500))  # starts the threads of BLAS
    work = MEASURES[name](X, y)
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak of the memory to the present value
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return {"s": float(np.median(times)), "gb": memory("VmHWM") - before}


def in_child(name: str, data: Path, repeats: int = 1) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", name, str(data), str(repeats)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    print(f"  {name:<12} {result['s']:8.2f} s  {result['gb']:5.2f} GB", file=sys.stderr, flush=True)
    return result


def store(folder: Path, X, y) -> Path:
    folder.mkdir()
    if sp.issparse(X):
        sp.save_npz(folder / "X.npz", X, compressed=False)
    else:
        np.save(folder / "X.npy", X)
    np.savez(folder / "labels.npz", **{c: y[c].astype(str).to_numpy(dtype="U") for c in y})
    return folder


def p1(folder: Path, *, quick: bool) -> list[str]:
    n_cells, n_genes, n_small = (600, 3000, 800) if quick else (3833, 17492, 4000)
    adata = flda.datasets.t4t5_simulated(n_cells, n_genes)
    y = adata.obs[["dendrite", "axon"]]
    density = adata.X.nnz / np.prod(adata.shape)
    whole = store(folder / "p1", adata.X, y)
    small = store(folder / "p1_small", adata.X[:, :n_small].tocsr(), y)
    ours, blas, cv = in_child("fit", whole, 3), in_child("gram", whole, 3), in_child("fit_cv", whole)
    genes = in_child("sparse", whole, 3)
    genes_small, flow = in_child("sparse_first", small, 3), in_child("dense_flow", small)
    ours_small, blas_small = in_child("fit", small, 3), in_child("gram", small, 3)
    dense, full = in_child("dense_eigh", small), in_child("whole_eigh", small)
    return [
        f"P1: {n_cells:,} x {n_genes:,} CSR at {density:.0%}, 2 x 4, all effects",
        "",
        "| work | s | GB over the data | ratio | reach |",
        "|---|---|---|---|---|",
        f"| exact fit, fixed shrinkage | {ours['s']:.2f} | {ours['gb']:.2f} | | <= 1.5 GB |",
        f"| one BLAS Gram product (dense, float64) | {blas['s']:.2f} | | "
        f"fit / Gram = {ours['s'] / blas['s']:.2f} | <= 2 |",
        f"| fit with cross-validated shrinkage (default) | {cv['s']:.2f} | {cv['gb']:.2f} | "
        f"cv / fixed = {cv['s'] / ours['s']:.1f} | |",
        f"| exact fit of the first {n_small:,} genes, 3 effects | {ours_small['s']:.2f} | {ours_small['gb']:.2f} | "
        f"fit / Gram = {ours_small['s'] / blas_small['s']:.2f} | |",
        f"| dense generalised eigh, the same genes, 3 effects x top axis | {3 * dense['s']:.1f} | {dense['gb']:.2f} | "
        f"eigh / fit = {3 * dense['s'] / ours_small['s']:.0f} | >= 100 |",
        f"| dense generalised eigh, the same genes, 3 effects x all vectors | {3 * full['s']:.1f} | {full['gb']:.2f} | "
        f"eigh / fit = {3 * full['s'] / ours_small['s']:.0f} | >= 100 |",
        "",
        "P4: 20 genes for each of the 7 axes, the fit included",
        "",
        "| work | s | GB over the data | ratio | reach |",
        "|---|---|---|---|---|",
        f"| SparseFLDA, the matrix of P1 | {genes['s']:.2f} | {genes['gb']:.2f} | "
        f"sparse / fit = {genes['s'] / ours['s']:.2f} | <= 3 |",
        f"| SparseFLDA, first {n_small:,} genes, first axis of 3 effects | {genes_small['s']:.2f} | "
        f"{genes_small['gb']:.2f} | | |",
        f"| truncated Rayleigh flow on p x p matrices, 3 effects | {3 * flow['s']:.1f} | {flow['gb']:.2f} | "
        f"flow / sparse = {3 * flow['s'] / genes_small['s']:.0f}; over the selection alone "
        f"{3 * flow['s'] / max(genes_small['s'] - ours_small['s'], 1e-3):.0f} | >= 100 |",
    ]


def p2(folder: Path, *, quick: bool) -> list[str]:
    n_cells, n_genes = (4000, 400) if quick else (20_000, 2000)
    rng = np.random.default_rng(0)
    codes = rng.integers(8, size=n_cells)
    X = rng.normal(size=(n_cells, n_genes)) + rng.normal(scale=0.3, size=(8, n_genes))[codes]
    import pandas as pd

    data = store(folder / "p2", X, pd.DataFrame({"type": codes.astype(str)}))
    ours, theirs = in_child("one_factor", data, 3), in_child("sklearn_lda", data, 3)
    blas = in_child("gram", data, 3)
    return [
        f"P2: {n_cells:,} x {n_genes:,} dense, one factor of 8 levels, same shrinkage, equal priors",
        "",
        "| work | s | GB over the data | ratio | reach |",
        "|---|---|---|---|---|",
        f"| FLDA | {ours['s']:.2f} | {ours['gb']:.2f} | fit / Gram = {ours['s'] / blas['s']:.2f} | |",
        f"| scikit-learn LDA(solver='eigen') | {theirs['s']:.1f} | {theirs['gb']:.2f} | "
        f"scikit-learn / FLDA = {theirs['s'] / ours['s']:.0f} | >= 10 |",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, to check that it runs")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        name, data, repeats = args.measure
        print(json.dumps(measure(name, Path(data), int(repeats))))
        return
    with tempfile.TemporaryDirectory() as folder:
        lines = [*p1(Path(folder), quick=args.quick), "", *p2(Path(folder), quick=args.quick)]
    print(
        f"{dt.date.today()}, {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, "
        f"numpy {np.__version__}, scipy {scipy.__version__}, scikit-learn {sklearn.__version__}, "
        f"flda {flda.__version__}\n"
    )
    print("\n".join(lines))


if __name__ == "__main__":
    main()
