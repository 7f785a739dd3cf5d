"""Speed and memory as ratios within one run, and one table of what is reached.

    python benchmarks/speed.py [--quick] [--only P1 P5 ...] [--clock processor] [--repeats 3]

Every measurement runs in its own process, which reads the data from disk, works three times, and reports the median of
its times and the rise of its memory over that of the data. Times are those of the clock on the wall; with
``--clock processor`` they are processor seconds, which other programs on the machine disturb less. With one thread of
BLAS and numba both are the same on an idle machine. The variable OPENBLAS_CORETYPE is not passed on, so that the BLAS
picks its kernel by itself; kernel and threads are printed. ``--quick`` takes small sizes, at which nothing can be
reached or missed, and works once and in this process, to check that it runs. Prints Markdown.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime as dt
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numba
import numpy as np
import pandas as pd
import scipy
import scipy.linalg
import scipy.sparse as sp
import sklearn

import flda
from flda import FLDA, SparseFLDA
from flda._data import arrays
from flda._design.make import make_design
from flda._solve import residuals
from flda._solve.residuals import target_diagonal
from flda._solve.within import Within

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


def flips(X, y):
    """1,000 flips of every effect."""
    from flda.inference import effect_tests

    return lambda: effect_tests(FLDA(shrinkage=G), X, y, n_resamples=1000)


def passes(X, y):
    """The default fit through AnnData; :func:`measure` counts how often it reads X."""
    import anndata as ad

    adata = ad.AnnData(X, obs=y.set_axis(y.index.astype(str)))
    return lambda: flda.tl.flda(adata, list(y))


def passes_on_disk(X, y):
    """The same of a file, opened with ``backed="r"``: how often every row of the file is read."""
    import anndata as ad

    class Counted:
        def __init__(self, source):
            self.source, self.shape, self.dtype, self.rows = source, source.shape, source.dtype, 0

        def __getitem__(self, rows):
            self.rows += rows.stop - rows.start
            return self.source[rows]

    def work():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "data.h5ad"
            ad.AnnData(X, obs=y.set_axis(y.index.astype(str))).write_h5ad(path)
            adata, of = ad.read_h5ad(path, backed="r"), arrays.Stream.of
            source = Counted(adata.X)
            arrays.Stream.of = lambda matrix: of(source)
            try:
                flda.tl.flda(adata, list(y))
            finally:
                arrays.Stream.of = of
            return source.rows / source.shape[0]

    return work


def rank(X, y):
    """The ranking of the genes after the default fit."""
    import anndata as ad

    adata = ad.AnnData(X, obs=y.set_axis(y.index.astype(str)))
    flda.tl.flda(adata, list(y))
    return lambda: flda.tl.rank_genes(adata)


def pca(X, y):
    import anndata as ad
    import scanpy as sc

    return lambda: sc.pp.pca(ad.AnnData(X))


def whole_run(X, y):
    """``flda run`` with its defaults, in a process of its own."""
    import anndata as ad

    def work():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "data.h5ad"
            ad.AnnData(X, obs=y.set_axis(y.index.astype(str))).write_h5ad(path)
            command = [sys.executable, "-m", "flda", "run", str(path), "--factors", *y, "--out", f"{folder}/out"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    return work


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
    scatter = (held := Within.from_data(X, design.codes, design.counts, "pooled")).gene_scatter()
    metric = (1 - G) * scatter + G * np.diag(target_diagonal(np.diag(scatter), "diagonal"))
    own, *others = design.effects
    Q = design.scatter_weights(own) - sum(design.scatter_weights(e) for e in others)
    objective = held.centred_means.T @ Q @ held.centred_means
    return objective, metric, FLDA(shrinkage=G).fit(X, y).components_[0]


MEASURES = {
    f.__name__: f
    for f in (
        fit,
        fit_cv,
        gram,
        dense_eigh,
        whole_eigh,
        sklearn_lda,
        one_factor,
        sparse,
        sparse_first,
        dense_flow,
        flips,
        passes,
        passes_on_disk,
        rank,
        pca,
        whole_run,
    )
}


# --- one measurement, in its own process -----------------------------------------------------------------------


def memory(field: str) -> float:
    """GB of a field of /proc/self/status, such as VmHWM (the highest) or VmRSS (now)."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(field))
    return int(line.split()[1]) / 1e6


