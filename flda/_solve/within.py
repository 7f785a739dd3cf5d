"""Group means and the within-group scatter M_e of the data.

The within-group scatter is one formula with a weight w_c for each group::

    M_e = sum_i w_{c(i)} (x_i - g_{c(i)}) (x_i - g_{c(i)})',    sum_c w_c (n_c - 1) = 1

where x_i is the expression of cell i, c(i) its group, g_c the mean and n_c the number of cells of group c. With
``within="pooled"`` w_c is constant, so M_e is the within-group sum of squares over N - C. With ``"balanced"`` w_c is
proportional to 1 / n_c, so the covariance of every group counts the same; that is the estimator of Qiao and Meister up
to a constant. Both are unbiased when the groups share one covariance. A group of one cell adds nothing to either.

When a factor varies between donors, the cells of one donor are not independent replicates of its levels, and the error
term gets a donor level. A sample s is the cells of one donor in one group, with n_s cells and mean m_s. S is the number
of samples, S_c that of group c, and n the harmonic mean of all n_s. The group mean g_c is the mean of the sample means,
so that every donor counts the same. The scatter is then::

    M_cell  = sum_i w_{c(i)} (x_i - m_{s(i)}) (x_i - m_{s(i)})',    sum_c w_c (n_c - S_c) = 1
    M_donor = sum_s (m_s - g_{c(s)}) (m_s - g_{c(s)})' / (S - C)
    M_e     = M_cell + delta n M_donor,    delta = (1 - tr M_cell / n tr M_donor)_+

M_donor is the covariance of the sample means: that between donors plus about 1/n of that of the cells. The share of
the donors in it is delta, so that the cells do not count twice: M_e is on the scale of the covariance of cells plus n
times that of donors, and M_e over n on that of a sample mean. Without a variance between donors M_e is M_cell.

With donors, too, M_e is one sum over cells, ``sum_i w_{c(i)} (x_i - h_{s(i)}) (x_i - h_{s(i)})'``. The centres
``h_s = g_c - (phi_s - 1) (m_s - g_c)`` are such that ``x_i - h_s = (x_i - m_s) + phi_s (m_s - g_c)``; the cross term
vanishes in the sum over a sample, and ``phi_s^2 = delta n / (w_c n_s (S - C))`` gives the second term its weight.
Without donors the samples are the groups, and h_s is g_c.

With covariates z_i everything holds for ``x_i - Gamma' z_i`` in place of x_i (:mod:`flda._solve.slopes`).

If the noise is what the effects leave of single units (:mod:`flda._design.unit_model`), the columns of the linear model
take the place of the covariates, in a fit without any mean: all units form one sample with the centre zero, and rows of
X and of the columns are multiplied by the roots of the precision weights. Then ``M_e = sum_i w r_i r_i'`` of the
residuals r_i with ``w = 1 / (N - q)``, and the group means are linear combinations of the slopes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from .._data import arrays
from .._data.summary import summarise
from .._design.covariates import Covariates
from .._design.samples import Samples
from .._design.unit_model import UnitModel
from .residuals import Residuals
from .sample_weights import donor_part, group_weights, mean_size, n_effective, scaled_centres
from .slopes import Deviations, Slopes, with_slopes


@dataclass(frozen=True)
class Within(Residuals):
    """Group means and the within-group scatter M_e of the data X (N x p).

    M_e itself is formed only by the methods that return it, which :class:`Residuals` holds.

    Attributes
    ----------
    X
        Expression, N x p, of any kind.
    codes
        Group of each cell, (N,).
    counts, weights
        Number of cells n_c and weight w_c of each group, (C,).
    means
        Group means G, C x p.
    sample_codes
        Sample of each cell, (N,). Without donors in the error term the samples are the groups.
    sample_means, centres
        Mean m_s of each sample, and the centre h_s from which its cells are measured, S x p.
    samples
        The samples, if donors are in the error term, and None otherwise.
    delta
        Share of the donors in the covariance of the sample means.
    covariates
        The covariates and their slopes, or None. All means and centres above are those of ``x - Gamma' z``.
    units
        The linear model of single units, or None. With it ``X`` and ``covariates`` are its scaled rows and its columns,
        ``codes``, ``counts`` and ``weights`` are those of one sample, and ``means`` are the fitted group means.
    """

    X: Any
    codes: np.ndarray
    counts: np.ndarray
    weights: np.ndarray
    means: np.ndarray
    sample_codes: np.ndarray
    sample_means: np.ndarray
    centres: np.ndarray
    samples: Samples | None = None
    delta: float = 1.0
    covariates: Slopes | None = None
    units: UnitModel | None = None

    @classmethod
    def of_units(cls, X, units: UnitModel, *, scaled: bool = False) -> Within:
        """Fit the linear model of single units, in one pass over X; its rows may be ``scaled`` already."""
        N, p = X.shape
        if units.weights is not None and not scaled:
            X = arrays.scaled_rows(X, units.root)
        codes, zero, weight = np.zeros(N, dtype=np.int64), np.zeros((1, p)), np.full(1, 1 / N)
        deviations = Deviations(units.columns, codes, weight[codes], centred=False)
        fitted = Slopes.fit(X, deviations, weight[codes])
        means = (units.to_groups @ fitted.slopes)[: len(units.of_groups)]
        weights = weight * deviations.factor
        return cls(X, codes, np.array([N]), weights, means, codes, zero, zero, covariates=fitted, units=units)

    @classmethod
    def from_data(
        cls,
        X,
        codes: np.ndarray,
        counts: np.ndarray,
        within: str,
        samples: Samples | None = None,
        sums: np.ndarray | None = None,
        squares: np.ndarray | None = None,
        covariates: Covariates | None = None,
    ) -> Within:
        """Compute the group means of X, and with donors in the error term the sample means and their centres.

        Covariates take one more pass over X.

        Parameters
        ----------
        X
            Expression, N x p, of any kind.
        codes, counts
            Group of each cell, (N,), and number of cells in each group, (C,).
        within
            ``"pooled"`` or ``"balanced"``.
        samples
            The samples, if donors are in the error term.
        sums
            Sum of the rows of each sample (without ``samples``, of each group). If None, they take one pass over X.
        squares
            Sum of the squared entries of each sample, (S,), which is needed with ``samples`` only; given with ``sums``.
        covariates
            The covariates of the cells.
        """
        if sums is None:
            units, n_units = (codes, len(counts)) if samples is None else (samples.codes, len(samples.counts))
            found = summarise(X, units, n_units)
            sums, squares = found.sums, found.squares.sum(axis=1)
        sample_codes, sizes, groups = codes, counts, np.arange(len(counts))
        if samples is not None:
            sample_codes, sizes, groups = samples.codes, samples.counts, samples.groups
        n_samples = np.bincount(groups)
        weights, own, fitted = group_weights(counts, within, n_samples), sums / sizes[:, None], None
        taken = 0.0  # squares that the slopes take from the cells
        if covariates is not None:
            deviations = Deviations(covariates, sample_codes, weights[codes])
            fitted = Slopes.fit(X, deviations, weights[codes])
            taken, weights = fitted.squares * deviations.factor, weights * deviations.factor
        raw, own = own, own if fitted is None else own - fitted.deviations.means @ fitted.slopes
        means = arrays.group_sums(own, groups, len(counts)) / n_samples[:, None]
        if samples is None:
            return cls(X, codes, counts, weights, means, codes, means, means, covariates=fitted)
        assert squares is not None
        cells = weights[groups] @ (squares - sizes * np.einsum("sp,sp->s", raw, raw)) - taken  # tr M_cell
        delta = donor_part(samples, own, means, float(cells))
        centres = scaled_centres(own, means, samples, weights, delta)
        return cls(X, codes, counts, weights, means, samples.codes, own, centres, samples, delta, fitted)

    def of_fit(self, squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return sums and sums of squares of every group, C x p, with the same fit of a linear model of units.

        They are those of the fitted means, less what covariates predict, and of equal shares of what the model leaves.

        Parameters
        ----------
        squares
            Weighted sum of the squares of each gene, (p,).
        """
        assert self.units is not None
        assert self.covariates is not None
        weights = np.bincount(self.units.codes, self.units.root**2, len(self.means))[:, None]
        M, b = self.covariates.values, self.covariates.slopes
        left = np.maximum(squares - np.sum(b * (M.T @ M @ b), axis=0), 0)
        return weights * self.means, weights * self.means**2 + weights / weights.sum() * left

    def with_delta(self, delta: float) -> Within:
        """Return the same with another share of the donors, as that of more genes."""
        if self.samples is None:
            return self
        centres = scaled_centres(self.sample_means, self.means, self.samples, self.weights, delta)
        return replace(self, centres=centres, delta=delta)

    @cached_property
    def centre(self) -> np.ndarray:
        """Unweighted mean of the group means, (p,), which is the origin of the axes."""
        return self.means.mean(axis=0)

    @cached_property
    def centred_means(self) -> np.ndarray:
        """Group means less their unweighted mean, C x p.

        Effects do not depend on this shift, but sums of products lose fewer digits without it.
        """
        return self.means - self.centre

    @property
    def coefficients(self) -> np.ndarray:
        """The centred group means, and below them the slopes of the covariates, (C + q) x p.

        With a linear model of units it is the zero mean of the one sample, and all slopes of the model.
        """
        means = self.centred_means if self.units is None else self.centres
        return with_slopes(means, None if self.covariates is None else self.covariates.slopes)

    @property
    def of_covariates(self) -> np.ndarray | None:
        """Slopes of the covariates, k x p, or None; not of the effects of a linear model of units."""
        if self.covariates is None:
            return None
        slopes = self.covariates.slopes
        if self.units is None:
            return slopes
        return None if self.units.covariates is None else slopes[self.units.of_groups.shape[1] :]

    def raw_rows(self, cells: np.ndarray) -> Any:
        """Return the expression of some cells, without the scale of precision weights."""
        return self.unscaled(self.X[cells], cells)

    def unscaled(self, X: Any, cells: np.ndarray | None = None) -> Any:
        """Return rows of all cells, or of some, without the scale of precision weights."""
        if self.units is None or self.units.weights is None:
            return X
        return arrays.scaled_rows(X, 1 / (self.units.root if cells is None else self.units.root[cells]))

    @property
    def sample_sums(self) -> np.ndarray:
        """Sum of the cells of each sample, S x p."""
        own = self.sample_means
        if self.covariates is not None:
            own = own + self.covariates.deviations.means @ self.covariates.slopes
        return np.bincount(self.sample_codes)[:, None] * own

    @property
    def covariate_sums(self) -> np.ndarray:
        """The sum of ``w z x'`` over all cells, q x p."""
        assert self.covariates is not None
        deviations = self.covariates.deviations
        of_samples = (self.sample_weights[:, None] * deviations.means).T @ self.sample_sums
        return deviations.factor * deviations.A @ self.covariates.slopes + of_samples

    @property
    def n_effective(self) -> np.ndarray:
        """Number of independent cells whose noise is taken to equal that of each group mean, (C,).

        ``diag(M_e) / n_effective[c]`` is the variance of the mean of group c, for each gene.
        """
        return self.counts if self.samples is None else n_effective(self.samples)

    @property
    def sample_weights(self) -> np.ndarray:
        """Weight of the cells of each sample, (S,)."""
        return self.weights if self.samples is None else self.weights[self.samples.groups]

    @cached_property
    def cell_weights(self) -> np.ndarray:
        """Weight w_{c(i)} of each cell, (N,)."""
        return self.weights[self.codes]

    def donor_share(self, variances: np.ndarray) -> float | None:
        """Estimate the share of donors in the within-group variance of all genes, from diag(M_e).

        Cells alone give the sample means 1/n of the variance of a cell, which is subtracted from tr(M_donor). The share
        is negative if that exceeds tr(M_donor), and None if the error term has no donor level.
        """
        if self.samples is None:
            return None
        total = self.donor_variances().sum()  # tr M_donor
        cells = np.sum(variances) - self.delta * mean_size(self.samples) * total  # tr M_cell
        donors = total - cells / mean_size(self.samples)
        return float(donors / (donors + cells))

    def donor_variances(self) -> np.ndarray:
        """Compute diag(M_donor), (p,)."""
        assert self.samples is not None
        spread = self.sample_means - self.means[self.samples.groups]
        return np.einsum("sp,sp->p", spread, spread) / (len(spread) - len(self.counts))

    def variances_of_cells(self, variances: np.ndarray) -> np.ndarray:
        """Return the variance of a cell about the mean of its group, (p,), from diag(M_e).

        With donors in the error term that is M_cell + delta M_donor: of a cell of a new donor.
        """
        if self.samples is None:
            return variances
        rest = self.delta * (mean_size(self.samples) - 1) * self.donor_variances()
        return np.maximum(variances - rest, 0)
