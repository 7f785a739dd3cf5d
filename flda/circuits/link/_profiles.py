"""Input and output profiles of cell types, and the factorial design of the types."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..._design.design import Design, make_design
from ..._design.effects import Effect

DIRECTIONS = ("inputs", "outputs")
MIN_TYPES = 4  # three types have no relabelling that could be rare


def check_matrix(matrix: pd.DataFrame, what: str = "the connectivity") -> pd.DataFrame:
    """Connectivity, presynaptic x postsynaptic types, as numbers with unique names."""
    if not isinstance(matrix, pd.DataFrame):
        raise ValueError(f"{what} must be a DataFrame with presynaptic types as rows and postsynaptic ones as columns.")
    for side, names in (("presynaptic", matrix.index), ("postsynaptic", matrix.columns)):
        if not names.is_unique:
            raise ValueError(
                f"{side} type {names[names.duplicated()][0]!r} occurs twice in {what}; add its entries up, or keep one."
            )
    matrix = matrix.astype(float)
    bad = ~np.isfinite(matrix.to_numpy())
    if bad.any():
        row, col = np.argwhere(bad)[0]
        raise ValueError(
            f"{what} holds {int(bad.sum())} NaN or infinite values, the first from {matrix.index[row]!r} to "
            f"{matrix.columns[col]!r}; put 0 where there is no connection."
        )
    return matrix


def profiles(matrix: pd.DataFrame, types: pd.Index, direction: str, *, within: bool) -> pd.DataFrame:
    """``(types, partners)``: what every type receives (inputs) or makes (outputs), partners without any left out."""
    table = matrix.T if direction == "inputs" else matrix
    side = "postsynaptic" if direction == "inputs" else "presynaptic"
    lacking = types.difference(table.index)
    if len(lacking):
        raise ValueError(
            f"{len(lacking)} of {len(types)} types are not among the {side} ones, such as {lacking[0]!r}, so they have "
            f"no {direction}; leave them out, or restrict directions."
        )
    table = table.loc[types]
    if not within:
        table = table[table.columns.difference(types, sort=False)]
    empty = table.index[~table.any(axis=1)]
    if len(empty):
        partners = "partner" if within else "partner outside the types themselves"
        raise ValueError(f"type {empty[0]!r} has no {direction} with any {partners}; leave it out, or check the names.")
    return table.loc[:, table.any(axis=0)]


def design_of_types(factors: pd.DataFrame, interactions: str | Sequence[str] | None = "all") -> Design:
    """Factorial design with types for cells; refuses too few types and types listed twice."""
    if not factors.index.is_unique:
        raise ValueError(f"type {factors.index[factors.index.duplicated()][0]!r} is listed twice in the factors.")
    if len(factors) < MIN_TYPES:
        raise ValueError(f"{len(factors)} types are too few to compare their wiring; {MIN_TYPES} or more are needed.")
    return make_design(factors.reset_index(drop=True), interactions=interactions)


def effect_operator(design: Design, effect: Effect) -> np.ndarray:
    """R_S ``(n_types, n_types)``: takes profiles of types to the fitted values of one effect at every type.

    Groups of the design count the same however many types they hold, as in the decomposition of genes.
    """
    averaging = np.zeros((design.n_groups, len(design.codes)))
    averaging[design.codes, np.arange(len(design.codes))] = 1 / design.counts[design.codes]
    return (design.fitted(effect) @ averaging)[design.codes]


def effect_labels(operator: np.ndarray) -> np.ndarray:
    """V ``(n_types, df)`` with ``V V' = R'R``: what the labels of an effect contribute to squared lengths."""
    values, vectors = np.linalg.eigh(operator.T @ operator)
    keep = values > 1e-10 * values[-1]
    return vectors[:, keep] * np.sqrt(values[keep])


def strata_of(design: Design, effect: Effect) -> np.ndarray:
    """Stratum of every type: the combination of levels of all factors that are not in the effect."""
    others = [j for j, f in enumerate(design.table.factors) if f not in effect]
    if not others:
        return np.zeros(len(design.codes), dtype=int)
    return np.unique(design.table.groups[design.codes][:, others], axis=0, return_inverse=True)[1].ravel()
