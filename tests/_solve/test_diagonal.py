"""Diagonals that may be taken off a matrix."""

import numpy as np
import pytest

from flda._solve.diagonal import best_diagonal, safe
from flda._solve.relaxation import relax

from bound_cases import everything, random_case, relaxable


def correlation(W):
    scale = 1 / np.sqrt(np.diag(W))
    return W * np.outer(scale, scale)


@pytest.mark.parametrize("seed", range(8))
def test_a_diagonal_that_is_too_large_is_made_valid(seed):
    W = correlation(random_case(seed)[0])
    D = np.random.default_rng(seed).uniform(0.5, 1, len(W))
    assert np.linalg.eigvalsh(W - np.diag(D))[0] < 0
    D = safe(D, W)
    assert D.min() > 0
    assert np.linalg.eigvalsh(W - np.diag(D))[0] >= 0


def test_a_singular_matrix_leaves_nothing():
    x = np.random.default_rng(0).normal(size=(3, 8))
    assert safe(np.full(8, 0.5), correlation(x.T @ x)).max() < 1e-9


@pytest.mark.parametrize("seed", [0, 3, 6, 9])
def test_best_diagonal_is_valid_and_lowers_the_bound(seed):
    W, _, H, Z, k = random_case(seed)
    W, choice, w = correlation(W), everything(len(W), k), np.ones((1, 1))
    flat = np.full(len(W), np.linalg.eigvalsh(W)[0] * (1 - 1e-9))
    problem = relaxable(W, flat, H, Z)
    found = best_diagonal(problem, W, choice, w[:, 0], best=0.0)
    assert np.linalg.eigvalsh(W - np.diag(found.D))[0] >= -1e-12
    before, after = (relax(p, w[:, 0], choice).bound(w, choice)[0] for p in (problem, found))
    assert after <= before * (1 + 1e-3)
