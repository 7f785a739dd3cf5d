"""Permutation tests of effects, and of every gene for each effect."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import ArrayLike
from scipy.stats import false_discovery_control

from .._data import arrays
from .._data.summary import NonFiniteError, first_nonfinite
from .._design.design import Design, effect_components, effect_penalties, make_design
from .._design.effects import Effect
from .._design.splits import cell_folds
from .._logging import get_logger
from .._progress import progress
from .._solve.objective import Objective
from ..estimators import FLDA, donor_codes, expression, label_frame
from ..estimators._shrinkage import GRID
from ._cells import CellStatistics
from ._donors import DonorStatistics
from ._schemes import Scheme, n_distinct, scheme_of

logger = get_logger(__name__)

FEW_PERMUTATIONS = 20  # fewer distinct permutations than this are announced
BATCH_CELLS = 2**18  # largest number of labels in a batch, which has up to 32 permutations
# Relative difference up to which statistics count as tied. Exact ties occur, for example when a permutation only swaps
# the names of two levels, but statistics are computed in single precision.
TIE = 1e-5


@dataclass(frozen=True)
class EffectTests:
    """The result of :func:`effect_tests`.

    Attributes
    ----------
    table
        One row per effect: ``effect, statistic, null_mean, null_95, pval, pval_adj`` (Holm), ``n_resamples``,
        ``n_distinct`` (number of distinct permutations), ``unit`` (``"cell"`` or ``"donor"``) and ``scheme``
        (``"restricted"`` or ``"residual"``).
    null
        Statistic under every permutation, one column per effect. NaN where an effect has fewer permutations.
    genes
        One row per effect and gene: ``effect``, ``gene`` (its index), ``statistic`` (the F ratio), ``pval``,
        ``pval_adj`` (Benjamini and Hochberg), and ``pval_max`` (family-wise over genes, from the largest F of each
        permutation; Westfall and Young 1993). NaN for a gene without variance.
    """

    table: pd.DataFrame
    null: pd.DataFrame
    genes: pd.DataFrame


def effect_tests(
    model: FLDA,
    X,
    y,
    donor: ArrayLike | None = None,
    *,
    effects: Sequence[str] | None = None,
    n_resamples: int = 999,
    n_folds: int = 5,
    random_state: int | None = 0,
    n_jobs: int | None = None,
) -> EffectTests:
    """Test every effect, and every gene for each effect, by permutation.

    The statistic of an effect measures how well its axes predict held-out cells (or donors): the held-out criterion of
    :mod:`flda._solve.criterion` with its sign, at the best value of a grid of shrinkage. Fit, folds and tuning are
    repeated for every permutation. The p-value is ``(b + 1) / (B + 1)``, where b of B permutations have a statistic at
    least as large as the observed one.

    Cells are exchanged within combinations of levels of all other factors and, if donors are given, within donors. For
    factors that vary between donors, whole donors are exchanged; if there are no more than ``n_resamples`` distinct
    ways to do so, all are used. Effects that a permutation would destroy are removed before it and added back after it:
    interactions that contain a permuted factor, and main effects when an interaction is tested; see
    :mod:`flda.inference._schemes`. The test is exact for a main effect without interactions in the fit, and holds its
    level closely otherwise (``benchmarks/RESULTS.md``).

    Each gene is tested by the F ratio of the effect on its group means. The null distribution is that of all genes and
    all permutations together, and the false discovery rate is controlled by the method of Benjamini and Hochberg.

    Parameters
    ----------
    model
        Estimator whose interactions, nuisance, penalty, n_components and, if it is a number, shrinkage are used. It is
        not fitted. The test always concerns all genes, also for a sparse model, with the pooled within-group scatter
        and the total variance of each gene as target.
    X
        Expression, cells x genes, in memory. Tests that exchange cells need no more than 8,000 genes, or no more than
        8,000 cells.
    y
        Labels, as in :meth:`FLDA.fit`.
    donor
        Donor of each cell, (N,), as ``groups`` of :meth:`FLDA.fit`. Without it, cells are taken to be independent.
    effects
        Names of the effects to test. None tests all, and logs a warning for those that cannot be tested.
    n_resamples
        Number of permutations per effect.
    n_folds
        Number of folds of the statistic when cells are exchanged; with donors given, the folds hold out whole donors.
        When donors are exchanged there are up to ten folds.
    random_state
        Seed.
    n_jobs
        Number of threads, as in joblib.

    Returns
    -------
    An :class:`EffectTests`.

    Raises
    ------
    ValueError
        If a factor varies between donors and a level of it has fewer than three donors, labels cannot be exchanged, the
        data are too large or not in memory, or a parameter is not valid.

    References
    ----------
    Anderson MJ, ter Braak CJF. Permutation tests for multi-factorial analysis of variance. J. Stat. Comput. Simul.
    73:85 (2003).

    Examples
    --------
    >>> from flda import FLDA
    >>> from flda.datasets import t4t5_simulated
    >>> adata = t4t5_simulated(n_obs=300, n_vars=100)
    >>> result = effect_tests(FLDA(), adata.X, adata.obs[["dendrite", "axon"]], n_resamples=19)
    >>> result.table[["effect", "pval", "unit", "scheme"]].values.tolist()[0]
    ['dendrite', 0.05, 'cell', 'residual']
    """
    labels = label_frame(y)[0]
    donors, names = donor_codes(donor, len(labels))
    design = make_design(labels, interactions=model.interactions, nuisance=model.nuisance)
    wanted = _effects(design, effects)
    if n_resamples < 1:
        raise ValueError(f"n_resamples={n_resamples}: use 1 or more.")
    schemes = _schemes(wanted, design, donors, names, named=effects is not None)
    # every group weighs the same, whatever the estimator does: a permutation has no noise of its own to weigh them by
    objective = Objective(model.objective, effect_penalties(design, model.penalty), model.lack_of_fit)
    n_components = effect_components(design, model.n_components)
    grid = (float(model.shrinkage),) if isinstance(model.shrinkage, Real) else GRID
    rng = np.random.default_rng(random_state)
    fold = cell_folds(design, np.random.RandomState(rng.integers(2**31)), n_folds)
    if donors is not None:
        fold = donors % n_folds  # independent of labels; cells are exchanged within donors, so no cell changes its fold
    X = expression(X, len(labels))
    if not arrays.in_memory(X):
        raise ValueError("permutation tests need the data in memory; load them, or the genes of interest, first.")
    if (bad := first_nonfinite(X)) is not None:
        raise NonFiniteError(*bad)

    rows, nulls, genes = [], {}, []
    for scheme in schemes:
        engine: CellStatistics | DonorStatistics
        if scheme.by_donor:
            assert donors is not None
            engine = DonorStatistics(
                X, design, donors, scheme, objective, n_components[scheme.effect], [g for g in grid if g > 0], rng
            )
            observed = engine.units
        else:
            engine = CellStatistics(X, design, scheme, objective, n_components[scheme.effect], fold, grid)
            observed = design.codes
        distinct = n_distinct(scheme, engine.units, engine.strata)
        name = scheme.effect.name
        _check_distinct(name, distinct, scheme)
        found = _run(engine, observed, distinct, n_resamples, rng, n_jobs, name)
        nulls[name] = found.null
        n_used = int(np.sum(~np.isnan(found.null)))
        rows.append(
            {
                "effect": name,
                "statistic": found.statistic,
                "null_mean": np.nanmean(found.null),
                "null_95": np.nanquantile(found.null, 0.95),
                "pval": (1 + np.sum(found.null >= found.statistic - TIE * abs(found.statistic))) / (1 + n_used),
                "n_resamples": n_used,
                "n_distinct": distinct,
                "unit": "donor" if scheme.by_donor else "cell",
                "scheme": scheme.name,
            }
        )
        genes.append(found.genes.assign(effect=name))
    table = pd.DataFrame(rows)
    table.insert(5, "pval_adj", _holm(table["pval"].to_numpy()))
    null = pd.DataFrame({name: pd.Series(values) for name, values in nulls.items()})
    every = pd.concat(genes, ignore_index=True)
    return EffectTests(table, null, every[["effect", "gene", "statistic", "pval", "pval_adj", "pval_max"]])


@dataclass(frozen=True)
class _Found:
    """The result for one effect: its statistic, the null distribution (B,), and the table of genes by index."""

    statistic: float
    null: np.ndarray
    genes: pd.DataFrame


def _run(
    engine: CellStatistics | DonorStatistics,
    observed: np.ndarray,
    distinct: float,
    n_resamples: int,
    rng: np.random.Generator,
    n_jobs: int | None,
    name: str,
) -> _Found:
    """Compute the statistics of the data and of all permutations, and the p-values of the genes.

    Parameters
    ----------
    engine
        Computes the statistics of a batch of labellings.
    observed
        The observed labelling.
    distinct
        The number of distinct permutations.
    n_resamples, rng, n_jobs
        Number of random permutations, their generator, and the number of threads.
    name
        Name of the effect, for the progress bar.
    """
    (statistic,), (F,) = engine.statistics(observed[None])
    # donors are few, so often all of their distinct permutations can be used instead of a random draw
    if isinstance(engine, DonorStatistics) and distinct - 1 <= n_resamples:
        others = [a for a in engine.every() if not np.array_equal(a, observed)]
        n_resamples = len(others)
        labellings: Iterator[np.ndarray] = iter(others)
    else:
        labellings = (engine.permuted(rng) for _ in range(n_resamples))
    size = max(1, min(32, BATCH_CELLS // len(observed)))
    batches = (
        np.stack([next(labellings) for _ in range(min(size, n_resamples - start))])
        for start in range(0, n_resamples, size)
    )
    real = F > 0
    # The null distribution of a gene is the F of all genes under all permutations, B x p numbers, too many to keep. For
    # the p-values it is enough to know how many of them reach each observed F, less the tie tolerance. So every F under
    # permutation is counted in the interval between two sorted observed values into which it falls, and the sums of
    # these counts from above give the numbers.
    order = np.sort(F[real] * (1 - TIE))
    null, at_least, largest = [], np.zeros(len(F)), np.zeros(len(F))
    n_used = 0

    def one(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the statistics, the histogram of F, and the largest F of each labelling of a batch."""
        T, ratios = engine.statistics(batch)
        ratios = ratios[~np.isnan(T)][:, real]  # T is NaN for a permutation that leaves an effect without its groups
        counts = np.bincount(np.searchsorted(order, ratios.ravel(), side="right"), minlength=len(order) + 1)
        return T, counts, ratios.max(axis=1, initial=0.0)

    n_batches = math.ceil(n_resamples / size)
    results = Parallel(n_jobs=n_jobs, return_as="generator", prefer="threads")(delayed(one)(batch) for batch in batches)
    histogram = np.zeros(len(order) + 1)
    tops = []
    for T, counts, top in progress(results, desc=f"permutations of {name}", total=n_batches):
        null.append(T)
        histogram += counts
        tops.append(top)
        n_used += len(top)
    # histogram[i] counts the F with exactly i thresholds at or below them, and tail[i] those with at least i
    tail = histogram[::-1].cumsum()[::-1]
    at_least[real] = tail[np.searchsorted(order, F[real] * (1 - TIE), side="left") + 1]
    # the largest F of every permutation gives p-values that hold for all genes together (Westfall and Young 1993)
    maxima = np.sort(np.concatenate(tops))
    largest[real] = n_used - np.searchsorted(maxima, F[real] * (1 - TIE), side="left")
    # the null distribution is shared by all genes with an F, so it has n_used * real.sum() members
    pval = np.where(real, (1 + at_least) / (1 + n_used * max(real.sum(), 1)), np.nan)
    adjusted = np.full(len(F), np.nan)
    if real.any():
        adjusted[real] = false_discovery_control(pval[real])
    genes = pd.DataFrame(
        {
            "gene": np.arange(len(F)),
            "statistic": np.where(real, F, np.nan),
            "pval": pval,
            "pval_adj": adjusted,
            "pval_max": np.where(real, (1 + largest) / (1 + n_used), np.nan),
        }
    )
    return _Found(float(statistic), np.concatenate(null), genes)


