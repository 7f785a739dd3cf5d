"""The factorial decomposition of connectivity: what inputs and outputs of types follow from which factor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..._design.design import Design
from ..._design.effects import Effect
from ._profiles import DIRECTIONS, check_matrix, design_of_types, effect_labels, effect_operator, profiles, strata_of
from ._relabel import Relabelled, Statistic, along, explained_by, relabelling_test


def decompose_connectivity(
    matrix: pd.DataFrame,
    factors: pd.DataFrame,
    *,
    interactions: str | Sequence[str] | None = "all",
    directions: Sequence[str] = DIRECTIONS,
    within: bool = False,
    n_permutations: int = 9999,
    random_state: int = 0,
) -> pd.DataFrame:
    """Split the differences between input profiles, and between output profiles, of cell types by factor.

    The least-squares decomposition that FLDA makes of gene expression, applied to the rows (outputs) and columns
    (inputs) of a connectivity matrix: with G the profiles (types x partners), the share of effect S is
    ``|R_S G|^2 / |G - mean|^2``, R_S G being its fitted values. Strong partners weigh most; give square roots, or
    shares of all synapses, to weigh them otherwise. Signed weights keep their sign.

    A type is one observation however many cells were traced, so the evidence is in relabellings of types. Two tests,
    both of the share:

    * ``pval``: types are exchanged over the whole design. Exact if no effect exists. Where others do, the share of
      an absent one is smaller than that of a random relabelling, and the test errs on the safe side.
    * ``pval_within``: types are exchanged only within the levels of the other factors. Exact whatever these do, but
      with
      few types it has few relabellings. The same as ``pval`` for the interaction of all factors.

    Eight types in a 2 x 4 table have 35, 105 and 840 relabellings (p at least .029, .0095, .0012), and 8 and 24 within
    levels (.125, .042).

    Parameters
    ----------
    matrix
        Connectivity, presynaptic types (rows) x postsynaptic types, weights or counts, 0 for none.
    factors
        Types (index) x factors. Several types may share a group of the design.
    interactions
        As in :func:`flda.tl.flda`.
    directions
        "inputs", "outputs" or both.
    within
        Count connections among the types themselves too. Then partners carry the labels that are exchanged.
    n_permutations
        Relabellings to draw where all would be more than 50,000.
    random_state
        Their seed.

    Returns
    -------
    DataFrame with a row per direction and effect: ``direction, effect, df, share, expected`` (share of an effect of
    nothing, df / (types - 1)), ``pval, pval_within, n_distinct, n_distinct_within`` (relabellings that can differ; the
    smallest p-value is one over it) and ``partners`` (the three that carry most of the effect, with their part of it).
    For a balanced table shares add up to 1 less what differs between types of one group.

    Raises
    ------
    ValueError
        For types that the matrix lacks on the side asked for, types without any connection, duplicates, NaN, fewer
        than 4 types, and factors that ``make_design`` refuses.

    Examples
    --------
    >>> types = [f"T{d}{a}" for d in (4, 5) for a in "abcd"]
    >>> factors = pd.DataFrame({"dendrite": [t[:2] for t in types], "axon": [t[2] for t in types]}, index=types)
    >>> matrix = pd.DataFrame(0.0, index=["Mi1", "Tm9"], columns=types)
    >>> matrix.loc["Mi1", factors["dendrite"] == "T4"] = 60.0
    >>> matrix.loc["Tm9", factors["dendrite"] == "T5"] = 50.0
    >>> table = decompose_connectivity(matrix, factors, directions=["inputs"])
    >>> table[["effect", "share", "pval", "pval_within"]].round(3).values.tolist()[0]
    ['dendrite', 1.0, 0.029, 0.125]
    """
    matrix = check_matrix(matrix)
    design = design_of_types(factors, interactions)
    rows = []
    for direction in check_directions(directions):
        table = profiles(matrix, factors.index, direction, within=within)
        G = centred(table.to_numpy(), f"{direction} of the types")
        K, total = G @ G.T, float(np.sum(G**2))
        for effect in design.effects:
            operator = effect_operator(design, effect)
            V = effect_labels(operator)
            free, inside = both_tests(explained_by(K), V, design, effect, n_permutations, random_state)
            carried = np.sum((operator @ G) ** 2, axis=0)
            carried[carried < 1e-12 * total] = 0.0  # rounding
            rows.append(
                {
                    "direction": direction,
                    "effect": effect.name,
                    "df": design.df(effect),
                    "share": float(np.sum(carried) / total),
                    "expected": design.df(effect) / (len(G) - 1),
                    **as_columns(free, inside),
                    "partners": _strongest(carried, table.columns),
                }
            )
    return pd.DataFrame(rows)


def compare_connectivity(
    first: pd.DataFrame,
    second: pd.DataFrame,
    factors: pd.DataFrame,
    *,
    interactions: str | Sequence[str] | None = "all",
    directions: Sequence[str] = DIRECTIONS,
    within: bool = False,
    n_permutations: int = 9999,
    random_state: int = 0,
) -> pd.DataFrame:
    """Whether two connectomes agree on what each factor does to the wiring of the same types.

    For every effect the fitted values of both connectomes, at the same types and partners, are compared by their
    cosine: 1 when the effect changes the same partners in the same way, whatever its size. The test exchanges the types
    of the second connectome over the whole design; its statistic is the inner product of the fitted values, in which
    size counts (any split of types that differ in one way only has the same direction). One-sided: eight types in a
    2 x 4 table have 70, 2,520 and 40,320 relabellings that differ.

    Parameters
    ----------
    first, second
        Connectivity, presynaptic x postsynaptic. Partners that only one of them has are left out.
    factors, interactions, directions, within, n_permutations, random_state
        As in :func:`decompose_connectivity`.

    Returns
    -------
    DataFrame with a row per direction and effect: ``direction, effect, cosine, pval, n_distinct, n_partners``.

    Raises
    ------
    ValueError
        As in :func:`decompose_connectivity`, or when no partner is shared.

    Examples
    --------
    >>> types = [f"T{d}{a}" for d in (4, 5) for a in "abcd"]
    >>> factors = pd.DataFrame({"dendrite": [t[:2] for t in types], "axon": [t[2] for t in types]}, index=types)
    >>> rng = np.random.default_rng(0)
    >>> one = pd.DataFrame(rng.poisson(5.0, size=(6, 8)), columns=types)
    >>> compare_connectivity(one, 3 * one, factors, directions=["inputs"])["cosine"].round(6).tolist()
    [1.0, 1.0, 1.0]
    """
    tables = check_matrix(first, "the first connectivity"), check_matrix(second, "the second connectivity")
    design = design_of_types(factors, interactions)
    rows = []
    for direction in check_directions(directions):
        one, two = (profiles(t, factors.index, direction, within=within) for t in tables)
        shared = one.columns.intersection(two.columns)
        if len(shared) == 0:
            raise ValueError(f"the two connectomes share no partner among the {direction}; check the names of types.")
        A = centred(one[shared].to_numpy(), f"{direction} of the types in the first connectome")
        B = centred(two[shared].to_numpy(), f"{direction} of the types in the second connectome")
        for effect in design.effects:
            operator = effect_operator(design, effect)
            V = effect_labels(operator)
            fits = V.T @ A, V.T @ B
            size = float(np.linalg.norm(fits[0]) * np.linalg.norm(fits[1]))

            test = relabelling_test(
                along(B @ fits[0].T), V, np.zeros(len(A), dtype=int), n_permutations=n_permutations,
                random_state=random_state, paired=True,
            )  # fmt: skip
            rows.append(
                {
                    "direction": direction,
                    "effect": effect.name,
                    "cosine": float(np.sum(fits[0] * fits[1]) / size) if size > 0 else np.nan,
                    "pval": test.pval,
                    "n_distinct": test.n_distinct,
                    "n_partners": len(shared),
                }
            )
    return pd.DataFrame(rows)


def both_tests(
    statistic: Statistic, V: np.ndarray, design: Design, effect: Effect, n_permutations: int, random_state: int
) -> tuple[Relabelled, Relabelled]:
    """The test over the whole design, and that within the levels of the other factors."""
    strata = strata_of(design, effect)
    free, inside = (
        relabelling_test(statistic, V, groups, n_permutations=n_permutations, random_state=random_state)
        for groups in (np.zeros_like(strata), strata)
    )
    return free, inside


def as_columns(free: Relabelled, inside: Relabelled) -> dict[str, float]:
    """What a row says of both tests."""
    return {
        "pval": free.pval,
        "pval_within": inside.pval,
        "n_distinct": free.n_distinct,
        "n_distinct_within": inside.n_distinct,
    }


def centred(G: np.ndarray, what: str) -> np.ndarray:
    """Profiles less their mean over types."""
    G = G - G.mean(axis=0)
    if np.sum(G**2) == 0:
        raise ValueError(f"{what} are the same for all {len(G)} of them: there is nothing to decompose.")
    return G


def check_directions(directions: Sequence[str]) -> list[str]:
    """A list of "inputs" and "outputs"."""
    listed = [directions] if isinstance(directions, str) else list(directions)
    unknown = [d for d in listed if d not in DIRECTIONS]
    if unknown or not listed:
        raise ValueError(f"directions={directions!r}: name 'inputs', 'outputs' or both.")
    return listed


def _strongest(carried: np.ndarray, partners: pd.Index) -> str:
    total = carried.sum()
    if total == 0:
        return ""
    first = np.argsort(-carried, kind="stable")[:3]
    return ", ".join(f"{partners[i]} {100 * carried[i] / total:.0f} %" for i in first if carried[i] > 0)
