"""Intervals for the loadings of sparse axes and for the scores of group means, by sample splitting and the bootstrap.

Intervals that take selected genes as given are wrong if the same cells selected them: a gene is selected because it
looked large, so its interval lies too far from zero. Here one half of the cells selects the genes, and the other half,
which knows nothing of the selection, gives the loadings and the intervals (Cox, Biometrika 62:441, 1975; Rinaldo,
Wasserman and G'Sell, Ann. Stat. 47:3438, 2019).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.linalg import orthogonal_procrustes, sqrtm
from scipy.stats import t

from .._data import arrays
from .._design.design import Design
from .._design.entry import checked_cells, donor_codes
from .._design.samples import Samples, between_factors, donor_strata
from .._design.splits import Split
from .._logging import warn
from .._progress import each
from .._solve.group_space import NoDirectionError
from .._solve.prior import shrunken_by
from .._solve.refit import Refit
from .._solve.residuals import target_diagonal
from .._solve.rows import MatrixRows
from .._solve.slopes import with_slopes
from .._solve.within import Within
from ..estimators import SparseFLDA

N_TRIES = 100  # random halves of the donors that are tried until both have all groups
FEW_DONORS = 5  # with fewer donors per half and level, intervals are announced to be too narrow


class NoHalvesError(ValueError):
    """Some group cannot be split into two halves, or bootstrap samples lose it."""


@dataclass(frozen=True)
class Bootstrap:
    """The result of :func:`bootstrap`.

    Attributes
    ----------
    loadings
        One row per axis and gene that the first half selected: ``axis``, ``gene`` (its index), ``loading`` in the
        second half, and its interval ``lower, upper``.
    scores
        One row per axis and group: ``axis``, the levels of the factors, ``score`` of the group mean of the second half
        on the axis of the first half, and its interval ``lower, upper``.
    n_resamples
        The number of resamples that were used.
    unit
        What was split into halves and resampled: ``"cell"`` or ``"donor"``.
    """

    loadings: pd.DataFrame
    scores: pd.DataFrame
    n_resamples: int
    unit: str


def bootstrap(
    model: SparseFLDA,
    X,
    y,
    donor: ArrayLike | None = None,
    *,
    n_resamples: int = 200,
    confidence: float = 0.95,
    random_state: int | None = 0,
    n_jobs: int | None = None,
) -> Bootstrap:
    """Select genes on one half of the cells, and compute intervals for their loadings from the other half.

    The cells of every group are split into two random halves; with ``donor``, whole donors are. The first half selects
    the genes, as a fit of ``model`` does. The second half estimates the loadings of these genes and gives the
    intervals. So an interval keeps its level for every selected gene, also for one that was selected by chance. The
    genes are those of half of the cells, so they can differ from the selection of a fit of all cells.

    An interval of a loading is about the weight of the gene in the best axis of just these genes, at the shrinkage, and
    with the weights of the effects, that the first half has chosen. The length of an axis is a convention, so weights
    are given in units of the estimated axis, which has variance one within groups. An interval of a score is about the
    mean of a group on the axis of the first half, relative to the mean of all groups.

    Standard errors come from bootstrap samples of the second half: cells are drawn within groups. If donors are given,
    whole donors are drawn, within the levels of the factors that vary between donors, and then cells within each drawn
    donor and group. Samples that lose a group are left out. The intervals use quantiles of Student's t.

    Axes have the orientation of the first half. An axis with genes of its own gets the sign with which its contrasts
    resemble those of the first half. Axes that share their genes (``mode="marker"``) are rotated to the least distance
    in the metric of M_e(g).

    Parameters
    ----------
    model
        Estimator with the number of genes and the mode; it is cloned, and need not be fitted.
    X, y
        Expression and labels, as in :meth:`FLDA.fit`.
    donor
        Donor of each cell, (N,), as ``groups`` of :meth:`FLDA.fit`.
    n_resamples
        Number of bootstrap samples.
    confidence
        Nominal coverage of the intervals.
    random_state
        Seed of the halves and of the bootstrap samples.
    n_jobs
        Number of threads, as in joblib. The result does not depend on it.

    Returns
    -------
    A :class:`Bootstrap`.

    Raises
    ------
    ValueError
        If a group cannot be split, or fewer than two bootstrap samples keep every group.

    References
    ----------
    Cox DR. A note on data-splitting for the evaluation of significance levels. Biometrika 62:441 (1975).

    Rinaldo A, Wasserman L, G'Sell M. Bootstrapping and sample splitting for high-dimensional, assumption-lean
    inference. Ann. Stat. 47:3438 (2019).

    Examples
    --------
    >>> from flda import SparseFLDA
    >>> from flda.datasets import t4t5_simulated
    >>> adata = t4t5_simulated(n_obs=600, n_vars=100)
    >>> model = SparseFLDA(n_genes=3, shrinkage=0.5)
    >>> bands = bootstrap(model, adata.X, adata.obs[["dendrite", "axon"]], n_resamples=50)
    >>> part = bands.loadings.query("axis == 'dendrite_1'")
    >>> bool(((part["lower"] <= part["loading"]) & (part["loading"] <= part["upper"])).all())
    True
    """
    X, labels = checked_cells(X, y, donor)
    donors, _ = donor_codes(donor, len(labels))
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence}: use a number between 0 and 1.")
    design = model.design_of(labels)
    rng = np.random.default_rng(random_state)
    split = halves(design, donors, rng)
    selecting = split.fit(model, X, labels, axes_only=True)
    part = split.held_out
    assert part is not None
    genes = np.unique(np.concatenate([axis for axes in selecting.selected_.values() for axis in axes]))
    X = arrays.map_rows(X[split.test][:, genes], lambda rows, block: arrays.dense(block), len(genes))
    if not np.isfinite(X).all():
        raise ValueError("X holds NaN or inf for a selected gene; remove or impute such values first.")
    if donors is not None:
        donors = np.unique(donors[split.test], return_inverse=True)[1].ravel()
    axes = _Frozen(selecting, genes)
    own, means, metric = axes.estimate(X, part, donors)
    own = axes.turned(own, means, metric)
    length = np.sqrt(np.einsum("ij,ik,kj->j", own, metric, own))
    length[length == 0] = np.nan  # the held-out half shows nothing of this axis, so its loadings have no unit

    def drawn(sample: tuple[np.ndarray, np.ndarray | None]) -> tuple[np.ndarray, np.ndarray] | None:
        """Return loadings and scores of a bootstrap sample, or None if it lacks what they need."""
        cells, instances = sample
        design = part.subset(cells)
        # scores of groups can only be compared if every group is there, and some group needs two cells for a scatter
        if design is None or design.n_groups < part.n_groups or len(cells) == design.n_groups:
            return None
        try:
            found, drawn_means, _ = axes.estimate(X[cells], design, instances)
        except NoDirectionError:
            return None
        return axes.turned(found, drawn_means, metric) / length, drawn_means[: part.n_groups] @ axes.original

    samples = _resamples(part, donors, n_resamples, rng)
    found = [x for x in each(drawn, samples, desc="bootstrap", n_jobs=n_jobs, total=n_resamples) if x is not None]
    loadings, scores = [x for x, _ in found], [x for _, x in found]
    if len(loadings) < 2:
        raise NoHalvesError(
            f"a bootstrap needs two resamples that keep every group, and {len(loadings)} of {n_resamples} do; increase "
            "n_resamples, or leave the donors out if they are too few."
        )
    own, own_scores = own / length, means[: part.n_groups] @ axes.original
    df, stretch, df_scores, stretch_scores = _precision(part, donors)
    low, high = intervals(np.stack(loadings), own, confidence, df, stretch)
    low_score, high_score = intervals(np.stack(scores), own_scores, confidence, df_scores, stretch_scores)
    weights, of_groups = [], []
    for j, axis in enumerate(selecting.axes_["axis"]):
        used = np.flatnonzero(selecting.components_[j, genes])
        weights.append(
            pd.DataFrame(
                {
                    "axis": axis,
                    "gene": genes[used],
                    "loading": own[used, j],
                    "lower": low[used, j],
                    "upper": high[used, j],
                }
            )
        )
        rows = part.group_levels().assign(score=own_scores[:, j], lower=low_score[:, j], upper=high_score[:, j])
        rows.insert(0, "axis", axis)
        of_groups.append(rows)
    return Bootstrap(
        pd.concat(weights, ignore_index=True),
        pd.concat(of_groups, ignore_index=True),
        len(loadings),
        "cell" if donors is None else "donor",
    )


def halves(design: Design, donors: np.ndarray | None, rng: np.random.Generator) -> Split:
    """Split the cells, or whole donors, into a half that selects genes (training) and a half for intervals (held out).

    Every group has cells in both halves. The odd unit of a stratum goes to the second half.

    Raises
    ------
    NoHalvesError
        If a group cannot be split.
    """
    strata = design.codes if donors is None else donor_strata(design, donors)
    for _ in range(1 if donors is None else N_TRIES):
        order = rng.permutation(len(strata))
        rank = pd.Series(order).groupby(strata[order]).cumcount().to_numpy()
        first = np.empty(len(strata), dtype=bool)
        first[order] = rank % 2 == 1
        of_cell = first if donors is None else first[donors]
        split = Split(design, donors, np.flatnonzero(of_cell), np.flatnonzero(~of_cell))
        parts = split.training, split.held_out
        if all(half is not None and half.n_groups == design.n_groups < len(half.codes) for half in parts):
            return split
    levels = design.group_levels().astype(str).agg(", ".join, axis=1)
    if donors is None:
        few = levels[np.flatnonzero(design.counts == 1)]
        unit = "cell"
    else:
        of_group = pd.Series(donors).groupby(design.codes).nunique()
        few = levels[np.flatnonzero(of_group == 1)]
        unit = "donor"
    which = f"the group {few.iloc[0]!r} has one {unit} only" if len(few) else "no split of the donors does that"
    raise NoHalvesError(
        "intervals need two halves of the data with cells of every group in both, so that one half can select the "
        f"genes, but {which}. Leave out such groups, or compute no intervals."
    )


def intervals(
    values: np.ndarray, own: np.ndarray, confidence: float, df: float | np.ndarray, stretch: float | np.ndarray = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the estimates minus and plus their bootstrap standard error times a quantile of Student's t.

    Parameters
    ----------
    values
        Estimates of the resamples, (B, ...).
    own
        Estimates of the sample, (...).
    confidence, df
        Nominal coverage, and degrees of freedom of the standard error.
    stretch
        Factor of the standard error. A bootstrap of n units underestimates the variance of a mean by (n - 1) / n.
    """
    reach = t.ppf((1 + confidence) / 2, df) * stretch * np.std(values, axis=0, ddof=1)
    return own - reach, own + reach


