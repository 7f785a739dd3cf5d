"""The held-out statistic of one effect under exchanges of whole donors.

Only the means of the S samples (cells of one donor in one group) enter, so all is small. With Y the sample means
(S x p) and M_cell the scatter of cells about them, which no exchange of donors changes, every axis lies in the span of
``M_0(g)^-1 Y'``, ``M_0(g) = (1 - g) M_cell + g T``; ``Gamma_g = Y M_0(g)^-1 Y'`` (S x S) is computed once. The donor
level of the error term, ``(1 - g) n M_donor = k R' R`` with R the training samples less their group's mean, is a
downdate: ``Gamma - Gamma R' (I / k + R Gamma R')^-1 R Gamma``. Taking effects out and adding them back is a linear map
of the samples, ``Y -> W Y``, so ``Gamma -> W Gamma W'``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .._data import arrays
from .._data.device import to_numpy
from .._design.design import Design
from .._design.effects import Effect
from .._design.samples import Samples, donor_levels
from .._design.table import Table
from .._solve.choose import choose_solver
from .._solve.criterion import Criterion
from .._solve.group_space import GroupSpace
from .._solve.within import Within
from ..metrics._genes import f_ratio, noise_share
from ._schemes import Scheme, every_assignment, permuted_codes

N_FOLDS = 10


class DonorStatistics:
    """Statistic of one effect for any exchange of the levels of donors.

    Parameters
    ----------
    X
        N x p, in memory.
    design, donors, scheme
        The groups; donor of each cell as an integer from 0; what is permuted.
    penalties, n_components
        Penalties of the effects, and number of axes of the effect under test.
    grid
        Values of the shrinkage.
    rng
        Assigns the donors to folds, which do not look at labels.
    """

    def __init__(
        self, X, design: Design, donors: np.ndarray, scheme: Scheme, penalties: dict[Effect, float],
        n_components: int, grid: Sequence[float], rng: np.random.Generator,
    ):  # fmt: skip
        self.design, self.scheme, self.grid = design, scheme, grid
        self.penalties, self.n_components = penalties, n_components
        self.samples = samples = Samples.of(design.codes, donors)
        self.donor = donors[np.unique(samples.codes, return_index=True)[1]]
        self.units, self.strata = donor_levels(design, donors), scheme.strata
        n_donors = len(self.units)
        self.fold = (rng.permutation(n_donors) % min(n_donors, N_FOLDS))[self.donor]
        self.n = len(samples.counts) / np.sum(1 / samples.counts)
        if len(samples.codes) > len(samples.counts):
            within = Within.from_data(X, samples.codes, samples.counts, "pooled")
            self.means = within.centred_means
            inverse = choose_solver("auto", X, 1.0, len(samples.counts))(within, "diagonal")
            self.cell_variances = inverse.variances
            self.gamma = [self.means @ inverse.factor(g)(self.means.T) for g in grid]
        else:  # one row per sample: there are no cells below
            self.means = to_numpy(arrays.dense(arrays.by_rows(X)))[np.argsort(samples.codes)]
            self.means -= self.means.mean(axis=0)
            variances = self.means.var(axis=0)
            self.cell_variances = np.zeros_like(variances)
            target = np.where(variances > 0, variances, 1.0)
            self.gamma = [self.means / target @ self.means.T / g for g in grid]

    def permuted(self, rng: np.random.Generator) -> np.ndarray:
        """Level codes of the donors after one permutation."""
        return permuted_codes(self.scheme, self.units, self.strata, rng)

    def every(self) -> Iterator[np.ndarray]:
        """All different assignments of levels to donors."""
        return every_assignment(self.scheme, self.units, self.strata)

    def statistics(self, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Statistic of each assignment of levels to donors, (B, donors, factors), and F ratios, (B, p).

        NaN for an assignment that leaves a group empty which the effects need.
        """
        found = [self._one(one) for one in levels]
        return np.array([t for t, _ in found]), np.stack([f for _, f in found])

    def _one(self, levels: np.ndarray) -> tuple[float, np.ndarray]:
        rows = self.design.table.groups[self.samples.groups].copy()
        columns = self.scheme.permuted
        rows[:, columns] = levels[self.donor][:, columns]
        groups, codes = np.unique(rows, axis=0, return_inverse=True)
        codes = codes.ravel()
        table, effects = Table(self.design.table.factors, self.design.table.n_levels, groups), list(self.penalties)
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
        """W: the fitted values of what is taken out move with the labels."""
        observed, groups = self.design, self.samples.groups
        average = arrays.indicator(groups, observed.n_groups).toarray() / np.bincount(groups)[:, None]
        W = np.eye(len(groups))
        for e in self.scheme.taken_out:
            alpha = observed.contrasts[e] @ average
            W += table.coding(e)[codes] @ alpha - observed.table.coding(e)[groups] @ alpha
        return W

    def _add(
        self, design: Design, train: np.ndarray, test: np.ndarray, gamma: Sequence[np.ndarray], criterion: Criterion
    ) -> None:
        """Add the samples of one fold."""
        part = design.subset(train)
        if part is None or len(train) <= part.n_groups:
            return
        present = np.unique(design.codes[train])
        test = test[np.isin(design.codes[test], present)]
        groups = np.searchsorted(present, design.codes[test])
        S = len(design.codes)
        average = np.zeros((part.n_groups, S))
        average[part.codes, train] = 1 / part.counts[part.codes]
        spread = np.eye(S)[train] - average[part.codes]
        G = average - average.mean(axis=0)
        held_out = np.eye(S)[test] - average.mean(axis=0)
        effect, v = self.scheme.effect, 1 / part.counts[groups]
        others = part.others(effect, self.penalties)
        for i, (g, full) in enumerate(zip(self.grid, gamma, strict=True)):
            if g < 1:
                half = spread @ full
                k = (1 - g) * self.n / (len(train) - part.n_groups)
                full = full - half.T @ np.linalg.solve(half @ spread.T + np.eye(len(train)) / k, half)
            K = G @ full @ G.T
            _, w = GroupSpace(K).axes(part.contrasts[effect], others, self.n_components)
            s, e = held_out @ full @ G.T @ w, (part.fitted(effect) @ K @ w)[groups]
            criterion.add(i, e, s, v)

    def _ratios(self, design: Design, samples: np.ndarray) -> np.ndarray:
        """F of each gene against the variance of donors, plus that of cells in a mean, which steadies it."""
        n = design.counts[:, None]
        means = arrays.group_sums(samples, design.codes, design.n_groups) / n
        donors = np.sum((samples - means[design.codes]) ** 2, axis=0) / (len(samples) - len(n))
        effect = self.scheme.effect
        noise = (donors + self.cell_variances / self.n) * noise_share(effect, design)
        return f_ratio(means, noise, design.contrasts[effect])
