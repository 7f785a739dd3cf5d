"""Wiring models against dense Kronecker computations, independent optimisers, and networks of known rules."""

import itertools

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.optimize import lsq_linear, minimize
from scipy.special import expit
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from flda.circuits.wiring import (
    BilinearModel,
    MaximumEntropy,
    SpatialConnectomeModel,
    cross_validate,
    differential_expression,
    type_profiles,
)
from flda.circuits.wiring import _bilinear as bilinear
from flda.circuits.wiring import _connectome as connectome
from flda.circuits.wiring._pairs import agreement


def problem(seed=0, n=14, m=11, p=4, q=3, share=0.6):
    rng = np.random.default_rng(seed)
    X, Y = rng.normal(size=(n, p)), rng.normal(size=(m, q))
    C = (rng.random((n, m)) < share).astype(float)
    B = C * (X @ rng.normal(size=(p, q)) @ Y.T + rng.normal(size=(n, m)))
    return X, Y, B, C


def undirected(seed=0, n=20, p=4, rate=0.35):
    rng = np.random.default_rng(seed)
    X = (rng.random((n, p)) < 0.5).astype(float)
    C = np.triu(rng.random((n, n)) < 0.7)
    C = (C | C.T).astype(float)
    B = np.triu(rng.random((n, n)) < rate) * np.triu(C)
    return X, np.maximum(B, B.T).astype(float), C


def kron_rows(X, Y, C):
    """The regressors of the rules, a row per pair in contact, the slow way."""
    return np.array([np.kron(X[i], Y[j]) for i, j in np.argwhere(C > 0)])


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
    monkeypatch.setattr(connectome, "MAX_RULES", 10)
    np.testing.assert_allclose(SpatialConnectomeModel(0.3).fit(X, B, Y=Y, contact=C).rules_, direct, atol=1e-7)
    with pytest.raises(ValueError, match=r"30 rules are too many for alpha='gcv'"):
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


@pytest.mark.parametrize("both", [True, False])
def test_random_networks_keep_contacts_and_degrees(both):
    _, B, C = undirected(n=30)
    B[3] = B[:, 3] = 0  # a neuron without connections
    B[5] = B[:, 5] = C[5]  # and one with all it can have
    B[3, 5] = B[5, 3] = 0
    C[3, 5] = C[5, 3] = 0
    if not both:
        B, C = B[:, :20], C[:, :20]
    null = MaximumEntropy.fit(B, C, undirected=both)
    np.testing.assert_allclose(null.probability.sum(axis=1), B.sum(axis=1), atol=1e-6)
    np.testing.assert_allclose(null.probability.sum(axis=0), B.sum(axis=0), atol=1e-6)
    assert not null.probability[C == 0].any()
    assert not null.probability[3].any()
    p = np.clip(null.probability, 1e-12, 1 - 1e-12)
    logit = np.log(p / (1 - p))
    rows = [0, 1, 2]
    cols = [c for c in range(6, C.shape[1]) if C[rows, c].all() and (null.variance[rows, c] > 1e-9).all()][:3]
    square = logit[np.ix_(rows, cols)]
    np.testing.assert_allclose(square - square[:1] - square[:, :1] + square[0, 0], 0, atol=1e-5)  # additive
    drawn = null.sample(np.random.default_rng(0))
    assert set(np.unique(drawn)) <= {0, 1}
    assert not drawn[C == 0].any()
    if both:
        np.testing.assert_array_equal(drawn, drawn.T)


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
    monkeypatch.setattr(bilinear, "MAX_DIRECT", 0)
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


def test_agreement_is_the_auc_or_the_correlation():
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 2, 200).astype(float), rng.integers(0, 20, 200).astype(float)
    weights = rng.integers(0, 4, 200).astype(float)
    assert agreement(predicted, truth) == pytest.approx(roc_auc_score(truth, predicted))
    assert agreement(predicted, truth, weights) == pytest.approx(roc_auc_score(truth, predicted, sample_weight=weights))
    values = rng.normal(size=200)
    assert agreement(predicted, values) == pytest.approx(np.corrcoef(predicted, values)[0, 1])
    repeated = np.repeat(np.arange(200), weights.astype(int))
    assert agreement(predicted, values, weights) == pytest.approx(
        np.corrcoef(predicted[repeated], values[repeated])[0, 1]
    )
    assert np.isnan(agreement(predicted, np.ones(200)))


