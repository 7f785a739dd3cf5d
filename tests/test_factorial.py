import numpy as np
import pandas as pd
import pytest

from flda import FLDA
from flda._design.design import make_design
from flda._solve.prior import FactorialMeans, borrow_means, variance_sizes
from flda.datasets import t4t5_simulated
from flda.metrics import effect_snr


def grid(a=2, b=4):
    return make_design(pd.DataFrame([(f"a{i}", f"b{j}") for i in range(a) for j in range(b)], columns=["A", "B"]))


def planted(rng, design, p=400):
    """Means of which every effect moves a fifth of the genes, and which genes those are."""
    means = rng.normal(size=p) * np.ones((design.n_groups, 1))
    carries = {}
    for k, effect in enumerate(design.effects):
        X, genes = design.table.coding(effect), slice(p // 5 * k, p // 5 * (k + 1))
        means[:, genes] += X @ rng.normal(size=(X.shape[1], p // 5))
        carries[effect] = np.isin(np.arange(p), np.arange(p)[genes])
    return means, carries


@pytest.mark.parametrize("spread", [1.0, 1e8])
def test_posterior_means_are_those_of_a_dense_gaussian_regression(spread):
    rng, design = np.random.default_rng(0), grid()
    truth, _ = planted(rng, design, 60)
    noise = 0.05 * np.geomspace(1, spread, 8)[:, None] * rng.uniform(0.5, 2, size=(8, 60))
    means = truth + np.sqrt(np.minimum(noise, 1)) * rng.normal(size=truth.shape)
    found = FactorialMeans.fit(means, noise, design)
    fitted = found.at(design.table.groups)
    one = np.ones(8)
    for g in range(60):
        K = sum(s[g] * design.table.coding(e) @ design.table.coding(e).T for e, s in found.sizes.items())
        V = np.linalg.inv(K + np.diag(noise[:, g]))
        a = one @ V @ means[:, g] / (one @ V @ one)
        np.testing.assert_allclose(fitted[:, g], a + K @ V @ (means[:, g] - a), atol=1e-6)


def test_rare_groups_come_closer_to_the_truth_than_their_own_mean_and_the_additive_one():
    rng, design = np.random.default_rng(1), grid()
    truth, carries = planted(rng, design)
    noise = np.full(truth.shape, 0.01)
    noise[5] = 0.5
    means = truth + np.sqrt(noise) * rng.normal(size=truth.shape)
    found = FactorialMeans.fit(means, noise, design)
    additive = FactorialMeans.fit(means, noise, grid_additive())
    error = [np.mean((m[5] - truth[5]) ** 2) for m in (found.at(design.table.groups), means)]
    assert error[0] < 0.3 * error[1]
    own = carries[("A", "B")]
    wrong = additive.at(design.table.groups)
    assert np.mean((found.at(design.table.groups) - truth)[:, own] ** 2) < 0.5 * np.mean((wrong - truth)[:, own] ** 2)
    for effect, flags in carries.items():
        assert found.sizes[effect][flags].mean() > 20 * found.sizes[effect][~flags].mean()


def grid_additive():
    labels = pd.DataFrame([(f"a{i}", f"b{j}") for i in range(2) for j in range(4)], columns=["A", "B"])
    return make_design(labels, interactions=None)


def test_an_empty_group_is_predicted_by_the_main_effects():
    rng = np.random.default_rng(2)
    occupied = [(i, j) for i in range(2) for j in range(4) if (i, j) != (1, 2)]
    labels = pd.DataFrame([(f"a{i}", f"b{j}") for i, j in occupied], columns=["A", "B"])
    design = make_design(labels, interactions=None)
    a, b = rng.normal(size=(2, 50)), rng.normal(size=(4, 50))
    means = np.array([a[i] + b[j] for i, j in occupied])
    found = FactorialMeans.fit(means, np.full(means.shape, 1e-6), design)
    np.testing.assert_allclose(found.at(np.array([[1, 2]]))[0], a[1] + b[2], atol=0.01)


def test_draws_cover_the_truth_as_often_as_they_say():
    rng, design = np.random.default_rng(3), grid()
    truth, _ = planted(rng, design)
    noise = np.full(truth.shape, 0.05)
    noise[2] = 0.5
    means = truth + np.sqrt(noise) * rng.normal(size=truth.shape)
    found = FactorialMeans.fit(means, noise, design)
    draws = np.array([found.draw(rng).at(design.table.groups) for _ in range(60)])
    low, high = np.quantile(draws, [0.05, 0.95], axis=0)
    inside = ((low <= truth) & (truth <= high)).mean(axis=1)
    assert np.all((inside > 0.8) & (inside < 0.97))


def test_noise_alone_has_no_size():
    rng = np.random.default_rng(4)
    square = rng.chisquare(3, size=2000)
    assert variance_sizes(square, np.ones(2000), 3).mean() < 0.05
    assert variance_sizes(square * 5, np.ones(2000), 3).mean() == pytest.approx(4, rel=0.1)


def test_borrowed_means_move_groups_together_and_help_where_cells_are_few():
    adata = t4t5_simulated(1200, 150, effect_size=0.5)
    y, rng = adata.obs[["dendrite", "axon"]], np.random.default_rng(0)
    group = adata.obs["subtype"].to_numpy()
    train = np.concatenate(
        [rng.permutation(np.flatnonzero(group == g))[: 4 if g == "T5b" else 50] for g in np.unique(group)]
    )
    test = np.setdiff1d(np.arange(1200), train)
    X, labels = adata.X[train].toarray().astype(float), y.iloc[train]
    moved = borrow_means(adata.X[train], labels)
    for g in np.unique(group):
        own = group[train] == g
        np.testing.assert_allclose(*(Z[own] - Z[own].mean(axis=0) for Z in (moved, X)), atol=1e-6)
    assert np.abs(moved - X).max() > 0.05
    design = make_design(y.iloc[test])
    snr = {}
    for name, Z in (("own", X), ("borrowed", moved)):
        model = FLDA(shrinkage=0.9).fit(Z, labels)
        first = model.axes_["component"].to_numpy() == 1
        ratios = effect_snr(model.transform(adata.X[test])[:, first], design)
        snr[name] = ratios["dendrite"][0], ratios["axon"][1]
    assert np.all(np.array(snr["borrowed"]) > np.array(snr["own"]))


def test_constant_genes_stay_and_single_cells_are_refused():
    rng = np.random.default_rng(5)
    y = pd.DataFrame({"A": np.repeat(["p", "q"], 20), "B": np.tile(["u", "v"], 20)})
    X = np.c_[rng.normal(size=(40, 5)), np.full(40, 3.0)]
    np.testing.assert_allclose(borrow_means(X, y)[:, 5], 3.0)
    with pytest.raises(ValueError, match="single cell"):
        borrow_means(X[[0, 1, 20, 21]], y.iloc[[0, 1, 20, 21]])
