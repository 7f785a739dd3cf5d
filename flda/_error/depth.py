"""Depth that goes with a factor: whether cells of its levels differ in how much of their RNA was counted."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .._design.design import Design

# ratio of geometric means from which depth is announced; genes that are detected grow more slowly than counts
MANY_COUNTS, MANY_GENES = 2.0, 1.5


def depth_by_level(design: Design, log_depth: np.ndarray) -> pd.DataFrame:
    """Compare the depth of cells between the levels of every factor that has axes.

    Parameters
    ----------
    design
        The groups and effects.
    log_depth
        Sum over the cells of each group of the logarithm of their depth, (C,).

    Returns
    -------
    DataFrame with a row per factor: ``factor``, ``ratio`` of the largest to the smallest geometric mean depth of a
    level, and these levels, ``lowest, highest``.
    """
    factors = list(dict.fromkeys(f for effect in design.own_effects for f in design.table.factors_of(effect)))
    rows = []
    for factor in factors:
        codes = design.table.groups[:, design.table.factors.index(factor)]
        means = np.bincount(codes, log_depth) / np.bincount(codes, design.counts)
        levels, low, high = design.levels[factor], int(np.argmin(means)), int(np.argmax(means))
        ratio = float(np.exp(means[high] - means[low]))
        rows.append({"factor": factor, "ratio": ratio, "lowest": levels[low], "highest": levels[high]})
    return pd.DataFrame(rows, columns=["factor", "ratio", "lowest", "highest"])
