"""Group means and the within-group scatter, by whatever way they are summed, against their definition."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from flda._data import arrays, device, symmetric
from flda._design.make import make_design
from flda._design.samples import Samples
from flda._solve.residuals import target_diagonal
from flda._solve.within import Within

from array_kinds import KINDS, SINGLE, kinds
from oracle import donor_scatter, within_scatter

RNG = np.random.default_rng(0)
N, P = 240, 30
LABELS = pd.DataFrame({"A": RNG.choice(["p", "q"], N, p=[0.7, 0.3]), "B": RNG.choice(["u", "v", "w"], N)})
DESIGN = make_design(LABELS)
DONORS = RNG.integers(4, size=N)
THIN = RNG.random((N, P)) * (RNG.random((N, P)) < 0.08)
DENSE = RNG.normal(size=(N, P)) @ RNG.normal(size=(P, P))


def within_of(X, within, with_donors):
    samples = Samples.of(DESIGN.codes, DONORS) if with_donors else None
    return Within.from_data(X, DESIGN.codes, DESIGN.counts, within, samples)


def by_definition(X, within, with_donors):
    return donor_scatter(X, LABELS, DONORS, within) if with_donors else within_scatter(X, LABELS, within)


def close(got, expected, kind=""):
    tolerance = 1e-5 if kind in SINGLE else 1e-12
    np.testing.assert_allclose(device.to_numpy(got), expected, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("kind", kinds(but=["coo_array"]))  # estimators see it as CSR
@pytest.mark.parametrize("within", ["pooled", "balanced"])
@pytest.mark.parametrize("with_donors", [False, True])
@pytest.mark.parametrize("X", [THIN, DENSE], ids=["thin", "dense"])
def test_scatter_of_the_genes(store, kind, within, with_donors, X):
    """Products of sparse rows where the data are thin, centred dense blocks elsewhere."""
    expected, means = by_definition(X, within, with_donors)
    found = within_of(device.wrap(store(X)), within, with_donors)
    np.testing.assert_allclose(found.means, means, atol=1e-6 if kind in SINGLE else 1e-12)
    scatter = found.gene_scatter()
    close(scatter, expected, kind)
    close(found.variances_of(scatter), np.diag(expected), kind)
    close(found.gene_variances(), np.diag(expected), kind)


@pytest.mark.parametrize("kind", kinds(but=["coo_array"]))
@pytest.mark.parametrize("with_donors", [False, True])
@pytest.mark.parametrize("many", [1, arrays.MANY])
def test_products_without_the_scatter(store, kind, with_donors, many, monkeypatch):
    """``M_e B``, ``R B``, ``R' V`` and the lengths of the residuals R, with ``M_e = R'R``."""
    monkeypatch.setattr(arrays, "MANY", many)  # from 1 on, sparse matrices use the compiled loops
    M, _ = by_definition(DENSE, "balanced", with_donors)
    found = within_of(device.wrap(store(DENSE)), "balanced", with_donors)
    B, V = RNG.normal(size=(P, 3)), RNG.normal(size=(N, 2))
    close(found.times(B), M @ B, kind)
    close(found.genes_of(found.cells_of(B)), M @ B, kind)
    R = found.cells_of(np.eye(P))
    close(R.T @ R, M, kind)
    close(found.genes_of(V), R.T @ V, kind)
    target = np.diag(M)
    close(found.cell_norms(target), np.sum(R**2 / target, axis=1), kind)


@pytest.mark.parametrize("kind", kinds(KINDS, but=["coo_array"]))
@pytest.mark.parametrize("target", ["identity", "diagonal"])
@pytest.mark.parametrize("with_donors", [False, True])
def test_gram_matrix_of_cells_and_groups(store, kind, target, with_donors):
    M, means = by_definition(DENSE, "pooled", with_donors)
    found = within_of(store(DENSE), "pooled", with_donors)
    gram, variances, norms = found.cell_gram(target)
    close(norms, device.to_numpy(gram.diagonal())[:N], kind)
    close(variances, np.diag(M), kind)
    T = np.full(P, np.trace(M) / P) if target == "identity" else np.diag(M)
    np.testing.assert_allclose(target_diagonal(np.diag(M), target), T)
    rows = np.vstack([found.cells_of(np.eye(P)), means - means.mean(axis=0)])
    close(gram, rows / T @ rows.T, kind)


@pytest.mark.parametrize("kind", kinds(but=["coo_array"]))
@pytest.mark.parametrize("X", [THIN, DENSE], ids=["thin", "dense"])
@pytest.mark.parametrize("with_donors", [False, True])
def test_scatter_of_some_cells_about_the_centres_of_all(store, kind, X, with_donors):
    some = np.flatnonzero(RNG.random(N) < 0.4)
    found = within_of(device.wrap(store(X)), "balanced", with_donors)
    R = within_of(X, "balanced", with_donors).cells_of(np.eye(P))[some]
    sums = arrays.group_sums(X[some], found.sample_codes[some], len(found.centres))
    for known in (None, sums):
        close(found.gene_scatter(some, known), R.T @ R, kind)


@pytest.mark.parametrize("with_donors", [False, True])
@pytest.mark.parametrize("within", ["pooled", "balanced"])
def test_a_mean_far_above_the_spread_costs_no_digits(with_donors, within):
    """Means 10,000 times the spread: raw products of sparse rows would lose eight digits."""
    X = np.column_stack([THIN, 1e4 + RNG.normal(size=N)])
    expected, _ = by_definition(X - np.r_[np.zeros(P), 1e4], within, with_donors)
    for matrix in (X, sp.csr_array(X)):
        assert arrays.is_thin(matrix) == sp.issparse(matrix)
        found = within_of(matrix, within, with_donors).gene_scatter()
        # the share of the donors comes from raw squares, and it scales their part of the scatter as a whole
        np.testing.assert_allclose(found, expected, atol=(1e-9 if with_donors else 1e-12) * np.abs(expected).max())


def test_a_constant_gene_has_no_variance():
    X = DENSE.copy()
    X[:, 3] = 0.1  # its sum of squares is not exactly zero in floating point
    X[:, 5] = 0
    for found in (within_of(X, "pooled", False), within_of(sp.csr_array(X), "balanced", True)):
        zero = [j for j in range(P) if found.variances_of(found.gene_scatter())[j] == 0]
        assert zero == [3, 5]
        assert (found.gene_variances() == 0).nonzero()[0].tolist() == [3, 5]
        assert (found.cell_gram("diagonal")[1] == 0).nonzero()[0].tolist() == [3, 5]


def test_the_target_of_genes_without_variance_is_the_mean_variance():
    np.testing.assert_array_equal(target_diagonal(np.array([2.0, 0.0, 4.0]), "diagonal"), [2, 2, 4])
    np.testing.assert_array_equal(target_diagonal(np.array([2.0, 0.0, 4.0]), "identity"), [2, 2, 2])
    np.testing.assert_array_equal(target_diagonal(np.zeros(3), "diagonal"), [1, 1, 1])


@pytest.mark.parametrize("X", [THIN, DENSE], ids=["thin", "dense"])
def test_large_results_are_summed_by_tiles(monkeypatch, X):
    """OpenBLAS's rank-k update ends in a segmentation fault on large results, so those are cut into tiles."""
    expected = [(w := within_of(X, "pooled", False)).gene_scatter(), *w.cell_gram("diagonal")]
    monkeypatch.setattr(symmetric, "MAX_TRIANGLE", 8)
    monkeypatch.setattr(symmetric, "PANEL", 7)
    got = [(w := within_of(X, "pooled", False)).gene_scatter(), *w.cell_gram("diagonal")]
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12 * np.abs(b).max())
