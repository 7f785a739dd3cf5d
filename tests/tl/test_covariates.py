"""A covariate from obs through the steps, the tables and a file."""

import anndata as ad
import numpy as np
import pytest

import flda

FACTORS = ["dendrite", "axon"]
DEPTH = {"nuisance": ["log_depth"], "numeric": ["log_depth"]}


@pytest.fixture(scope="module")
def fitted():
    adata = flda.datasets.t4t5_simulated(n_obs=300, n_vars=60)
    adata.obs["log_depth"] = np.log(np.asarray(adata.layers["counts"].sum(axis=1)).ravel())
    flda.tl.flda(adata, FACTORS, shrinkage=0.4, **DEPTH)
    return adata


def test_the_fit_is_that_of_the_estimator(fitted):
    model = flda.FLDA(shrinkage=0.4, **DEPTH).fit(fitted.X, fitted.obs[[*FACTORS, "log_depth"]])
    np.testing.assert_allclose(fitted.varm["flda"], model.components_.T)
    assert list(dict.fromkeys(flda.get.axes_df(fitted)["effect"])) == ["dendrite", "axon", "dendrite:axon"]
    assert flda.get.design_df(fitted).columns.tolist()[:2] == FACTORS


@pytest.mark.parametrize("suffix", ["", "h5ad", "zarr"])
def test_later_steps_take_the_covariate_from_the_fit(fitted, tmp_path, suffix):
    adata = fitted.copy()
    if suffix:
        getattr(adata, f"write_{suffix}")(tmp_path / f"x.{suffix}")
        adata = getattr(ad, f"read_{suffix}")(tmp_path / f"x.{suffix}")
    flda.tl.rank_genes(adata, n_genes=4)
    flda.tl.effect_tests(adata, n_resamples=19)
    flda.tl.certify(adata)
    model = flda.FLDA(shrinkage=0.4, **DEPTH)
    labels = adata.obs[[*FACTORS, "log_depth"]].reset_index(drop=True)
    tests = flda.inference.effect_tests(model, adata.X, labels, n_resamples=19)
    found = flda.get.effect_tests_df(adata)
    np.testing.assert_allclose(found["statistic"], tests.table["statistic"], rtol=1e-6)
    assert np.isfinite(flda.get.certificate_df(adata)["snr"]).all()


def test_new_cells_need_no_covariate(fitted):
    new = ad.AnnData(fitted.X[:100].copy(), fitted.obs[FACTORS].iloc[:100].copy(), fitted.var[[]].copy())
    flda.tl.predict(new, fitted)
    assert (new.obs["flda_dendrite"] == new.obs["dendrite"]).mean() > 0.7


def test_the_report_is_written(fitted, tmp_path):
    flda.report.write(fitted, tmp_path / "report.html")
    assert "log_depth" in (tmp_path / "report.html").read_text()
