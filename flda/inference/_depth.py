"""Whether depth goes with a factor: :func:`depth_check`."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from .._data.summary import summarise
from .._design.entry import checked_cells, label_frame
from .._design.make import make_design
from .._error.depth import MANY_COUNTS, MANY_GENES, depth_by_level


def depth_check(X, y, *, depth: ArrayLike | None = None) -> pd.DataFrame:
    """Compare the depth of cells between the levels of every factor.

    If the cells of one level were sequenced more deeply than those of another, more genes are detected in them, and
    normalisation does not undo that. Axes and tests of the factor then show depth next to biology.

    Parameters
    ----------
    X
        Expression, cells x genes, of any kind that :meth:`FLDA.fit` takes. It is only read without ``depth``.
    y
        Labels, as in :meth:`FLDA.fit`.
    depth
        Total counts of every cell, (N,), positive. Without it the depth of a cell is the number of genes that are not
        zero in it.

    Returns
    -------
    DataFrame with a row per factor: ``factor``; ``ratio`` of the largest to the smallest geometric mean depth of a
    level; these levels, ``lowest, highest``; and ``large``, whether the ratio exceeds 2 for counts, or 1.5 for detected
    genes. The limits are for the size of the difference. They do not depend on the number of cells.

    Raises
    ------
    ValueError
        If ``depth`` is not a positive number for every cell.

    Examples
    --------
    >>> from flda.datasets import t4t5_simulated
    >>> adata = t4t5_simulated(n_obs=300, n_vars=100)
    >>> depth_check(adata.X, adata.obs[["dendrite", "axon"]])["large"].tolist()
    [False, False]
    """
    labels = label_frame(y)[0]
    design = make_design(labels, interactions=None)
    if depth is None:
        log_depth = summarise(checked_cells(X, y)[0], design.codes, design.n_groups).log_detected
    else:
        depth = np.asarray(depth, dtype=float)
        if depth.shape != (len(labels),) or not (np.isfinite(depth) & (depth > 0)).all():
            raise ValueError(f"depth must be a positive number for each of the {len(labels)} cells.")
        log_depth = np.bincount(design.codes, np.log(depth), design.n_groups)
    table = depth_by_level(design, log_depth)
    return table.assign(large=table["ratio"] > (MANY_GENES if depth is None else MANY_COUNTS))
