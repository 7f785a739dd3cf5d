"""The tools on a GPU, with a stand-in for cupy where there is none."""

import sys

import anndata as ad
import fake_cupy
import numpy as np
import pytest

import flda
from flda import FLDA

FACTORS = ["dendrite", "axon"]


@pytest.mark.parametrize("backed", [False, True])
def test_tools_on_the_device(cupy, tmp_path, backed):
    adata = flda.datasets.t4t5_simulated(n_obs=260, n_vars=70)
    expected = adata.copy()
    adata.write_h5ad(tmp_path / "x.h5ad")
    if backed:
        adata = ad.read_h5ad(tmp_path / "x.h5ad", backed="r")
    for data, where in ((expected, "cpu"), (adata, "cuda")):
        flda.tl.flda(data, FACTORS, device=where)
        flda.tl.rank_genes(data, n_genes=4)
        flda.tl.certify(data, n_folds=2)
    assert adata.uns["flda"]["params"]["device"] == "cuda"
    assert type(adata.obsm["X_flda"]) is np.ndarray
    np.testing.assert_allclose(adata.obsm["X_flda"], expected.obsm["X_flda"], atol=1e-5)
    np.testing.assert_array_equal(adata.varm["flda_sparse"] != 0, expected.varm["flda_sparse"] != 0)
    tables = [flda.get.certificate_df(a).select_dtypes("number") for a in (adata, expected)]
    np.testing.assert_allclose(*tables, rtol=1e-4, atol=1e-6)


def test_expression_that_is_on_the_device_already(cupy):
    adata = flda.datasets.t4t5_simulated(n_obs=260, n_vars=70)
    flda.tl.flda(adata, FACTORS, shrinkage=0.3)
    X = cupy.asarray(adata.X.toarray())
    model = FLDA(shrinkage=0.3).fit(X, adata.obs[FACTORS])
    np.testing.assert_allclose(model.transform(X), adata.obsm["X_flda"], atol=1e-5)


def test_a_missing_device_is_named_and_nothing_is_written(monkeypatch):
    adata = flda.datasets.t4t5_simulated(n_obs=260, n_vars=70)
    with pytest.raises(ValueError, match="'tpu'"):
        flda.tl.flda(adata, FACTORS, device="tpu")
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr("flda._data.device.driver_version", lambda: 12000)
    with pytest.raises(ImportError, match=r"flda\[gpu\]"):
        flda.tl.flda(adata, FACTORS, device="cuda")
    fake_cupy.install(monkeypatch, n_devices=0)
    with pytest.raises(RuntimeError, match="device='cuda'"):
        flda.tl.flda(adata, FACTORS, device="cuda")
    assert "flda" not in adata.uns


def test_results_of_a_gpu_go_on_without_one(monkeypatch, caplog):
    adata = flda.datasets.t4t5_simulated(n_obs=260, n_vars=70)
    flda.tl.flda(adata, FACTORS, shrinkage=0.3)
    adata.uns["flda"]["params"]["device"] = "cuda"
    monkeypatch.setitem(sys.modules, "cupy", None)
    flda.tl.rank_genes(adata, n_genes=4)
    assert any(r.levelname == "WARNING" and "GPU" in r.getMessage() for r in caplog.records)
