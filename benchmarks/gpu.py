"""The GPU against the CPU of the same machine: equal results, time and memory, in one run (P1, P5 and P7).

    python benchmarks/gpu.py [--out DIR] [--steps NAME ...] [--seconds 355]
    python benchmarks/gpu.py --dry-run     # the same path at small sizes, without a GPU

The steps are those of STEPS, with the seconds that each is expected to take on an H100 with 16 cores, 340 in all. That
is an estimate, no measurement; most of P7 is the fit of the CPU, whose sparse products take one core. A step for which
the time is not left is left out. After every row ``gpu.json`` and ``gpu.md`` are written to DIR, so that a run that
ends early leaves its results. Exits with 1 if a result differs from that of the CPU by more than 1e-6 or a step fails,
and with 2 if a step was left out. The dry run needs the ``tests`` of the repository: its cupy is their stand-in, so its
times and bytes mean nothing. ``gpu_wheels.py`` collects what a machine without a network lacks.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy
from gpu_equality import DIFFERENCE, Unequal, cells, check, equality, largest, of_fit, of_tests, resident
from scale import G

import flda
from flda import FLDA
from flda._data import arrays, device
from flda._data.symmetric import Cholesky, add_products
from flda.inference import effect_tests

ROOT = Path(__file__).parents[1]
STEPS = {"equality": 35, "P7": 150, "P1": 25, "P5": 35, "memory": 25, "profile": 10, "svd": 10, "tests": 50}
TESTS = [
    "_data/test_arrays.py", "_data/test_device.py", "_data/test_summary.py", "_data/test_symmetric.py",
    "_data/test_fingerprint.py", "_solve/test_choose.py", "_solve/test_krylov.py", "_solve/test_within.py",
    "estimators/test_covariates.py", "estimators/test_on_device.py", "estimators/test_sparse.py",
    "estimators/test_storage.py", "inference/test_certificate.py", "inference/test_inputs.py", "tl/test_device.py",
]  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """Cells, genes and density of every problem."""

    equality: tuple[int, int]
    p1: tuple[int, int, float]
    p5: tuple[int, int, float]
    p7: tuple[int, int, float]
    flips: int
    memory: tuple[int, int]  # float32, on a device with `left` bytes
    left: int
    square: int
    tests: list[str]


FULL = Sizes(
    (1500, 500), (3833, 17492, 0.2), (3833, 2000, 0.2), (100_000, 20_000, 0.05), 999, (30_000, 10_000), 2**30, 10_000,
    TESTS,
)  # fmt: skip
SMALL = Sizes((80, 30), (50, 90, 0.2), (90, 30, 0.2), (90, 40, 0.2), 9, (90, 30), 2**33, 200, TESTS[1:2])


@dataclass
class Run:
    """The results, which are written after every step."""

    out: Path
    sizes: Sizes
    seconds: float
    dry: bool
    start: float = field(default_factory=time.perf_counter)
    results: dict[str, Any] = field(default_factory=dict)

    def step(self, name: str, work: Callable[[Run], list[dict]]) -> None:
        left = self.seconds - (time.perf_counter() - self.start)
        if left < STEPS[name] and not self.dry:
            self.results[name] = {"left out": f"{left:.0f} s are left and it takes about {STEPS[name]} s"}
        else:
            before, rows = time.perf_counter(), []
            self.results[name] = {"rows": rows}
            try:
                for row in work(self):
                    rows.append(row)
                    self.write()
                    print(f"{name}: {row}", flush=True)
            except Exception as error:  # noqa: BLE001  the other steps still run
                self.results[name]["failed"] = f"{type(error).__name__}: {error}"
                if not isinstance(error, Unequal):
                    self.results[name]["traceback"] = traceback.format_exc()
                print(f"{name} FAILED: {error}", flush=True)
            self.results[name]["seconds"] = time.perf_counter() - before
        self.write()
        gc()

    def write(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / "gpu.json").write_text(json.dumps(self.results, indent=1, default=str) + "\n")
        (self.out / "gpu.md").write_text(markdown(self.results, dry=self.dry))

    @property
    def status(self) -> int:
        steps = [r for r in self.results.values() if isinstance(r, dict)]
        return 1 if any("failed" in r for r in steps) else 2 if any("left out" in r for r in steps) else 0


def markdown(results: dict[str, Any], *, dry: bool) -> str:
    lines = ["**Dry run: a stand-in for cupy; times and bytes mean nothing.**\n"] if dry else []
    for name, result in results.items():
        if name == "machine":
            lines += [", ".join(f"{k} {v}" for k, v in result.items()), ""]
            continue
        title = f"{name}: {result['seconds']:.0f} s" if "seconds" in result else name
        lines += [f"### {title}", ""]
        rows = result.get("rows", [])
        columns = list(dict.fromkeys(key for row in rows for key in row))
        if rows:
            lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
            lines += ["| " + " | ".join(shown(row.get(c, "")) for c in columns) + " |" for row in rows]
            lines += [""]
        lines += [f"**{key}**: {result[key]}\n" for key in ("failed", "left out") if key in result]
    return "\n".join(lines) + "\n"


def shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value)


# --- data, time and memory -------------------------------------------------------------------------------------


def wait() -> None:
    import cupy

    cupy.cuda.Device().synchronize()


def gc() -> None:
    """Give the memory of finished work back to the device."""
    import gc as collector

    import cupy

    collector.collect()
    cupy.get_default_memory_pool().free_all_blocks()


def timed(work: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """The shortest time of some repeats, and the last result."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        wait()
        times.append(time.perf_counter() - start)
    return min(times), result