def test_differential_expression_is_the_score_test_of_a_logistic_model():
    """Against the score and the information of the logistic likelihood with an effect per neuron, formed densely."""
    X, B, C = undirected(n=25)
    found = differential_expression(X, B, contact=C, n_permutations=0).set_index(["gene_pre", "gene_post"])
    assert found["pval"].isna().all()
    pairs = [(i, j) for i in range(25) for j in range(i, 25) if C[i, j]]
    D = np.zeros((len(pairs), 25))
    for k, (i, j) in enumerate(pairs):
        D[k, [i, j]] = 1
    y = np.array([B[e] for e in pairs])
    t = np.zeros(25)
    for _ in range(50):
        p = expit(D @ t)
        t += np.linalg.lstsq(D.T @ ((p * (1 - p))[:, None] * D), D.T @ (y - p), rcond=None)[0]
    v = p * (1 - p)
    for a in range(4):
        for b in range(a, 4):
            k = np.array([X[i, a] * X[j, b] + (X[j, a] * X[i, b] if i != j else 0) for i, j in pairs])
            information = k @ (v * k) - k @ (v[:, None] * D) @ np.linalg.pinv(D.T @ (v[:, None] * D)) @ (D.T @ (v * k))
            assert found.loc[(a, b), "z"] == pytest.approx(k @ (y - p) / np.sqrt(information), rel=1e-5)
    connected = np.mean([X[i, 0] * X[j, 1] for i, j in np.argwhere(B > 0)])
    assert found.loc[(0, 1), "connected"] == pytest.approx(connected)


def test_differential_expression_directed_against_the_dense_score():
    rng = np.random.default_rng(3)
    X, Y = (rng.random((15, 3)) < 0.5).astype(float), (rng.random((12, 2)) < 0.5).astype(float)
    C = (rng.random((15, 12)) < 0.9).astype(float)
    B = C * (rng.random((15, 12)) < 0.4)
    found = differential_expression(X, B, Y=Y, contact=C, n_permutations=0).set_index(["gene_pre", "gene_post"])
    pairs = np.argwhere(C > 0)
    D = np.hstack([np.eye(15)[pairs[:, 0]], np.eye(12)[pairs[:, 1]]])
    y, t = B[C > 0], np.zeros(27)
    for _ in range(50):
        p = expit(D @ t)
        t += np.linalg.lstsq(D.T @ ((p * (1 - p))[:, None] * D), D.T @ (y - p), rcond=None)[0]
    v, K = p * (1 - p), kron_rows(X, Y, C)
    inner = K.T @ (v[:, None] * K)
    cross = K.T @ (v[:, None] * D)
    variance = np.diag(inner - cross @ np.linalg.pinv(D.T @ (v[:, None] * D)) @ cross.T)
    expected = (K.T @ (y - p) / np.sqrt(variance)).reshape(3, 2)
    for (a, b), z in found["z"].items():
        assert z == pytest.approx(expected[a, b], rel=1e-4)


def test_differential_expression_finds_the_pair_and_not_the_hub():
    """A gene of well-connected neurons is not called; a gene pair that connects is, in the right direction."""
    rng = np.random.default_rng(0)
    X = (rng.random((80, 6)) < 0.4).astype(float)
    hub = 2.5 * X[:, 5]
    rate = expit(-2.5 + hub[:, None] + hub[None, :] + 2.0 * np.outer(X[:, 0], X[:, 1]))
    B = (rng.random((80, 80)) < rate).astype(float)
    found = differential_expression(X, B, directed=True, n_permutations=199)
    assert found.loc[0, ["gene_pre", "gene_post"]].tolist() == [0, 1]
    assert found.loc[0, "pval_family"] < 0.05
    hubs = found[(found["gene_pre"] == 5) & (found["gene_post"] == 5)]
    assert float(hubs["pval_family"].iloc[0]) > 0.05
    naive = (X[:, 5] @ B @ X[:, 5]) / (X[:, 5].sum() ** 2) / B.mean()
    assert naive > 1.5  # by bare counts the hub gene would have been called


def test_family_error_of_differential_expression():
    """No rule at all: the smallest family p-value is below 0.1 in about a tenth of the networks."""
    hits = 0
    for seed in range(60):
        X, B, C = undirected(seed, n=24, p=3)
        hits += (
            differential_expression(X, B, contact=C, n_permutations=39, random_state=seed)["pval_family"].min() <= 0.1
        )
    assert hits <= 13  # 0.99 quantile of Binomial(60, 0.1)


