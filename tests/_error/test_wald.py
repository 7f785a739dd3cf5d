"""The statistic against formulas in plain algebra."""

import numpy as np
import pytest
from scipy.stats import chi2, kstest

from flda._error.wald import wald


@pytest.mark.parametrize("df", [1, 2, 4])
@pytest.mark.parametrize("q", [1, 3])
@pytest.mark.parametrize("many", [False, True])
def test_statistic_is_the_sum_of_quadratic_forms(df, q, many):
    rng = np.random.default_rng(0)
    F, k, p = 3, 6, 5
    b, B, w = rng.normal(size=(F, df, q, p)), rng.normal(size=(df, k)), rng.uniform(0.5, 2, size=(F, k, p))
    expected = np.empty((F, p))
    for f in range(F):
        for j in range(p):
            V = B @ np.diag(w[f, :, j]) @ B.T
            expected[f, j] = sum(b[f, :, i, j] @ np.linalg.solve(V, b[f, :, i, j]) for i in range(q))
    np.testing.assert_allclose(wald(b, B, w, many=many), expected, rtol=1e-10)


def test_statistic_of_noise_is_chi_squared():
    rng = np.random.default_rng(1)
    B, sd = rng.normal(size=(3, 5)), np.array([1.0, 2.0, 0.5, 3.0, 1.0])
    means = rng.normal(size=(1, 5, 4000)) * sd[:, None]
    w = np.broadcast_to(sd[:, None] ** 2, means.shape)
    t = wald(np.einsum("dk,fkp->fdp", B, means)[:, :, None], B, w)[0]
    assert kstest(t, chi2(3).cdf).pvalue > 0.01
