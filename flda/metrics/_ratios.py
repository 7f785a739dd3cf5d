"""Signal-to-noise ratios of scores, without bias from the noise of the means or from the ratio.

The measures are those of the papers, with three corrections to their public code. Effects are estimated by least
squares on the group means, so every group counts the same however many cells it has. The noise of the means is
subtracted, using the variance of each group, or of the donors. Interactions are measured like main effects. The
estimates are unbiased, so the estimate for an effect that is zero may be negative; it is reported as it is.

A ratio of two estimates is not unbiased even if both of them are. Let N be the estimate of ``t' Q_S t``, with the noise
A already subtracted, and V the estimate of the within-group variance. To second order in the errors,
``E[N / V] = (t' Q_S t / v) (1 + rho) + kappa``, where v is the true variance, ``rho = var(V) / v^2`` and
``kappa = cov(A, V) / v^2``. :class:`RatioSums` therefore returns

    (1 - rho) N / V - kappa,

with estimates of rho and kappa for normal scores. If all groups have one variance, V has df degrees of freedom and
``rho = 2 / df``. With M = N + A the estimate is then ``(df - 2) / df M / V - sum_c Q_cc / n_c``, which is exactly
unbiased, because M and V are independent and ``E[1 / V] = df / ((df - 2) v)``. Unequal variances v_c need no other
formula: ``var(V)`` and ``cov(A, V)`` are sums over groups of ``2 v_c^2 / df_c``. With donors, V contains the spread of
the donors' means, whose covariances between groups enter in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from .._data.arrays import group_sums, indicator
from .._design.design import Design
from .._design.entry import donor_codes
from .._design.samples import Samples, sample_units
from ._input import Labels, finite, given_design, scored_cells

MOST_RHO = 2 / 3  # largest relative variance of V that is corrected, which is that of 3 degrees of freedom


def mean_products(
    scores: ArrayLike, design: Design | Labels, donors: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Estimate the products ``t_c t_d`` of the true group means t without bias, and the within-group variance.

    The square of an observed mean contains the variance of its noise. Without donors cells are independent, and
    ``v_c / n_c`` is subtracted from the diagonal, where v_c is the variance of group c (for a group of one cell, the
    pooled variance). With donors only products of the means of different donors are used, so nothing that the cells of
    a donor share can contribute. Where one donor makes up both groups there are no such pairs, and the product of the
    observed means is used, again less ``v_c / n_c`` on the diagonal.

    If the noise is what the effects leave of single units (:mod:`flda._design.unit_model`), the means are the fitted
    ones, and the variance of what is left, times their covariance, is subtracted.

    Parameters
    ----------
    scores
        Scores of cells, (N, k).
    design
        The design of these cells, such as ``model.design_``; or their labels, in any form that :meth:`flda.FLDA.fit`
        takes, whose design then has all interactions.
    donors
        Donor of each cell, (N,).

    Returns
    -------
    T
        Estimated products, (k, C, C). A common shift of all means is removed first, which no effect depends on.
    within
        Variance among the cells of a group, donors included, averaged over groups, (k,).
    """
    scores, design, donors = scored_cells(scores, design, donors)
    if design.unit_model is not None:
        means = design.unit_model.group_means(scores)
        v = np.sum(design.unit_model.residuals(scores) ** 2, axis=0) / design.unit_model.df
        means -= means.mean(axis=0)
        return np.einsum("ck,dk->kcd", means, means) - v[:, None, None] * design.unit_model.covariance, v
    units, donor = _units(design, donors)
    scores = without_covariates(scores, design, units.codes)
    own = group_sums(scores, units.codes, len(donor)) / units.counts[:, None]
    squares = group_sums((scores - own[units.codes]) ** 2, units.codes, len(donor))
    own -= own.mean(axis=0)  # effects do not depend on a common shift, and without it the products are less noisy
    found = [_products(np.outer(m, m), s, units, donor) for m, s in zip(own.T, squares.T, strict=True)]
    return np.array([T for T, _ in found]), np.array([v.mean() for _, v in found])


def without_covariates(scores: np.ndarray, design: Design, samples: np.ndarray) -> np.ndarray:
    """Take off the scores, N x k, what the covariates of a design predict within samples, at their mean of zero.

    What is left within samples is lengthened for the degrees of freedom that the slopes cost.
    """
    if design.covariates is None:
        return scores
    Z, sizes = design.covariates.values, np.bincount(samples)[:, None]
    means = group_sums(Z, samples, len(sizes)) / sizes
    own = group_sums(scores, samples, len(sizes)) / sizes
    Y, rest = Z - means[samples], scores - own[samples]
    slopes, _, rank, _ = np.linalg.lstsq(Y, rest, rcond=1e-8)
    df = len(Z) - len(sizes)
    longer = np.sqrt(df / (df - rank)) if df > rank else 1.0
    return (own - means @ slopes)[samples] + longer * (rest - Y @ slopes)


