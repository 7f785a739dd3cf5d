"""Conversion of X from every form that users have it in."""

from __future__ import annotations

from typing import Any

import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import _check_n_features, validate_data

from .._data import arrays, entry


def row_names(X) -> pd.Index | None:
    """Return the index of a DataFrame, and None for other data, such as a list, whose ``index`` is a method."""
    index = getattr(X, "index", None)
    return index if isinstance(index, pd.Index) else None


def checked_matrix(estimator: BaseEstimator, X: Any, *, reset: bool) -> Any:
    """Return X as a matrix that the package can work on; its values are checked later, in the pass that sums them.

    Parameters
    ----------
    estimator
        The estimator. With ``reset`` its ``n_features_in_`` and ``feature_names_in_`` are set, and otherwise X is
        checked against them.
    X
        Expression, N x p, of any kind. A sparse matrix with unsorted or duplicate entries is copied, so that the matrix
        of the caller does not change.
    reset
        Whether X is the input of a fit.

    Raises
    ------
    ValueError
        If X is not a numeric matrix, or does not have the columns of the fit.
    """
    X = entry.known(X)
    if entry.is_lazy(X):
        entry.check_lazy(X)
        _check_n_features(estimator, X, reset=reset)
        return X
    with entry.one_sentence("X"):
        X = validate_data(
            estimator, X, reset=reset, accept_sparse=("csr", "csc"), dtype=entry.MATRIX_TYPES, ensure_all_finite=False,
            ensure_min_samples=1,
        )  # fmt: skip
    return arrays.canonical(X)  # here once, instead of in every pass
