"""Pairs of neurons in contact, and sums over them without Kronecker products.

======================  =============================================================================================
X (n x p), Y (m x q)    genes of the presynaptic and the postsynaptic neurons (or types); Y is X for one population
B (n x m)               connections
C (n x m)               contacts: 1 where neurons touch, or non-negative weights of the squared errors
O (p x q)               rules: B is modelled as X O Y' where C > 0
======================  =============================================================================================

The regressors that belong to O are the rows ``x_i kron y_j`` of a matrix with one row per pair. This matrix is never
formed, only sums over its rows::

    sum_ij c_ij (x_i kron y_j)(x_i kron y_j)'  =  [x_ia x_ia']' C [y_jb y_jb'],  reordered

which costs n m p^2 operations instead of n m p^2 q^2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.stats import rankdata


@dataclass(frozen=True)
class Pairs:
    """Checked genes, connections and contacts; the module's docstring defines the symbols."""

    X: np.ndarray
    Y: np.ndarray
    B: np.ndarray
    C: np.ndarray
    undirected: bool
    genes: tuple[pd.Index, pd.Index]

    @property
    def touching(self) -> np.ndarray:
        """Which pairs are in contact, ``(n, m)``."""
        return self.C > 0

    @property
    def binary(self) -> bool:
        """Whether all connections are 0 or 1."""
        return bool(np.isin(self.B[self.touching], (0, 1)).all())

    def replace(self, **changes: np.ndarray) -> Pairs:
        """The same pairs with other genes, connections or contacts."""
        fields = {name: changes.get(name, getattr(self, name)) for name in ("X", "Y", "B", "C")}
        return Pairs(**fields, undirected=self.undirected, genes=self.genes)


def check_pairs(X: Any, B: Any, Y: Any, contact: Any, *, directed: bool) -> Pairs:
    """Genes, connections and contacts that fit together, as arrays; a ValueError names what does not fit.

    DataFrames are matched by name: the rows of X with the rows of B and contact, the rows of Y (or X) with their
    columns.
    """
    pre, genes_pre, names_pre = _genes(X, "X")
    post, genes_post, names_post = (pre, genes_pre, names_pre) if Y is None else _genes(Y, "Y")
    wanted = (len(pre), len(post))
    links = _matrix(B, "B", wanted, names_pre, names_post)
    touch = np.ones(wanted) if contact is None else _matrix(contact, "contact", wanted, names_pre, names_post)
    if (touch < 0).any():
        row, col = np.argwhere(touch < 0)[0]
        raise ValueError(f"contact is {touch[row, col]:g} in row {row}, column {col}; contacts must not be negative.")
    if not (touch > 0).any():
        raise ValueError("contact is zero everywhere, so there is no pair of neurons to fit; check contact.")
    undirected = Y is None and not directed
    if undirected:
        for what, values in (("B", links), ("contact", touch)):
            skew = values != values.T
            if skew.any():
                i, j = np.argwhere(skew)[0]
                raise ValueError(
                    f"{what} is not symmetric: {values[i, j]:g} in row {i}, column {j}, but {values[j, i]:g} in row "
                    f"{j}, column {i}; set directed=True if the two directions differ."
                )
    outside = (links != 0) & (touch == 0)
    if outside.any():
        row, col = np.argwhere(outside)[0]
        raise ValueError(
            f"{int(outside.sum())} connections are between neurons without contact, the first in row {row}, column "
            f"{col}; correct B or contact."
        )
    inside = links[touch > 0]
    if (inside == inside[0]).all():
        raise ValueError(
            f"B is {inside[0]:g} for all {len(inside)} pairs in contact; rules need connections that differ."
        )
    return Pairs(pre, post, links, touch, undirected, (genes_pre, genes_post))


def _genes(X: Any, what: str) -> tuple[np.ndarray, pd.Index, pd.Index | None]:
    """Values ``(n, p)``, names of the genes, and names of the neurons or None."""
    names = X.index if isinstance(X, pd.DataFrame) else None
    genes = X.columns if isinstance(X, pd.DataFrame) else None
    values = np.asarray(X, dtype=float)
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"{what} has shape {values.shape}; it needs one row per neuron and one column per gene.")
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
    """Values of all pairs ``(n, m)``, with rows and columns in the order of the genes' rows."""
    if isinstance(values, pd.DataFrame) and rows is not None and columns is not None:
        for side, have, need in (("rows", values.index, rows), ("columns", values.columns, columns)):
            if not have.is_unique:
                raise ValueError(f"{have[have.duplicated()][0]!r} occurs twice in the {side} of {what}; keep one.")
            lacking, extra = need.difference(have), have.difference(need)
            if len(lacking) or len(extra):
                name, where = (lacking[0], "the genes") if len(lacking) else (extra[0], f"the {side} of {what}")
                raise ValueError(
                    f"{len(lacking) + len(extra)} neurons are not in both the genes and the {side} of {what}, such as "
                    f"{name!r} (only in {where}); keep the neurons that both have."
                )
        values = values.loc[rows, columns]
    array = np.asarray(values.toarray() if sp.issparse(values) else values, dtype=float)
    if array.shape != shape:
        raise ValueError(f"{what} has shape {array.shape}; {shape[0]} x {shape[1]} neurons need {shape}.")
    bad = ~np.isfinite(array)
    if bad.any():
        row, col = np.argwhere(bad)[0]
        raise ValueError(f"{what} holds {int(bad.sum())} NaN or infinite values, the first in row {row}, column {col}.")
    return array


