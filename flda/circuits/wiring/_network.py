"""Pairs in contact as a list, for networks too large for a matrix of all pairs, and their expected connections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.special import expit

from ._nulls import MaximumEntropy, warn_of_gap
from ._pairs import _genes, check_pairs

MAX_DENSE = 1500  # neurons on both sides up to which linear systems are solved directly
DENSE_SHARE = 0.3  # share of pairs in contact from which a dense matrix is faster


@dataclass(frozen=True)
class Network:
    """Genes of both sides, and the pairs in contact: row i, column j, connection b. Both directions if undirected."""

    X: np.ndarray
    Y: np.ndarray
    i: np.ndarray
    j: np.ndarray
    b: np.ndarray
    undirected: bool
    genes: tuple[pd.Index, pd.Index]

    @property
    def same(self) -> bool:
        """Whether both sides are the same neurons."""
        return self.Y is self.X

    def matrix(self, values: np.ndarray) -> Any:
        """Values of the pairs as a matrix ``(n, m)``: sparse if few pairs touch."""
        shape = (len(self.X), len(self.Y))
        if len(self.i) < DENSE_SHARE * shape[0] * shape[1]:
            return sp.csr_array((values, (self.i, self.j)), shape)
        full = np.zeros(shape)
        full[self.i, self.j] = values
        return full


def check_network(X: Any, B: Any, Y: Any, contact: Any, *, directed: bool) -> Network:
    """Genes and connections that fit together; a ValueError names what does not fit."""
    if not sp.issparse(contact):
        pairs = check_pairs(X, B, Y, contact, directed=directed)
        i, j = np.nonzero(pairs.touching)
        return Network(pairs.X, pairs.Y, i, j, pairs.B[i, j], pairs.undirected, pairs.genes)
    pre, genes_pre, _ = _genes(X, "X")
    post, genes_post, _ = (pre, genes_pre, None) if Y is None else _genes(Y, "Y")
    shape = (len(pre), len(post))
    touch, links = _sparse(contact, "contact", shape), _sparse(B, "B", shape)
    if touch.nnz and touch.data.min() < 0:
        raise ValueError("contact holds negative values; contacts must not be negative.")
    if touch.nnz == 0:
        raise ValueError("contact is zero everywhere, so there is no pair of neurons to fit; check contact.")
    undirected = Y is None and not directed
    if undirected:
        for what, values in (("B", links), ("contact", touch)):
            skew = sp.coo_array(values - values.T)
            if skew.nnz and np.abs(skew.data).max() > 0:
                k = int(np.abs(skew.data).argmax())
                raise ValueError(
                    f"{what} is not symmetric in row {skew.row[k]}, column {skew.col[k]}; set directed=True if the two "
                    "directions differ."
                )
    pairs = sp.coo_array(touch)
    width = shape[1]
    key, linked = pairs.row.astype(np.int64) * width + pairs.col, sp.coo_array(links)
    order = np.argsort(key)
    where = linked.row.astype(np.int64) * width + linked.col
    at = np.minimum(np.searchsorted(key, where, sorter=order), len(key) - 1)
    outside = key[order][at] != where
    if outside.any():
        k = int(np.flatnonzero(outside)[0])
        raise ValueError(
            f"{int(outside.sum())} connections are between neurons without contact, the first in row {linked.row[k]}, "
            f"column {linked.col[k]}; correct B or contact."
        )
    b = np.zeros(len(key))
    b[order[at]] = linked.data
    if (b == b[0]).all():
        raise ValueError(f"B is {b[0]:g} for all {len(b)} pairs in contact; rules need connections that differ.")
    return Network(pre, post, pairs.row, pairs.col, b, undirected, (genes_pre, genes_post))


def _sparse(values: Any, what: str, shape: tuple[int, int]) -> sp.csr_array:
    matrix = sp.csr_array(values).astype(float)
    if matrix.shape != shape:
        raise ValueError(f"{what} has shape {matrix.shape}; {shape[0]} x {shape[1]} neurons need {shape}.")
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    if matrix.nnz and not np.isfinite(matrix.data).all():
        raise ValueError(f"{what} holds NaN or infinite values; use 0 for pairs without a connection.")
    return matrix


def expected_connections(net: Network) -> np.ndarray:
    """Probability of every pair under :class:`MaximumEntropy`, in the order of the network's pairs."""
    n, m = len(net.X), len(net.Y)
    if n + m <= MAX_DENSE:
        B, C = np.zeros((n, m)), np.zeros((n, m))
        B[net.i, net.j], C[net.i, net.j] = net.b, 1.0
        return MaximumEntropy.fit(B, C, undirected=net.undirected).probability[net.i, net.j]
    if not np.isin(net.b, (0, 1)).all():
        raise ValueError("random networks with given degrees need connections of 0 or 1; threshold B first.")
    i, j = net.i, net.j + (0 if net.undirected else n)  # an undirected neuron has one effect, a directed one two
    size = n if net.undirected else n + m
    once = i != j  # a connection to itself enters the sum of its neuron once
    free, p = np.ones(len(i), dtype=bool), net.b.astype(float)
    while True:  # neurons with no connection, or connected to all contacts, have infinite effects and are fixed
        have, could = (_sums(i, j, w, once, size, net.undirected) for w in (free * net.b, free.astype(float)))
        fixed = (have == 0) | (have == could)
        stay = free & ~fixed[i] & ~fixed[j]
        if stay.sum() == free.sum():
            break
        free = stay
    if free.any():
        i, j, once, b = i[free], j[free], once[free], net.b[free]
        p[free] = _newton(i, j, once, b, size, net.undirected)
    return p


