"""The input of a fit: it is checked against the parameters, and the data are read once.

A design is either one of cells in groups, or one of single units, in which the noise is what the effects leave
(:mod:`flda._design.unit_model`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from .._data import arrays
from .._data.summary import summarise
from .._design.design import Design
from .._design.per_effect import effect_components
from .._design.samples import sample_units, samples_in_error
from .._error.adjusted import adjusted
from .._solve.within import Within
from ._predictor import priors_of
from ._solved import Prepared


def precision_column(weights: Any) -> str | None:
    """Return the column with precision weights, or None if ``weights`` says how groups weigh."""
    if isinstance(weights, str):
        return None if weights in ("random", "equal") else weights
    raise ValueError(
        f"weights={weights!r}: use 'random', 'equal', or a column of y with the precision weights of its rows."
    )


def refuse_donors(design: Design, donors: np.ndarray | None) -> None:
    """Refuse donors in a fit whose units are the rows themselves."""
    if design.residual and donors is not None:
        raise ValueError(
            "groups (donors) were given, and the noise is what the effects leave of single rows (error='residual'); "
            "enter the donor as a nuisance column if donors have several conditions, and leave it out otherwise."
        )


def prepared_units(model: Any, X: Any, labels: pd.DataFrame, design: Design, donors: np.ndarray | None) -> Prepared:
    """Check the input of a fit to single units, and read the data."""
    refuse_donors(design, donors)
    units, p = design.unit_model, X.shape[1]
    assert units is not None
    if model.group_means == "shrunken":
        raise ValueError("group_means='shrunken' needs noise within groups; with error='residual' use 'observed'.")
    if model.within == "balanced":
        raise ValueError("within='balanced' needs noise within groups; with error='residual' use 'pooled'.")
    if model.shrinkage == 0 and p >= units.df:
        raise ValueError(
            f"shrinkage=0 with {p} genes and {units.df} degrees of freedom: the residual scatter is singular. Set "
            "shrinkage='auto' or a number above 0, or select fewer genes."
        )
    priors_of(design, model.prior)
    summary = summarise(X, design.codes, design.n_groups, getattr(model, "feature_names_in_", None))
    within = Within.of_units(X, units)
    squares = summary.squares
    if units.weights is not None:
        squares = summarise(within.X, design.codes, design.n_groups).squares
    sums, squares = within.of_fit(squares.sum(axis=0))
    return Prepared(
        labels, design, None, model._objective(design), effect_components(design, model.n_components),
        replace(summary, sums=sums, squares=squares), within,
    )  # fmt: skip


def prepared_cells(
    model: Any,
    X: Any,
    labels: pd.DataFrame,
    design: Design,
    donors: np.ndarray | None,
    donor_names: np.ndarray | None,
) -> Prepared:
    """Check the input of a fit to cells in groups, and read the data for group sums, squares and finiteness."""
    N, p = X.shape
    if design.n_groups == N:
        raise ValueError(
            f"each of the {N} groups has a single cell, so there is no within-group scatter; "
            "use fewer factors or levels."
        )
    if model.shrinkage == 0 and p >= N - design.n_groups:
        raise ValueError(
            f"shrinkage=0 with {p} genes and {N} cells in {design.n_groups} groups: the within-group scatter is "
            "singular. Set shrinkage='auto' or a number above 0, or select fewer genes."
        )
    priors_of(design, model.prior)  # refuses a prior that does not fit the levels
    objective, n_components = model._objective(design), effect_components(design, model.n_components)

    samples = samples_in_error(design, donors, donor_names)
    units = sample_units(design, donors)
    summary = summarise(X, units.codes, len(units.counts), getattr(model, "feature_names_in_", None))
    sums = summary.sums if samples is not None else arrays.group_sums(summary.sums, units.groups, design.n_groups)
    within = Within.from_data(
        X, design.codes, design.counts, model.within, samples, sums, summary.squares.sum(axis=1), design.covariates
    )
    if design.covariates is not None:
        less = adjusted(X, design.covariates, units.codes, summary.sums, summary.squares)
        summary = replace(summary, sums=less.sums, squares=less.squares)
    return Prepared(labels, design, donors, objective, n_components, summary, within)
