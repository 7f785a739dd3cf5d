"""Standardised mean expression of types."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from flda.circuits.wiring import type_profiles


def test_type_profiles():
    rng = np.random.default_rng(0)
    cells = rng.poisson(2.0, size=(50, 6)).astype(float)
    cells[:, 5] = 1.0
    types = np.array(list("abcde"))[rng.integers(0, 5, 50)]
    frame = pd.DataFrame(cells)
    pooled = np.sqrt(frame.groupby(types).transform(lambda c: (c - c.mean()) ** 2).sum() / 45)
    expected = (frame.groupby(types).mean() / pooled).fillna(0).replace(np.inf, 0)
    for X in (cells, sp.csr_matrix(cells), frame):
        np.testing.assert_allclose(type_profiles(X, types), expected, atol=1e-10)
    with pytest.raises(ValueError, match="type"):
        type_profiles(cells[:2], ["a", "b"])
    with pytest.raises(ValueError, match="1 of 2 cells"):
        type_profiles(cells[:2], ["a", None])
