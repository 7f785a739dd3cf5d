"""Model of the counts of cells in a factorial design, from which cells are drawn."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from .._data import arrays
from .._design.design import Design
from .._design.effects import Effect
from .._solve.prior import FactorialMeans
from ..datasets._common import from_counts
from ._gamma import gamma_rates

OWN_LIBRARY = 10  # smallest group whose library sizes follow its own distribution rather than that of all cells


@dataclass(frozen=True)
class CountModel:
    """Model of counts: every gene is negative binomial, and genes are correlated through a few axes.

    A cell of library size s (relative to the mean of all cells) in group c and of donor d has
    ``Poisson(s exp(eta_c + delta_d) G)`` counts of a gene, where G is gamma distributed with mean 1 and variance
    ``phi psi_c``; the counts are therefore negative binomial with dispersion ``phi psi_c``. The rates G of the genes of
    a cell are correlated by a Gaussian copula: ``G = F^-1(Phi(z))`` with ``z = L f + sqrt(1 - |L|^2) e``, where f (K
    axes) and e are standard Gaussian. :func:`flda.simulate.fit_counts` returns such models.

    Attributes
    ----------
    genes
        Names, (p,).
    labels
        Labels of the fitted cells: factors, nuisance factors, and the donor if there is one.
    design
        Groups and effects of the fitted cells.
    donor
        Column of the donor, or None.
    means
        eta: the posterior of log expected counts at s = 1 under the factorial prior, see ``flda/_solve/prior.py``.
    dispersion
        phi of each gene, (p,); 0 for genes without counts. ``trend`` holds a0 and a1 of ``a0 + a1 / mean``.
    spread
        psi of each group, (C,).
    loadings
        L, p x K.
    library
        Log of s of every fitted cell, (N,).
    scale
        Mean total count of a cell.
    donor_effects
        delta, donors x p, scaled so that its variance is that between donors, without the noise of their cells. None
        without donors, or where the variance between donors cannot be estimated.
    planted
        Effect -> genes to which :meth:`plant` gave it, (p,) boolean.
    """

    genes: pd.Index
    labels: pd.DataFrame
    design: Design
    donor: str | None
    means: FactorialMeans
    dispersion: np.ndarray
    trend: tuple[float, float]
    spread: np.ndarray
    loadings: np.ndarray
    library: np.ndarray
    scale: float
    donor_effects: pd.DataFrame | None
    planted: dict[str, np.ndarray]

    @property
    def factors(self) -> tuple[str, ...]:
        """Columns of the labels without the donor: factors, then nuisance factors."""
        return self.design.table.factors

    def group_means(self, groups: pd.DataFrame) -> np.ndarray:
        """Compute expected counts at the mean library size, without donor effects.

        Parameters
        ----------
        groups
            Levels of the factors and nuisance factors, one row per group. Groups without cells in the data are allowed.

        Returns
        -------
        Expected counts, n x p.

        Raises
        ------
        ValueError
            For a level that no fitted cell has.
        """
        return np.exp(self.means.at(self._codes(groups)))

    def plant(
        self, effect: str, genes: Sequence[int] | np.ndarray, size: float, *, random_state: int = 0
    ) -> CountModel:
        """Replace an effect by one of known size in some genes.

        Parameters
        ----------
        effect
            An effect of the design, e.g. ``"dendrite"`` or ``"dendrite:axon"``.
        genes
            Indices of the genes, or a boolean mask, (p,). Their fitted effect is replaced.
        size
            Root mean square of the effect over the groups of a complete table, in natural logarithms of expression; 0
            removes the effect.
        random_state
            Seed of the random pattern of the effect over the levels.

        Returns
        -------
        A new model. ``truth_<effect>`` in ``var`` of its cells marks the genes.

        Raises
        ------
        ValueError
            If the design has no such effect.

        Examples
        --------
        >>> import flda
        >>> model = flda.simulate.fit_counts(flda.datasets.t4t5_simulated(400, 100), ["dendrite", "axon"])
        >>> model = model.plant("axon", range(100), 0.0).plant("axon", [3, 5], 0.8)
        >>> model.sample().var["truth_axon"].sum()
        np.int64(2)
        """
        names = {e.name: e for e in self.design.contrasts}
        if effect not in names:
            raise ValueError(f"the design has no effect {effect!r}; it has {list(names)}.")
        planted = names[effect]
        genes = np.asarray(genes)
        if genes.dtype == bool:
            genes = np.flatnonzero(genes)
        pattern = np.random.default_rng(random_state).normal(size=(self.design.df(planted), len(genes)))
        sizes = dict(zip(self.design.table.factors, self.design.table.n_levels, strict=True))
        # the columns of the coding are orthonormal over the levels, so the mean square over groups is |b|^2 divided by
        # the number of level combinations of the effect
        length = np.sqrt(np.sum(pattern**2, axis=0) / np.prod([sizes[f] for f in planted]))
        coefficients = {e: b.copy() for e, b in self.means.coefficients.items()}
        coefficients[planted][:, genes] = size * pattern / length
        carries = self.planted.get(effect, np.zeros(len(self.genes), dtype=bool)).copy()
        carries[genes] = size > 0
        means = dataclasses.replace(self.means, coefficients=coefficients)
        return dataclasses.replace(self, means=means, planted={**self.planted, effect: carries})

    def draw(self, rng: np.random.Generator) -> CountModel:
        """Draw the group means from their posterior, which gives one of the truths compatible with the data.

        Parameters
        ----------
        rng
            Generator that the draw advances.
        """
        return dataclasses.replace(self, means=self.means.draw(rng))

    def sample(
        self, cells: int | pd.DataFrame | None = None, *, variation: float = 1.0, random_state: int = 0
    ) -> AnnData:
        """Draw cells.

        Parameters
        ----------
        cells
            None, a number, or a table. None draws as many cells as were fitted, with the same labels. A number draws
            that many cells in every occupied group of the factors; their nuisance levels and donors are drawn from the
            group's cells. A table has one row of labels for each cell to draw. It must contain the factors. Nuisance
            factors that it does not contain are drawn. A donor that was not fitted is a new donor.
        variation
            Factor by which the dispersion of all genes is multiplied. 0 leaves only Poisson noise, and 1 gives the
            fitted dispersion.
        random_state
            Seed; the same seed gives the same cells.

        Returns
        -------
        AnnData with log1p of counts per 10,000 in ``X`` (CSR float32), the counts in ``layers["counts"]``, the labels
        in ``obs``, and for every planted effect the genes that carry it in ``var["truth_<effect>"]``.

        Raises
        ------
        ValueError
            If ``variation`` is negative, if ``cells`` is a number below 1, or if a table lacks a factor or has a level
            that no fitted cell has.

        Examples
        --------
        >>> import flda
        >>> model = flda.simulate.fit_counts(flda.datasets.t4t5_simulated(400, 100), ["dendrite", "axon"])
        >>> model.sample(5).obs.groupby(["dendrite", "axon"], observed=True).size().tolist()
        [5, 5, 5, 5, 5, 5, 5, 5]
        """
        if not variation >= 0:
            raise ValueError(f"variation={variation} is negative; use 0 or more.")
        rng = np.random.default_rng(random_state)
        labels = self.labels_of(cells, rng)
        counts = self.counts(labels, self.library_of(labels, rng), rng, variation=variation)
        labels.index = [f"sim_{i:0{len(str(len(labels)))}d}" for i in range(len(labels))]
        var = pd.DataFrame({f"truth_{e}": flags for e, flags in self.planted.items()}, index=self.genes)
        return from_counts(counts, labels, var)

    def labels_of(self, cells: int | pd.DataFrame | None, rng: np.random.Generator) -> pd.DataFrame:
        """Labels of the cells to draw, a table of n rows; for ``cells`` see :meth:`sample`."""
        if cells is None:
            return self.labels.copy()
        main = list(self.design.factors)
        if isinstance(cells, pd.DataFrame):
            missing = [f for f in main if f not in cells]
            if missing:
                raise ValueError(f"the table of cells has no column {missing[0]!r}; it needs {main}.")
            labels = cells[[c for c in self.labels if c in cells]].reset_index(drop=True)
            rest = [c for c in self.labels if c not in labels]
            if rest:
                drawn = self.labels.iloc[rng.integers(len(self.labels), size=len(labels))][rest]
                labels = pd.concat([labels, drawn.reset_index(drop=True)], axis=1)[list(self.labels)]
            return labels
        if cells < 1:
            raise ValueError(f"cells={cells} is too small; draw 1 or more per group.")
        rows = self.labels.groupby(main, observed=True, sort=True).indices.values()
        return self.labels.iloc[np.concatenate([rng.choice(r, size=cells) for r in rows])].reset_index(drop=True)

    def library_of(self, labels: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
        """Draw library sizes of cells relative to the mean of all fitted cells, (n,).

        The log library size of a cell is the mean of its group plus a random quantile of the deviations from the mean:
        those of the group's own cells if it has ten, else those of all cells. The mean of a group without cells is
        predicted by the main effects.
        """
        codes, occupied = self._codes(labels), self.design.table.groups
        mean = np.bincount(self.design.codes, self.library) / self.design.counts
        residual = self.library - mean[self.design.codes]
        # main effects on the group means by least squares, weighted by cells
        X = np.hstack([np.ones((len(mean), 1)), *(self.design.table.coding(Effect((f,))) for f in self.factors)])
        root = np.sqrt(self.design.counts)[:, None]
        additive = np.linalg.lstsq(X * root, mean[:, None] * root, rcond=None)[0]
        out, quantile = np.empty(len(codes)), rng.random(len(codes))
        rows, inverse = np.unique(codes, axis=0, return_inverse=True)
        for k, row in enumerate(rows):
            in_group, group = inverse.ravel() == k, np.flatnonzero((occupied == row).all(axis=1))
            if len(group):
                centre = mean[group[0]]
                values = residual[self.design.codes == group[0]]
            else:
                table = dataclasses.replace(self.design.table, groups=row[None])
                centre = np.hstack([np.ones((1, 1)), *(table.coding(Effect((f,))) for f in self.factors)]) @ additive
                centre, values = float(centre[0, 0]), residual[:0]
            deviations = values if len(values) >= OWN_LIBRARY else residual
            out[in_group] = centre + np.quantile(deviations, quantile[in_group])
        return np.exp(out)

    def counts(
        self, labels: pd.DataFrame, library: np.ndarray, rng: np.random.Generator, *, variation: float = 1.0
    ) -> sp.csr_matrix:
        """Draw counts of cells.

        Parameters
        ----------
        labels
            Labels of the cells, n rows, as :meth:`labels_of` returns them.
        library
            Library sizes relative to the mean of the fitted cells, (n,).
        rng
            Generator that the draw advances.
        variation
            Factor on the dispersion of all genes.

        Returns
        -------
        Counts, n x p, CSR float32.
        """
        codes = self._codes(labels)
        rows, group = np.unique(codes, axis=0, return_inverse=True)
        group = group.ravel()
        eta = self.means.at(rows)
        eta[:, self.dispersion == 0] = -np.inf  # genes without counts in the data have none here
        spread = np.ones(len(rows))
        for k, row in enumerate(rows):
            fitted = np.flatnonzero((self.design.table.groups == row).all(axis=1))
            spread[k] = self.spread[fitted[0]] if len(fitted) else 1.0
        shift, of_donor = self._donor_shifts(labels, rng)
        p, K = self.loadings.shape
        specific = np.sqrt(1 - np.sum(self.loadings**2, axis=1))  # sqrt(1 - |L|^2)
        blocks = []
        # several arrays of the size of a block are alive at a time
        for part in arrays.block_slices(len(labels), 4 * p):
            mu = np.exp(eta[group[part]] + shift[of_donor[part]]) * library[part, None]
            z = rng.normal(size=mu.shape) * specific + rng.normal(size=(len(mu), K)) @ self.loadings.T
            phi = variation * self.dispersion * spread[group[part], None]
            blocks.append(sp.csr_matrix(rng.poisson(mu * gamma_rates(z, phi)).astype(np.float32)))
        return sp.vstack(blocks, format="csr")

    def _donor_shifts(self, labels: pd.DataFrame, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Log effects of donors (donors x p), drawn for new ones, and the row of the donor of each cell."""
        if self.donor is None or self.donor_effects is None:
            return np.zeros((1, len(self.genes))), np.zeros(len(labels), dtype=np.int64)
        names, of_donor = np.unique(labels[self.donor].astype(str).to_numpy(dtype=str), return_inverse=True)
        known = self.donor_effects.to_numpy()
        shift = np.empty((len(names), known.shape[1]))
        for i, name in enumerate(names):
            if name in self.donor_effects.index:
                shift[i] = self.donor_effects.loc[name]
            else:
                # Gaussian with the covariance of the known donors, so that genes that differ together do so again
                shift[i] = rng.normal(size=len(known)) @ known / np.sqrt(len(known))
        return shift, of_donor

    def _codes(self, labels: pd.DataFrame) -> np.ndarray:
        """Level codes of labels, n x factors."""
        out = []
        for factor in self.factors:
            levels = pd.Index(self.design.levels[factor])
            codes = levels.get_indexer(labels[factor])
            if (codes < 0).any():
                level = labels[factor].iloc[int(np.argmin(codes))]
                raise ValueError(f"no fitted cell has {factor!r} = {level!r}; its levels are {list(levels)}.")
            out.append(codes)
        return np.column_stack(out)
