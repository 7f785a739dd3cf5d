"""Cells for rare groups: :func:`flda.pp.augment`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from .._adata import read
from .._adata.read import AUGMENTED
from .._adata.results import write_parameters
from .._logging import get_logger
from ..simulate import CountModel, fit_counts
from ..simulate._fit import read_counts
from ._append import append, scaled_total
from ._new_cells import Group, NewCells, RealCells, recombine, simulate, thin, transfer

logger = get_logger(__name__)

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

    New cells are marked in ``obs["flda_augmented"]``. :func:`flda.tl.flda` can be fitted to them; it then chooses the
    shrinkage on the real cells alone. :func:`flda.tl.certify`, :func:`flda.tl.effect_tests`, :func:`flda.tl.stability`,
    :func:`flda.tl.held_out_scores` and :func:`flda.tl.path` refuse them. To evaluate a fit on augmented data, hold real
    cells out before augmenting and score them with :func:`flda.tl.transform`.

    First try the option ``group_means="shrunken"`` of :func:`flda.tl.flda`, which adds no cells. With 3 to 10 cells in
    a rare group (``benchmarks/RESULTS.md``) it raised log(1 + SNR) by 0.19 on simulated cells, where ``"simulate"``
    raised it by 0.05, and on the RNA mixtures it gained as much as any method here. Among the four methods
    ``"simulate"`` gained most: on simulated cells it recognised the rare group and its genes better than shrunken means
    did, but on blood cells it lost genes. Its gain comes from its group means, which are shrunken in the same way;
    ``variation`` made little difference. ``"thin"`` and ``"recombine"`` gained next to nothing, as did plain copies,
    and ``"transfer"`` lost signal and genes on blood cells.

    Parameters
    ----------
    adata
        Cells x genes with raw counts, and in ``X`` their log-normalised form (``scanpy.pp.normalize_total``, then
        ``scanpy.pp.log1p``).
    factors
        Columns of ``obs`` whose combinations are the groups.
    method
        * ``"simulate"``: cells are drawn from :func:`flda.simulate.fit_counts`. Its group means are shrunken towards
          the factorial prediction; dispersion and correlations are estimated from all groups.
        * ``"thin"``: a new cell is a copy of a cell of the group in which every transcript is kept with probability
          ``2 ** -variation`` (binomial thinning).
        * ``"recombine"``: each gene is taken from one of two cells of the group, from the second with probability
          ``variation / 2``. The cell with more counts is first thinned to the total count of the other.
        * ``"transfer"``: a new cell is a cell of the most similar full group (the one that shares most levels). Its
          counts are changed by the fold changes that the main effects predict. Empty groups can be filled too.
    n_cells
        Groups with fewer cells are filled up to this number. None uses the median size of the occupied groups.
    fill_empty
        Whether combinations of levels without any cell are filled too (``"simulate"`` and ``"transfer"`` only). Their
        cells follow from main effects alone, so interactions that need such a group will appear absent there.
    nuisance, donor
        Columns of ``obs`` with batches and with the donor. New cells take these labels from real cells of their group.
    layer
        Layer with the counts; None if ``X`` holds them.
    variation
        How much new cells vary. For ``"simulate"`` it multiplies the dispersion, and 0 leaves only Poisson noise. For
        ``"thin"`` and ``"recombine"`` see ``method``; 0 gives copies. It does not apply to ``"transfer"``.
    random_state
        Seed; the same seed gives the same cells.

    Returns
    -------
    AnnData of the real cells followed by the new ones, with ``X`` and the counts. ``obs["flda_augmented"]`` is True for
    new cells. For new cells, columns of ``obs`` other than factors, nuisance and donor have missing values.
    ``uns["flda_augment"]`` holds the parameters. ``obsm`` and other layers are not copied. If you join the result with
    other cells, keep the mark; ``anndata.concat`` keeps it with ``join="outer"``.

    Raises
    ------
    ValueError
        If the counts are not whole numbers, ``X`` is not their log-normalised form, a method cannot fill a group, or
        ``adata`` already contains simulated cells.

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
        raise ValueError(f"adata already contains simulated cells (obs[{AUGMENTED!r}]); pass the real cells only.")
    Y = read_counts(adata, layer)
    target_sum = None if layer is None else scaled_total(adata, Y)
    labelled = np.flatnonzero(table.notna().all(axis=1))
    if len(labelled) == 0:
        raise ValueError(f"no cell has a label in all of the columns {columns} of obs.")
    cells = RealCells.of(Y[labelled], table.iloc[labelled], factors)
    short = _short_groups(cells, n_cells, fill_empty)
    new: list[NewCells] = []
    if short:
        fit = partial(
            fit_counts, adata, factors, nuisance=nuisance, donor=donor, layer=layer, random_state=random_state
        )
        draw = _drawing(method, cells, short, fit, variation, np.random.default_rng(random_state))
        new = [draw(group, n) for group, n in short.items()]
    labels = pd.concat([rows.astype(object) for rows, _ in new]) if new else table.iloc[:0]
    counts = sp.vstack([Y[:0], *(y for _, y in new)], format="csr")
    out = append(adata, labels, counts, layer, target_sum, method)
    params = {
        "factors": factors, "method": method, "variation": float(variation), "random_state": random_state,
        "n_cells": max(map(len, cells.groups.values())) if n_cells is None else n_cells,
    }  # fmt: skip
    write_parameters(out, "flda_augment", params)
    logger.info(
        "augment: %d cells in %d groups by %r; marked in obs[%r] (%.1f s)",
        counts.shape[0], len(short), method, AUGMENTED, time.perf_counter() - start,
    )  # fmt: skip
    return out


def _drawing(
    method: str,
    cells: RealCells,
    short: dict[Group, int],
    fit: Callable[..., CountModel],
    variation: float,
    rng: np.random.Generator,
) -> Callable[[Group, int], NewCells]:
    """Bind what a method needs, so that every method is a function of a group and a number of cells."""
    if method == "simulate":
        return partial(simulate, cells, model=fit(), variation=variation, rng=rng)
    if method == "thin":
        return partial(thin, cells, variation=variation, rng=rng)
    if method == "recombine":
        return partial(recombine, cells, variation=variation, rng=rng)
    sources = [g for g in cells.groups if g not in short]
    if not sources:
        raise ValueError(
            "method='transfer' takes cells from groups that have n_cells cells, and no group does; use a smaller "
            "n_cells."
        )
    return partial(transfer, cells, sources=sources, model=fit(interactions=None, n_axes=0), rng=rng)


def _check(method: str, variation: float, fill_empty: bool) -> None:
    if method not in METHODS:
        raise ValueError(f"method={method!r} is unknown; use one of {list(METHODS)}.")
    if fill_empty and method in ("thin", "recombine"):
        raise ValueError(
            f"method={method!r} cannot fill empty groups (fill_empty=True), as it changes cells of the group; use "
            "method='simulate' or 'transfer'."
        )
    if not variation >= 0 or (method == "recombine" and variation > 2):
        raise ValueError(f"variation={variation} is out of range; use 0 or more, and at most 2 for 'recombine'.")
    if method == "transfer" and variation != 1:
        raise ValueError("variation does not apply to method='transfer'; leave it out.")


def _short_groups(cells: RealCells, n_cells: int | None, fill_empty: bool) -> dict[Group, int]:
    """How many cells each group that is to be filled lacks."""
    sizes = {g: len(rows) for g, rows in cells.groups.items()}
    goal = int(np.median(list(sizes.values()))) if n_cells is None else int(n_cells)
    if goal < 1:
        raise ValueError(f"n_cells={n_cells} is too small; use 1 or more.")
    lacking = {g: goal - n for g, n in sizes.items() if n < goal}
    if fill_empty:
        levels = [sorted({g[j] for g in sizes}) for j in range(len(cells.factors))]
        lacking |= {g: goal for g in pd.MultiIndex.from_product(levels) if g not in sizes}
    return lacking
