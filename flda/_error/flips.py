"""Random signs of residuals: the null distribution of the statistics of :mod:`flda._error.wald`.

The residual of a unit from the model without the tested effect is multiplied by a random sign, its whole row of genes
at once (the wild bootstrap with Rademacher weights, with the null hypothesis imposed). What results has no effect,
keeps the variance of every group and the correlations between genes, and needs no strata and no refit. The model is
fitted with weights of one over the variance of a group, averaged over genes, and a residual is divided by
``sqrt(1 - h)``, h its leverage, since a fit takes that much of its variance.

A flip leaves every sum of squares as it is, so the variance of group c is ``v_c* = (S_c - n_c g_c*^2) / (n_c - 1)``,
with S_c the squares of its residuals and g_c* their mean after the flip. Variances are moderated over genes, with the
same priors in the data and in every flip (:mod:`flda._error.variances`). Coefficients and variances of a flip are
scaled to the variance under the null that they have in the data (:mod:`flda._error.evening`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .._data import arrays
from .._data.device import asarray_like, to_numpy
from .._data.kernels import add_flips
from .._design.design import Design
from .._design.effects import Effect
from .adjusted import SlopeNoise
from .evening import MOST_TAKEN, to_one, to_variance
from .signs import TOGETHER, n_sums, sign_blocks, signs_of_rows
from .units import Units
from .variances import GroupVariances
from .wald import wald
from .weights import weighted_contrasts

BLOCK_BYTES = 2**27  # memory for the group sums of the flips that share a pass over the data
MOST_FLIPS = 1024  # number of flips that share a pass at most
CACHE_BYTES = 2**20  # memory for the arrays of the flips whose statistics are computed together
POOLED = 0.5  # share of the pooled variance of cells in the variance of each group
LEAST = 1e-6  # smallest variance of a gene that varies, as a share of the mean variance of all genes
ROUNDING = 1e-12  # share of its sum of squares below which the squares of a gene about its group means are rounding


class CellStatistics:
    """Statistics of effects with cells as units.

    Parameters
    ----------
    design
        The groups and effects.
    effects
        The effects to test.
    means, squares
        Mean of every group and gene, and sum of squared expression, C x p; with covariates, of what they do not
        predict (:mod:`flda._error.adjusted`).
    """

    unit = "cell"
    pooled = POOLED
    many = False  # whether the statistic is computed many times

    def __init__(self, design: Design, effects: list[Effect], means: np.ndarray, squares: np.ndarray):
        self.codes, self.n, self.means = design.codes, design.counts, means
        self.df, self.n_units = {e: design.df(e) for e in effects}, len(design.codes)
        n = self.n[:, None]
        self._slopes = None if design.covariates is None else SlopeNoise(design.covariates, design.codes)
        df = self.n - 1 if self._slopes is None else self._slopes.df
        self._squares = np.maximum(squares - n * means**2, 0)  # about the group means
        within = self._squares.sum(axis=0)
        still = within <= ROUNDING * squares.sum(axis=0)
        self._squares[:, still] = 0
        pooled = within / max(self.n_units - len(self.n), 1)
        self._relative = relative_variances(self._squares, df)
        contrasts = weighted_contrasts(design, means, np.where(still, 0.0, pooled), self._relative)
        self._contrasts = {e: contrasts[e] for e in effects}
        self._floor = floor(pooled.mean() or np.mean(means.var(axis=0)), still, self.n)
        # By chance a group expresses a gene in few of its cells, which gives it a low mean and a low variance at once;
        # with its own variance alone such a group would weigh too much, which no flip shows.
        self._variances = GroupVariances(self._squares, df, self.pooled)

    def observed(self) -> dict[Effect, np.ndarray]:
        """Compute the statistic of every gene, (p,), for each effect."""
        return {e: self._statistic(e, self.means[None], self._squares[None], self._slopes)[0] for e in self._contrasts}

    def units_of(self, effect: Effect) -> int:
        """Return the number of cells whose signs can change the coefficients of an effect."""
        return int(self.n[_has_part(self._contrasts[effect])].sum())

    def _statistic(
        self,
        effect: Effect,
        g: np.ndarray,
        squares: np.ndarray,
        slopes: SlopeNoise | None = None,
        scale: np.ndarray | None = None,
    ) -> np.ndarray:
        """Compute the statistic from group means and the squares about them, (F, C, p).

        ``slopes`` adds the noise of estimated slopes, and ``scale``, (F, df, df), multiplies the coefficients.
        """
        B, v = self._contrasts[effect], np.maximum(self._variances.of(squares), self._floor)
        g = g - g.mean(axis=1, keepdims=True)  # contrasts do not depend on it, and products lose fewer digits
        b = np.einsum("dc,fcp->fdp", B, g)
        b, w = b if scale is None else scale @ b, v / self.n[:, None]
        if slopes is not None:
            further, groups = slopes.parts(B)
            B, w = np.hstack([B, further]), np.concatenate([w, v[:, groups]], axis=1)
        return self._combined(effect, b[:, :, None], B, w)

    def _combined(self, effect: Effect, b: np.ndarray, B: np.ndarray, w: np.ndarray) -> np.ndarray:
        """Combine the coefficients (F, df, q, p) of an effect into one number per gene."""
        return wald(b, B, w, many=self.many)


class CellFlips(CellStatistics):
    """Statistics of effects with cells as units, also under random signs of the residuals of the cells.

    Parameters
    ----------
    X
        Expression, N x p, of any kind.
    design, effects, means, squares
        As in :class:`CellStatistics`.
    seed
        Seed of the signs.
    slopes
        Slopes of the covariates, q x p, if the design has any. They are the same in every flip: the statistic is
        studentised, so what their noise adds to the data need not be added to the flips.
    """

    many = True

    def __init__(
        self, X, design: Design, effects: list[Effect], means: np.ndarray, squares: np.ndarray, seed: int,
        slopes: np.ndarray | None = None,
    ):  # fmt: skip
        super().__init__(design, effects, means, squares)
        self.X, self._seed, p = X, seed, means.shape[1]
        self._covariates = np.empty((self.n_units, 0)) if design.covariates is None else design.covariates.values
        self._gamma = np.empty((0, p)) if slopes is None else slopes
        weights = self.n / self._relative
        fits = {e: reduced_fit(design, e, weights) for e in effects}
        self._reduced = {e: H @ means for e, H in fits.items()}
        self._stretch = {e: 1 / np.maximum(1 - np.diag(H) / self.n, 1e-12)[:, None] for e, H in fits.items()}
        n = self.n[:, None]  # squares about the fit, which no flip changes
        self._about = {e: (self._squares + n * (means - m) ** 2) * self._stretch[e] for e, m in self._reduced.items()}
        shares = {e: np.sum(self._contrasts[e] ** 2, axis=0) * self._relative / self.n for e in fits}
        self.n_sums = {e: n_sums(np.repeat(s / self.n, self.n)) for e, s in shares.items()}
        self._taken = {e: H * (self._relative / self.n) for e, H in fits.items()}  # covariance of the fitted means

    def flipped(self, n_flips: int) -> Iterator[dict[Effect, np.ndarray]]:
        """Yield the statistics, (F, p) for each effect, of blocks of F flips, n_flips in all."""
        C, p = self.means.shape
        size = int(np.clip(BLOCK_BYTES // (8 * C * p), 1, MOST_FLIPS))
        if size > TOGETHER:  # whole streams of signs, so that the signs of a flip do not depend on the number of groups
            size -= size % TOGETHER
        for start in range(0, n_flips, size):
            sums = self._flipped_sums(start, F := min(size, n_flips - start))
            # the algebra that follows is faster on arrays that fit into a cache
            few = max(1, CACHE_BYTES // (8 * C * p))
            for first in range(0, F, few):
                some = self._expression_and_signs(np.moveaxis(sums[:, :, first : first + few], 2, 0))
                yield {e: self._of_flips(e, *some) for e in self._reduced}

    def _of_flips(self, effect: Effect, sums: np.ndarray, signs: np.ndarray) -> np.ndarray:
        """Compute the statistic of one effect, (F, p), from sums of expression (F, C, p) and of signs (F, C, 1)."""
        fitted, stretch, n = self._reduced[effect], self._stretch[effect], self.n[:, None]
        g = (sums - signs * fitted) * (np.sqrt(stretch) / n)
        scale, grow = self._even(effect, signs[:, :, 0])
        squares = np.maximum(self._about[effect] - n * g**2, 0) * grow[:, :, None]
        return self._statistic(effect, g, squares, scale=scale)

    def _even(self, effect: Effect, signs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute the scale of the coefficients, (F, df, df), and of squares, (F, C), from the sums of the signs."""
        B, n, stretch = self._contrasts[effect], self.n, self._stretch[effect][:, 0]
        if 1 - 1 / stretch.max() >= MOST_TAKEN:
            return np.eye(len(B)), np.ones((1, len(n)))
        taken, noise = self._taken[effect], self._relative / n
        left = B * np.sqrt(stretch) * signs[:, None, :] / n
        C = (B * stretch * noise) @ B.T - left @ taken @ left.transpose(0, 2, 1)
        means = stretch * (1 - signs**2 * np.diag(taken) / (n * self._relative))  # n times their variance, relative
        return to_variance(C, (B * noise) @ B.T), to_one((n - means) / np.maximum(n - 1, 1))

    def _expression_and_signs(self, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return sums of expression less what covariates predict, (F, C, p), and of signs, (F, C, 1).

        ``sums``, (F, C, p + 1 + q), are those of :meth:`_flipped_sums`.
        """
        p = self.means.shape[1]
        sums = np.ascontiguousarray(sums)
        return sums[:, :, :p] - sums[:, :, p + 1 :] @ self._gamma, sums[:, :, p : p + 1]

    def _flipped_sums(self, start: int, F: int) -> np.ndarray:
        """Sum expression, one, and covariates, times the sign, over each group in F flips: (C, p + 1 + q, F)."""
        (C, p), codes, Z = self.means.shape, self.codes, self._covariates

        def update(out: np.ndarray, rows: slice, block) -> None:
            signs = signs_of_rows(self._seed, start, rows, F)
            if arrays.is_sparse(block):
                add_flips(out, block, codes[rows], signs)
            else:
                for c in np.unique(codes[rows]):
                    own = np.flatnonzero(codes[rows] == c)
                    s = asarray_like(block, signs[own]).astype(np.float64)
                    out[c, :p] += arrays.as_float(block[asarray_like(block, own)]).T @ s
            of_groups = arrays.indicator(codes[rows], C)
            out[:, p] += asarray_like(out, of_groups @ signs)
            for j, z in enumerate(Z[rows].T, start=p + 1):
                out[:, j] += asarray_like(out, of_groups @ (z[:, None] * signs))

        return to_numpy(arrays.reduce_rows(self.X, update, (C, p + 1 + Z.shape[1], F)))


class DonorStatistics:
    """Statistics of one effect with donors as units.

    If every combination of outer levels has two donors or more, it has a variance of its own. Otherwise the variance is
    that of what the outer effects leave, the same for all donors.

    Parameters
    ----------
    effect, units
        The effect, and the contrasts of its donors.

    Raises
    ------
    ValueError
        If there are too few donors for any variance.
    """

    unit = "donor"
    many = False  # whether the statistic is computed many times

    def __init__(self, effect: Effect, units: Units):
        self.effect = effect
        self.n_units, self._q, _ = units.values.shape
        counts, D = np.bincount(units.groups), units.model[units.groups]
        self._own = counts.min() >= 2  # every group has a variance of its own
        if self._own:
            # the parts are the means of the groups
            self._to_parts = np.eye(len(counts))[:, units.groups] / counts[:, None]
            self._B, self._n, self._df = np.linalg.pinv(units.model)[units.rows], counts, counts - 1
        else:
            # the parts are coordinates in an orthonormal basis of the model, with the variance of a unit
            basis = np.linalg.qr(D)[0]
            self._to_parts, self._B = basis.T, (np.linalg.pinv(D) @ basis)[units.rows]
            self._n, self._df = np.ones(D.shape[1]), np.array([self.n_units - D.shape[1]])
        if self._df.min() < 1:
            raise ValueError(
                f"the {self.n_units} donors of {effect.name!r} leave no degree of freedom to judge it by; leave out "
                "the interactions, or test without donors."
            )
        self.df = {effect: self._q * len(self._B)}
        self._values = units.values
        # squares of the units are added up in each group, or in all
        self._add = np.eye(len(counts))[:, units.groups] if self._own else np.ones((1, self.n_units))
        self._observed = self._spread(self._parts(units.values), units.values)[0]
        variances = self._observed / (self._q * self._df[:, None])
        still = self._observed.sum(axis=0) <= ROUNDING * np.sum(units.values**2, axis=(0, 1))
        self._observed[:, still] = 0
        units_of = counts if self._own else np.array([self.n_units])
        self._floor = floor(variances.mean() or np.mean(units.values**2), still, units_of)
        # groups that have no part in the effect do not lend it their variance: their signs must not matter
        weights = np.abs(self._B).max(axis=0)
        self._has_part = 1.0 * (weights > 1e-9 * weights.max())[:, None] if self._own else np.ones((1, 1))
        self._variances = GroupVariances(self._observed * self._has_part, self._q * self._df * self._has_part[:, 0])

    def observed(self) -> dict[Effect, np.ndarray]:
        """Compute the statistic of every gene, (p,)."""
        return {self.effect: self._statistic(self._parts(self._values), self._values)[0]}

    def units_of(self, effect: Effect) -> int:
        """Return the number of donors whose signs can change the coefficients of the effect."""
        return int(_has_part(self._B @ self._to_parts).sum())

    def at_least(self, variances: np.ndarray) -> None:
        """Set the smallest variance of every unit and gene, (U, p), such as that of counting."""
        of_groups = self._add @ variances / self._add.sum(axis=1, keepdims=True)
        self._floor = np.maximum(of_groups, self._floor)

    def _parts(self, rows: np.ndarray, signs: np.ndarray | None = None) -> np.ndarray:
        """Compute the parts of flipped units, (F, k, q, p)."""
        signs = np.ones((1, self.n_units)) if signs is None else signs
        maps = (self._to_parts * signs[:, None, :]).reshape(-1, self.n_units)
        return (maps @ rows.reshape(self.n_units, -1)).reshape(len(signs), -1, *rows.shape[1:])

    def _spread(self, parts: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Compute the squares of the units about the parts, (F, V, p), which no sign changes but through the parts."""
        taken = np.sum(parts**2, axis=2) * self._n[:, None]
        if not self._own:
            taken = taken.sum(axis=1, keepdims=True)
        return np.maximum(self._add @ np.sum(rows**2, axis=1) - taken, 0)

    def _statistic(
        self, parts: np.ndarray, rows: np.ndarray, scale: np.ndarray | None = None, grow: np.ndarray | float = 1.0
    ) -> np.ndarray:
        """Compute the statistic; ``scale``, (F, df, df), multiplies coefficients, and ``grow``, (F, V), variances."""
        v = self._variances.of(self._spread(parts, rows) * np.atleast_2d(grow)[:, :, None] * self._has_part)
        w = np.broadcast_to(np.maximum(v, self._floor), (len(parts), parts.shape[1], parts.shape[3]))
        b = np.einsum("dk,fkqp->fdqp", self._B, parts)
        b = b if scale is None else np.einsum("fde,feqp->fdqp", np.broadcast_to(scale, (len(b), *scale.shape[1:])), b)
        return self._combined(self.effect, b, self._B, w / self._n[:, None])

    def _combined(self, effect: Effect, b: np.ndarray, B: np.ndarray, w: np.ndarray) -> np.ndarray:
        """Combine the coefficients (F, df, q, p) into one number per gene."""
        return wald(b, B, w, many=self.many)


class DonorFlips(DonorStatistics):
    """Statistics of one effect with donors as units, also under signs of the residuals of the donors.

    Without outer factors the contrasts themselves are flipped, which is exact if their errors are symmetric.

    Parameters
    ----------
    effect, units
        The effect, and the contrasts of its donors.
    seed
        Seed of the signs.
    """

    many = True

    def __init__(self, effect: Effect, units: Units, seed: int):
        super().__init__(effect, units)
        self._seed, D = seed, units.model[units.groups]
        weights = 1 / relative_variances(self._observed, self._q * self._df)[units.groups if self._own else 0]
        weights = np.broadcast_to(weights, self.n_units)
        H = _projection(np.delete(D, units.rows, axis=1), weights)
        self._most_taken, root = np.diag(H).max(), np.sqrt(1 - np.diag(H))
        self._rows = (units.values - np.tensordot(H, units.values, 1)) / root[:, None, None]
        # covariance of the residuals, in units of the variance of a gene
        self._covariance = (np.eye(self.n_units) - H) / weights / np.outer(root, root)
        coefficients = self._B @ self._to_parts
        self._variance = (coefficients / weights) @ coefficients.T
        self.n_sums = {effect: n_sums(np.sum(coefficients**2, axis=0) / weights)}
        self._expected = np.bincount(units.groups, 1 / weights) / self._n if self._own else 1.0

    def flipped(self, n_flips: int) -> Iterator[dict[Effect, np.ndarray]]:
        """Yield the statistics, (F, p), of blocks of F flips; all of them if there are no more than ``n_flips``."""
        size = int(np.clip(BLOCK_BYTES // (8 * len(self._to_parts) * self._rows[0].size), 1, 256))
        for signs in sign_blocks(self.n_units, n_flips, size, self._seed):
            yield {self.effect: self._statistic(self._parts(self._rows, signs), self._rows, *self._even(signs))}

    def _even(self, signs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute the scale of the coefficients, (F, df, df), and of the variances, (F, V), for signs, (F, U)."""
        if self._most_taken >= MOST_TAKEN:
            return np.eye(len(self._B))[None], np.ones((1, len(self._add)))
        maps = self._to_parts * signs[:, None, :]
        parts = maps @ self._covariance @ maps.transpose(0, 2, 1)
        taken = np.diagonal(parts, axis1=1, axis2=2) * self._n
        if not self._own:
            taken = taken.sum(axis=1, keepdims=True)
        left = self._add @ np.diag(self._covariance) - taken
        scale = to_variance(self._B @ parts @ self._B.T, self._variance)
        return scale, to_one(left / (self._df * self._expected))


def floor(typical: float, still: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Return the smallest variance of every group and gene, C x p.

    For a gene that varies it only keeps divisions finite. A gene that varies within no group is a perfect marker, of
    which n_c alike units are known in group c: its variance is what it would be if one more unit had a typical
    deviation, the typical variance over n_c.

    Parameters
    ----------
    typical
        Mean variance of all genes.
    still
        Which genes vary within no group, (p,).
    n
        Number of units of each group, (C,).
    """
    typical = max(float(typical), 1e-300)
    return np.where(still, typical / n[:, None], LEAST * typical)


def relative_variances(squares: np.ndarray, df: np.ndarray) -> np.ndarray:
    """Return the variance of each group over the pooled one, averaged over genes, (C,).

    Parameters
    ----------
    squares
        Sum of squares of every group and gene about its mean, C x p.
    df
        Degrees of freedom of each group, (C,). A group without any is taken to have the pooled variance.
    """
    pooled = squares.sum(axis=0) / df.sum()
    varies = pooled > 0
    if not varies.any():
        return np.ones(len(df))
    ratios = np.mean(squares[:, varies] / pooled[varies], axis=1) / np.maximum(df, 1)
    return np.where(df > 0, np.maximum(ratios, 1e-3), 1.0)


def reduced_fit(design: Design, effect: Effect, weights: np.ndarray) -> np.ndarray:
    """Return the matrix, C x C, that maps group means to their weighted least-squares fit without one effect."""
    return _projection(design.without(effect), weights)


def _has_part(rows: np.ndarray) -> np.ndarray:
    """Return which columns of some rows are not zero."""
    size = np.abs(rows).max(axis=0)
    return np.asarray(size > 1e-9 * size.max())


def _projection(D: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Compute ``D (D' W D)^+ D' W``."""
    root = np.sqrt(weights)
    return D @ (np.linalg.pinv(root[:, None] * D) * root)


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
