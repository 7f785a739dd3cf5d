"""Names of types and neurons, which tables hold as text, numbers or categories."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
import pandas as pd

from .._logging import warn


def name_text(value: Any) -> str:
    """A name as text; a whole number has no decimal point, however it was stored."""
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral) and float(value).is_integer():
        return str(int(float(value)))
    return str(value).strip()


def as_names(values: Any) -> pd.Index:
    """Names as an index of text."""
    return pd.Index([name_text(v) for v in np.asarray(values, dtype=object)], dtype=object)


def without_name(values: pd.Series) -> np.ndarray:
    """Which rows have no name: missing, or empty text."""
    return (values.isna() | values.astype(object).map(lambda v: isinstance(v, str) and not v.strip())).to_numpy(bool)


def named_edges(edges: pd.DataFrame) -> pd.DataFrame:
    """Edges with ``pre`` and ``post`` as text; rows in which one of them has no name are left out, with a warning."""
    lost = without_name(edges["pre"]) | without_name(edges["post"])
    if lost.any():
        warn(f"{int(lost.sum())} of {len(edges)} edges have no name on one side and are left out")
    kept = edges[~lost].copy()
    for side in ("pre", "post"):
        kept[side] = pd.Series(as_names(kept[side]), index=kept.index, dtype=object)
    return kept
