import anndata as ad
import numpy as np
import pandas as pd
import pytest

import flda
from flda.inference._certificate import certify

FACTORS = ["dendrite", "axon"]


@pytest.fixture(scope="module")
def adata():
    adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=80)
    flda.tl.flda(adata, FACTORS, shrinkage=0.5)
    return adata


def test_equals_the_estimators(adata, tmp_path):
    out = flda.tl.path(adata, n_genes=[8, 3, 8], copy=True)
    assert "path" not in adata.uns["flda"]
    table = flda.get.path_df(out)
    assert table.groupby("n_genes").size().to_dict() == {3: 7, 8: 7}
    fitted = flda.SparseFLDA(shrinkage=0.5).path(adata.X, adata.obs[FACTORS], [3, 8])
    np.testing.assert_allclose(table["eigenvalue"], fitted["eigenvalue"])
    for k in (3, 8):
        model = flda.SparseFLDA(n_genes=k, shrinkage=0.5, random_state=0)
        own = certify(model, adata.X, adata.obs[FACTORS], random_state=0)
        np.testing.assert_allclose(table.loc[table["n_genes"] == k, ["snr", "crosstalk"]], own[["snr", "crosstalk"]])
    out.write_h5ad(tmp_path / "x.h5ad")
    pd.testing.assert_frame_equal(flda.get.path_df(ad.read_h5ad(tmp_path / "x.h5ad")), table, check_dtype=False)


@pytest.mark.parametrize(("arguments", "named"), [({"n_genes": []}, "n_genes"), ({"n_genes": [3, 500]}, "n_genes=500")])
def test_bad_input_is_named_and_nothing_is_written(adata, arguments, named):
    with pytest.raises(ValueError, match=named):
        flda.tl.path(adata, **arguments)
    assert "path" not in adata.uns["flda"]