def processor_seconds() -> float:
    """Processor seconds of this process and of the processes that it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


CLOCKS = {"wall": time.perf_counter, "processor": processor_seconds}


def measure(name: str, data: Path, repeats: int, clock: str) -> dict[str, float]:
    with np.load(data / "labels.npz", allow_pickle=True) as stored:
        y = pd.DataFrame({k: stored[k] for k in stored.files})
    X = sp.load_npz(data / "X.npz") if (data / "X.npz").exists() else np.load(data / "X.npy")
    np.ones((500, 500)) @ np.ones((500, 500))  # starts the threads of BLAS
    if name not in ("gram", "sklearn_lda", "pca", "whole_run"):  # compiles loops, or reads them from the disk
        fit(*tiny())()
    work = MEASURES[name](X, y)
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak of the memory to the present value
    times, read = [], []
    for _ in range(repeats):
        start = CLOCKS[clock]()
        with counted(X.shape) as cells:
            found = work()
        times.append(CLOCKS[clock]() - start)
        read.append(found if isinstance(found, float) else sum(cells) / X.shape[0])
    return {"s": float(np.median(times)), "gb": memory("VmHWM") - before, "passes": float(np.median(read))}


def tiny() -> tuple[sp.csr_array, pd.DataFrame]:
    """A few cells."""
    X = sp.random_array((64, 30), density=0.1, format="csr", rng=np.random.default_rng(0), dtype=np.float32)
    return X, pd.DataFrame({"type": (np.arange(64) % 2).astype(str)})


@contextlib.contextmanager
def counted(shape: tuple[int, int]) -> Iterator[list[int]]:
    """Count the cells of X, or of some of its cells, that are visited in blocks or by a compiled product."""
    seen: list[int] = []
    row_blocks, sparse_times, scatter_times = arrays.row_blocks, arrays.sparse_times, residuals.scatter_times

    def blocks(X, n_bytes=None):
        for rows, block in row_blocks(X, n_bytes):
            if X.shape[1] == shape[1]:
                seen.append(rows.stop - rows.start)
            yield rows, block

    def product(X, B):
        if shape[1] in X.shape:
            seen.append(X.shape[0] if X.shape[1] == shape[1] else X.shape[1])
        return sparse_times(X, B)

    def scatter(X, *others):
        seen.append(X.shape[0])
        return scatter_times(X, *others)

    arrays.row_blocks, arrays.sparse_times, residuals.scatter_times = blocks, product, scatter
    try:
        yield seen
    finally:
        arrays.row_blocks, arrays.sparse_times, residuals.scatter_times = row_blocks, sparse_times, scatter_times


@dataclasses.dataclass
class Plan:
    """How everything is measured."""

    quick: bool = False
    clock: str = "wall"
    repeats: int = 3

    def __call__(self, name: str, data: Path, repeats: int | None = None) -> dict[str, float]:
        """Measure one piece of work."""
        if self.quick:
            result = measure(name, data, 1, self.clock)
        else:
            command = [sys.executable, __file__, "--measure", name, str(data), str(repeats or self.repeats), self.clock]
            environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
            result = json.loads(done.stdout.splitlines()[-1])
        print(f"  {name:<14} {result['s']:8.2f} s  {result['gb']:5.2f} GB", file=sys.stderr, flush=True)
        return result

    def of_scale(self, name: str, path: Path, n_cells: int, n_genes: int) -> dict[str, float]:
        """Measure one piece of work of scale.py; every repeat reads the file again."""
        import scale

        found = [
            scale.measure(name, path) if self.quick else scale.in_child(name, path, n_cells, n_genes)
            for _ in range(1 if self.quick else self.repeats)
        ]
        column = {"wall": "seconds", "processor": "processor seconds"}[self.clock]
        return {"s": float(np.median([each[column] for each in found])), "gb": max(each["GB"] for each in found)}


def store(folder: Path, X, y) -> Path:
    folder.mkdir()
    if sp.issparse(X):
        sp.save_npz(folder / "X.npz", X, compressed=False)
    else:
        np.save(folder / "X.npy", X)
    np.savez(folder / "labels.npz", **{c: y[c].astype(str).to_numpy(dtype="U") for c in y})
    return folder


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the table: what was measured, the number that counts, and its limit (an upper one, or a lower one)."""

    id: str
    work: str
    measured: str
    value: float
    limit: float
    at_least: bool = False

    def text(self, *, quick: bool) -> str:
        ratio = self.limit / self.value if self.at_least else self.value / self.limit
        verdict = "small size" if quick else "reached" if ratio <= 1 else f"not reached, {ratio:.2f} x too slow"
        limit = f"{'>=' if self.at_least else '<='} {self.limit:g}"
        return f"| {self.id} | {self.work} | {self.measured} | {self.value:.2f} | {limit} | {verdict} |"


