"""The held-out criterion, by its formula."""

import numpy as np
import pytest

from flda._solve.criterion import Criterion

RNG = np.random.default_rng(0)


def by_hand(e, s, weights):
    r = np.sum(weights * e * s) / np.sqrt(np.sum(weights * e**2) * np.sum(weights * s**2))
    return -np.sign(r) * np.log(1 - r**2)


def test_it_is_the_mean_over_axes_of_the_information_of_the_uncentred_correlation():
    e, s, weights = RNG.normal(size=(50, 2)), RNG.normal(size=(50, 2)) + 1, RNG.random(50)
    s += 2 * e
    criterion = Criterion(1, 2)
    criterion.add(0, e, s, weights)
    expected = np.mean([by_hand(e[:, j], s[:, j], weights) for j in range(2)])
    assert criterion.values() == pytest.approx([expected])
    assert criterion.values(signed=True) == pytest.approx([expected])


def test_folds_add_up_and_values_of_the_grid_stay_apart():
    e, s, weights = RNG.normal(size=(60, 1)), RNG.normal(size=(60, 1)), RNG.random(60)
    criterion = Criterion(3, 1)
    for part in np.split(np.arange(60), 3):
        criterion.add(1, e[part], s[part], weights[part])
    criterion.add_sums(2, *(np.array([v]) for v in (2.0, 4.0, 4.0)))  # r = 1/2
    once = Criterion(1, 1)
    once.add(0, e, s, weights)
    np.testing.assert_allclose(
        criterion.values(signed=True), [0, once.values(signed=True)[0], -np.log(1 - 0.25)], atol=1e-12
    )


def test_an_axis_that_points_the_wrong_way_says_nothing_or_less():
    e, weights = RNG.normal(size=(50, 2)), np.ones(50)
    criterion = Criterion(1, 2)
    criterion.add(0, e, np.column_stack([e[:, 0], -e[:, 1]]) + 0.5 * RNG.normal(size=(50, 2)), weights)
    right, wrong = Criterion(1, 1), Criterion(1, 1)
    for j, single in enumerate((right, wrong)):
        single.add_sums(0, *(part[j : j + 1] for part in criterion.sums[:, 0]))
    assert right.values() > 0
    assert wrong.values() == 0
    assert wrong.values(signed=True) < 0
    assert criterion.values() == pytest.approx(right.values() / 2)
    assert criterion.values(signed=True) == pytest.approx((right.values() + wrong.values(signed=True)) / 2)


def test_a_perfect_or_empty_axis_has_a_finite_value():
    criterion = Criterion(2, 2)
    e = RNG.normal(size=(20, 1))
    criterion.add(0, e, 3 * e, np.ones(20))  # one axis of two, perfect
    values = criterion.values()
    assert np.isfinite(values).all()
    assert values[0] > 10
    assert values[1] == 0
