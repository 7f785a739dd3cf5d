"""The held-out statistic of one effect under many permutations of cells, without a new fit for each.

The total scatter T (p x p) of the training cells about their mean does not depend on the labels. With E (C x p) the
training group means less the training mean and n the cells of each group, the pooled within-group scatter is
``M_e = (T - E' diag(n) E) / df``, which differs from T / df by a matrix of rank C. So T is diagonalised once per fold,
``T = V diag(l) V'``, for all labellings and every shrinkage g, and a permutation costs products of C x p with p x p
matrices. The genes are scaled to unit total variance, and the shrinkage target is the identity::

    A_g = (1 - g) T / df + g I = V diag(a_g) V',    a_g = (1 - g) l / df + g
    M_e(g) = A_g - E' Delta E,    Delta = (1 - g) diag(n) / df
    M_e(g)^-1 = A_g^-1 + A_g^-1 E' (Delta^-1 - E A_g^-1 E')^-1 E A_g^-1    (Woodbury)

If the scheme removes effects, the data are the residuals r. The fitted values H (C x p) of the removed effects move
with the permuted labels: group means are those of r plus H, and M_e is that of r.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh
from sklearn.utils.sparsefuncs import mean_variance_axis

from .._data import arrays
from .._data.device import OnDevice, asarray_like, namespace, to_numpy
from .._design.design import Design
from .._solve.criterion import Criterion
from .._solve.group_space import GroupSpace
from .._solve.objective import Objective
from .._solve.within import Within
from ..metrics._genes import f_ratio, noise_share
from ._schemes import Scheme, permuted_codes

MAX_DIMENSION = 8000  # rows of the largest matrix that is diagonalised


@dataclass(frozen=True)
class _Fold:
    """The part of a fold that does not depend on the labels.

    Rows of genes are multiplied by V, which makes A_g diagonal; such rows are called rotated. They are in single
    precision.
    """

    design: Design  # design of the training cells
    present: np.ndarray  # indices of its groups among all groups
    n_train: np.ndarray  # number of training cells in each of these groups, (C,)
    n_test: np.ndarray  # number of held-out cells in each of these groups, (C,)
    V: np.ndarray  # eigenvectors of T, multiplied by the scale of the genes; rows @ V rotates rows
    spectrum: np.ndarray  # eigenvalues l of T
    mean: np.ndarray  # mean of the training residuals, rotated
    test_scatter: np.ndarray  # scatter of the held-out residuals about their mean, rotated
    H: np.ndarray  # fitted values of the removed effects, C x p, rotated


class CellStatistics:
    """Computes the statistic of one effect for any exchange of cells within strata and folds.

    Parameters
    ----------
    X
        Expression, N x p, in memory.
    design, scheme
        The design, and what is permuted.
    objective
        What the axes maximise, with equal weights of the groups.
    n_components
        Number of axes of the tested effect.
    fold
        Fold of each cell; -1 for cells that always train.
    grid
        Values of the shrinkage g.

    Raises
    ------
    ValueError
        If both sides of X exceed MAX_DIMENSION.
    """

    def __init__(
        self, X, design: Design, scheme: Scheme, objective: Objective, n_components: int,
        fold: np.ndarray, grid: Sequence[float],
    ):  # fmt: skip
        N, p = X.shape
        if min(N, p) > MAX_DIMENSION:
            raise ValueError(
                f"{N} cells x {p} genes are too many for a permutation test, which allows up to {MAX_DIMENSION} cells "
                f"or up to {MAX_DIMENSION} genes. Use fewer genes, such as the highly variable ones (mask_var)."
            )
        self.X, self.design, self.scheme, self.fold = X, design, scheme, fold
        self.objective, self.n_components, self.grid = objective, n_components, grid
        # cells are exchanged within folds, so that every fold keeps its number of cells in each group
        self.strata = scheme.strata * (fold.max() + 2) + fold + 1
        self.units = design.table.groups[design.codes]

        taken = sum((design.fitted(e) for e in scheme.taken_out), np.zeros((design.n_groups,) * 2))
        mean, variance = _mean_variance(X)
        means = arrays.group_sums(X, design.codes, design.n_groups) / design.counts[:, None]
        self.fitted = taken @ (means - mean)
        # sums of squares of the residuals x - fitted, from the moments of x: no residual is formed
        squares = N * variance - 2 * design.counts @ (self.fitted * (means - mean)) + design.counts @ self.fitted**2
        self.gene_mean = mean - design.counts @ self.fitted / N
        self.gene_squares = squares - N * (self.gene_mean - mean) ** 2  # squares of the residuals about their mean

        scale = 1 / np.sqrt(np.where(variance > 0, variance, 1.0))
        self.data, self.H = X, self.fitted
        if p > N:
            # up to N principal coordinates replace the p scaled genes: inner products of cells, and so all scores, are
            # the same; the Gram matrix of one group has weights 1 / (N - 1) and the total variances as target
            gram, _ = Within.from_data(X, np.zeros(N, dtype=int), np.array([N]), "pooled").cell_gram("diagonal")
            values, vectors = (to_numpy(part) for part in _eigh(gram[:N, :N] * N))
            keep = values > 1e-12 * values[-1]
            self.data, scale = vectors[:, keep] * np.sqrt(values[keep]), np.ones(int(keep.sum()))
            if isinstance(X, OnDevice):
                self.data = OnDevice(self.data)
            means = arrays.group_sums(self.data, design.codes, design.n_groups) / design.counts[:, None]
            self.H = taken @ means
        self.folds = {k: self._prepare(k, scale) for k in np.unique(fold[fold >= 0])}

    def permuted(self, rng: np.random.Generator) -> np.ndarray:
        """Return the group of each cell after one random permutation."""
        return self.design.table.find(permuted_codes(self.scheme, self.units, self.strata, rng))

    def statistics(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute the statistic and the F ratio of each gene for every labelling.

        Parameters
        ----------
        codes
            Group of each cell under B labellings, (B, N).

        Returns
        -------
        Statistics (B,) and F ratios (B, p).
        """
        sums = {k: self._sums(self.data, self.H, codes, self.fold == k) for k in np.unique(self.fold)}
        total = sum(sums.values())
        criteria = [Criterion(len(self.grid), self.n_components) for _ in codes]
        for k, fold in self.folds.items():
            if fold is not None:
                self._add(fold, total - sums[k], sums[k], criteria)
        if self.data is not self.X:  # F needs the genes themselves, not the principal coordinates
            total = self._sums(self.X, self.fitted, codes, np.ones(len(self.fold), dtype=bool))
        n, effect = self.design.counts[:, None], self.scheme.effect
        means = total / n
        squares = self.gene_squares - np.sum(n * (means - self.gene_mean) ** 2, axis=1)
        # a permutation can leave a gene without variance within groups; the lower limit keeps its F finite
        variances = np.maximum(squares, 1e-10 * self.gene_squares) / (n.sum() - len(n))
        ratios = f_ratio(
            means + self.fitted, variances * noise_share(effect, self.design), self.design.contrasts[effect]
        )
        return np.array([c.values(signed=True).max() for c in criteria]), ratios

    def _sums(self, X, H: np.ndarray, codes: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """Sum the residuals of some cells in each group of every labelling, (B, C, p).

        H (C x p) are the fitted values that are subtracted from X, by the observed groups.
        """
        (B, _), C = codes.shape, self.design.n_groups
        # column b C + c of marks has a one for every cell of group c in labelling b
        new = (codes[:, cells] + C * np.arange(B)[:, None]).T  # (n, B)
        marks = np.zeros((len(new), B * C))
        np.put_along_axis(marks, new, 1.0, axis=1)
        sums = arrays.transposed_times(X[cells], marks).T.reshape(B, C, -1)
        if self.scheme.taken_out:
            # cells of each observed group in each new group, times the fitted values of the observed group
            old = arrays.indicator(self.design.codes[cells], C)
            sums -= (old @ marks).T.reshape(B, C, C) @ H
        return sums

    def _prepare(self, k: int, scale: np.ndarray) -> _Fold | None:
        """Compute the label-free part of fold k, or None if its training cells cannot be fitted."""
        train, test = np.flatnonzero(self.fold != k), np.flatnonzero(self.fold == k)
        part = self.design.subset(train)
        # fails if an effect lacks its groups, or if no group has two training cells
        if part is None or len(train) == part.n_groups:
            return None
        C, codes = self.design.n_groups, self.design.codes
        # weights of one and the centres H make gene_scatter the sum of r r' over cells
        residuals = Within(self.data, codes, np.ones(C), np.ones(C), self.H, codes, self.H, self.H)

        def scatter(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            """Compute the mean of the residuals of some cells, and the scatter of the scaled genes about it."""
            mean = self._sums(self.data, self.H, codes[None], np.isin(np.arange(len(codes)), cells))[0].sum(axis=0)
            mean /= len(cells)
            out = residuals.gene_scatter(cells)
            m, s = asarray_like(out, mean), asarray_like(out, scale)
            return mean, (out - len(cells) * m[:, None] * m) * s[:, None] * s

        train_mean, T = scatter(train)
        spectrum, V = _eigh(T)
        _, S = scatter(test)
        present = np.unique(codes[train])
        rotate = (asarray_like(V, scale[:, None]) * V).astype(np.float32)
        return _Fold(
            design=part,
            present=present,
            n_train=part.counts,
            n_test=np.bincount(codes[test], minlength=C)[present],
            V=rotate,
            spectrum=spectrum.clip(0).astype(np.float32),
            mean=asarray_like(V, train_mean.astype(np.float32)) @ rotate,
            test_scatter=(V.T @ S @ V).astype(np.float32),
            H=asarray_like(V, self.H[present].astype(np.float32)) @ rotate,
        )

    def _add(self, fold: _Fold, train: np.ndarray, test: np.ndarray, criteria: list[Criterion]) -> None:
        """Add the held-out cells of one fold to the criterion of every labelling.

        ``train`` and ``test`` are the sums of the residuals of training and held-out cells in each group, (B, C, p).
        """
        n, m = fold.n_train, fold.n_test
        C, effect = len(n), self.scheme.effect
        terms = self.objective.terms(fold.design)[effect]
        fitted = fold.design.fitted(effect)
        # Three rotated rows for every group: the training mean E, the fitted values H, and the held-out mean. All that
        # the criterion needs are inner products of these rows in the metric M_e(g)^-1, and the held-out scatter.
        xp = namespace(fold.V)
        E = xp.asarray((train[:, fold.present] / n[:, None]).astype(np.float32)) @ fold.V - fold.mean
        held_out = xp.asarray((test[:, fold.present] / np.maximum(m, 1)[:, None]).astype(np.float32)) @ fold.V
        H = xp.broadcast_to(fold.H, (len(E), *fold.H.shape))
        rows = xp.concatenate([E, H, held_out - fold.mean], axis=1)
        of_E, of_H, of_held_out = slice(0, C), slice(C, 2 * C), slice(2 * C, 3 * C)
        P = np.eye(C) - 1 / C  # subtracts the unweighted mean from group means
        df = n.sum() - C
        for i, g in enumerate(self.grid):
            # inner products of all rows in the metric A_g^-1, which is diagonal for rotated rows
            diagonal = ((1 - g) * fold.spectrum / df + g).astype(np.float32)
            scaled = rows / diagonal
            products = to_numpy((scaled @ rows.transpose(0, 2, 1)).astype(np.float64))
            to_means_A = (products[:, of_E, of_E] + products[:, of_E, of_H]) @ P
            # the same products in the metric M_e(g)^-1, by Woodbury; W = (Delta^-1 - E A_g^-1 E')^-1
            EE = products[:, of_E, of_E]
            W = np.linalg.inv(np.diag(df / ((1 - g) * n)) - EE) if g < 1 else np.zeros_like(EE)
            products = products + products[:, :, of_E] @ W @ products[:, of_E, :]
            # products of every row with the centred group means G = P (E + H), and K = G M_e(g)^-1 G'
            to_means = (products[:, :, of_E] + products[:, :, of_H]) @ P
            of_means = to_means[:, of_E] + to_means[:, of_H]
            K = P @ of_means
            # scores of the held-out group means on Z = M_e(g)^-1 G': first of their residuals, then with H added back
            # and measured from the centre of the training groups
            residual = to_means[:, of_held_out]
            means = residual + to_means[:, of_H] - of_means.mean(axis=1, keepdims=True)
            # Z = A_g^-1 [E; H]' L with L = [P + W E A_g^-1 (E + H)' P; P], so the held-out scatter S gives the scores
            # the scatter Z' S Z = L' [E; H] A_g^-1 S A_g^-1 [E; H]' L ...
            L = np.concatenate([P + W @ to_means_A, np.broadcast_to(P, W.shape)], axis=1)
            spread = L.transpose(0, 2, 1) @ self._held_out_scatter(fold, scaled) @ L
            # ... about the mean of all held-out cells; subtracting the part between groups leaves that within groups
            centred = residual - (m @ residual)[:, None, :] / m.sum()
            spread -= centred.transpose(0, 2, 1) @ (m[:, None] * centred)
            spread /= max(m.sum() - np.count_nonzero(m), 1)
            weights = (m / n)[:, None]  # a group has m held-out cells, and each has the weight 1 / n
            for b, criterion in enumerate(criteria):
                _, w = GroupSpace(K[b]).axes(terms, self.n_components)
                s, e = means[b] @ w, fitted @ K[b] @ w
                # the mean of s^2 over the cells of a group is the square of their mean plus their variance
                within = np.einsum("ck,cd,dk->k", w, spread[b], w)
                sums = [(weights * part).sum(axis=0) for part in (e * s, e**2, s**2 + within)]
                criterion.add_sums(i, *sums)

    def _held_out_scatter(self, fold: _Fold, scaled: np.ndarray) -> np.ndarray:
        """Compute ``[E; H] A_g^-1 S A_g^-1 [E; H]'``, (B, 2C, 2C), from rows that are already multiplied by A_g^-1."""
        C = len(fold.H)
        E, H = scaled[:, :C], scaled[0, C : 2 * C]
        ES = (E.reshape(-1, E.shape[2]) @ fold.test_scatter).reshape(E.shape)
        out = namespace(E).zeros((len(E), 2 * C, 2 * C))
        out[:, :C, :C] = ES @ E.transpose(0, 2, 1)
        if self.scheme.taken_out:
            out[:, :C, C:] = ES @ H.T
            out[:, C:, :C] = out[:, :C, C:].transpose(0, 2, 1)
            out[:, C:, C:] = H @ fold.test_scatter @ H.T
        return to_numpy(out)


def _eigh(matrix) -> tuple:
    """Compute eigenvalues, in ascending order, and eigenvectors of a symmetric matrix, which may be overwritten."""
    if namespace(matrix) is np:
        return eigh(matrix, overwrite_a=True, check_finite=False)
    return namespace(matrix).linalg.eigh(matrix)


def _mean_variance(X) -> tuple[np.ndarray, np.ndarray]:
    """Compute the mean and the variance (over N) of each gene."""
    if isinstance(X, OnDevice):
        mean = arrays.group_sums(X, np.zeros(X.shape[0], dtype=int), 1)[0] / X.shape[0]
        origin = asarray_like(X, mean)

        def update(out: np.ndarray, rows: slice, block) -> None:
            out[0] += ((block - origin) ** 2).sum(axis=0)

        return mean, to_numpy(arrays.reduce_rows(X, update, (1, X.shape[1])))[0] / X.shape[0]
    if arrays.is_sparse(X):
        mean, variance = mean_variance_axis(X.tocsr().astype(np.float64, copy=False), axis=0)
        return mean, variance
    X = np.asarray(X, dtype=np.float64)
    return X.mean(axis=0), X.var(axis=0)
