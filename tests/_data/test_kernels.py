import numpy as np
import pytest
import scipy.sparse as sp

from flda._data.kernels import (
    add_flips,
    add_sparse_gram,
    residual_columns,
    scatter_times,
    sparse_times,
    sums_and_squares,
)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32])
def test_the_weighted_gram_matrix_of_rows_with_unsorted_duplicates(dtype):
    data, genes = np.array([2, 3, 1, 4], dtype=dtype), np.array([3, 1, 3, 0])
    block = sp.csr_array((data, genes, np.array([0, 3, 4])), shape=(2, 5))
    out, weights = np.ones((5, 5)), np.array([0.5, 2.0])
    add_sparse_gram(out, block, weights)
    X = block.toarray().astype(float)
    np.testing.assert_allclose(out, np.ones((5, 5)) + np.triu(X.T @ (weights[:, None] * X)))
    np.testing.assert_array_equal(block.data, data)  # the caller's matrix stays as it is
    np.testing.assert_array_equal(block.indices, genes)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_residuals_of_columns_in_another_precision(scaled, dtype):
    rng = np.random.default_rng(0)
    X = rng.exponential(size=(40, 6)) * (rng.random((40, 6)) < 0.5)
    X[:, 2] = 0.0
    codes, centres, roots = rng.integers(3, size=40), rng.random((3, 6)), rng.random(40) + 0.5
    centres[:, 2] = 0.0
    R = roots[:, None] * (X - centres[codes])
    squares = np.sum(R**2, axis=0)
    expected = R / np.sqrt(np.where(squares > 0, squares, np.inf)) if scaled else R
    out = np.full((6, 43), 7.0, dtype=dtype)
    found, norms = residual_columns(out[:, :40], sp.csc_array(X), centres, codes, roots, np.zeros(6), scaled)
    np.testing.assert_allclose(found, squares, rtol=1e-14)
    np.testing.assert_allclose(norms, np.sum(expected**2, axis=1), rtol=1e-14)
    np.testing.assert_allclose(out[:, :40], expected.T, atol=1e-6 if dtype == np.float32 else 1e-14)
    assert (out[:, 40:] == 7).all()


@pytest.mark.parametrize("F", [1, 32, 75])  # fewer, as many, and more flips than are added up together
def test_sums_of_flips_of_groups(F):
    rng = np.random.default_rng(0)
    X = rng.exponential(size=(50, 9)) * (rng.random((50, 9)) < 0.3)
    codes, signs = rng.choice([0, 1, 3], size=50), rng.choice(np.array([-1, 1], dtype=np.int8), size=(50, F))
    out = np.ones((4, 11, F))
    add_flips(out, sp.csr_array(X), codes, signs)
    expected = np.ones((4, 11, F))
    for c in range(4):
        expected[c, :9] += X[codes == c].T @ signs[codes == c]
    np.testing.assert_allclose(out, expected)


@pytest.mark.parametrize("kind", [sp.csr_array, sp.csc_matrix])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", [1, 5])
def test_products_of_sparse_matrices(kind, dtype, k):
    rng = np.random.default_rng(0)
    dense = (rng.exponential(size=(60, 23)) * (rng.random((60, 23)) < 0.3)).astype(dtype)
    dense[:7] = dense[:, 4] = 0  # empty rows at the edge of a part, and an empty column
    X, B = kind(dense), rng.normal(size=(23, k))
    np.testing.assert_allclose(sparse_times(X, B), dense.astype(float) @ B, rtol=1e-13, atol=1e-14)
    V = np.asfortranarray(rng.normal(size=(60, k)))
    np.testing.assert_allclose(sparse_times(X.T, V), dense.T.astype(float) @ V, rtol=1e-13, atol=1e-14)
    assert sparse_times(kind((0, 23), dtype=dtype), B).shape == (0, k)
    shift, weights = rng.normal(size=(60, k)), rng.random(60)
    products, scores = scatter_times(X.tocsr(), B, shift, weights)
    expected = weights[:, None] * (dense.astype(float) @ B - shift)
    np.testing.assert_allclose(scores, expected, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(products, dense.T.astype(float) @ expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_sums_and_squares_of_groups(dtype):
    rng = np.random.default_rng(0)
    dense = rng.poisson(0.5, size=(50, 9)).astype(dtype)
    codes = rng.choice([0, 1, 3], size=50)  # no row is in group 2
    of_group = np.eye(4)[codes].T
    sums, squares = sums_and_squares(sp.csr_array(dense), codes, 4)
    np.testing.assert_array_equal(sums, of_group @ dense)
    np.testing.assert_array_equal(squares, of_group @ dense.astype(float) ** 2)
