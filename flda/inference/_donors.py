"""The held-out statistic of one effect when whole donors are exchanged.

Only the means of the S samples enter (a sample is the cells of one donor in one group), so all matrices are small. Let
Y be the sample means (S x p), M_cell the scatter of the cells about them, which no exchange of donors changes, and
``M_0(g) = (1 - g) M_cell + g T``. Every axis lies in the span of ``M_0(g)^-1 Y'``, and group means and held-out samples
are linear combinations of the rows of Y. So the data enter only through ``Gamma = Y M_0(g)^-1 Y'`` (S x S), which is
computed once for every g.

Two steps of the test change Gamma:

* Effects are removed and added back under the exchanged labels by a linear map of the samples, ``Y -> W Y``, so
  ``Gamma -> W Gamma W'``.
* The error term has a donor level, ``M_e(g) = M_0(g) + (1 - g) n M_donor``. With D (S_train x S) the map from the
  samples to the deviations of the training samples from their group mean, ``(1 - g) n M_donor = k (D Y)' (D Y)``, where
  ``k = (1 - g) n / (S_train - C)``. By Woodbury's identity this turns Gamma into
  ``Gamma - Gamma D' (I / k + D Gamma D')^-1 D Gamma``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .._data import arrays
from .._data.device import to_numpy
from .._design.design import Design
from .._design.samples import Samples, donor_levels
from .._design.table import Table
from .._solve.choose import choose_solver
from .._solve.criterion import Criterion
from .._solve.group_space import GroupSpace
from .._solve.objective import Objective
from .._solve.within import Within
from ..metrics._genes import f_ratio, noise_share
from ._schemes import Scheme, every_assignment, permuted_codes

N_FOLDS = 10  # the number of donors, if that is smaller


class DonorStatistics:
    """Computes the statistic of one effect for any exchange of levels between donors.

    Parameters
    ----------
    X
        Expression, N x p, in memory.
    design, scheme
        The design, and what is permuted.
    donors
        Donor of each cell, an integer from 0.
    objective
        What the axes maximise, with equal weights of the groups.
    n_components
        Number of axes of the tested effect.
    grid
        Values of the shrinkage g, above 0.
    rng
        Generator that assigns the donors to folds, without regard to labels.
    """

    def __init__(
        self, X, design: Design, donors: np.ndarray, scheme: Scheme, objective: Objective,
        n_components: int, grid: Sequence[float], rng: np.random.Generator,
    ):  # fmt: skip
        self.design, self.scheme, self.grid = design, scheme, grid
        self.objective, self.n_components = objective, n_components
        self.samples = samples = Samples.of(design.codes, donors)
        self.donor = donors[np.unique(samples.codes, return_index=True)[1]]
        self.units, self.strata = donor_levels(design, donors), scheme.strata
        n_donors = len(self.units)
        self.fold = (rng.permutation(n_donors) % min(n_donors, N_FOLDS))[self.donor]
        self.n = len(samples.counts) / np.sum(1 / samples.counts)  # harmonic mean of the cells per sample
        if len(samples.codes) > len(samples.counts):
            within = Within.from_data(X, samples.codes, samples.counts, "pooled")
            self.means = within.centred_means
            inverse = choose_solver("auto", X, 1.0, len(samples.counts))(within, "diagonal")
            self.cell_variances = inverse.variances
            self.gamma = [self.means @ inverse.factor(g).solve(self.means.T) for g in grid]
        else:  # every sample is a single row, as in pseudobulk data, so M_cell = 0 and T is the variance of the samples
            self.means = to_numpy(arrays.dense(arrays.by_rows(X)))[np.argsort(samples.codes)]
            self.means -= self.means.mean(axis=0)
            variances = self.means.var(axis=0)
            self.cell_variances = np.zeros_like(variances)
            target = np.where(variances > 0, variances, 1.0)
            self.gamma = [self.means / target @ self.means.T / g for g in grid]

    def permuted(self, rng: np.random.Generator) -> np.ndarray:
        """Return the level codes of the donors after one random permutation."""
        return permuted_codes(self.scheme, self.units, self.strata, rng)

    def every(self) -> Iterator[np.ndarray]:
        """Yield all distinct assignments of levels to donors."""
        return every_assignment(self.scheme, self.units, self.strata)

    def statistics(self, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute the statistic and the F ratio of each gene for every assignment of levels to donors.

        Parameters
        ----------
        levels
            Level codes of the donors under B assignments, (B, donors, factors).

        Returns
        -------
        Statistics (B,) and F ratios (B, p). Both are NaN for an assignment that empties a group that the effects need.
        """
        found = [self._one(one) for one in levels]
        return np.array([t for t, _ in found]), np.stack([f for _, f in found])

    def _one(self, levels: np.ndarray) -> tuple[float, np.ndarray]:
        """Compute the statistic and the F ratios for one assignment of levels to donors."""
        # a sample keeps the levels of its cells in the other factors and gets those of its donor in the permuted ones
        rows = self.design.table.groups[self.samples.groups].copy()
        columns = self.scheme.permuted
        rows[:, columns] = levels[self.donor][:, columns]
        groups, codes = np.unique(rows, axis=0, return_inverse=True)
        codes = codes.ravel()
        table, effects = (
            Table(self.design.table.factors, self.design.table.n_levels, groups),
            list(self.objective.penalties),
        )
        if table.estimable(effects) != effects:
            return np.nan, np.full(self.means.shape[1], np.nan)
        design = Design(
            table, self.design.levels, codes, np.bincount(codes), self.design.effects, self.design.nuisance,
            table.contrasts(effects), self.design.report,
        )  # fmt: skip
        W = self._exchange(table, codes)
        criterion = Criterion(len(self.grid), self.n_components)
        gamma = [W @ G @ W.T for G in self.gamma]
        for k in np.unique(self.fold):
            self._add(design, np.flatnonzero(self.fold != k), np.flatnonzero(self.fold == k), gamma, criterion)
        return float(criterion.values(signed=True).max()), self._ratios(design, W @ self.means)

    def _exchange(self, table: Table, codes: np.ndarray) -> np.ndarray:
        """Compute W (S x S), which subtracts the removed effects and adds them back under the new labels."""
        observed, groups = self.design, self.samples.groups
        average = arrays.indicator(groups, observed.n_groups).toarray() / np.bincount(groups)[:, None]
        W = np.eye(len(groups))
        for e in self.scheme.taken_out:
            alpha = observed.contrasts[e] @ average  # coefficients B_T G of the effect, from the sample means
            W += table.coding(e)[codes] @ alpha - observed.table.coding(e)[groups] @ alpha
        return W

    def _add(
        self, design: Design, train: np.ndarray, test: np.ndarray, gamma: Sequence[np.ndarray], criterion: Criterion
    ) -> None:
        """Add the held-out samples of one fold to the criterion, for every g.

        ``train`` and ``test`` are indices of samples, and ``gamma`` holds W Gamma W' for every g.
        """
        part = design.subset(train)
        if part is None or len(train) <= part.n_groups:
            return
        present = np.unique(design.codes[train])
        test = test[np.isin(design.codes[test], present)]
        groups = np.searchsorted(present, design.codes[test])
        S = len(design.codes)
        # maps from the samples: to the training group means, to their deviations from these (D), to the centred group
        # means, and to the held-out samples less the centre
        average = np.zeros((part.n_groups, S))
        average[part.codes, train] = 1 / part.counts[part.codes]
        deviation = np.eye(S)[train] - average[part.codes]
        to_means = average - average.mean(axis=0)
        held_out = np.eye(S)[test] - average.mean(axis=0)
        effect, weights = self.scheme.effect, 1 / part.counts[groups]
        terms = self.objective.terms(part)[effect]
        for i, (g, full) in enumerate(zip(self.grid, gamma, strict=True)):
            if g < 1:
                # the donor level of the error term: Woodbury's identity, as at the top of this module
                half = deviation @ full
                k = (1 - g) * self.n / (len(train) - part.n_groups)
                full = full - half.T @ np.linalg.solve(half @ deviation.T + np.eye(len(train)) / k, half)
            K = to_means @ full @ to_means.T  # G M_e(g)^-1 G'
            _, w = GroupSpace(K).axes(terms, self.n_components)
            # scores of the held-out samples on the axes Z w, and the fitted values of the effect in their groups
            s, e = held_out @ full @ to_means.T @ w, (part.fitted(effect) @ K @ w)[groups]
            criterion.add(i, e, s, weights)

    def _ratios(self, design: Design, samples: np.ndarray) -> np.ndarray:
        """Compute F of each gene, whose noise is the variance between donors plus that of the cells in a sample mean.

        The variance between donors already holds that of the cells; adding the latter again makes F of genes with a
        small variance between few donors less extreme.
        """
        n = design.counts[:, None]
        means = arrays.group_sums(samples, design.codes, design.n_groups) / n
        donors = np.sum((samples - means[design.codes]) ** 2, axis=0) / (len(samples) - len(n))
        effect = self.scheme.effect
        noise = (donors + self.cell_variances / self.n) * noise_share(effect, design)
        return f_ratio(means, noise, design.contrasts[effect])
