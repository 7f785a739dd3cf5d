"""Models of wiring on sparse contacts: what dense contacts and the slow way give, without matrices of all pairs."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from flda.circuits.wiring import BilinearModel, SpatialConnectomeModel, cross_validate
from flda.circuits.wiring import _network as network
from flda.circuits.wiring import _pairs as pairs_module

from circuit_problems import kron_rows, problem, undirected

FORMATS = (sp.csr_array, sp.coo_matrix, sp.csc_matrix)


def sparse_problem(seed=0, **sizes):
    """Few contacts, with weights, so that sparse matrices are used."""
    X, Y, B, C = problem(seed, share=0.2, **sizes)
    return X, Y, B, C * np.random.default_rng(seed).uniform(0.5, 2, C.shape)


def sparse_undirected(n=30):
    X, B, C = undirected(n=n)
    far = np.abs(np.subtract.outer(np.arange(n), np.arange(n)) % n) < n // 8
    far = far | far.T
    return X, B * far, C * far


def forbid_matrices(monkeypatch, *sides):
    """Fail if a sparse matrix of these sides becomes dense."""

    for kind in (sp.csr_array, sp.csc_array, sp.coo_array):
        monkeypatch.setattr(kind, "toarray", guarded(kind.toarray, sides))


def guarded(original, sides):
    def toarray(self, *args, **kwargs):
        assert self.shape not in {sides, sides[::-1]}, "a matrix of all pairs"
        return original(self, *args, **kwargs)

    return toarray


@pytest.mark.parametrize("kind", FORMATS)
def test_rules_are_the_weighted_ridge_the_slow_way(kind, monkeypatch):
    X, Y, B, C = sparse_problem(n=40, m=31)
    forbid_matrices(monkeypatch, 40, 31)
    K, on = kron_rows(X, Y, C), C > 0
    model = SpatialConnectomeModel(0.7).fit(X, kind(B), Y=Y, contact=kind(C))
    slow = np.linalg.solve(K.T @ (C[on][:, None] * K) + 0.7 * np.eye(12), K.T @ (C[on] * B[on]))
    np.testing.assert_allclose(model.rules_.ravel(), slow)
    dense = SpatialConnectomeModel(0.7).fit(X, B, Y=Y, contact=C)
    assert model.score(X, kind(B), Y=Y, contact=kind(C)) == pytest.approx(dense.score(X, B, Y=Y, contact=C))
    monkeypatch.setattr("flda.circuits.wiring._connectome.MAX_RULES", 5)
    iterative = SpatialConnectomeModel(0.7).fit(X, kind(B), Y=Y, contact=kind(C))
    np.testing.assert_allclose(iterative.rules_.ravel(), slow, atol=1e-8)


@pytest.mark.parametrize("norm", ["nuclear", "frobenius"])
def test_rules_of_low_rank(norm, monkeypatch):
    X, Y, B, C = sparse_problem(n=40, m=31)
    forbid_matrices(monkeypatch, 40, 31)
    dense = BilinearModel(2, alpha=0.3, norm=norm, tol=1e-12).fit(X, B, Y=Y, contact=C)
    few = BilinearModel(2, alpha=0.3, norm=norm, tol=1e-12).fit(X, sp.csr_array(B), Y=Y, contact=sp.csr_array(C))
    np.testing.assert_allclose(few.rules_, dense.rules_, atol=1e-8)
    fit = np.sum(C * (B - X @ few.rules_ @ Y.T) ** 2)
    s = np.linalg.svd(few.rules_, compute_uv=False)
    penalty = 0.3 * (s.sum() if norm == "nuclear" else np.sum(s**2))
    assert few.objective_[-1] == pytest.approx(fit + penalty, rel=1e-9)
    monkeypatch.setattr("flda.circuits.wiring._bilinear.MAX_DIRECT", 0)  # conjugate gradients
    by_products = BilinearModel(2, alpha=0.3, norm=norm, tol=1e-12).fit(
        X, sp.csr_array(B), Y=Y, contact=sp.csr_array(C)
    )
    np.testing.assert_allclose(by_products.rules_, dense.rules_, atol=1e-5)


def test_rules_and_their_null_in_an_undirected_network():
    X, B, C = sparse_undirected()
    few = (sp.csr_array(B), sp.csr_array(C))
    dense, model = (SpatialConnectomeModel().fit(X, b, contact=c) for b, c in ((B, C), few))
    np.testing.assert_allclose(model.rules_, dense.rules_, atol=1e-7)
    pd.testing.assert_frame_equal(
        model.rule_table(X, few[0], contact=few[1]), dense.rule_table(X, B, contact=C), rtol=1e-5
    )
    bilinear = [BilinearModel(1, alpha=0.1).fit(X, b, contact=c).score(X, b, contact=c) for b, c in ((B, C), few)]
    assert bilinear[0] == pytest.approx(bilinear[1])


@pytest.mark.parametrize("model", [SpatialConnectomeModel(1.0), BilinearModel(1, alpha=0.1)])
def test_cross_validation_with_classes_and_all_nulls(model):
    X, B, C = sparse_undirected(40)
    options = {"classes": np.arange(40) // 2, "n_nulls": 2, "n_resamples": 10, "n_folds": 3}
    dense = cross_validate(model, X, B, contact=C, **options)
    few = cross_validate(model, X, sp.csr_array(B), contact=sp.csr_array(C), **options)
    pd.testing.assert_frame_equal(few, dense)
    assert few.notna().all().all()


def test_networks_too_large_for_matrices_are_redrawn_with_their_degrees(monkeypatch):
    monkeypatch.setattr(network, "MAX_DENSE", 1)
    X, B, C = sparse_undirected(40)
    pairs = pairs_module.check_pairs(X, sp.csr_array(B), None, sp.csr_array(C), directed=False)
    p = network.expected_connections(pairs)
    rng = np.random.default_rng(0)
    drawn = np.array([pairs.matrix(network.redrawn(pairs, p, rng)).toarray() for _ in range(400)])
    assert (drawn == drawn.transpose(0, 2, 1)).all()
    assert (drawn[:, C == 0] == 0).all()
    spread = np.sqrt(pairs.matrix(p * (1 - p)).sum(axis=1) / 400)
    assert (np.abs(drawn.mean(axis=0).sum(axis=1) - B.sum(axis=1)) <= 4.5 * spread + 1e-9).all()
    table = cross_validate(
        SpatialConnectomeModel(1.0), X, sp.csr_array(B), contact=sp.csr_array(C), n_nulls=2, n_resamples=5, n_folds=3
    )
    assert table["degree_mean"].notna().all()


def test_sums_in_blocks_are_the_sums(monkeypatch):
    X, Y, B, C = sparse_problem(n=40, m=31)
    K = kron_rows(X, Y, C)
    expected = K.T @ (C[C > 0][:, None] * K)
    pairs = pairs_module.check_pairs(X, B, Y, sp.csr_array(C), directed=True)
    whole = pairs.at(X, Y @ np.ones((3, 4)))
    for name in ("BLOCK", "CACHED"):
        monkeypatch.setattr(pairs_module, name, 40)
    for matrix in (C, sp.csr_array(C), sp.csc_array(C)):
        np.testing.assert_allclose(pairs_module.kronecker_gram(X, Y, matrix), expected)
    np.testing.assert_array_equal(pairs.at(X, Y @ np.ones((3, 4))), whole)
    np.testing.assert_allclose(whole, (X @ np.ones((4, 3)) @ Y.T)[C > 0])


def test_bad_sparse_contacts_are_named():
    X, B, C = sparse_undirected()
    model = SpatialConnectomeModel(1.0)
    few, contact = sp.csr_array(B), sp.csr_array(C)
    i, j = np.argwhere((C == 0) & (C.T == 0))[0]
    outside = B.copy()
    outside[i, j] = outside[j, i] = 1.0
    with pytest.raises(ValueError, match=rf"2 connections.*row {i}, column {j}"):
        model.fit(X, sp.csr_array(outside), contact=contact)
    i, j = np.argwhere(np.triu(B, 1))[0]
    skew = B.copy()
    skew[i, j] = 0
    with pytest.raises(ValueError, match=r"B .*directed=True"):
        model.fit(X, sp.csr_array(skew), contact=contact)
    with pytest.raises(ValueError, match=r"contact .*\(3, 3\)"):
        model.fit(X, few, contact=contact[:3, :3])
    with pytest.raises(ValueError, match="negative"):
        model.fit(X, few, contact=-contact)
    with pytest.raises(ValueError, match="contact is zero"):
        model.fit(X, few, contact=0 * contact)
    with pytest.raises(ValueError, match="B is 0"):
        model.fit(X, 0 * few, contact=contact)
    with pytest.raises(ValueError, match="B holds NaN"):
        model.fit(X, few * np.nan, contact=contact)
