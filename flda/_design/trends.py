"""Factors whose levels are numbers: orthogonal polynomials and splines of their values.

The coding of a factor with L values is an orthonormal basis, L x (L - 1), of the vectors that sum to zero. For a factor
that is called numeric, its columns are orthogonal polynomials of the values, in which every distinct value counts the
same. They are split into *parts*, each an effect of its own: ``dose.linear``, ``dose.quadratic`` and so on, and
``dose.rest``, which holds all that is left. All parts together span what the plain factor does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.linalg import null_space

DEGREES = ("linear", "quadratic", "cubic")  # names of the first degrees; later ones are "power4", "power5", ...
SPLINE_DF = 3  # degrees of freedom of a spline
DISTINCT = 1e-8  # a polynomial that keeps less of its length than this is taken for one of lower degree


@dataclass(frozen=True)
class Part:
    """A part of the coding of a factor.

    Attributes
    ----------
    factor
        Name of the factor.
    basis
        Orthonormal columns that sum to zero, L x k, with a row for each level.
    """

    factor: str
    basis: np.ndarray


def parse_numeric(numeric: Any, names: Iterable[str]) -> dict[str, int | str]:
    """Return the kind of every numeric factor, a degree or ``"trend"`` or ``"spline"``, from every form of ``numeric``.

    Parameters
    ----------
    numeric
        A name, names, or a mapping from names to kinds; None for no numeric factor.
    names
        The columns that may be named.

    Raises
    ------
    ValueError
        If another column is named, or a kind is not known.

    Examples
    --------
    >>> parse_numeric({"dose": "trend", "age": "linear"}, ["drug", "dose", "age"])
    {'dose': 'trend', 'age': 1}
    """
    if numeric is None:
        return {}
    if isinstance(numeric, str):
        numeric = [numeric]
    kinds = dict(numeric) if isinstance(numeric, Mapping) else dict.fromkeys(numeric, 1)
    known, out = list(names), {}
    for name, kind in kinds.items():
        if name not in known:
            raise ValueError(f"numeric names {name!r}, which is not one of the columns {known}; correct its name.")
        kind = DEGREES.index(kind) + 1 if isinstance(kind, str) and kind in DEGREES else kind
        degree = isinstance(kind, int | np.integer) and not isinstance(kind, bool) and kind >= 1
        if not degree and kind not in ("trend", "spline"):
            raise ValueError(
                f"numeric={{{name!r}: {kind!r}}}: use a degree of 1 or more, 'linear', 'quadratic', 'cubic', 'trend' "
                "or 'spline'."
            )
        out[name] = int(kind) if degree else kind
    return out


def values_of(name: str, levels: np.ndarray, *, ordered: bool) -> np.ndarray:
    """Return the values of the levels of a numeric factor, (L,).

    Levels that are numbers are the values. Those of an ordered categorical that are not have the values 0, 1, 2, ...

    Raises
    ------
    ValueError
        If the levels are neither numbers nor ordered, or a number is not finite.
    """
    if pd.api.types.is_numeric_dtype(pd.Index(levels).infer_objects().dtype):
        values = np.asarray(levels, dtype=float)
        if not np.isfinite(values).all():
            raise ValueError(f"numeric factor {name!r} holds a value that is not finite; remove these cells.")
        return values
    if ordered:
        return np.arange(len(levels), dtype=float)
    raise ValueError(
        f"numeric names {name!r}, whose levels are not numbers (the first is {levels[0]!r}); convert it with "
        "pandas.to_numeric, or make it an ordered categorical."
    )


def numeric_parts(name: str, values: np.ndarray, kind: int | str) -> dict[str, Part]:
    """Return the parts of a numeric factor, by name.

    Parameters
    ----------
    name
        Name of the factor.
    values
        Its distinct values, (L,), in the order of its levels.
    kind
        A degree for the polynomials up to this degree; ``"trend"`` for the linear, the quadratic and all other degrees
        (``rest``); ``"spline"`` for a natural cubic spline with three degrees of freedom.

    Raises
    ------
    ValueError
        If there are too few values.

    Examples
    --------
    >>> list(numeric_parts("dose", np.array([0.0, 1.0, 2.0, 4.0, 8.0]), "trend"))
    ['dose.linear', 'dose.quadratic', 'dose.rest']
    """
    n = len(values)
    if kind == "spline":
        if n < SPLINE_DF + 2:
            raise ValueError(
                f"numeric factor {name!r} has {n} distinct values, and a spline needs {SPLINE_DF + 2} or more; use "
                f"numeric={{{name!r}: 1}} or a higher degree."
            )
        return {f"{name}.spline": Part(name, _spline(values))}
    if kind == "trend" and n < 3:
        raise ValueError(
            f"numeric factor {name!r} has {n} distinct values, which have a difference and no trend; leave it out of "
            f"numeric, or use numeric={{{name!r}: 1}}."
        )
    degree = 2 if kind == "trend" else int(kind)
    if degree > n - 1:
        raise ValueError(
            f"numeric factor {name!r} has {n} distinct values, which allow a degree of {n - 1} at most, not {degree}; "
            "lower the degree."
        )
    columns = _polynomials(name, values, degree)
    out = {f"{name}.{_degree(k)}": Part(name, columns[:, [k - 1]]) for k in range(1, degree + 1)}
    if kind == "trend" and n > 3:
        out[f"{name}.rest"] = Part(name, null_space(np.column_stack([np.ones(n), columns]).T))
    return out


def _degree(k: int) -> str:
    return DEGREES[k - 1] if k <= len(DEGREES) else f"power{k}"


def _polynomials(name: str, values: np.ndarray, degree: int) -> np.ndarray:
    """Return orthonormal polynomials of degrees 1 to ``degree`` at the values, L x degree, each rising at the end."""
    x = _scaled(values)
    basis = np.full((len(x), 1), 1 / np.sqrt(len(x)))
    for k in range(1, degree + 1):
        # the next power times the last polynomial stays well conditioned, where powers themselves do not
        column = x * basis[:, -1]
        length = np.linalg.norm(column)
        for _ in range(2):  # twice is enough for orthogonality to rounding error
            column = column - basis @ (basis.T @ column)
        if np.linalg.norm(column) <= DISTINCT * length:
            raise ValueError(
                f"the values of numeric factor {name!r} are too close for a polynomial of degree {k}; lower the "
                "degree, or transform the values, for example by a logarithm."
            )
        basis = np.column_stack([basis, column / np.linalg.norm(column)])
    return basis[:, 1:]


def _spline(values: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis, L x 3, of the natural cubic splines with knots at quantiles of the values."""
    x = _scaled(values)
    basis, triangle = np.linalg.qr(_natural(x, x))
    return (basis * np.sign(np.diag(triangle)))[:, 1:]