def on_gpu(work: Callable[[], Any], repeats: int = 2) -> tuple[float, float, Any]:
    """Seconds of the faster of some runs, since the first compiles kernels; GB that the pool took; and the result."""
    import cupy

    gc()
    before = cupy.get_default_memory_pool().total_bytes()
    seconds, result = timed(work, repeats)
    return seconds, (cupy.get_default_memory_pool().total_bytes() - before) / 1e9, result


# --- speed -----------------------------------------------------------------------------------------------------


def race(
    run: Run, X, work: Callable[[Any], Any], summary: Callable[[Any], dict], what: str, repeats: int = 2
) -> Iterator[dict]:
    """The same work on the CPU, on the GPU with transfers, and on a matrix that is there already."""
    shape = {"work": what, "cells": X.shape[0], "genes": X.shape[1]}
    there, transfer = resident(X)
    inside, gb_inside, second = on_gpu(partial(work, there), repeats)
    yield shape | {"on": "GPU, matrix there", "s": inside, "transfer, s": transfer, "GB taken": gb_inside}
    del there
    seconds, gb, first = on_gpu(partial(work, device.OnDevice(X)), repeats)
    yield shape | {"on": "GPU, matrix sent in blocks", "s": seconds, "GB taken": gb}
    cpu, expected = timed(lambda: work(X))
    solver = getattr(expected, "solver_", "")
    yield shape | {"on": "CPU", "s": cpu, "CPU / sent": cpu / seconds, "CPU / there": cpu / inside, "solver": solver}
    differences = {
        f"{kind}: {DIFFERENCE}": largest(summary(found), summary(expected), run.sizes.flips)
        for kind, found in (("sent", first), ("there", second))
    }
    yield shape | {"on": "GPU against CPU"} | differences
    check([differences])


def p1(run: Run) -> Iterator[dict]:
    X, y = cells(*run.sizes.p1)
    FLDA(shrinkage=G).fit(X[:50, :30], y[:50])  # compiles the loops of the CPU
    yield from race(run, X, lambda X: FLDA(shrinkage=G).fit(X, y), of_fit, "P1: fixed shrinkage")
    yield from race(run, X, lambda X: FLDA(shrinkage="cv").fit(X, y), of_fit, "P1: folds", repeats=1)


