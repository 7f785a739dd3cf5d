"""Tests of effects, and of every gene for each effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import false_discovery_control

from .._data import arrays
from .._data.summary import NonFiniteError, first_nonfinite, summarise
from .._design.design import Design
from .._design.effects import Effect
from .._design.entry import checked_cells, donor_codes
from .._design.samples import sample_units
from .._error.adjusted import adjusted
from .._error.flips import CellFlips, DonorFlips
from .._error.permutations import Permutations
from .._error.residual import UnitFlips, rows_of, single_units
from .._error.responses import warn_of_shared_responses
from .._error.signs import n_distinct
from .._error.units import donor_units, left_out
from .._logging import warn
from .._progress import progress
from ..estimators import FLDA
from ..estimators._prepare import refuse_donors

METHODS = ("auto", "flips", "permutation")
FEW_FLIPS = 20  # fewer distinct resamples than this are announced
TIE = 1e-5  # relative difference up to which statistics count as tied; those of resamples are kept in single precision


@dataclass(frozen=True)
class EffectTests:
    """The result of :func:`effect_tests`.

    Attributes
    ----------
    table
        One row per effect: ``effect, statistic`` (the mean over genes of their F), ``null_mean`` and ``null_95`` (mean
        and 95 % quantile of that under the null), ``pval, pval_adj`` (Holm), ``pval_sum, pval_max`` (from the sum over
        genes and from the largest F; ``pval`` combines both), ``n_resamples, n_distinct`` (number of distinct
        resamples), ``unit`` (``"cell"`` or ``"donor"``), ``n_units`` (number of units with a part in the effect; of a
        named contrast, those of its groups) and ``method``.
    null
        Statistic of every resample, one column per effect. NaN where an effect has fewer resamples.
    genes
        One row per effect and gene: ``effect``, ``gene`` (its index), ``statistic`` (the F ratio), ``pval``,
        ``pval_adj`` (Benjamini and Hochberg), and ``pval_max`` (family-wise over genes, from the largest F of each
        resample; Westfall and Young 1993). NaN for a gene that is constant.
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
    method: str = "auto",
    random_state: int | None = 0,
) -> EffectTests:
    """Test every effect, and every gene for each effect.

    The statistic of a gene is an F ratio of Wald's kind, ``b' V^-1 b / df``: b are the coefficients of the effect on
    the group means, and V their noise. Every group has a variance of its own; with cells as units half of it is the
    pooled one, so that a group that happens not to express a gene does not weigh too much. An effect is tested by the
    sum of the F of all genes and by the largest one.

    With ``donor`` the units are donors, not cells. Every donor gives its own contrast of the factors that vary within
    donors, from the means of its samples, and these are compared between donors; see :mod:`flda._error.units`.
    Donors that do not have the groups of a contrast are left out of its test, and a log message names them.

    If the noise is what the effects leave (``error="residual"``), the statistic is the F of an analysis of variance of
    type III, with precision weights if there are any, and the residuals of the rows are flipped. If the levels of a
    nuisance factor, such as donors, respond differently to an effect, and several samples of one level share the
    response, the p-values of that effect are too small, and a warning says so.

    The null distribution comes from random signs of the residuals of the units (:mod:`flda._error.flips`). It holds
    when groups differ in variance and size, and whatever the correlations between genes. It asks that units are
    independent and, in groups of few units, that their errors are about symmetric. Variances are moderated over genes
    (Smyth 2004), which matters where units are few.

    The p-value of a gene compares its F with those of all genes under all flips. It is never below one over the number
    of distinct flips, because few donors cannot give small p-values, however many genes there are.

    Parameters
    ----------
    model
        Estimator whose interactions and nuisance are used. It is not fitted, and the test always concerns all genes.
    X
        Expression, cells x genes, of any kind that :meth:`FLDA.fit` takes.
    y
        Labels, as in :meth:`FLDA.fit`.
    donor
        Donor of each cell, (N,), as ``groups`` of :meth:`FLDA.fit`. Without it, cells are taken to be independent.
    effects
        Names of the effects to test. None tests all, and logs a warning for those that cannot be tested.
    n_resamples
        Number of resamples per effect. If there are no more distinct flips of the donors, all of them are used.
    method
        ``"flips"`` is the test above, and ``"auto"`` takes it. ``"permutation"`` exchanges labels within the levels of
        all other factors (and cells within donors, if the effect varies within them). It is exact if units of different
        levels differ in nothing else, their variance included, and it is refused where another effect of the fit
        contains a factor of the tested one.
    random_state
        Seed.

    Returns
    -------
    An :class:`EffectTests`.

    Raises
    ------
    ValueError
        If too few donors give the contrast of an effect, labels cannot be exchanged, or a parameter is not valid.

    References
    ----------
    Pauly M, Brunner E, Konietschke F. Asymptotic permutation tests in general factorial designs. J. R. Stat. Soc. B
    77:461 (2015).

    Friedrich S, Pauly M. MATS: inference for potentially singular and heteroscedastic MANOVA. J. Multivariate Anal.
    165:166 (2018).

    Smyth GK. Linear models and empirical Bayes methods for assessing differential expression in microarray experiments.
    Stat. Appl. Genet. Mol. Biol. 3:3 (2004).

    Examples
    --------
    >>> from flda import FLDA
    >>> from flda.datasets import t4t5_simulated
    >>> adata = t4t5_simulated(n_obs=300, n_vars=100)
    >>> result = effect_tests(FLDA(), adata.X, adata.obs[["dendrite", "axon"]], n_resamples=99)
    >>> result.table[["effect", "pval", "unit", "method"]].values.tolist()[0]
    ['dendrite', 0.01, 'cell', 'flips']
    """
    X, labels = checked_cells(X, y, donor)
    donors, names = donor_codes(donor, len(labels))
    design = model.design_of(labels)
    wanted = _effects(design, effects)
    if n_resamples < 1:
        raise ValueError(f"n_resamples={n_resamples}: use 1 or more.")
    if method not in METHODS:
        raise ValueError(f"method={method!r}: use one of {list(METHODS)}.")
    seed = int(np.random.default_rng(random_state).integers(2**31))

    found: dict[Effect, _Found] = {}
    for engine, of in _engines(wanted, design, donors, names, X, method, seed, named=effects is not None):
        found |= _run(engine, of, n_resamples)
    rows, nulls, genes = [], {}, []
    for effect in (e for e in wanted if e in found):
        row, null, of_genes = found[effect]
        rows.append({"effect": effect.name, **row})
        nulls[effect.name] = null
        genes.append(of_genes.assign(effect=effect.name))
    table = pd.DataFrame(rows)
    _announce_few(table)
    table.insert(5, "pval_adj", _holm(table["pval"].to_numpy()))
    null = pd.DataFrame({name: pd.Series(values) for name, values in nulls.items()})
    every = pd.concat(genes, ignore_index=True)
    return EffectTests(table, null, every[["effect", "gene", "statistic", "pval", "pval_adj", "pval_max"]])


