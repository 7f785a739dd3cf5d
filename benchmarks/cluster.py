"""A fit on two workers of dask.distributed, one of which is killed in the middle.

    python benchmarks/cluster.py [--cells 1000000] [--genes 2000] [--folder FOLDER]

The cells are those of scale.py, in a zarr file that the workers read in chunks. The fit runs three times: with both
workers; with one worker killed in the second pass over the cells, which is replaced; and with one killed for which the
scheduler gives up (``allowed-failures: 0``). The second must end with the result of the first, and the third in one
error, with nothing written to the AnnData. Prints Markdown.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import time
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
from scale import FACTORS, simulated

import flda

CHUNK = 20_000  # cells of a chunk


def store(path: Path, n_cells: int, n_genes: int) -> None:
    """Write simulated cells to a zarr file."""
    X, obs = simulated(n_cells, n_genes)
    ad.AnnData(X, obs=obs).write_zarr(path)


def lazily(path: Path, visits: Path | None = None, fatal: range = range(0)) -> ad.AnnData:
    """Open the file: X as a dask array with chunks of cells, and the labels in memory.

    The file ``visits`` counts how often the chunk in the middle is read, which kills its worker on ``fatal`` visits.
    """
    import zarr
    from anndata.experimental import read_elem_lazy

    group = zarr.open_group(str(path), mode="r")
    X = read_elem_lazy(group["X"], chunks=(CHUNK, -1))
    if visits is not None:
        visits.write_text("")
        middle = X.numblocks[0] // 2

        def read(block, block_info=None):
            if block_info[0]["chunk-location"][0] == middle:
                with visits.open("a") as lines:
                    lines.write("read\n")
                if len(visits.read_text().splitlines()) in fatal:
                    os.kill(os.getpid(), signal.SIGKILL)
            return block

        X = X.map_blocks(read, meta=X._meta)
    return ad.AnnData(X, obs=ad.io.read_elem(group["obs"]))


def fit(adata: ad.AnnData) -> tuple[str, float]:
    """Fit, and return what happened and the seconds."""
    start = time.perf_counter()
    try:
        flda.tl.flda(adata, FACTORS, shrinkage=0.3)
    except Exception as error:  # noqa: BLE001  any error is a result here
        return f"{type(error).__name__}: {error}", time.perf_counter() - start
    return "finished", time.perf_counter() - start


def written(adata: ad.AnnData) -> list[str]:
    """Return the slots of the AnnData that hold anything but the labels."""
    slots = {"uns": adata.uns, "obsm": adata.obsm, "varm": adata.varm, "obs": set(adata.obs) - set(FACTORS)}
    return [name for name, slot in slots.items() if len(slot)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--genes", type=int, default=2000)
    parser.add_argument("--folder", type=Path, help="where the cells are kept; by default they are removed afterwards")
    args = parser.parse_args()
    import dask
    from distributed import Client, LocalCluster

    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as temporary:
        path = (args.folder or Path(temporary)) / f"cells_{args.cells}_{args.genes}.zarr"
        if not path.exists():
            store(path, args.cells, args.genes)
        visits = Path(temporary) / "visits.txt"
        runs = {
            "two workers": lazily(path),
            "one worker killed in the second pass": lazily(path, visits, range(2, 3)),
            "one killed, and the scheduler gives up": lazily(path, visits, range(2, 1000)),
        }
        options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
        print("| run | s | the chunk was read | end | written |\n|---|---|---|---|---|")
        for allowed in (3, 0):  # deaths of a worker at one task that the scheduler accepts; 3 is its default
            dask.config.set({"distributed.scheduler.allowed-failures": allowed})
            with LocalCluster(**options) as cluster, Client(cluster):
                for name, adata in list(runs.items())[slice(2) if allowed else slice(2, None)]:
                    visits.write_text("")
                    end, seconds = fit(adata)
                    reads = len(visits.read_text().splitlines()) or "-"
                    slots = ", ".join(written(adata)) or "nothing"
                    print(f"| {name} | {seconds:.1f} | {reads} | {end} | {slots} |", flush=True)
        whole, other, _ = (adata.uns.get("flda") for adata in runs.values())
        if whole and other:
            a, b = (x["axes"]["eigenvalue"].to_numpy(float) for x in (whole, other))
            print(f"\nLargest relative difference of the eigenvalues of the first two: {np.abs(a / b - 1).max():.1e}.")


if __name__ == "__main__":
    main()