def _effects(design: Design, effects: Sequence[str] | None) -> list[Effect]:
    """Return the effects with these names, or all effects with axes."""
    names = {e.name: e for e in design.effects}
    wanted = list(names) if effects is None else [effects] if isinstance(effects, str) else list(effects)
    for name in wanted:
        if name not in names:
            raise ValueError(f"there are no axes for the effect {name!r}; effects are {list(names)}.")
    return [names[name] for name in wanted]


def _schemes(
    effects: Sequence[Effect], design: Design, donors: np.ndarray | None, names: np.ndarray | None, *, named: bool
) -> list[Scheme]:
    """Return the schemes of all effects that can be tested.

    An effect that cannot be tested is an error if it was ``named`` by the user or if no other effect is left, and a
    warning otherwise.
    """
    out, refused = [], None
    for effect in effects:
        try:
            out.append(scheme_of(effect, design, donors, names))
        except ValueError as error:
            if named:
                raise
            logger.warning("no p-value for %s: %s", effect.name, error)
            refused = error
    if refused is not None and not out:
        raise refused
    return out


def _check_distinct(name: str, distinct: float, scheme: Scheme) -> None:
    """Raise an error if there is nothing to permute, and log a warning if there are few distinct permutations."""
    unit = "donors" if scheme.by_donor else "cells"
    if distinct <= 1:
        raise ValueError(
            f"the labels of {name!r} cannot be permuted: no two {unit} of one stratum (same levels of the other "
            "factors, same donor) differ in them. Fit fewer factors, or test without donors."
        )
    if distinct < FEW_PERMUTATIONS:
        logger.warning(
            "%s has only %d different permutations of its %s, so no p-value can be below %.2g",
            name, distinct, unit, 1 / distinct,
        )  # fmt: skip


def _holm(pvals: np.ndarray) -> np.ndarray:
    """Adjust p-values by the step-down method of Holm."""
    order = np.argsort(pvals)
    out = np.empty_like(pvals)
    out[order] = np.minimum(np.maximum.accumulate(pvals[order] * np.arange(len(pvals), 0, -1)), 1.0)
    return out
