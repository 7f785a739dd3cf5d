"""Pairs of neurons in contact, listed, and sums over them without Kronecker products.

======================  =============================================================================================
X (n x p), Y (m x q)    genes of the presynaptic and the postsynaptic neurons (or types); Y is X for one population
B (n x m)               connections
C (n x m)               contacts: 1 where neurons touch, or non-negative weights of the squared errors
O (p x q)               rules: B is modelled as X O Y' where C > 0
======================  =============================================================================================

Only pairs with C > 0 are stored, so time and memory grow with the number of pairs in contact. The regressors that
belong to O are the rows ``x_i kron y_j`` of a matrix with one row per pair. This matrix is never formed, only sums over
its rows::

    sum_ij c_ij (x_i kron y_j)(x_i kron y_j)'  =  [x_ia x_ia']' C [y_jb y_jb'],  reordered

which costs n m p^2 operations instead of n m p^2 q^2, and with few contacts less.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.stats import rankdata

DENSE_SHARE = 0.3  # share of pairs in contact from which a dense matrix is faster
BLOCK = 4e6  # numbers held in memory at once
CACHED = 1e5  # numbers that a processor keeps close


@dataclass(frozen=True)
class Pairs:
    """Checked genes, and the pairs in contact, by row: row i, column j, connection b, contact c.

    The module's docstring defines the symbols. Undirected pairs are listed in both directions.
    """

    X: np.ndarray
    Y: np.ndarray
    i: np.ndarray
    j: np.ndarray
    b: np.ndarray
    c: np.ndarray
    undirected: bool
    genes: tuple[pd.Index, pd.Index]

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of presynaptic and of postsynaptic neurons."""
        return len(self.X), len(self.Y)

    @property
    def same(self) -> bool:
        """Whether both sides are the same neurons."""
        return self.Y is self.X

    @property
    def binary(self) -> bool:
        """Whether all connections are 0 or 1."""
        return bool(np.isin(self.b, (0, 1)).all())

    @property
    def few(self) -> bool:
        """Whether so few pairs touch that sparse matrices are used."""
        return len(self.i) < DENSE_SHARE * self.shape[0] * self.shape[1]

    @property
    def once(self) -> np.ndarray:
        """Mask in which a pair of an undirected network occurs once, not in both directions."""
        return self.i <= self.j if self.undirected else np.ones(len(self.i), dtype=bool)

    @cached_property
    def mirror(self) -> np.ndarray:
        """Position of the same pair in the other direction, for an undirected network."""
        return np.lexsort((self.i, self.j))  # sorted by column: the order of the mirrored list

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(np.bincount(self.i, minlength=len(self.X)))])

    def matrix(self, values: np.ndarray) -> Any:
        """Values of the pairs as a matrix ``(n, m)``: sparse if few pairs touch."""
        if self.few:
            return sp.csr_array((values, self.j, self._starts), shape=self.shape)
        full = np.zeros(self.shape)
        full[self.i, self.j] = values
        return full

    def at(self, U: np.ndarray, V: np.ndarray) -> np.ndarray:
        """Entries of ``U V'`` at the pairs, for U ``(n, d)`` and V ``(m, d)``."""
        if not self.few:
            return (U @ V.T)[self.i, self.j]
        out = np.empty(len(self.i))
        step = max(1, int(CACHED // U.shape[1]))
        for k in range(0, len(out), step):
            part = slice(k, k + step)
            out[part] = np.einsum("ed,ed->e", U[self.i[part]], V[self.j[part]])
        return out

    def keep(self, mask: np.ndarray) -> Pairs:
        """Some of the pairs."""
        return self.replace(i=self.i[mask], j=self.j[mask], b=self.b[mask], c=self.c[mask])

    def replace(self, **changes: Any) -> Pairs:
        """The same pairs with other genes, connections or contacts."""
        return replace(self, **changes)


def check_pairs(X: Any, B: Any, Y: Any, contact: Any, *, directed: bool) -> Pairs:
    """Genes, connections and contacts that fit together, as arrays; a ValueError names what does not fit.

    DataFrames are matched by name: the rows of X with the rows of B and contact, the rows of Y (or X) with their
    columns. With sparse contacts nothing of size n x m is formed.
    """
    pre, genes_pre, names_pre = _genes(X, "X")
    post, genes_post, names_post = (pre, genes_pre, names_pre) if Y is None else _genes(Y, "Y")
    wanted = (len(pre), len(post))
    undirected = Y is None and not directed
    if sp.issparse(contact):
        names = (names_pre, names_post) if isinstance(B, pd.DataFrame) else (None, None)
        links = B if sp.issparse(B) else _matrix(B, "B", wanted, *names)
        listed = _listed_sparse(links, contact, wanted, undirected)
    else:
        links = _matrix(B, "B", wanted, names_pre, names_post)
        touch = np.ones(wanted) if contact is None else _matrix(contact, "contact", wanted, names_pre, names_post)
        listed = _listed_dense(links, touch, undirected)
    b = listed[2]
    if (b == b[0]).all():
        raise ValueError(f"B is {b[0]:g} for all {len(b)} pairs in contact; rules need connections that differ.")
    return Pairs(pre, post, *listed, undirected, (genes_pre, genes_post))


Listed = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _listed_dense(links: np.ndarray, touch: np.ndarray, undirected: bool) -> Listed:
    """Rows, columns, connections and contacts of the pairs in contact, of checked arrays."""
    if (touch < 0).any():
        row, col = np.argwhere(touch < 0)[0]
        raise ValueError(f"contact is {touch[row, col]:g} in row {row}, column {col}; contacts must not be negative.")
    if not (touch > 0).any():
        raise ValueError("contact is zero everywhere, so there is no pair of neurons to fit; check contact.")
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
        _refuse_outside(int(outside.sum()), *np.argwhere(outside)[0])
    i, j = np.nonzero(touch > 0)
    return i, j, links[i, j], touch[i, j]


def _listed_sparse(B: Any, contact: Any, shape: tuple[int, int], undirected: bool) -> Listed:
    """The same from sparse contacts."""
    touch, links = _sparse(contact, "contact", shape), _sparse(B, "B", shape)
    if touch.nnz and touch.data.min() < 0:
        raise ValueError("contact holds negative values; contacts must not be negative.")
    if touch.nnz == 0:
        raise ValueError("contact is zero everywhere, so there is no pair of neurons to fit; check contact.")
    if undirected:
        for what, values in (("B", links), ("contact", touch)):
            skew = sp.coo_array(values - values.T)
            if skew.nnz and np.abs(skew.data).max() > 0:
                k = int(np.abs(skew.data).argmax())
                raise ValueError(
                    f"{what} is not symmetric in row {skew.row[k]}, column {skew.col[k]}; set directed=True if the two "
                    "directions differ."
                )
    pairs, linked = sp.coo_array(touch), sp.coo_array(links)  # both sorted by row, then by column
    key, where = (m.row.astype(np.int64) * shape[1] + m.col for m in (pairs, linked))
    at = np.minimum(np.searchsorted(key, where), len(key) - 1)
    outside = key[at] != where
    if outside.any():
        k = int(np.flatnonzero(outside)[0])
        _refuse_outside(int(outside.sum()), linked.row[k], linked.col[k])
    b = np.zeros(len(key))
    b[at] = linked.data
    return pairs.row, pairs.col, b, pairs.data


def _refuse_outside(n: int, row: int, col: int) -> None:
    raise ValueError(
        f"{n} connections are between neurons without contact, the first in row {row}, column {col}; correct B or "
        "contact."
    )


def _sparse(values: Any, what: str, shape: tuple[int, int]) -> sp.csr_array:
    matrix = sp.csr_array(values).astype(float)
    if matrix.shape != shape:
        raise ValueError(f"{what} has shape {matrix.shape}; {shape[0]} x {shape[1]} neurons need {shape}.")
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    if matrix.nnz and not np.isfinite(matrix.data).all():
        raise ValueError(f"{what} holds NaN or infinite values; use 0 for pairs without a connection.")
    return matrix


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


def pair_products(X: np.ndarray) -> np.ndarray:
    """Products of all unordered pairs of columns, ``(n, p (p + 1) / 2)``."""
    a, b = np.triu_indices(X.shape[1])
    return X[:, a] * X[:, b]


def _position(p: int) -> np.ndarray:
    """Column of :func:`pair_products` that holds the product of two columns, ``(p, p)``."""
    a, b = np.triu_indices(p)
    out = np.empty((p, p), dtype=np.intp)
    out[a, b] = out[b, a] = np.arange(len(a))
    return out


def kronecker_gram(X: np.ndarray, Y: np.ndarray, C: Any, *, summed: np.ndarray | None = None) -> np.ndarray:
    """The sum of ``c_ij (x_i kron y_j)(x_i kron y_j)'`` over pairs, ``(p q, p q)``, for C dense or sparse.

    ``summed`` is ``pair_products(X)' C``, if it is known already.
    """
    p, q = X.shape[1], Y.shape[1]
    right = pair_products(Y)
    if summed is None:
        total = np.zeros((p * (p + 1) // 2, right.shape[1]))
        step = max(1, int(BLOCK // max(total.shape)))
        for start in range(0, len(X), step):
            rows = slice(start, start + step)
            total += pair_products(X[rows]).T @ (C[rows] @ right)
    else:
        total = summed @ right
    # the sum is indexed (a, a', b, b'), and Kronecker order is (a, b, a', b')
    full = total[_position(p)[:, :, None, None], _position(q)[None, None]]
    return full.transpose(0, 2, 1, 3).reshape(p * q, p * q)


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


class Agreement:
    """Area under the ROC curve for connections of 0 and 1, else the Pearson correlation; NaN if undefined."""

    def __init__(self, predicted: np.ndarray, true: np.ndarray) -> None:
        self.predicted, self.true = predicted, true
        self.binary = bool(np.isin(true, (0, 1)).all())
        if self.binary:  # ranks do not depend on weights
            self.rank = rankdata(predicted, method="dense").astype(int) - 1

    def score(self, weights: np.ndarray | None = None) -> float:
        """The agreement, with weights of the pairs."""
        weights = np.ones(len(self.true)) if weights is None else weights
        kept = self.true[weights > 0]
        if len(kept) < 2 or (kept == kept[0]).all():
            return np.nan
        if self.binary:
            return self._auc(weights)
        centred = [v - np.average(v, weights=weights) for v in (self.predicted, self.true)]
        norm = np.sqrt(np.prod([np.sum(weights * v**2) for v in centred]))
        return float(np.sum(weights * centred[0] * centred[1]) / norm) if norm > 0 else 0.0

    def _auc(self, weights: np.ndarray) -> float:
        """Weighted probability that a connected pair is predicted larger than an unconnected one; ties count half."""
        connected = np.bincount(self.rank, weights * self.true)  # weight of connected pairs at each prediction
        absent = np.bincount(self.rank, weights * (1 - self.true))
        below = np.cumsum(absent) - absent
        return float(np.sum(connected * (below + absent / 2)) / (connected.sum() * absent.sum()))


def agreement(predicted: np.ndarray, true: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Agreement of predicted and true connections; see :class:`Agreement`."""
    return Agreement(predicted, true).score(weights)