def p5(run: Run) -> Iterator[dict]:
    X, y = cells(*run.sizes.p5)
    model = FLDA(shrinkage=G)
    for few in (X[:100], device.OnDevice(X[:100])):  # compiles the loops and the kernels
        effect_tests(model, few, y[:100], n_resamples=9)

    def work(X):
        return effect_tests(model, X, y, n_resamples=run.sizes.flips)

    yield from race(run, X, work, of_tests, f"P5: {run.sizes.flips} flips", repeats=1)


def p7(run: Run) -> Iterator[dict]:
    X, y = cells(*run.sizes.p7)
    FLDA(shrinkage=G).fit(X[:50, :30], y[:50])  # compiles the loops of the CPU
    yield from race(run, X, lambda X: FLDA(shrinkage=G).fit(X, y), of_fit, "P7: fixed shrinkage", repeats=1)


def profile(run: Run) -> Iterator[dict]:
    """Seconds of the pieces of a pass over one block, and of a factorisation."""
    import cupy

    _, p, density = run.sizes.p7
    n = max(1, device.block_bytes() // (8 * p)) if not run.dry else 40
    X, _ = cells(n, p, density)
    there, transfer = resident(X)
    dense, block = timed(lambda: device.to_device(there), 3)
    codes, thin = np.arange(n) % 8, cupy.asarray(np.ones((p, 12)))
    gram = cupy.zeros((p, p))
    wide = run.sizes.square
    square = cupy.asarray(np.random.default_rng(0).normal(size=(wide, 200)))
    square = square @ square.T
    square[cupy.arange(wide), cupy.arange(wide)] += 100.0
    factor, found = timed(lambda: Cholesky(square), 2)
    right = cupy.asarray(np.ones((wide, 12)))
    pieces = {
        "transfer of one block, CSR": transfer,
        "CSR to dense, there": dense,
        "product with 12 columns": timed(lambda: block @ thin, 3)[0],
        "sums of 8 groups (sparse product)": timed(lambda: arrays.block_sums(block, codes, 8), 3)[0],
        "Gram matrix of the genes": timed(lambda: add_products(gram, block), 3)[0],
        f"Cholesky, {wide} rows": factor,
        f"triangular solutions, {wide} rows, 12 columns": timed(lambda: found.solve(right), 3)[0],
        f"diagonal of the inverse, {wide} rows": timed(found.inverse_diagonal)[0],
    }
    for name, seconds in pieces.items():
        yield {"piece": name, "rows of the block": n, "s": seconds}


def memory(run: Run) -> Iterator[dict]:
    """A dense matrix larger than what is left of the device passes through it."""
    import cupy

    n, p = run.sizes.memory
    rng = np.random.default_rng(0)
    y = pd.DataFrame({"type": (np.arange(n) % 4).astype(str)})
    X = np.concatenate([rng.random((min(5000, n - i), p), dtype=np.float32) for i in range(0, n, 5000)])
    X[y["type"] == "1", :50] += 0.1
    expected = FLDA(shrinkage=G, solver="iterative").fit(X, y)
    gc()
    free = cupy.cuda.runtime.memGetInfo()[0]
    taken = [cupy.empty(int(max(0, free - run.sizes.left)), dtype=np.uint8)] if not run.dry else []
    left = device.free_memory()
    if not run.dry and left >= X.nbytes:
        raise RuntimeError(f"{left / 1e9:.1f} GB are left, which hold the matrix of {X.nbytes / 1e9:.1f} GB")
    before = cupy.get_default_memory_pool().total_bytes()
    seconds, found = timed(lambda: FLDA(shrinkage=G, solver="iterative").fit(device.OnDevice(X), y))
    took = cupy.get_default_memory_pool().total_bytes() - before
    del taken
    row = {"GB of the matrix": X.nbytes / 1e9, "GB left": left / 1e9, "GB taken": took / 1e9, "s": seconds}
    yield row | {DIFFERENCE: (wrong := largest(of_fit(found), of_fit(expected)))}
    check([{DIFFERENCE: wrong}])


def svd(run: Run) -> Iterator[dict]:
    """50 principal components of the matrix of P1: rapids-singlecell, else cuML, else the truncated SVD of cupy."""
    X, y = cells(*run.sizes.p1)
    there, _ = resident(X)
    k = min(50, min(X.shape) - 2)
    row = {"cells": X.shape[0], "genes": X.shape[1]}
    with contextlib.suppress(ImportError):
        import anndata
        import rapids_singlecell as rsc

        seconds, gb, _ = on_gpu(lambda: rsc.pp.pca(anndata.AnnData(there), n_comps=k))
        yield row | {"work": f"rapids-singlecell PCA, {k}", "s": seconds, "GB taken": gb}
    with contextlib.suppress(ImportError):
        from cuml.decomposition import PCA

        dense = there.astype(np.float64).toarray()
        seconds, gb, _ = on_gpu(lambda: PCA(n_components=k).fit(dense))
        yield row | {"work": f"cuML PCA, {k}", "s": seconds, "GB taken": gb}
    from cupyx.scipy.sparse.linalg import svds

    wide = there.astype(np.float64)
    seconds, gb, _ = on_gpu(lambda: svds(wide, k=k))
    yield row | {"work": f"cupy svds, {k}", "s": seconds, "GB taken": gb}
    seconds, gb, _ = on_gpu(lambda: FLDA(shrinkage=G).fit(there, y))
    yield row | {"work": "flda, fixed shrinkage", "s": seconds, "GB taken": gb}


def tests(run: Run) -> Iterator[dict]:
    """The tests that concern the device; on a GPU those with cupy itself."""
    files = [f"tests/{name}" for name in run.sizes.tests]
    workers = ["-n", "0" if run.dry else "4"]
    which = "stand-in" if run.dry else "GPU"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", which, *workers, *files]
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, timeout=150,
    )  # fmt: skip
    lines = done.stdout.strip().splitlines()
    failures = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    yield {"tests": lines[-1] if lines else done.stderr[-300:], "exit status": done.returncode}
    if done.returncode or "passed" not in lines[-1]:
        (run.out / "tests.txt").write_text(done.stdout + done.stderr)
        raise RuntimeError(f"{len(failures)} tests fail, see tests.txt: {failures[:5]}")


