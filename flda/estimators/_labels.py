"""Conversion of y and groups (donors) from every form that users have them in."""

from __future__ import annotations

import numpy as np
import pandas as pd


def label_frame(y) -> tuple[pd.DataFrame, str]:
    """Return y as a DataFrame of factors, and its form: ``"frame"``, ``"matrix"`` or ``"vector"``."""
    if isinstance(y, pd.DataFrame):
        return y.reset_index(drop=True), "frame"
    if isinstance(y, pd.Series | pd.Categorical):
        series = pd.Series(y).reset_index(drop=True)
        return series.to_frame("y" if series.name is None else series.name), "vector"
    y = np.asarray(y)
    if y.ndim == 1:
        return pd.DataFrame({"y": y}), "vector"
    if y.ndim == 2 and y.shape[1] == 1:
        return pd.DataFrame({"y": y[:, 0]}), "matrix"
    if y.ndim == 2:
        return pd.DataFrame({f"factor{j}": y[:, j] for j in range(y.shape[1])}), "matrix"
    raise ValueError(f"y must be a DataFrame or an array of shape (N, F) or (N,); got an array of {y.ndim} dimensions.")


def donor_codes(groups, n_cells: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the donor of each cell as an integer, and the names of the donors; both are None without donors."""
    if groups is None:
        return None, None
    donors = np.asarray(groups)
    if donors.shape != (n_cells,):
        raise ValueError(
            f"groups (donors) must hold one label for each of the {n_cells} cells; got shape {donors.shape}."
        )
    if pd.isna(donors).any():
        raise ValueError(
            f"groups (donors) has no label for {int(pd.isna(donors).sum())} cells; drop these cells or label them."
        )
    codes, names = pd.factorize(donors, sort=True)
    return codes, np.asarray(names)
