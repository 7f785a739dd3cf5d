import os

if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores; BLAS must not take them all in each
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import logging
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("flda", deadline=None, max_examples=20, derandomize=True)
settings.load_profile("flda")

SHARED = Path(__file__).parents[2] / "shared" / "data"
if "FLDA_DATA_DIR" not in os.environ and SHARED.is_dir():
    os.environ["FLDA_DATA_DIR"] = str(SHARED)


def pytest_addoption(parser):
    parser.addoption("--run-slow", action="store_true", help="run the tests that take minutes")


def pytest_collection_modifyitems(config, items):
    for item in items:
        if "slow" in item.keywords and not config.getoption("--run-slow"):
            item.add_marker(pytest.mark.skip(reason="slow; add --run-slow"))
        if "data" in item.keywords and "FLDA_DATA_DIR" not in os.environ:
            item.add_marker(pytest.mark.skip(reason="needs public data: set FLDA_DATA_DIR to its folder"))


@pytest.fixture(autouse=True)
def _logger():
    """The command line sets up logging for its process; the tests that follow it in the same one start afresh."""
    logger = logging.getLogger("flda")
    level, handlers = logger.level, list(logger.handlers)
    yield
    logger.setLevel(level)
    logger.handlers = handlers