_Engine = CellFlips | DonorFlips | Permutations
_Found = tuple[dict, np.ndarray, pd.DataFrame]  # row of the table, null statistics, and table of genes by index


def _engines(
    effects: list[Effect], design: Design, donors: np.ndarray | None, names: np.ndarray | None, X, method: str,
    seed: int, *, named: bool,
) -> list[tuple[_Engine, list[Effect]]]:  # fmt: skip
    """Return what computes the statistics, with the effects that it tests.

    An effect that cannot be tested is an error if it was ``named`` by the user or if no other effect is left, and a
    warning otherwise.
    """
    refuse_donors(design, donors)
    by_cells = method != "permutation" and donors is None and not design.residual
    if not by_cells and (bad := first_nonfinite(X)) is not None:
        raise NonFiniteError(*bad)
    if design.residual:
        if method == "permutation":
            raise ValueError(
                "method='permutation' exchanges cells within groups, and the noise is what the effects leave "
                "(error='residual'); use method='flips'."
            )
        rows = rows_of(X)
        engines: list[tuple[_Engine, list[Effect]]] = [
            (UnitFlips(e, single_units(e, design, rows), seed), [e]) for e in effects
        ]
        warn_of_shared_responses(effects, design, rows)
        return engines
    if by_cells:
        if np.all(design.counts == 1):
            raise ValueError("every group has a single cell, so there is no spread within groups to judge effects by.")
        found = summarise(X, design.codes, design.n_groups)  # one pass, which also finds values that are not finite
        means, squares, slopes = found.sums / design.counts[:, None], found.squares, None
        if design.covariates is not None:
            less = adjusted(X, design.covariates, design.codes, means * design.counts[:, None], squares)
            means, squares, slopes = less.sums / design.counts[:, None], less.squares, less.slopes
        return [(CellFlips(X, design, effects, means, squares, seed, slopes), effects)]
    out: list[tuple[_Engine, list[Effect]]] = []
    refused, of_samples = None, None
    for effect in effects:
        try:
            if method == "permutation":
                out.append((Permutations(effect, design, X, donors, seed), [effect]))
                continue
            assert donors is not None
            if of_samples is None:
                samples = sample_units(design, donors)
                sums = arrays.group_sums(X, samples.codes, len(samples.counts))
                if design.covariates is not None:
                    sums = adjusted(X, design.covariates, samples.codes, sums, np.zeros_like(sums)).sums
                of_samples = samples, sums / samples.counts[:, None]
            units = donor_units(effect, design, donors, of_samples[1], of_samples[0])
            out.append((DonorFlips(effect, units, seed), [effect]))
            if absent := left_out(units, np.arange(donors.max() + 1) if names is None else names):
                warn(
                    f"{len(absent)} donors lack a group that a contrast of {effect.name} needs and are left out of its "
                    f"test: {', '.join(absent[:5])}{', ...' if len(absent) > 5 else ''}"
                )
        except ValueError as error:
            if named:
                raise
            warn(f"no p-value for {effect.name}: {error}")
            refused = error
    if refused is not None and not out:
        raise refused
    return out


