import matplotlib.pyplot as plt
import pytest

import flda


@pytest.fixture(scope="session")
def fitted():
    """With a selection and a certificate."""
    adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=120)
    flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    flda.tl.rank_genes(adata, n_genes=6)
    flda.tl.certify(adata)
    return adata


@pytest.fixture
def adata(fitted):
    return fitted.copy()


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")
