"""SignedLinear against enumeration and an independent solver."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import Lasso, LinearRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks

from flda.circuits import SignedLinear, SignMask


def objective(w, X, y, alpha, ridge):
    return np.sum((y - X @ w) ** 2) / (2 * len(X)) + alpha * np.abs(w).sum() + ridge / 2 * (w @ w)


def enumerated(X, y, signs, alpha, ridge):
    """The best over all supports and sign patterns of the unconstrained solution: exact for few features."""
    best, found = np.inf, np.zeros(X.shape[1])
    options = [(0,) if s == 0 else (0, 1, -1) if np.isnan(s) else (0, s) for s in signs]
    for pattern in itertools.product(*options):
        pattern = np.array(pattern, float)
        on = pattern != 0
        w = np.zeros(X.shape[1])
        if on.any():
            gram = X[:, on].T @ X[:, on] / len(X) + ridge * np.eye(on.sum())
            w[on] = np.linalg.lstsq(gram, X[:, on].T @ y / len(X) - alpha * pattern[on], rcond=None)[0]
        if (w * pattern >= -1e-12).all() and objective(w, X, y, alpha, ridge) < best:
            best, found = objective(w, X, y, alpha, ridge), w
    return found


@pytest.mark.parametrize("alpha", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("ridge", [0.0, 0.1])
@pytest.mark.parametrize("seed", range(4))
def test_is_the_best_of_all_sign_patterns(alpha, ridge, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(30, 5)) + rng.normal(size=(30, 1))
    y = X @ rng.normal(size=5) + rng.normal(size=30)
    signs = rng.choice([1.0, -1.0, 0.0, np.nan], size=5)
    model = SignedLinear(signs, alpha=alpha, ridge=ridge, fit_intercept=False).fit(X, y)
    np.testing.assert_allclose(model.coef_, enumerated(X, y, signs, alpha, ridge), atol=1e-8)
    assert model.kkt_residual_ < 1e-10


@pytest.mark.parametrize("alpha", [0.0, 1e-3])
def test_ill_conditioned_columns(alpha):
    """Columns that span six orders of magnitude, and a nearly dependent pair."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 12)) * np.geomspace(1e-3, 1e3, 12)
    X[:, 5] = X[:, 6] / 10 + 1e-5 * rng.normal(size=60)
    y = X @ (np.where(np.arange(12) % 2, 1.0, -1.0) / np.geomspace(1e-3, 1e3, 12)) + rng.normal(size=60)
    signs = np.where(np.arange(12) % 3, 1.0, np.nan)
    model = SignedLinear(signs, alpha=alpha, fit_intercept=False).fit(X, y)
    assert model.kkt_residual_ < 1e-9
    scale = np.linalg.norm(X, axis=0)
    free = np.isnan(signs)
    independent = minimize(  # split and rescaled, with bounds
        lambda v: objective((v[:12] - np.where(free, v[12:], 0)) / scale, X, y, alpha, 0.0),
        np.zeros(24), bounds=[(0, None)] * 24, method="L-BFGS-B", options={"maxiter": 5000, "ftol": 1e-15},
    )  # fmt: skip
    assert objective(model.coef_, X, y, alpha, 0.0) <= independent.fun * (1 + 1e-9)


def test_equals_the_unsigned_models_of_scikit_learn():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(50, 8)) + 3
    Y = X @ rng.normal(size=(8, 2)) + rng.normal(size=(50, 2)) + 5
    np.testing.assert_allclose(SignedLinear().fit(X, Y).coef_, LinearRegression().fit(X, Y).coef_, atol=1e-9)
    lasso = Lasso(alpha=0.2, tol=1e-12, max_iter=100_000).fit(X, Y)
    np.testing.assert_allclose(SignedLinear(alpha=0.2).fit(X, Y).coef_, lasso.coef_, atol=1e-6)
    ridge = Ridge(alpha=0.3 * 50).fit(X, Y)
    model = SignedLinear(ridge=0.3).fit(X, Y)
    np.testing.assert_allclose(model.coef_, ridge.coef_, atol=1e-9)
    np.testing.assert_allclose(model.predict(X), ridge.predict(X), atol=1e-8)


