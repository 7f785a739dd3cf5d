import anndata as ad
import numpy as np
import pandas as pd
import pytest

import flda
from flda.simulate import fit_counts

FACTORS = ["dendrite", "axon"]
METHODS = ["simulate", "thin", "recombine", "transfer"]


@pytest.fixture(scope="module")
def whole():
    return flda.datasets.t4t5_simulated(500, 80)


@pytest.fixture(scope="module")
def adata(whole):
    """T5d keeps five cells."""
    rare = np.flatnonzero(whole.obs["subtype"] == "T5d")
    return whole[np.setdiff1d(np.arange(500), rare[5:])].copy()


def group(adata, dendrite="T5", axon="d"):
    return adata[(adata.obs["dendrite"] == dendrite) & (adata.obs["axon"] == axon)]


def added(adata, dendrite="T5", axon="d"):
    own = group(adata, dendrite, axon)
    return own[own.obs["flda_augmented"]].layers["counts"].toarray()


@pytest.mark.parametrize("method", METHODS)
def test_groups_are_filled_and_real_cells_are_left_alone(adata, method):
    more = flda.pp.augment(adata, FACTORS, method=method, n_cells=40, donor="donor", random_state=1)
    n = adata.n_obs
    sizes = more.obs.groupby(FACTORS, observed=True).size()
    np.testing.assert_array_equal(sizes, np.maximum(adata.obs.groupby(FACTORS, observed=True).size(), 40))
    assert more.obs["flda_augmented"].dtype == bool
    assert not more.obs["flda_augmented"][:n].any()
    assert more.obs["flda_augmented"][n:].all()
    assert (more.X[:n] != adata.X).nnz == 0
    assert (more.layers["counts"][:n] != adata.layers["counts"]).nnz == 0
    pd.testing.assert_frame_equal(more.obs[[*FACTORS, "donor"]][:n], adata.obs[[*FACTORS, "donor"]])
    assert more.obs["donor"].notna().all()
    assert more.obs["subtype"][n:].isna().all()
    assert more.obs_names.is_unique
    new = more[n:]
    counts = new.layers["counts"].toarray()
    assert np.all(counts == np.round(counts))
    assert np.all(counts >= 0)
    np.testing.assert_allclose(np.expm1(new.X.toarray()).sum(axis=1), 1e4, rtol=1e-4)
    again = flda.pp.augment(adata, FACTORS, method=method, n_cells=40, donor="donor", random_state=1)
    other = flda.pp.augment(adata, FACTORS, method=method, n_cells=40, donor="donor", random_state=2)
    assert (again.layers["counts"] != more.layers["counts"]).nnz == 0
    assert (other.layers["counts"] != more.layers["counts"]).nnz > 0


def test_the_median_group_is_the_default_and_full_groups_need_nothing(adata):
    sizes = adata.obs.groupby(FACTORS, observed=True).size()
    assert flda.pp.augment(adata, FACTORS, method="thin").obs.groupby(FACTORS, observed=True).size().min() == int(
        sizes.median()
    )
    same = flda.pp.augment(adata, FACTORS, n_cells=5)
    assert same.n_obs == adata.n_obs
    assert not same.obs["flda_augmented"].any()


@pytest.mark.parametrize("base", [2, 10])
def test_new_cells_are_normalised_as_the_real_ones_whatever_the_base_of_the_logarithm(adata, base):
    other = adata.copy()
    other.X = other.X / np.float32(np.log(base))
    other.uns["log1p"] = {"base": base}
    more = flda.pp.augment(other, FACTORS, method="thin", n_cells=40)
    new = more[more.obs["flda_augmented"]]
    np.testing.assert_allclose((base ** new.X.toarray() - 1).sum(axis=1), 1e4, rtol=1e-3)
    assert more.uns["log1p"]["base"] == base


def test_dense_matrices_give_the_same_cells_as_sparse_ones(adata):
    dense = adata.copy()
    dense.X, dense.layers["counts"] = dense.X.toarray(), dense.layers["counts"].toarray()
    ours, theirs = (flda.pp.augment(a, FACTORS, method="thin", n_cells=40) for a in (dense, adata))
    assert isinstance(ours.X, np.ndarray)
    np.testing.assert_array_equal(ours.X, theirs.X.toarray())