def _precision(design: Design, donors: np.ndarray | None) -> tuple[float, float, np.ndarray, np.ndarray]:
    """Return df and stretch of the intervals of the loadings, and of those of the scores of each group, C x 1."""
    units = design.counts
    df, stretch = float(len(design.codes) - design.n_groups), 1.0
    if donors is not None:
        units = pd.Series(donors).groupby(design.codes).nunique().to_numpy()
        drawn = np.bincount(donor_strata(design, donors))
        if drawn.min() < FEW_DONORS:
            warn(
                f"the half of the donors that gives the intervals has only {drawn.min()} in some level; with fewer "
                f"than {FEW_DONORS}, the intervals are rough."
            )
        df, stretch = max(drawn.sum() - len(drawn), 1.0), np.sqrt(drawn.min() / max(drawn.min() - 1, 1))
    left = np.maximum(units - 1, 1)[:, None]
    return df, stretch, left, np.sqrt((left + 1) / left)


class _Frozen:
    """The axes of a sparse model on its selected genes, which can be fitted again on any cells.

    An axis u of an effect with contrasts H (df x genes) in the denominator W satisfies ``u ~ W^-1 H' q``, where the
    unit vector q is the direction of its contrasts H u. Its weights are taken as ``W^-1 H' q``. They are linear in the
    group means if df = 1, and the axis normalised to ``u' M_e(g) u = 1`` is not.

    Attributes
    ----------
    original, weights
        Loadings and weights of the model, m x k.
    """

    def __init__(self, model: SparseFLDA, genes: np.ndarray):
        self.model = model
        self.selected = {e: [np.searchsorted(genes, a) for a in axes] for e, axes in model.selected_.items()}
        sizes = model._prior_sizes
        self.sizes = None if sizes is None else {e: s[genes] for e, s in sizes.items()}
        self.original = model.components_[:, genes].T
        self._means = model.means_[:, genes] - model.means_[:, genes].mean(axis=0)
        if model.slopes_ is not None:
            self._means = np.vstack([self._means, model.slopes_[:, genes]])
        self._of = {e: np.flatnonzero(model.axes_["effect"] == e.name) for e in model._terms}
        self.weights = self._weights(self.original, self._means)

    def estimate(
        self, X: np.ndarray, design: Design, donors: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Fit the axes on these cells.

        X holds the m selected genes only, and ``donors`` is the donor of each cell in this resample.

        Returns
        -------
        Weights (m x k), centred group means (C x m, with q slopes of covariates below them), and M_e(g) of the genes
        (m x m).
        """
        model, samples = self.model, None
        if model.donor_share_ is not None and donors is not None:
            samples = Samples.of(design.codes, donors)
            samples = samples if samples.show_donors() else None
        # a few genes cannot estimate the share of the donors, so it is that of all genes of the fit
        within = Within.from_data(
            X, design.codes, design.counts, model.within, samples, covariates=design.covariates
        ).with_delta(model._delta)
        scatter = within.gene_scatter()
        variances = within.variances_of(scatter)
        target = target_diagonal(variances, model.shrinkage_target)
        if model.shrinkage_target == "identity":  # the mean variance of all genes of the fit, not of the selected ones
            target = np.full_like(target, model._mean_variance)
        g = model.shrinkage_
        M = (1 - g) * scatter + g * np.diag(target)
        means = within.means
        if self.sizes is not None:  # omega_S^2 are those of the fit, because a few selected genes cannot estimate them
            means = shrunken_by(self.sizes, means, variances, within.n_effective, design)
        means = with_slopes(means - means.mean(axis=0), within.of_covariates)
        return self.axes(means, M, design), within.coefficients, M

    def axes(self, means: np.ndarray, M: np.ndarray, design: Design) -> np.ndarray:
        """Compute the weights of the genes, m x k, from their centred group means (and slopes) and M_e(g)."""
        U = np.zeros((means.shape[1], len(self.model.axes_)))
        for effect in design.effects:
            terms, supports, of = self.model._terms[effect], self.selected[effect.name], self._of[effect]
            refit = Refit(terms, means, MatrixRows(M))
            if self.model.mode == "marker":
                _, found = refit.together(supports[0], len(supports))
                if found.shape[1] < len(supports):
                    raise NoDirectionError(f"these cells have only {found.shape[1]} axes of {effect.name!r}.")
                U[np.ix_(supports[0], of)] = found
            else:
                for column, support in zip(of, supports, strict=True):
                    U[support, column] = refit.add(support)[1]
        return self._weights(U, means)

    def _weights(self, U: np.ndarray, means: np.ndarray) -> np.ndarray:
        """Multiply axes with ``u' M_e(g) u = 1`` by ``|H u| / u' W u``, which gives ``W^-1 H' q``."""
        out = U.copy()
        for effect, of in self._of.items():
            terms = self.model._terms[effect]
            own = np.linalg.norm(terms.own @ means @ U[:, of], axis=0)
            against = np.sum((terms.against @ means @ U[:, of]) ** 2, axis=0) if terms.ratio else 0.0
            out[:, of] *= own / (1 + against)
        return out

    def turned(self, U: np.ndarray, means: np.ndarray, metric: np.ndarray) -> np.ndarray:
        """Return weights with the signs of the original axes, or rotated to their orientation.

        Parameters
        ----------
        U
            Weights, m x k.
        means
            Centred group means of the same cells, C x m, and slopes of covariates, as :meth:`estimate` returns them.
        metric
            M_e(g) of the genes, in which axes that share their genes are rotated.
        """
        U = U.copy()
        for effect, of in self._of.items():
            # contrasts of one degree of freedom are a number, so that the sign is never in doubt
            B = self.model._terms[effect].contrasts
            agree = np.sum((B @ means @ U[:, of]) * (B @ self._means @ self.original[:, of]), axis=0)
            U[:, of] *= np.where(agree < 0, -1.0, 1.0)
            if self.model.mode == "marker" and len(of) > 1:
                # multiplied by the root of the metric, axes have the Euclidean distances that Procrustes needs
                root = np.real(sqrtm(metric))
                U[:, of] @= orthogonal_procrustes(root @ U[:, of], root @ self.weights[:, of])[0]
        return U


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
