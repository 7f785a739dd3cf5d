import os

if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores; BLAS must not take them all in each
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import logging
from pathlib import Path

import fake_cupy
import pytest
from hypothesis import settings

import array_kinds

settings.register_profile("flda", deadline=None, max_examples=20, derandomize=True)
settings.load_profile("flda")

SHARED = Path(__file__).parents[2] / "shared" / "data"
if "FLDA_DATA_DIR" not in os.environ and SHARED.is_dir():
    os.environ["FLDA_DATA_DIR"] = str(SHARED)


def pytest_addoption(parser):
    parser.addoption("--run-slow", action="store_true", help="run the tests that take minutes")


def pytest_configure(config):
    # they are what the package says of data and designs, not faults; tests of what it says use pytest.warns
    config.addinivalue_line("filterwarnings", "ignore::flda.FLDAWarning")


def pytest_collection_modifyitems(config, items):
    for item in items:
        if "slow" in item.keywords and not config.getoption("--run-slow"):
            item.add_marker(pytest.mark.skip(reason="slow; add --run-slow"))
        if "data" in item.keywords and "FLDA_DATA_DIR" not in os.environ:
            item.add_marker(pytest.mark.skip(reason="needs public data: set FLDA_DATA_DIR to its folder"))


@pytest.fixture(autouse=True)
def logging_stays_on():
    """A test that switches logging off for the whole process would blind all that run after it."""
    yield
    assert logging.root.manager.disable == logging.NOTSET


@pytest.fixture
def flda_logger():
    """The package's logger, restored afterwards: the command line sets its level and handlers for the whole process."""
    logger = logging.getLogger("flda")
    level, handlers = logger.level, list(logger.handlers)
    yield logger
    logger.setLevel(level)
    logger.handlers = handlers


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of rows small enough that the matrices of the tests have several, in memory and on a GPU."""
    monkeypatch.setattr("flda._data.arrays.BLOCK_BYTES", 8 * 70 * 33)
    monkeypatch.setattr("flda._data.device.BLOCK_BYTES", 8 * 60 * 40)


@pytest.fixture(params=["stand-in", pytest.param("GPU", marks=array_kinds.NEEDS_GPU)])
def cupy(request, monkeypatch, small_blocks):
    """Cupy: a stand-in that refuses to mix host and device, and the real one where there is a GPU."""
    return (
        fake_cupy.install(monkeypatch)
        if request.param == "stand-in"
        else pytest.importorskip("cupy", reason="needs cupy and a GPU")
    )


@pytest.fixture
def store(kind, monkeypatch, small_blocks):
    """The function that stores a dense matrix as the ``kind`` of the test, see :mod:`array_kinds`."""
    if kind.startswith(array_kinds.STAND_IN):
        fake_cupy.install(monkeypatch)
    return array_kinds.EVERY[kind]
