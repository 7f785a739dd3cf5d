"""The held-out statistic of one effect under many permutations of cells, without a fit for each.

The scatter of all training cells about their mean, T (p x p), does not know the labels. With E the training group
means less the training mean and n the cells of the groups, the pooled within scatter is
``M_e = (T - E' diag(n) E) / df``, a downdate of rank C. So T is diagonalised once per fold, ``T = V diag(l) V'``, which
serves every shrinkage g at once, and a permutation costs products of C x p with p x p::

    A_g = (1 - g) T / df + g I = V diag(a_g) V'         (genes scaled to unit total variance: the target is I)
    M_e(g)^-1 = A_g^-1 + A_g^-1 E' (Delta^-1 - E A_g^-1 E')^-1 E A_g^-1,    Delta = (1 - g) diag(n) / df

When the scheme takes effects out, the data are the residuals r and the fitted values H of those effects, one row per
group, go with the permuted labels: group means are those of r plus H, and M_e is that of r.
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
from .._design.effects import Effect
from .._solve.criterion import Criterion
from .._solve.group_space import GroupSpace
from .._solve.within import Within
from ..metrics._genes import f_ratio, noise_share
from ._schemes import Scheme, permuted_codes

MAX_DIMENSION = 8000  # of the matrices that are diagonalised


@dataclass(frozen=True)
class _Fold:
    """What a fold knows before any label is seen. Rows (groups) are rotated by V, in single precision."""

    design: Design  # of the training cells
    present: np.ndarray  # its groups among all groups
    n_train: np.ndarray  # (C,), of the present groups; n_test alike
    n_test: np.ndarray
    V: np.ndarray  # rows @ V rotates; the genes' scale is in it
    spectrum: np.ndarray  # l
    mean: np.ndarray  # of the training residuals, rotated
    test_scatter: np.ndarray  # of the held-out residuals about their mean, rotated
    H: np.ndarray  # C x p, rotated


class CellStatistics:
    """Statistic of one effect for any exchange of cells within strata and folds.

    Parameters
    ----------
    X
        N x p, in memory.
    design, scheme
        The groups, and what is permuted.
    penalties, n_components
        Penalties of the effects, and number of axes of the effect under test.
    fold
        Fold of each cell, -1 for cells that always train.
    grid
        Values of the shrinkage.
    """

    def __init__(
        self, X, design: Design, scheme: Scheme, penalties: dict[Effect, float], n_components: int,
        fold: np.ndarray, grid: Sequence[float],
    ):  # fmt: skip
        N, p = X.shape
        if min(N, p) > MAX_DIMENSION:
            raise ValueError(
                f"a permutation test of {N} cells x {p} genes: it takes up to {MAX_DIMENSION} cells or genes. "
                "Use fewer genes, such as the highly variable ones (mask_var)."
            )
        self.X, self.design, self.scheme, self.fold = X, design, scheme, fold
        self.penalties, self.n_components, self.grid = penalties, n_components, grid
        # exchange within folds keeps the cells that every fold has of a group
        self.strata = scheme.strata * (fold.max() + 2) + fold + 1
        self.units = design.table.groups[design.codes]

        taken = sum((design.fitted(e) for e in scheme.taken_out), np.zeros((design.n_groups,) * 2))
        mean, variance = _mean_variance(X)
        means = arrays.group_sums(X, design.codes, design.n_groups) / design.counts[:, None]
        self.fitted = taken @ (means - mean)
        squares = N * variance - 2 * design.counts @ (self.fitted * (means - mean)) + design.counts @ self.fitted**2
        self.gene_mean = mean - design.counts @ self.fitted / N
        self.gene_squares = squares - N * (self.gene_mean - mean) ** 2  # of the residuals about their mean

        scale = 1 / np.sqrt(np.where(variance > 0, variance, 1.0))
        self.data, self.H = X, self.fitted
        if p > N:
            # coordinates of the cells in which distances are those of the scaled genes
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
        """Group of each cell after one permutation."""
        return self.design.table.find(permuted_codes(self.scheme, self.units, self.strata, rng))

    def statistics(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Statistic of each labelling, and F ratio of each gene.

        Parameters
        ----------
        codes
            Group of each cell under each of B labellings, (B, N).

        Returns
        -------
        (B,) and (B, p).
        """
        sums = {k: self._sums(self.data, self.H, codes, self.fold == k) for k in np.unique(self.fold)}
        total = sum(sums.values())
        criteria = [Criterion(len(self.grid), self.n_components) for _ in codes]
        for k, fold in self.folds.items():
            if fold is not None:
                self._add(fold, total - sums[k], sums[k], criteria)
        if self.data is not self.X:
            total = self._sums(self.X, self.fitted, codes, np.ones(len(self.fold), dtype=bool))
        n, effect = self.design.counts[:, None], self.scheme.effect
        means = total / n
        squares = self.gene_squares - np.sum(n * (means - self.gene_mean) ** 2, axis=1)
        variances = np.maximum(squares, 1e-10 * self.gene_squares) / (n.sum() - len(n))
        ratios = f_ratio(
            means + self.fitted, variances * noise_share(effect, self.design), self.design.contrasts[effect]
        )
        return np.array([c.values(signed=True).max() for c in criteria]), ratios

    def _sums(self, X, H: np.ndarray, codes: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """Sum of the residuals of some cells in each group of each labelling, (B, C, p)."""
        (B, _), C = codes.shape, self.design.n_groups
        new = (codes[:, cells] + C * np.arange(B)[:, None]).T  # (n, B)
        marks = np.zeros((len(new), B * C))
        np.put_along_axis(marks, new, 1.0, axis=1)
        sums = arrays.transposed_times(X[cells], marks).T.reshape(B, C, -1)
        if self.scheme.taken_out:
            old = arrays.indicator(self.design.codes[cells], C)
            sums -= (old @ marks).T.reshape(B, C, C) @ H
        return sums

    def _prepare(self, k: int, scale: np.ndarray) -> _Fold | None:
        train, test = np.flatnonzero(self.fold != k), np.flatnonzero(self.fold == k)
        part = self.design.subset(train)
        if part is None or len(train) == part.n_groups:  # without its groups, or without a scatter within them
            return None
        C, codes = self.design.n_groups, self.design.codes
        residuals = Within(self.data, codes, np.ones(C), np.ones(C), self.H, codes, self.H, self.H)

        def scatter(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
        """Add what one fold holds out, for every labelling; ``train`` and ``test`` are sums of residuals, (B, C, p)."""
        n, m = fold.n_train, fold.n_test
        C, effect = len(n), self.scheme.effect
        own, others = fold.design.contrasts[effect], fold.design.others(effect, self.penalties)
        fitted = fold.design.fitted(effect)
        # three rows for every group: training mean of the residuals (E), fitted values (H), held-out mean
        xp = namespace(fold.V)
        E = xp.asarray((train[:, fold.present] / n[:, None]).astype(np.float32)) @ fold.V - fold.mean
        held_out = xp.asarray((test[:, fold.present] / np.maximum(m, 1)[:, None]).astype(np.float32)) @ fold.V
        H = xp.broadcast_to(fold.H, (len(E), *fold.H.shape))
        rows = xp.concatenate([E, H, held_out - fold.mean], axis=1)
        of_E, of_H, of_held_out = slice(0, C), slice(C, 2 * C), slice(2 * C, 3 * C)
        P = np.eye(C) - 1 / C  # takes group means to group means less their unweighted mean
        df = n.sum() - C
        for i, g in enumerate(self.grid):
            # inner products of all rows in the metric A_g^-1, which is diagonal in rotated coordinates
            diagonal = ((1 - g) * fold.spectrum / df + g).astype(np.float32)
            scaled = rows / diagonal
            products = to_numpy((scaled @ rows.transpose(0, 2, 1)).astype(np.float64))
            to_means_A = (products[:, of_E, of_E] + products[:, of_E, of_H]) @ P
            # the downdate by Woodbury: the same products in the metric M_e(g)^-1
            EE = products[:, of_E, of_E]
            W = np.linalg.inv(np.diag(df / ((1 - g) * n)) - EE) if g < 1 else np.zeros_like(EE)
            products = products + products[:, :, of_E] @ W @ products[:, of_E, :]
            # every row against the centred group means G = P (E + H), and K = G M_e(g)^-1 G'
            to_means = (products[:, :, of_E] + products[:, :, of_H]) @ P
            of_means = to_means[:, of_E] + to_means[:, of_H]
            K = P @ of_means
            # scores on Z = M_e(g)^-1 G' of the held-out means: residual part, and whole, from the centre of the groups
            residual = to_means[:, of_held_out]
            means = residual + to_means[:, of_H] - of_means.mean(axis=1, keepdims=True)
            # Z = A_g^-1 [E; H]' L, so the scatter of held-out scores is L' [E; H] A_g^-1 S A_g^-1 [E; H]' L ...
            L = np.concatenate([P + W @ to_means_A, np.broadcast_to(P, W.shape)], axis=1)
            spread = L.transpose(0, 2, 1) @ self._held_out_scatter(fold, scaled) @ L
            # ... about the mean of all held-out cells; less the part between groups it is the one within groups
            centred = residual - (m @ residual)[:, None, :] / m.sum()
            spread -= centred.transpose(0, 2, 1) @ (m[:, None] * centred)
            spread /= max(m.sum() - np.count_nonzero(m), 1)
            weights = (m / n)[:, None]  # the held-out cells of a group, each with weight 1 / n
            for b, criterion in enumerate(criteria):
                _, w = GroupSpace(K[b]).axes(own, others, self.n_components)
                s, e = means[b] @ w, fitted @ K[b] @ w
                within = np.einsum("ck,cd,dk->k", w, spread[b], w)
                sums = [(weights * part).sum(axis=0) for part in (e * s, e**2, s**2 + within)]
                criterion.add_sums(i, *sums)

    def _held_out_scatter(self, fold: _Fold, scaled: np.ndarray) -> np.ndarray:
        """``[E; H] A^-1 S A^-1 [E; H]'``, (B, 2C, 2C), from rows that A has divided already."""
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
    """Eigenvalues, ascending, and eigenvectors of a symmetric matrix, which may be lost; where it is."""
    if namespace(matrix) is np:
        return eigh(matrix, overwrite_a=True, check_finite=False)
    return namespace(matrix).linalg.eigh(matrix)


def _mean_variance(X) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance (over N) of each gene."""
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
