"""Input and output profiles of cell types, and the factorial design of the types."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..._design.design import Design
from ..._design.effects import Effect
from ..._design.make import make_design

DIRECTIONS = ("inputs", "outputs")
MIN_TYPES = 4  # three types have six relabellings: no p-value below 1/6


def check_matrix(matrix: pd.DataFrame, what: str = "the connectivity") -> pd.DataFrame:
    """Connectivity, presynaptic x postsynaptic types, as floats; names must be unique and values finite."""
    if not isinstance(matrix, pd.DataFrame):
        raise ValueError(
            f"{what} must be a DataFrame with presynaptic types as rows and postsynaptic types as columns."
        )
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
            f"{matrix.columns[col]!r}; use 0 for pairs without a connection."
        )
    return matrix


def check_directions(directions: Sequence[str]) -> list[str]:
    """Directions as a list of ``"inputs"`` and ``"outputs"``."""
    listed = [directions] if isinstance(directions, str) else list(directions)
    unknown = [d for d in listed if d not in DIRECTIONS]
    if unknown or not listed:
        raise ValueError(f"directions={directions!r} is not valid; choose 'inputs', 'outputs' or both.")
    return listed


def profiles(matrix: pd.DataFrame, types: pd.Index, direction: str, *, within: bool) -> pd.DataFrame:
    """Connections of every type ``(types, partners)``: received ones for inputs, sent ones for outputs.

    Partners without any connection to the types are left out, as are the types themselves unless ``within`` is True.
    """
    table = matrix.T if direction == "inputs" else matrix
    side = "postsynaptic" if direction == "inputs" else "presynaptic"
    missing = types.difference(table.index)
    if len(missing):
        raise ValueError(
            f"{len(missing)} of {len(types)} types, such as {missing[0]!r}, are not among the {side} types and so have "
            f"no {direction}; remove them, or restrict directions."
        )
    table = table.loc[types]
    if not within:
        table = table[table.columns.difference(types, sort=False)]
    empty = table.index[~table.any(axis=1)]
    if len(empty):
        partners = "any partner" if within else "any partner outside the types themselves"
        raise ValueError(f"type {empty[0]!r} has no {direction} with {partners}; remove it, or check the names.")
    return table.loc[:, table.any(axis=0)]


def centred(G: np.ndarray, what: str) -> np.ndarray:
    """Profiles minus their mean over types."""
    G = G - G.mean(axis=0)
    if np.sum(G**2) == 0:
        raise ValueError(f"{what} are identical for all {len(G)} types, so they have no differences to decompose.")
    return G


def design_of_types(factors: pd.DataFrame, interactions: str | Sequence[str] | None = "all") -> Design:
    """Factorial design with one observation per type."""
    if not factors.index.is_unique:
        raise ValueError(
            f"type {factors.index[factors.index.duplicated()][0]!r} occurs twice in the factors; keep one row per type."
        )
    if len(factors) < MIN_TYPES:
        raise ValueError(f"{len(factors)} types are too few to compare their wiring; use {MIN_TYPES} or more.")
    # no noise is estimated here: one type per group leaves all effects in place
    return make_design(factors.reset_index(drop=True), interactions=interactions, error="within")


def effect_operator(design: Design, effect: Effect) -> np.ndarray:
    """R_S ``(n_types, n_types)``: maps profiles of types to the fitted values of one effect at every type.

    As in the decomposition of gene expression, every group of the design counts the same, however many types it holds:
    types are averaged within groups, and the fitted values of the groups are returned to their types.
    """
    averaging = np.zeros((design.n_groups, len(design.codes)))
    averaging[design.codes, np.arange(len(design.codes))] = 1 / design.counts[design.codes]
    return (design.fitted(effect) @ averaging)[design.codes]


def effect_labels(operator: np.ndarray) -> np.ndarray:
    """V ``(n_types, df)`` with ``V V' = R'R``.

    The squared length of the fitted values is ``|R G|^2 = tr(V' G G' V)``, so V is all that the labels of an effect
    contribute to it, in as many columns as the effect has degrees of freedom.
    """
    values, vectors = np.linalg.eigh(operator.T @ operator)
    keep = values > 1e-10 * values[-1]
    return vectors[:, keep] * np.sqrt(values[keep])


def strata_of(design: Design, effect: Effect) -> np.ndarray:
    """Stratum of every type: the combination of the levels of all factors that are not part of the effect."""
    others = [j for j, f in enumerate(design.table.factors) if f not in effect]
    if not others:
        return np.zeros(len(design.codes), dtype=int)
    return np.unique(design.table.groups[design.codes][:, others], axis=0, return_inverse=True)[1].ravel()
