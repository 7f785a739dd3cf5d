"""Pairs of genes that go with connections: against dense score tests, and by their error rates."""

import numpy as np
import pytest
from scipy.special import expit

from flda.circuits.wiring import differential_expression

from circuit_problems import kron_rows, undirected


def test_differential_expression_is_the_score_test_of_a_logistic_model():
    """Against the score and the information of the logistic likelihood with an effect per neuron, formed densely."""
    X, B, C = undirected(n=25)
    found = differential_expression(X, B, contact=C, n_resamples=0).set_index(["gene_pre", "gene_post"])
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
    found = differential_expression(X, B, Y=Y, contact=C, n_resamples=0).set_index(["gene_pre", "gene_post"])
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
    found = differential_expression(X, B, directed=True, n_resamples=199)
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
        hits += differential_expression(X, B, contact=C, n_resamples=39, random_state=seed)["pval_family"].min() <= 0.1
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
            found = differential_expression(X, B, directed=True, classes=classes, n_resamples=39, random_state=seed)
            calls[k] += (found["pval"] <= 0.05).mean() / 40
    assert calls[0] > 0.15
    assert calls[1] < 0.1