def total_products(
    sums: ArrayLike, squares: ArrayLike, design: Design | Labels, donors: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Compute :func:`mean_products` of every gene, summed over genes, from sums and squares alone.

    Parameters
    ----------
    sums
        Sum of the cells of each sample, S x p, with samples in the order of their groups and then of their donors.
        Without donors each group is one sample.
    squares
        Sum of the squared entries of these cells, (S,).
    design, donors
        As in :func:`mean_products`.

    Returns
    -------
    T (1, C, C) and the within-group variance (1,).
    """
    sums, squares = finite(sums, "sums"), np.asarray(squares, dtype=float)
    design = given_design(design)
    donors, _ = donor_codes(donors, len(design.codes))
    if design.unit_model is not None:
        weights = np.bincount(design.codes, design.unit_model.root**2, design.n_groups)
        own = sums / weights[:, None]
        v = (squares.sum() - weights @ np.einsum("ij,ij->i", own, own)) / design.unit_model.df
        own -= own.mean(axis=0)
        return (own @ own.T - v * design.unit_model.covariance)[None], np.array([v])
    units, donor = _units(design, donors)
    own = sums / units.counts[:, None]
    spread = squares - units.counts * np.einsum("ij,ij->i", own, own)  # squares about the mean of the sample
    own -= own.mean(axis=0)
    T, v = _products(own @ own.T, spread, units, donor)
    return T[None], np.array([v.mean()])


def effect_snr(scores: ArrayLike, design: Design | Labels, donors: ArrayLike | None = None) -> dict[str, np.ndarray]:
    """Estimate the signal-to-noise ratio (SNR) of every effect in the scores on each axis.

    The SNR of effect S is its mean square ``t' Q_S t`` in the true group means t, over the within-group variance. Both
    are estimated without bias; see :func:`mean_products`.

    Parameters
    ----------
    scores, design, donors
        As in :func:`mean_products`.

    Returns
    -------
    Effect name -> SNR of each axis, (k,), named contrasts included. It is NaN if the scores show no variance within
    groups, for example because every group has a single cell: nothing then says how large the noise is. The ratio
    itself is slightly too large with few cells; the certificate (:func:`flda.inference.certify`) corrects this.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> labels = pd.DataFrame({"A": ["p", "p", "p", "q", "q", "q"]})
    >>> snr = effect_snr(np.array([[0.0], [1.0], [2.0], [4.0], [5.0], [6.0]]), labels)
    >>> round(float(snr["A"][0]), 3)  # means 1 and 5, variance 1: mean square 8, less 1/3 for noise
    7.667
    """
    scores, design, donors = scored_cells(scores, design, donors)
    T, v = mean_products(scores, design, donors)
    v = np.where(v > 0, v, np.nan)
    return {e.name: np.einsum("cd,kcd->k", design.scatter_weights(e), T) / v for e in design.judged}


@dataclass(frozen=True)
class RatioSums:
    """Estimates from which the SNR of every effect on every axis follows; those of several folds can be added.

    Folds are added before the ratio is taken, so that a fold with a small estimate of the variance cannot dominate.
    The scores of different folds must have a comparable scale.

    Attributes
    ----------
    mean_squares
        Effect name -> estimate N of the mean square of the effect on each axis, (k,).
    within
        Estimate V of the within-group variance, (k,).
    variance
        Estimate of var(V), (k,).
    covariances
        Effect name -> estimate of cov(A, V), where A is the noise that was subtracted in N, (k,).
    """

    mean_squares: dict[str, np.ndarray]
    within: np.ndarray
    variance: np.ndarray
    covariances: dict[str, np.ndarray]

    @classmethod
    def of(cls, scores: np.ndarray, design: Design, donors: np.ndarray | None = None) -> RatioSums:
        """Compute the estimates from the scores of cells; the arguments are those of :func:`mean_products`."""
        model = design.unit_model
        if model is not None:  # as below, with what the effects leave for the noise of the fitted means
            means, v = model.group_means(scores), np.sum(model.residuals(scores) ** 2, axis=0) / model.df
            rows = {e.name: design.rows(e) / np.sqrt(design.df(e)) for e in design.judged}
            noise = {name: float(np.sum((B @ model.covariance) * B)) for name, B in rows.items()}
            variance = 2 * v**2 / (model.df + 2)
            return cls(
                {name: np.sum((B @ means) ** 2, axis=0) - v * noise[name] for name, B in rows.items()}, v, variance,
                {name: noise[name] * variance for name in rows},
            )  # fmt: skip
        T, v = mean_products(scores, design, donors)
        weights = {e.name: design.scatter_weights(e) for e in design.judged}
        units, donor = _units(design, donors)
        scores = without_covariates(scores, design, units.codes)
        own = group_sums(scores, units.codes, len(donor)) / units.counts[:, None]
        squares = group_sums((scores - own[units.codes]) ** 2, units.codes, len(donor))
        found = [_moments(m, s, units, donor, weights) for m, s in zip(own.T, squares.T, strict=True)]
        return cls(
            {name: np.einsum("cd,kcd->k", Q, T) for name, Q in weights.items()},
            v,
            np.array([variance for variance, _ in found]),
            {name: np.array([of[name] for _, of in found]) for name in weights},
        )

    def __add__(self, other: RatioSums) -> RatioSums:
        """Add the estimates of two sets of cells whose axes were fitted without them."""
        return RatioSums(
            {e: n + other.mean_squares[e] for e, n in self.mean_squares.items()},
            self.within + other.within,
            self.variance + other.variance,
            {e: c + other.covariances[e] for e, c in self.covariances.items()},
        )

    def __truediv__(self, number: float) -> RatioSums:
        """Divide the estimates by a number, such as that of the folds, which leaves the ratios as they are."""
        return RatioSums(
            {e: n / number for e, n in self.mean_squares.items()},
            self.within / number,
            self.variance / number**2,
            {e: c / number**2 for e, c in self.covariances.items()},
        )

    def correlated(self, factor: float) -> RatioSums:
        """Multiply var(V) and cov(A, V) by a factor, for a sum over folds that share units."""
        covariances = {e: factor * c for e, c in self.covariances.items()}
        return RatioSums(self.mean_squares, self.within, factor * self.variance, covariances)

    def at_least(self, within: float) -> RatioSums:
        """Return the same with a smallest V."""
        return replace(self, within=np.maximum(self.within, within))

    def snr(self) -> dict[str, np.ndarray]:
        """Compute ``(1 - rho) N / V - kappa`` of every effect and axis; see the head of this module.

        With fewer than three degrees of freedom of V no unbiased estimate exists. The correction of three degrees of
        freedom is then used. The SNR is NaN for an axis without variance within groups.
        """
        V, square, rho = self._noise()
        cut = np.minimum(1, MOST_RHO / np.maximum(rho, MOST_RHO))
        out = {}
        for name, N in self.mean_squares.items():
            kappa = np.divide(self.covariances[name], square, out=np.zeros_like(V), where=square > 0)
            out[name] = (1 - np.minimum(rho, MOST_RHO)) * N / V - cut * kappa
        return out

    def errors(self, left: Sequence[RatioSums], names: Sequence[Sequence[str]]) -> np.ndarray:
        """Compute the standard error of the sum of the SNR of some effects on each axis, (k,).

        It is the jackknife of ``N - r V`` with the ratio r = N / V of all cells, which is the linear part of the ratio.
        A ratio of few cells has a long tail, and so would the ratios without one of them.

        Parameters
        ----------
        left
            The estimates without one unit or fold, each in the same units as this one.
        names
            The effects of each axis whose SNR is summed.
        """
        V, _, rho = self._noise()
        out = np.full(len(V), np.nan)
        if len(left) < 2:
            return out
        for axis, effects in enumerate(names):

            def total(sums: RatioSums, axis: int = axis, effects: Sequence[str] = effects) -> float:
                return float(sum(sums.mean_squares[e][axis] for e in effects))

            ratio = total(self) / V[axis]
            moved = np.array([total(other) - ratio * other.within[axis] for other in left])
            out[axis] = np.sqrt((len(left) - 1) * moved.var()) / V[axis]
        return (1 - np.minimum(rho, MOST_RHO)) * out

    def _noise(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return V (NaN where it is zero), the estimate of v^2, and rho."""
        V = np.where(self.within > 0, self.within, np.nan)
        square = V**2 - self.variance  # V^2 overestimates v^2 by var(V)
        return V, square, np.divide(self.variance, square, out=np.full_like(V, np.inf), where=square > 0)


def _units(design: Design, donors: np.ndarray | None) -> tuple[Samples, np.ndarray]:
    """Return the samples and the donor of each; without donors, each group is one sample."""
    units = sample_units(design, donors)
    first = np.unique(units.codes, return_index=True)[1]
    return units, np.zeros(len(first), dtype=np.int64) if donors is None else donors[first]


def _products(D: np.ndarray, squares: np.ndarray, units: Samples, donor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute T (C x C) and the variance of each group (C,) for one axis.

    Parameters
    ----------
    D
        Products of the sample means, S x S.
    squares
        Sum of squares of the cells of each sample about its mean, (S,).
    units, donor
        The samples, and the donor of each.
    """
    A = indicator(units.groups, units.groups.max() + 1).toarray()  # A (C x S) sums the samples of each group
    n, n_samples = A @ units.counts, A.sum(axis=1)
    # v_c: variance of the cells of a group within its samples; the pooled one if every sample has a single cell
    pooled = squares.sum() / max(n.sum() - n_samples.sum(), 1)
    cells = np.where(n > n_samples, A @ squares / np.maximum(n - n_samples, 1), pooled)
    # T_cd is the mean of m_s m_t over all samples s of group c and t of group d from different donors: the noise of
    # such a pair is independent, so the mean product has no bias and no variance has to be estimated
    same = donor[:, None] == donor
    pairs = np.outer(n_samples, n_samples) - A @ same @ A.T
    # without such a pair (no donors, or one donor alone in both groups): product of the means, less v_c / n_c if c = d
    alone = A @ D @ A.T / np.outer(n_samples, n_samples) - np.diag(cells / n)
    T = np.where(pairs > 0, A @ (D * ~same) @ A.T / np.maximum(pairs, 1), alone)
    # the variance of a cell of a new donor is that between donors plus v_c: the sample means have the variance between
    # donors plus v_c times the mean of 1 / n_s, so v_c (1 - that mean) is still missing
    spread = (A @ np.diag(D) - np.diag(A @ D @ A.T) / n_samples) / np.maximum(n_samples - 1, 1)
    inverse = A @ (1 / units.counts) / n_samples
    return T, np.where(n_samples > 1, spread + cells * (1 - inverse), cells)


def _moments(
    means: np.ndarray, squares: np.ndarray, units: Samples, donor: np.ndarray, weights: Mapping[str, np.ndarray]
) -> tuple[float, dict[str, float]]:
    """Estimate var(V) and, for every effect, cov(A, V) on one axis, for normal scores.

    ``E[2 s^4 / (df + 2)] = 2 v^2 / df = var(s^2)`` for an estimate s^2 of a variance v with df degrees of freedom.

    Parameters
    ----------
    means
        Mean score of each sample, (S,).
    squares, units, donor
        As in :func:`_products`.
    weights
        Effect name -> Q_S (C x C).
    """
    n_groups = int(units.groups.max()) + 1
    A = indicator(units.groups, n_groups).toarray()
    n, n_samples = A @ units.counts, A.sum(axis=1)
    # the variance of cells within samples: v_c has df_c degrees of freedom; a group without any takes the pooled one
    df = n - n_samples
    found = A @ squares / np.maximum(df, 1)
    variances = np.where(df > 0, 2 * found**2 / (df + 2), 0.0)
    pooled = df / max(df.sum(), 1)  # the pooled variance is this combination of the v_c
    inverse = A @ (1 / units.counts) / n_samples
    in_V = np.where(n_samples > 1, 1 - inverse, 1.0) / n_groups
    in_V = np.where(df > 0, in_V, 0) + pooled * in_V[df == 0].sum()
    total = float(variances @ in_V**2)
    noise = {}
    for name, Q in weights.items():
        in_A = np.where(n_samples > 1, 0, np.diag(Q) / n)
        in_A = np.where(df > 0, in_A, 0) + pooled * in_A[df == 0].sum()
        noise[name] = float(variances @ (in_A * in_V))
    if n_samples.max() == 1:
        return total, noise

    # the spread of the donors' means: s (C x C) is their covariance over the donors that two groups share
    table, present = np.zeros((int(donor.max()) + 1, n_groups)), np.zeros((int(donor.max()) + 1, n_groups))
    table[donor, units.groups] = means - (A @ means / n_samples)[units.groups]
    present[donor, units.groups] = 1
    shared = present.T @ present
    nu = shared - 1
    known = (nu > 0) & (n_samples > 1) & (n_samples[:, None] > 1)
    safe = np.where(known, nu, 1)
    s = np.where(known, table.T @ table / safe, 0.0)
    # x estimates sigma_cd^2 without bias: E[s_cd^2] = x (1 + 1/nu) + y / nu, and E[s_cc s_dd] = y + 2 x / nu
    product = np.outer(np.diag(s), np.diag(s))
    with_spare = (s**2 - product / safe) * safe**2 / ((safe + 2) * np.maximum(safe - 1, 1))
    x = np.where(safe > 1, with_spare, s**2 / 3)
    np.fill_diagonal(x, np.diag(s) ** 2 * np.diag(safe) / (np.diag(safe) + 2))
    x = np.where(known, x, 0.0)
    total += max(float(np.sum(2 * x / safe)), 0.0) / n_groups**2
    own = np.sum(2 * x / safe, axis=1)  # sum over e of cov(s_cc, s_ee)
    other = 2 * (s @ s) / (safe + 2)  # sum over e of cov(s_cd, s_ee)
    np.fill_diagonal(other, own)
    for name, Q in weights.items():
        noise[name] += float(np.sum(np.where(known, Q * shared / np.outer(n_samples, n_samples) * other, 0))) / n_groups
    return total, noise
