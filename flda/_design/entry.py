"""The entry for labels and donors, and for X beside them, from every form that users have them in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from .._data import entry


def label_frame(y) -> tuple[pd.DataFrame, str]:
    """Return y as a DataFrame of factors, and its form: ``"frame"``, ``"matrix"`` or ``"vector"``.

    The names of factors are text, whatever the columns are called; a masked label is a missing one.
    """
    if isinstance(y, pd.DataFrame):
        table = y.reset_index(drop=True).set_axis([factor_name(c) for c in y.columns], axis=1)
        if not table.columns.is_unique:
            name = table.columns[table.columns.duplicated()][0]
            raise ValueError(f"y has more than one column {name!r}; rename all but one of them, or leave them out.")
        return table, "frame"
    y = _unmasked(y)
    if isinstance(y, pd.Series | pd.Index | pd.api.extensions.ExtensionArray):
        series = pd.Series(y).reset_index(drop=True)
        return series.to_frame("y" if series.name is None else factor_name(series.name)), "vector"
    y = np.asarray(y)
    if y.ndim == 1:
        return pd.DataFrame({"y": y}), "vector"
    if y.ndim == 2 and y.shape[1] == 1:
        return pd.DataFrame({"y": y[:, 0]}), "matrix"
    if y.ndim == 2:
        return pd.DataFrame({f"factor{j}": y[:, j] for j in range(y.shape[1])}), "matrix"
    raise ValueError(f"y must be a DataFrame or an array of shape (N, F) or (N,); got an array of {y.ndim} dimensions.")


def factor_name(name: object) -> str:
    """Return the name of a column as text; the levels of a name in a pandas MultiIndex are joined by underscores."""
    return "_".join(map(str, name)) if isinstance(name, tuple) else str(name)


def _unmasked(labels: Any) -> Any:
    """Return a masked array as a plain one, in which masked labels are None; and others unchanged."""
    if not isinstance(labels, np.ma.MaskedArray):
        return labels
    if not np.ma.is_masked(labels):
        return np.asarray(labels.data)
    plain = labels.data.astype(object)
    plain[np.ma.getmaskarray(labels)] = None
    return plain


def checked_cells(X, y, donor=None) -> tuple[Any, pd.DataFrame]:
    """Return expression and labels of the same cells, in the forms that the package works on.

    Parameters
    ----------
    X
        Expression, N x p, in any form; see :func:`flda._data.entry.matrix`.
    y
        Labels, N rows, in any form.
    donor
        Donors, whose order is compared with that of y if both name the cells.

    Raises
    ------
    ValueError
        If X is not a numeric matrix, or X, y and donors are not of the same cells in the same order.
    """
    labels = label_frame(y)[0]
    check_same_cells(X, y, donor)
    X = entry.matrix(X)
    if X.shape[0] != len(labels):
        raise ValueError(f"X has {X.shape[0]} cells and y has {len(labels)} rows; they must match.")
    return X, labels


def check_same_cells(X, y, donor=None, names: tuple[str, str] = ("X", "y")) -> None:
    """Refuse X, y and donors that name the same cells in different orders."""
    entry.check_rows(X, y, names)
    entry.check_rows(y, donor, (names[1], "groups (donors)"))


def donor_codes(groups, n_cells: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the donor of each cell as an integer, and the names of the donors; both are None without donors."""
    if groups is None:
        return None, None
    donors = np.asarray(_unmasked(groups))
    if donors.ndim == 2 and donors.shape[1] == 1:  # a table of one column
        donors = donors[:, 0]
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
