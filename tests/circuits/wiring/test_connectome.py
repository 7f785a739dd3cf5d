"""The spatial connectome model, against dense Kronecker computations and enumeration of networks."""

import itertools

import numpy as np
import pytest
from scipy.optimize import lsq_linear

from flda.circuits.wiring import MaximumEntropy, SpatialConnectomeModel

from circuit_problems import kron_rows, problem


@pytest.mark.parametrize("alpha", [1e-3, 0.5, 20.0])
@pytest.mark.parametrize("sizes", [(4, 3), (25, 2), (30, 24)])  # the last two: more genes than neurons
def test_scm_is_the_dense_ridge(alpha, sizes):
    X, Y, B, C = problem(p=sizes[0], q=sizes[1])
    C *= np.random.default_rng(1).uniform(0.5, 2, size=C.shape)  # weights, not only a mask
    K, w, b = kron_rows(X, Y, C), C[C > 0], B[C > 0]
    dense = np.linalg.solve(K.T @ (w[:, None] * K) + alpha * np.eye(K.shape[1]), K.T @ (w * b))
    model = SpatialConnectomeModel(alpha).fit(X, B, Y=Y, contact=C)
    np.testing.assert_allclose(model.rules_.ravel(), dense, atol=1e-8 * np.abs(dense).max())
    hat = K @ np.linalg.solve(K.T @ (w[:, None] * K) + alpha * np.eye(K.shape[1]), (w[:, None] * K).T)
    assert model.df_ == pytest.approx(np.trace(hat), rel=1e-8)
    np.testing.assert_allclose(model.predict(X, Y), X @ dense.reshape(sizes) @ Y.T, atol=1e-7)


def test_scm_without_penalty_is_the_pseudo_inverse_on_dependent_genes():
    X, Y, B, C = problem(p=4)
    X = np.column_stack([X, X[:, 0] - 2 * X[:, 1], 1e-5 * X[:, 2]])
    dense = np.linalg.pinv(kron_rows(X, Y, C), rcond=1e-9) @ B[C > 0]
    model = SpatialConnectomeModel(0.0).fit(X, B, Y=Y, contact=C)
    np.testing.assert_allclose(model.predict(X, Y), X @ dense.reshape(6, 3) @ Y.T, atol=1e-6)


def test_scm_chooses_the_penalty_of_generalised_cross_validation():
    X, Y, B, C = problem(n=20, m=20, p=5, q=5)
    K, b = kron_rows(X, Y, C), B[C > 0]

    def criterion(log_alpha):
        hat = K @ np.linalg.solve(K.T @ K + np.exp(log_alpha) * np.eye(25), K.T)
        return np.sum((b - hat @ b) ** 2) / np.trace(np.eye(len(b)) - hat) ** 2

    grid = np.linspace(-4, 8, 400)
    best = np.exp(grid[np.argmin([criterion(g) for g in grid])])
    model = SpatialConnectomeModel().fit(X, B, Y=Y, contact=C)
    assert model.alpha_ == pytest.approx(best, rel=0.05)
    assert criterion(np.log(model.alpha_)) <= min(criterion(g) for g in grid) * (1 + 1e-9)


def test_scm_by_products_equals_the_factored_solution(monkeypatch):
    X, Y, B, C = problem(p=6, q=5)
    direct = SpatialConnectomeModel(0.3).fit(X, B, Y=Y, contact=C).rules_
    monkeypatch.setattr("flda.circuits.wiring._connectome.MAX_RULES", 10)
    np.testing.assert_allclose(SpatialConnectomeModel(0.3).fit(X, B, Y=Y, contact=C).rules_, direct, atol=1e-7)
    with pytest.raises(ValueError, match=r"30 rules.*alpha='gcv'"):
        SpatialConnectomeModel().fit(X, B, Y=Y, contact=C)


