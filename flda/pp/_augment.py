"""Cells for rare groups: :func:`flda.pp.augment`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from .._adata import read
from .._adata.read import AUGMENTED
from .._logging import get_logger
from ..simulate import CountModel, fit_counts, read_counts

logger = get_logger(__name__)

MAX_FOLD = 4.0  # beyond which a transferred gene gets fresh transcripts rather than more copies of the source's
LOG_TOLERANCE = 0.02  # of log-normalised expression, for matrices that were stored with few digits
METHODS = ("simulate", "thin", "recombine", "transfer")


def augment(
    adata: AnnData,
    factors: str | Sequence[str],
    *,
    method: str = "simulate",
    n_cells: int | None = None,
    fill_empty: bool = False,
    nuisance: str | Sequence[str] | None = None,
    donor: str | None = None,
    layer: str | None = "counts",
    variation: float = 1.0,
    random_state: int = 0,
) -> AnnData:
    """Add simulated cells to the rare groups of a design.

    The new cells are marked, and are no evidence: :func:`flda.tl.flda` may be fitted on them, tuning its shrinkage on
    the real cells alone, but :func:`flda.tl.certify`, :func:`flda.tl.permutation_test`, :func:`flda.tl.stability`,
    :func:`flda.tl.held_out_scores` and :func:`flda.tl.path` refuse them. To judge a fit on augmented data, hold real
    cells out before augmenting and score them with :func:`flda.tl.transform`.

    Shrink the group means first, the option ``group_means="shrunken"``, and add no cells: with 3 to 10 cells in a rare
    group (``benchmarks/RESULTS.md``) that gave most of the signal on simulated cells, log(1 + SNR) +0.19 where
    ``"simulate"`` gave +0.05, and as much as any augmentation on the RNA mixtures. ``"simulate"`` came nearest, and on
    simulated cells was better at recognising the rare group and at finding genes; on blood cells it lost genes. Its
    gain is that of the means, which it borrows in the same way: ``variation`` hardly mattered. ``"thin"`` and
    ``"recombine"``, like copies, gave next to nothing, and ``"transfer"`` lost signal and genes on blood cells.

    Parameters
    ----------
    adata
        Cells x genes with raw counts, and log1p of these per cell, scaled, in ``X``.
    factors
        Columns of ``obs`` that cross; their combinations are the groups.
    method
        * ``"simulate"``: cells of :func:`flda.simulate.fit_counts`, whose group means borrow from all groups by the
          factorial prior, and whose dispersion and correlations are those of all groups
        * ``"thin"``: each new cell is a cell of the group with every transcript kept with probability
          ``2 ** -variation`` (binomial thinning)
        * ``"recombine"``: each gene from one of two cells of the group, from the second with probability
          ``variation / 2``, the deeper of the two thinned to the depth of the other first
        * ``"transfer"``: a cell of a full group, one with as many levels in common as can be, its counts carried over
          by the fold changes that the main effects predict; also for empty groups
    n_cells
        Groups with fewer cells are filled up to this number; None for the median of the occupied groups.
    fill_empty
        Whether combinations of levels without any cell are filled too (``"simulate"`` and ``"transfer"``). Only main
        effects can say what is in them: interactions that need such a group then look absent there.
    nuisance, donor
        Columns with batches and the donor; new cells take them from cells of their group.
    layer
        Layer of the counts; None if ``X`` holds them.
    variation
        How much new cells vary: for ``"simulate"`` a factor on the dispersion, see ``method`` for the others; 0 gives
        Poisson noise about the mean, or copies. Not for ``"transfer"``.
    random_state
        Seed; the same seed gives the same cells.

    Returns
    -------
    AnnData of the real cells followed by the new ones, with ``X`` and the counts. ``obs["flda_augmented"]`` is True
    for new cells; columns of ``obs`` other than factors, nuisance and donor are missing for them.
    ``uns["flda_augment"]`` has the parameters. ``obsm`` and further layers are left behind. Keep the mark when joining
    with other cells: ``anndata.concat`` does with ``join="outer"``.

    Raises
    ------
    ValueError
        For values that are no counts, an ``X`` that is not their scaled logarithm, groups that a method cannot fill,
        and cells that are simulated already.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(400, 100)
    >>> more = flda.pp.augment(adata, ["dendrite", "axon"], n_cells=60)
    >>> int(more.obs.groupby(["dendrite", "axon"], observed=True).size().min())
    60
    """
    start = time.perf_counter()
    factors = [factors] if isinstance(factors, str) else list(factors)
    nuisance = [nuisance] if isinstance(nuisance, str) else list(nuisance or ())
    _check(method, variation, fill_empty)
    columns = [*factors, *nuisance, *([] if donor is None else [donor])]
    table = read.labels(adata, columns)
    if read.augmented(adata).any():
        raise ValueError(f"adata holds simulated cells already (obs[{AUGMENTED!r}]); augment the real cells alone.")
    Y = read_counts(adata, layer)
    depth = None if layer is None else _depth(adata, Y)
    labelled = np.flatnonzero(table.notna().all(axis=1))
    if len(labelled) == 0:
        raise ValueError(f"no cell has a label in every one of {columns}.")
    groups, short = _short_groups(table.iloc[labelled], factors, n_cells, fill_empty)
    rng = np.random.default_rng(random_state)

    def model(interactions: str | None, n_axes: int | None) -> CountModel:
        return fit_counts(
            adata, factors, interactions=interactions, nuisance=nuisance, donor=donor, layer=layer, n_axes=n_axes,
            random_state=random_state,
        )  # fmt: skip

    made: Made = []
    if short:
        make = {"simulate": _simulated, "thin": _thinned, "recombine": _recombined, "transfer": _transferred}[method]
        made = make(Y[labelled], table.iloc[labelled], factors, groups, short, model, variation, rng)
    labels = pd.concat([rows.astype(object) for rows, _ in made]) if made else table.iloc[:0]
    new = sp.vstack([Y[:0], *(counts for _, counts in made)], format="csr")
    out = _joined(adata, labels, new, layer, depth, method)
    out.uns["flda_augment"] = {
        "factors": factors, "method": method, "variation": float(variation), "random_state": random_state,
        "n_cells": max((len(rows) for rows in groups.values()), default=0) if n_cells is None else n_cells,
    }  # fmt: skip
    logger.info(
        "augment: %d cells in %d groups by %r; marked in obs[%r] (%.1f s)",
        new.shape[0], len(short), method, AUGMENTED, time.perf_counter() - start,
    )  # fmt: skip
    return out


Groups = dict[tuple, np.ndarray]  # levels of the factors -> places of the cells
Short = dict[tuple, int]  # groups to fill -> how many cells they lack
Fit = Callable[..., CountModel]
Made = list[tuple[pd.DataFrame, sp.csr_matrix]]


def _simulated(
    Y: sp.csr_matrix, table: pd.DataFrame, factors: list[str], groups: Groups, short: Short, model: Fit, variation:
    float, rng: np.random.Generator,
) -> Made:  # fmt: skip
    fitted = model("all", None)
    out = []
    for group, n in short.items():
        labels = _labels(table, groups, factors, group, n, rng)
        out.append((labels, fitted.counts(labels, fitted.library_of(labels, rng), rng, variation=variation)))
    return out


def _thinned(
    Y: sp.csr_matrix, table: pd.DataFrame, factors: list[str], groups: Groups, short: Short, model: Fit, variation:
    float, rng: np.random.Generator,
) -> Made:  # fmt: skip
    out = []
    for group, n in short.items():
        parents = _dealt(groups[group], n, rng)
        out.append((table.iloc[parents], _binomial(Y[parents], 2.0**-variation, rng)))
    return out


def _recombined(
    Y: sp.csr_matrix, table: pd.DataFrame, factors: list[str], groups: Groups, short: Short, model: Fit, variation:
    float, rng: np.random.Generator,
) -> Made:  # fmt: skip
    total = np.asarray(Y.sum(axis=1)).ravel()
    out = []
    for group, n in short.items():
        cells = groups[group]
        if len(cells) < 2:
            raise ValueError(
                f"group {_name(group)} has one cell; recombination needs two. Use method='simulate' or 'transfer'."
            )
        first = _dealt(cells, n, rng)
        place = np.searchsorted(cells, first)
        second = cells[(place + rng.integers(1, len(cells), size=n)) % len(cells)]
        depth = np.minimum(total[first], total[second])
        a, b = (_binomial(Y[i], (depth / total[i])[:, None], rng).toarray() for i in (first, second))
        out.append((table.iloc[first], sp.csr_matrix(np.where(rng.random(a.shape) < variation / 2, b, a))))
    return out


def _transferred(
    Y: sp.csr_matrix, table: pd.DataFrame, factors: list[str], groups: Groups, short: Short, model: Fit, variation:
    float, rng: np.random.Generator,
) -> Made:  # fmt: skip
    full = [g for g in groups if g not in short]
    if not full:
        raise ValueError("no group has n_cells cells, so there is none to transfer from; use a smaller n_cells.")
    fitted = model(None, 0)
    total = np.asarray(Y.sum(axis=1)).ravel() / fitted.scale
    out = []
    for group, n in short.items():
        common = np.array([sum(a == b for a, b in zip(g, group, strict=True)) for g in full])
        near = [g for g, c in zip(full, common, strict=True) if c == common.max()]
        source = rng.choice(np.concatenate([groups[g] for g in near]), size=n)
        labels = table.iloc[source].assign(**dict(zip(factors, group, strict=True)))
        here, there = fitted.group_means(table.iloc[source]), fitted.group_means(labels)
        fold = np.minimum(there / np.maximum(here, 1e-12), MAX_FOLD)
        y = Y[source].toarray()
        carried = rng.binomial(y.astype(np.int64), np.minimum(fold, 1)) + rng.poisson(y * np.maximum(fold - 1, 0))
        fresh = rng.poisson(np.maximum(there - fold * here, 0) * total[source, None])
        out.append((labels, sp.csr_matrix((carried + fresh).astype(np.float64))))
    return out


def _check(method: str, variation: float, fill_empty: bool) -> None:
    if method not in METHODS:
        raise ValueError(f"method={method!r}: use one of {list(METHODS)}.")
    if fill_empty and method in ("thin", "recombine"):
        raise ValueError(f"method={method!r} needs cells to start from; fill empty groups by 'simulate' or 'transfer'.")
    if not variation >= 0 or (method == "recombine" and variation > 2):
        raise ValueError(f"variation={variation}: use 0 or more ('recombine': at most 2).")
    if method == "transfer" and variation != 1:
        raise ValueError("variation does not apply to method='transfer'; leave it out.")


def _short_groups(
    table: pd.DataFrame, factors: list[str], n_cells: int | None, fill_empty: bool
) -> tuple[Groups, dict[tuple, int]]:
    """Cells of each group, and how many each lacks."""
    found = table[factors].reset_index(drop=True).groupby(factors, observed=True, sort=True).indices
    groups = {g if isinstance(g, tuple) else (g,): np.sort(rows) for g, rows in found.items()}
    goal = int(np.median([len(rows) for rows in groups.values()])) if n_cells is None else int(n_cells)
    if goal < 1:
        raise ValueError(f"n_cells={n_cells}: groups can be filled up to 1 cell or more.")
    lacking = {g: goal - len(rows) for g, rows in groups.items() if len(rows) < goal}
    if fill_empty:
        levels = [sorted({g[j] for g in groups}) for j in range(len(factors))]
        grid = pd.MultiIndex.from_product(levels)
        lacking |= {g: goal for g in grid if g not in groups}
    return groups, lacking


def _labels(
    table: pd.DataFrame, groups: Groups, factors: list[str], group: tuple, n: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Labels of new cells; nuisance levels and donors are those of cells of the group, or of any if it is empty."""
    cells = _dealt(groups.get(group, np.arange(len(table))), n, rng)
    return table.iloc[cells].assign(**dict(zip(factors, group, strict=True))).reset_index(drop=True)


