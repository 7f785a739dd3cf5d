"""No size may crash the interpreter: OpenBLAS ends in a segmentation fault on large symmetric matrices, which are
therefore factored and summed by tiles."""

import numpy as np
import pytest
from scipy.linalg import LinAlgError

from flda._data import device, symmetric


@pytest.fixture
def small_tiles(monkeypatch):
    """Matrices of more than 8 rows are cut into tiles of 5."""
    monkeypatch.setattr(symmetric, "MAX_TRIANGLE", 8)
    monkeypatch.setattr(symmetric, "PANEL", 5)


def positive_definite(n, rng):
    A = rng.normal(size=(n, n))
    return A @ A.T + np.diag(rng.uniform(0.1, 10, n))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("n", [3, 8, 9, 10, 23])
def test_factor_by_panels(small_tiles, order, n):
    rng = np.random.default_rng(n)
    A, B = positive_definite(n, rng), rng.normal(size=(n, 4))
    factored = symmetric.Cholesky(np.array(A, order=order))
    np.testing.assert_allclose(factored.solve(B), np.linalg.solve(A, B), rtol=1e-8)
    np.testing.assert_allclose(np.prod(factored.diagonal**2), np.linalg.det(A), rtol=1e-8)
    np.testing.assert_allclose(factored.inverse_diagonal(), np.diag(np.linalg.inv(A)), rtol=1e-8)


@pytest.mark.parametrize("columns", [1, 4, 100])
def test_diagonal_of_the_inverse(monkeypatch, cupy, columns):
    rng = np.random.default_rng(0)
    A = positive_definite(19, rng)
    monkeypatch.setattr(symmetric, "COLUMNS", columns)
    for matrix in (A.copy(), cupy.asarray(A)):
        found = symmetric.Cholesky(matrix).inverse_diagonal()
        assert type(found) is np.ndarray
        np.testing.assert_allclose(found, np.diag(np.linalg.inv(A)), rtol=1e-9)


@pytest.mark.parametrize("wrong", [2, 17])
def test_an_indefinite_matrix_is_refused(small_tiles, wrong):
    A = np.eye(20)
    A[wrong, wrong] = -1
    with pytest.raises(LinAlgError):
        symmetric.Cholesky(A)


@pytest.mark.slow
def test_rank_k_update_of_16500_columns():
    rng = np.random.default_rng(0)
    block = rng.normal(size=(200, 16_500))
    out = np.zeros((16_500, 16_500), order="F")
    symmetric.add_products(out, block)
    some = rng.integers(16_500, size=(2, 200))
    i, j = np.sort(some, axis=0)
    np.testing.assert_allclose(out[i, j], np.einsum("ki,ki->i", block[:, i], block[:, j]), rtol=1e-9, atol=1e-9)


def test_factor_on_the_device(cupy):
    rng = np.random.default_rng(0)
    A, B = positive_definite(12, rng), rng.normal(size=(12, 4))
    factored = symmetric.Cholesky(cupy.asarray(A))
    expected = np.linalg.solve(A, B)
    np.testing.assert_allclose(factored.solve(B), expected, rtol=1e-8)  # the result is where B is
    there = factored.solve(cupy.asarray(B))
    assert device.is_device(there)
    np.testing.assert_allclose(device.to_numpy(there), expected, rtol=1e-8)
    np.testing.assert_allclose(np.prod(factored.diagonal**2), np.linalg.det(A), rtol=1e-8)
    np.testing.assert_allclose(factored.inverse_diagonal(), np.diag(np.linalg.inv(A)), rtol=1e-8)
    with pytest.raises(LinAlgError):
        symmetric.Cholesky(cupy.asarray(-A))
