"""A whole-transcriptome table at the defaults: too large for p x p and N x N matrices, and for a crash."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import flda


@pytest.mark.slow
def test_whole_transcriptome_at_defaults():
    N, p = 12_000, 11_000
    rng = np.random.default_rng(0)
    kind, condition = rng.integers(5, size=N), rng.integers(2, size=N)
    X = sp.random(N, p, density=0.01, format="csr", dtype=np.float32, random_state=0)
    # ten genes for every kind, and ten for the condition
    for k in range(5):
        X = X + sp.csr_array((np.ones(10 * (n := np.sum(kind == k)), np.float32),
                              (np.repeat(np.flatnonzero(kind == k), 10), np.tile(np.arange(10 * k, 10 * k + 10), n))),
                             shape=(N, p))  # fmt: skip
    cells = np.flatnonzero(condition)
    X = X + sp.csr_array((np.ones(10 * len(cells), np.float32),
                          (np.repeat(cells, 10), np.tile(np.arange(50, 60), len(cells)))), shape=(N, p))  # fmt: skip
    obs = pd.DataFrame({"kind": [f"k{k}" for k in kind], "condition": np.array(["ctrl", "stim"])[condition]},
                       index=[f"c{i}" for i in range(N)])  # fmt: skip
    adata = ad.AnnData(sp.csr_matrix(X), obs=obs)
    flda.tl.flda(adata, ["kind", "condition"])
    table = flda.get.rank_genes_df(adata)
    found = {effect: set(table[(table["effect"] == effect) & (table["rank"] <= 10)]["gene"].astype(int))
             for effect in ("kind", "condition")}  # fmt: skip
    assert found["condition"] == set(range(50, 60))
    assert found["kind"] <= set(range(50))
    assert adata.uns["flda"]["fit"]["residual"] < 1e-8
