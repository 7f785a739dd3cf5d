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
from .._design.entry import checked_cells
from .._design.samples import Samples, sample_units
from .._error.directed import DirectedCells, DirectedDonors
from .._error.flips import group_squares
from .._error.residual import rows_of, single_units
from .._error.signs import n_distinct
from .._error.units import donor_units
from .._logging import quiet, warn
from .._progress import progress
from .._solve.group_space import GroupSpace, NoDirectionError
from .._solve.solver import Inverse
from ..estimators import FLDA
from ..estimators._solved import Solved
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

    An axis of an effect with several degrees of freedom has chosen its direction on the same cells. So that a set
    cannot confirm itself, it is tested along the axes whose scores are uncorrelated with its own score within groups.

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
        fitted = clone(model)
        prepared = fitted._prepare(X, labels, donor)
        fitted._fit(prepared)
        solved = clone(model).set_params(shrinkage=fitted.shrinkage_)._solve(prepared)
    return set_tests(
        X, solved, axes=fitted.axes_, components=fitted.components_, patterns=fitted.patterns_, sd=fitted.within_sd_,
        sets=sets, n_resamples=n_resamples, random_state=random_state,
    )  # fmt: skip


def set_tests(
    X,
    solved: Solved,
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
    X, solved
        Expression, N x p, and its design and solution.
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
    names, design, donors = list(sets), solved.design, solved.prepared.donors
    inverse = solved.solver.factor(solved.g)
    samples = sample_units(design, donors)
    summary = summarise(X, samples.codes, len(samples.counts))
    means = rows_of(X) if design.residual else summary.sums / samples.counts[:, None]
    seed = int(np.random.default_rng(random_state).integers(2**31))
    size = max(BLOCK_BYTES // (8 * max(X.shape)), 1)
    blocks = [slice(start, min(start + size, len(names))) for start in range(0, len(names), size)]
    found: list[pd.DataFrame] = []
    for block in progress(blocks, desc="gene sets"):
        scores = arrays.times(X, W[:, block])
        directions = _directions(means, solved, inverse, axes, components, W[:, block])
        for rows, z, null, distinct in _statistics(
            scores, directions, design, donors, samples, axes, seed, n_resamples
        ):
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


def _directions(
    means: np.ndarray, solved: Solved, inverse: Inverse, axes: pd.DataFrame, components: np.ndarray, W: np.ndarray
) -> np.ndarray:
    """Compute the mean scores of every sample on the axes that each set is tested along, (S, k, sets).

    An axis looks for the contrast in which the means differ most, that of the set among them. Tested along it, a set
    that varies by chance alone would confirm itself on the first axis of an effect, and have too little left for the
    later ones. So each set is tested along axes u whose scores are uncorrelated with its own score t within groups,
    ``c'u = 0`` with ``c = M_e w`` for the weights w of the set. With M the shrunken scatter and G the group means, that
    changes ``K = G M^-1 G'`` to ``K - h h' / q``, where ``h = G M^-1 c`` and ``q = c' M^-1 c``. The noise of the means
    of these scores is then independent of that of t. An effect with a single direction needs none of this.
    """
    out = np.repeat((means @ components.T)[:, :, None], W.shape[1], axis=2)
    rows = {e: np.flatnonzero(axes["effect"] == e.name) for e in solved.design.effects}
    rows = {e: of for e, of in rows.items() if solved.design.df(e) > 1}
    if not rows:
        return out
    c = solved.solver.within.times(W)
    Y = inverse.solve(c)
    h, q = solved.Z.T @ c, np.einsum("pk,pk->k", c, Y)
    by_groups, by_sets = means @ solved.Z, means @ Y
    for j in range(W.shape[1]):
        if q[j] <= 0:  # a set without variance within groups
            continue
        K = solved.K - np.outer(h[:, j], h[:, j]) / q[j]
        space, terms = GroupSpace(K), solved.prepared.objective.terms(solved.design, K, solved.noise)
        for e, of in rows.items():
            try:
                _, w = space.axes(terms[e], len(of))
            except NoDirectionError:
                continue
            some = of[: w.shape[1]]
            found = by_groups @ w - np.outer(by_sets[:, j], h[:, j] @ w) / q[j]
            # the sign of an axis is that of the axis with the set
            signs = np.sign(np.sum((found - found.mean(axis=0)) * out[:, some, j], axis=0))
            out[:, some, j] = found * np.where(signs < 0, -1, 1)
    return out


def _statistics(
    scores: np.ndarray, outside: np.ndarray, design: Design, donors: np.ndarray | None, samples: Samples,
    axes: pd.DataFrame, seed: int, n_resamples: int,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, float]]:  # fmt: skip
    """Yield, per effect, the rows of its axes, z (m, sets), z of all flips (F, m, sets) and the number of flips."""
    rows = {e: np.flatnonzero(axes["effect"] == e.name) for e in design.effects}
    engines: list[tuple[list[Effect], DirectedCells | DirectedDonors]] = []
    if donors is None and not design.residual:
        C = design.n_groups
        means = arrays.group_sums(scores, design.codes, C) / design.counts[:, None]
        squares = group_squares(scores, design.codes, C)
        of_axes = {e: outside[:, of] for e, of in rows.items()}
        engines.append((list(rows), DirectedCells(scores, design, list(rows), means, squares, seed, of_axes)))
    else:
        own = scores
        if donors is not None:
            own = arrays.group_sums(scores, samples.codes, len(samples.counts)) / samples.counts[:, None]
        refused: ValueError | None = None
        for effect, of in rows.items():
            m, K = len(of), scores.shape[1]
            columns = np.hstack([own, outside[:, of].reshape(len(own), -1)])
            try:
                if donors is None:
                    units = single_units(effect, design, columns)
                else:
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
