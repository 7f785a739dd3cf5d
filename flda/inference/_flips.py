"""Random signs of residuals: the null distribution of the statistics of :mod:`flda.inference._wald`.

The residual of a unit from the full model is multiplied by a random sign, its whole row of genes at once (the wild
bootstrap with Rademacher weights). What results has no effect, keeps the variance of every group and the correlations
between genes, and needs no strata and no refit. A flip leaves every sum of squares as it is, so the variance of group c
is ``v_c* = (Q_c - n_c g_c*^2) / (n_c - 1)``, with Q_c the squares of its residuals and g_c* its mean after the flip.
Residuals are multiplied by ``sqrt(n_c / (n_c - 1))``, since a residual has less variance than the unit itself.

Where units are few, variances are moderated over genes, with the same prior in the data and in every flip.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .._data import arrays
from .._data.device import asarray_like, to_numpy
from .._data.kernels import add_flips
from .._design.design import Design
from .._design.effects import Effect
from ._units import Units
from ._wald import moderated, prior_variance, wald

BLOCK_BYTES = 2**27  # memory for the group means of the flips that are worked on at a time
CHUNK = 4096  # rows whose signs come from one random generator
FEW_UNITS = 5  # with fewer units in some group, variances are moderated over genes
LEAST = 1e-6  # smallest variance of a gene, as a share of the mean variance of all genes


class CellFlips:
    """Statistics of all effects, in the data and under random signs of the residuals of the cells.

    Parameters
    ----------
    X
        Expression, N x p, of any kind.
    design
        The groups and effects.
    effects
        The effects to test.
    means, squares
        Mean of every group and gene, and sum of squared expression, C x p.
    seed
        Seed of the signs.
    """

    unit = "cell"

    def __init__(self, X, design: Design, effects: list[Effect], means: np.ndarray, squares: np.ndarray, seed: int):
        self.X, self.codes, self.effects = X, design.codes, effects
        self.contrasts = {e: design.contrasts[e] for e in effects}
        self.df, self.n_units = {e: design.df(e) for e in effects}, len(design.codes)
        self.n, self.means, self._seed = design.counts, means, seed
        n = self.n[:, None]
        residual = np.maximum(squares - n * means**2, 0)  # Q_c
        self._stretch = np.sqrt(n / np.maximum(n - 1, 1))
        self._single = np.flatnonzero(self.n == 1)
        self._squares = residual * self._stretch**2
        self._floor = LEAST * residual.sum() / residual.shape[1] / max(self.n.sum() - len(self.n), 1)
        self._priors = [(0.0, 1.0)] * len(self.n)
        if self.n.min() < FEW_UNITS:
            self._priors = [prior_variance(q / max(k - 1, 1), k - 1) for q, k in zip(residual, self.n, strict=True)]
        self._residual = residual

    def observed(self) -> dict[Effect, np.ndarray]:
        """Compute the statistic of every gene, (p,), for each effect."""
        n = self.n[:, None]
        w = self._noise(self._residual[None] / np.maximum(n - 1, 1))
        return {e: found[0] for e, found in self._statistics(self.means[None], w).items()}

    def flipped(self, n_flips: int) -> Iterator[dict[Effect, np.ndarray]]:
        """Yield the statistics, (F, p) for each effect, of blocks of F flips, n_flips in all."""
        C, p = self.means.shape
        size = int(np.clip(BLOCK_BYTES // (8 * C * p), 1, 256))
        for start in range(0, n_flips, size):
            F = min(size, n_flips - start)
            g = self._flipped_means(start, F)
            n = self.n[:, None]
            v = np.maximum(self._squares - n * g**2, 0) / np.maximum(n - 1, 1)
            yield self._statistics(g, self._noise(v))

    def _statistics(self, g: np.ndarray, w: np.ndarray) -> dict[Effect, np.ndarray]:
        """Compute the statistics from group means and their variances, (F, C, p)."""
        g = g - g.mean(axis=1, keepdims=True)  # contrasts do not depend on it, and products lose fewer digits
        return {e: wald(np.einsum("dc,fcp->fdp", B, g)[:, :, None], B, w) for e, B in self.contrasts.items()}

    def _noise(self, v: np.ndarray) -> np.ndarray:
        """Turn variances of cells, (F, C, p), into those of group means; a group of one cell takes the pooled one."""
        df = self.n - 1
        if len(self._single):
            v = v.copy()
            v[:, self._single] = (np.einsum("c,fcp->fp", df, v) / df.sum())[:, None]
        for c, prior in enumerate(self._priors):
            if prior[0] > 0 and df[c] > 0:
                v[:, c] = moderated(v[:, c], df[c], prior)
        return np.maximum(v, self._floor) / self.n[:, None]

    def _flipped_means(self, start: int, F: int) -> np.ndarray:
        """Compute the group means of the stretched residuals under F flips, (F, C, p)."""
        X, (C, p), codes = self.X, self.means.shape, self.codes

        def update(out: np.ndarray, rows: slice, block) -> None:
            signs = _signs(self._seed, start, rows, F)
            if arrays.is_sparse(block):
                add_flips(out, block, codes[rows], signs)
            else:
                for c in np.unique(codes[rows]):
                    own = np.flatnonzero(codes[rows] == c)
                    s = asarray_like(block, signs[own].astype(np.float64))
                    out[c, :p] += arrays.as_float(block[own]).T @ s
            out[:, p] += asarray_like(out, arrays.indicator(codes[rows], C) @ signs)

        sums = to_numpy(arrays.reduce_rows(X, update, (C, p + 1, F)))
        g = sums[:, :p] - self.means[:, :, None] * sums[:, [p]]
        g *= (self._stretch / self.n[:, None])[:, :, None]
        if len(self._single):
            g[self._single] = self._borrowed(start, F)
        return np.ascontiguousarray(g.transpose(2, 0, 1))

    def _borrowed(self, start: int, F: int) -> np.ndarray:
        """Draw a stretched residual of some other cell for every group of one cell and every flip, (groups, p, F)."""
        rng = np.random.default_rng([self._seed, start, 1])
        others = np.flatnonzero(self.n[self.codes] > 1)
        n_single, p = len(self._single), self.means.shape[1]
        drawn = rng.choice(others, n_single * F)
        signs = rng.choice([-1.0, 1.0], n_single * F)
        order = np.argsort(drawn, kind="stable")
        found = np.empty((len(drawn), p))

        def update(out: np.ndarray, rows: slice, block) -> None:
            i, j = np.searchsorted(drawn[order], [rows.start, rows.stop])
            mine = order[i:j]
            if len(mine):
                out[asarray_like(out, mine)] = asarray_like(out, arrays.dense(block[drawn[mine] - rows.start]))

        found = to_numpy(arrays.reduce_rows(self.X, update, found.shape))
        groups = self.codes[drawn]
        found = (found - self.means[groups]) * self._stretch[groups] * signs[:, None]
        return found.reshape(n_single, F, p).transpose(0, 2, 1)


class DonorFlips:
    """Statistics of one effect, in the data and under signs of the residuals of donors.

    If every combination of outer levels has two donors or more, it has a variance of its own. Otherwise the variance is
    that of what the outer effects leave, the same for all donors. Without outer factors the contrasts themselves are
    flipped, which is exact if their errors are symmetric.

    Parameters
    ----------
    effect, units
        The effect, and the contrasts of its donors.
    seed
        Seed of the signs.
    """

    unit = "donor"

    def __init__(self, effect: Effect, units: Units, seed: int):
        self.effect, self._seed = effect, seed
        U, q, p = units.values.shape
        counts = np.bincount(units.groups)
        own = counts.min() >= 2  # every group has a variance of its own
        if own:
            indicator = np.eye(len(counts))[units.groups]
            self._to_parts = (indicator / counts[units.groups][:, None]).T  # units -> group means
            self._B = np.linalg.pinv(units.model)[units.rows]
            self._n, self._df = counts.astype(float), counts - 1.0
        else:
            # an orthonormal basis of the model: the parts have the variance of a unit, and there is one variance
            D = units.model[units.groups]
            basis = np.linalg.qr(D)[0]
            self._to_parts, self._B = basis.T, (np.linalg.pinv(D) @ basis)[units.rows]
            self._n, self._df = np.ones(D.shape[1]), np.array([U - D.shape[1]], dtype=float)
        if self._df.min() < 1:
            raise ValueError(
                f"the {U} donors of {effect.name!r} leave no degree of freedom to judge it by; leave out the "
                "interactions, or test without donors."
            )
        self._own, self.n_units, self._q = own, U, q
        self.df = {effect: q * len(self._B)}
        fitted = (indicator if own else basis) @ np.tensordot(self._to_parts, units.values, 1).reshape(-1, q * p)
        residuals = units.values - fitted.reshape(U, q, p)
        self._values = units.values
        if len(counts) == 1:
            self._rows = units.values
        else:
            leverage = np.sum(np.linalg.pinv(indicator if own else D).T * (indicator if own else D), axis=1)
            self._rows = residuals / np.sqrt(np.maximum(1 - leverage, 1e-12))[:, None, None]
        self._indicator = indicator.T if own else np.ones((1, U))
        self._squares = self._indicator @ np.sum(self._rows**2, axis=1)  # of what is flipped, (V, p)
        variances = self._indicator @ np.sum(residuals**2, axis=1) / (q * self._df[:, None])
        self._floor = LEAST * max(variances.mean(), 1e-300)
        few = (counts.min() if own else U) < 2 * FEW_UNITS
        self._priors = [
            prior_variance(v, q * df) if few else (0.0, 1.0) for v, df in zip(variances, self._df, strict=True)
        ]
        self._variances = variances

    def observed(self) -> dict[Effect, np.ndarray]:
        """Compute the statistic of every gene, (p,)."""
        parts = np.tensordot(self._to_parts, self._values, 1)[None]
        return {self.effect: self._statistic(parts, self._variances[None])[0]}

    def flipped(self, n_flips: int) -> Iterator[dict[Effect, np.ndarray]]:
        """Yield the statistics, (F, p), of blocks of F flips; all of them if there are no more than ``n_flips``."""
        U, q, p = self._rows.shape
        size = int(np.clip(BLOCK_BYTES // (8 * len(self._to_parts) * q * p), 1, 256))
        for signs in _sign_blocks(U, n_flips, size, self._seed):
            parts = (self._to_parts * signs[:, None, :]).reshape(-1, U) @ self._rows.reshape(U, q * p)
            parts = parts.reshape(len(signs), -1, q, p)
            squares = np.sum(parts**2, axis=2) * self._n[:, None]  # what the means take of the squares
            if not self._own:
                squares = squares.sum(axis=1, keepdims=True)
            v = np.maximum(self._squares - squares, 0) / (q * self._df[:, None])
            yield {self.effect: self._statistic(parts, v)}

    def _statistic(self, parts: np.ndarray, v: np.ndarray) -> np.ndarray:
        v = v.copy()
        for c, prior in enumerate(self._priors):
            if prior[0] > 0:
                v[:, c] = moderated(v[:, c], self._q * self._df[c], prior)
        w = np.broadcast_to(np.maximum(v, self._floor), (len(parts), parts.shape[1], parts.shape[3]))
        return wald(np.einsum("dk,fkqp->fdqp", self._B, parts), self._B, w / self._n[:, None])


def n_distinct(n_units: int) -> float:
    """Return the number of distinct flips: signs that are all turned give the same statistic."""
    return float(2 ** (n_units - 1)) if n_units < 1000 else float("inf")


def _sign_blocks(U: int, n_flips: int, size: int, seed: int) -> Iterator[np.ndarray]:
    """Yield blocks of signs, F x U: random ones, or every distinct one if there are no more than ``n_flips``."""
    if n_distinct(U) <= n_flips:
        every = np.arange(1, int(n_distinct(U)))  # all but the data themselves
        for start in range(0, len(every), size):
            bits = (every[start : start + size, None] >> np.arange(U)) & 1  # the last unit is never flipped
            yield 1.0 - 2.0 * bits
        return
    rng = np.random.default_rng(seed)
    for start in range(0, n_flips, size):
        yield rng.choice([-1.0, 1.0], (min(size, n_flips - start), U))


def _signs(seed: int, start: int, rows: slice, F: int) -> np.ndarray:
    """Return the signs of some rows under F flips, int8; they do not depend on how the rows are cut into blocks."""
    parts = []
    for chunk in range(rows.start // CHUNK, -(-rows.stop // CHUNK)):
        bits = np.random.default_rng([seed, start, 0, chunk]).integers(0, 2, (CHUNK, F), dtype=np.int8)
        first = chunk * CHUNK
        parts.append(bits[max(rows.start - first, 0) : rows.stop - first])
    return 1 - 2 * np.concatenate(parts)


def group_squares(X, codes: np.ndarray, n_groups: int) -> np.ndarray:
    """Sum the squared entries of X within each group, C x p, in one pass."""

    def update(out: np.ndarray, rows: slice, block) -> None:
        if arrays.is_sparse(block):
            block = arrays.canonical(block).astype(np.float64)
            block.data **= 2
        else:
            block = arrays.as_float(block) ** 2
        out += arrays.block_sums(block, codes[rows], n_groups)

    return to_numpy(arrays.reduce_rows(X, update, (n_groups, X.shape[1])))
