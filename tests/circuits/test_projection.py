"""Random projections with one sign per column."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.utils.estimator_checks import parametrize_with_checks

from flda.circuits import SignConsistentProjection


def distortion(signs, X, n_components=256, n_nonzero=4):
    model = SignConsistentProjection(n_components, n_nonzero=n_nonzero, signs=signs, random_state=0).fit(X)
    Z = model.transform(X)
    return model.components_, np.abs((Z**2).sum(1) / (X**2).sum(1) - 1).mean()


def test_columns_have_one_sign_and_lengths_survive():
    X = np.random.default_rng(0).normal(size=(100, 2000))
    P, consistent = distortion("consistent", X)
    assert P.shape == (256, 2000)
    dense = P.toarray()
    assert ((dense >= 0).all(axis=0) | (dense <= 0).all(axis=0)).all()
    np.testing.assert_array_equal((dense != 0).sum(axis=0), 4)
    np.testing.assert_allclose((dense**2).sum(axis=0), 1)
    free_columns = distortion("free", X)[0].toarray()
    assert not ((free_columns >= 0).all(axis=0) | (free_columns <= 0).all(axis=0)).all()
    assert consistent < 1.3 * distortion("free", X)[1] < 0.12
    # without inhibition the lengths of non-negative inputs explode
    assert distortion("positive", np.abs(X))[1] > 5 > 0.5 > distortion("consistent", np.abs(X))[1]


def test_projection_of_sparse_data_and_bad_input():
    X = sp.random(20, 300, 0.1, format="csr", random_state=0)
    model = SignConsistentProjection(50, random_state=1).fit(X)
    Z = model.transform(X)
    assert sp.issparse(Z)
    np.testing.assert_allclose(Z.toarray(), model.transform(X.toarray()), atol=1e-12)
    assert model.get_feature_names_out()[0] == "signconsistentprojection0"
    for bad, message in (({"n_components": 2}, "n_nonzero=4"), ({"n_components": 0}, "n_components=0")):
        with pytest.raises(ValueError, match=message):
            SignConsistentProjection(**bad).fit(X)
    with pytest.raises(ValueError, match="signs='none'"):
        SignConsistentProjection(8, signs="none").fit(X)


@parametrize_with_checks([SignConsistentProjection(n_components=2, n_nonzero=1)])
def test_scikit_learn(estimator, check):
    check(estimator)