def t4t5(folder: Path, run: Plan) -> Iterator[Row]:
    n_cells, n_genes, n_small = (600, 3000, 400) if run.quick else (3833, 17492, 2000)
    adata = flda.datasets.t4t5_simulated(n_cells, n_genes)
    y, density = adata.obs[["dendrite", "axon"]], adata.X.nnz / np.prod(adata.shape)
    whole = store(folder / "p1", adata.X, y)
    small = store(folder / "p5", adata.X[:, :n_small].tocsr(), y)
    size = f"{n_cells:,} x {n_genes:,} CSR at {density:.0%}, 2 x 4"
    ours, blas, cv = (run(name, whole) for name in ("fit", "gram", "fit_cv"))
    yield Row("P1", f"fixed g, {size}", seconds(fit=ours, Gram=blas), ours["s"] / blas["s"], 1)
    yield Row("P1cv", "the same, cross-validated g", seconds(cv=cv, fixed=ours), cv["s"] / ours["s"], 1.5)
    genes = run("sparse", whole)
    yield Row("P4", "20 genes per axis at P1", seconds(sparse=genes, fit=ours), genes["s"] / ours["s"], 2)
    tests = run("flips", small)
    yield Row("P5", f"1,000 flips, {n_cells:,} x {n_small:,}", seconds(flips=tests), tests["s"], 3)
    reads = run("passes", small)
    yield Row("P9", "passes over X of tl.flda, in memory", seconds(fit=reads), reads["passes"], 5)
    reads = run("passes_on_disk", small, 1)
    yield Row("P9", "passes over X of tl.flda, on disk", seconds(fit=reads), reads["passes"], 4)


def lda(folder: Path, run: Plan) -> Iterator[Row]:
    n_cells, n_genes = (4000, 400) if run.quick else (20_000, 2000)
    rng = np.random.default_rng(0)
    codes = rng.integers(8, size=n_cells)
    X = rng.normal(size=(n_cells, n_genes)) + rng.normal(scale=0.3, size=(8, n_genes))[codes]
    data = store(folder / "p2", X, pd.DataFrame({"type": codes.astype(str)}))
    ours, theirs = run("one_factor", data), run("sklearn_lda", data)
    work = f"{n_cells:,} x {n_genes:,} dense, 8 classes, against scikit-learn's LDA(eigen)"
    yield Row("P2", work, seconds(flda=ours, sklearn=theirs), theirs["s"] / ours["s"], 5, at_least=True)


def million(folder: Path, run: Plan) -> Iterator[Row]:
    import scale

    n_cells, n_genes = (10_000, 500) if run.quick else (1_000_000, 2000)
    path = scale.store(folder / "p3.h5ad", n_cells, n_genes)
    names = ("in_memory", "streamed", "in_memory_cv", "scanpy_pca")
    found = {name: run.of_scale(name, path, n_cells, n_genes) for name in names}
    for name, limit in zip(names[:3], (0.15, 0.25, 0.3), strict=True):
        pair = {"flda": found[name], "PCA": found["scanpy_pca"]}
        work = f"{n_cells:,} x {n_genes:,} CSR 5 %, {name}, against scanpy's PCA"
        yield Row("P3", work, seconds(**pair), found[name]["s"] / found["scanpy_pca"]["s"], limit)
    tests = run.of_scale("flips", path, n_cells, n_genes)
    yield Row("P5", f"1,000 flips, {n_cells:,} x {n_genes:,} CSR 5 %", seconds(flips=tests), tests["s"], 120)
    yield Row("P5", "the same, memory over the data, GB", seconds(flips=tests), tests["gb"], 0.5)


