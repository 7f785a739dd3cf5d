"""Tests of gene sets: whether the genes of a set vary together along an axis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control
from sklearn.base import clone

from .._data import arrays
from .._data.summary import summarise
from .._design.design import Design
from .._design.effects import Effect
from .._design.samples import Samples, sample_units
from .._error.directed import DirectedCells, DirectedDonors
from .._error.flips import group_squares, n_distinct
from .._error.units import donor_units
from .._logging import quiet, warn
from .._progress import progress
from ..estimators import FLDA
from ..estimators._labels import checked_cells, donor_codes
from ._tests import TIE

BLOCK_BYTES = 2**28  # memory for the scores of the sets that are tested at a time
N_LEADING = 10  # genes that are named for a set


def gene_set_tests(
    model: FLDA,
    X,
    y,
    donor=None,
    *,
    sets: Mapping[str, Mapping[int, float]],
    n_resamples: int = 999,
    random_state: int | None = 0,
) -> pd.DataFrame:
    """Test, for every axis, which sets of genes vary with it.

    The score of a set in a cell is the weighted sum of its genes, each divided by its within-group standard deviation.
    It is judged like a gene: z is the contrast of its group means along the axis over the noise of this contrast, in
    which every group has a variance of its own, and the null distribution comes from random signs of the residuals of
    the units, cells or donors (:func:`effect_tests`). A flip turns whole cells, so it keeps the correlations between
    genes. The genes of a set that are correlated and do not vary with the effect therefore do not make it significant,
    which they do in tests that take genes as the unit (a hypergeometric test, or a t-test of the genes in the set
    against the others).

    The direction of an axis is taken from the genes outside the set, so that a set cannot confirm itself. The fit has
    seen the set, however: if a set holds a third of all genes, and no gene carries the effect, its first axis tests at
    0.08 in place of 0.05, and its second one at 0.02 (``benchmarks/gene_sets.py --genes 60``).

    Genes that vary in opposite directions cancel in the score unless their weights have opposite signs. The null
    hypothesis is that no gene of the set varies along the axis, not that they vary as much as other genes do: where
    most genes of the data vary with an effect, most sets do too, and the size of z tells them apart.

    Parameters
    ----------
    model
        Estimator, which is cloned and fitted.
    X, y
        Expression and labels, as in :meth:`FLDA.fit`.
    donor
        Donor of each cell, (N,). Without it, cells are taken to be independent.
    sets
        Name of a set -> index of a gene -> weight.
    n_resamples
        Number of resamples.
    random_state
        Seed.

    Returns
    -------
    DataFrame with a row per axis and set, in the order of the axes and of the p-values: ``axis, effect, source,
    n_genes``, ``z`` (positive if the set is high on the positive side of the axis), ``pval``, ``pval_adj`` (false
    discovery rate over the sets of an axis) and ``leading``, a tuple of the genes that vary most in the direction of z.

    Raises
    ------
    ValueError
        If there is no set, a set has no gene that varies, or a parameter is not valid.

    References
    ----------
    Goeman JJ, Buehlmann P. Analyzing gene expression data in terms of gene sets: methodological issues. Bioinformatics
    23:980 (2007), on the two null hypotheses and on genes as units.

    Examples
    --------
    >>> import numpy as np
    >>> from flda import FLDA
    >>> from flda.datasets import t4t5_simulated
    >>> adata = t4t5_simulated(n_obs=300, n_vars=100)
    >>> planted = {name: np.flatnonzero(adata.var[f"truth_{name}"]) for name in ("dendrite", "axon")}
    >>> sets = {name: dict.fromkeys(genes, 1.0) for name, genes in planted.items()}
    >>> table = gene_set_tests(FLDA(shrinkage=0.5), adata.X, adata.obs[["dendrite", "axon"]], sets=sets, n_resamples=99)
    >>> table.columns.tolist()
    ['axis', 'effect', 'source', 'n_genes', 'z', 'pval', 'pval_adj', 'leading']
    """
    X, labels = checked_cells(X, y, donor)
    with quiet():
        fitted = clone(model).fit(X, labels, donor)
    donors = donor_codes(donor, len(labels))[0]
    return set_tests(
        X, fitted.design_, donors, axes=fitted.axes_, components=fitted.components_, patterns=fitted.patterns_,
        sd=fitted.within_sd_, sets=sets, n_resamples=n_resamples, random_state=random_state,
    )  # fmt: skip


def set_tests(
    X,
    design: Design,
    donors: np.ndarray | None,
    *,
    axes: pd.DataFrame,
    components: np.ndarray,
    patterns: np.ndarray,
    sd: np.ndarray,
    sets: Mapping[str, Mapping[int, float]],
    n_resamples: int,
    random_state: int | None,
) -> pd.DataFrame:
    """Compute the table of :func:`gene_set_tests` for axes that have been fitted before.

    Parameters
    ----------
    X, design, donors
        Expression, N x p, its design, and the donor of each cell as an integer.
    axes, components, patterns
        A row per axis with its effect, the axes, and the correlations of the genes with them, k x p.
    sd
        Within-group standard deviation of every gene, (p,).
    sets, n_resamples, random_state
        As in :func:`gene_set_tests`.
    """
    if not sets:
        raise ValueError("there is no gene set to test; give at least one.")
    if n_resamples < 1:
        raise ValueError(f"n_resamples={n_resamples}: use 1 or more.")
    W = _weights(sets, sd)
    names = list(sets)
    samples = sample_units(design, donors)
    summary = summarise(X, samples.codes, len(samples.counts))
    means = summary.sums / samples.counts[:, None]
    seed = int(np.random.default_rng(random_state).integers(2**31))
    single = np.array([design.df(design.effect(name)) == 1 for name in axes["effect"]])
    size = max(BLOCK_BYTES // (8 * len(design.codes)), 1)
    blocks = [slice(start, min(start + size, len(names))) for start in range(0, len(names), size)]
    found: list[pd.DataFrame] = []
    for block in progress(blocks, desc="gene sets"):
        scores, outside = arrays.times(X, W[:, block]), _outside(means, components, W[:, block], single)
        for rows, z, null, distinct in _statistics(scores, outside, design, donors, samples, axes, seed, n_resamples):
            above = np.sum(np.abs(null) >= np.abs(z) * (1 - TIE), axis=0)
            pval = np.maximum((1 + above) / (1 + len(null)), 1 / distinct)
            for j, of_axis, p in zip(rows, z, pval, strict=True):
                found.append(_rows(axes.iloc[j], names[block], W[:, block], of_axis, p, patterns[j]))
    table = pd.concat(found, ignore_index=True)
    order = {axis: i for i, axis in enumerate(axes["axis"])}
    table["pval_adj"] = table.groupby("axis")["pval"].transform(false_discovery_control)
    table = table.assign(order=table["axis"].map(order), size=-table["z"].abs())
    table = table.sort_values(["order", "pval", "size", "source"], kind="stable", ignore_index=True)
    return table[["axis", "effect", "source", "n_genes", "z", "pval", "pval_adj", "leading"]]


def _weights(sets: Mapping[str, Mapping[int, float]], sd: np.ndarray) -> np.ndarray:
    """Return the weight of every gene in the score of every set, p x sets."""
    W = np.zeros((len(sd), len(sets)))
    for column, (name, genes) in zip(W.T, sets.items(), strict=True):
        index = np.fromiter(genes.keys(), dtype=np.int64, count=len(genes))
        weights = np.fromiter(genes.values(), dtype=np.float64, count=len(genes))
        if len(index) and (index.min() < 0 or index.max() >= len(sd)):
            raise ValueError(f"the set {name!r} names gene {int(index.max())}, but there are {len(sd)} genes.")
        if not np.isfinite(weights).all():
            raise ValueError(f"the set {name!r} has weights that are not finite.")
        column[index] = np.divide(weights, sd[index], out=np.zeros(len(index)), where=sd[index] > 0)
        if not column.any():
            raise ValueError(f"the set {name!r} has no gene that varies; leave it out.")
        column /= np.linalg.norm(column * sd)
    return W


def _outside(means: np.ndarray, components: np.ndarray, W: np.ndarray, single: np.ndarray) -> np.ndarray:
    """Compute the mean scores of every sample on every axis without the genes of each set, (S, k, sets).

    An axis keeps the genes of a set if it has no others. So does an axis of an effect with a single direction, which no
    gene can change; ``single`` says which these are, (k,).
    """
    out = np.repeat((means @ components.T)[:, :, None], W.shape[1], axis=2)
    for j, column in enumerate(W.T):
        own = np.flatnonzero(column)
        rest = out[:, :, j] - means[:, own] @ components[:, own].T
        some = ~single & (np.ptp(rest, axis=0) > 1e-9 * np.ptp(out[:, :, j], axis=0))
        out[:, some, j] = rest[:, some]
    return out


def _statistics(
    scores: np.ndarray, outside: np.ndarray, design: Design, donors: np.ndarray | None, samples: Samples,
    axes: pd.DataFrame, seed: int, n_resamples: int,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, float]]:  # fmt: skip
    """Yield, per effect, the rows of its axes, z (m, sets), z of all flips (F, m, sets) and the number of flips."""
    rows = {e: np.flatnonzero(axes["effect"] == e.name) for e in design.effects}
    engines: list[tuple[list[Effect], DirectedCells | DirectedDonors]] = []
    if donors is None:
        C = design.n_groups
        means = arrays.group_sums(scores, design.codes, C) / design.counts[:, None]
        squares = group_squares(scores, design.codes, C)
        of_axes = {e: outside[:, of] for e, of in rows.items()}
        engines.append((list(rows), DirectedCells(scores, design, list(rows), means, squares, seed, of_axes)))
    else:
        own = arrays.group_sums(scores, samples.codes, len(samples.counts)) / samples.counts[:, None]
        refused: ValueError | None = None
        for effect, of in rows.items():
            m, K = len(of), scores.shape[1]
            columns = np.hstack([own, outside[:, of].reshape(len(own), -1)])
            try:
                units = donor_units(effect, design, donors, columns, samples)
                a = units.values[:, :, K:].reshape(*units.values.shape[:2], m, K)
                donor_engine = DirectedDonors(effect, replace(units, values=units.values[:, :, :K]), seed, a)
            except ValueError as error:
                warn(f"no test of gene sets for {effect.name}: {error}")
                refused = error
                continue
            engines.append(([effect], donor_engine))
        if refused is not None and not engines:
            raise refused
    for effects, engine in engines:
        observed = engine.observed()
        null: dict[Effect, list[np.ndarray]] = {e: [] for e in effects}
        for block in engine.flipped(n_resamples):
            for e in effects:
                null[e].append(block[e])
        for e in effects:
            yield rows[e], observed[e], np.concatenate(null[e]), n_distinct(engine.n_units)


def _rows(
    axis: pd.Series, names: list[str], W: np.ndarray, z: np.ndarray, pval: np.ndarray, pattern: np.ndarray
) -> pd.DataFrame:
    """Return the rows of one axis: a row per set."""
    leading = []
    for column, sign in zip(W.T, np.sign(z), strict=True):
        own = np.flatnonzero(column)
        size = sign * np.sign(column[own]) * pattern[own]
        order = own[np.argsort(-size, kind="stable")][: min(N_LEADING, int(np.sum(size > 0)))]
        leading.append(tuple(order.tolist()))
    about = {"axis": axis["axis"], "effect": axis["effect"], "source": names, "n_genes": np.count_nonzero(W, axis=0)}
    return pd.DataFrame({**about, "z": z, "pval": pval, "leading": leading})
