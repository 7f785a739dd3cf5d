import pytest

import flda
from flda import datasets


@pytest.fixture(scope="session")
def cells():
    adata = datasets.t4t5_simulated(n_obs=800, n_vars=300)
    flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    flda.tl.held_out_scores(adata)
    return adata