WORK = {
    "equality": lambda run: equality(run.sizes.equality, min(99, run.sizes.flips)),
    "P7": p7,
    "P1": p1,
    "P5": p5,
    "memory": memory,
    "profile": profile,
    "svd": svd,
    "tests": tests,
}


def machine() -> dict[str, Any]:
    import cupy

    runtime = cupy.cuda.runtime
    return {
        "GPU": runtime.getDeviceProperties(0)["name"].decode(),
        "GB": round(runtime.memGetInfo()[1] / 1e9),
        "CUDA of the driver": device.driver_version(),
        "CUDA of cupy": runtime.runtimeGetVersion(),
        "cupy": cupy.__version__,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "Python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "flda": flda.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--dry-run", action="store_true", help="small sizes and a stand-in for cupy")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--seconds", type=float, default=355, help="time for all steps (default 355)")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        if args.dry_run:
            sys.path.insert(0, str(ROOT / "tests"))
            import fake_cupy
            import pytest

            fake_cupy.install(stack.enter_context(pytest.MonkeyPatch.context()))
        device.require("cuda")
        run = Run(args.out, SMALL if args.dry_run else FULL, args.seconds, args.dry_run)
        run.results["machine"] = machine()
        for name in args.steps:
            run.step(name, WORK[name])
    print((args.out / "gpu.md").read_text())
    raise SystemExit(run.status)


if __name__ == "__main__":
    main()
