"""Pairs of neurons that touch, and sums over them without their Kronecker products.

======================  ==============================================================================================
X (n x p), Y (m x q)    genes of the presynaptic and of the postsynaptic neurons (or types); Y is X for one population
B (n x m)               connections
C (n x m)               contacts: 1 where the neurons touch, or non-negative weights of the squared errors
O (p x q)               rules: B is modelled as X O Y' where C > 0
======================  ==============================================================================================

The regressors of O are the rows ``x_i kron y_j`` of a matrix with a row per pair. Only sums over these are formed::

    sum_ij c_ij (x_i kron y_j)(x_i kron y_j)'  =  [x_ia x_ia']' C [y_jb y_jb'],  reordered

which costs n m p^2 instead of n m p^2 q^2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata


@dataclass(frozen=True)
class Pairs:
    """Checked genes, connections and contacts; see the module for the symbols."""

    X: np.ndarray
    Y: np.ndarray
    B: np.ndarray
    C: np.ndarray
    undirected: bool
    genes: tuple[pd.Index, pd.Index]

    @property
    def touching(self) -> np.ndarray:
        """``(n, m)``: which pairs count."""
        return self.C > 0

    @property
    def binary(self) -> bool:
        """Whether connections are there or not, without a strength."""
        return bool(np.isin(self.B[self.touching], (0, 1)).all())

    def replace(self, **changes: np.ndarray) -> Pairs:
        """The same pairs with other genes, connections or contacts."""
        fields = {name: changes.get(name, getattr(self, name)) for name in ("X", "Y", "B", "C")}
        return Pairs(**fields, undirected=self.undirected, genes=self.genes)


def check_pairs(X: Any, B: Any, Y: Any, contact: Any, *, directed: bool) -> Pairs:
    """Arrays that belong together, or a ValueError that says what does not.

    DataFrames are matched by name: rows of X with rows of B and contact, rows of Y (or X) with their columns.
    """
    pre, genes_pre, names_pre = _genes(X, "X")
    post, genes_post, names_post = (pre, genes_pre, names_pre) if Y is None else _genes(Y, "Y")
    wanted = (len(pre), len(post))
    links = _matrix(B, "B", wanted, names_pre, names_post)
    touch = np.ones(wanted) if contact is None else _matrix(contact, "contact", wanted, names_pre, names_post)
    if (touch < 0).any():
        row, col = np.argwhere(touch < 0)[0]
        raise ValueError(f"contact is {touch[row, col]:g} in row {row}, column {col}; it must not be negative.")
    if not (touch > 0).any():
        raise ValueError("contact is zero everywhere: no pair of neurons is left to learn from.")
    undirected = Y is None and not directed
    if undirected:
        for what, values in (("B", links), ("contact", touch)):
            skew = values != values.T
            if skew.any():
                i, j = np.argwhere(skew)[0]
                raise ValueError(
                    f"{what} is not symmetric: {values[i, j]:g} in row {i}, column {j}, but {values[j, i]:g} in row "
                    f"{j}, column {i}. Set directed=True for directed connections."
                )
    outside = (links != 0) & (touch == 0)
    if outside.any():
        row, col = np.argwhere(outside)[0]
        raise ValueError(
            f"{int(outside.sum())} connections are between neurons without contact, the first in row {row}, column "
            f"{col}; every connection needs a contact."
        )
    inside = links[touch > 0]
    if (inside == inside[0]).all():
        raise ValueError(
            f"all {len(inside)} pairs in contact have the same connection, {inside[0]:g}: nothing to learn."
        )
    return Pairs(pre, post, links, touch, undirected, (genes_pre, genes_post))


def _genes(X: Any, what: str) -> tuple[np.ndarray, pd.Index, pd.Index | None]:
    """Values ``(n, p)``, names of the columns, and names of the rows if there are any."""
    names = X.index if isinstance(X, pd.DataFrame) else None
    genes = X.columns if isinstance(X, pd.DataFrame) else None
    values = np.asarray(X, dtype=float)
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"{what} has shape {values.shape}; it needs a row per neuron and a column per gene.")
    if names is not None and not names.is_unique:
        raise ValueError(f"{names[names.duplicated()][0]!r} occurs twice in the rows of {what}; keep one.")
    bad = ~np.isfinite(values)
    if bad.any():
        row, col = np.argwhere(bad)[0]
        raise ValueError(f"{what} holds {int(bad.sum())} NaN or infinite values, the first in row {row}, column {col}.")
    return values, pd.RangeIndex(values.shape[1]) if genes is None else genes, names


def _matrix(
    values: Any, what: str, shape: tuple[int, int], rows: pd.Index | None, columns: pd.Index | None
) -> np.ndarray:
    """A matrix over pairs in the order of the genes' rows."""
    if isinstance(values, pd.DataFrame) and rows is not None and columns is not None:
        for side, have, need in (("rows", values.index, rows), ("columns", values.columns, columns)):
            if not have.is_unique:
                raise ValueError(f"{have[have.duplicated()][0]!r} occurs twice in the {side} of {what}; keep one.")
            lacking, extra = need.difference(have), have.difference(need)
            if len(lacking) or len(extra):
                name, where = (lacking[0], "genes only") if len(lacking) else (extra[0], f"the {side} of {what} only")
                raise ValueError(
                    f"{len(lacking) + len(extra)} neurons are on one side only, such as {name!r} (in {where}): "
                    f"genes and {what} must have the same names; keep those that both have."
                )
        values = values.loc[rows, columns]
    array = np.asarray(values, dtype=float)
    if array.shape != shape:
        raise ValueError(f"{what} has shape {array.shape}; {shape[0]} x {shape[1]} neurons need {shape}.")
    bad = ~np.isfinite(array)
    if bad.any():
        row, col = np.argwhere(bad)[0]
        raise ValueError(f"{what} holds {int(bad.sum())} NaN or infinite values, the first in row {row}, column {col}.")
    return array


