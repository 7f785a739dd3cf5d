import numpy as np
import pandas as pd
import pytest

import flda
from flda import FLDA, inference
from flda.report._answers import answers

from array_kinds import dask_of

FACTORS = ["dendrite", "axon"]


@pytest.fixture
def fitted():
    adata = flda.datasets.t4t5_simulated(n_obs=320, n_vars=60)
    adata.obs.loc[adata.obs_names[:20], "axon"] = np.nan
    flda.tl.flda(adata, FACTORS, shrinkage=0.5, mask_var=np.arange(60) >= 10)
    return adata


def test_it_is_that_of_the_function(fitted):
    flda.tl.scale_check(fitted, n_resamples=49)
    cells, counts = fitted.obs_names[20:], fitted.layers["counts"][20:]
    found = inference.scale_check(
        FLDA(), fitted.X[20:, 10:], fitted.obs.loc[cells, FACTORS],
        counts=counts[:, 10:], depth=np.asarray(counts.sum(axis=1)).ravel(), n_resamples=49,
    )  # fmt: skip
    pd.testing.assert_frame_equal(flda.get.scale_check_df(fitted), found.table)
    genes = fitted.uns["flda"]["scale_check"]["genes"]
    assert genes["gene"].tolist() == fitted.var_names[10:][found.genes["gene"]].tolist()
    said = answers(fitted, flda.get.rank_genes_df(fitted))
    certified = fitted.copy()
    flda.tl.certify(certified, n_folds=2)
    said = answers(certified, flda.get.rank_genes_df(certified))
    assert found.table["reading"].iloc[0] in " ".join(said[0].details)


@pytest.mark.parametrize("form", [lambda X: dask_of(X, 90), lambda X: dask_of(X.toarray(), 90)])
def test_counts_that_are_read_in_blocks(fitted, form):
    other = fitted.copy()
    other.layers["counts"] = form(other.layers["counts"])
    for adata in (fitted, other):
        flda.tl.scale_check(adata, n_resamples=19)
    pd.testing.assert_frame_equal(flda.get.scale_check_df(other), flda.get.scale_check_df(fitted))


def test_without_counts_the_layer_is_named(fitted):
    fitted.layers["raw"] = fitted.layers.pop("counts")
    with pytest.raises(ValueError, match=r"'counts'.*raw"):
        flda.tl.scale_check(fitted)
    assert "scale_check" not in fitted.uns["flda"]
    flda.tl.scale_check(fitted, layer="raw", n_resamples=9)
