import itertools

import numpy as np
import pandas as pd
import pytest

from flda._design.effects import Effect
from flda._design.make import make_design
from flda._design.per_effect import effect_components, effect_penalties

from oracle import labels_of

STAIRCASE = [(0, 0), (0, 1), (1, 1), (1, 2), (2, 2)]


def design_of(groups, n_levels, **options):
    return make_design(labels_of(np.repeat(groups, 2, axis=0), n_levels), **options)


def test_interaction_that_cannot_be_estimated_is_refused_by_name_and_dropped_when_implied(recwarn):
    with pytest.raises(ValueError, match=r"'A:B'.*A0 x B2"):
        design_of(STAIRCASE, (3, 3), interactions=["A:B"])
    assert not recwarn
    design_of(STAIRCASE, (3, 3))
    (record,) = recwarn
    assert "'A:B'" in str(record.message)


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
        (["x"] * 4, "'stage'.*'x'"),
        (["x", None, "y", "y"], "'stage'.* 1 of 4 cells"),
        ([1, "a", 2, "b"], "'stage'"),
    ],
    ids=["one level", "no label", "text and numbers"],
)
def test_bad_factors_are_named(column, message):
    with pytest.raises(ValueError, match=message):
        make_design(pd.DataFrame({"stage": column}))


def test_continuous_factor():
    values = np.random.default_rng(0).normal(size=100)
    with pytest.raises(ValueError, match=r"'depth'.* 100 .*pandas\.cut"):
        make_design(pd.DataFrame({"depth": values}))
    labels = pd.DataFrame({"cluster": pd.Categorical(np.arange(100) % 30)})
    assert make_design(labels).n_groups == 30  # many levels are fine when they are labels


@pytest.mark.parametrize(
    ("interactions", "message"),
    [(["A:Q"], "'A:Q'.*'C'"), (["A"], "'A'"), ([("A", "B", "C")], "'A:B:C'.*'B:C'"), ("some", "interactions='some'")],
)
def test_bad_interactions_are_named(interactions, message):
    with pytest.raises(ValueError, match=message):
        design_of(list(np.ndindex(2, 2, 2)), (2, 2, 2), interactions=interactions)


def test_interactions_asked_for_come_once_in_the_order_of_the_factors():
    asked = ["C:A", ("B", "A"), "A:B"]
    design = design_of(list(np.ndindex(2, 2, 2)), (2, 2, 2), interactions=asked)
    assert [e.name for e in design.effects] == ["A", "B", "C", "A:B", "A:C"]


def test_bad_names_are_refused():
    with pytest.raises(ValueError, match="'a:b'"):
        make_design(pd.DataFrame({"a:b": ["x", "y"]}))
    labels = pd.DataFrame({"A": ["x", "y"]})
    with pytest.raises(ValueError, match="'batch'"):
        make_design(labels, nuisance=["batch"])
    with pytest.raises(ValueError, match=r"'A'.*nuisance"):
        make_design(labels, nuisance=["A"])


def test_subset_keeps_the_effects_or_says_that_it_cannot():
    design = design_of(list(np.ndindex(2, 2)), (2, 2))
    half = design.subset(np.arange(0, 8, 2))
    assert half.counts.tolist() == [1, 1, 1, 1]
    assert half.effects == design.effects
    assert design.subset(np.arange(6)) is None  # one group gone, the interaction with it
    assert design.subset(np.array([], dtype=int)) is None
    additive = design_of(list(np.ndindex(2, 2)), (2, 2), interactions=None).subset(np.arange(6))
    assert additive.effects == [("A",), ("B",)]
    assert additive.codes.tolist() == [0, 0, 1, 1, 2, 2]


def test_effects_are_found_by_name():
    design = design_of(list(np.ndindex(2, 3)), (2, 3), nuisance=["B"])
    own = design.effect("A")
    assert own == Effect(("A",))
    with pytest.raises(ValueError, match="'B'"):
        design.effect("B")  # nuisance has no axes


def test_penalties_and_numbers_of_axes_by_effect():
    design = design_of(list(np.ndindex(2, 3)), (2, 3))
    a, b, ab = design.effects
    assert effect_penalties(design, 2) == {a: 2.0, b: 2.0, ab: 2.0}
    assert effect_penalties(design, {"B": np.inf}) == {a: 1.0, b: np.inf, ab: 1.0}
    assert effect_components(design, None) == {a: 1, b: 2, ab: 2}
    assert effect_components(design, 1) == {a: 1, b: 1, ab: 1}
    assert effect_components(design, {"B": 1}) == {a: 1, b: 1, ab: 2}
    for bad in ({"Q": 1.0}, {"A": -1.0}, {"A": np.nan}, -1.0):
        with pytest.raises(ValueError, match="'Q'" if "Q" in str(bad) else "'A'"):
            effect_penalties(design, bad)
    for bad in ({"Q": 1}, {"A": 2}, {"A": 0}, 3):
        with pytest.raises(ValueError, match="'Q'" if "Q" in str(bad) else "'A'"):
            effect_components(design, bad)
