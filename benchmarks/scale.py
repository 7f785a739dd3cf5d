"""Time and memory from ten thousand to a million cells, in memory and streamed (P3 and P6).

    python benchmarks/scale.py [--quick | --kernel]

The data are simulated CSR matrices of 5 % density in 2 x 4 groups, float32, with values like those of log-normalised
expression. Every measurement runs in its own process, which reads the data and reports wall time, processor time and
the rise of its memory during the work (streamed: from before the file is opened). PCA is scanpy's with its defaults
(50 components); incremental PCA is scikit-learn's on dense batches of 4,096, and LDA scikit-learn's with its
eigensolver. Prints Markdown and writes results/scale.csv and results/scale.png. ``--kernel`` compares, by density, the
compiled product of sparse rows with BLAS on the same rows as a dense block; ``arrays.THIN`` is the density at which
both are equally fast.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scipy.sparse as sp
import seaborn as sns

from flda import FLDA
from flda._data import arrays
from flda._data.kernels import add_sparse_gram
from flda._data.symmetric import add_products

OUT = Path(__file__).parent / "results"
G = 0.3
DENSITY = 0.05
FACTORS = ["dendrite", "axon"]


def simulated(n_cells: int, n_genes: int, density: float = DENSITY) -> tuple[sp.csr_matrix, pd.DataFrame]:
    """Simulate cells in blocks, so that this needs little more memory than the result."""
    rng = np.random.default_rng(0)
    codes = rng.integers(8, size=n_cells)
    boost = 1 + rng.exponential(0.3, size=(8, n_genes)).astype(np.float32)
    blocks = []
    for start in range(0, n_cells, 20_000):
        n = min(20_000, n_cells - start)
        per_cell = np.sort(rng.integers(n_genes, size=(n, int(density * n_genes))), axis=1).astype(np.int32)
        rows = np.repeat(np.arange(n), per_cell.shape[1])
        values = rng.exponential(1.0, size=per_cell.size).astype(np.float32)
        values *= boost[codes[start + rows], per_cell.ravel()]
        block = sp.csr_matrix((values, (rows, per_cell.ravel())), shape=(n, n_genes))
        blocks.append(block)
    X = sp.vstack(blocks, format="csr")
    obs = pd.DataFrame({"dendrite": (codes // 4).astype(str), "axon": (codes % 4).astype(str)})
    obs.index = obs.index.astype(str)
    return X, obs


def store(path: Path, n_cells: int, n_genes: int) -> Path:
    """Simulate cells and write them."""
    X, obs = simulated(n_cells, n_genes)
    ad.AnnData(X, obs=obs).write_h5ad(path)
    return path


def in_memory(path: Path):
    adata = ad.read_h5ad(path)
    return adata, lambda: FLDA(shrinkage=G).fit(adata.X, adata.obs[FACTORS])


def in_memory_cv(path: Path):
    adata = ad.read_h5ad(path)
    return adata, lambda: FLDA(random_state=0).fit(adata.X, adata.obs[FACTORS])


def streamed(path: Path):
    def work():
        adata = ad.read_h5ad(path, backed="r")
        FLDA(shrinkage=G).fit(arrays.Stream.of(adata.X), adata.obs[FACTORS])

    return None, work


def streamed_cv(path: Path):
    def work():
        adata = ad.read_h5ad(path, backed="r")
        FLDA(random_state=0).fit(arrays.Stream.of(adata.X), adata.obs[FACTORS])

    return None, work


def flips(path: Path):
    """1,000 random signs of every effect."""
    from flda.inference import effect_tests

    adata = ad.read_h5ad(path)
    return adata, lambda: effect_tests(FLDA(shrinkage=G), adata.X, adata.obs[FACTORS], n_resamples=1000)


def sklearn_lda(path: Path):
    """The model of one factor of all groups, on a dense copy of the data, which it needs."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    adata = ad.read_h5ad(path)
    labels = adata.obs[FACTORS].agg("".join, axis=1).to_numpy()
    model = LinearDiscriminantAnalysis(solver="eigen", shrinkage=G)
    return adata, lambda: model.fit(adata.X.toarray().astype(np.float64), labels)


def iterative(path: Path):
    adata = ad.read_h5ad(path)
    return adata, lambda: FLDA(shrinkage=G, solver="iterative").fit(adata.X, adata.obs[FACTORS])


def scanpy_pca(path: Path):
    import scanpy as sc

    adata = ad.read_h5ad(path)
    return adata, lambda: sc.pp.pca(adata)


def incremental_pca(path: Path):
    from sklearn.decomposition import IncrementalPCA

    adata = ad.read_h5ad(path)

    def work():
        model = IncrementalPCA(50)
        for start in range(0, adata.n_obs - 50, 4096):
            model.partial_fit(adata.X[start : start + 4096].toarray())

    return adata, work


MEASURES = {
    f.__name__: f
    for f in (
        in_memory,
        in_memory_cv,
        streamed,
        streamed_cv,
        iterative,
        flips,
        scanpy_pca,
        sklearn_lda,
        incremental_pca,
    )
}


def memory(field: str) -> float:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(field))
    return int(line.split()[1]) / 1e6


