"""Pairs of genes that go with connections: against dense score tests, and by their error rates."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.special import expit

from flda.circuits.wiring import MaximumEntropy, _network, _pairs, _score, differential_expression

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


def sparse_network(n, m, seed=0):
    """Connections with degrees and one rule, on a third of the pairs."""
    rng = np.random.default_rng(seed)
    X, Y = (rng.random((k, 3)) < 0.4 for k in (n, m))
    C = (rng.random((n, m)) < 0.3).astype(float)
    rate = expit(rng.normal(size=n)[:, None] + rng.normal(size=m) - 1 + X[:, [0]] * Y[:, 1])
    return X.astype(float), Y.astype(float), C * (rng.random((n, m)) < rate), C


@pytest.mark.parametrize("undirected", [False, True])
def test_sparse_networks_give_the_dense_results(monkeypatch, undirected):
    """Probabilities, statistics and p-values by conjugate gradients on lists of pairs equal those of matrices."""
    X, Y, B, C = sparse_network(40, 40 if undirected else 30)
    if undirected:
        B, C, Y = np.triu(B) + np.triu(B, 1).T, np.triu(C) + np.triu(C, 1).T, None
    B = B * C
    kwargs = {"Y": Y, "directed": not undirected, "n_resamples": 19}
    dense = differential_expression(X, B, contact=C, **kwargs)
    for module in (_network, _score):
        monkeypatch.setattr(module, "MAX_DENSE", 0)
    listed = differential_expression(X, sp.csr_matrix(B), contact=sp.coo_array(C), **kwargs)
    pd.testing.assert_frame_equal(dense, listed, rtol=1e-5)


def test_sparse_probabilities_are_those_of_maximum_entropy(monkeypatch):
    X, Y, B, C = sparse_network(40, 30, seed=1)
    B[0] = 0.0  # a neuron without connections, and one with all of its contacts
    B[:, 1] = C[:, 1]
    monkeypatch.setattr(_network, "MAX_DENSE", 0)
    net = _pairs.check_pairs(X, sp.csr_array(B), Y, sp.csr_array(C), directed=True)
    p = np.zeros_like(B)
    p[net.i, net.j] = _network.expected_connections(net)
    np.testing.assert_allclose(p, MaximumEntropy.fit(B, C, undirected=False).probability, atol=1e-7)


@pytest.mark.parametrize("undirected", [False, True])
def test_permuted_statistics_against_sums_over_pairs(undirected):
    """The centred statistic, and its p-value, from sums over pairs; the variance is exact for product variances."""
    X, Y, B, C = sparse_network(24, 24)
    if undirected:
        B, C, Y = np.triu(B) + np.triu(B, 1).T, np.triu(C) + np.triu(C, 1).T, X
    B = B * C
    p = MaximumEntropy.fit(B, C, undirected=undirected).probability
    v = p * (1 - p)
    x, y = (g - w @ g / v.sum() for g, w in ((X, v.sum(axis=1)), (Y, v.sum(axis=0))))
    found = _score.CentredStatistics(C * (B - p), v, undirected).of(X[None], Y[None])[0]
    for a in range(3):
        for b in range(3):
            score = sum(X[i, a] * Y[j, b] * (B - p)[i, j] for i, j in np.argwhere(C > 0))
            spread = sum(v[i, j] * x[i, a] ** 2 * y[j, b] ** 2 for i, j in np.argwhere(C > 0))
            if undirected:
                spread += sum(v[i].sum() * x[i, a] * x[i, b] for i in range(24)) ** 2 / v.sum()
            assert found[a, b] == pytest.approx(score / np.sqrt(spread), rel=1e-6)


def test_bad_sparse_networks():
    X, Y, _, C = sparse_network(10, 8)
    with pytest.raises(ValueError, match="contact"):
        differential_expression(X, sp.csr_array(np.ones((10, 8))), Y=Y, contact=sp.csr_array(C))
    with pytest.raises(ValueError, match=r"B has shape \(8, 8\)"):
        differential_expression(X, sp.csr_array((8, 8)), Y=Y, contact=sp.csr_array(C))
    with pytest.raises(ValueError, match="B is 0"):
        differential_expression(X, sp.csr_array((10, 8)), Y=Y, contact=sp.csr_array(C))
    with pytest.raises(ValueError, match="not symmetric"):
        differential_expression(X[:8], sp.csr_array((8, 8)), contact=sp.csr_array(C[:8]))
