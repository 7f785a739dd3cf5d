"""Whether the AnnData is still that of the fit, and the group means of its genes."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .._adata import read
from .._adata.fitted import Fitted
from .._adata.record import Record
from .._data import arrays
from .._logging import quiet


def changes(record: Record) -> str | None:
    """Say how cells, genes, labels or values differ from those of the fit; None if nothing changed."""
    try:
        with quiet():
            Fitted.read(record.adata, record.key, real_cells_only=False)
            record.scores  # noqa: B018  # refuses scores of another fit
    except ValueError as error:
        return str(error).rstrip(".")
    return None


def group_means(record: Record) -> pd.DataFrame:
    """Mean expression of every gene of the fit (rows) in every group (columns)."""
    groups = record.groups
    X = read.expression(record.adata, record.params["layer"])
    known = groups.notna().to_numpy()
    X = X if known.all() else X[known]
    codes = groups.cat.codes.to_numpy()[known].astype(np.int64)
    n = len(groups.cat.categories)
    sums = arrays.group_sums(X, codes, n)[:, record.genes]
    return pd.DataFrame(
        (sums / np.maximum(np.bincount(codes, minlength=n), 1)[:, None]).T, record.gene_names, groups.cat.categories
    )