def rnamix(folder: Path, run: Plan) -> Iterator[Row]:
    adata = flda.datasets.t4t5_simulated(300, 200) if run.quick else flda.datasets.rnamix()
    factors = ["dendrite", "axon"] if run.quick else ["mixture", "amount"]
    data = store(folder / "p6", adata.X, adata.obs[factors])
    ours = run("whole_run", data)
    yield Row("P6", "flda run, " + ("small" if run.quick else "RNA mixtures"), seconds(run=ours), ours["s"], 30)


def transcriptome(folder: Path, run: Plan) -> Iterator[Row]:
    n_cells, n_genes = (800, 900) if run.quick else (30_000, 18_000)
    rng = np.random.default_rng(0)
    codes = rng.integers(20, size=n_cells)
    boost = 1 + rng.exponential(0.3, size=(20, n_genes)).astype(np.float32)
    parts = []
    for rows in np.array_split(np.arange(n_cells), max(1, n_cells // 2000)):
        part = sp.random_array((len(rows), n_genes), density=0.08, format="coo", rng=rng, dtype=np.float32)
        part.data *= boost[codes[rows][part.coords[0]], part.coords[1]]
        parts.append(part.tocsr())
    y = pd.DataFrame({"type": (codes // 2).astype(str), "cond": (codes % 2).astype(str)})
    data = store(folder / "p11", sp.csr_matrix(sp.vstack(parts)), y)
    ours, genes, theirs = run("passes", data, 1), run("rank", data, 1), run("pca", data, 1)
    work = f"{n_cells:,} x {n_genes:,} CSR 8 %, 10 x 2, against scanpy's PCA"
    yield Row("P11", f"tl.flda, {work}", seconds(flda=ours, PCA=theirs), ours["s"] / theirs["s"], 3)
    yield Row("P11", f"rank_genes, {work}", seconds(rank=genes, PCA=theirs), genes["s"] / theirs["s"], 6)
    yield Row("P11", "memory over the data, GB", seconds(flda=ours), max(ours["gb"], genes["gb"]), 2)


def seconds(**found: dict[str, float]) -> str:
    """Write times for the table."""
    return ", ".join(f"{name} {each['s']:.2f} s" for name, each in found.items())


def environment() -> str:
    """Describe the machine, the versions, and the BLAS as a process without OPENBLAS_CORETYPE finds it."""
    code = (
        'import numpy, scipy.linalg, threadpoolctl as t; print(*sorted({f\'{x["internal_api"]} {x["architecture"]}, '
        "{x[\"num_threads\"]} threads' for x in t.threadpool_info() if x['user_api'] == 'blas'}), sep='; ')"
    )
    free = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}
    blas = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=free).stdout
    return (
        f"{dt.date.today()}, {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, "
        f"numpy {np.__version__}, scipy {scipy.__version__}, scikit-learn {sklearn.__version__}, "
        f"flda {flda.__version__}; BLAS: {blas.strip()}; numba: {numba.config.NUMBA_NUM_THREADS} threads"
    )


GROUPS = {
    t4t5: ("P1", "P1cv", "P4", "P5", "P9"), lda: ("P2",), million: ("P3",), rnamix: ("P6",), transcriptome: ("P11",),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, to check that it runs")
    parser.add_argument("--only", nargs="+", help="rows of the table, such as P1; their group is measured")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="what a second is (default wall)")
    parser.add_argument("--repeats", type=int, default=3, help="of which the median counts (default 3)")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        name, data, repeats, clock = args.measure
        print(json.dumps(measure(name, Path(data), int(repeats), clock)))
        return
    print(f"{environment()}; {args.clock} seconds, medians of {1 if args.quick else args.repeats}\n")
    print("| id | work | measured | value | reach | |\n|---|---|---|---|---|---|")
    run = Plan(args.quick, args.clock, args.repeats)
    with tempfile.TemporaryDirectory() as folder:
        for group, ids in GROUPS.items():
            if args.only and not set(ids) & set(args.only):
                continue
            for row in group(Path(folder), run):
                print(row.text(quick=args.quick), flush=True)


if __name__ == "__main__":
    main()