def test_scm_under_signs_is_bounded_least_squares():
    X, Y, B, C = problem(p=4, q=3)
    signs = np.random.default_rng(2).choice([1.0, -1.0, 0.0, np.nan], size=(4, 3))
    K = np.vstack([kron_rows(X, Y, C), np.sqrt(0.2) * np.eye(12)])
    b = np.append(B[C > 0], np.zeros(12))
    lower = np.where(signs == 1, 0, np.where(signs == 0, -1e-12, -np.inf)).ravel()
    upper = np.where(signs == -1, 0, np.where(signs == 0, 1e-12, np.inf)).ravel()
    expected = lsq_linear(K, b, (lower, upper), tol=1e-12).x
    model = SpatialConnectomeModel(0.2, signs=signs).fit(X, B, Y=Y, contact=C)
    np.testing.assert_allclose(model.rules_.ravel(), expected, atol=1e-6)
    assert (model.rules_[signs == 1] >= 0).all()
    assert not model.rules_[signs == 0].any()


def test_undirected_rules_are_symmetric_and_their_null_moments_exact():
    """Mean and variance of every rule over all networks, by enumeration of a small one."""
    X = np.array([[1.0, 0], [1, 1], [0, 1], [1, 0], [0, 1]])
    C = np.ones((5, 5)) - np.diag([0.0, 1, 0, 1, 1])  # two self-contacts
    B = np.roll(np.eye(5), 1, axis=1) + np.roll(np.eye(5), -1, axis=1)
    B[0, 0] = 1
    model = SpatialConnectomeModel(0.3).fit(X, B, contact=C)
    np.testing.assert_allclose(model.rules_, model.rules_.T)
    table = model.rule_table(X, B, contact=C).set_index(["gene_pre", "gene_post"])
    P = MaximumEntropy.fit(B, C, undirected=True).probability
    np.testing.assert_allclose(P.sum(axis=1), B.sum(axis=1), atol=1e-8)
    edges = [(i, j) for i in range(5) for j in range(i, 5) if C[i, j]]
    drawn, weight = [], []
    K = kron_rows(X, X, C)
    for bits in itertools.product((0, 1), repeat=len(edges)):
        network = np.zeros((5, 5))
        for (i, j), bit in zip(edges, bits, strict=True):
            network[i, j] = network[j, i] = bit
        weight.append(np.prod([P[e] if bit else 1 - P[e] for e, bit in zip(edges, bits, strict=True)]))
        drawn.append(np.linalg.solve(K.T @ K + 0.3 * np.eye(4), K.T @ network[C > 0]).reshape(2, 2))
    drawn, weight = np.array(drawn), np.array(weight)
    assert weight.sum() == pytest.approx(1)
    mean = np.einsum("s,sab->ab", weight, drawn)
    sd = np.sqrt(np.einsum("s,sab->ab", weight, (drawn - mean) ** 2))
    assert (sd > 0.01).all()
    for a, b in ((0, 0), (0, 1), (1, 1)):
        assert table.loc[(a, b), "null_mean"] == pytest.approx(mean[a, b], abs=1e-8)
        assert table.loc[(a, b), "null_sd"] == pytest.approx(sd[a, b], abs=1e-8)
        assert table.loc[(a, b), "rule"] == pytest.approx(model.rules_[a, b])


def test_directed_null_moments_by_sampling():
    rng = np.random.default_rng(0)
    X, Y = (rng.random((12, 3)) < 0.5).astype(float), (rng.random((10, 2)) < 0.5).astype(float)
    C = (rng.random((12, 10)) < 0.8).astype(float)
    B = C * (rng.random((12, 10)) < 0.4)
    table = SpatialConnectomeModel(0.5).fit(X, B, Y=Y, contact=C).rule_table(X, B, Y=Y, contact=C)
    null = MaximumEntropy.fit(B, C, undirected=False)
    drawn = [SpatialConnectomeModel(0.5).fit(X, null.sample(rng), Y=Y, contact=C).rules_.ravel() for _ in range(3000)]
    np.testing.assert_allclose(table["null_sd"], np.std(drawn, axis=0), rtol=0.08)
    np.testing.assert_allclose(table["null_mean"], np.mean(drawn, axis=0), atol=4 * np.max(drawn) / np.sqrt(3000))
