import anndata as ad
import numpy as np
import pandas as pd
import pytest

import flda
from flda import FLDA, SparseFLDA
from flda.inference import stability_selection
from flda.inference._certificate import certify_together
from flda.inference._tests import permutation_test

from oracle import donor_problem

FACTORS = ["dendrite", "axon"]


@pytest.fixture
def fitted():
    adata = flda.datasets.t4t5_simulated(n_obs=320, n_vars=60)
    flda.tl.flda(adata, FACTORS, shrinkage=0.5)
    return adata


def with_donors(n_donors=4):
    X, y, donors = donor_problem(n_donors, 15, 30)
    obs = y.assign(donor=donors).set_index(pd.Index([f"c{i}" for i in range(len(y))]))
    return ad.AnnData(X, obs=obs)


def test_certificate_is_that_of_the_estimators(fitted):
    flda.tl.rank_genes(fitted, n_genes=5)
    flda.tl.certify(fitted, n_folds=4, random_state=3)
    options = {"shrinkage": 0.5, "random_state": 0}
    models = {"all": FLDA(**options), "selected": SparseFLDA(n_genes=5, **options)}
    expected = certify_together(models, fitted.X, fitted.obs[FACTORS], n_folds=4, random_state=3)
    pd.testing.assert_frame_equal(flda.get.certificate_df(fitted), expected)


def test_permutations_and_stability_are_those_of_the_functions(fitted):
    flda.tl.rank_genes(fitted, n_genes=5)
    flda.tl.permutation_test(fitted, effects="axon", n_perms=29)
    flda.tl.stability(fitted, n_halves=4, n_boots=10)
    result = permutation_test(FLDA(shrinkage=0.5), fitted.X, fitted.obs[FACTORS], effects=["axon"], n_perms=29)
    slot = fitted.uns["flda"]["permutation"]
    pd.testing.assert_frame_equal(slot["table"], result.table)
    np.testing.assert_allclose(fitted.varm["flda_pval"][:, 1], result.genes["pval"])
    assert np.isnan(fitted.varm["flda_pval"][:, [0, 2]]).all()
    halves = stability_selection(SparseFLDA(n_genes=5, shrinkage=0.5), fitted.X, fitted.obs[FACTORS], n_halves=4)
    frequency = halves.genes.query("effect == 'axon'").set_index("gene")["frequency"]
    table = flda.get.rank_genes_df(fitted, "axon").query("axis == 'axon_2'").set_index("gene")
    for place, value in frequency.items():
        assert table.loc[fitted.var_names[place], "frequency"] == value
    assert table["frequency"].sum() == pytest.approx(frequency.sum())
    np.testing.assert_allclose(table.loc[fitted.var_names, "pval_adj"], result.genes["pval_adj"])
    assert flda.get.rank_genes_df(fitted, "dendrite")["pval"].isna().all()
    scores = fitted.uns["flda"]["stability"]["scores"]
    assert len(scores) == 7 * 8
    assert set(fitted.uns["flda"]["stability"]["loadings"]["gene"]) <= set(fitted.var_names)


@pytest.mark.filterwarnings("ignore:The inplace keyword:DeprecationWarning")  # scanpy's own
def test_rank_genes_runs_both_and_scanpy_sees_the_p_values(fitted):
    sc = pytest.importorskip("scanpy")
    flda.tl.rank_genes(fitted, n_genes=5, n_perms=19, n_halves=2)
    table = flda.get.rank_genes_df(fitted, "dendrite")
    assert table["pval"].notna().all()
    assert table["frequency"].notna().all()
    seen = sc.get.rank_genes_groups_df(fitted, "dendrite_1", key="rank_genes_flda")
    np.testing.assert_allclose(seen["pvals_adj"], table["pval_adj"])
    flda.tl.certify(fitted, n_folds=2)
    flda.tl.rank_genes(fitted, n_genes=4)  # another selection: what was said of the old one goes
    assert "stability" not in fitted.uns["flda"]
    with pytest.raises(ValueError, match=r"no certificate of this fit yet; run flda\.tl\.certify"):
        flda.get.certificate_df(fitted)
    flda.tl.flda(fitted, FACTORS, shrinkage=0.4)
    assert not [name for name in fitted.varm if "pval" in name]


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_everything_survives_the_disk(fitted, tmp_path, kind):
    if kind == "zarr":
        pytest.importorskip("zarr")
    flda.tl.rank_genes(fitted, n_genes={"dendrite": 4, "axon": 4, "dendrite:axon": 4}, n_perms=9, n_halves=2)
    flda.tl.certify(fitted, n_folds=2)
    before = {"certificate": flda.get.certificate_df(fitted), "genes": flda.get.rank_genes_df(fitted)}
    path = tmp_path / f"result.{kind}"
    getattr(fitted, f"write_{kind}")(path)
    again = getattr(ad, f"read_{kind}")(path)
    pd.testing.assert_frame_equal(flda.get.certificate_df(again), before["certificate"], check_dtype=False)
    pd.testing.assert_frame_equal(flda.get.rank_genes_df(again), before["genes"], check_dtype=False)
    flda.tl.certify(again, n_folds=2)  # and the selection can be certified again
    pd.testing.assert_frame_equal(flda.get.certificate_df(again), before["certificate"], check_dtype=False)
    flda.tl.stability(again, n_halves=2, n_boots=0)
    a, b = (x.uns["flda"]["stability"]["genes"]["frequency"].to_numpy() for x in (again, fitted))
    np.testing.assert_array_equal(a, b)