def class_codes(pairs: Pairs, classes: Any, classes_post: Any) -> tuple[np.ndarray, np.ndarray]:
    """Class of every presynaptic and postsynaptic neuron as integers."""
    if pairs.Y is pairs.X:
        classes_post = classes
    elif classes_post is None:
        raise ValueError("classes need classes_post too when the postsynaptic neurons are others.")
    codes = []
    for what, values, n in (("classes", classes, len(pairs.X)), ("classes_post", classes_post, len(pairs.Y))):
        labels = pd.Series(np.asarray(values), dtype=object)
        if len(labels) != n or labels.isna().any():
            raise ValueError(
                f"{what} must name the class of each of {n} neurons; {len(labels)} given, "
                f"{int(labels.isna().sum())} of them missing."
            )
        codes.append(pd.factorize(labels)[0])
    return codes[0], codes[1]


def class_means(genes: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """``(n_classes, p)``: mean profile of every class."""
    sums = np.zeros((codes.max() + 1, genes.shape[1]))
    np.add.at(sums, codes, genes)
    return sums / np.bincount(codes)[:, None]


def row_products(X: np.ndarray) -> np.ndarray:
    """``(n, p * p)``: the products of all pairs of columns."""
    return (X[:, :, None] * X[:, None, :]).reshape(len(X), -1)


def kronecker_gram(X: np.ndarray, Y: np.ndarray, C: np.ndarray, *, summed: np.ndarray | None = None) -> np.ndarray:
    """``(p q, p q)``: sum of ``c_ij (x_i kron y_j)(x_i kron y_j)'``; ``summed``: ``row_products(X)' C``."""
    p, q = X.shape[1], Y.shape[1]
    left = row_products(X).T @ C if summed is None else summed
    return (left @ row_products(Y)).reshape(p, p, q, q).transpose(0, 2, 1, 3).reshape(p * q, p * q)


def symmetric_basis(p: int) -> np.ndarray:
    """Orthonormal basis ``(p * p, p (p + 1) / 2)`` of the symmetric p x p matrices."""
    i, j = np.triu_indices(p)
    basis = np.zeros((p, p, len(i)))
    value = np.where(i == j, 1.0, np.sqrt(0.5))
    basis[i, j, np.arange(len(i))] = value
    basis[j, i, np.arange(len(i))] = value
    return basis.reshape(p * p, -1)


def row_space(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``U (n, r)`` and orthonormal ``V (p, r)`` with ``X = U V'``: what a ridge on the rules can see of the genes."""
    if X.shape[1] <= len(X):
        return X, np.eye(X.shape[1])
    u, s, vt = np.linalg.svd(X, full_matrices=False)
    keep = s > s[0] * max(X.shape) * np.finfo(float).eps if s[0] > 0 else np.arange(len(s)) < 1
    return u[:, keep] * s[keep], vt[keep].T


def agreement(predicted: np.ndarray, true: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Area under the ROC curve for connections that are 0 or 1, else the Pearson correlation; NaN where undefined."""
    weights = np.ones(len(true)) if weights is None else weights
    keep = weights > 0
    predicted, true, weights = predicted[keep], true[keep], weights[keep]
    if len(true) < 2 or (true == true[0]).all():
        return np.nan
    if np.isin(true, (0, 1)).all():
        return _auc(predicted, true == 1, weights)
    centred = [v - np.average(v, weights=weights) for v in (predicted, true)]
    norm = np.sqrt(np.prod([np.sum(weights * v**2) for v in centred]))
    return float(np.sum(weights * centred[0] * centred[1]) / norm) if norm > 0 else 0.0


def _auc(predicted: np.ndarray, true: np.ndarray, weights: np.ndarray) -> float:
    """Weighted probability that a connected pair has the larger prediction, ties counting one half."""
    rank = rankdata(predicted, method="dense").astype(int) - 1
    there = np.bincount(rank, weights * true)
    absent = np.bincount(rank, weights * ~true, minlength=len(there))
    below = np.cumsum(absent) - absent
    return float(np.sum(there * (below + absent / 2)) / (there.sum() * absent.sum()))
