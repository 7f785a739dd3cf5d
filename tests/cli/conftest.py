import numpy as np
import pandas as pd
import pytest

import flda


@pytest.fixture(scope="session")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "cells.h5ad"
    adata = flda.datasets.t4t5_simulated(n_obs=300, n_vars=100)
    adata.obs["broken"] = pd.Categorical(np.where(adata.obs["subtype"] == "T5d", "x", adata.obs["dendrite"]))
    adata.write_h5ad(path)
    return path


@pytest.fixture
def no_figures(monkeypatch):
    """Runs that are about something else need not draw."""
    monkeypatch.setattr(flda.report, "pictures", lambda adata: [])


@pytest.fixture(autouse=True)
def _restored(flda_logger):
    """Commands set the level and the handlers of the package's logger for their process."""
