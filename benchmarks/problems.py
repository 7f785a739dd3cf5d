"""Data sets that several benchmarks use, three simulated and four real.

Each is a function that returns (X, y, interactions, donors); donors are None where cells are independent.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from flda import datasets


def t4t5():
    """Simulated T4/T5, 3,557 cells x 2,000 genes, 2 x 4."""
    adata = datasets.t4t5_simulated()
    return adata.X, adata.obs[["dendrite", "axon"]], "all", None


def t4t5_small():
    """Simulated T4/T5 with far more genes than cells: 400 x 5,000, 2 x 4."""
    adata = datasets.t4t5_simulated(400, 5000, random_state=1)
    return adata.X, adata.obs[["dendrite", "axon"]], "all", None


def correlated():
    """Gaussian, 400 cells x 1,000 genes, 2 x 2, noise correlated by five factors, effects of 0.5 on 10 genes."""
    rng = np.random.default_rng(0)
    y = pd.DataFrame({"A": rng.integers(2, size=400).astype(str), "B": rng.integers(2, size=400).astype(str)})
    a, b = (y[f].to_numpy() == "1" for f in "AB")
    common = rng.normal(size=(400, 5)) @ rng.normal(size=(5, 1000))
    X = np.sqrt(0.7) * rng.normal(size=(400, 1000)) + np.sqrt(0.3 / 5) * common
    X[:, :10] += 0.5 * (2 * a[:, None] - 1)
    X[:, 10:20] += 0.5 * (2 * b[:, None] - 1)
    return X, y, "all", None


def rnamix_real():
    """RNA mixtures, 636 x 16,469, mixture 7 x amount 4 x protocol 2, one empty group.

    Main effects only, as mixing and diluting RNA creates no interaction.
    """
    adata = datasets.rnamix()
    return adata.X, adata.obs[["mixture", "amount", "protocol"]], None, None


def pbmc68k():
    """scanpy's bundled pbmc68k_reduced, 700 x 765 log-normalised, cell type 10 x phase 3, five empty groups."""
    import scanpy as sc

    adata = sc.datasets.pbmc68k_reduced()
    return adata.raw.X, adata.obs[["bulk_labels", "phase"]], None, None


def mice_protein():
    """Cortex of 72 mice, 1,080 x 77 proteins, genotype 2 x treatment 2 x behaviour 2; mice are the donors."""
    adata = datasets.mice_protein()
    return adata.X, adata.obs[["genotype", "treatment", "behaviour"]], "all", adata.obs["mouse"].to_numpy()


def uch():
    """Urine spectra, 34 x 600 bins, hippurate 3 x citrate 3 x time 2, one or two spectra per group.

    Main effects only, as there are too few spectra for more.
    """
    adata = datasets.uch()
    return adata.X, adata.obs[["hippurate", "citrate", "time"]], None, None


PROBLEMS = {
    "t4t5": t4t5,
    "t4t5_small": t4t5_small,
    "correlated": correlated,
    "rnamix": rnamix_real,
    "pbmc68k": pbmc68k,
    "mice_protein": mice_protein,
    "uch": uch,
}
