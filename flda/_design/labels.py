"""Levels of a factor, from a column of labels."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .._logging import warn
from .effects import SEPARATOR

# columns of our own tables that stand beside those of the factors, and the last row of the table of variances
RESERVED = ("n_cells", "axis", "score", "lower", "upper", "within")
MAX_NUMERIC_LEVELS = 20  # a column with more distinct numbers is refused as a measurement unless it is called numeric


def check_factor_name(name: object) -> None:
    """Refuse the name of a factor that results could not tell from something else."""
    if isinstance(name, str) and SEPARATOR in name:
        raise ValueError(
            f"factor name {name!r} contains {SEPARATOR!r}, which joins the factors of an interaction; rename it."
        )
    if name in RESERVED:
        raise ValueError(f"factor name {name!r} is that of a column of the tables of results; rename it.")


def warn_of_spaces(name: object, levels: np.ndarray) -> None:
    """Warn of two levels that differ only in spaces around their text, which is hardly ever meant."""
    seen: dict[str, str] = {}
    for level in levels:
        if isinstance(level, str) and (other := seen.setdefault(level.strip(), level)) is not level:
            warn(
                f"levels {other!r} and {level!r} of {name!r} differ only in spaces and are fitted as two levels; if "
                "they are one, call str.strip() on the column first."
            )


def encode(column: pd.Series, *, called_numeric: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return the code of each cell and the levels of a factor; refuse a column that is not a factor.

    A column of numbers with many distinct values is refused unless the user has ``called`` it ``numeric``.
    """
    name = column.name
    check_factor_name(name)
    if column.isna().any():
        raise ValueError(
            f"factor {name!r} has no label for {int(column.isna().sum())} of {len(column)} cells (NaN); "
            "drop those cells or label them."
        )
    if isinstance(column.dtype, pd.CategoricalDtype):
        used = column.cat.remove_unused_categories()
        codes, levels = used.cat.codes.to_numpy(), used.cat.categories.to_numpy()
    else:
        try:
            codes, found = pd.factorize(column.to_numpy())  # hashing a million cells beats sorting them
            levels, order = np.unique(found, return_inverse=True)
            codes = order[codes]
        except TypeError:
            raise ValueError(f"factor {name!r} mixes types, such as text and numbers; convert it to text.") from None
        many = pd.api.types.is_numeric_dtype(column.dtype) and len(levels) > MAX_NUMERIC_LEVELS
        if many and not called_numeric:
            raise ValueError(
                f"factor {name!r} holds {len(levels)} distinct numbers. Unknown label type: continuous. "
                f"Call it a number with numeric=[{name!r}], bin it with pandas.cut, or make it categorical if the "
                "numbers are labels."
            )
    warn_of_spaces(name, levels)
    if len(levels) < 2:
        raise ValueError(
            f"factor {name!r} has one level (class), {levels[0]!r}; a factor needs two or more, so leave it out."
        )
    return codes.astype(np.int64), levels
