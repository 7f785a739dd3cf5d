"""Fit of the model of counts to an AnnData."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from .._adata import read
from .._data import arrays
from .._design.design import Design
from .._design.make import make_design
from .._design.samples import Samples, between_factors, donor_strata
from .._logging import get_logger, warn
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
        As in :func:`flda.tl.flda`. A batch is a nuisance factor. An effect that is left out is assumed to be absent.
    donor
        Column of ``obs`` with the donor. The model then includes the effects of donors on all genes.
    layer
        Layer of the counts; None for ``X``.
    n_axes
        Number of axes of correlated variation. None keeps all axes above the noise level, at most 50; 0 makes genes
        independent within a group.
    random_state
        Seed of the singular value decomposition.

    Returns
    -------
    The fitted model. Cells without a label in one of the columns take no part in the fit.

    Raises
    ------
    ValueError
        If the counts are not whole numbers, a cell has no counts, every group has a single cell, or a column cannot
        be used.

    References
    ----------
    The model has the parts of scDesign2 (Sun T, Song D, Li WV, Li JJ, Genome Biol. 22:163, 2021): a negative binomial
    distribution per gene and a Gaussian copula per cell type. Here, all groups share the copula. They share the
    dispersions up to one factor per group. Their means are shrunken towards the factorial prediction.

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
        warn(
            f"{np.sum(~labelled)} of {len(labelled)} cells have no label in one of {columns} and are left out of the "
            "fit."
        )
        table, Y = table[labelled], Y[labelled]
    table = table.reset_index(drop=True)
    design = make_design(table.drop(columns=donor or []), interactions=interactions, nuisance=nuisance)
    if design.n_groups == len(table):
        raise ValueError(
            f"every group of {[*factors, *nuisance]} has a single cell, so the variation of cells cannot be estimated; "
            "use fewer factors or levels."
        )
    model = _estimate(Y, table, adata.var_names, design, donor, n_axes, random_state)
    logger.info(
        "fit_counts: %d cells x %d genes in %d groups, dispersion %.2g + %.2g / mean, %d axes (%.1f s)",
        *Y.shape, model.design.n_groups, *model.trend, model.loadings.shape[1], time.perf_counter() - start,
    )  # fmt: skip
    return model


def read_counts(adata: AnnData, layer: str | None) -> sp.csr_matrix:
    """Counts of an AnnData as CSR float64; refuses values that are not counts, and cells without any."""
    read.check_gene_names(adata)
    Y = read.expression(adata, layer)
    where = "X" if layer is None else f"layers[{layer!r}]"
    if not arrays.in_memory(Y):
        raise ValueError(f"{where} is not in memory, where simulation needs it; call adata.to_memory() first.")
    # a copy, as the next two calls change the matrix in place; afterwards equal counts are equal matrices however they
    # were stored
    Y = sp.csr_matrix(Y, dtype=np.float64, copy=True)
    Y.sum_duplicates()
    Y.eliminate_zeros()
    wrong = (Y.data < 0) | (Y.data != np.round(Y.data))
    if wrong.any():
        first = int(np.argmax(wrong))
        cell = int(np.searchsorted(Y.indptr, first, side="right")) - 1
        raise ValueError(
            f"{where} holds {Y.data[first]:g} for gene {adata.var_names[Y.indices[first]]!r} in cell "
            f"{adata.obs_names[cell]!r}, which is not a count; pass the layer with raw counts as layer."
        )
    empty = np.diff(Y.indptr) == 0
    if empty.any():
        raise ValueError(
            f"cell {adata.obs_names[int(np.argmax(empty))]!r} has no counts ({int(empty.sum())} such cells); "
            "drop them with scanpy.pp.filter_cells(adata, min_counts=1)."
        )
    return Y


def _estimate(
    Y: sp.csr_matrix, labels: pd.DataFrame, genes: pd.Index, design: Design, donor: str | None, n_axes: int | None,
    seed: int,
) -> CountModel:  # fmt: skip
    """Estimate all parameters from the counts (N x p) of labelled cells."""
    total = np.asarray(Y.sum(axis=1)).ravel()
    scale = float(total.mean())
    s = total / scale
    donors, names = None, None
    if donor is not None:
        names, donors = np.unique(labels[donor].astype(str), return_inverse=True)
    units = Units.of(Y, s, design.codes if donors is None else Samples.of(design.codes, donors).codes)
    of_unit = design.codes[np.unique(units.codes, return_index=True)[1]]  # group of each unit
    phi, trend = dispersions(units)
    spread = group_spread(units, of_unit, phi, design.n_groups)
    by_group = arrays.indicator(of_unit, design.n_groups)
    observed, S, S2 = by_group @ units.O, by_group @ units.S, by_group @ units.S2
    effects, tau2 = None, np.zeros(len(phi))
    if donors is not None and names is not None:
        effects, tau2 = _donor_effects(units, of_unit, observed / S[:, None], phi, design, donors, names)
        if not between_factors(design, donors):
            tau2[:] = 0  # every donor is in all groups, so its effect on them is the same and cancels in all contrasts
    n_donors = np.bincount(of_unit, minlength=design.n_groups)[:, None]
    # relative variance of a group's rate beyond Poisson noise: overdispersion of its cells, and its donors
    beyond = phi * spread[:, None] * (S2 / S**2)[:, None] + tau2 / n_donors
    return CountModel(
        genes=genes, labels=labels, design=design, donor=donor, means=_log_means(observed, S, beyond, design),
        dispersion=phi, trend=trend, spread=spread, loadings=axes(Y, s, units, phi, spread[of_unit], n_axes, seed),
        library=np.log(s), scale=scale, donor_effects=effects, planted={},
    )  # fmt: skip


def _log_means(observed: np.ndarray, S: np.ndarray, beyond: np.ndarray, design: Design) -> FactorialMeans:
    """Estimate eta, the log expected counts of groups at mean library size, under the factorial prior.

    Parameters
    ----------
    observed, S
        Sums of counts, C x p, and of library sizes, (C,).
    beyond
        Variance of a group's rate beyond Poisson noise, relative to the squared rate, C x p.
    """
    overall = observed.sum(axis=0) / S.sum()
    seen = overall > 0
    overall = np.where(seen, overall, 1.0)
    # Half a count at the overall rate keeps the logarithm finite, and E log(y + 1/2) = log E y up to O(1 / E y^2), so
    # Poisson noise leaves next to no bias. The other noise has E log x = log E x - beyond / 2 to second order.
    eta = np.log((observed + 0.5) / (S[:, None] + 0.5 / overall)) + np.minimum(beyond, 1) / 2
    eta[:, ~seen] = 0.0
    expected = overall * S[:, None]
    # Poisson noise depends on the true mean: that of all groups at first, then the estimate
    for _ in range(2):
        noise = np.where(seen, 1 / np.maximum(expected, 0.05) + beyond, 1.0)
        means = FactorialMeans.fit(eta, noise, design)
        expected = np.exp(means.at(design.table.groups)) * S[:, None]
    return means


def _donor_effects(
    units: Units, of_unit: np.ndarray, rates: np.ndarray, phi: np.ndarray, design: Design, donors: np.ndarray,
    names: np.ndarray,
) -> tuple[pd.DataFrame | None, np.ndarray]:  # fmt: skip
    """Estimate log ratios of each donor to its groups (donors x p) and the variance between donors (p,).

    The log ratios contain noise of the donor's cells. They are rescaled so that their mean square is the estimated
    variance between donors, which does not contain it.
    """
    of_donor = donors[np.unique(units.codes, return_index=True)[1]]
    n_donors = int(donors.max()) + 1
    # donors are compared within a level of the factors that vary between donors
    free = n_donors - len(np.unique(donor_strata(design, donors)))
    if free < 1:
        warn(
            "no level of the factors that vary between donors has two donors, so the variance between donors cannot be "
            "estimated; the model has no donor effects."
        )
        return None, np.zeros(len(phi))
    A = arrays.indicator(of_donor, n_donors)
    observed, expected = A @ units.O, A @ (units.S[:, None] * rates[of_unit])
    delta = np.log((observed + 0.5) / (expected + 0.5))
    noise = 1 / (expected + 0.5) + phi * ((A @ units.S2) / (A @ units.S) ** 2)[:, None]
    tau2 = variance_sizes(np.sum(delta**2, axis=0), noise.mean(axis=0), free)
    delta *= np.sqrt(tau2 * free / np.maximum(np.sum(delta**2, axis=0), 1e-12))
    return pd.DataFrame(delta, index=names), tau2
