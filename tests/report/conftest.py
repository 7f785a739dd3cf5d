import pytest

import flda

FACTORS = ["dendrite", "axon"]


@pytest.fixture(scope="session")
def fitted():
    """With a selection and a certificate."""
    adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=120)
    flda.tl.flda(adata, FACTORS, shrinkage=0.5)
    flda.tl.rank_genes(adata, n_genes=12)
    flda.tl.certify(adata)
    return adata


@pytest.fixture
def adata(fitted):
    return fitted.copy()


@pytest.fixture(scope="session")
def page(fitted):
    return flda.report.render(fitted)
