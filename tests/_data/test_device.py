"""Matrices on a GPU, with a stand-in for cupy where there is none."""

import sys

import fake_cupy
import numpy as np
import pytest
import scipy.sparse as sp

from flda._data import device


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
