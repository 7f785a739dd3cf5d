import itertools

import numpy as np
import pandas as pd
import pytest

from flda._design.design import make_design

from oracle import effect_scatters, labels_of

STAIRCASE = [(0, 0), (0, 1), (1, 1), (1, 2), (2, 2)]


def design_of(groups, n_levels, **options):
    return make_design(labels_of(np.repeat(groups, 2, axis=0), n_levels), **options)


@pytest.mark.parametrize("n_levels", [(2,), (5,), (2, 4), (3, 3), (2, 3, 2), (2, 2, 2, 3)])
def test_scatter_weights_are_the_papers_projectors(n_levels):
    groups = list(np.ndindex(*n_levels))
    design = design_of(groups, n_levels)
    means = np.random.default_rng(0).normal(size=(len(groups), 3))
    expected = effect_scatters(means, n_levels)
    assert len(design.effects) == 2 ** len(n_levels) - 1
    for (_, scatter), effect in zip(expected.items(), design.effects, strict=True):
        got = means.T @ design.scatter_weights(effect) @ means
        np.testing.assert_allclose(got, scatter, atol=1e-12)


def test_staircase_gives_no_scatter_of_one_factor_to_genes_of_the_other():
    """Margins of the filled groups would give A 37 % of the scatter here."""
    design = design_of(STAIRCASE, (3, 3))
    assert design.effects == [("A",), ("B",)]
    only_b = np.array([[0.3], [-2.0], [5.0]])[[b for _, b in STAIRCASE]]
    scatter = {e: (only_b.T @ design.scatter_weights(e) @ only_b).item() for e in design.effects}
    assert abs(scatter["A",]) < 1e-12
    assert scatter["B",] == pytest.approx(np.var([0.3, -2, 5], ddof=1))
    margins = np.array([only_b[[a == k for a, _ in STAIRCASE]].mean() for k in range(3)])
    assert np.var(margins, ddof=1) > 1  # what the naive estimate would claim


def test_partially_filled_effects_equal_least_squares_on_dummies():
    """The fitted effect values from an independent route: dummy coding, then removing the mean."""
    rng = np.random.default_rng(1)
    groups = [g for g in np.ndindex(3, 4, 2) if rng.random() < 0.8]
    design = design_of(groups, (3, 4, 2), interactions=None)
    means = rng.normal(size=(len(groups), 2))
    table = pd.DataFrame(groups).astype("category")
    dummies = np.column_stack([np.ones(len(groups)), pd.get_dummies(table, drop_first=True).to_numpy(float)])
    coefficients = np.linalg.lstsq(dummies, means, rcond=None)[0]
    start = 1
    for effect, n in zip(design.effects, (3, 4, 2), strict=True):
        levels = np.vstack([np.zeros(2), coefficients[start : start + n - 1]])
        levels -= levels.mean(axis=0)
        start += n - 1
        got = means.T @ design.scatter_weights(effect) @ means
        np.testing.assert_allclose(got, levels.T @ levels / (n - 1), atol=1e-12)


def test_unequal_counts_do_not_enter_the_contrasts():
    codes = np.repeat([(0, 0), (0, 1), (1, 0), (1, 1)], [900, 100, 100, 900], axis=0)
    unequal = make_design(labels_of(codes, (2, 2)))
    equal = design_of([(0, 0), (0, 1), (1, 0), (1, 1)], (2, 2))
    for effect in equal.effects:
        np.testing.assert_allclose(unequal.contrasts[effect], equal.contrasts[effect], atol=1e-14)


def test_one_empty_group_costs_the_highest_interaction_only():
    groups = [g for g in np.ndindex(3, 2, 2) if g != (1, 1, 1)]
    design = design_of(groups, (3, 2, 2))
    assert [e.name for e in design.effects] == ["A", "B", "C", "A:B", "A:C", "B:C"]
    row = design.report.set_index("effect").loc["A:B:C"]
    assert not row["estimable"]
    assert row["missing"] == "A1 x B1 x C1"
    assert row["reason"] == "1 of 12 groups are empty (A1 x B1 x C1)"


def test_interaction_that_cannot_be_estimated_is_refused_by_name_and_dropped_when_implied(caplog):
    with pytest.raises(ValueError, match=r"'A:B': 4 of 9 groups are empty \(A0 x B2"):
        design_of(STAIRCASE, (3, 3), interactions=["A:B"])
    design_of(STAIRCASE, (3, 3))
    assert "'A:B': 4 of 9 groups are empty" in caplog.text


