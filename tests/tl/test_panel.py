"""Panels on an AnnData: names, costs, storage and certificates."""

import numpy as np
import pandas as pd
import pytest
from anndata import read_h5ad

import flda
from flda import FLDA, PanelFLDA
from flda.inference import certify

FACTORS = ["dendrite", "axon"]


@pytest.fixture(scope="module")
def fitted():
    adata = flda.datasets.t4t5_simulated(n_obs=300, n_vars=60)
    adata.var["price"] = np.linspace(1, 3, 60)
    adata.var["used"] = np.arange(60) != 59
    flda.tl.flda(adata, FACTORS, shrinkage=0.5, mask_var="used")
    return adata


def test_the_panel_is_that_of_the_arrays(fitted, tmp_path):
    adata, used = fitted.copy(), fitted.var["used"].to_numpy()
    names = adata.var_names
    assert flda.tl.panel(adata, 9, include=[names[8]], exclude=list(names[:3]), min_per_axis=1) is None
    model = PanelFLDA(n_genes=9, include=[8], candidates=np.arange(59) > 2, min_per_axis=1, shrinkage=0.5)
    model.fit(adata.X[:, used], adata.obs[FACTORS])
    table = flda.get.panel_df(adata)
    assert table["gene"].tolist() == names[model.panel_].tolist()
    assert table.loc[table["included"], "gene"].tolist() == [names[8]]
    np.testing.assert_allclose(table["loss"], model.panel_table_["loss"])
    np.testing.assert_allclose(table["F_axon"], adata.varm["flda_F"][model.panel_, 1])
    np.testing.assert_allclose(table["score_axon_1"], (model.components_ * model.within_sd_)[1, model.panel_])
    np.testing.assert_allclose(adata.varm["flda_panel"][used], model.components_.T)
    axes = flda.get.panel_axes_df(adata)
    np.testing.assert_allclose(axes["eigenvalue"], model.eigenvalues_)
    assert (axes["eigenvalue_all_genes"] > axes["eigenvalue"]).all()
    adata.write_h5ad(tmp_path / "panel.h5ad")
    again = read_h5ad(tmp_path / "panel.h5ad")
    pd.testing.assert_frame_equal(flda.get.panel_df(again), table, check_dtype=False)

    flda.tl.certify(again, n_folds=3, genes=["panel"])
    found = flda.get.certificate_df(again)
    expected = certify(model, adata.X[:, used], adata.obs[FACTORS], n_folds=3)
    assert set(found["genes"]) == {"panel"}
    np.testing.assert_allclose(found["snr"], expected["snr"], rtol=1e-6)
    flda.tl.panel(again, 5)
    with pytest.raises(ValueError, match="certify"):
        flda.get.certificate_df(again)


def test_costs_come_from_a_column_or_a_mapping(fitted):
    one = flda.tl.panel(fitted, cost="price", budget=12.0, copy=True)
    table = flda.get.panel_df(one)
    assert table["cost"].sum() <= 12.0
    prices = fitted.var["price"]
    np.testing.assert_allclose(table["cost"], prices[table["gene"]])
    two = flda.tl.panel(fitted, cost=prices.to_dict(), budget=12.0, copy=True)
    assert flda.get.panel_df(two)["gene"].tolist() == table["gene"].tolist()
    few = prices.iloc[10:30].to_dict()
    assert set(flda.get.panel_df(flda.tl.panel(fitted, 4, cost=few, budget=99.0, copy=True))["gene"]) <= set(few)
    again = one.copy()
    flda.tl.certify(again, n_folds=2, genes="panel")
    assert np.isfinite(flda.get.certificate_df(again)["snr"]).all()


def test_effects_of_the_panel_survive_a_file(fitted, tmp_path):
    adata = flda.tl.panel(fitted, 6, effects={"axon": 2.0, "dendrite": 1.0}, copy=True)
    adata.write_h5ad(tmp_path / "panel.h5ad")
    again = read_h5ad(tmp_path / "panel.h5ad")
    flda.tl.certify(again, n_folds=2, genes=["all", "panel"])
    assert flda.get.certificate_df(again)["genes"].unique().tolist() == ["all", "panel"]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({}, "n_genes"),
        ({"n_genes": 5, "include": ["nobody"]}, "nobody"),
        ({"n_genes": 5, "exclude": ["nobody"]}, "nobody"),
        ({"n_genes": 5, "include": ["gene_59"]}, "gene_59"),
        ({"n_genes": 5, "include": ["gene_01"], "exclude": ["gene_01"]}, "gene_01"),
        ({"n_genes": 5, "include": ["gene_01", "gene_01"]}, "gene_01"),
        ({"n_genes": 1, "include": ["gene_01", "gene_02"]}, "n_genes=1"),
        ({"n_genes": 5, "exclude": [f"gene_{j:02d}" for j in range(60)]}, "exclude"),
        ({"n_genes": 61}, "59"),
        ({"n_genes": 5, "effects": ["nobody"]}, "nobody"),
        ({"n_genes": 5, "cost": "nothing", "budget": 3.0}, "nothing"),
        ({"n_genes": 5, "cost": "price"}, "budget"),
        ({"n_genes": 5, "budget": 3.0}, "cost"),
        ({"n_genes": 5, "cost": {"nobody": 1.0}, "budget": 3.0}, "nobody"),
        ({"n_genes": 5, "cost": {"gene_01": -1.0}, "budget": 3.0}, "gene_01"),
        ({"n_genes": 5, "cost": {"gene_01": "dear"}, "budget": 3.0}, "gene_01"),
        ({"n_genes": 5, "cost": {"gene_01": 1}, "include": ["gene_02"], "budget": 3.0}, "gene_02"),
        ({"n_genes": 5, "min_per_axis": 2}, "min_per_axis=2"),
    ],
)
def test_bad_demands_are_named_and_change_nothing(fitted, options, word):
    before = list(fitted.uns["flda"])
    assert fitted.var_names[1] == "gene_01"
    with pytest.raises(ValueError, match=word):
        flda.tl.panel(fitted, **options)
    assert list(fitted.uns["flda"]) == before


def test_certify_names_what_there_is(fitted):
    with pytest.raises(ValueError, match="all"):
        flda.tl.certify(fitted, genes=["panel"])
    dense = certify(FLDA(shrinkage=0.5), fitted.X[:, fitted.var["used"].to_numpy()], fitted.obs[FACTORS], n_folds=2)
    adata = fitted.copy()
    flda.tl.certify(adata, n_folds=2)
    np.testing.assert_allclose(flda.get.certificate_df(adata)["snr"], dense["snr"])
