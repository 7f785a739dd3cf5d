"""The GPU path. Without a GPU it runs on a stand-in that refuses to mix host and device; with one, on cupy too."""

import importlib.util
import sys

import anndata as ad
import fake_cupy
import numpy as np
import pytest
import scipy.sparse as sp

import flda
from flda import FLDA, SparseFLDA
from flda._data import device
from flda._data.arrays import Stream
from flda.cli import main
from flda.inference import effect_tests
from flda.inference._certificate import certify

from oracle import donor_problem, problem

FACTORS = ["dendrite", "axon"]


def _has_gpu() -> bool:
    if importlib.util.find_spec("cupy") is None:
        return False
    try:
        device.require("cuda")
    except device.NoDevice:
        return False
    return True


GPU = pytest.param("cupy", marks=pytest.mark.skipif(not _has_gpu(), reason="cupy or a GPU is missing"))


@pytest.fixture(params=["stand-in", GPU])
def cupy(request, monkeypatch):
    monkeypatch.setattr(device, "BLOCK_BYTES", 8 * 60 * 40)  # several blocks
    if request.param == "cupy":
        return pytest.importorskip("cupy")
    return fake_cupy.install(monkeypatch)


def kinds(X):
    return {
        "cupy dense": lambda: _cupy().asarray(X),
        "cupy float32": lambda: _cupy().asarray(X.astype(np.float32)),
        "cupy CSR": lambda: _csr()(sp.csr_matrix(X)),
        "host dense": lambda: device.OnDevice(X),
        "host CSR": lambda: device.OnDevice(sp.csr_array(X)),
        "host integers": lambda: device.OnDevice(sp.csr_array(X.astype(np.int64))),
        "disk": lambda: device.OnDevice(Stream.of(sp.csr_array(X))),
    }


def _cupy():
    import cupy

    return cupy


def _csr():
    from cupyx.scipy.sparse import csr_matrix

    return csr_matrix


@pytest.mark.parametrize("kind", list(kinds(np.zeros((1, 1)))))
@pytest.mark.parametrize(
    ("n_genes", "options"),
    [
        (30, {"shrinkage": 0.2}),
        (30, {"shrinkage": 0}),
        (30, {"shrinkage": "cv", "random_state": 0}),
        (30, {"shrinkage": "oas"}),
        (150, {"shrinkage": 0.3, "solver": "dual"}),
        (150, {"shrinkage": "cv", "solver": "dual", "random_state": 0}),
        (150, {"shrinkage": "ledoit-wolf", "solver": "dual", "shrinkage_target": "identity"}),
        (150, {"shrinkage": 0.3, "solver": "iterative", "within": "balanced"}),
    ],
)
def test_fits_equal_those_of_the_cpu(cupy, kind, n_genes, options):
    X, y = problem(200, n_genes, (2, 3))
    if kind == "cupy float32":
        X = X.astype(np.float32).astype(np.float64)
    if kind == "host integers":
        X = np.round(4 * X)
    if kind == "disk" and options.get("solver") == "dual":
        pytest.skip("a matrix on disk has no Gram matrix of cells")
    expected, got = FLDA(**options).fit(X, y), FLDA(**options).fit(kinds(X)[kind](), y)
    np.testing.assert_allclose(got.eigenvalues_, expected.eigenvalues_, rtol=1e-6)
    np.testing.assert_allclose(got.components_, expected.components_, atol=1e-6 * np.abs(expected.components_).max())
    assert got.shrinkage_ == pytest.approx(expected.shrinkage_)
    scores = got.transform(kinds(X)[kind]())
    assert type(scores) is np.ndarray
    np.testing.assert_allclose(scores, expected.transform(X), atol=1e-5)


@pytest.mark.parametrize("solver", ["primal", "dual", "iterative"])
@pytest.mark.parametrize("shrinkage", [0.3, "cv"])
def test_donors_on_the_device(cupy, solver, shrinkage):
    X, y, donors = donor_problem(4, 12, 30)
    options = {"shrinkage": shrinkage, "solver": solver, "random_state": 0}
    expected = FLDA(**options).fit(X, y, donors)
    got = FLDA(**options).fit(cupy.asarray(X), y, donors)
    np.testing.assert_allclose(got.eigenvalues_, expected.eigenvalues_, rtol=1e-6)
    assert got.shrinkage_ == expected.shrinkage_
    assert got.donor_share_ == pytest.approx(expected.donor_share_)


