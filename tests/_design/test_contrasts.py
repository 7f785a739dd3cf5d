"""Named contrasts against means by hand."""

import itertools

import numpy as np
import pandas as pd
import pytest

from flda._design.contrasts import parse_contrasts, storable_contrasts, stored_contrasts
from flda._design.effects import Effect
from flda._design.make import make_design

IN_B = ({"type": "B", "condition": "stim"}, {"type": "B", "condition": "ctrl"})


def labels_of(keep=lambda *levels: True, batches=("1", "2")):
    rows = [r for r in itertools.product("BTM", ("ctrl", "stim"), batches) if keep(*r)]
    return pd.DataFrame(rows * 2, columns=["type", "condition", "batch"])


def contrast(design, name):
    return design.rows(Effect((name,)))[0]


def test_a_simple_effect_is_the_difference_of_two_means():
    design = make_design(labels_of(), contrasts={"stim in B": IN_B})
    groups = design.group_levels().astype(str)
    sign = np.where(groups["condition"] == "stim", 1, -1) * (groups["type"] == "B") / 2  # two batches
    np.testing.assert_allclose(contrast(design, "stim in B"), sign / np.sqrt(2), atol=1e-12)
    assert design.effects[-1] == ("stim in B",)
    assert design.df(design.effects[-1]) == 1


def test_what_counts_against_a_contrast_cannot_contribute_to_it():
    design = make_design(labels_of(), interactions=["type:condition"], nuisance=["batch"], contrasts={"c": IN_B})
    others = design.others(Effect(("c",)))
    assert [e.name for e in others] == ["type", "batch"]
    # the coding of these is orthogonal to the contrast on the groups, and that of the others is not
    for effect in design.contrasts:
        size = np.abs(contrast(design, "c") @ design.table.coding(effect)).max()
        assert (size < 1e-12) == (effect in others)
    assert all(Effect(("c",)) not in design.others(e) for e in design.contrasts)


def test_a_contrast_of_the_levels_of_a_factor_is_its_main_effect():
    pair = ({"condition": "stim"}, {"condition": "ctrl"})
    for keep in (lambda *levels: True, lambda t, c, b: (t, c, b) != ("M", "stim", "2")):
        design = make_design(labels_of(keep), interactions=None, contrasts={"c": pair})
        weights = design.scatter_weights(Effect(("condition",)))
        np.testing.assert_allclose(design.scatter_weights(Effect(("c",))), weights, atol=1e-12)
        np.testing.assert_allclose(design.fitted(Effect(("c",))), design.fitted(Effect(("condition",))), atol=1e-12)


def test_fitted_means_of_an_additive_model_fill_an_empty_group():
    keep = lambda t, c, b: (t, c) != ("B", "stim")  # noqa: E731
    labels = labels_of(keep, batches=("1",)).drop(columns="batch")
    design = make_design(labels, interactions=None, contrasts={"c": IN_B})
    means = np.random.default_rng(0).normal(size=(5, 1))
    D = pd.get_dummies(design.group_levels(), drop_first=True).to_numpy(float)
    b = np.linalg.lstsq(np.column_stack([np.ones(5), D]), means, rcond=None)[0]
    np.testing.assert_allclose(contrast(design, "c") @ means, b[3] / np.sqrt(2))  # stim is the last dummy


def test_forms_of_a_contrast_agree():
    names = ["type", "condition"]
    weights = {("B", "stim"): 1, ("B", "ctrl"): -1}
    series = pd.Series([-1.0, 1.0], pd.MultiIndex.from_tuples([("ctrl", "B"), ("stim", "B")], names=names[::-1]))
    listed = [(2, IN_B[0]), (-2, IN_B[1])]
    stored = stored_contrasts(storable_contrasts({"c": IN_B}, names))["c"]
    labels = labels_of()[names]
    expected = contrast(make_design(labels, contrasts={"c": IN_B}), "c")
    for form in (weights, series, listed, stored, list(IN_B)):
        np.testing.assert_allclose(contrast(make_design(labels, contrasts={"c": form}), "c"), expected)
    several = ({"type": ["B", "T"]}, {"type": "M"})
    groups = make_design(labels, contrasts={"c": several})
    by_hand = groups.group_levels()["type"].map({"B": 0.25, "T": 0.25, "M": -0.5}).to_numpy(float)
    np.testing.assert_allclose(contrast(groups, "c"), by_hand / np.sqrt(2), atol=1e-12)


