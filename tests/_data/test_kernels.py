import numpy as np
import pytest
import scipy.sparse as sp

from flda._data.kernels import add_sparse_gram


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
