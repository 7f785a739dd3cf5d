"""Random networks with given contacts and degrees."""

import numpy as np
import pytest

from flda.circuits.wiring import MaximumEntropy

from circuit_problems import undirected


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
