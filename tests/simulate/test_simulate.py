import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import ndtr
from scipy.stats import gamma, nbinom

import flda
from flda.simulate import fit_counts, gamma_rates
from flda.simulate._moments import Units, dispersions

FACTORS = ["dendrite", "axon"]


@pytest.fixture(scope="module")
def pilot():
    return flda.datasets.t4t5_simulated(600, 120)


@pytest.fixture(scope="module")
def model(pilot):
    return fit_counts(pilot, FACTORS, donor="donor")


def with_counts(Y, obs):
    Y = sp.csr_matrix(np.asarray(Y, dtype=np.float32))
    return AnnData(Y, obs=obs.set_index(pd.Index([f"c{i}" for i in range(len(obs))])), layers={"counts": Y.copy()})


def two_by_two(n):
    return pd.DataFrame({"A": np.repeat(["p", "q"], 2 * n), "B": np.tile(np.repeat(["u", "v"], n), 2)})


@given(st.floats(1e-4, 50.0), st.integers(0, 100))
def test_quantiles_are_those_of_the_gamma_distribution(phi, seed):
    z = np.sort(np.random.default_rng(seed).normal(size=(200, 1)), axis=0)
    ours = gamma_rates(z, np.array([phi]))
    exact = gamma.ppf(ndtr(z), 1 / phi, scale=phi)
    np.testing.assert_allclose(ours, exact, rtol=0.02, atol=2e-3)
    assert np.all(np.diff(ours[:, 0]) >= 0)


def test_no_dispersion_gives_a_rate_of_one():
    np.testing.assert_array_equal(gamma_rates(np.random.default_rng(0).normal(size=(5, 3)), np.zeros(3)), 1.0)


def test_dispersions_are_the_true_ones_and_agree_with_maximum_likelihood():
    rng = np.random.default_rng(0)
    mean, phi = np.geomspace(0.2, 50, 300), 0.3 + 0.2 / np.geomspace(0.2, 50, 300)
    s = rng.lognormal(0, 0.3, size=800)
    s /= s.mean()
    Y = rng.poisson(rng.gamma(1 / phi, phi * mean * s[:, None]))
    codes = np.repeat(np.arange(4), 200)
    found, trend = dispersions(Units.of(sp.csr_matrix(Y.astype(float)), s, codes))
    assert np.median(np.abs(np.log(found / phi))) < 0.1
    assert trend == pytest.approx((0.3, 0.2), rel=0.15)
    for g in (200, 299):

        def loss(log_phi, g=g):
            r = np.exp(-log_phi)
            return -nbinom.logpmf(Y[:, g], r, r / (r + mean[g] * s)).sum()

        assert found[g] == pytest.approx(np.exp(minimize_scalar(loss, bounds=(-4, 2), method="bounded").x), rel=0.25)


def test_poisson_counts_have_next_to_no_dispersion():
    rng = np.random.default_rng(1)
    Y = rng.poisson(np.geomspace(0.1, 20, 200), size=(600, 200)).astype(float)
    phi, _ = dispersions(Units.of(sp.csr_matrix(Y), np.ones(600), np.repeat([0, 1], 300)))
    assert np.median(phi[100:]) < 0.01


def test_sampled_means_and_dispersions_are_the_fitted_ones(model):
    groups = model.design.group_levels()
    big = model.sample(groups.iloc[[2]].loc[np.repeat(2, 4000)].assign(donor="donor1"), random_state=3)
    s = model.library_of(big.obs, np.random.default_rng(0))
    expected = model.group_means(groups.iloc[[2]])[0] * np.exp(model.donor_effects.loc["donor1"])
    Y = big.layers["counts"].toarray()
    seen = expected > 0.3
    np.testing.assert_allclose(Y.mean(axis=0)[seen], (expected * s.mean())[seen], rtol=0.15)
    again = fit_counts(model.sample(400, random_state=4), FACTORS, donor="donor")
    clear = seen & (model.dispersion > 0.1)
    ratio = np.log(again.dispersion[clear] / model.dispersion[clear])
    assert abs(np.median(ratio)) < 0.1
    close = np.abs(np.log(again.group_means(groups)[:, seen] / model.group_means(groups)[:, seen]))
    assert np.median(close) < 0.06


def test_variation_scales_the_dispersion(model):
    groups = model.design.group_levels().iloc[[0]].loc[np.repeat(0, 3000)].assign(donor="donor1").reset_index(drop=True)
    rng, ones = np.random.default_rng(0), np.ones(3000)
    g = int(np.argmax(model.dispersion * (model.group_means(groups[:1])[0] > 1)))
    out = []
    for variation in (0.0, 1.0, 2.0):
        y = model.counts(groups, ones, rng, variation=variation)[:, [g]].toarray()[:, 0]
        out.append((y.var() - y.mean()) / y.mean() ** 2)
    assert abs(out[0]) < 0.05
    assert out[2] / out[1] == pytest.approx(2, rel=0.4)