def test_a_contrast_of_doses():
    labels = pd.DataFrame({"dose": [0, 1, 2, 4] * 2})
    pair = ({"dose": 4.0}, {"dose": 0.0})
    design = make_design(labels, numeric=["dose"], contrasts={"high": pair})
    means = np.array([[0.0], [2.0], [3.0], [9.0]])
    slope = np.polyfit([0, 1, 2, 4], means[:, 0], 1)[0]
    np.testing.assert_allclose(contrast(design, "high") @ means, 4 * slope / np.sqrt(2))
    assert stored_contrasts(storable_contrasts({"high": pair}, ["dose"]))["high"][0] == (1.0, {"dose": ["4.0"]})
    again = stored_contrasts(storable_contrasts({"high": pair}, ["dose"]))
    np.testing.assert_allclose(contrast(make_design(labels, numeric=["dose"], contrasts=again), "high") @ means,
                               4 * slope / np.sqrt(2))  # fmt: skip


def test_an_empty_group_elsewhere_does_not_lose_a_simple_effect():
    labels = labels_of(lambda t, c, b: (t, c) != ("M", "stim"))[["type", "condition"]]
    with pytest.raises(ValueError, match=r"'stim in B' needs the interaction 'type:condition'.*'estimable'"):
        make_design(labels, contrasts={"stim in B": IN_B})
    design = make_design(labels, interactions="estimable", contrasts={"stim in B": IN_B})
    assert design.df(Effect(("type", "condition"))) == 1
    means = np.random.default_rng(0).normal(size=5)
    groups = [tuple(g) for g in design.group_levels().astype(str).to_numpy()]
    difference = means[groups.index(("B", "stim"))] - means[groups.index(("B", "ctrl"))]
    np.testing.assert_allclose(contrast(design, "stim in B") @ means, difference / np.sqrt(2))
    in_m = ({"type": "M", "condition": "stim"}, {"type": "M", "condition": "ctrl"})
    with pytest.raises(ValueError, match="'stim in M' cannot be estimated: no cell has type=M, condition=stim"):
        make_design(labels, interactions="estimable", contrasts={"stim in M": in_m})


@pytest.mark.parametrize(
    ("contrasts", "message"),
    [
        ({"c": ({"tipe": "B"}, {"type": "T"})}, "'c' names the factor 'tipe'; the fit has"),
        ({"c": ({"type": "X"}, {"type": "T"})}, "'c' names the level 'X' of 'type'"),
        ({"c": {("B", "stim"): 1, ("B",): -1}}, "tuple with one level of each of"),
        ({"c": {("B", "stim"): 1, ("B", "ctrl"): 1}}, "sum to 2"),
        ({"c": {("B", "stim"): 0, ("B", "ctrl"): 0}}, "zero"),
        ({"c": {("B", "stim"): "x", ("B", "ctrl"): 0}}, "'x'"),
        ({"type": ({"type": "B"}, {"type": "T"})}, "'type' has the name of an effect"),
        ({"a:b": ({"type": "B"}, {"type": "T"})}, "without ':'"),
        ({"c": "stim"}, "pair of mappings"),
        ([IN_B], "map names"),
        ({"c": ({"type": []}, {"type": "T"})}, "no level"),
    ],
)
def test_bad_contrasts_are_named(contrasts, message):
    with pytest.raises(ValueError, match=message):
        make_design(labels_of()[["type", "condition"]], contrasts=contrasts)


def test_a_contrast_that_no_effect_can_show_is_refused():
    double = {("B", "stim"): 1, ("B", "ctrl"): -1, ("T", "stim"): -1, ("T", "ctrl"): 1}
    with pytest.raises(ValueError, match="'c' is zero in a fit"):
        make_design(labels_of()[["type", "condition"]], interactions=None, contrasts={"c": double})


def test_contrasts_follow_into_a_part_of_the_cells():
    labels = labels_of()[["type", "condition"]]
    design = make_design(labels, contrasts={"c": IN_B})
    half = design.subset(np.arange(0, len(labels), 2))
    assert half.effects == design.effects
    np.testing.assert_allclose(contrast(half, "c"), contrast(design, "c"))
    assert parse_contrasts(None, design.levels, ["type"]) == {}
