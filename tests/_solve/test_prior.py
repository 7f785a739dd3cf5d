"""The factorial prior: posterior means of groups, of rare and of empty ones."""

import numpy as np
import pandas as pd
import pytest

from flda._design.make import make_design
from flda._solve.prior import FactorialMeans, posterior_means, shrunken_by, variance_sizes


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


def test_noise_of_means_is_that_of_their_cells():
    """A gene that does not vary within groups has means nearly without noise, and keeps them."""
    rng, design = np.random.default_rng(5), grid()
    means, counts = rng.normal(size=(8, 40)), np.array([3, 50, 8, 9, 4, 5, 20, 11])
    variances = rng.uniform(0.5, 2, size=40)
    found = posterior_means(means, variances, counts, design)
    expected = FactorialMeans.fit(means, variances / counts[:, None], design).at(design.table.groups)
    np.testing.assert_array_equal(found.at(design.table.groups), expected)
    np.testing.assert_allclose(shrunken_by(found.sizes, means, variances, counts, design), expected)
    variances[7] = 0
    perfect = posterior_means(means, variances, counts, design).at(design.table.groups)
    np.testing.assert_allclose(perfect[:, 7], means[:, 7], atol=1e-3)
    flat = posterior_means(means, np.zeros(40), counts, design).at(design.table.groups)
    np.testing.assert_allclose(flat, means, atol=1e-3)


@pytest.mark.parametrize("n_genes", [20, 3000])
def test_an_absent_effect_is_shrunken_but_keeps_a_direction(n_genes):
    """Additive means with little noise: next to nothing is left of the interaction, but not nothing at all."""
    rng, design = np.random.default_rng(6), grid()
    a, b = rng.normal(size=(2, n_genes)), rng.normal(size=(4, n_genes))
    noise = 0.1 * rng.normal(size=(8, n_genes))
    means = a[design.table.groups[:, 0]] + b[design.table.groups[:, 1]] + noise
    found = posterior_means(means, np.ones(n_genes), np.full(8, 100), design).at(design.table.groups)
    interaction = design.contrasts["A", "B"]
    left, seen = interaction @ found, interaction @ means
    assert np.linalg.norm(left) < 0.3 * np.linalg.norm(seen)
    assert np.linalg.matrix_rank(found - found.mean(axis=0), tol=1e-4) == 7
    for main in (("A",), ("B",)):
        np.testing.assert_allclose(design.contrasts[main] @ found, design.contrasts[main] @ means, atol=0.2)
