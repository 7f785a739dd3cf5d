"""What the occupied groups identify, against the projectors of the paper and least squares on dummies."""

import numpy as np
import pandas as pd
import pytest

from flda._design.effects import Effect
from flda._design.make import make_design
from flda._design.table import Table

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
        np.testing.assert_allclose(design.fitted(effect) @ means, levels[design.table.margin(effect)[:, 0]])


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
    report = design.report.set_index("effect")
    assert report["estimable"].tolist() == [True] * 6 + [False]
    assert report["df"].tolist() == [2, 1, 1, 2, 2, 1, 2]
    assert report.loc["A:B:C", "missing"] == "A1 x B1 x C1"
    assert "A1 x B1 x C1" in report.loc["A:B:C", "reason"]


def test_interactions_that_confound_each_other_are_both_left_out():
    """Half of a 2 x 2 x 2 table (a fractional factorial): A:B is C."""
    groups = [g for g in np.ndindex(2, 2, 2) if sum(g) % 2 == 0]
    design = design_of(groups, (2, 2, 2))
    assert design.effects == [("A",), ("B",), ("C",)]
    assert not design.report.set_index("effect").loc["A:B", "estimable"]
    assert design.report.set_index("effect").loc["A:B", "reason"]


@pytest.mark.parametrize(
    ("groups", "n_levels", "message"),
    [
        ([(0, 0), (1, 1), (2, 2)], (3, 3), "'A' and 'B'"),  # one level of A for one of B
        ([(0, 0), (1, 0), (2, 1), (3, 1)], (4, 2), "'A' is nested in 'B'"),
        ([(0, 0), (0, 1), (1, 1), (1, 2)] * 2, (2, 3), None),
        ([(0, 0), (0, 1), (1, 0), (1, 1), (2, 2), (2, 3), (3, 2), (3, 3)], (4, 4), "'A' x 'B'.* 2 blocks"),
        ([(0, 0, 0), (0, 0, 1), (0, 1, 2), (1, 0, 2)], (2, 2, 3), "'A', 'B', 'C'"),
    ],
    ids=["confounded", "nested", "connected", "two blocks", "too few groups"],
)
def test_factors_that_cannot_be_separated(groups, n_levels, message):
    if message is None:
        assert design_of(groups, n_levels).effects == [("A",), ("B",)]
        return
    with pytest.raises(ValueError, match=message):
        design_of(groups, n_levels)


def test_groups_are_found_by_their_levels():
    table = Table(("A", "B"), (3, 2), np.array([(0, 0), (0, 1), (2, 0)]))
    np.testing.assert_array_equal(table.find(np.array([(2, 0), (0, 0), (0, 1), (2, 0)])), [2, 0, 1, 2])
    np.testing.assert_array_equal(table.missing(Effect.parse("A:B")), [(1, 0), (1, 1), (2, 1)])


def test_a_partly_filled_interaction_keeps_its_estimable_part():
    """What it explains is what a full interaction explains beyond the main effects, by dummies."""
    groups = [g for g in np.ndindex(3, 4) if g not in [(0, 3), (2, 1)]]
    design = design_of(groups, (3, 4), interactions="estimable")
    effect = Effect(("A", "B"))
    assert design.df(effect) == 10 - 1 - 2 - 3
    row = design.report.set_index("effect").loc["A:B"]
    assert (row["df"], row["left_out"], row["estimable"]) == (4, 2, True)
    assert "2 of 6 degrees of freedom are left out" in row["reason"]
    assert "A0 x B3" in row["reason"]
    # the fit is saturated, so the means of all groups are fitted, and the interaction is what the main effects leave
    D = design.table.model_matrix(list(design.contrasts))
    assert np.linalg.matrix_rank(D) == len(groups)
    means = np.random.default_rng(0).normal(size=(len(groups), 2))
    # the difference of differences of four filled groups is free of main effects
    tetrad = np.zeros(len(groups))
    for (a, b), sign in {(0, 0): 1, (0, 1): -1, (1, 0): -1, (1, 1): 1}.items():
        tetrad[groups.index((a, b))] = sign
    np.testing.assert_allclose(tetrad @ design.fitted(effect) @ means, tetrad @ means, atol=1e-10)


def test_a_complete_table_has_nothing_to_leave_out():
    groups = list(np.ndindex(2, 3))
    whole, part = design_of(groups, (2, 3)), design_of(groups, (2, 3), interactions="estimable")
    for effect in whole.effects:
        np.testing.assert_allclose(whole.rows(effect), part.rows(effect))
    assert part.report["left_out"].tolist() == [0, 0, 0]


def test_reasons_say_what_would_help():
    groups = [g for g in np.ndindex(3, 3) if g not in [(0, 2), (1, 2)]]
    reason = design_of(groups, (3, 3)).report.set_index("effect").loc["A:B", "reason"]
    assert "without level 'B2' of 'B' none would be" in reason
    scattered = [g for g in np.ndindex(3, 3) if g not in [(0, 2), (1, 1), (2, 0)]]
    assert "drop levels" in design_of(scattered, (3, 3)).report.set_index("effect").loc["A:B", "reason"]