def test_interactions_that_confound_each_other_are_both_left_out():
    """Half of a 2 x 2 x 2 table (a fractional factorial): A:B is C."""
    groups = [g for g in np.ndindex(2, 2, 2) if sum(g) % 2 == 0]
    design = design_of(groups, (2, 2, 2))
    assert design.effects == [("A",), ("B",), ("C",)]
    assert "confound" in design.report.set_index("effect").loc["A:B", "reason"]


@pytest.mark.parametrize(
    ("groups", "n_levels", "message"),
    [
        ([(0, 0), (1, 1), (2, 2)], (3, 3), "perfectly confounded"),
        ([(0, 0), (1, 0), (2, 1), (3, 1)], (4, 2), "'A' is nested in 'B'"),
        ([(0, 0), (0, 1), (1, 0), (1, 1), (2, 2), (2, 3), (3, 2), (3, 3)], (4, 4), "2 blocks"),
        ([g for g in np.ndindex(2, 2, 2) if g[2] == (g[0] + g[1]) // 1 % 2], (2, 2, 2), None),
    ],
)
def test_factors_that_cannot_be_separated(groups, n_levels, message):
    if message is None:
        assert len(design_of(groups, n_levels).effects) == 3
        return
    with pytest.raises(ValueError, match=message):
        design_of(groups, n_levels)


def test_nuisance_is_fitted_without_axes_and_takes_precedence_over_interactions():
    groups = [(a, b, (a + b) % 2) for a, b in itertools.product(range(2), range(2))]
    labels = labels_of(np.repeat(groups, 2, axis=0), (2, 2, 2)).rename(columns={"C": "batch"})
    design = make_design(labels, nuisance=["batch"])
    assert design.effects == [("A",), ("B",)]
    assert set(design.contrasts) == {("A",), ("B",), ("batch",)}


def test_level_order_unused_categories_and_odd_names():
    labels = pd.DataFrame(
        {
            "f": pd.Categorical(["b:x", "a/y", "b:x", "a/y"], categories=["b:x", "unused", "a/y"]),
            "n": [10, 9, 9, 10],
        }
    )
    design = make_design(labels)
    assert list(design.levels["f"]) == ["b:x", "a/y"]
    assert list(design.levels["n"]) == [9, 10]
    assert design.counts_table()["n_cells"].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["x"] * 4, "one level"),
        (["x", None, "y", "y"], "no label for 1 of 4 cells"),
        ([1, "a", 2, "b"], "mixes types"),
    ],
)
def test_bad_factors(column, message):
    with pytest.raises(ValueError, match=message):
        make_design(pd.DataFrame({"f": column}))


def test_continuous_factor():
    values = np.random.default_rng(0).normal(size=100)
    with pytest.raises(ValueError, match=r"'depth' holds 100 distinct numbers.*pandas\.cut"):
        make_design(pd.DataFrame({"depth": values}))
    labels = pd.DataFrame({"cluster": pd.Categorical(np.arange(100) % 30)})
    assert make_design(labels).n_groups == 30  # many levels are fine when they are labels


def test_bad_interactions():
    with pytest.raises(ValueError, match="interaction 'A:Q' must join"):
        design_of([(0, 0), (1, 1), (0, 1)], (2, 2), interactions=["A:Q"])
    with pytest.raises(ValueError, match="needs its lower-order"):
        design_of(list(np.ndindex(2, 2, 2)), (2, 2, 2), interactions=[("A", "B", "C")])
    with pytest.raises(ValueError, match="use 'all', None or a list"):
        design_of(list(np.ndindex(2, 2)), (2, 2), interactions="some")
    with pytest.raises(ValueError, match="contains ':'"):
        make_design(pd.DataFrame({"a:b": ["x", "y"]}))


def test_subset_keeps_the_effects_or_says_that_it_cannot():
    design = design_of(list(np.ndindex(2, 2)), (2, 2))
    half = design.subset(np.arange(0, 8, 2))
    assert half.counts.tolist() == [1, 1, 1, 1]
    assert design.subset(np.arange(6)) is None  # one group gone, the interaction with it
