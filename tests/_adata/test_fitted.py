"""A fit read back: the same cells, genes and parameters, and no simulated cells where a fit is judged."""

import anndata as ad
import numpy as np
import pytest

import flda
from flda._adata.fitted import Fitted

FACTORS = ["dendrite", "axon"]


@pytest.fixture(scope="module")
def cells():
    return flda.datasets.t4t5_simulated(n_obs=300, n_vars=60)


@pytest.mark.parametrize("suffix", ["", "h5ad", "zarr"])
def test_estimators_have_the_parameters_of_the_fit(cells, tmp_path, suffix):
    adata = cells.copy()
    adata.var["use"] = np.arange(60) >= 10
    adata.obs.loc[adata.obs_names[:20], "axon"] = np.nan
    options = {
        "interactions": ["dendrite:axon"], "n_components": {"axon": 2}, "penalty": {"axon": 7.0, "dendrite": 2.0},
        "shrinkage": 0.3, "random_state": 5, "group_means": "shrunken",
    }  # fmt: skip
    flda.tl.flda(adata, FACTORS, nuisance="donor", mask_var="use", **options)
    flda.tl.rank_genes(adata, n_genes={"axon": 3, "dendrite": 2}, exclude=[adata.var_names[20]])
    if suffix:
        getattr(adata, f"write_{suffix}")(tmp_path / f"x.{suffix}")
        adata = getattr(ad, f"read_{suffix}")(tmp_path / f"x.{suffix}")
    fitted = Fitted.read(adata, "flda")
    assert fitted.X.shape == (280, 50)
    assert fitted.cells.tolist() == [False] * 20 + [True] * 280
    assert (fitted.labels.index == adata.obs_names[20:]).all()
    assert fitted.shrinkage == 0.3
    expected = flda.FLDA(nuisance=["donor"], **options)
    assert fitted.dense().get_params() == expected.get_params()
    sparse = fitted.sparse(shrinkage=0.7).get_params()
    assert (sparse.pop("candidates") == (np.arange(10, 60) != 20)).all()
    selecting = flda.SparseFLDA(n_genes={"axon": 3, "dendrite": 2}, nuisance=["donor"], **options)
    expected = selecting.set_params(shrinkage=0.7).get_params()
    del expected["candidates"]
    assert sparse == expected
    model = fitted.dense().fit(fitted.X, fitted.labels, fitted.donors)
    np.testing.assert_allclose(model.components_.T, adata.varm["flda"][10:])


def test_donors_are_read_back(cells):
    adata = cells.copy()
    flda.tl.flda(adata, FACTORS, donor="donor", shrinkage=0.5)
    assert Fitted.read(adata, "flda").donors.tolist() == adata.obs["donor"].tolist()


JUDGING = {
    "certify": flda.tl.certify,
    "effect_tests": flda.tl.effect_tests,
    "stability": flda.tl.stability,
    "held_out_scores": flda.tl.held_out_scores,
    "path": flda.tl.path,
    "scale_check": flda.tl.scale_check,
    "choose_penalty": flda.tl.choose_penalty,
}


@pytest.fixture(scope="module")
def augmented(cells):
    more = flda.pp.augment(cells, FACTORS, method="thin", n_cells=45)
    flda.tl.flda(more, FACTORS, shrinkage=0.5)
    flda.tl.rank_genes(more, n_genes=4)
    return more


@pytest.mark.parametrize("name", JUDGING)
def test_what_judges_a_fit_refuses_simulated_cells(augmented, name):
    before = set(augmented.uns["flda"]), set(augmented.obsm), set(augmented.varm)
    n = int(augmented.obs["flda_augmented"].sum())
    with pytest.raises(ValueError, match=rf"{n} of {augmented.n_obs} .*flda_augmented"):
        JUDGING[name](augmented)
    assert (set(augmented.uns["flda"]), set(augmented.obsm), set(augmented.varm)) == before


def test_a_mark_that_a_file_or_a_merge_has_changed_still_counts(augmented, cells, tmp_path):
    augmented.write_h5ad(tmp_path / "more.h5ad")
    with pytest.raises(ValueError, match="flda_augmented"):
        flda.tl.certify(ad.read_h5ad(tmp_path / "more.h5ad"))
    merged = ad.concat([augmented, cells], join="outer", index_unique="-")
    flda.tl.flda(merged, FACTORS, shrinkage=0.5)
    with pytest.raises(ValueError, match=f"of {merged.n_obs} "):
        flda.tl.certify(merged)


def test_the_real_cells_can_be_fitted_and_judged(augmented):
    real = augmented[~augmented.obs["flda_augmented"]].copy()
    flda.tl.flda(real, FACTORS, shrinkage=0.5)
    flda.tl.certify(real, n_folds=2)
    assert flda.get.certificate_df(real)["snr"].notna().all()
