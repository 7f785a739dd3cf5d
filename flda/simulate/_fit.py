"""The model of counts fitted to an AnnData."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from .._adata import read
from .._data import arrays
from .._design.design import Design, make_design
from .._design.samples import Samples, between_factors, donor_strata
from .._logging import get_logger
from .._solve.prior import FactorialMeans, variance_sizes
from ._model import CountModel
from ._moments import Units, axes, dispersions, group_spread

logger = get_logger(__name__)

COUNTS = "counts"


def fit_counts(
    adata: AnnData,
    factors: str | Sequence[str],
    *,
    interactions: str | Sequence[str] | None = "all",
    nuisance: str | Sequence[str] | None = None,
    donor: str | None = None,
    layer: str | None = COUNTS,
    n_axes: int | None = None,
    random_state: int = 0,
) -> CountModel:
    """Fit a model of counts to the cells of a factorial design.

    Parameters
    ----------
    adata
        Cells x genes with raw counts, in memory.
    factors, interactions, nuisance
        As in :func:`flda.tl.flda`; a batch is a nuisance factor. An effect that is left out is taken to be absent.
    donor
        Column of ``obs`` with the donor, whose effects on all genes then are part of the model.
    layer
        Layer of the counts; None for ``X``.
    n_axes
        Axes of correlated variation: None for all that stand out from noise, at most 50; 0 for genes that vary
        independently within a group.
    random_state
        Seed of the singular value decomposition.

    Raises
    ------
    ValueError
        For values that are no counts, a cell without any, and columns that cannot be used.

    References
    ----------
    The parts are those of scDesign2 (Sun T, Song D, Li WV, Li JJ, Genome Biol. 22:163, 2021): negative binomial per
    gene and a Gaussian copula per cell type; ours share dispersion and copula between groups, and means by the
    factorial prior.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(400, 100)
    >>> model = flda.simulate.fit_counts(adata, ["dendrite", "axon"], donor="donor")
    >>> model.sample(random_state=1).shape
    (400, 100)
    """
    start = time.perf_counter()
    factors = [factors] if isinstance(factors, str) else list(factors)
    nuisance = [nuisance] if isinstance(nuisance, str) else list(nuisance or ())
    columns = [*factors, *nuisance, *([] if donor is None else [donor])]
    table = read.labels(adata, columns)
    Y = read_counts(adata, layer)
    labelled = table.notna().all(axis=1).to_numpy()
    if not labelled.all():
        logger.warning("%d of %d cells have no label and are left out", np.sum(~labelled), len(labelled))
        table, Y = table[labelled], Y[labelled]
    model = _fit(Y, table.reset_index(drop=True), adata.var_names, nuisance, donor, interactions, n_axes, random_state)
    logger.info(
        "fit_counts: %d cells x %d genes in %d groups, dispersion %.2g + %.2g / mean, %d axes (%.1f s)",
        *Y.shape, model.design.n_groups, *model.trend, model.loadings.shape[1], time.perf_counter() - start,
    )  # fmt: skip
    return model


def read_counts(adata: AnnData, layer: str | None) -> sp.csr_matrix:
    """Counts of an AnnData as CSR float64, or one sentence about why they are none."""
    read.check_gene_names(adata)
    Y = read.expression(adata, layer)
    where = "X" if layer is None else f"layers[{layer!r}]"
    if not arrays.in_memory(Y):
        raise ValueError(f"{where} is not in memory; simulation needs adata.to_memory().")
    Y = sp.csr_matrix(Y, dtype=np.float64)
    Y.eliminate_zeros()
    wrong = (Y.data < 0) | (Y.data != np.round(Y.data))
    if wrong.any():
        first = int(np.argmax(wrong))
        cell = int(np.searchsorted(Y.indptr, first, side="right")) - 1
        raise ValueError(
            f"{where} holds {Y.data[first]:g} for gene {adata.var_names[Y.indices[first]]!r} in cell "
            f"{adata.obs_names[cell]!r}, which is no count; name the layer with raw counts by layer=."
        )
    empty = np.diff(Y.indptr) == 0
    if empty.any():
        raise ValueError(
            f"cell {adata.obs_names[int(np.argmax(empty))]!r} has no counts ({int(empty.sum())} such cells); "
            "drop them with scanpy.pp.filter_cells(adata, min_counts=1)."
        )
    return Y


def _fit(
    Y: sp.csr_matrix, labels: pd.DataFrame, genes: pd.Index, nuisance: Sequence[str], donor: str | None,
    interactions: str | Sequence[str] | None, n_axes: int | None, seed: int,
) -> CountModel:  # fmt: skip
    design = make_design(labels.drop(columns=donor or []), interactions=interactions, nuisance=nuisance)
    if design.n_groups == len(labels):
        raise ValueError("every group has a single cell, so nothing shows how cells vary; use fewer factors or levels.")
    total = np.asarray(Y.sum(axis=1)).ravel()
    scale = float(total.mean())
    s = total / scale
    donors, donor_names = (
        (None, None) if donor is None else np.unique(labels[donor].astype(str), return_inverse=True)[::-1]
    )
    units = Units.of(Y, s, design.codes if donors is None else Samples.of(design.codes, donors).codes)
    of_unit = design.codes[np.unique(units.codes, return_index=True)[1]]
    phi, trend = dispersions(units)
    spread = group_spread(units, of_unit, phi, design.n_groups)
    by_group = arrays.indicator(of_unit, design.n_groups)
    observed, S, S2 = by_group @ units.O, by_group @ units.S, by_group @ units.S2
    effects, tau2 = None, np.zeros(len(phi))
    if donors is not None and donor_names is not None:
        effects, tau2 = _donor_effects(units, of_unit, observed / S[:, None], phi, design, donors, donor_names)
        if not between_factors(design, donors):
            tau2[:] = 0  # donors are in all groups alike and cancel in the effects
    n_donors = np.bincount(of_unit, minlength=design.n_groups)[:, None]
    means = _log_means(observed, S, phi * spread[:, None] * (S2 / S**2)[:, None] + tau2 / n_donors, design)
    return CountModel(
        genes=genes, labels=labels, design=design, donor=donor, means=means, dispersion=phi, trend=trend,
        spread=spread, loadings=axes(Y, s, units, phi, spread[of_unit], n_axes, seed), library=np.log(s), scale=scale,
        donor_effects=effects, planted={},
    )  # fmt: skip


def _log_means(observed: np.ndarray, S: np.ndarray, beyond: np.ndarray, design: Design) -> FactorialMeans:
    """Posterior of eta from sums of counts and library sizes; relative variance ``beyond`` Poisson noise, (C, p)."""
    overall = observed.sum(axis=0) / S.sum()
    seen = overall > 0
    overall = np.where(seen, overall, 1.0)
    # half a count keeps the logarithm finite, and takes off most of its bias; dispersion adds the rest
    eta = np.log((observed + 0.5) / (S[:, None] + 0.5 / overall)) + np.minimum(beyond, 1) / 2
    eta[:, ~seen] = 0.0
    expected = overall * S[:, None]
    for _ in range(2):  # the noise depends on the means
        noise = np.where(seen, 1 / np.maximum(expected, 0.05) + beyond, 1.0)
        means = FactorialMeans.fit(eta, noise, design)
        expected = np.exp(means.at(design.table.groups)) * S[:, None]
    return means


def _donor_effects(
    units: Units, of_unit: np.ndarray, rates: np.ndarray, phi: np.ndarray, design: Design, donors: np.ndarray,
    names: np.ndarray,
) -> tuple[pd.DataFrame | None, np.ndarray]:  # fmt: skip
    """Log ratios of each donor to its groups, scaled to the variance between donors, and that variance (p,)."""
    of_donor = donors[np.unique(units.codes, return_index=True)[1]]
    n_donors = int(donors.max()) + 1
    free = n_donors - len(np.unique(donor_strata(design, donors)))
    if free < 1:
        logger.warning("no level has two donors, so their spread cannot be estimated; the model has none")
        return None, np.zeros(len(phi))
    A = arrays.indicator(of_donor, n_donors)
    observed, expected = A @ units.O, A @ (units.S[:, None] * rates[of_unit])
    delta = np.log((observed + 0.5) / (expected + 0.5))
    noise = 1 / (expected + 0.5) + phi * ((A @ units.S2) / (A @ units.S) ** 2)[:, None]
    tau2 = variance_sizes(np.sum(delta**2, axis=0), noise.mean(axis=0), free)
    delta *= np.sqrt(tau2 * free / np.maximum(np.sum(delta**2, axis=0), 1e-12))
    return pd.DataFrame(delta, index=names), tau2
