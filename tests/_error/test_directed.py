"""Statistics along directions where nothing varies."""

import numpy as np

from flda._error.directed import along


def test_a_direction_of_zero_and_a_column_without_noise():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 1, 4)), rng.normal(size=(5, 3, 1, 4))
    B, w = rng.normal(size=(3, 6)), rng.random((5, 6, 4))
    a[0] = 0
    b[:, :, :, 1], w[:, :, 1] = 0, 0
    w[:, :, 2] = 0
    z = along(a, b, B, w)
    assert (z[:, 0] == 0).all()
    assert (z[:, 1, 1] == 0).all()
    assert np.isinf(z[:, 1, 2]).all()
    V = np.einsum("dk,k,ek->de", B, w[0, :, 3], B)
    u = a[1, :, 0, 3]
    np.testing.assert_allclose(z[0, 1, 3], u @ b[0, :, 0, 3] / np.sqrt(u @ V @ u), rtol=1e-12)
