"""The F ratio of every gene for every effect, which rankings, reports and tests share."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .._data.arrays import group_sums
from .._design.design import Design
from .._design.effects import Effect
from .._design.samples import sample_units
from .._logging import get_logger
from .flips import CellStatistics, DonorStatistics
from .residual import residual_f
from .units import donor_units

logger = get_logger(__name__)


def gene_f(design: Design, donors: np.ndarray | None, sums: np.ndarray, squares: np.ndarray) -> pd.DataFrame:
    """Compute the F ratio of every gene for every effect, nuisance effects and named contrasts included.

    It is ``b' V^-1 b / df``, with the coefficients b of the effect and their noise V, in which every group has a
    variance of its own (of cells, half of it is the pooled one). It is about 1 for a gene without the effect. With
    donors it measures the effect against the spread of the donors. An effect for which too few donors have the groups
    that it needs is measured against the spread of cells.

    Parameters
    ----------
    design
        The groups and effects.
    donors
        Donor of each cell as an integer, (N,), or None.
    sums, squares
        Sum of expression and of squared expression of every sample and gene, S x p, with samples in the order of their
        groups and then of their donors. Without donors each group is one sample.

    Returns
    -------
    DataFrame with p rows and one column per effect; NaN for a gene that is constant.
    """
    if design.unit_model is not None:
        found, total = residual_f(design, sums, squares), squares.sum(axis=0)
        found[total - sums.sum(axis=0) ** 2 / np.sum(design.unit_model.root**2) <= 1e-12 * total] = np.nan
        return found
    samples, effects, found = sample_units(design, donors), design.judged, {}
    by_cells = effects
    if donors is not None:
        by_cells = []
        for effect in effects:
            try:
                units = donor_units(effect, design, donors, sums / samples.counts[:, None], samples)
                found[effect] = DonorStatistics(effect, units)
            except ValueError:
                by_cells.append(effect)
        if by_cells:
            logger.info("F of %s compares cells, as too few donors can be compared", [e.name for e in by_cells])
    columns: dict[Effect, np.ndarray] = {}
    if by_cells:
        C = design.n_groups
        of_groups = CellStatistics(
            design, by_cells, group_sums(sums, samples.groups, C) / design.counts[:, None],
            group_sums(squares, samples.groups, C),
        )  # fmt: skip
        columns = {e: t / of_groups.df[e] for e, t in of_groups.observed().items()}
    for effect, statistics in found.items():
        columns |= {effect: statistics.observed()[effect] / statistics.df[effect]}
    spread = squares.sum(axis=0) - sums.sum(axis=0) ** 2 / samples.counts.sum()
    constant = spread <= 1e-12 * squares.sum(axis=0)
    return pd.DataFrame({e.name: np.where(constant, np.nan, columns[e]) for e in effects})
