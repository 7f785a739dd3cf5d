"""Numeric factors: polynomials by parts, against numpy's least squares, and their limits."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.interpolate import CubicSpline

from flda._design.effects import Effect
from flda._design.make import make_design
from flda._design.trends import numeric_parts, parse_numeric

DOSES = [0.1, 0.3, 1.0, 3.0, 10.0]


def table(doses=DOSES, drugs="ab", n=2, keep=lambda drug, dose: True):
    rows = [(d, x) for d, x in itertools.product(drugs, doses) if keep(d, x)]
    return pd.DataFrame(rows * n, columns=["drug", "dose"])


def scatter(design, means, effects):
    return sum(design.df(e) * means.T @ design.scatter_weights(e) @ means for e in effects)


@pytest.mark.parametrize("kind", ["trend", 4])
@pytest.mark.parametrize("keep", [lambda drug, dose: True, lambda drug, dose: (drug, dose) != ("b", 3.0)])
def test_all_degrees_together_are_the_nominal_effect(kind, keep):
    labels = table(keep=keep)
    whole = make_design(labels, interactions="estimable")
    split = make_design(labels, numeric={"dose": kind}, interactions="estimable")
    means = np.random.default_rng(0).normal(size=(whole.n_groups, 3))
    complete = whole.n_groups == 10
    for effect in whole.effects if complete else whole.effects[:2]:
        own = [e for e in split.effects if split.table.factors_of(e) == effect]
        assert len(own) == (1 if effect == ("drug",) else 3 if kind == "trend" else 4)
        found, expected = scatter(split, means, own), scatter(whole, means, [effect])
        np.testing.assert_allclose(found, expected, atol=1e-10)
        # and their coefficients are a rotation of those of the nominal effect
        rows = np.vstack([split.rows(e) for e in own])
        turn = rows @ np.linalg.pinv(whole.rows(effect))
        np.testing.assert_allclose(turn @ turn.T, np.eye(len(rows)), atol=1e-10)


def test_coefficients_are_those_of_a_polynomial_fit():
    """The curve over the values that the linear and quadratic parts give is that of numpy.polyfit on the means."""
    design = make_design(table(drugs="a", n=3).drop(columns="drug"), numeric={"dose": "quadratic"})
    assert [e.name for e in design.effects] == ["dose.linear", "dose.quadratic"]
    means = np.random.default_rng(1).normal(size=(5, 2))
    curve = means.mean(axis=0) + sum(design.fitted(e) @ means for e in design.effects)
    expected = np.stack([np.polyval(np.polyfit(DOSES, m, 2), DOSES) for m in means.T], axis=1)
    np.testing.assert_allclose(curve, expected, atol=1e-10)
    rising = design.rows(Effect(("dose.linear",))) @ np.array(DOSES)
    assert rising[0] > 0
    assert design.table.df_left(list(design.contrasts)) == 2  # what is left out is lack of fit


def test_a_spline_is_a_natural_cubic_spline():
    values = np.array([0.0, 1.0, 2.5, 4.0, 5.0, 7.0, 9.0, 12.0])
    (part,) = numeric_parts("t", values, "spline").values()
    assert part.basis.shape == (8, 3)
    np.testing.assert_allclose(part.basis.T @ part.basis, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(part.basis.sum(axis=0), 0, atol=1e-12)
    knots = np.quantile(values, [0, 1 / 3, 2 / 3, 1])
    for heights in np.random.default_rng(0).normal(size=(3, 4)):
        curve = CubicSpline(knots, heights, bc_type="natural")(values)
        curve -= curve.mean()
        np.testing.assert_allclose(part.basis @ (part.basis.T @ curve), curve, atol=1e-10)


def test_ordered_levels_and_categories_of_numbers_have_values():
    stages = pd.Categorical(["late", "early", "mid", "early"], categories=["early", "mid", "late"], ordered=True)
    design = make_design(pd.DataFrame({"stage": stages}), numeric=["stage"])
    assert design.numeric["stage"].tolist() == [0, 1, 2]
    numbers = pd.Categorical([10, 0, 1, 0], categories=[0, 1, 10], ordered=True)
    assert make_design(pd.DataFrame({"dose": numbers}), numeric="dose").numeric["dose"].tolist() == [0, 1, 10]
    with pytest.raises(ValueError, match=r"numeric names 'stage', whose levels are not numbers.*to_numeric"):
        make_design(pd.DataFrame({"stage": ["late", "early"]}), numeric="stage")


def test_a_number_with_many_values_is_an_effect_once_it_is_called_numeric():
    age = np.arange(60) // 2
    labels = pd.DataFrame({"age": age, "sex": np.tile(["f", "m", "m"], 20)})
    with pytest.raises(ValueError, match=r"'age' holds 30 distinct numbers.*numeric=\['age'\].*pandas\.cut"):
        make_design(labels, interactions=None)
    design = make_design(labels, interactions=None, numeric=["age"])
    assert [e.name for e in design.effects] == ["age.linear", "sex"]
    nuisance = make_design(labels, nuisance=["age"], numeric={"age": 2})
    assert [e.name for e in nuisance.effects] == ["sex"]
    assert [e.name for e in nuisance.contrasts] == ["sex"]  # a nuisance number with many values makes no groups
    assert [e.name for e in nuisance.covariates.columns] == ["age.linear", "age.quadratic"]


def test_interactions_by_part():
    names = ["drug", "dose.linear", "dose.quadratic", "dose.rest"]
    for asked, expected in {
        "all": ["drug:dose.linear", "drug:dose.quadratic", "drug:dose.rest"],
        ("drug:dose",): ["drug:dose.linear", "drug:dose.quadratic", "drug:dose.rest"],
        ("dose.linear:drug",): ["drug:dose.linear"],
    }.items():
        interactions = asked if isinstance(asked, str) else list(asked)
        design = make_design(table(), numeric={"dose": "trend"}, interactions=interactions)
        assert [e.name for e in design.effects] == names + expected
        assert all(Effect.parse(e.name) == e for e in design.effects)
    with pytest.raises(ValueError, match=r"'drug:dose\.cubic'"):
        make_design(table(), numeric={"dose": "trend"}, interactions=["drug:dose.cubic"])


def test_a_line_can_be_estimated_where_the_levels_cannot():
    labels = table(keep=lambda drug, dose: not (drug == "b" and dose in (1.0, 3.0)))
    assert [e.name for e in make_design(labels, numeric=["dose"]).effects] == [
        "drug",
        "dose.linear",
        "drug:dose.linear",
    ]
    assert [e.name for e in make_design(labels).effects] == ["drug", "dose"]


@pytest.mark.parametrize(
    ("values", "numeric", "message"),
    [
        ([0, 1], {"dose": "trend"}, "'dose' has 2 distinct values, which have a difference and no trend"),
        ([0, 1], {"dose": 2}, "a degree of 1 at most, not 2"),
        ([0, 1, 2, 3], {"dose": "spline"}, "a spline needs 5"),
        ([0, 1, 2], {"Dose": 1}, "numeric names 'Dose'"),
        ([0, 1, 2], {"dose": "curve"}, "'curve'"),
        ([0, 1, 2], {"dose": 0}, "0"),
        ([0, 1, np.inf], ["dose"], "not finite"),
        ([0.0, 1e-12, 2e-12, 1.0], {"dose": 3}, "too close"),
    ],
)
def test_bad_trends_are_named(values, numeric, message):
    with pytest.raises(ValueError, match=message):
        make_design(pd.DataFrame({"dose": np.repeat(values, 2)}), numeric=numeric)


def test_a_line_through_two_values_is_the_plain_factor():
    labels = pd.DataFrame({"dose": [0, 0, 5, 5]})
    a, b = make_design(labels), make_design(labels, numeric=["dose"])
    (own,), (line,) = a.effects, b.effects
    np.testing.assert_allclose(a.scatter_weights(own), b.scatter_weights(line), atol=1e-14)


def test_names_of_parts_are_not_names_of_columns():
    labels = pd.DataFrame({"dose": [0, 1, 2], "dose.linear": list("aab")})
    with pytest.raises(ValueError, match=r"'dose\.linear'"):
        make_design(labels, numeric=["dose"])
    assert parse_numeric({"x": "cubic", "y": np.int64(2)}, ["x", "y"]) == {"x": 3, "y": 2}


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "int8", "float32", "category"])
def test_numbers_of_every_type(dtype):
    labels = pd.DataFrame({"dose": pd.Series([0, 1, 4, 0, 1, 4]).astype(dtype)})
    design = make_design(labels, numeric=["dose"])
    assert design.numeric["dose"].tolist() == [0, 1, 4]
    assert design.df(design.effects[0]) == 1