def test_genes_correlate_as_their_loadings_say():
    rng = np.random.default_rng(2)
    labels = two_by_two(200)
    # half up and half down: what moves the sum of all counts would look like library size
    sign = np.where(np.arange(40) < 10, 1, -1)
    f, L = rng.normal(size=(800, 1)), np.where(np.arange(40) < 20, 0.7 * sign, 0.0)
    rates = gamma_rates(f * L + np.sqrt(1 - L**2) * rng.normal(size=(800, 40)), np.full(40, 0.5))
    fitted = fit_counts(with_counts(rng.poisson(20 * rates), labels), ["A", "B"])
    off = ~np.eye(40, dtype=bool)

    def typical(C):
        C = C * np.outer(sign, sign)
        return np.median(C[:20, :20][off[:20, :20]]), np.median(C[20:, 20:][off[20:, 20:]])

    on, other = typical(fitted.loadings @ fitted.loadings.T)
    assert on == pytest.approx(0.49, abs=0.08)
    assert other == pytest.approx(0, abs=0.05)
    again = fitted.sample(random_state=1).layers["counts"].toarray()
    ours, theirs = (typical(np.corrcoef(np.log1p(Y).T))[0] for Y in (again, rng.poisson(20 * rates)))
    assert ours == pytest.approx(theirs, abs=0.08)
    independent = fit_counts(with_counts(again, labels), ["A", "B"], n_axes=0)
    assert independent.loadings.shape == (40, 0)


def test_the_same_seed_gives_the_same_cells(model):
    a, b, c = (model.sample(random_state=s).layers["counts"] for s in (5, 5, 6))
    assert (a != b).nnz == 0
    assert (a != c).nnz > 0


def test_cells_have_the_sizes_and_labels_asked_for(model, pilot):
    as_fitted = model.sample()
    pd.testing.assert_frame_equal(
        as_fitted.obs[FACTORS].reset_index(drop=True), pilot.obs[FACTORS].reset_index(drop=True)
    )
    assert (model.sample(7).obs.groupby(FACTORS, observed=True).size() == 7).all()
    table = pd.DataFrame({"dendrite": ["T4", "T5"], "axon": ["a", "d"]})
    assert model.sample(table).obs["axon"].tolist() == ["a", "d"]
    np.testing.assert_allclose(np.expm1(as_fitted.X.toarray()).sum(axis=1), 1e4, rtol=1e-4)


def test_planted_effects_are_of_their_size_and_alone(model):
    planted = model.plant("axon", np.arange(120), 0.0).plant("axon", [3, 8, 9], 0.6)
    eta = np.log(planted.group_means(planted.design.group_levels()))
    by_axon = eta.reshape(2, 4, 120).mean(axis=0)
    size = np.sqrt(np.mean((by_axon - by_axon.mean(axis=0)) ** 2, axis=0))
    np.testing.assert_allclose(size[[3, 8, 9]], 0.6)
    np.testing.assert_allclose(np.delete(size, [3, 8, 9]), 0, atol=1e-12)
    assert planted.sample(2).var["truth_axon"].to_numpy().nonzero()[0].tolist() == [3, 8, 9]
    before = np.log(model.group_means(model.design.group_levels())).reshape(2, 4, 120)
    after = eta.reshape(2, 4, 120)
    np.testing.assert_allclose(
        (after - after.mean(axis=0))[0].mean(axis=0), (before - before.mean(axis=0))[0].mean(axis=0), atol=1e-12
    )
    with pytest.raises(ValueError, match="'axons'"):
        model.plant("axons", [1], 1.0)


def test_new_donors_vary_as_those_seen():
    rng = np.random.default_rng(3)
    n_donors, p = 12, 200
    labels = two_by_two(240).assign(donor=[f"d{i % n_donors}" for i in range(960)])
    shift = 0.4 * rng.normal(size=(n_donors, p))
    donor = np.arange(960) % n_donors
    Y = rng.poisson(rng.gamma(5, 8 * np.exp(shift)[donor] / 5))
    fitted = fit_counts(with_counts(Y, labels), ["A", "B"], donor="donor")
    assert np.sqrt((fitted.donor_effects**2).sum().sum() / (n_donors - 1) / p) == pytest.approx(0.4, rel=0.1)
    new = labels.assign(donor=[f"new{i}" for i in range(960)])
    shifts, _ = fitted._donor_shifts(new, rng)
    assert shifts.std() == pytest.approx(0.4, rel=0.15)
    known, row = fitted._donor_shifts(labels, rng)
    np.testing.assert_allclose(np.corrcoef(known[row].ravel(), shift[donor].ravel())[0, 1], 1, atol=0.1)