def class_codes(pairs: Any, classes: Any, classes_post: Any) -> tuple[np.ndarray, np.ndarray]:
    """Class of every presynaptic and postsynaptic neuron as integers."""
    if pairs.Y is pairs.X:
        classes_post = classes
    elif classes_post is None:
        raise ValueError("classes were given without classes_post; pass the classes of the postsynaptic neurons too.")
    codes = []
    for what, values, n in (("classes", classes, len(pairs.X)), ("classes_post", classes_post, len(pairs.Y))):
        labels = pd.Series(np.asarray(values), dtype=object)
        if len(labels) != n or labels.isna().any():
            raise ValueError(
                f"{what} must have a class for each of the {n} neurons; it has {len(labels)} entries, of which "
                f"{int(labels.isna().sum())} are missing."
            )
        codes.append(pd.factorize(labels)[0])
    return codes[0], codes[1]


def class_means(genes: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Mean profile of every class, ``(n_classes, p)``."""
    sums = np.zeros((codes.max() + 1, genes.shape[1]))
    np.add.at(sums, codes, genes)
    return sums / np.bincount(codes)[:, None]


def row_products(X: np.ndarray) -> np.ndarray:
    """Products of all pairs of columns, ``(n, p * p)``."""
    return (X[:, :, None] * X[:, None, :]).reshape(len(X), -1)


def kronecker_gram(X: np.ndarray, Y: np.ndarray, C: np.ndarray, *, summed: np.ndarray | None = None) -> np.ndarray:
    """The sum of ``c_ij (x_i kron y_j)(x_i kron y_j)'`` over pairs, ``(p q, p q)``.

    ``summed`` is ``row_products(X)' C``, if it is known already.
    """
    p, q = X.shape[1], Y.shape[1]
    left = row_products(X).T @ C if summed is None else summed
    # the product is indexed (a, a', b, b'), and Kronecker order is (a, b, a', b')
    return (left @ row_products(Y)).reshape(p, p, q, q).transpose(0, 2, 1, 3).reshape(p * q, p * q)


def symmetric_basis(p: int) -> np.ndarray:
    """Orthonormal basis of the symmetric p x p matrices, ``(p * p, p (p + 1) / 2)``."""
    i, j = np.triu_indices(p)
    basis = np.zeros((p, p, len(i)))
    value = np.where(i == j, 1.0, np.sqrt(0.5))
    basis[i, j, np.arange(len(i))] = value
    basis[j, i, np.arange(len(i))] = value
    return basis.reshape(p * p, -1)


def row_space(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``U (n, r)`` and orthonormal ``V (p, r)`` with ``X = U V'``.

    Rules with a squared penalty have no part outside the row space of the genes, so with more genes than neurons it
    suffices to fit them to U.
    """
    if X.shape[1] <= len(X):
        return X, np.eye(X.shape[1])
    u, s, vt = np.linalg.svd(X, full_matrices=False)
    # singular values at the level of rounding errors belong to dependent genes
    keep = s > s[0] * max(X.shape) * np.finfo(float).eps if s[0] > 0 else np.arange(len(s)) < 1
    return u[:, keep] * s[keep], vt[keep].T


def agreement(predicted: np.ndarray, true: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Area under the ROC curve for connections of 0 and 1, else the Pearson correlation; NaN if undefined."""
    weights = np.ones(len(true)) if weights is None else weights
    keep = weights > 0
    predicted, true, weights = predicted[keep], true[keep], weights[keep]
    if len(true) < 2 or (true == true[0]).all():
        return np.nan
    if np.isin(true, (0, 1)).all():
        return _auc(predicted, true == 1, weights)
    # weighted Pearson correlation
    centred = [v - np.average(v, weights=weights) for v in (predicted, true)]
    norm = np.sqrt(np.prod([np.sum(weights * v**2) for v in centred]))
    return float(np.sum(weights * centred[0] * centred[1]) / norm) if norm > 0 else 0.0


def _auc(predicted: np.ndarray, true: np.ndarray, weights: np.ndarray) -> float:
    """Weighted probability that a connected pair has a larger prediction than an unconnected one; ties count half."""
    rank = rankdata(predicted, method="dense").astype(int) - 1
    connected = np.bincount(rank, weights * true)  # weight of the connected pairs at each value of the prediction
    absent = np.bincount(rank, weights * ~true, minlength=len(connected))
    below = np.cumsum(absent) - absent
    return float(np.sum(connected * (below + absent / 2)) / (connected.sum() * absent.sum()))
