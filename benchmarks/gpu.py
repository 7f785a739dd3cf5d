"""Time of the same fit on the CPU and on a GPU, in one run (P7).

    python benchmarks/gpu.py [--cells 100000 --genes 20000 --density 0.05]

Simulated sparse expression in 2 x 4 groups, with fixed shrinkage. The GPU fit runs twice and the second time is
reported, as the first includes the loading of libraries. Transfers from the memory of the computer are included. Fails
if eigenvalues differ by more than 1e-6.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import anndata as ad
import numpy as np
import scale

from flda import FLDA
from flda._data import device


def timed(X, y) -> tuple[float, FLDA]:
    start = time.perf_counter()
    model = FLDA(shrinkage=scale.G).fit(X, y)
    return time.perf_counter() - start, model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--genes", type=int, default=20_000)
    parser.add_argument("--density", type=float, default=scale.DENSITY)
    args = parser.parse_args()
    device.require("cuda")
    import cupy

    scale.DENSITY = args.density
    with tempfile.TemporaryDirectory() as folder:
        adata = ad.read_h5ad(scale.store(Path(folder) / "data.h5ad", args.cells, args.genes))
    y = adata.obs[scale.FACTORS]
    on_device = device.OnDevice(adata.X)
    first, _ = timed(on_device, y)
    gpu, fitted = timed(on_device, y)
    cpu, expected = timed(adata.X, y)
    difference = np.max(np.abs(fitted.eigenvalues_ / expected.eigenvalues_ - 1))
    name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    print("| device | cells | genes | seconds | solver | residual |\n|---|---|---|---|---|---|")
    for label, seconds, model in (("CPU", cpu, expected), (name, gpu, fitted)):
        print(
            f"| {label} | {args.cells:,} | {args.genes:,} | {seconds:.2f} | {model.solver_} | {model.residual_:.1e} |"
        )
    print(f"\nratio {cpu / gpu:.1f}; first run on the GPU {first:.2f} s; eigenvalues differ by {difference:.1e}")
    if difference > 1e-6:
        raise SystemExit("the GPU's eigenvalues differ from the CPU's")


if __name__ == "__main__":
    main()