def test_batches_are_effects_without_interactions():
    rng = np.random.default_rng(4)
    labels = two_by_two(200).assign(batch=np.tile(["x", "y"], 400))
    log_mu = np.full((800, 30), 2.0)
    log_mu[labels["batch"] == "y", :5] += 1.0
    fitted = fit_counts(with_counts(rng.poisson(np.exp(log_mu)), labels), ["A", "B"], nuisance="batch")
    rows = pd.DataFrame({"A": ["p", "p"], "B": ["u", "u"], "batch": ["x", "y"]})
    x, y = fitted.group_means(rows)
    ratio = np.log(y / x) - np.log(y / x)[5:].mean()
    np.testing.assert_allclose(ratio[:5], 1.0, atol=0.1)
    assert "batch" in fitted.sample(3).obs


def test_a_group_that_is_empty_can_be_drawn(pilot):
    part = pilot[~((pilot.obs["dendrite"] == "T4") & (pilot.obs["axon"] == "b"))].copy()
    fitted = fit_counts(part, FACTORS, interactions=None)
    cells = fitted.sample(pd.DataFrame({"dendrite": ["T4"] * 300, "axon": ["b"] * 300}))
    real = pilot[(pilot.obs["dendrite"] == "T4") & (pilot.obs["axon"] == "b")]
    means = [np.log(np.asarray(a.layers["counts"].mean(axis=0)).ravel() + 0.1) for a in (cells, real)]
    assert np.corrcoef(*means)[0, 1] > 0.9


def test_bad_input_is_named(pilot):
    with pytest.raises(ValueError, match=r"'dendrites'.*'dendrite'"):
        fit_counts(pilot, ["dendrites", "axon"])
    with pytest.raises(ValueError, match=r"X .*'gene_\d+'.*'cell_\d+'"):
        fit_counts(pilot, FACTORS, layer=None)
    with pytest.raises(ValueError, match="'umi'"):
        fit_counts(pilot, FACTORS, layer="umi")
    with pytest.raises(ValueError, match="'dendrite', 'axon'"):
        fit_counts(pilot[pilot.obs["subtype"].drop_duplicates().index].copy(), FACTORS, interactions=None)
    empty = pilot.copy()
    counts = empty.layers["counts"].toarray()
    counts[4] = 0
    empty.layers["counts"] = sp.csr_matrix(counts)
    with pytest.raises(ValueError, match="'cell_004'"):
        fit_counts(empty, FACTORS)
    fitted = fit_counts(pilot, FACTORS)
    with pytest.raises(ValueError, match="variation=-1"):
        fitted.sample(variation=-1)
    with pytest.raises(ValueError, match=r"'axon'.*'e'"):
        fitted.sample(pd.DataFrame({"dendrite": ["T4"], "axon": ["e"]}))
    with pytest.raises(ValueError, match="'axon'"):
        fitted.sample(pd.DataFrame({"dendrite": ["T4"]}))
    with pytest.raises(ValueError, match="cells=0"):
        fitted.sample(0)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_counts_may_be_stored_with_zeros_and_duplicates_and_are_left_as_they_are(pilot, dtype):
    plain = pilot.layers["counts"].toarray()
    halves = np.floor(plain / 2)
    both = np.concatenate([halves, plain - halves], axis=1)  # every entry listed, each gene twice per cell
    n, p = plain.shape
    stored = sp.csr_matrix(
        (both.ravel().astype(dtype), np.tile(np.arange(p), 2 * n), 2 * p * np.arange(n + 1)), shape=(n, p)
    )
    other = pilot.copy()
    other.layers["counts"] = stored
    before = stored.data.copy(), stored.indices.copy(), stored.indptr.copy()
    ours, theirs = (fit_counts(a, FACTORS) for a in (other, pilot))
    np.testing.assert_array_equal(ours.dispersion, theirs.dispersion)
    kept = other.layers["counts"]
    for array, was in zip((kept.data, kept.indices, kept.indptr), before, strict=True):
        np.testing.assert_array_equal(array, was)


def test_donors_have_no_effects_where_each_level_has_only_one(pilot):
    own = pilot.copy()
    own.obs["donor"] = own.obs["dendrite"].astype(str)
    fitted = fit_counts(own, FACTORS, donor="donor")
    assert fitted.donor_effects is None
    assert fitted.sample(3).n_obs == 24


def test_cells_without_a_label_are_left_out(pilot):
    part = pilot.copy()
    part.obs.loc[part.obs_names[:50], "axon"] = np.nan
    assert fit_counts(part, FACTORS).sample().n_obs == 550
