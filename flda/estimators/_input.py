"""X in all the forms that users have it."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import _check_n_features, validate_data

from .._data import arrays
from .._data.device import OnDevice, wrap


def checked_matrix(estimator: BaseEstimator, X: Any, *, reset: bool) -> Any:
    """X as a matrix that the package works on; values are checked later, in the pass that sums them.

    Parameters
    ----------
    estimator
        Gets ``n_features_in_`` and ``feature_names_in_`` if ``reset``, else must have them.
    X
        N x p, of any kind. A sparse matrix whose entries are not sorted, or hold duplicates, is copied: the caller's
        stays as it is.
    reset
        Whether this is a fit.
    """
    X = wrap(X)
    if isinstance(X, arrays.Stream | OnDevice) or arrays.is_dask(X):
        if X.ndim != 2 or X.dtype.kind not in "fiub":
            raise ValueError(f"X must be a numeric matrix; got {X.ndim} dimensions of {X.dtype}.")
        _check_n_features(estimator, X, reset=reset)
        return X
    X = validate_data(
        estimator, X, reset=reset, accept_sparse=("csr", "csc"), dtype=(np.float64, np.float32),
        ensure_all_finite=False, ensure_min_samples=1,
    )  # fmt: skip
    return arrays.canonical(X)  # sorted once, not in every pass
