"""Formulas, against what they mean in words."""

import sys

import numpy as np
import pandas as pd
import pytest

from flda import FLDA
from flda._design.formula import is_formula, parse_formula

pytest.importorskip("formulaic", reason="needs the extra formula")

TABLE = pd.DataFrame(
    {
        "drug": ["a", "b"],
        "dose": [0.0, 1.0],
        "batch": [1, 2],
        "type": ["B", "T"],
        "n cells": [3, 4],
        "ok": [True, False],
    }
)


@pytest.mark.parametrize(
    ("formula", "factors", "interactions", "numeric"),
    [
        ("~ drug * type", ["drug", "type"], ["drug:type"], {}),
        ("~ drug + type + drug:type", ["drug", "type"], ["drug:type"], {}),
        ("~ (drug + type)**2", ["drug", "type"], ["drug:type"], {}),
        ("~ drug + dose", ["drug", "dose"], [], {"dose": 1}),
        ("~ drug * poly(dose, 2)", ["drug", "dose"], ["drug:dose"], {"dose": 2}),
        ("~ poly(dose, degree=3)", ["dose"], [], {"dose": 3}),
        ("~ poly(dose)", ["dose"], [], {"dose": 1}),
        ("~ drug * C(dose)", ["drug", "dose"], ["drug:dose"], {}),
        ("~ `n cells` + ok", ["n cells", "ok"], [], {"n cells": 1}),
        ("~ drug*type*C(batch)", ["drug", "type", "batch"],
         ["drug:type", "drug:batch", "type:batch", "drug:type:batch"], {}),
    ],
)  # fmt: skip
def test_meaning(formula, factors, interactions, numeric):
    found = parse_formula(formula, TABLE)
    assert (found.factors, found.interactions, found.numeric) == (factors, interactions, numeric)


def test_nuisance_and_numeric_beside_the_formula():
    found = parse_formula("~ drug * dose + C(batch)", TABLE, ["batch", "type"], {"dose": "trend"})
    assert (found.factors, found.nuisance) == (["drug", "dose"], ["batch", "type"])
    assert found.numeric == {"dose": "trend"}
    assert parse_formula("~ drug + C(dose)", TABLE, (), "dose").numeric == {"dose": 1}


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("dose ~ drug", "left side"),
        ("~ 0 + drug", "intercept"),
        ("~ drug - 1", "intercept"),
        ("~ 1", "names no column"),
        ("~ drug | type", "several parts"),
        ("~ drug +", "cannot be read"),
        ("~ np.log(dose)", r"the term 'np\.log\(dose\)', which has no meaning here"),
        ("~ {dose + 1}", r"the term 'dose \+ 1'"),
        ("~ C(drug, contr.treatment)", r"the term 'C\(drug, contr\.treatment\)'"),
        ("~ poly(dose, 'x')", "the term"),
        ("~ bs(dose, df=4)", r"the term 'bs\(dose, df=4\)'"),
        ("~ drag", "names 'drag', which is no column"),
        ("~ C(drag)", "names 'drag', which is no column"),
        ("~ drug:type", "without the main effect of 'drug'"),
        ("~ drug + drug:type", "without the main effect of 'type'"),
        ("~ dose + poly(dose, 2)", "'dose' in several ways"),
        ("~ dose + poly(dose, 2):drug + drug", "'dose' in several ways"),
    ],
)
def test_what_has_no_meaning_is_refused_by_name(formula, message):
    with pytest.raises(ValueError, match=message) as error:
        parse_formula(formula, TABLE)
    assert "\n" not in str(error.value)


def test_a_column_is_not_a_formula():
    assert is_formula("~ drug", TABLE)
    assert not is_formula("drug", TABLE)
    assert not is_formula("a~b", [*TABLE, "a~b"])
    assert not is_formula(["~ drug"], TABLE)


def test_estimator_from_a_formula_equals_the_factors_call():
    rng = np.random.default_rng(0)
    y = pd.DataFrame([(d, x, b) for d in "ab" for x in (0.0, 1.0, 3.0) for b in "12"] * 4, columns=list("fxb"))
    X = rng.normal(size=(len(y), 8))
    model, labels = FLDA.from_formula("~ f * x + b", y, nuisance=["b"], shrinkage=0.2)
    expected = FLDA(interactions=["f:x"], nuisance=["b"], numeric=["x"], shrinkage=0.2).fit(X, y)
    np.testing.assert_allclose(model.fit(X, labels).components_, expected.components_, rtol=1e-12)
    assert model.get_feature_names_out().tolist() == ["f_1", "x.linear_1", "f:x.linear_1"]
    with pytest.raises(ValueError, match="leave interactions out"):
        FLDA.from_formula("~ f", y, interactions=None)


def test_without_formulaic(monkeypatch):
    monkeypatch.setitem(sys.modules, "formulaic", None)
    with pytest.raises(ImportError, match=r"flda\[formula\]"):
        parse_formula("~ drug", TABLE)
