"""Continuous covariates: numbers that differ from cell to cell, and enter the fit as columns without axes.

The fit of the cells is ``x_i = g_c(i) + Gamma' z_i + error``, with q columns z_i of the covariates (N x q in all) and
their slopes Gamma (q x p). Every column has mean zero and standard deviation one over the cells, so a slope is the
change of expression per standard deviation, and g_c is the mean of group c at the mean of the covariates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .effects import Effect
from .labels import MAX_NUMERIC_LEVELS, encode
from .trends import numeric_parts, values_of


@dataclass(frozen=True)
class Covariates:
    """The columns of the covariates.

    Attributes
    ----------
    values
        The columns Z of the cells, N x q.
    columns
        Effect -> its columns. A covariate of degree two has an effect for each degree, such as ``("age.linear",)``.
    """

    values: np.ndarray
    columns: Mapping[Effect, slice]

    def subset(self, cells: np.ndarray) -> Covariates:
        """Return the covariates of some of the cells, in the same units."""
        return Covariates(self.values[cells], self.columns)

    def rows(self, effect: Effect) -> np.ndarray:
        """Return the rows of the identity that pick the slopes of one effect, df x q."""
        return np.eye(self.values.shape[1])[self.columns[effect]]


def is_covariate(column: pd.Series) -> bool:
    """Return whether a nuisance column that is called numeric has too many values for groups.

    In small data, such as the training cells of a fold, a third of the cells is too many.
    """
    return column.nunique() > min(MAX_NUMERIC_LEVELS, len(column) // 3)


def variation(Z: np.ndarray, columns: Mapping[Effect, slice], explained: np.ndarray) -> dict[Effect, float]:
    """Return the share of the variance of each covariate that other columns leave.

    Parameters
    ----------
    Z, columns
        The covariates, N x q, and the columns of each.
    explained
        Columns that explain covariates, N x m, such as indicators of groups.
    """
    Q = np.linalg.qr(explained)[0]
    Y, out = Z - Q @ (Q.T @ Z), {}
    for effect, own in columns.items():
        rest = np.delete(Y, np.r_[own], axis=1)
        left = Y[:, own] - rest @ np.linalg.lstsq(rest, Y[:, own], rcond=None)[0]
        out[effect] = float(np.sum(left**2) / np.sum(Z[:, own] ** 2))
    return out


def make_covariates(labels: pd.DataFrame, kinds: Mapping[str, int | str]) -> Covariates | None:
    """Return the covariates of a table with one column for each of them, or None if there are none.

    Parameters
    ----------
    labels
        The columns, one row per cell.
    kinds
        Name -> degree of its polynomial, or ``"spline"``.

    Raises
    ------
    ValueError
        If a value is missing or not finite, or a kind cannot be fitted.
    """
    blocks, columns, first = [], {}, 0
    for name in labels.columns:
        codes, levels = encode(labels[name], called_numeric=True)
        if kinds[name] == "trend":
            raise ValueError(
                f"numeric={{{name!r}: 'trend'}}: {name!r} has {len(levels)} distinct values and is nuisance, so it is "
                "a covariate; use a degree or 'spline'."
            )
        for part, found in numeric_parts(name, values_of(name, levels, ordered=False), kinds[name]).items():
            block = found.basis[codes]
            block = block - block.mean(axis=0)
            blocks.append(block / np.sqrt(np.mean(block**2, axis=0)))
            columns[Effect((part,))] = slice(first, first + block.shape[1])
            first += block.shape[1]
    return Covariates(np.hstack(blocks), columns) if blocks else None
