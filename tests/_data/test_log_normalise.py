import numpy as np
import pytest
import scipy.sparse as sp
from anndata import AnnData

from flda._data.log_normalise import TARGET_SUM, log_normalise, undo_log


def poisson_counts(dtype=np.float32):
    counts = np.random.default_rng(0).poisson(1.0, size=(30, 12))
    counts[4] = 0
    return sp.csr_matrix(counts.astype(dtype))


@pytest.mark.parametrize("base", [None, 2, 10])
def test_it_computes_what_scanpy_computes(base):
    sc = pytest.importorskip("scanpy", reason="needs the extra scanpy")
    counts = poisson_counts()[:4]
    adata = AnnData(counts.copy())
    sc.pp.normalize_total(adata, target_sum=TARGET_SUM)
    sc.pp.log1p(adata, base=base)
    X = log_normalise(counts, base=base)
    np.testing.assert_allclose(X.toarray(), adata.X.toarray(), rtol=1e-5)
    assert X.dtype == np.float32


def test_counts_are_not_changed_and_integers_become_floats():
    counts = poisson_counts(np.int32)
    before = counts.toarray()
    X = log_normalise(counts)
    np.testing.assert_array_equal(counts.toarray(), before)
    assert X.dtype == np.float64


@pytest.mark.parametrize("base", [None, 2])
def test_undoing_the_logarithm_gives_the_total_of_every_cell(base):
    target = np.linspace(10, 40, 30)
    X = log_normalise(poisson_counts(np.float64), target, base=base)
    X.data = undo_log(X.data, base)
    np.testing.assert_allclose(X.sum(axis=1).A1, np.where(np.arange(30) == 4, 0, target))


def test_unsorted_counts_with_duplicates():
    data, genes = np.array([2.0, 3.0, 1.0, 4.0]), np.array([3, 1, 3, 0])
    counts = sp.csr_matrix((data, genes, [0, 3, 4]), shape=(2, 5))
    X = log_normalise(counts, 6.0)
    np.testing.assert_allclose(X.toarray(), np.log1p([[0, 3, 0, 3, 0], [6, 0, 0, 0, 0]]))
    assert X.has_canonical_format
    np.testing.assert_array_equal(counts.indices, genes)  # the caller's matrix stays as it is
