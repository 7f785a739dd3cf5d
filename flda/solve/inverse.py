"""Z = M_e(g)^-1 G' for the shrunken within scatter M_e(g) = (1 - g) M_e + g T.

``Primal`` holds M_e (p x p) and suits p <= N; ``Dual`` holds the Gram matrix of the cells (N x N) and
suits N < p. Both can also evaluate cross-validation folds from what they hold, so tuning g never reads the
data again for its scatter.

Dual algebra: with R the weighted residuals (M_e = R'R), a = 1 - g and Kc = R T^-1 R',
``M_e(g)^-1 = T^-1 (I - a R' (g I + a Kc)^-1 R T^-1) / g`` (Woodbury); small a and g need no division by a.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
import scipy.sparse as sp
from scipy.linalg import LinAlgError

from .. import arrays
from .._device import Cholesky, beside, host, namespace
from ..donors import Samples
from ..moments import Within, donor_lift, lifted_centres, target_diagonal

SINGULAR_SHARE = 1e-13  # unexplained share of a gene's variance below which genes count as dependent


class Fold(Protocol):
    """A training set and its held-out cells, in group space."""

    def group_spaces(self, grid: Sequence[float]) -> list[tuple[np.ndarray, np.ndarray]]:
        """For every g, K = G M_e(g)^-1 G' (C x C) of the training cells and ``(x - centre)' Z`` of held-out ones."""
        ...


class Primal:
    """M_e as a p x p matrix, factored by Cholesky.

    Attributes
    ----------
    variances
        Within-group variances diag(M_e), (p,).
    target
        Diagonal of the shrinkage target T, (p,).
    """

    name = "primal"

    def __init__(self, within: Within, target: str):
        self.within = within
        self.scatter = within.gene_scatter()
        self.variances = within.variances_of(self.scatter)
        self.target = target_diagonal(self.variances, target)

    def cell_norms(self) -> np.ndarray:
        """Squared length of each weighted residual in the metric of T, (N,)."""
        return self.within.cell_norms(self.target)

    def squared_norm(self) -> float:
        """Squared Frobenius norm of T^-1/2 M_e T^-1/2."""
        scale = beside(self.scatter, 1 / np.sqrt(self.target))
        return float(((self.scatter * scale[:, None] * scale) ** 2).sum())

    def factor(self, g: float):
        """A function that applies M_e(g)^-1 to p x k arrays."""
        return _cholesky_of(self.scatter, g, self.target, self.within, self.variances)

    def fold(self, train: np.ndarray, test: np.ndarray, codes: np.ndarray, counts: np.ndarray) -> Fold:
        """Training cells, held-out cells, group of each training cell and cells per training group."""
        return _PrimalFold(self, train, test, codes, counts)


class Dual:
    """M_e through the Gram matrix of cells and groups, (N + C) x (N + C)."""

    name = "dual"

    def __init__(self, within: Within, target: str):
        self.within = within
        self.gram, self.variances = within.cell_gram(target)
        self.target = target_diagonal(self.variances, target)

    def cell_norms(self) -> np.ndarray:
        """Squared length of each weighted residual in the metric of T, (N,)."""
        return host(self._cells.diagonal()).copy()

    def squared_norm(self) -> float:
        """Squared Frobenius norm of T^-1/2 M_e T^-1/2."""
        return float((self._cells**2).sum())

    def factor(self, g: float):
        """A function that applies M_e(g)^-1 to p x k arrays."""
        if g == 0:
            raise ValueError(singular_message(self.within))
        factored = _shifted(self._cells, g)

        def apply(B: np.ndarray) -> np.ndarray:
            scaled = B / self.target[:, None]
            inner = factored.solve(self.within.cells_of(scaled))
            return (scaled - (1 - g) * self.within.genes_of(inner) / self.target[:, None]) / g

        return apply

    def fold(self, train: np.ndarray, test: np.ndarray, codes: np.ndarray, counts: np.ndarray) -> Fold:
        """Training cells, held-out cells, group of each training cell and cells per training group."""
        return _DualFold(self, train, test, codes, counts)

    @property
    def _cells(self) -> np.ndarray:
        N = self.within.shape[0]
        return self.gram[:N, :N]

    @cached_property
    def plain_gram(self) -> np.ndarray:
        """The Gram matrix with residuals from the group means, whatever the error term: folds start from it."""
        within, N = self.within, self.within.shape[0]
        if within.samples is None:
            return self.gram
        undo = 1 / donor_lift(within.samples, within.weights)
        out = self.gram.copy()
        out[:N] = lifted(out[:N], within.places, undo)
        out[:, :N] = lifted(out[:, :N].T, within.places, undo).T
        return out


class Training:
    """How the training cells of a fold make up group means and the within scatter.

    Attributes
    ----------
    places
        Sample (or group) of each training cell, (n,); ``place_counts`` (S,) are their cells, ``groups`` (S,) their
        training groups and ``full`` (S,) their places among all cells.
    shares
        Weight of each training cell in the mean of its group, (n,).
    weights
        Weight of each training group in the scatter, (C,), and ``norm``, the sum that the full weights are divided by.
    samples
        The training samples, when donors are in the error term; ``lift`` (S,) are their phi.
    """

    def __init__(self, within: Within, train: np.ndarray, codes: np.ndarray, counts: np.ndarray):
        self.full, first, self.places = np.unique(within.places[train], return_index=True, return_inverse=True)
        self.place_counts = np.bincount(self.places)
        self.groups = codes[first]
        n_places = np.bincount(self.groups)
        self.shares = 1 / (n_places[self.groups] * self.place_counts)[self.places]
        # the first cell of each training group tells its group in the full design
        raw = within.weights[within.codes[train][np.unique(codes, return_index=True)[1]]]
        self.norm = np.sum(raw * (counts - n_places))
        self.weights = raw / self.norm
        self.samples, self.lift = None, None
        if within.samples is not None and len(self.groups) > len(counts):
            self.samples = Samples(self.places, self.place_counts, self.groups)
            self.lift = donor_lift(self.samples, self.weights)

    def means(self, own: np.ndarray) -> np.ndarray:
        """Group means from the means of the places."""
        n_places = np.bincount(self.groups)
        return arrays.indicator(self.groups, len(n_places)) @ own / n_places[:, None]

    def within(self, within: Within, train: np.ndarray, codes: np.ndarray, counts: np.ndarray) -> Within:
        """The within scatter of the training cells."""
        X = within.X[train]  # type: ignore[index]
        own = arrays.group_sums(X, self.places, len(self.full)) / self.place_counts[:, None]
        means = self.means(own)
        centres = means[self.groups]
        if self.samples is not None:
            centres = lifted_centres(own, means, self.samples, self.weights)
        return Within(X, codes, counts, self.weights, means, self.places, own, centres, self.samples)


class _PrimalFold:
    """Training scatter = M_e - held-out part - shift of the centres, all p x p. Only held-out cells are read."""

    def __init__(self, primal: Primal, train, test, codes, counts):
        within, part = primal.within, Training(primal.within, train, codes, counts)
        self.held_out = arrays.by_rows(within.X)[test]
        held_out = arrays.group_sums(self.held_out, within.places[test], len(within.place_means))
        own = (within.place_sums - held_out)[part.full] / part.place_counts[:, None]
        means = part.means(own)
        shift = own - within.centres[part.full]
        size = part.place_counts * part.weights[part.groups]
        scatter = (primal.scatter - within.gene_scatter(test, held_out)) / part.norm
        scatter -= _outer(scatter, shift, size)
        if part.lift is not None:
            scatter += _outer(scatter, part.lift[:, None] * (own - means[part.groups]), size)
        self.scatter, self.primal = scatter, primal
        self.centre = means.mean(axis=0)
        self.means = means - self.centre

    def group_spaces(self, grid: Sequence[float]) -> list[tuple[np.ndarray, np.ndarray]]:
        primal = self.primal
        Z = [_cholesky_of(self.scatter, g, primal.target, primal.within, primal.variances)(self.means.T) for g in grid]
        scores = arrays.times(self.held_out, np.hstack(Z)) - self.centre @ np.hstack(Z)
        parts = np.split(scores, len(grid), axis=1)
        return [(self.means @ z, part) for z, part in zip(Z, parts, strict=True)]


class _DualFold:
    """The same from the Gram matrix of cells and groups: every vector is a combination of its rows."""

    def __init__(self, dual: Dual, train, test, codes, counts):
        within, gram = dual.within, dual.plain_gram
        (N, _), C = within.shape, len(counts)
        part = Training(within, train, codes, counts)
        groups = within.codes[train][np.unique(codes, return_index=True)[1]]
        # row i of the Gram matrix is sqrt(w) times the residual of cell i; row N + c the mean of group c
        unweight = 1 / np.sqrt(within.cell_weights)
        average = arrays.indicator(codes, C) * part.shares
        means = sp.csr_array(
            (
                np.concatenate([unweight[train] * part.shares, np.ones(C)]),
                (np.concatenate([codes, np.arange(C)]), np.concatenate([train, N + groups])),
            ),
            shape=(C, N + within.means.shape[0]),
        )
        held_out = sp.csr_array(
            (
                np.concatenate([unweight[test], np.ones(len(test))]),
                (np.tile(np.arange(len(test)), 2), np.concatenate([test, N + within.codes[test]])),
            ),
            shape=(len(test), gram.shape[0]),
        )
        centre = beside(gram, means.mean(axis=0))
        average, means, held_out, codes, train = (
            beside(gram, part) for part in (average, means, held_out, codes, train)
        )

        def centred(rows: np.ndarray) -> np.ndarray:
            """Subtract the mean of its training group from each training column, and magnify the donors."""
            rows = rows - (average @ rows.T).T[:, codes]
            return rows if part.lift is None else lifted(rows.T, part.places, part.lift).T

        scale = np.sqrt(part.norm)
        to_means = (means @ gram) - centre @ gram  # centred training means against every row, C x (N + C)
        self.means = (means @ to_means.T).T - (to_means @ centre)[:, None]
        self.residuals = centred(to_means[:, train]).T / scale  # R T^-1 G', n x C
        self.cells = centred(centred(gram[namespace(gram).ix_(train, train)]).T) / scale**2
        self.test_means = held_out @ to_means.T - to_means @ centre
        self.test_residuals = centred((held_out @ gram[:, train]) - centre @ gram[:, train]) / scale

    def group_spaces(self, grid: Sequence[float]) -> list[tuple[np.ndarray, np.ndarray]]:
        out = []
        for g in grid:
            inner = (1 - g) * _shifted(self.cells, g).solve(self.residuals)
            K = (self.means - self.residuals.T @ inner) / g
            out.append((host(K), host((self.test_means - self.test_residuals @ inner) / g)))
        return out


def lifted(rows: np.ndarray, places: np.ndarray, lift: np.ndarray) -> np.ndarray:
    """Rows (n x k) with the mean of each sample multiplied by its factor."""
    change = beside(rows, ((lift - 1) / np.bincount(places))[:, None])
    return rows + (change * arrays.block_sums(rows, places, len(lift)))[beside(rows, places)]


def _outer(scatter: np.ndarray, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """``rows' diag(weights) rows``, where the scatter is."""
    return beside(scatter, rows.T) @ beside(scatter, rows * weights[:, None])