def test_donors_of_the_fit_are_the_units():
    adata = with_donors()
    flda.tl.flda(adata, ["treatment", "type"], donor="donor")
    assert 0 < adata.uns["flda"]["fit"]["donor_share"] < 1
    flda.tl.rank_genes(adata, n_genes=3)
    flda.tl.permutation_test(adata, n_perms=19)
    flda.tl.stability(adata, n_halves=2, n_boots=10)
    flda.tl.certify(adata)
    units = adata.uns["flda"]["permutation"]["table"].set_index("effect")["unit"].to_dict()
    assert units == {"treatment": "donor", "type": "cell", "treatment:type": "donor"}
    assert adata.uns["flda"]["stability"]["params"]["unit"] == "donor"
    assert flda.get.certificate_df(adata)["n_folds"].unique() == [2]


def test_a_refusal_leaves_everything_as_it_was():
    adata = with_donors(2)
    flda.tl.flda(adata, ["treatment", "type"], donor="donor", shrinkage=0.5)
    before = set(adata.uns["flda"]), set(adata.varm), set(adata.uns)
    with pytest.raises(ValueError, match="needs 3 or more per level"):
        flda.tl.permutation_test(adata, effects=["treatment"])
    with pytest.raises(ValueError, match=r"run flda\.tl\.rank_genes first"):
        flda.tl.stability(adata)
    with pytest.raises(ValueError, match="n_halves=1"):
        flda.tl.rank_genes(adata, n_genes=3, n_halves=1)
    with pytest.raises(ValueError, match="uns has no 'other'"):
        flda.tl.certify(adata, key="other")
    assert (set(adata.uns["flda"]), set(adata.varm), set(adata.uns)) == before


def test_copies_leave_the_original(fitted):
    out = flda.tl.certify(fitted, copy=True)
    assert "certificate" in out.uns["flda"]
    assert "certificate" not in fitted.uns["flda"]
    assert "flda_pval" in flda.tl.permutation_test(fitted, n_perms=9, copy=True).varm
    assert "flda_pval" not in fitted.varm


def test_unlabelled_cells_and_masked_genes_take_no_part():
    adata = flda.datasets.t4t5_simulated(n_obs=340, n_vars=100)
    adata.obs.loc[adata.obs_names[:20], "axon"] = np.nan
    adata.var["use"] = np.arange(100) < 90
    part = adata[20:, :90].copy()
    for data, mask in ((adata, "use"), (part, None)):
        flda.tl.flda(data, FACTORS, shrinkage=0.5, mask_var=mask)
        flda.tl.rank_genes(data, n_genes=4, n_perms=9, n_halves=2)
        flda.tl.certify(data, n_folds=2)
    pd.testing.assert_frame_equal(flda.get.certificate_df(adata), flda.get.certificate_df(part))
    columns = ["axis", "gene", "frequency", "pval", "pval_adj"]
    pd.testing.assert_frame_equal(flda.get.rank_genes_df(adata)[columns], flda.get.rank_genes_df(part)[columns])
    assert np.isnan(adata.varm["flda_pval"][90:]).all()


def test_variance_shares_add_up_and_name_the_planted():
    adata = flda.datasets.t4t5_simulated(n_obs=1600, n_vars=200)
    flda.tl.flda(adata, FACTORS, shrinkage=0.5)
    table = adata.uns["flda"]["variance"].set_index("effect")
    assert table["share"].sum() == pytest.approx(1)
    assert table.index.tolist() == ["dendrite", "axon", "dendrite:axon", "within"]
    assert table["df"].tolist() == [1, 3, 3, 1592]
    assert (table["share"] > 0).all()
    assert table["share"].idxmax() == "within"
