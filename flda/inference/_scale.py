"""Whether an interaction is a matter of scale: :func:`scale_check`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike
from scipy.stats import false_discovery_control

from .._data import arrays, entry
from .._data.device import to_host
from .._data.summary import summarise
from .._design.effects import Effect
from .._design.entry import checked_cells, donor_codes
from .._design.samples import sample_units
from .._error.log_rates import LogRateFlips, log_rate_flips_of_donors
from ..estimators import FLDA
from ._tests import _effects, _run, effect_tests

MOST = 0.5  # share of the genes that must keep an interaction for the scale not to explain it


@dataclass(frozen=True)
class ScaleCheck:
    """The result of :func:`scale_check`.

    Attributes
    ----------
    table
        One row per interaction: ``effect``; ``pval`` of the interaction on the expression as given, and
        ``pval_log_rate`` on the log of mean counts; ``n_genes``, the genes with the interaction on the expression as
        given; ``n_kept`` and ``share_kept``, how many of them keep it on the log of mean counts (NaN if there are
        none); and ``reading``, a sentence that says what this means.
    genes
        One row per interaction and gene that has it on the expression as given: ``effect``, ``gene`` (its index),
        ``pval_adj`` there, ``pval_log_rate``, and ``kept``.
    """

    table: pd.DataFrame
    genes: pd.DataFrame


def scale_check(
    model: FLDA,
    X,
    y,
    donor: ArrayLike | None = None,
    *,
    counts: Any,
    depth: ArrayLike | None = None,
    effects: Sequence[str] | None = None,
    n_resamples: int = 199,
    alpha: float = 0.05,
    random_state: int | None = 0,
) -> ScaleCheck:
    """Check whether interactions are more than the curvature of log1p.

    If two factors each multiply the counts of a gene, they add up on the logarithm of its mean counts, but not on
    log1p values near zero. Such a gene has an interaction on log1p values that tells nothing beyond its main effects.
    This function tests every interaction twice with the resampling of :func:`effect_tests`: on the expression as given,
    and on the logarithm of the mean counts of groups (or of donors in groups), normalised by depth. It counts how many
    of the genes with the interaction on the first scale keep it on the second.

    How to read it: if most genes keep it, the scale does not explain the interaction. If few do, main effects that
    multiply each other are enough to explain it. A gene that is seen in a single group, and next to never elsewhere,
    can keep it or not: the number of its counts decides. A gene can also lose an interaction for lack of power, because
    the log of few counts is noisy.

    Parameters
    ----------
    model
        Estimator whose interactions and nuisance are used. It is not fitted.
    X, y, donor
        As in :func:`effect_tests`.
    counts
        Raw counts of the same cells and genes, N x p; those on disk or in dask are read into memory.
    depth
        Total counts of every cell, (N,), positive. Without it, they are those of the genes in ``counts``.
    effects
        Names of the interactions to check. None takes all that have axes.
    n_resamples
        Number of resamples.
    alpha
        False discovery rate at which a gene has, and keeps, an interaction. The second is among the genes that have it.
    random_state
        Seed.

    Returns
    -------
    A :class:`ScaleCheck`.

    Raises
    ------
    ValueError
        If there is no interaction to check, or ``counts`` are not raw counts.

    References
    ----------
    Haldane JBS. The estimation and significance of the logarithm of a ratio of frequencies. Ann. Hum. Genet. 20:309
    (1956).

    Examples
    --------
    >>> from flda import FLDA
    >>> from flda.datasets import t4t5_simulated
    >>> adata = t4t5_simulated(n_obs=300, n_vars=100)
    >>> found = scale_check(
    ...     FLDA(), adata.X, adata.obs[["dendrite", "axon"]], counts=adata.layers["counts"], n_resamples=99
    ... )
    >>> found.table["effect"].tolist()
    ['dendrite:axon']
    """
    X, labels = checked_cells(X, y, donor)
    donors, _ = donor_codes(donor, len(labels))
    design = model.design_of(labels)
    if design.residual:
        raise ValueError("scale_check judges interactions by the noise within groups, which error='residual' lacks.")
    wanted = [e for e in _effects(design, effects) if len(e) > 1]
    if not wanted:
        raise ValueError(
            "there is no interaction to check"
            + (f" among {list(effects)}." if effects is not None else "; fit with interactions='all' or name some.")
        )
    counts = entry.matrix(counts, "counts")
    if counts.shape != X.shape:
        raise ValueError(f"counts has the shape {counts.shape} and X has {X.shape}; give the same cells and genes.")
    counts = to_host(arrays.collected(counts))
    seed = int(np.random.default_rng(random_state).integers(2**31))
    samples = sample_units(design, donors)
    size = _sizes(counts, depth)
    S = len(samples.counts)
    inverse = np.bincount(samples.codes, 1 / size, S) / samples.counts
    counts = arrays.by_rows(counts)
    rates = sp.csr_array(sp.diags_array(1 / size) @ counts) if sp.issparse(counts) else counts / size[:, None]
    of_samples = summarise(rates, samples.codes, S)
    means = of_samples.sums / samples.counts[:, None]

    given = effect_tests(
        model, X, labels, donor, effects=[e.name for e in wanted], n_resamples=n_resamples, random_state=random_state
    )
    found: dict[Effect, Any] = {}
    # slopes on the scale of X say nothing of log rates, so the second test has no covariates
    design = replace(design, covariates=None)
    if donors is None:
        found = _run(LogRateFlips(rates, design, wanted, means, of_samples.squares, inverse, seed), wanted, n_resamples)
    else:
        for effect in wanted:
            engine = log_rate_flips_of_donors(effect, design, donors, means, samples, inverse, seed)
            found |= _run(engine, [effect], n_resamples)
    rows, genes = [], []
    of_effects = given.table.set_index("effect")
    for effect in wanted:
        row, _, on_rates = found[effect]
        part = given.genes[given.genes["effect"] == effect.name].set_index("gene")
        part = part[part["pval_adj"] <= alpha][["effect", "pval_adj"]]
        pvals = on_rates.set_index("gene")["pval"].reindex(part.index).fillna(1.0)
        kept = false_discovery_control(pvals) <= alpha if len(pvals) else np.zeros(0, dtype=bool)
        genes.append(part.assign(pval_log_rate=pvals, kept=kept).reset_index())
        n, k = len(part), int(kept.sum())
        rows.append(
            {
                "effect": effect.name,
                "pval": of_effects.loc[effect.name, "pval"],
                "pval_log_rate": row["pval"],
                "n_genes": n,
                "n_kept": k,
                "share_kept": k / n if n else np.nan,
                "reading": _reading(effect.name, n, k),
            }
        )
    every = pd.concat(genes, ignore_index=True)
    return ScaleCheck(pd.DataFrame(rows), every[["effect", "gene", "pval_adj", "pval_log_rate", "kept"]])


def _sizes(counts: Any, depth: ArrayLike | None) -> np.ndarray:
    """Return the size factor of every cell, with mean one, and check that these are counts."""
    if not summarise(counts, np.zeros(counts.shape[0], dtype=np.int64), 1).counts_like:
        raise ValueError("counts does not look like raw counts (whole numbers, none negative); give the raw counts.")
    total = np.asarray(counts.sum(axis=1) if depth is None else depth, dtype=float).ravel()
    if total.shape != (counts.shape[0],) or not (np.isfinite(total) & (total > 0)).all():
        raise ValueError("every cell needs a positive depth; leave out the cells without counts.")
    return total / total.mean()


def _reading(name: str, n: int, k: int) -> str:
    """Say in a sentence what the numbers mean."""
    if n == 0:
        return f"No gene has the interaction {name}, so there is nothing to check."
    share = f"{k} of {n} genes with the interaction {name} keep it on the log of mean counts"
    if k >= MOST * n:
        return f"{share}, so the scale does not explain it."
    return f"Only {share}; for the others, main effects that multiply each other explain it (curvature of log1p)."