@pytest.mark.parametrize("solver", ["primal", "dual"])
def test_sparse_axes_certificates_and_permutations(cupy, solver):
    X, y = problem(200, 60, (2, 3))
    model = SparseFLDA(n_genes=5, shrinkage=0.3, solver=solver)
    expected, got = model.fit(X, y).selected_, SparseFLDA(**model.get_params()).fit(cupy.asarray(X), y).selected_
    for effect in expected:
        for a, b in zip(expected[effect], got[effect], strict=True):
            np.testing.assert_array_equal(a, b)
    dense = FLDA(shrinkage=0.3, solver=solver)
    tables = [certify(dense, Z, y, n_folds=3).select_dtypes("number") for Z in (X, cupy.asarray(X))]
    np.testing.assert_allclose(tables[0], tables[1], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("n_genes", [30, 400])
def test_permutations_on_the_device(cupy, n_genes):
    X, y = problem(200, n_genes, (2, 3))
    options = {"n_resamples": 19, "random_state": 0, "n_jobs": 1}
    expected, got = (effect_tests(FLDA(), Z, y, **options) for Z in (X, cupy.asarray(X)))
    np.testing.assert_allclose(got.null, expected.null, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(got.table["pval"], expected.table["pval"])


def test_permutations_of_donors_on_the_device(cupy):
    X, y, donors = donor_problem(4, 12, 30)
    options = {"n_resamples": 19, "random_state": 0, "n_jobs": 1}
    expected, got = (effect_tests(FLDA(), Z, y, donors, **options) for Z in (X, cupy.asarray(X)))
    np.testing.assert_allclose(got.null, expected.null, rtol=1e-3, atol=1e-4)


def test_singular_scatter_is_refused(cupy):
    X, y = problem(200, 30, (2, 3))
    X[:, 3] = X[:, 4]
    with pytest.raises(ValueError, match="singular"):
        FLDA(shrinkage=0).fit(cupy.asarray(X), y)


def test_a_bad_value_on_the_device_is_named(cupy):
    X, y = problem(200, 30, (2, 3))
    X[70, 4] = np.nan
    with pytest.raises(ValueError, match="NaN in row 70, column 4"):
        FLDA().fit(cupy.asarray(X), y)


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
    expected = adata.copy()
    flda.tl.flda(expected, FACTORS, shrinkage=0.3)
    X = device.wrap(cupy.asarray(adata.X.toarray()))
    model = FLDA(shrinkage=0.3).fit(X, adata.obs[FACTORS])
    np.testing.assert_allclose(model.transform(X), expected.obsm["X_flda"], atol=1e-5)


def test_without_cupy_the_extra_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "cupy", None)
    adata = flda.datasets.t4t5_simulated(n_obs=260, n_vars=70)
    with pytest.raises(ImportError, match=r"device='cuda' needs cupy: pip install 'flda\[gpu\]'"):
        flda.tl.flda(adata, FACTORS, device="cuda")
    assert "flda" not in adata.uns
    adata.write_h5ad(tmp_path / "x.h5ad")
    out = tmp_path / "out"
    run = ["run", str(tmp_path / "x.h5ad"), "--factors", *FACTORS, "--device", "cuda", "--out", str(out)]
    assert main(run) == 2
    assert "needs cupy" in capsys.readouterr().err
    assert not out.exists()


def test_without_a_gpu_it_says_so(monkeypatch):
    fake_cupy.install(monkeypatch, n_devices=0)
    adata = flda.datasets.t4t5_simulated(n_obs=260, n_vars=70)
    with pytest.raises(RuntimeError, match="cupy finds no GPU; use device='cpu'"):
        flda.tl.flda(adata, FACTORS, device="cuda")
    with pytest.raises(ValueError, match="device='tpu': use one of"):
        flda.tl.flda(adata, FACTORS, device="tpu")


def test_results_of_a_gpu_go_on_without_one(monkeypatch, caplog):
    adata = flda.datasets.t4t5_simulated(n_obs=260, n_vars=70)
    flda.tl.flda(adata, FACTORS, shrinkage=0.3)
    adata.uns["flda"]["params"]["device"] = "cuda"
    monkeypatch.setitem(sys.modules, "cupy", None)
    flda.tl.rank_genes(adata, n_genes=4)
    assert any(r.levelname == "WARNING" and "GPU" in r.getMessage() for r in caplog.records)
