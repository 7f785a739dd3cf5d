"""Conversion of X, y and groups (donors) from every form that users have them in."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.utils import check_array

from .._data import arrays
from .._data.device import OnDevice, wrap


def expression(X, n_cells: int):
    """Return X in a form whose rows can be sliced, with the values of a DataFrame, of lists or of any sparse format.

    Parameters
    ----------
    X
        Expression, N x p, of any kind. Arrays, dask arrays, matrices on disk and on a GPU are returned unchanged.
    n_cells
        The number of rows that X must have.

    Raises
    ------
    ValueError
        If X is not a numeric matrix, or does not have ``n_cells`` rows.
    """
    X = wrap(X)
    if not (isinstance(X, arrays.Stream | OnDevice) or arrays.is_dask(X)):
        types = (np.float64, np.float32)
        X = check_array(X, accept_sparse=("csr", "csc"), dtype=types, ensure_all_finite=False, input_name="X")
        X = arrays.canonical(X)
    if X.shape[0] != n_cells:
        raise ValueError(f"X has {X.shape[0]} cells and y has {n_cells} rows; they must match.")
    return X


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
