"""The fixed filters in front of a circuit."""

import numpy as np
import pytest

from flda.circuits import FilterBank


def test_filters_against_a_loop():
    rng = np.random.default_rng(1)
    bank = FilterBank(rng.normal(size=(2, 11, 11)), np.array([-0.5, 0.2]), 10)
    images = rng.uniform(-1, 1, size=(3, 100, 100))
    found = bank.transform(images).reshape(3, 10, 10, 2)
    padded = np.pad(images, [(0, 0), (0, 1), (0, 1)])
    for n, i, j, k in [(0, 0, 0, 0), (1, 9, 9, 1), (2, 4, 9, 0), (2, 3, 5, 1)]:
        window = padded[n, 10 * i : 10 * i + 11, 10 * j : 10 * j + 11]
        expected = max((window * bank.kernels[k]).sum() + bank.biases[k], 0)
        assert found[n, i, j, k] == pytest.approx(expected, abs=1e-4)
