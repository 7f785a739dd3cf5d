"""Standardised mean expression of cell types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ..._data import arrays


def type_profiles(X: Any, types: Any) -> pd.DataFrame:
    """Compute the mean expression of every type, divided by the pooled standard deviation within types.

    :class:`BilinearModel` with ``norm="frobenius"`` takes such profiles. A gene that varies strongly within types says
    little about them, and the division gives it less weight.

    Parameters
    ----------
    X
        ``(n_cells, n_genes)``, dense or sparse, or a DataFrame.
    types
        ``(n_cells,)``, the type of every cell.

    Returns
    -------
    DataFrame
        Types (sorted) x genes, in units of the standard deviation. Genes that do not vary within any type are zero.

    Raises
    ------
    ValueError
        If cells have no type, or if every type has only one cell.

    References
    ----------
    Qiao M. A bilinear model of gene expression and connectivity. eLife 12:RP91532 (2024).

    Examples
    --------
    >>> import numpy as np
    >>> from flda.circuits.wiring import type_profiles
    >>> type_profiles(np.array([[0.0], [2.0], [4.0], [6.0]]), ["a", "a", "b", "b"]).round(3)[0].to_dict()
    {'a': 0.707, 'b': 3.536}
    """
    labels = pd.Series(np.asarray(types), dtype=object)
    if labels.isna().any():
        raise ValueError(f"{int(labels.isna().sum())} of {len(labels)} cells have no type; label or remove them.")
    names = X.columns if isinstance(X, pd.DataFrame) else None
    values = X.to_numpy(dtype=float) if isinstance(X, pd.DataFrame) else X
    codes, levels = pd.factorize(labels, sort=True)
    counts = np.bincount(codes)
    if len(codes) == len(counts):
        raise ValueError("every type has only one cell, so there is no variance within types; pass several cells.")
    means = arrays.group_sums(values, codes, len(counts)) / counts[:, None]
    sd = np.sqrt(_variance_within(values, codes, means))
    profiles = np.divide(means, sd, out=np.zeros_like(means), where=sd > 0)
    return pd.DataFrame(profiles, index=pd.Index(levels, name="type"), columns=names)


def _variance_within(X: Any, codes: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Pooled variance of every gene within types: squares about the type means, summed over N - C."""
    root = np.sqrt(1 / (len(codes) - len(means)))

    def add(out: np.ndarray, rows: slice, block: Any) -> None:
        residual = (arrays.dense(block) - means[codes[rows]]) * root
        out[0] += np.einsum("ij,ij->j", residual, residual)

    raw = arrays.reduce_rows(X, add, (1, means.shape[1]))[0]
    rounding = 1e-12 * np.abs(means).max(axis=0)  # residuals of this size are rounding errors of a constant gene
    return np.where(raw > rounding**2, raw, 0.0)
