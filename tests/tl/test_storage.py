"""The tools read from files in blocks, with the numbers of data in memory."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import flda

FACTORS = ["dendrite", "axon"]


@pytest.fixture
def adata(small_blocks):
    out = flda.datasets.t4t5_simulated(260, 70)
    out.X = out.X.astype(np.float64)
    return out


@pytest.mark.parametrize("storage", ["backed CSR", "backed dense", "backed CSC", "lazy h5ad", "lazy zarr"])
def test_tools_read_from_disk(adata, tmp_path, storage):
    memory = adata.copy()
    adata.X = {"backed dense": lambda X: X.toarray(), "backed CSC": sp.csc_matrix}.get(storage, sp.csr_matrix)(adata.X)
    path = tmp_path / ("x.zarr" if "zarr" in storage else "x.h5ad")
    getattr(adata, f"write_{path.suffix[1:]}")(path)
    if storage.startswith("lazy"):
        pytest.importorskip("xarray", reason="needs the extra dask")
        pytest.importorskip("dask", reason="needs the extra dask")
        disk = ad.experimental.read_lazy(path)
    else:
        disk = ad.read_h5ad(path, backed="r")
    for each in (memory, disk):
        flda.tl.flda(each, FACTORS, shrinkage="cv", mask_var=np.arange(70) < 60)
        flda.tl.rank_genes(each, n_genes=3)
        flda.tl.certify(each, n_folds=2)
    np.testing.assert_allclose(disk.obsm["X_flda"], memory.obsm["X_flda"], atol=1e-7)
    pd.testing.assert_frame_equal(flda.get.rank_genes_df(disk), flda.get.rank_genes_df(memory))
    pd.testing.assert_frame_equal(flda.get.certificate_df(disk), flda.get.certificate_df(memory), rtol=1e-6)


def test_a_bad_value_in_a_block_is_named(adata, tmp_path):
    X = adata.X.toarray()
    X[201, 5] = np.nan
    adata.X = sp.csr_matrix(X)
    adata.write_h5ad(tmp_path / "x.h5ad")
    disk = ad.read_h5ad(tmp_path / "x.h5ad", backed="r")
    with pytest.raises(ValueError, match=rf"'{adata.var_names[5]}'.*'{adata.obs_names[201]}'"):
        flda.tl.flda(disk, FACTORS)


def test_entries_listed_twice_are_one_value(adata):
    """A CSR matrix may list a gene twice in a cell; its value is their sum."""
    expected = adata.copy()
    X = sp.csr_matrix(adata.X)
    adata.X = sp.csr_matrix((np.repeat(X.data / 2, 2), np.repeat(X.indices, 2), 2 * X.indptr), shape=X.shape)
    assert adata.X.nnz == 2 * expected.X.nnz
    for each in (adata, expected):
        flda.tl.flda(each, FACTORS, shrinkage=0.5)
        flda.tl.rank_genes(each, n_genes=3, min_cells=60)
    for name in ("variance", "axes"):
        numbers = [a.uns["flda"][name].select_dtypes("number") for a in (adata, expected)]
        np.testing.assert_allclose(*numbers, rtol=1e-9)
    np.testing.assert_array_equal(adata.varm["flda_sparse"] != 0, expected.varm["flda_sparse"] != 0)
