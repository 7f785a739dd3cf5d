"""The statistic and the moderation of variances against formulas in plain algebra."""

import numpy as np
import pytest
from scipy.special import digamma, polygamma
from scipy.stats import chi2, kstest

from flda._error.wald import moderated, prior_variance, wald


@pytest.mark.parametrize("df", [1, 2, 4])
@pytest.mark.parametrize("q", [1, 3])
def test_statistic_is_the_sum_of_quadratic_forms(df, q):
    rng = np.random.default_rng(0)
    F, k, p = 3, 6, 5
    b, B, w = rng.normal(size=(F, df, q, p)), rng.normal(size=(df, k)), rng.uniform(0.5, 2, size=(F, k, p))
    expected = np.empty((F, p))
    for f in range(F):
        for j in range(p):
            V = B @ np.diag(w[f, :, j]) @ B.T
            expected[f, j] = sum(b[f, :, i, j] @ np.linalg.solve(V, b[f, :, i, j]) for i in range(q))
    np.testing.assert_allclose(wald(b, B, w), expected, rtol=1e-10)


def test_statistic_of_noise_is_chi_squared():
    rng = np.random.default_rng(1)
    B, sd = rng.normal(size=(3, 5)), np.array([1.0, 2.0, 0.5, 3.0, 1.0])
    means = rng.normal(size=(1, 5, 4000)) * sd[:, None]
    w = np.broadcast_to(sd[:, None] ** 2, means.shape)
    t = wald(np.einsum("dk,fkp->fdp", B, means)[:, :, None], B, w)[0]
    assert kstest(t, chi2(3).cdf).pvalue > 0.01


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
