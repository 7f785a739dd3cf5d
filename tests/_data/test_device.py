"""Matrices on a GPU, with a stand-in for cupy where there is none."""

import sys
from types import SimpleNamespace

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
    fake_cupy.install(monkeypatch, n_devices=0)
    with pytest.raises(device.NoDevice, match="device='cuda'"):
        device.require("cuda")
    broken = fake_cupy.install(monkeypatch)
    device.require("cuda")
    broken.cuda.runtime.getDeviceCount = lambda: 1 / 0  # the runtime has errors of its own
    with pytest.raises(device.NoDevice, match="division"):
        device.require("cuda")
    broken = fake_cupy.install(monkeypatch)
    broken.zeros = lambda shape: 1 / 0  # for instance without a compiler of kernels
    with pytest.raises(device.NoDevice, match="division"):
        device.require("cuda")
    fake_cupy.install(monkeypatch)
    monkeypatch.setitem(sys.modules, "cupyx.cusparse", None)
    with pytest.raises(ImportError, match="cusparse"):
        device.require("cuda")


@pytest.mark.parametrize(
    ("driver", "named", "absent"),
    [
        (13000, "gpu13]", "gpu]"), (12040, "gpu]", "gpu13]"), (11080, "11.8", "gpu13]"), (None, "driver", "beside"),
    ],
)  # fmt: skip
def test_the_extra_for_the_driver_is_named(monkeypatch, driver, named, absent):
    monkeypatch.setattr(device, "driver_version", lambda: driver)
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ImportError) as missing:
        device.require("cuda")
    too_new = fake_cupy.install(monkeypatch)
    too_new.cuda.runtime.getDeviceCount = lambda: 1 / 0  # as with a driver that is too old for cupy
    with pytest.raises(device.NoDevice) as unusable:
        device.require("cuda")
    for error in (missing, unusable):
        assert named in str(error.value)
        assert absent not in str(error.value)


def test_the_driver_is_asked_for_its_version(monkeypatch):
    def library(name):
        if name != "nvcuda.dll":
            raise OSError(name)

        def version(pointer):
            pointer._obj.value = 12060
            return 0

        return SimpleNamespace(cuDriverGetVersion=version)

    monkeypatch.setattr(device.ctypes, "CDLL", library)
    assert device.driver_version() == 12060


def test_memory_that_the_pool_of_cupy_holds_is_free(monkeypatch):
    cupy = fake_cupy.install(monkeypatch)
    before, size = device.free_memory(), device.block_bytes()
    cupy.zeros((1000, 1000))  # freed at once, and kept by the pool
    assert cupy.cuda.runtime.memGetInfo()[0] < before
    assert device.free_memory() == before
    assert device.block_bytes() == size == min(device.BLOCK_BYTES, int(before / device.BLOCK_SHARE))
    cupy.get_default_memory_pool().get_limit = lambda: 12_000
    assert device.block_bytes() == 1000


def test_a_matrix_that_is_there_comes_back(cupy):
    X = np.eye(3)
    for source in (X, sp.csr_array(X), cupy.asarray(X)):
        back = device.to_host(device.OnDevice(source))
        assert not device.is_device(back)
        np.testing.assert_array_equal(back.toarray() if sp.issparse(back) else back, X)
