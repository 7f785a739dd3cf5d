import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

import flda

FACTORS = ["dendrite", "axon"]


@pytest.fixture(scope="module")
def cells():
    return flda.datasets.t4t5_simulated(n_obs=400, n_vars=120)


@pytest.fixture(scope="module")
def reference(cells):
    reference = cells[:300].copy()
    reference.var["use"] = np.arange(120) % 5 > 0
    flda.tl.flda(reference, FACTORS, shrinkage=0.5, mask_var="use")
    return reference


@pytest.fixture
def new(cells):
    return cells[300:].copy()


def test_equals_the_estimator(reference, new):
    used = reference.var["use"].to_numpy()
    model = flda.FLDA(shrinkage=0.5).fit(reference.X[:, used], reference.obs[FACTORS])
    assert flda.tl.transform(new, reference) is None
    assert type(new.obsm["X_flda"]) is np.ndarray
    np.testing.assert_allclose(new.obsm["X_flda"], model.transform(new.X[:, used]), atol=1e-10)
    again = flda.tl.transform(reference, reference, copy=True)
    np.testing.assert_allclose(again.obsm["X_flda"], reference.obsm["X_flda"], atol=1e-10)


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csc_matrix, sp.csr_array, np.asarray])
def test_genes_are_matched_by_name(reference, new, kind):
    flda.tl.transform(new, reference)
    other = new[:, np.random.default_rng(0).permutation(120)].copy()
    extra = ad.AnnData(np.full((100, 3), 7.0, np.float32), other.obs[[]], var={"n": [1, 2, 3]})
    extra.var_names = ["x1", "x2", "x3"]
    other = ad.concat([other, extra], axis=1)
    other.X = kind(other.X.toarray() if sp.issparse(other.X) else other.X)
    flda.tl.transform(other, reference)
    np.testing.assert_allclose(other.obsm["X_flda"], new.obsm["X_flda"], atol=1e-5)


def test_missing_genes_are_at_the_mean_and_counted(reference, new, recwarn):
    gone = reference.var_names[np.flatnonzero(reference.var["use"])[[3, 8, 20]]]
    filled = new.copy()
    X = filled.X.toarray()
    X[:, filled.var_names.get_indexer(gone)] = reference.var.loc[gone, "flda_centre"]
    filled.X = X
    flda.tl.transform(filled, reference)
    assert not recwarn
    short = flda.tl.transform(new[:, ~new.var_names.isin(gone)], reference, copy=True)
    np.testing.assert_allclose(short.obsm["X_flda"], filled.obsm["X_flda"], atol=1e-5)
    (record,) = (w for w in recwarn if issubclass(w.category, flda.FLDAWarning))  # of anndata there may be others
    assert str(record.message).startswith("3 of the 96 ")
    assert ", ".join(gone) in str(record.message)
    weight = (reference.varm["flda"] * reference.var["flda_within_sd"].fillna(0).to_numpy()[:, None]) ** 2
    worst = (weight[reference.var_names.isin(gone)].sum(axis=0) / weight.sum(axis=0)).max()
    assert f"{100 * worst:.2g} %" in str(record.message)


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_a_reference_from_a_file_and_a_layer(reference, new, tmp_path, suffix):
    reference = reference.copy()
    reference.layers["log"], reference.X = reference.X.copy(), reference.X * 0
    flda.tl.flda(reference, FACTORS, shrinkage=0.5, layer="log", key_added="k")
    getattr(reference, f"write_{suffix}")(tmp_path / f"x.{suffix}")
    back = getattr(ad, f"read_{suffix}")(tmp_path / f"x.{suffix}")
    with pytest.raises(ValueError, match="layer 'log'"):
        flda.tl.transform(new, back, key="k")
    new.layers["log"] = new.X
    flda.tl.transform(new, back, key="k")
    model = flda.FLDA(shrinkage=0.5).fit(reference.layers["log"], reference.obs[FACTORS])
    np.testing.assert_allclose(new.obsm["X_k"], model.transform(new.X), atol=1e-10)


def test_bad_input_writes_nothing(reference, new):
    with pytest.raises(ValueError, match=r"flda\.tl\.flda"):
        flda.tl.transform(new, new)
    old = reference.copy()
    del old.var["flda_centre"]
    with pytest.raises(ValueError, match=r"'flda_centre'.*flda\.tl\.flda"):
        flda.tl.transform(new, old)
    named = new.copy()
    named.var_names = [f"FBgn{i}" for i in range(120)]
    with pytest.raises(ValueError, match=r"96 genes.*FBgn0"):
        flda.tl.transform(named, reference)
    named.var_names = ["a", "a", *named.var_names[2:]]
    with pytest.raises(ValueError, match="'a'"):
        flda.tl.transform(named, reference)
    bad = new.copy()
    bad.X = bad.X.toarray()
    bad.X[4, 7] = np.nan
    with pytest.raises(ValueError, match=f"nan.*'{new.var_names[7]}'.*'{new.obs_names[4]}'"):
        flda.tl.transform(bad, reference)
    assert all("X_flda" not in each.obsm for each in (new, named, bad))