def _sums(i: np.ndarray, j: np.ndarray, w: np.ndarray, once: np.ndarray, size: int, undirected: bool) -> np.ndarray:
    """Sum of the weights of every neuron's pairs; the pairs of an undirected network are listed in both directions."""
    total = np.bincount(i, w, minlength=size)
    return total if undirected else total + np.bincount(j, w, minlength=size)


def _newton(i: np.ndarray, j: np.ndarray, once: np.ndarray, b: np.ndarray, size: int, undirected: bool) -> np.ndarray:
    """Newton steps for the neurons' effects; each is solved by conjugate gradients on the sparse Hessian."""
    degree = _sums(i, j, b, once, size, undirected)

    def at(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        p = expit(t[i] + np.where(once, t[j], 0.0))
        return p, degree - _sums(i, j, p, once, size, undirected)

    t = np.zeros(size)
    p, gap = at(t)
    for _ in range(200):
        if np.abs(gap).max() <= 1e-9 * max(1.0, degree.max()):
            return p
        v = p * (1 - p)
        M = effects_matrix(i[once], j[once], v[once], _sums(i, j, v, once, size, undirected), undirected)
        step = solve_effects(M, gap[:, None], 1e-8)[:, 0]
        length = 1.0
        while length > 1e-6:
            new = at(t + length * step)
            if np.linalg.norm(new[1]) < np.linalg.norm(gap):
                break
            length /= 2
        else:
            break
        t = t + length * step
        p, gap = new
    warn_of_gap(gap)
    return p


def effects_matrix(i: np.ndarray, j: np.ndarray, v: np.ndarray, diagonal: np.ndarray, undirected: bool) -> sp.csr_array:
    """``D'VD``, D the regressors of the neurons' effects: sums of variances, and those that two neurons share."""
    size = len(diagonal)
    off = sp.csr_array((v, (i, j)), (size, size))
    return sp.csr_array((off if undirected else off + off.T) + sp.diags_array(diagonal))


def solve_effects(M: sp.csr_array, R: np.ndarray, tol: float) -> np.ndarray:
    """Solutions of ``M S = R`` column by column, by conjugate gradients scaled with the diagonal of M.

    M is singular in a directed network (a constant moves from rows to columns), but R has no part in its null space.
    """
    d = M.diagonal()
    scale = np.divide(1.0, np.sqrt(d), out=np.zeros_like(d), where=d > 0)
    r = R * scale[:, None]
    x, direction, square = np.zeros_like(r), r.copy(), np.sum(r**2, axis=0)
    goal = tol**2 * square
    for _ in range(500):
        if (square <= goal).all():
            break
        image = scale[:, None] * (M @ (scale[:, None] * direction))
        curvature = np.sum(direction * image, axis=0)
        a = np.divide(square, curvature, out=np.zeros_like(square), where=curvature > 0)
        x += a * direction
        r -= a * image
        new = np.sum(r**2, axis=0)
        direction = r + np.divide(new, square, out=np.zeros_like(new), where=square > 0) * direction
        square = new
    return x * scale[:, None]