@pytest.mark.parametrize("method", ["simulate", "thin", "recombine"])
def test_new_cells_have_donors_and_batches_of_their_group(adata, method):
    part = adata.copy()
    rare = (part.obs["subtype"] == "T5d").to_numpy()
    part.obs["batch"] = np.where(rare, "y", "x")
    part.obs["donor"] = np.where(rare, "donor4", part.obs["donor"].astype(str))
    more = flda.pp.augment(part, ["dendrite", "axon"], method=method, n_cells=20, nuisance="batch", donor="donor")
    own = group(more)
    assert set(own.obs["batch"]) == {"y"}
    assert set(own.obs["donor"]) == {"donor4"}


def test_transfer_takes_cells_of_the_full_groups_that_share_most_levels():
    rng = np.random.default_rng(0)
    labels = pd.DataFrame([(a, b) for a in "pqr" for b in "uvw" for _ in range(30)], columns=["a", "b"])
    labels["donor"] = labels["a"] + labels["b"]
    keep = np.ones(len(labels), dtype=bool)
    keep[(labels["a"] == "p") & (labels["b"] == "u")] = np.arange(30) < 4
    obs = labels[keep].set_index(np.flatnonzero(keep).astype(str))
    data = ad.AnnData(rng.poisson(3.0, size=(keep.sum(), 20)).astype(np.float32), obs=obs)
    more = flda.pp.augment(data, ["a", "b"], method="transfer", n_cells=30, donor="donor", layer=None)
    assert set(more.obs["donor"][more.obs["flda_augmented"]]) == {"pv", "pw", "qu", "ru"}


def test_thinning_keeps_its_share_of_the_transcripts(adata):
    own = group(adata).layers["counts"].toarray()
    copies = added(flda.pp.augment(adata, FACTORS, method="thin", n_cells=30, variation=0.0))
    times = pd.Series([tuple(c) for c in copies]).value_counts()
    assert set(times.index) == {tuple(c) for c in own}
    assert set(times) == {5}  # 25 new cells from 5
    for variation in (0.5, 2.0):
        new = added(flda.pp.augment(adata, FACTORS, method="thin", n_cells=400, variation=variation))
        assert new.mean() / own.mean() == pytest.approx(2**-variation, rel=0.05)


def test_recombination_takes_each_gene_from_one_of_two_cells_of_the_group(adata):
    own = group(adata).layers["counts"].toarray()
    copies = added(flda.pp.augment(adata, FACTORS, method="recombine", n_cells=30, variation=0.0))
    assert np.all(copies.sum(axis=1) <= own.sum(axis=1).max())
    new = added(flda.pp.augment(adata, FACTORS, method="recombine", n_cells=60))
    assert np.all(new <= own.max(axis=0))
    assert len({tuple(c) for c in new}) > 40


def test_simulated_cells_have_the_means_of_the_model(adata):
    new = added(flda.pp.augment(adata, FACTORS, n_cells=800, variation=1.0, random_state=3))
    model = fit_counts(adata, FACTORS)
    labels = pd.DataFrame({"dendrite": ["T5"] * 2000, "axon": ["d"] * 2000})
    library = model.library_of(labels, np.random.default_rng(0)).mean()
    expected = model.group_means(labels[:1])[0] * library
    seen = expected > 0.5
    np.testing.assert_allclose(new.mean(axis=0)[seen], expected[seen], rtol=0.3)
    assert np.median(np.abs(np.log(new.mean(axis=0)[seen] / expected[seen]))) < 0.06