def test_exchanging_classes_is_the_right_null_for_neurons_that_are_alike():
    """Families of four share genes and wiring: neurons as units call absent pairs far too often, families do not."""
    calls = np.zeros(2)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        family = np.repeat(np.arange(10), 4)
        X = (rng.random((10, 2)) < 0.5).astype(float)[family]
        rate = expit(rng.normal(size=(10, 10)) * 2 - 1)[np.ix_(family, family)]  # wiring by family, not by gene
        B = (rng.random((40, 40)) < rate).astype(float)
        for k, classes in enumerate((None, family)):
            found = differential_expression(X, B, directed=True, classes=classes, n_permutations=39, random_state=seed)
            calls[k] += (found["pval"] <= 0.05).mean() / 40
    assert calls[0] > 0.15
    assert calls[1] < 0.1


def test_cross_validation_of_a_rule_that_is_there():
    rng = np.random.default_rng(0)
    X = (rng.random((60, 4)) < 0.5).astype(float)
    B = np.triu(rng.random((60, 60)) < 0.05 + 0.5 * np.outer(X[:, 0], X[:, 0]), 1)
    B = (B + B.T).astype(float)
    classes = np.repeat([f"class{i}" for i in range(30)], 2)
    table = cross_validate(SpatialConnectomeModel(1.0), X, B, contact=1 - np.eye(60), classes=classes, n_nulls=6)
    assert table.index.tolist() == ["in sample", "pairs", "neurons", "classes"]
    assert (table["metric"] == "auc").all()
    assert (table.loc[["pairs", "neurons", "classes"], "score"] > 0.65).all()
    assert (table["lower"] < table["score"]).all()
    assert (table["score"] < table["upper"]).all()
    assert (table["score"] > table["permutation_mean"] + 3 * table["permutation_sd"]).all()
    assert (table["permutation_pval"] == 1 / 7).all()
    assert (table["class_mean"] < table["score"]).all()
    assert (table["n_pairs"] == 60 * 59 / 2).all()
    again = cross_validate(SpatialConnectomeModel(1.0), X, B, contact=1 - np.eye(60), classes=classes, n_nulls=6)
    pd.testing.assert_frame_equal(table, again)


