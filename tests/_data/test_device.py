"""Matrices on a GPU, with a stand-in for cupy where there is none, and factors of any size.

No size may crash the interpreter: OpenBLAS's factorisation ends in a segmentation fault on large matrices, so those are
cut into tiles.
"""

import sys

import fake_cupy
import numpy as np
import pytest
import scipy.sparse as sp
from scipy.linalg import LinAlgError

from flda._data import device


@pytest.fixture
def small_tiles(monkeypatch):
    """Matrices of more than 8 rows are cut into tiles of 5."""
    monkeypatch.setattr(device, "MAX_TRIANGLE", 8)
    monkeypatch.setattr(device, "PANEL", 5)


def positive_definite(n, rng):
    A = rng.normal(size=(n, n))
    return A @ A.T + np.diag(rng.uniform(0.1, 10, n))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("n", [3, 8, 9, 10, 23])
def test_factor_by_panels(small_tiles, order, n):
    rng = np.random.default_rng(n)
    A, B = positive_definite(n, rng), rng.normal(size=(n, 4))
    factored = device.Cholesky(np.array(A, order=order))
    np.testing.assert_allclose(factored.solve(B), np.linalg.solve(A, B), rtol=1e-8)
    np.testing.assert_allclose(np.prod(factored.diagonal**2), np.linalg.det(A), rtol=1e-8)


@pytest.mark.parametrize("wrong", [2, 17])
def test_an_indefinite_matrix_is_refused(small_tiles, wrong):
    A = np.eye(20)
    A[wrong, wrong] = -1
    with pytest.raises(LinAlgError):
        device.Cholesky(A)


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


def test_factor_on_the_device(cupy):
    rng = np.random.default_rng(0)
    A, B = positive_definite(12, rng), rng.normal(size=(12, 4))
    factored = device.Cholesky(cupy.asarray(A))
    expected = np.linalg.solve(A, B)
    np.testing.assert_allclose(factored.solve(B), expected, rtol=1e-8)  # the result is where B is
    there = factored.solve(cupy.asarray(B))
    assert device.is_device(there)
    np.testing.assert_allclose(device.to_numpy(there), expected, rtol=1e-8)
    np.testing.assert_allclose(np.prod(factored.diagonal**2), np.linalg.det(A), rtol=1e-8)
    with pytest.raises(LinAlgError):
        device.Cholesky(cupy.asarray(-A))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, bool])
def test_blocks_are_moved_as_dense_floats_of_their_own(cupy, dtype):
    X = (np.arange(24).reshape(8, 3) % 5).astype(dtype)
    for source in (X, sp.csr_array(X), sp.csc_matrix(X), cupy.asarray(X)):
        block = device.to_device(source)
        assert device.is_device(block)
        assert block.dtype == np.float64
        block[0, 0] = 7.0
        np.testing.assert_array_equal(device.to_numpy(block)[1:], X[1:])
    assert X[0, 0] == 0


def test_parts_of_a_matrix_are_taken_where_it_is(cupy):
    X = np.arange(24.0).reshape(8, 3)
    rows = np.array([1, 4, 5])
    for source in (X, sp.csr_array(X), cupy.asarray(X)):
        part = device.OnDevice(source)[rows]
        assert device.is_device(part.source) == device.is_device(source)
        np.testing.assert_array_equal(device.to_numpy(part.on_device()), X[rows])


def test_a_device_that_is_missing_is_named(monkeypatch):
    device.require("cpu")
    with pytest.raises(ValueError, match="'tpu'"):
        device.require("tpu")
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ImportError, match=r"flda\[gpu\]"):
        device.require("cuda")
    fake_cupy.install(monkeypatch, n_devices=0)
    with pytest.raises(device.NoDevice, match="device='cuda'"):
        device.require("cuda")
    broken = fake_cupy.install(monkeypatch)
    device.require("cuda")
    broken.cuda.runtime.getDeviceCount = lambda: 1 / 0  # the runtime has errors of its own
    with pytest.raises(device.NoDevice, match="division"):
        device.require("cuda")