def measure(name: str, path: Path) -> dict[str, float]:
    np.ones((500, 500)) @ np.ones((500, 500))  # starts the threads of BLAS
    # the first fit compiles loops
    tiny = sp.random_array((64, 30), density=0.05, format="csr", rng=np.random.default_rng(0), dtype=np.float32)
    FLDA(shrinkage=G).fit(tiny, np.arange(64) % 2)
    _, work = MEASURES[name](path)
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak of the memory to the present value
    start, processor = time.perf_counter(), time.process_time()
    work()
    return {
        "seconds": time.perf_counter() - start,
        "processor seconds": time.process_time() - processor,
        "GB": memory("VmHWM") - before,
        "GB in all": memory("VmHWM"),
    }


def in_child(name: str, path: Path, n_cells: int, n_genes: int) -> dict:
    command = [sys.executable, __file__, "--measure", name, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    row = {"work": name, "cells": n_cells, "genes": n_genes, **json.loads(done.stdout.splitlines()[-1])}
    print(row, file=sys.stderr, flush=True)
    return row


def draw(table: pd.DataFrame, path: Path) -> None:
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    labels = {"in_memory": "flda", "streamed": "flda, streamed", "scanpy_pca": "scanpy PCA",
              "iterative": "flda, iterative", "incremental_pca": "incremental PCA",
              "sklearn_lda": "scikit-learn LDA"}  # fmt: skip
    palette = dict(zip(labels, sns.color_palette("colorblind"), strict=False))
    by_cells, by_genes = table[table["genes"] == 2000], table[table["cells"] == 10_000]
    panels = [(by_cells, "cells", "seconds"), (by_cells, "cells", "GB"), (by_genes, "genes", "seconds")]
    for ax, (part, x, y) in zip(axes, panels, strict=True):
        for (work, label), marker in zip(labels.items(), "osD^vP", strict=True):
            line = part[part["work"] == work].sort_values(x)
            if len(line) > 1:
                ax.plot(line[x], line[y], marker=marker, color=palette[work], label=label)
        ax.set(xscale="log", yscale="log", xlabel=x, ylabel={"seconds": "seconds", "GB": "GB over the data"}[y])
    axes[0].set_title("2,000 genes")
    axes[1].set_title("2,000 genes")
    axes[2].set_title("10,000 cells")
    handles = {label: line for ax in axes for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside lower center", ncol=len(handles), frameon=False, fontsize=8)
    sns.despine(figure)
    figure.savefig(path, dpi=110)


def kernel() -> None:
    """Time both products of one block of rows; for BLAS the block is made dense and centred first, as in a fit."""
    rng = np.random.default_rng(0)
    print("| genes | density | compiled, ms | BLAS, ms | BLAS, GFLOP/s | ratio |\n|---|---|---|---|---|---|")
    for p in (2000, 8000):
        n = arrays.BLOCK_BYTES // (8 * p)
        for density in (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3):
            block = sp.random_array((n, p), density=density, format="csr", rng=rng, dtype=np.float32)
            block.sort_indices()
            weights, out = np.full(n, 0.5), np.zeros((p, p))

            def compiled(block=block, weights=weights, out=out) -> None:
                add_sparse_gram(out, block, weights)

            def dense(block=block, weights=weights, out=out.T) -> None:
                rows = arrays.dense(block)
                rows -= 1.0
                rows *= weights[:, None]
                add_products(out, rows)

            seconds = []
            for work in (compiled, dense):
                work()
                times = []
                for _ in range(3):
                    start = time.perf_counter()
                    work()
                    times.append(time.perf_counter() - start)
                seconds.append(np.median(times))
            a, b = seconds
            print(f"| {p:,} | {density:.2f} | {1e3 * a:.0f} | {1e3 * b:.0f} | {n * p**2 / b / 1e9:.0f} | {b / a:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="up to 40,000 cells")
    parser.add_argument("--kernel", action="store_true", help="only the compiled product against BLAS")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure[0], Path(args.measure[1]))))
        return
    if args.kernel:
        kernel()
        return
    cells = (10_000, 40_000) if args.quick else (10_000, 30_000, 100_000, 300_000, 1_000_000)
    genes = (1000, 4000) if args.quick else (1000, 4000, 10_000, 20_000)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for n_cells, n_genes in [*((n, 2000) for n in cells), *((10_000, p) for p in genes)]:
            path = store(Path(folder) / "data.h5ad", n_cells, n_genes)
            works = ["in_memory", "streamed", "scanpy_pca", "iterative"]
            if n_genes == 2000 and n_cells == max(cells):
                works += ["in_memory_cv", "streamed_cv"]
            if n_genes == 2000 and n_cells <= 40_000:
                works += ["incremental_pca"]  # a million cells take a quarter of an hour
            if n_cells <= 40_000 and n_genes <= 4000:
                works += ["sklearn_lda"]  # it makes a dense copy, and solves for all genes
            rows += [in_child(work, path, n_cells, n_genes) for work in works]
    table = pd.DataFrame(rows)
    OUT.mkdir(exist_ok=True)
    name = "scale_quick" if args.quick else "scale"
    table.to_csv(OUT / f"{name}.csv", index=False, float_format="%.4g", lineterminator="\n")
    draw(table, OUT / f"{name}.png")
    print("| work | " + " | ".join(table.columns[1:]) + " |\n" + "|---" * len(table.columns) + "|")
    for row in table.itertuples(index=False):
        print("| " + " | ".join(str(v) if isinstance(v, str) else f"{v:.3g}" for v in row) + " |")


if __name__ == "__main__":
    main()