def test_cross_validation_of_nothing_and_of_degrees():
    """Without a rule the in-sample score is high and the held-out one is not; a hub gene scores by degree alone."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(40, 8))
    B = np.triu(rng.random((40, 40)) < 0.2, 1)
    table = cross_validate(SpatialConnectomeModel(0.1), X, (B + B.T).astype(float), contact=1 - np.eye(40), n_nulls=5)
    assert table.loc["in sample", "score"] > 0.6
    assert abs(table.loc["in sample", "score"] - table.loc["in sample", "permutation_mean"]) < 0.05
    assert (abs(table.loc[["pairs", "neurons"], "score"] - 0.5) < 0.08).all()
    X = np.column_stack([np.ones(60), rng.normal(size=60)])
    B = np.triu(rng.random((60, 60)) < expit(-1.5 + X[:, 1][:, None] + X[:, 1][None, :]), 1)
    table = cross_validate(SpatialConnectomeModel(0.1), X, (B + B.T).astype(float), contact=1 - np.eye(60), n_nulls=5)
    assert table.loc["pairs", "permutation_pval"] == 1 / 6
    assert abs(table.loc["pairs", "score"] - table.loc["pairs", "degree_mean"]) < 0.05


def test_no_held_out_pair_is_seen():
    """A model that looks its answers up scores 1 on what it has seen, and must be blind in every fold."""

    class Lookup(SpatialConnectomeModel):
        def _fit(self, pairs):
            self.seen_ = np.where(pairs.C > 0, pairs.B, 0.0)
            return self

        def predict(self, X, Y=None):
            return self.seen_

    X, B, C = undirected(n=30)
    classes = np.arange(30) // 2
    table = cross_validate(Lookup(), X, B, contact=C, classes=classes, n_nulls=0)
    assert table["score"].tolist() == [1.0, 0.5, 0.5, 0.5]
    assert table["degree_mean"].isna().all()


def test_two_populations_and_strengths():
    X, Y, B, C = problem(n=40, m=30)
    names = [f"pre{i}" for i in range(40)], [f"post{i}" for i in range(30)]
    X, Y = pd.DataFrame(X, index=names[0], columns=list("abcd")), pd.DataFrame(Y, index=names[1], columns=list("xyz"))
    table = cross_validate(
        BilinearModel(2, alpha=0.1), X, pd.DataFrame(B, *names).iloc[::-1], Y=Y, contact=pd.DataFrame(C, *names),
        classes=np.arange(40) // 2, classes_post=np.arange(30) // 2, n_nulls=2,
    )  # fmt: skip
    assert (table["metric"] == "correlation").all()
    assert (table["score"] > 0.4).all()
    assert table["degree_mean"].isna().all()  # strengths have no degrees
    model = SpatialConnectomeModel().fit(X, pd.DataFrame(B, *names), Y=Y, contact=pd.DataFrame(C, *names))
    assert model.rules_.index.tolist() == list("abcd")
    assert model.rules_.columns.tolist() == list("xyz")


def test_type_profiles():
    rng = np.random.default_rng(0)
    cells = rng.poisson(2.0, size=(50, 6)).astype(float)
    cells[:, 5] = 1.0
    types = np.array(list("abcde"))[rng.integers(0, 5, 50)]
    frame = pd.DataFrame(cells)
    pooled = np.sqrt(frame.groupby(types).transform(lambda c: (c - c.mean()) ** 2).sum() / 45)
    expected = (frame.groupby(types).mean() / pooled).fillna(0).replace(np.inf, 0)
    for X in (cells, sp.csr_matrix(cells), frame):
        np.testing.assert_allclose(type_profiles(X, types), expected, atol=1e-10)
    with pytest.raises(ValueError, match="one cell only"):
        type_profiles(cells[:2], ["a", "b"])
    with pytest.raises(ValueError, match="1 of 2 cells have no type"):
        type_profiles(cells[:2], ["a", None])


@pytest.mark.parametrize("model", [SpatialConnectomeModel(1.0), BilinearModel(1)])
def test_bad_input(model):
    X, B, C = undirected()
    skew = B.copy()
    i, j = np.argwhere(B > 0)[0]
    skew[i, j] = 0
    with pytest.raises(ValueError, match=rf"B is not symmetric: 0 in row {i}, column {j}.*directed=True"):
        model.fit(X, skew, contact=C)
    clone(model).set_params(directed=True).fit(X, skew, contact=C)
    with pytest.raises(ValueError, match="connections are between neurons without contact"):
        model.fit(X, B, contact=np.where(B > 0, 0, C))
    with pytest.raises(ValueError, match=r"X holds 1 NaN or infinite values, the first in row 2, column 1"):
        model.fit(np.where(np.arange(80).reshape(20, 4) == 9, np.nan, X), B, contact=C)
    with pytest.raises(ValueError, match=r"B has shape \(3, 3\)"):
        model.fit(X, B[:3, :3])
    with pytest.raises(ValueError, match="same connection, 0: nothing to learn"):
        model.fit(X, 0 * B, contact=C)
    with pytest.raises(ValueError, match="no pair of neurons is left"):
        model.fit(X, B, contact=0 * C)
    with pytest.raises(ValueError, match="must not be negative"):
        model.fit(X, B, contact=-C)
    names = [f"n{k}" for k in range(20)]
    genes, links = pd.DataFrame(X, index=names), pd.DataFrame(B, names, names)
    with pytest.raises(ValueError, match="1 neurons are on one side only, such as 'n3'"):
        model.fit(genes.drop("n3"), links)
    with pytest.raises(ValueError, match="'n1' occurs twice in the rows of X"):
        model.fit(genes.rename(index={"n0": "n1"}), links)
    with pytest.raises(ValueError, match="'n1' occurs twice in the rows of B"):
        model.fit(genes, links.rename(index={"n0": "n1"}))
    with pytest.raises(ValueError, match="must not be negative"):
        clone(model).set_params(alpha=-1.0).fit(X, B, contact=C)


def test_bad_options():
    X, B, C = undirected()
    with pytest.raises(ValueError, match="give a number or 'gcv'"):
        SpatialConnectomeModel("auto").fit(X, B, contact=C)
    with pytest.raises(ValueError, match=r"signs of the rules have shape \(4,\)"):
        SpatialConnectomeModel(1.0, signs=np.ones(4)).fit(X, B, contact=C)
    lopsided = np.full((4, 4), np.nan)
    lopsided[0, 1] = 1
    with pytest.raises(ValueError, match="not symmetric"):
        SpatialConnectomeModel(1.0, signs=lopsided).fit(X, B, contact=C)
    with pytest.raises(ValueError, match="rank of 1 to 4"):
        BilinearModel(5).fit(X, B, contact=C)
    with pytest.raises(ValueError, match="neither 'nuclear'"):
        BilinearModel(norm="l1").fit(X, B, contact=C)
    with pytest.raises(ValueError, match="20 neurons are fewer than 30 folds"):
        cross_validate(SpatialConnectomeModel(1.0), X, B, contact=C, n_folds=30)
    with pytest.raises(ValueError, match=r"classes must name the class of each of 20 neurons; 3 given"):
        cross_validate(SpatialConnectomeModel(1.0), X, B, contact=C, classes=[1, 2, 3])
    with pytest.raises(ValueError, match="needs connections of 0 or 1"):
        differential_expression(X, 2 * B, contact=C)