def test_path_agrees_with_single_fits_and_starts_empty():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(40, 60))
    y = X[:, :5] @ [2.0, -1.0, 1.0, -2.0, 1.5]
    signs = np.where(rng.random(60) < 0.3, np.nan, 1.0)
    model = SignedLinear(signs)
    alphas, coefs = model.path(X, y, n_alphas=8)
    assert coefs.shape == (8, 60)
    assert not coefs[0].any()
    assert np.count_nonzero(coefs[-1]) > 5
    for alpha, coef in zip(alphas, coefs, strict=True):
        single = SignedLinear(signs, alpha=alpha).fit(X, y)
        np.testing.assert_allclose(coef, single.coef_, atol=1e-7)
        assert (coef[signs == 1] >= 0).all()


def test_signs_recover_what_least_squares_cannot():
    """Fewer samples than synapses: non-negativity alone finds a sparse truth under positively correlated inputs."""
    rng = np.random.default_rng(3)
    X = np.abs(rng.normal(size=(60, 100))) + np.abs(rng.normal(size=(60, 1)))
    truth = np.zeros(100)
    truth[:6] = [1, 2, 1, 3, 1, 2]
    y = X @ truth
    signed = SignedLinear(np.ones(100)).fit(X, y).coef_
    free = SignedLinear().fit(X, y).coef_
    assert np.abs(signed - truth).max() < 1e-6
    assert np.abs(free - truth).max() > 0.5


def test_signs_per_output_a_mask_and_grid_search():
    import pandas as pd

    rng = np.random.default_rng(4)
    X = rng.normal(size=(80, 3))
    Y = X @ np.array([[1.0, -1.0], [0.0, 2.0], [-3.0, 0.0]])
    mask = SignMask(pd.DataFrame([[1, -1], [0, 1], [-1, 0]], index=list("abc"), columns=list("xy")))
    np.testing.assert_allclose(SignedLinear(mask).fit(X, Y).coef_.T, [[1, -1], [0, 2], [-3, 0]], atol=1e-9)
    search = GridSearchCV(SignedLinear([1, np.nan, -1]), {"alpha": [0.0, 10.0]}).fit(X, Y[:, 0])
    assert search.best_params_ == {"alpha": 0.0}


def test_a_constant_input_has_no_coefficient():
    X = np.column_stack([np.arange(5.0), np.full(5, 3.0)])
    model = SignedLinear([1, 1]).fit(X, 2 * X[:, 0])
    np.testing.assert_allclose(model.coef_, [2, 0], atol=1e-12)


def test_bad_input():
    X, y = np.eye(4), np.arange(4.0)
    with pytest.raises(ValueError, match=r"signs.*\(3,\).*\(4,\)"):
        SignedLinear([1, 1, 1]).fit(X, y)
    with pytest.raises(ValueError, match=r"\(1,\) is 2"):
        SignedLinear([1, 2, 1, 1]).fit(X, y)
    with pytest.raises(ValueError, match="alpha=-1"):
        SignedLinear(alpha=-1).fit(X, y)
    with pytest.raises(ValueError, match="NaN"):
        SignedLinear().fit(X, np.array([0.0, np.nan, 1, 2]))
    with pytest.raises(ValueError, match="signs"):
        SignedLinear([-1], fit_intercept=False).path(np.ones((3, 1)), np.ones(3))


@parametrize_with_checks([SignedLinear(), SignedLinear(alpha=0.01)])
def test_scikit_learn(estimator, check):
    check(estimator)


def test_named_signs_follow_the_names_of_the_inputs():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(80, 3)), columns=["Mi1", "Mi4", "Tm9"])
    y = 2 * X["Mi1"] - X["Mi4"] + 0.5 * X["Tm9"]
    signs = pd.Series({"Mi4": -1.0, "Mi1": 1.0, "Tm9": 1.0})
    np.testing.assert_allclose(SignedLinear(signs).fit(X, y).coef_, [2, -1, 0.5], atol=1e-9)
    with pytest.raises(ValueError, match="Tm9"):
        SignedLinear(signs.drop("Tm9")).fit(X, y)