def _natural(x: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Compute natural cubic splines at x, n x 4, with knots at quantiles of the values.

    The truncated powers are those of Hastie, Tibshirani and Friedman, The Elements of Statistical Learning (2009), 5.4.
    """
    knots = np.quantile(values, np.linspace(0, 1, SPLINE_DF + 1))

    def d(k: int) -> np.ndarray:
        cubes = np.maximum(x - knots[k], 0) ** 3 - np.maximum(x - knots[-1], 0) ** 3
        return cubes / (knots[-1] - knots[k])

    return np.column_stack([np.ones(len(x)), x, *(d(k) - d(SPLINE_DF - 1) for k in range(SPLINE_DF - 1))])


def part_at(part: Part, degree: int | None, values: np.ndarray, value: float) -> np.ndarray:
    """Compute the coding of a part at a value that need not be a level, (k,).

    Parameters
    ----------
    part
        The part, a polynomial or a spline.
    degree
        Degree of the polynomial, or None for a spline.
    values
        The values of the levels, (L,).
    value
        The value to code.
    """
    x = _scaled(np.r_[values, value], values)
    # the basis is a linear map of these functions, which the values of the levels determine
    functions = _natural(x, x[:-1]) if degree is None else np.polynomial.legendre.legvander(x, degree)
    return functions[-1] @ np.linalg.lstsq(functions[:-1], part.basis, rcond=None)[0]


def _scaled(values: np.ndarray, of: np.ndarray | None = None) -> np.ndarray:
    """Return values in units in which those of the levels, ``of``, have the interval from -1 to 1.

    This leaves polynomials of a degree as they are. By default the values are those of the levels.
    """
    of = values if of is None else of
    centre = (of.max() + of.min()) / 2
    return (values - centre) / np.abs(of - centre).max()