def _run(engine: _Engine, effects: list[Effect], n_resamples: int) -> dict[Effect, _Found]:
    """Compute the statistics of the data and of all resamples, and the p-values."""
    observed = engine.observed()
    blocks: dict[Effect, list[np.ndarray]] = {e: [] for e in effects}
    for block in progress(engine.flipped(n_resamples), desc="resamples of " + ", ".join(e.name for e in effects)):
        for effect, statistics in block.items():
            blocks[effect].append(statistics.astype(np.float32))
    permuted = isinstance(engine, Permutations)
    out = {}
    for effect in effects:
        df, n_units = engine.df[effect], engine.units_of(effect)
        distinct, sums = n_distinct(n_units), np.inf
        if isinstance(engine, Permutations):
            distinct = engine.n_distinct
        else:
            sums = engine.n_sums[effect]
        null = np.concatenate(blocks[effect]) / np.float32(df)
        row, null, genes = _pvalues(observed[effect] / df, null, distinct, sums)
        about = {"n_distinct": distinct, "unit": engine.unit, "n_units": n_units}
        out[effect] = {**row, **about, "method": "permutation" if permuted else "flips"}, null, genes
    return out


def _pvalues(F: np.ndarray, null: np.ndarray, distinct: float, distinct_sums: float = np.inf) -> _Found:
    """Compute the p-values of an effect and of its genes.

    Parameters
    ----------
    F
        F ratio of every gene, (p,).
    null
        The same in B resamples, (B, p).
    distinct, distinct_sums
        The number of distinct resamples, and of clearly different sums over genes.
    """
    B, real = len(null), (F > 0) & (null > 0).any(axis=0)
    if not real.any():
        raise ValueError("every gene is constant, so there is nothing to test.")
    own, null = F[real], null[:, real]
    sums = np.r_[own.mean(), null.mean(axis=1)]
    tops = np.r_[own.max(), null.max(axis=1)]
    # the p-values of the data and of every resample among all of them, for the sum and for the maximum
    ranks = np.stack([np.maximum(_share_above(sums), 1 / distinct_sums), _share_above(tops)])
    # the smaller one of both is a statistic itself; where few resamples make it equal, the larger one decides
    smaller, larger = ranks.min(axis=0), ranks.max(axis=0)
    tied = np.isclose(smaller, smaller[0], rtol=TIE, atol=0)
    pval = np.mean(np.where(tied, larger <= larger[0] * (1 + TIE), smaller < smaller[0]))
    row = {
        "statistic": sums[0], "null_mean": sums[1:].mean(), "null_95": np.quantile(sums[1:], 0.95), "pval": pval,
        "pval_sum": ranks[0, 0], "pval_max": ranks[1, 0], "n_resamples": B,
    }  # fmt: skip
    # the null distribution of F is shared by all genes
    pool = np.sort(null, axis=None)
    at_least = len(pool) - np.searchsorted(pool, own * (1 - TIE), side="left")
    of_genes = np.maximum((1 + at_least) / (1 + len(pool)), 1 / distinct)
    every = np.full((3, len(F)), np.nan)
    every[0, real] = of_genes
    every[1, real] = false_discovery_control(of_genes)
    highest = np.sort(tops[1:])
    every[2, real] = (1 + B - np.searchsorted(highest, own * (1 - TIE), side="left")) / (1 + B)
    genes = pd.DataFrame(
        {
            "gene": np.arange(len(F)),
            "statistic": np.where(real, F, np.nan),
            "pval": every[0],
            "pval_adj": every[1],
            "pval_max": every[2],
        }
    )
    return row, sums[1:], genes


def _share_above(values: np.ndarray) -> np.ndarray:
    """Return, for each value, the share of all values that are at least as large."""
    order = np.sort(values)
    return (len(values) - np.searchsorted(order, values * (1 - TIE), side="left")) / len(values)


def _effects(design: Design, effects: Sequence[str] | None) -> list[Effect]:
    """Return the effects with these names, or all effects with axes."""
    names = {e.name: e for e in design.effects}
    wanted = list(names) if effects is None else [effects] if isinstance(effects, str) else list(effects)
    for name in wanted:
        if name not in names:
            raise ValueError(f"there are no axes for the effect {name!r}; effects are {list(names)}.")
    return [names[name] for name in wanted]


def _announce_few(table: pd.DataFrame) -> None:
    """Warn of effects with few distinct resamples, once for all effects that have the same units."""
    few = table[table["n_distinct"] < FEW_FLIPS]
    for (distinct, n_units, unit), alike in few.groupby(["n_distinct", "n_units", "unit"], sort=False):
        names = alike["effect"].tolist()
        subject = f"{names[0]} has" if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]} each have"
        warn(
            f"{subject} only {distinct:.0f} different resamples of {n_units} {unit}s, so no p-value can be below "
            f"{1 / distinct:.3g}; read the certificate, and the order of the genes by F."
        )


def _holm(pvals: np.ndarray) -> np.ndarray:
    """Adjust p-values by the step-down method of Holm."""
    order = np.argsort(pvals)
    out = np.empty_like(pvals)
    out[order] = np.minimum(np.maximum.accumulate(pvals[order] * np.arange(len(pvals), 0, -1)), 1.0)
    return out
