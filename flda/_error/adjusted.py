"""Sums and squares of expression less what covariates predict, and what the slopes add to the noise of group means.

The slopes Gamma (q x p) come from the deviations y_i of the covariates from the means of their samples. Sums and
squares are those of ``x_i - Gamma' z_i``, so a group mean is ``g_c - Gamma' z_c``, with z_c the mean of the covariates
of the group (all covariates have the mean zero). The slopes are not known exactly. With ``A = sum_i y_i y_i'``, and A_c
its part from group c, in which cells have the variance v_c, the covariance of the adjusted group means is ::

    V = diag(v_c / n_c) + Z (sum_c v_c A^-1 A_c A^-1) Z'

with the rows z_c of Z (C x q), and group c has ``n_c - 1 - tr(A^-1 A_c)`` degrees of freedom. With equal variances that
is least squares on the cells with a mean for every group.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .._data import arrays
from .._data.device import asarray_like, to_numpy
from .._design.covariates import Covariates
from .._solve.slopes import check_variation


@dataclass(frozen=True)
class Adjusted:
    """Sums of expression less what covariates predict.

    Attributes
    ----------
    sums, squares
        Sums, and sums of squares, of every sample and gene, S x p.
    slopes
        Gamma, q x p.
    """

    sums: np.ndarray
    squares: np.ndarray
    slopes: np.ndarray


class SlopeNoise:
    """What the slopes of covariates add to the noise of group means; symbols are those of the module.

    Parameters
    ----------
    covariates
        The covariates of the cells.
    codes
        Group of each cell, (N,).
    """

    def __init__(self, covariates: Covariates, codes: np.ndarray):
        Z, counts = covariates.values, np.bincount(codes)
        self.means = arrays.group_sums(Z, codes, len(counts)) / counts[:, None]
        Y = Z - self.means[codes]
        of_groups = [Y[codes == c].T @ Y[codes == c] for c in range(len(counts))]
        inverse = np.linalg.inv(sum(of_groups))
        self._parts = []  # roots of A^-1 A_c A^-1
        for A in of_groups:
            values, vectors = np.linalg.eigh(A)
            self._parts.append(inverse @ (vectors * np.sqrt(values.clip(0))))
        self._taken = np.array([np.sum(inverse * A) for A in of_groups])
        self._counts = counts

    @cached_property
    def df(self) -> np.ndarray:
        """Degrees of freedom of every group, (C,)."""
        return np.maximum(self._counts - 1 - self._taken, 0)

    def parts(self, B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return columns to add to ``B`` (df x C), with which ``V = B diag(w) B'``, and the group of each one's w."""
        of_groups = [B @ self.means @ part for part in self._parts]
        q = self.means.shape[1]
        return np.hstack(of_groups), np.repeat(np.arange(len(of_groups)), q)


def adjusted(X, covariates: Covariates, codes: np.ndarray, sums: np.ndarray, squares: np.ndarray) -> Adjusted:
    """Take what the covariates predict off the sums and squares of every sample, in one pass over X.

    Parameters
    ----------
    X
        Expression, N x p, of any kind.
    covariates
        The covariates of the cells.
    codes
        Sample of each cell, (N,).
    sums, squares
        Sum of the cells of every sample, and of their squares, S x p.

    Raises
    ------
    ValueError
        If a covariate does not vary within samples.
    """
    Z, (S, p) = covariates.values, sums.shape
    q, counts = Z.shape[1], np.bincount(codes, minlength=S)

    def update(out: np.ndarray, rows: slice, block) -> None:
        for j in range(q):
            column = Z[rows, j]
            weighted = arrays.indicator(codes[rows], S) * column
            block = arrays.canonical(block)
            if arrays.is_sparse(block):
                out[j * S : (j + 1) * S] += (weighted @ block).toarray()
            else:
                out[j * S : (j + 1) * S] += asarray_like(block, weighted.toarray()) @ arrays.as_float(block)

    cross = to_numpy(arrays.reduce_rows(X, update, (q * S, p))).reshape(q, S, p)
    means = arrays.group_sums(Z, codes, S) / np.maximum(counts, 1)[:, None]
    Y = Z - means[codes]
    check_variation(covariates, Y)
    products = cross.sum(axis=1) - means.T @ sums  # sum of y x'
    slopes = np.linalg.solve(Y.T @ Y, products)
    inner = np.stack([Z[codes == s].T @ Z[codes == s] for s in range(S)])
    predicted = np.einsum("jp,sjk,kp->sp", slopes, inner, slopes, optimize=True)
    crossed = np.einsum("jp,jsp->sp", slopes, cross, optimize=True)
    return Adjusted(sums - (counts[:, None] * means) @ slopes, np.maximum(squares - 2 * crossed + predicted, 0), slopes)