def test_transfer_carries_the_main_effects_over_and_fills_empty_groups(whole):
    rng = np.random.default_rng(0)
    labels = pd.DataFrame({"a": np.repeat(["p", "q"], 300), "b": np.tile(["u", "v", "w"], 200)})
    log_mu = np.full((600, 40), 1.5)
    log_mu[labels["a"] == "q", :10] += 1.0
    log_mu[labels["b"] == "w", 10:20] -= 1.0
    log_mu[labels["b"] == "w", 20:25] += 3.0
    keep = ~((labels["a"] == "q") & (labels["b"] == "w")).to_numpy()
    Y = rng.poisson(np.exp(log_mu))
    data = ad.AnnData(Y[keep].astype(np.float32), obs=labels[keep].set_index(np.flatnonzero(keep).astype(str)))
    more = flda.pp.augment(data, ["a", "b"], method="transfer", n_cells=90, fill_empty=True, layer=None)
    new = more[more.obs["flda_augmented"]]
    assert (new.obs[["a", "b"]] == ["q", "w"]).all(axis=None)
    assert new.n_obs == 90
    truth = Y[~keep].mean(axis=0) / Y[~keep].sum(axis=1).mean()
    ours = new.X.mean(axis=0) / new.X.sum(axis=1).mean()
    ratio = np.log(ours / truth)
    for genes in (slice(0, 10), slice(10, 20), slice(20, 25), slice(25, 40)):  # each block moves by 1 or 3
        assert ratio[genes].mean() == pytest.approx(0, abs=0.12)
    assert np.abs(ratio).max() < 0.5
    simulated = flda.pp.augment(data, ["a", "b"], n_cells=90, fill_empty=True, layer=None)
    assert simulated.n_obs == data.n_obs + 90
    assert flda.pp.augment(data, ["a", "b"], n_cells=90, layer=None).n_obs == data.n_obs


def test_shrinkage_and_variance_come_from_real_cells(adata):
    more = flda.pp.augment(adata, FACTORS, method="thin", n_cells=60, variation=0.0)
    flda.tl.flda(more, FACTORS)
    real = adata.copy()
    flda.tl.flda(real, FACTORS)
    ours, theirs = more.uns["flda"], real.uns["flda"]
    assert ours["fit"]["shrinkage"] == theirs["fit"]["shrinkage"]
    assert ours["fit"]["n_augmented"] == more.obs["flda_augmented"].sum()
    assert ours["params"]["shrinkage"] == "auto"
    pd.testing.assert_frame_equal(ours["variance"], theirs["variance"])
    assert not np.allclose(more.varm["flda"], real.varm["flda"])


def test_without_real_cells_in_a_group_its_variance_is_left_out(adata, recwarn):
    part = adata[adata.obs["subtype"] != "T5d"].copy()
    more = flda.pp.augment(part, FACTORS, method="transfer", n_cells=30, fill_empty=True)
    flda.tl.flda(more, FACTORS, shrinkage=0.5)
    assert more.uns["flda"]["variance"]["share"].isna().all()
    assert "variance_df" in " ".join(str(w.message) for w in recwarn)


def test_bad_input_is_named(adata):
    def refuse(name, data=adata, factors=FACTORS, **options):
        with pytest.raises(ValueError, match=name):
            flda.pp.augment(data, factors, **options)

    refuse("'axons'.*'axon'", factors=["dendrite", "axons"])
    refuse("smote", method="smote")
    refuse("'gene_.*'cell_", layer=None)
    refuse("variation=-1", variation=-1)
    refuse("variation=3", method="recombine", variation=3)
    refuse("variation.*'transfer'", method="transfer", variation=0.5)
    refuse("'thin'.*fill_empty", method="thin", fill_empty=True)
    refuse("n_cells=0", n_cells=0)
    refuse("n_cells", method="transfer", n_cells=10_000)
    rare = np.flatnonzero(adata.obs["subtype"] == "T5d")
    lonely = adata[np.setdiff1d(np.arange(adata.n_obs), rare[1:])].copy()
    refuse("T5 x d", data=lonely, method="recombine")
    assert flda.pp.augment(lonely, FACTORS, n_cells=30).n_obs > adata.n_obs
    other = adata.copy()
    other.X = other.X * 2
    refuse("^X ", data=other)
    refuse("flda_augmented", data=flda.pp.augment(adata, FACTORS, method="thin"))
    unlabelled = adata.copy()
    unlabelled.obs["axon"] = np.nan
    refuse("'axon'", data=unlabelled)


def test_columns_of_every_kind_survive_the_disk(adata, tmp_path):
    part = adata.copy()
    part.obs["flag"], part.obs["number"], part.obs["text"] = True, 3, "note"
    part.obs.loc[part.obs_names[:3], "axon"] = np.nan
    more = flda.pp.augment(part, FACTORS, method="thin", n_cells=40)
    more.write_h5ad(tmp_path / "more.h5ad")
    again = ad.read_h5ad(tmp_path / "more.h5ad")
    assert again.obs["flda_augmented"].sum() == more.obs["flda_augmented"].sum()
    assert list(again.obs["axon"].cat.categories) == list("abcd")
