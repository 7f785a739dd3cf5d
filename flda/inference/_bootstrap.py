"""Bootstrap of sparse axes on their genes: intervals for loadings and for the scores of group means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.linalg import orthogonal_procrustes, sqrtm

from .._data import arrays
from .._design.design import Design
from .._design.samples import Samples, between_factors, donor_strata
from .._progress import progress
from .._solve.prior import shrunken_by
from .._solve.refit import Refit
from .._solve.rows import MatrixRows
from .._solve.within import Within, target_diagonal
from ..estimators import SparseFLDA, donor_codes, expression, label_frame


@dataclass(frozen=True)
class Bootstrap:
    """The result of :func:`bootstrap`.

    Attributes
    ----------
    loadings
        One row per axis and gene: ``axis``, ``gene`` (its index), ``loading, lower, upper``.
    scores
        One row per axis and group: ``axis``, the levels of the factors, ``score`` of the group mean, ``lower, upper``.
    n_resamples
        The number of resamples that were used.
    """

    loadings: pd.DataFrame
    scores: pd.DataFrame
    n_resamples: int


def bootstrap(
    model: SparseFLDA,
    X,
    y,
    donor: ArrayLike | None = None,
    *,
    n_resamples: int = 200,
    confidence: float = 0.95,
    random_state: int | None = 0,
) -> Bootstrap:
    """Compute percentile intervals for the loadings, and for the scores of group means, of a fitted sparse model.

    The selected genes are kept, and their weights are fitted again on every resample. The intervals therefore say how
    precise the weights are given the genes, not how certain the selection is; for that see :func:`stability_selection`.
    If donors are given, whole donors are drawn, within the levels of the factors that vary between donors, and then
    cells within each drawn donor and group. Without donors, cells are drawn within groups. Resamples that lose a group
    are left out.

    The axes of a resample are aligned with the original ones before the quantiles are taken. Axes with genes of their
    own get the sign of the original axis. Axes that share their genes (``mode="marker"``) are rotated to the least
    distance in the metric of M_e(g).

    Parameters
    ----------
    model
        A fitted sparse model.
    X, y
        Expression and labels of the cells that the model was fitted on, as in :meth:`FLDA.fit`.
    donor
        Donor of each cell, (N,), as ``groups`` of :meth:`FLDA.fit`.
    n_resamples
        Number of resamples.
    confidence
        Nominal coverage of the intervals.
    random_state
        Seed.

    Returns
    -------
    A :class:`Bootstrap`.

    Raises
    ------
    ValueError
        If y does not have the cells of the fit, or fewer than two resamples keep every group.

    Examples
    --------
    >>> from flda import SparseFLDA
    >>> from flda.datasets import t4t5_simulated
    >>> adata = t4t5_simulated(n_obs=600, n_vars=100)
    >>> y = adata.obs[["dendrite", "axon"]]
    >>> model = SparseFLDA(n_genes=3, shrinkage=0.5).fit(adata.X, y)
    >>> bands = bootstrap(model, adata.X, y, n_resamples=50)
    >>> part = bands.loadings.query("axis == 'dendrite_1'")
    >>> bool(((part["lower"] <= part["loading"]) & (part["loading"] <= part["upper"])).all())
    True
    """
    labels = label_frame(y)[0]
    donors, _ = donor_codes(donor, len(labels))
    design = model.design_
    if len(labels) != len(design.codes):
        raise ValueError(
            f"the model was fitted on {len(design.codes)} cells and y has {len(labels)}; give the cells of the fit."
        )
    genes = np.unique(np.concatenate([axis for axes in model.selected_.values() for axis in axes]))
    X = arrays.map_rows(expression(X, len(labels))[:, genes], lambda rows, block: arrays.dense(block), len(genes))
    if not np.isfinite(X).all():
        raise ValueError("X holds NaN or inf for a selected gene; give the cells that the model was fitted on.")
    axes = _Frozen(model, genes)
    original = model.components_[:, genes].T
    metric = axes.of(X, design, donors)[2]
    loadings, scores = [], []
    rng = np.random.default_rng(random_state)
    for cells, instances in progress(_resamples(design, donors, n_resamples, rng), desc="bootstrap", total=n_resamples):
        part = design.subset(cells)
        # scores of groups can only be compared if every group is there, and some group needs two cells for a scatter
        if part is None or part.n_groups < design.n_groups or len(cells) == part.n_groups:
            continue
        U, means, _ = axes.of(X[cells], part, instances)
        U = axes.turned(U, original, metric)
        loadings.append(U)
        scores.append((means - means.mean(axis=0)) @ U)
    if len(loadings) < 2:
        raise ValueError(
            f"a bootstrap needs two resamples that keep every group, and {len(loadings)} of {n_resamples} do; increase "
            "n_resamples, or leave the donors out if they are too few."
        )
    own = (model.means_ - model.means_.mean(axis=0)) @ model.components_.T
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(loadings, [tail, 100 - tail], axis=0)
    low_score, high_score = np.percentile(scores, [tail, 100 - tail], axis=0)
    weights, of_groups = [], []
    for j, axis in enumerate(model.axes_["axis"]):
        used = np.flatnonzero(model.components_[j, genes])
        weights.append(
            pd.DataFrame(
                {
                    "axis": axis,
                    "gene": genes[used],
                    "loading": model.components_[j, genes[used]],
                    "lower": low[used, j],
                    "upper": high[used, j],
                }
            )
        )
        rows = design.group_levels().assign(score=own[:, j], lower=low_score[:, j], upper=high_score[:, j])
        rows.insert(0, "axis", axis)
        of_groups.append(rows)
    return Bootstrap(pd.concat(weights, ignore_index=True), pd.concat(of_groups, ignore_index=True), len(loadings))


class _Frozen:
    """The axes of a sparse model on its selected genes, which can be fitted again on any cells."""

    def __init__(self, model: SparseFLDA, genes: np.ndarray):
        self.model = model
        self.selected = {e: [np.searchsorted(genes, a) for a in axes] for e, axes in model.selected_.items()}
        self.unit = np.mean(model.within_sd_**2)
        sizes = model._prior_sizes
        self.sizes = None if sizes is None else {e: s[genes] for e, s in sizes.items()}

    def of(self, X: np.ndarray, design: Design, donors: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Fit the axes on these cells.

        X holds the m selected genes only, and ``donors`` is the donor of each cell in this resample.

        Returns
        -------
        Loadings (m x k), group means (C x m) and M_e(g) of the genes (m x m).
        """
        model, samples = self.model, None
        if model.donor_share_ is not None and donors is not None:
            samples = Samples.of(design.codes, donors)
            samples = samples if samples.show_donors() else None
        within = Within.from_data(X, design.codes, design.counts, model.within, samples)
        scatter = within.gene_scatter()
        variances = within.variances_of(scatter)
        target = target_diagonal(variances, model.shrinkage_target)
        if model.shrinkage_target == "identity":  # the mean variance of all genes of the fit, not of the selected ones
            target = np.full_like(target, self.unit)
        g = model.shrinkage_
        M = (1 - g) * scatter + g * np.diag(target)
        means = within.means
        if self.sizes is not None:  # omega_S^2 are those of the fit, because a few selected genes cannot estimate them
            means = shrunken_by(self.sizes, means, variances, within.n_effective, design)
        U = np.zeros((X.shape[1], len(model.axes_)))
        column = 0
        for effect in design.effects:
            refit = Refit(model._terms[effect], means - means.mean(axis=0), MatrixRows(M))
            supports = self.selected[effect.name]
            if model.mode == "marker":
                _, weights = refit.together(supports[0], len(supports))
                U[supports[0], column : column + weights.shape[1]] = weights
            else:
                for c, support in enumerate(supports):
                    U[support, column + c] = refit.add(support)[1]
            column += len(supports)
        return U, means, M

    def turned(self, U: np.ndarray, original: np.ndarray, metric: np.ndarray) -> np.ndarray:
        """Return the axes with the signs, or rotated to the orientation, of the original ones."""
        out = U * np.where(np.sum(U * (metric @ original), axis=0) < 0, -1.0, 1.0)
        if self.model.mode == "marker":
            # multiplied by the root of the metric, axes have the Euclidean distances that Procrustes needs
            root = np.real(sqrtm(metric))
            for effect in self.model.axes_["effect"].unique():
                j = (self.model.axes_["effect"] == effect).to_numpy()
                out[:, j] = U[:, j] @ orthogonal_procrustes(root @ U[:, j], root @ original[:, j])[0]
        return out


def _resamples(
    design: Design, donors: np.ndarray | None, n_resamples: int, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Yield the cells of each resample and the donors that they count for.

    A donor that is drawn twice counts as two donors, so donors are numbered by the draw. Without donors the second item
    is None.
    """
    if donors is None:
        rows = [np.flatnonzero(design.codes == c) for c in range(design.n_groups)]
        for _ in range(n_resamples):
            yield np.concatenate([rng.choice(r, len(r)) for r in rows]), None
        return
    strata = donor_strata(design, donors) if between_factors(design, donors) else np.zeros(donors.max() + 1, dtype=int)
    samples = [
        [r for c in np.unique(design.codes[own]) if len(r := own[design.codes[own] == c])]
        for own in (np.flatnonzero(donors == d) for d in range(donors.max() + 1))
    ]
    for _ in range(n_resamples):
        drawn = np.concatenate(
            [rng.choice(np.flatnonzero(strata == s), np.sum(strata == s)) for s in np.unique(strata)]
        )
        cells = [np.concatenate([rng.choice(r, len(r)) for r in samples[d]]) for d in drawn]
        yield np.concatenate(cells), np.repeat(np.arange(len(drawn)), [len(c) for c in cells])
