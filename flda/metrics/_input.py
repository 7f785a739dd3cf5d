"""The entry for scores, designs and donors of the measures."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from .._data import arrays, entry
from .._design.design import Design
from .._design.entry import check_same_cells, donor_codes, label_frame
from .._design.make import make_design

Labels: TypeAlias = pd.DataFrame | pd.Series | ArrayLike  # of cells, in any form that flda.FLDA.fit takes


def scored_cells(scores: Any, design: Any, donors: Any = None) -> tuple[np.ndarray, Design, np.ndarray | None]:
    """Return scores, the design of their cells and the donors as integers, from every form that users have them in.

    Parameters
    ----------
    scores
        Scores of cells, N x k, in any form.
    design
        The design of these cells, such as ``model.design_``, or their labels, whose design then has all interactions.
    donors
        Donor of each cell, (N,), or None.

    Raises
    ------
    ValueError
        If scores are no matrix of finite numbers, or scores, labels and donors are not of the same cells.
    """
    if not isinstance(design, Design):
        check_same_cells(scores, design, donors, names=("scores", "labels"))
    table, design = finite(scores, "scores"), given_design(design)
    if len(table) != len(design.codes):
        raise ValueError(
            f"scores has {len(table)} rows and the design has {len(design.codes)} cells; give the design or the "
            "labels of the scored cells."
        )
    return table, design, donor_codes(donors, len(table))[0]


def given_design(design: Any) -> Design:
    """Return a design, or the one of labels in any form."""
    return design if isinstance(design, Design) else make_design(label_frame(design)[0])


def finite(values: Any, name: str) -> np.ndarray:
    """Return a dense float64 matrix, or an error that names a value that is not finite."""
    plain = type(values) is np.ndarray and values.ndim == 2 and values.dtype == np.float64
    found = values if plain else dense(values, name)
    if not np.isfinite(found).all():
        row, column = np.argwhere(~np.isfinite(found))[0]
        at = values.index[row] if isinstance(values, pd.DataFrame) else row
        raise ValueError(f"{name} contains {found[row, column]} in row {at}, column {column}; leave such cells out.")
    return found


def dense(values: Any, name: str) -> np.ndarray:
    """Return a matrix in any form as a new dense float64 array."""
    X = entry.matrix(values, name)
    return arrays.map_rows(X, lambda _, block: arrays.dense(block), X.shape[1])
