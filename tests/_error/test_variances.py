"""Priors of variances over genes, and the variances of groups that borrow from them, against plain algebra."""

import numpy as np
import pytest
from scipy.special import digamma, polygamma

from flda._error.variances import GroupVariances, moderated, prior_variance


@pytest.mark.parametrize("d0", [3.0, 20.0])
def test_prior_of_variances_is_recovered(d0):
    rng = np.random.default_rng(2)
    true = 0.7 * d0 / rng.chisquare(d0, 20000)
    found, s0 = prior_variance(true * rng.chisquare(4, 20000) / 4, 4)
    assert found == pytest.approx(d0, rel=0.15)
    assert s0 == pytest.approx(0.7, rel=0.05)


def test_equal_variances_have_a_prior_that_leaves_no_doubt():
    rng = np.random.default_rng(3)
    v = 2.0 * rng.chisquare(30, 400) / 30
    e = np.log(v) - digamma(15) + np.log(15)
    d0, s0 = prior_variance(v * np.exp(-(e - e.mean()) * 0.5), 30)  # spread less than by chance
    assert np.isinf(d0)
    assert np.var(e, ddof=1) == pytest.approx(polygamma(1, 15), rel=0.3)
    np.testing.assert_array_equal(moderated(v, 30, (d0, s0)), s0)


def test_moderation_is_a_weighted_mean_and_few_genes_have_no_prior():
    np.testing.assert_allclose(moderated(np.array([1.0, 4.0]), 3, (6.0, 2.0)), [(12 + 3) / 9, (12 + 12) / 9])
    assert prior_variance(np.ones(9), 3)[0] == 0
    assert prior_variance(np.zeros(50), 3)[0] == 0


def test_variances_of_groups_borrow_from_genes_and_groups():
    """The formulas of the module, gene by gene and group by group."""
    rng = np.random.default_rng(4)
    df, share = np.array([2, 7, 30, 0]), 0.3
    scale = rng.lognormal(0, 1.5, 200) * rng.chisquare(8, (4, 200)) / 8 * np.array([1, 4, 0.5, 1])[:, None]
    squares = scale * rng.chisquare(np.maximum(df, 1)[:, None], (4, 200)) * (df > 0)[:, None]
    found = GroupVariances(squares, df, share).of(squares[None])[0]
    d, s0 = prior_variance(squares.sum(axis=0) / 39, 39)
    s = (d * s0 + squares.sum(axis=0)) / (d + 39)
    np.testing.assert_allclose(found[3], s)
    for c in range(3):
        ratio = squares[c] / df[c] / s
        dc, level = prior_variance(ratio, df[c])
        assert dc > 0
        own = s * (level if np.isinf(dc) else (dc * level + df[c] * ratio) / (dc + df[c]))
        np.testing.assert_allclose(found[c], (1 - share) * own + share * s)


def test_priors_of_the_data_hold_for_resamples():
    rng = np.random.default_rng(5)
    squares = rng.chisquare(4, (3, 50))
    variances = GroupVariances(squares, np.array([4, 4, 4]))
    others = rng.chisquare(4, (6, 3, 50)) * 9
    together = variances.of(np.concatenate([squares[None], others]))
    np.testing.assert_allclose(together[1:], variances.of(others))
    np.testing.assert_allclose(together[0], variances.of(squares[None])[0])


def test_one_group_has_the_variance_of_its_genes():
    squares = np.random.default_rng(6).chisquare(9, (1, 60)) * np.linspace(0.1, 5, 60)
    d0, s0 = prior_variance(squares[0] / 9, 9)
    np.testing.assert_allclose(
        GroupVariances(squares, np.array([9])).of(squares[None])[0, 0], moderated(squares[0] / 9, 9, (d0, s0))
    )


def test_many_units_and_few_genes_keep_their_own_variances():
    rng = np.random.default_rng(7)
    df = np.array([4000, 9000])
    sd = rng.lognormal(0, 1, (2, 40))
    squares = sd**2 * rng.chisquare(df[:, None], (2, 40))
    np.testing.assert_allclose(GroupVariances(squares, df).of(squares[None])[0], squares / df[:, None], rtol=0.05)
    few = squares[:, :5]
    np.testing.assert_allclose(GroupVariances(few, df).of(few[None])[0], few / df[:, None])


def test_a_gene_without_variance_borrows_that_of_others():
    squares = np.random.default_rng(8).chisquare(3, (2, 30))
    squares[:, 0] = 0
    v = GroupVariances(squares, np.array([3, 3])).of(squares[None])[0]
    assert (v[:, 0] > 0).all()
    assert np.isfinite(v).all()
