"""Contrasts whose weights follow the numbers of cells where the effects do not fit every group."""

import numpy as np
import pandas as pd
import pytest

from flda._design.make import make_design
from flda._error.flips import CellStatistics
from flda._error.weights import weighted_contrasts


def table(sizes):
    return pd.DataFrame([k for k, n in sizes.items() for _ in range(n)], columns=["A", "B"])


SIZES = {("p", "r"): 5, ("p", "s"): 4, ("q", "r"): 60, ("q", "s"): 80}


def test_a_fit_of_every_group_does_not_depend_on_weights():
    design = make_design(table(SIZES))
    rng = np.random.default_rng(0)
    found = weighted_contrasts(design, rng.normal(size=(4, 9)), np.ones(9), np.ones(4))
    assert all((found[e] == design.contrasts[e]).all() for e in design.contrasts)


def test_without_lack_of_fit_it_is_least_squares_on_the_cells():
    y = table(SIZES)
    design = make_design(y, interactions=None)
    additive = np.array([0.0, 1.0, 2.0, 3.0])[:, None] * np.ones(20)
    found = weighted_contrasts(design, additive, np.ones(20), np.ones(4))
    D = np.column_stack([np.ones(len(y)), np.where(y["A"] == "p", 1, -1), np.where(y["B"] == "r", 1, -1)])
    of_cells = np.linalg.pinv(D)[1:] @ np.eye(4)[design.codes]
    for effect, row in zip(design.contrasts, of_cells, strict=True):
        B = found[effect][0]
        np.testing.assert_allclose(B / np.abs(B).max(), row / np.abs(row).max() * np.sign(B @ row), atol=1e-10)


def test_with_much_lack_of_fit_all_groups_weigh_alike():
    design = make_design(table(SIZES), interactions=None)
    crossed = 1e4 * np.array([1.0, -1.0, -1.0, 1.0])[:, None] * np.ones(20)
    found = weighted_contrasts(design, crossed, np.ones(20), np.ones(4))
    for effect, B in design.contrasts.items():
        np.testing.assert_allclose(found[effect], B, rtol=1e-5, atol=1e-8)


def test_the_variance_of_lack_of_fit_is_estimated_without_bias():
    """By the weights that it gives: w = 1 / (tau2 + 1 / n)."""
    rng = np.random.default_rng(0)
    design = make_design(table(SIZES), interactions=None)
    n = design.counts
    means = rng.normal(size=(4, 40000)) * np.sqrt(0.3 + 1 / n)[:, None]
    found = weighted_contrasts(design, means, np.ones(40000), np.ones(4))
    expected = design.table.contrasts(list(design.contrasts), 1 / (0.3 + 1 / n))
    for effect in design.contrasts:
        np.testing.assert_allclose(found[effect], expected[effect], rtol=0.02)


def test_a_rare_group_of_another_factor_does_not_blur_a_gene():
    rng = np.random.default_rng(0)
    y = table({("p", "r"): 5, ("p", "s"): 5, ("q", "r"): 100, ("q", "s"): 100})
    X = rng.normal(size=(210, 400)) + 0.5 * (y["B"] == "s").to_numpy()[:, None]
    ratios = {}
    for interactions in ("all", None):
        design = make_design(y, interactions=interactions)
        means = np.stack([X[design.codes == c].mean(axis=0) for c in range(4)])
        squares = np.stack([(X[design.codes == c] ** 2).sum(axis=0) for c in range(4)])
        effect = design.effect("B")
        ratios[interactions] = CellStatistics(design, [effect], means, squares).observed()[effect].mean()
    assert ratios[None] == pytest.approx(1 + 0.25 / (4 / 210), rel=0.15)
    assert ratios[None] > 3 * ratios["all"]
