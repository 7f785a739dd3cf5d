"""Complementary-pairs stability selection: how often random halves of the cells, or donors, select a gene."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from .._design.design import Design
from .._design.entry import checked_cells, donor_codes
from .._design.samples import donor_strata
from .._design.splits import Split
from .._progress import each
from ..estimators import SparseFLDA


@dataclass(frozen=True)
class Stability:
    """The result of :func:`stability_selection`.

    Attributes
    ----------
    genes
        One row per effect and gene that was selected at least once, the most frequent first: ``effect``, ``gene`` (its
        index), ``frequency`` (the share of halves in which some axis of the effect uses the gene), and
        ``expected_false``. The last is an upper bound on the expected number of genes with at least this frequency that
        are selected no more often than by drawing candidates at random; there is no bound, so it is NaN, for a
        frequency up to 1/2.
    n_resamples
        The number of halves that were used.
    unit
        What was split into halves: ``"cell"`` or ``"donor"``.
    """

    genes: pd.DataFrame
    n_resamples: int
    unit: str


def stability_selection(
    model: SparseFLDA,
    X,
    y,
    donor: ArrayLike | None = None,
    *,
    n_resamples: int = 50,
    random_state: int | None = 0,
    n_jobs: int | None = None,
) -> Stability:
    """Select genes on both halves of many random splits of the data, and count how often each gene is selected.

    Parameters
    ----------
    model
        Estimator with the number of genes and the mode; it is cloned. Setting its ``shrinkage`` to a number, such as
        the ``shrinkage_`` of a fit, saves tuning it in every half.
    X, y
        Expression and labels, as in :meth:`FLDA.fit`.
    donor
        Donor of each cell, (N,), as ``groups`` of :meth:`FLDA.fit`. Each half takes whole donors, and an equal share of
        the donors of every level that varies between donors. Without donors, each half takes an equal share of the
        cells of every group, or any half of the cells if the noise is what the effects leave.
    n_resamples
        Number of halves, rounded up to whole pairs.
    random_state
        Seed.
    n_jobs
        Number of threads, as in joblib. The result does not depend on it.

    Returns
    -------
    A :class:`Stability`.

    Raises
    ------
    ValueError
        If ``n_resamples`` is below 2, or no split keeps every effect estimable in both halves.

    References
    ----------
    Meinshausen N, Buehlmann P. Stability selection. J. R. Stat. Soc. B 72:417 (2010). Shah RD, Samworth RJ. Variable
    selection with error control: another look at stability selection. J. R. Stat. Soc. B 75:55 (2013), theorem 1: the
    expected number of such genes with frequency t or more is at most ``q^2 / (p (2 t - 1))``, where q is the mean
    number of genes that a half selects, and p the number of candidates: of the genes that may be selected, those that
    vary within groups. It is also at most p.

    Examples
    --------
    >>> from flda import SparseFLDA
    >>> from flda.datasets import t4t5_simulated
    >>> adata = t4t5_simulated(n_obs=600, n_vars=100)
    >>> model = SparseFLDA(n_genes=5, shrinkage=0.5)
    >>> found = stability_selection(model, adata.X, adata.obs[["dendrite", "axon"]], n_resamples=4)
    >>> found.n_resamples, found.unit
    (4, 'cell')
    """
    X, labels = checked_cells(X, y, donor)
    donors, _ = donor_codes(donor, len(labels))
    design = model.design_of(labels)
    if n_resamples < 2:
        raise ValueError(f"n_resamples={n_resamples}: use 2 or more.")
    pairs = _pairs(design, donors, (n_resamples + 1) // 2, np.random.default_rng(random_state))
    halves = [half for pair in pairs for half in pair]
    if not halves:
        unit = "cells" if donors is None else "donors"
        raise ValueError(
            "no split leaves both halves with every group that the effects need, because some group has one of the "
            f"{unit} only. Leave such groups out, or fit fewer interactions."
        )

    def selected(half: Split) -> tuple[dict[str, np.ndarray], int]:
        """Return the genes that one half selects for each effect, and the number of its candidates."""
        own = half.fit(model, X, labels, axes_only=True)
        return {effect: np.unique(np.concatenate(axes)) for effect, axes in own.selected_.items()}, own._n_candidates

    counts: dict[str, np.ndarray] = {}
    n_candidates = []
    for found, candidates in each(selected, halves, desc="halves", n_jobs=n_jobs, total=len(halves)):
        n_candidates.append(candidates)
        for effect, genes in found.items():
            counts.setdefault(effect, np.zeros(X.shape[1], dtype=np.int64))[genes] += 1
    p, tables = np.mean(n_candidates), []
    for effect, count in counts.items():
        order = np.argsort(-count, kind="stable")[: np.count_nonzero(count)]
        frequency = count[order] / len(halves)
        # the bound of Shah and Samworth (2013), theorem 1
        q, above = count.sum() / len(halves), frequency > 0.5
        bound = np.full(len(order), np.nan)
        bound[above] = np.minimum(q**2 / (p * (2 * frequency[above] - 1)), p)
        tables.append(pd.DataFrame({"effect": effect, "gene": order, "frequency": frequency, "expected_false": bound}))
    return Stability(pd.concat(tables, ignore_index=True), len(halves), "cell" if donors is None else "donor")


def _pairs(
    design: Design, donors: np.ndarray | None, n_pairs: int, rng: np.random.Generator
) -> Iterator[tuple[Split, Split]]:
    """Yield complementary halves in which every effect can be estimated; each is the training part of a split."""
    strata = design.codes if donors is None else donor_strata(design, donors)
    if design.residual:
        strata = np.zeros_like(strata)
    for _ in range(n_pairs):
        order = rng.permutation(len(strata))
        rank = pd.Series(order).groupby(strata[order]).cumcount().to_numpy()
        half = np.empty(len(strata), dtype=np.int64)
        # the two halves of a stratum differ by one unit if their sum is odd; which of them is larger is random
        half[order] = (rank + rng.integers(2, size=strata.max() + 1)[strata[order]]) % 2
        of_cell = half if donors is None else half[donors]
        first, second = np.flatnonzero(of_cell == 0), np.flatnonzero(of_cell == 1)
        pair = Split(design, donors, first, second), Split(design, donors, second, first)
        if all((part := half.training) and (part.residual or len(part.codes) > part.n_groups) for half in pair):
            yield pair
