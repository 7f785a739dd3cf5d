"""Data sets that several benchmarks use, three simulated and two real: functions that return (X, y, interactions)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from flda.datasets import rnamix, t4t5_simulated


def t4t5():
    """Simulated T4/T5, 3,557 cells x 2,000 genes, 2 x 4."""
    adata = t4t5_simulated()
    return adata.X, adata.obs[["dendrite", "axon"]], "all"


def t4t5_small():
    """Simulated T4/T5 with far more genes than cells: 400 x 5,000, 2 x 4."""
    adata = t4t5_simulated(400, 5000, random_state=1)
    return adata.X, adata.obs[["dendrite", "axon"]], "all"


def correlated():
    """Gaussian, 400 cells x 1,000 genes, 2 x 2, noise correlated by five factors, effects of 0.5 on 10 genes."""
    rng = np.random.default_rng(0)
    y = pd.DataFrame({"A": rng.integers(2, size=400).astype(str), "B": rng.integers(2, size=400).astype(str)})
    a, b = (y[f].to_numpy() == "1" for f in "AB")
    common = rng.normal(size=(400, 5)) @ rng.normal(size=(5, 1000))
    X = np.sqrt(0.7) * rng.normal(size=(400, 1000)) + np.sqrt(0.3 / 5) * common
    X[:, :10] += 0.5 * (2 * a[:, None] - 1)
    X[:, 10:20] += 0.5 * (2 * b[:, None] - 1)
    return X, y, "all"


def rnamix_real():
    """RNA mixtures, 636 x 16,469, mixture 7 x amount 4 x protocol 2, one empty group.

    Main effects only, as mixing and diluting RNA creates no interaction.
    """
    adata = rnamix()
    return adata.X, adata.obs[["mixture", "amount", "protocol"]], None


def pbmc68k():
    """scanpy's bundled pbmc68k_reduced, 700 x 765 log-normalised, cell type 10 x phase 3, five empty groups."""
    import scanpy as sc

    adata = sc.datasets.pbmc68k_reduced()
    return adata.raw.X, adata.obs[["bulk_labels", "phase"]], None


PROBLEMS = {
    "t4t5": t4t5,
    "t4t5_small": t4t5_small,
    "correlated": correlated,
    "rnamix": rnamix_real,
    "pbmc68k": pbmc68k,
}