def _dealt(cells: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """N of the cells, each as often as any other within one."""
    rounds = -(-n // len(cells))
    return np.concatenate([rng.permutation(cells) for _ in range(rounds)])[:n]


def _binomial(Y: sp.csr_matrix, keep: float | np.ndarray, rng: np.random.Generator) -> sp.csr_matrix:
    """Counts with every transcript kept with some probability, one or one per cell."""
    Y = Y.copy()
    each = keep if np.isscalar(keep) else np.repeat(np.ravel(keep), np.diff(Y.indptr))
    Y.data = rng.binomial(Y.data.astype(np.int64), np.minimum(each, 1.0)).astype(np.float64)
    Y.eliminate_zeros()
    return Y


def _depth(adata: AnnData, Y: sp.csr_matrix) -> float:
    """T in ``X = log1p(t counts / total)``; refuses an X that is something else."""
    X = read.expression(adata, None)
    X = sp.csr_matrix(X, dtype=np.float64)
    base = adata.uns.get("log1p", {}).get("base")
    linear = X.copy()
    linear.data = np.expm1(X.data * (1.0 if base is None else np.log(base)))
    total = np.asarray(Y.sum(axis=1)).ravel()
    factor = np.asarray(linear.sum(axis=1)).ravel() / total
    again = sp.csr_matrix(sp.diags(factor) @ Y)
    again.data = np.log1p(again.data)
    linear.data = np.log1p(linear.data)
    if abs(again - linear).max() > LOG_TOLERANCE:
        raise ValueError(
            "X is not log1p of the counts, scaled per cell, so that of new cells is unknown; recompute it with "
            "scanpy.pp.normalize_total and scanpy.pp.log1p, or give counts in X and layer=None."
        )
    return float(np.median(factor * total))


def _joined(
    adata: AnnData, labels: pd.DataFrame, Y: sp.csr_matrix, layer: str | None, depth: float | None, method: str
) -> AnnData:
    """Real cells, then new ones."""
    taken, i = set(adata.obs_names), 0
    names: list[str] = []
    while len(names) < len(labels):
        if (name := f"{method}_{i}") not in taken:
            names.append(name)
        i += 1
    obs = pd.DataFrame(index=[*adata.obs_names, *names])
    for column, real in adata.obs.items():
        values = [*real, *(labels[column] if column in labels else [None] * len(names))]
        if isinstance(real.dtype, pd.CategoricalDtype):
            obs[column] = pd.Categorical(values, categories=real.cat.categories, ordered=real.cat.ordered)
        else:
            # file formats hold no missing value in a plain boolean column
            obs[column] = pd.array(values, dtype="boolean") if real.dtype == bool else pd.Series(values, obs.index)
    obs[AUGMENTED] = np.arange(len(obs)) >= adata.n_obs

    def stacked(real, new: sp.csr_matrix):
        if sp.issparse(real):
            return sp.vstack([real, new.astype(real.dtype)], format="csr")
        return np.vstack([real, new.toarray().astype(real.dtype)])

    uns = {k: v for k, v in adata.uns.items() if k == "log1p" or k.endswith("_colors")}
    if layer is None:
        return AnnData(stacked(adata.X, Y), obs=obs, var=adata.var.copy(), uns=uns)
    base = adata.uns.get("log1p", {}).get("base")
    total = np.maximum(np.asarray(Y.sum(axis=1)).ravel(), 1.0)  # thinning may leave a cell without counts
    X = sp.csr_matrix(sp.diags(depth / total) @ Y)
    X.data = np.log1p(X.data) / (1.0 if base is None else np.log(base))
    layers = {layer: stacked(adata.layers[layer], Y)}
    return AnnData(stacked(adata.X, X), obs=obs, var=adata.var.copy(), uns=uns, layers=layers)


def _name(group: tuple) -> str:
    return " x ".join(str(level) for level in group)
