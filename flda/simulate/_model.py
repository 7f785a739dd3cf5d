"""A model of the counts of cells in a factorial design, and cells drawn from it."""

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
from ..datasets import with_log_layer
from ._gamma import gamma_rates

OWN_LIBRARY = 10  # cells of a group from which on it has a distribution of library sizes of its own


@dataclass(frozen=True)
class CountModel:
    """Counts of cells as negative-binomial variables that correlate through a few axes.

    A cell of library size s (over the mean of all), in group c and of donor d, has ``Poisson(s exp(eta_c + delta_d)
    G)`` counts of each gene, with ``G`` gamma of mean 1 and variance ``phi psi_c``: negative binomial, of dispersion
    ``phi psi_c``. The G of a cell's genes go together: ``G = F^-1(Phi(z))``, ``z = L f + sqrt(1 - |L|^2) e`` with
    standard Gaussian f (K axes) and e, a Gaussian copula behind the Poisson noise of counting.

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
        phi of each gene, (p,), 0 for genes without counts; ``trend`` holds a0 and a1 of ``a0 + a1 / mean``.
    spread
        psi of each group, (C,).
    loadings
        L, p x K.
    library
        Log library size of every fitted cell over the log of the mean of all, (N,).
    scale
        Mean total count of a cell.
    donor_effects
        delta, a row per donor, scaled so that their variance is that of donors without the noise of their cells.
    planted
        Effect -> genes that :meth:`plant` gave it, (p,) boolean.
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
        """Expected counts at the mean library size of groups given by levels, (n, p), seen in the data or not."""
        return np.exp(self.means.at(self._codes(groups)))

    def plant(
        self, effect: str, genes: Sequence[int] | np.ndarray, size: float, *, random_state: int = 0
    ) -> CountModel:
        """The model with another effect of known size in some genes.

        Parameters
        ----------
        effect
            An effect of the design, e.g. ``"dendrite"`` or ``"dendrite:axon"``.
        genes
            Places of the genes; whatever this effect does in them is replaced.
        size
            Root mean square of the effect over the groups of a complete table, in natural logarithms of expression; 0
            takes the effect out.
        random_state
            Seed of the pattern over levels.

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
            raise ValueError(f"there is no effect {effect!r} to plant; the design has {list(names)}.")
        own = names[effect]
        genes = np.asarray(genes)
        if genes.dtype == bool:
            genes = np.flatnonzero(genes)
        pattern = np.random.default_rng(random_state).normal(size=(self.design.df(own), len(genes)))
        sizes = dict(zip(self.design.table.factors, self.design.table.n_levels, strict=True))
        # columns of the coding are orthonormal over the levels: the mean square over groups is |b|^2 / prod L
        length = np.sqrt(np.sum(pattern**2, axis=0) / np.prod([sizes[f] for f in own]))
        coefficients = {e: b.copy() for e, b in self.means.coefficients.items()}
        coefficients[own][:, genes] = size * pattern / length
        carries = self.planted.get(effect, np.zeros(len(self.genes), dtype=bool)).copy()
        carries[genes] = size > 0
        means = dataclasses.replace(self.means, coefficients=coefficients)
        return dataclasses.replace(self, means=means, planted={**self.planted, effect: carries})

    def draw(self, rng: np.random.Generator) -> CountModel:
        """The model with group means drawn from their posterior: one of the truths that the data allow."""
        return dataclasses.replace(self, means=self.means.draw(rng))

    def sample(
        self, cells: int | pd.DataFrame | None = None, *, variation: float = 1.0, random_state: int = 0
    ) -> AnnData:
        """Draw cells.

        Parameters
        ----------
        cells
            None for as many as were fitted, of the same labels; a number for so many in every occupied group of the
            factors, their nuisance levels and donors drawn from its cells; or a table of labels, a row per cell. It
            needs the factors; nuisance factors that it lacks are drawn. A donor that the fit has not seen is a new one.
        variation
            Factor on the dispersion of all genes: 0 leaves Poisson noise, 1 is as fitted.
        random_state
            Seed; the same seed gives the same cells.

        Returns
        -------
        AnnData with log1p of counts per 10,000 in ``X`` (CSR float32), ``layers["counts"]``, the labels in ``obs``, and
        ``var["truth_<effect>"]`` for what was planted.

        Examples
        --------
        >>> import flda
        >>> model = flda.simulate.fit_counts(flda.datasets.t4t5_simulated(400, 100), ["dendrite", "axon"])
        >>> model.sample(5).obs.groupby(["dendrite", "axon"], observed=True).size().tolist()
        [5, 5, 5, 5, 5, 5, 5, 5]
        """
        if not variation >= 0:
            raise ValueError(f"variation={variation}: use 0 or more.")
        rng = np.random.default_rng(random_state)
        labels = self.labels_of(cells, rng)
        counts = self.counts(labels, self.library_of(labels, rng), rng, variation=variation)
        labels.index = [f"sim_{i:0{len(str(len(labels)))}d}" for i in range(len(labels))]
        var = pd.DataFrame({f"truth_{e}": flags for e, flags in self.planted.items()}, index=self.genes)
        return with_log_layer(counts, labels, var)

    def labels_of(self, cells: int | pd.DataFrame | None, rng: np.random.Generator) -> pd.DataFrame:
        """Labels of cells to draw; see :meth:`sample`."""
        if cells is None:
            return self.labels.copy()
        main = list(self.design.factors)
        if isinstance(cells, pd.DataFrame):
            lacking = [f for f in main if f not in cells]
            if lacking:
                raise ValueError(f"the table of cells has no column {lacking[0]!r}; it needs {main}.")
            labels = cells[[c for c in self.labels if c in cells]].reset_index(drop=True)
            rest = [c for c in self.labels if c not in labels]
            if rest:
                drawn = self.labels.iloc[rng.integers(len(self.labels), size=len(labels))][rest]
                labels = pd.concat([labels, drawn.reset_index(drop=True)], axis=1)[list(self.labels)]
            return labels
        if cells < 1:
            raise ValueError(f"cells={cells}: draw 1 or more in every group.")
        rows = self.labels.groupby(main, observed=True, sort=True).indices.values()
        return self.labels.iloc[np.concatenate([rng.choice(r, size=cells) for r in rows])].reset_index(drop=True)

    def library_of(self, labels: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
        """Library sizes of cells over the mean of all, (n,): quantiles of the group's own or of all, about its mean."""
        codes, occupied = self._codes(labels), self.design.table.groups
        mean = np.bincount(self.design.codes, self.library) / self.design.counts
        residual = self.library - mean[self.design.codes]
        X = np.hstack([np.ones((len(mean), 1)), *(self.design.table.coding(Effect((f,))) for f in self.factors)])
        root = np.sqrt(self.design.counts)[:, None]
        additive = np.linalg.lstsq(X * root, mean[:, None] * root, rcond=None)[0]
        out, quantile = np.empty(len(codes)), rng.random(len(codes))
        rows, inverse = np.unique(codes, axis=0, return_inverse=True)
        for k, row in enumerate(rows):
            mine, own = inverse.ravel() == k, np.flatnonzero((occupied == row).all(axis=1))
            if len(own):
                centre = mean[own[0]]
                values = residual[self.design.codes == own[0]]
            else:
                table = dataclasses.replace(self.design.table, groups=row[None])
                centre = np.hstack([np.ones((1, 1)), *(table.coding(Effect((f,))) for f in self.factors)]) @ additive
                centre, values = float(centre[0, 0]), residual[:0]
            out[mine] = centre + np.quantile(values if len(values) >= OWN_LIBRARY else residual, quantile[mine])
        return np.exp(out)

    def counts(
        self, labels: pd.DataFrame, library: np.ndarray, rng: np.random.Generator, *, variation: float = 1.0
    ) -> sp.csr_matrix:
        """Counts of cells with these labels and library sizes, CSR float32."""
        codes = self._codes(labels)
        rows, place = np.unique(codes, axis=0, return_inverse=True)
        place = place.ravel()
        eta = self.means.at(rows)
        eta[:, self.dispersion == 0] = -np.inf  # no counts were seen
        spread = np.ones(len(rows))
        for k, row in enumerate(rows):
            own = np.flatnonzero((self.design.table.groups == row).all(axis=1))
            spread[k] = self.spread[own[0]] if len(own) else 1.0
        shift, of_donor = self._donor_shifts(labels, rng)
        p, K = self.loadings.shape
        alone = np.sqrt(1 - np.sum(self.loadings**2, axis=1))
        blocks = []
        for part in arrays.block_slices(len(labels), 4 * p):
            mu = np.exp(eta[place[part]] + shift[of_donor[part]]) * library[part, None]
            z = rng.normal(size=mu.shape) * alone + rng.normal(size=(len(mu), K)) @ self.loadings.T
            phi = variation * self.dispersion * spread[place[part], None]
            blocks.append(sp.csr_matrix(rng.poisson(mu * gamma_rates(z, phi)).astype(np.float32)))
        return sp.vstack(blocks, format="csr")

    def _donor_shifts(self, labels: pd.DataFrame, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Log effects of the donors of some cells (rows x p), and the row of each cell; new donors are drawn."""
        if self.donor is None or self.donor_effects is None:
            return np.zeros((1, len(self.genes))), np.zeros(len(labels), dtype=np.int64)
        names, place = np.unique(labels[self.donor].astype(str).to_numpy(dtype=str), return_inverse=True)
        known = self.donor_effects.to_numpy()
        shift = np.empty((len(names), known.shape[1]))
        for i, name in enumerate(names):
            if name in self.donor_effects.index:
                shift[i] = self.donor_effects.loc[name]
            else:
                shift[i] = rng.normal(size=len(known)) @ known / np.sqrt(len(known))
        return shift, place

    def _codes(self, labels: pd.DataFrame) -> np.ndarray:
        """Level codes of labels, n x factors."""
        out = []
        for factor in self.factors:
            levels = pd.Index(self.design.levels[factor])
            codes = levels.get_indexer(labels[factor])
            if (codes < 0).any():
                level = labels[factor].iloc[int(np.argmin(codes))]
                raise ValueError(f"{factor!r} has no level {level!r} in the fitted cells; levels are {list(levels)}.")
            out.append(codes)
        return np.column_stack(out)
