# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 7. A million cells, and the GPU
#
# **Data: simulated T4/T5 cells, not real ones.** There are only 20,000 cells, so that the tutorial runs in a minute or
# two on two cores. Nothing is downloaded. A million cells need the same calls. For your own cells, replace the line
# marked *the one line to change*.
#
# flda never needs all cells at once, because group means and the scatter within groups are sums over blocks of rows. It
# can read a file in blocks or use a dask array, and the result is the same.

# %%
import tempfile
import time
from pathlib import Path

import anndata as ad
import numpy as np

import flda

SEED = 0
folder = tempfile.TemporaryDirectory()
flda.datasets.t4t5_simulated(20_000, 400, random_state=SEED).write_h5ad(Path(folder.name) / "cells.h5ad")
# the one line to change, for your own cells: path = "my_cells.h5ad"
path = Path(folder.name) / "cells.h5ad"


def timed(what, function):
    start = time.perf_counter()
    result = function()
    print(f"{what:<28} {time.perf_counter() - start:5.1f} s")
    return result


# %% [markdown]
# ## In memory


# %%
def fit(adata, **options):
    flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5, **options)
    return adata


in_memory = timed("in memory", lambda: fit(ad.read_h5ad(path)))

# %% [markdown]
# ## From disk
#
# `backed="r"` leaves the matrix on disk, and only blocks of rows are in memory at any time. On the command line, this
# is `flda run cells.h5ad --backed`.

# %%
backed = timed("from disk", lambda: fit(ad.read_h5ad(path, backed="r")))
backed.isbacked, type(backed.X).__name__

# %% [markdown]
# ## With dask
#
# dask's scheduler distributes the chunks of rows, on this machine or on a cluster. The sums of the chunks are added as
# a tree.

# %%
import dask.array as da

chunked = ad.read_h5ad(path)
chunked.X = da.from_array(chunked.X, chunks=(4_000, chunked.n_vars), asarray=False)
with_dask = timed("dask, chunks of 4,000 cells", lambda: fit(chunked))

# %% [markdown]
# ## The same result


# %%
def difference(a, b):
    return float(np.abs(a.varm["flda"] - b.varm["flda"]).max() / np.abs(a.varm["flda"]).max())


differences = {"from disk": difference(in_memory, backed), "dask": difference(in_memory, with_dask)}
differences

# %% [markdown]
# ## A million cells
#
# `python benchmarks/scale.py` measured these values on two cores, with 1,000,000 cells x 2,000 genes, 5 % non-zero
# entries, and all effects:

# %%
import pandas as pd

measured = pd.DataFrame(
    [
        ("in memory, fixed shrinkage", 5.8, 0.19, 1.4),
        ("from disk, fixed shrinkage", 11.4, 0.32, 0.66),
        ("in memory, cross-validated shrinkage", 19.4, 0.88, 2.1),
        ("from disk, cross-validated shrinkage", 40.2, 0.69, 1.0),
        ("scanpy's PCA of the same matrix, in memory", 28.8, 0.59, 1.8),
    ],
    columns=["work", "seconds", "GB over the data", "GB in all"],
)
measured

# %% [markdown]
# Before you start with many cells:
#
# * Cross-validated shrinkage, the default, reads the data more often. A number (`shrinkage=0.5`) is three to four times
#   faster.
# * With more than some ten thousand genes, take a subset with `mask_var="highly_variable"`, because the scatter matrix
#   is genes x genes.
# * Effect tests read the data in blocks, too, whatever their size. Their time grows with `n_resamples`: 199 are enough
#   for a first look.
# * Certificates refit everything in every fold. They take five to ten times as long as the fit.
#
# ## The GPU
#
# `flda.tl.flda(adata, factors, device="cuda")` works on one NVIDIA GPU through cupy (`pip install "flda[gpu]"`, or
# `"flda[gpu13]"` for CUDA 13), block by block, and returns NumPy arrays. Without cupy or a GPU, an error says what is
# missing.
#
# **Neither speed nor accuracy had been measured on a GPU when this was written.** The code was tested on the CPU, with
# a stand-in for cupy that refuses to mix arrays of the CPU and the GPU. `python benchmarks/gpu.py` measures both on a
# machine that has a GPU.

# %%
try:
    fit(ad.read_h5ad(path), device="cuda")
except (ImportError, RuntimeError) as error:
    print(error)
folder.cleanup()