def _shifted(cells: np.ndarray, g: float) -> Cholesky:
    """Cholesky factor of ``g I + (1 - g) cells``."""
    matrix = (1 - g) * cells
    _add_to_diagonal(matrix, g)
    return Cholesky(matrix)


def _add_to_diagonal(matrix: np.ndarray, values: np.ndarray | float) -> None:
    each = namespace(matrix).arange(len(matrix))
    matrix[each, each] += beside(matrix, values)


def _cholesky_of(scatter: np.ndarray, g: float, target: np.ndarray, within: Within, variances: np.ndarray):
    """A function that applies ``((1 - g) scatter + g T)^-1``."""
    matrix = (1 - g) * scatter
    # a constant gene has an empty row: any positive diagonal gives it a loading of zero
    constant = (variances == 0) & (np.ptp(within.means, axis=0) <= 1e-12 * np.abs(within.means).max(axis=0))
    _add_to_diagonal(matrix, np.where(constant, 1.0, g) * target)
    diagonal = host(matrix.diagonal()).copy()
    try:
        factored = Cholesky(matrix)
    except LinAlgError:
        raise ValueError(singular_message(within)) from None
    # pivot over diagonal: the share of a gene's variance that the genes before it do not explain
    if np.min(factored.diagonal**2 / diagonal) < SINGULAR_SHARE:
        raise ValueError(singular_message(within))
    return factored.solve


def singular_message(within: Within) -> str:
    """What to do about a scatter that cannot be inverted."""
    (N, p), C = within.shape, len(within.counts)
    return (
        f"the within-group scatter of {p} genes from {N} cells in {C} groups is singular (linearly dependent genes, "
        "or no fewer genes than cells less groups) and shrinkage is 0. Set shrinkage='auto' or a number above 0."
    )
