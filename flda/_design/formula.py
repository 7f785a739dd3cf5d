"""Formulas such as ``~ cell_type * condition + batch``, read by formulaic."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from .effects import SEPARATOR


@dataclass(frozen=True)
class Formula:
    """What a formula asks for.

    Attributes
    ----------
    factors
        Columns with axes, in the order of the formula.
    nuisance
        Columns without axes.
    interactions
        Names of the interactions.
    numeric
        Column -> degree, for the columns of numbers.
    """

    factors: list[str]
    nuisance: list[str]
    interactions: list[str]
    numeric: dict[str, Any]


def is_formula(text: Any, columns: Sequence[Any]) -> bool:
    """Whether this is a formula, and not the name of a column."""
    return isinstance(text, str) and "~" in text and text not in columns


def parse_formula(formula: str, table: pd.DataFrame, nuisance: Sequence[str] = (), numeric: Any = None) -> Formula:
    """Read a formula.

    A term is a column, ``C(column)`` for a column of numbers that are labels, ``poly(column, degree)``, or an
    interaction of these. A column of numbers is numeric, with its linear effect.

    Parameters
    ----------
    formula
        One side, as in ``"~ drug * dose + batch"``.
    table
        The columns that it may name.
    nuisance
        Columns that get no axes. Those that the formula does not name are added.
    numeric
        As in :class:`flda.FLDA`; it takes precedence over what the formula says.

    Raises
    ------
    ImportError
        If formulaic is not installed.
    ValueError
        If formulaic cannot read the formula, or it has a term that has no meaning here.

    Examples
    --------
    >>> table = pd.DataFrame({"drug": ["a", "b"], "dose": [0.0, 1.0], "batch": [1, 2]})
    >>> found = parse_formula("~ drug * poly(dose, 2) + C(batch)", table, nuisance=["batch"])
    >>> found.factors, found.nuisance, found.interactions, found.numeric
    (['drug', 'dose'], ['batch'], ['drug:dose'], {'dose': 2})
    """
    terms = _terms(formula)
    found: dict[str, int | None] = {}
    interactions: list[tuple[str, ...]] = []
    for term in terms:
        names = []
        for text, looked_up in term:
            name, degree = (text, None) if looked_up else _call(formula, text)
            if name not in table:
                raise ValueError(f"the formula {formula!r} names {name!r}, which is no column; correct its name.")
            number = pd.api.types.is_numeric_dtype(table[name].dtype) and table[name].dtype != bool
            degree = (1 if number else None) if looked_up else degree
            if found.setdefault(name, degree) != degree:
                raise ValueError(
                    f"the formula {formula!r} uses {name!r} in several ways; write it in the same way everywhere."
                )
            names.append(name)
        if len(set(names)) < len(names):
            raise ValueError(
                f"the formula {formula!r} has the term {SEPARATOR.join(names)!r}; name a column once in it."
            )
        interactions.append(tuple(names))
    mains = {parts[0] for parts in interactions if len(parts) == 1}
    for parts in interactions:
        if lacking := [n for n in parts if n not in mains]:
            raise ValueError(
                f"the formula {formula!r} has {SEPARATOR.join(parts)!r} without the main effect of {lacking[0]!r}; "
                f"add it, or write {' * '.join(parts)!r}."
            )
    kinds = {name: degree for name, degree in found.items() if degree is not None}
    if numeric is not None:
        given = dict.fromkeys([numeric] if isinstance(numeric, str) else numeric, 1)
        kinds |= dict(numeric) if hasattr(numeric, "keys") else given
    return Formula(
        [name for name in found if name not in nuisance],
        list(nuisance),
        [SEPARATOR.join(parts) for parts in interactions if len(parts) > 1],
        kinds,
    )


def _terms(formula: str) -> list[list[tuple[str, bool]]]:
    """Return the factors of every term: their text, and whether it is the name of a column."""
    try:
        import formulaic
        from formulaic.errors import FormulaicError
        from formulaic.parser.types import Term
    except ImportError:
        raise ImportError(
            f"the formula {formula!r} needs formulaic (pip install 'flda[formula]'); or name the factors in a list."
        ) from None
    if not formula.strip().startswith("~"):
        raise ValueError(f"the formula {formula!r} has a left side; write one that starts with '~'.")
    try:
        terms = list(formulaic.Formula(formula))
    except (FormulaicError, SyntaxError) as error:
        raise ValueError(
            f"the formula {formula!r} cannot be read: {' '.join(str(error).split('⧛')[0].split())}"
        ) from None
    except AttributeError:  # formulaic compares the parts of a formula with several parts
        terms = [None]
    if not all(isinstance(term, Term) for term in terms):
        raise ValueError(f"the formula {formula!r} has several parts ('|'); write one part.")
    texts = [[(str(f.expr), f.eval_method.name) for f in term.factors] for term in terms]
    intercept = [("1", "LITERAL")]
    if intercept not in texts:
        raise ValueError(f"the formula {formula!r} leaves out the intercept, which every fit has; remove the 0 or - 1.")
    out = [[(text, method == "LOOKUP") for text, method in term] for term in texts if term != intercept]
    if not out:
        raise ValueError(f"the formula {formula!r} names no column; name the factors.")
    return out


def _call(formula: str, text: str) -> tuple[str, int | None]:
    """Return the column of ``C(column)`` or ``poly(column, degree)``, and the degree, which is None for ``C``."""
    try:
        call = ast.parse(text, mode="eval").body
    except SyntaxError:
        call = None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.args:
        column, rest = call.args[0], [*call.args[1:], *(k.value for k in call.keywords if k.arg == "degree")]
        known = isinstance(column, ast.Name) and all(k.arg == "degree" for k in call.keywords)
        if known and call.func.id == "C" and not rest:
            return column.id, None  # type: ignore[attr-defined]
        degree = rest[0].value if len(rest) == 1 and isinstance(rest[0], ast.Constant) else 1 if not rest else None
        if known and call.func.id == "poly" and isinstance(degree, int):
            return column.id, degree  # type: ignore[attr-defined]
    raise ValueError(
        f"the formula {formula!r} has the term {text!r}, which has no meaning here; use columns, C(column), "
        "poly(column, degree) and their interactions, and compute other columns first."
    )
