"""No size may crash the interpreter: OpenBLAS's factorisation and rank-k update end in a segmentation fault on large
matrices, so large ones are cut into tiles, and whole-transcriptome tables need neither p x p nor N x N matrices."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.linalg import LinAlgError

import flda
from flda import FLDA
from flda._data import device
from flda._solve import within
from flda._solve.choose import choose_solver


@pytest.fixture
def small_tiles(monkeypatch):
    """Matrices of more than 8 rows are cut into tiles of 5."""
    for module in (device, within):
        monkeypatch.setattr(module, "MAX_TRIANGLE", 8)
    monkeypatch.setattr(device, "PANEL", 5)


def spread_matrix(n: int, rng: np.random.Generator) -> np.ndarray:
    A = rng.normal(size=(n, n))
    return A @ A.T + np.diag(rng.uniform(0.1, 10, n))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("n", [3, 8, 9, 10, 23])
def test_factor_by_panels(small_tiles, order, n):
    rng = np.random.default_rng(n)
    A, B = spread_matrix(n, rng), rng.normal(size=(n, 4))
    factored = device.Cholesky(np.array(A, order=order))
    np.testing.assert_allclose(factored.solve(B), np.linalg.solve(A, B), rtol=1e-8)
    np.testing.assert_allclose(np.prod(factored.diagonal**2), np.linalg.det(A), rtol=1e-8)


def test_factor_by_panels_refuses_an_indefinite_matrix(small_tiles):
    A = np.eye(20)
    A[17, 17] = -1
    with pytest.raises(LinAlgError):
        device.Cholesky(A)


@pytest.mark.parametrize("shape", [(60, 20), (20, 60)], ids=["primal", "dual"])
def test_fit_by_tiles_is_the_fit(small_tiles, monkeypatch, shape):
    rng = np.random.default_rng(0)
    X = rng.normal(size=shape)
    y = pd.DataFrame({"A": rng.choice(["p", "q"], shape[0]), "B": rng.choice(["u", "v"], shape[0])})
    tiled = FLDA(shrinkage="cv", random_state=0).fit(X, y)
    monkeypatch.undo()
    whole = FLDA(shrinkage="cv", random_state=0).fit(X, y)
    np.testing.assert_allclose(tiled.components_, whole.components_, rtol=1e-9, atol=1e-12)
    assert tiled.shrinkage_ == whole.shrinkage_


def test_large_sides_need_no_matrix():
    X = sp.random(12_000, 11_000, density=1e-4, format="csr", random_state=0)
    assert choose_solver("auto", X, "auto", 8).name == "iterative"
    assert choose_solver("auto", X[:, :3000], "auto", 8).name == "primal"
    assert choose_solver("auto", X[:3000], "auto", 8).name == "dual"
    assert choose_solver("auto", X, 0, 8).name == "primal"  # nothing else can do without shrinkage


@pytest.mark.slow
def test_factor_of_16500_rows():
    n = 16_500
    rng = np.random.default_rng(0)
    # I + v v' has a known inverse
    v = rng.normal(size=n) / np.sqrt(n)
    A = np.outer(v, v)
    A[np.arange(n), np.arange(n)] += 1
    B = rng.normal(size=(n, 3))
    expected = B - v[:, None] * (v @ B) / (1 + v @ v)
    np.testing.assert_allclose(device.Cholesky(A).solve(B), expected, atol=1e-11)


@pytest.mark.slow
def test_rank_k_update_of_16500_columns():
    rng = np.random.default_rng(0)
    block = rng.normal(size=(3000, 16_500))
    out = np.zeros((16_500, 16_500), order="F")
    within._add_syrk(out, block)
    some = rng.integers(16_500, size=(2, 200))
    i, j = np.sort(some, axis=0)
    np.testing.assert_allclose(out[i, j], np.einsum("ki,ki->i", block[:, i], block[:, j]), rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_whole_transcriptome_at_defaults():
    N, p = 20_000, 17_000
    rng = np.random.default_rng(0)
    kind, condition = rng.integers(5, size=N), rng.integers(2, size=N)
    X = sp.random(N, p, density=0.02, format="csr", dtype=np.float32, random_state=0)
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
