"""The bilinear model, against independent optimisers of the published objectives."""

import numpy as np
import pytest
from scipy.optimize import minimize

from flda.circuits.wiring import BilinearModel, SpatialConnectomeModel

from circuit_problems import problem


def objective(model, X, Y, B, C, pre, post):
    fit = np.sum(C * (B - X @ pre @ post.T @ Y.T) ** 2)
    rules = pre @ post.T
    if model.norm == "frobenius":
        return fit + model.alpha * np.sum(rules**2)
    if model.nonnegative:
        return fit + model.alpha / 2 * (np.sum(pre**2) + np.sum(post**2))
    return fit + model.alpha * np.linalg.svd(rules, compute_uv=False).sum()


@pytest.mark.parametrize("norm", ["nuclear", "frobenius"])
@pytest.mark.parametrize("sizes", [(4, 3), (20, 16)])
def test_bilinear_reaches_what_an_independent_optimiser_reaches(norm, sizes):
    """L-BFGS on the published objectives, in A and B as they stand, from ten random starts."""
    X, Y, B, C = problem(p=sizes[0], q=sizes[1])
    p, q, d, alpha = *sizes, 2, 0.7
    model = BilinearModel(d, alpha=alpha, norm=norm, tol=1e-13, max_iter=5000).fit(X, B, Y=Y, contact=C)
    assert model.objective_[-1] == pytest.approx(objective(model, X, Y, B, C, model.pre_, model.post_), rel=1e-10)
    assert (np.diff(model.objective_) <= 1e-9 * model.objective_[0]).all()

    def published(flat):
        a, b = flat[: p * d].reshape(p, d), flat[p * d :].reshape(q, d)
        error = C * (B - X @ a @ b.T @ Y.T)
        ga, gb = -2 * X.T @ error @ Y @ b, -2 * Y.T @ error.T @ X @ a
        if norm == "nuclear":  # lambda / 2 (|A|^2 + |B|^2)
            penalty = alpha / 2 * np.sum(flat**2)
            ga, gb = ga + alpha * a, gb + alpha * b
        else:  # lambda / 2 (|A'A|^2 + |B'B|^2)
            penalty = alpha / 2 * (np.sum((a.T @ a) ** 2) + np.sum((b.T @ b) ** 2))
            ga, gb = ga + 2 * alpha * a @ a.T @ a, gb + 2 * alpha * b @ b.T @ b
        return np.sum(error * (B - X @ a @ b.T @ Y.T)) + penalty, np.append(ga.ravel(), gb.ravel())

    rng = np.random.default_rng(0)
    found = [
        minimize(
            published,
            rng.normal(size=(p + q) * d),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 20000, "ftol": 1e-14, "gtol": 1e-9, "maxfun": 40000},
        ).fun
        for _ in range(10)
    ]
    assert model.objective_[-1] <= min(found) * (1 + 1e-6)
    at_own = published(np.append(model.pre_.ravel(), model.post_.ravel()))[0]
    assert at_own == pytest.approx(model.objective_[-1], rel=1e-8)  # its factors attain the published objective


def test_bilinear_of_full_rank_is_the_convex_problem():
    """With all components the Frobenius norm gives the ridge, and the nuclear norm its own optimum."""
    X, Y, B, C = problem(p=4, q=3)
    ridge = SpatialConnectomeModel(0.5).fit(X, B, Y=Y, contact=C).rules_
    full = BilinearModel(3, alpha=0.5, norm="frobenius", tol=1e-14).fit(X, B, Y=Y, contact=C)
    np.testing.assert_allclose(full.rules_, ridge, atol=1e-5)
    nuclear = BilinearModel(3, alpha=25.0, tol=1e-15, max_iter=20000).fit(X, B, Y=Y, contact=C)
    gradient = 2 * X.T @ (C * (B - X @ nuclear.rules_ @ Y.T)) @ Y  # must lie in alpha times the subdifferential
    u, s, vt = np.linalg.svd(nuclear.rules_, full_matrices=False)
    assert np.linalg.norm(gradient, 2) <= 25.0 * (1 + 1e-4)
    on = s > 1e-4 * s[0]
    assert 0 < on.sum() < 3  # the penalty has taken a rank
    np.testing.assert_allclose(u[:, on].T @ gradient @ vt[on].T, 25.0 * np.eye(on.sum()), atol=1e-2)


def test_bilinear_by_products_equals_the_factored_solution(monkeypatch):
    X, Y, B, C = problem(p=6, q=5)
    direct = BilinearModel(2, alpha=0.3, tol=1e-12).fit(X, B, Y=Y, contact=C)
    monkeypatch.setattr("flda.circuits.wiring._bilinear.MAX_DIRECT", 0)
    by_products = BilinearModel(2, alpha=0.3, tol=1e-12).fit(X, B, Y=Y, contact=C)
    np.testing.assert_allclose(by_products.rules_, direct.rules_, atol=1e-5)


def test_nonnegative_rules():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(30, 5)), rng.normal(size=(25, 4))
    A, D = np.abs(rng.normal(size=(5, 2))), np.abs(rng.normal(size=(4, 2)))
    A[0] = D[3] = 0
    B = X @ A @ D.T @ Y.T
    model = BilinearModel(2, alpha=1e-8, nonnegative=True, tol=1e-14, max_iter=5000).fit(X, B, Y=Y)
    assert (model.pre_ >= 0).all()
    assert (model.post_ >= 0).all()
    np.testing.assert_allclose(model.rules_, A @ D.T, atol=2e-3)
    noisy = B + 3 * rng.normal(size=B.shape)
    model = BilinearModel(2, alpha=1.0, nonnegative=True, tol=1e-12).fit(X, noisy, Y=Y)
    assert (np.diff(model.objective_) <= 1e-8).all()
    assert model.objective_[-1] == pytest.approx(
        objective(model, X, Y, noisy, np.ones(B.shape), model.pre_, model.post_)
    )
