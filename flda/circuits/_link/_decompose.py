"""Factorial decomposition of connectivity: how much of the types' inputs and outputs depends on each factor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData

from ..._design.design import Design
from ..._design.effects import Effect
from ._neurons import Neurons, read_neurons, spread_of_neurons
from ._profiles import (
    DIRECTIONS,
    centred,
    check_directions,
    check_matrix,
    design_of_types,
    effect_labels,
    effect_operator,
    profiles,
    strata_of,
)
from ._relabel import Relabelled, Statistic, along, explained_by, relabelling_test


def decompose_connectivity(
    matrix: pd.DataFrame | AnnData,
    factors: pd.DataFrame,
    *,
    interactions: str | Sequence[str] | None = "all",
    directions: Sequence[str] = DIRECTIONS,
    within: bool = False,
    types: str = "type",
    layer: str | None = None,
    n_resamples: int = 9999,
    random_state: int = 0,
) -> pd.DataFrame:
    """Decompose the differences between the input profiles, and between the output profiles, of cell types by factor.

    FLDA's least-squares decomposition of gene expression is applied to the rows (outputs) and columns (inputs) of a
    connectivity matrix. With profiles G (types x partners), the share of effect S is ``|R_S G|^2 / |G - mean|^2``,
    where ``R_S G`` are the fitted values of the effect. Strong partners count most; to change this, pass square roots,
    or fractions of all synapses. Signed weights keep their sign.

    A type is one observation, however many of its cells were traced, so significance comes from relabelling types.
    There are two tests of the share:

    * ``pval``: types are permuted over the whole design. The test is exact if there is no effect at all. If other
      effects exist, the share of an absent effect is smaller than under random relabelling, and the test is
      conservative.
    * ``pval_within``: types are permuted only within the levels of the other factors. The test is exact whatever the
      other effects are, but with few types there are few such permutations. For the interaction of all factors both
      tests are the same.

    Eight types in a 2 x 4 table have 35, 105 and 840 distinct relabellings for the two factors and their interaction
    (smallest p-values 0.029, 0.0095 and 0.0012). Within levels, the factors have 8 and 24 (0.125 and 0.042).

    Parameters
    ----------
    matrix
        Connectivity: presynaptic types (rows) x postsynaptic types (columns), weights or counts, 0 for no connection.
        Or single neurons (rows of an AnnData) x features, as :func:`wiring_features` makes them. The profile of a type
        is then the mean over its neurons; neurons of a type share its labels, so types stay the unit of exchange.
    factors
        Types (index) x factors. Several types may belong to the same group of the design.
    interactions
        As in :func:`flda.tl.flda`.
    directions
        ``"inputs"``, ``"outputs"``, or both.
    within
        Whether to include connections among the types themselves. Their partners then carry labels that are permuted.
    types, layer
        Of single neurons: the column of ``obs`` with their types, and the layer to use instead of ``X``.
    n_resamples
        Number of random relabellings if there are more than 50,000; otherwise all are used.
    random_state
        Seed of the random relabellings.

    Returns
    -------
    DataFrame
        One row per direction and effect, with the columns

        * ``direction, effect, df``: the effect and its degrees of freedom
        * ``share``: share of the effect in the differences between the profiles. In a balanced table the shares of all
          effects sum to one, minus the share of the differences between types of the same group.
        * ``share_neurons, n_neurons``, of single neurons only: share of the effect in the differences between neurons,
          those within types included, where every type counts the same; and the number of neurons
        * ``expected``: expected share of an absent effect, df / (number of types - 1)
        * ``pval, pval_within``: p-values of the two tests
        * ``n_distinct, n_distinct_within``: number of distinguishable relabellings; the smallest possible p-value is
          one over it
        * ``partners``: the three partners that contribute most to the effect, with their contributions

    Raises
    ------
    ValueError
        If the matrix lacks a type on the requested side, a type has no connection, names repeat, values are not finite,
        there are fewer than 4 types, or the effects of the factors cannot be estimated separately.

    References
    ----------
    Permutation within the levels of other factors: Anderson MJ, ter Braak CJF. Permutation tests for multi-factorial
    analysis of variance. J. Stat. Comput. Simul. 73:85 (2003).

    Examples
    --------
    >>> import pandas as pd
    >>> from flda.circuits import decompose_connectivity
    >>> types = [f"T{d}{a}" for d in (4, 5) for a in "abcd"]
    >>> factors = pd.DataFrame({"dendrite": [t[:2] for t in types], "axon": [t[2] for t in types]}, index=types)
    >>> matrix = pd.DataFrame(0.0, index=["Mi1", "Tm9"], columns=types)
    >>> matrix.loc["Mi1", factors["dendrite"] == "T4"] = 60.0
    >>> matrix.loc["Tm9", factors["dendrite"] == "T5"] = 50.0
    >>> table = decompose_connectivity(matrix, factors, directions=["inputs"])
    >>> table[["effect", "share", "pval", "pval_within"]].round(3).values.tolist()[0]
    ['dendrite', 1.0, 0.029, 0.125]
    """
    matrix, neurons = check_connectivity(matrix, types, layer, within)
    design = design_of_types(factors, interactions)
    rows = []
    for direction in check_directions(directions):
        table = profiles(matrix, factors.index, direction, within=within)
        G = centred(table.to_numpy(), f"the {direction}")
        K, total = G @ G.T, float(np.sum(G**2))
        of_neurons = None if neurons is None else neurons.of(factors.index, table.columns, direction)
        for effect in design.effects:
            operator = effect_operator(design, effect)
            V = effect_labels(operator)
            free, inside = both_tests(explained_by(K), V, design, effect, n_resamples, random_state)
            carried = np.sum((operator @ G) ** 2, axis=0)  # |R_S G|^2 of every partner
            carried[carried < 1e-12 * total] = 0.0  # rounding errors are not contributions
            rows.append(
                {
                    "direction": direction,
                    "effect": effect.name,
                    "df": design.df(effect),
                    "share": float(np.sum(carried) / total),
                    **columns_of_neurons(float(np.sum(carried)), of_neurons),
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
    n_resamples: int = 9999,
    random_state: int = 0,
) -> pd.DataFrame:
    """Test whether each factor changes the wiring of the same types in the same way in two connectomes.

    For every effect, the fitted values of both connectomes at the same types and partners are compared by their
    cosine. It is 1 if the effect changes the same partners in the same way, however large the changes are. The test
    permutes the types of the second connectome over the whole design and is one-sided. Its statistic is the inner
    product of the fitted values, not the cosine: if types differ in one way only, any split of them has the same
    direction, and only the size shows which split is the true one. Eight types in a 2 x 4 table have 70, 2,520 and
    40,320 distinct relabellings for the two factors and their interaction.

    Parameters
    ----------
    first, second
        Connectivity: presynaptic types (rows) x postsynaptic types (columns). Partners that only one of them has are
        left out.
    factors, interactions, directions, within, n_resamples, random_state
        As in :func:`decompose_connectivity`.

    Returns
    -------
    DataFrame
        One row per direction and effect, with the columns ``direction, effect, cosine, pval, n_distinct`` (number of
        distinguishable relabellings) and ``n_partners`` (number of shared partners).

    Raises
    ------
    ValueError
        As in :func:`decompose_connectivity`, or if the connectomes share no partner.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from flda.circuits import compare_connectivity
    >>> types = [f"T{d}{a}" for d in (4, 5) for a in "abcd"]
    >>> factors = pd.DataFrame({"dendrite": [t[:2] for t in types], "axon": [t[2] for t in types]}, index=types)
    >>> one = pd.DataFrame(np.random.default_rng(0).poisson(5.0, size=(6, 8)), columns=types)
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
        A = centred(one[shared].to_numpy(), f"the {direction} in the first connectome")
        B = centred(two[shared].to_numpy(), f"the {direction} in the second connectome")
        for effect in design.effects:
            operator = effect_operator(design, effect)
            V = effect_labels(operator)
            fits = V.T @ A, V.T @ B
            size = float(np.linalg.norm(fits[0]) * np.linalg.norm(fits[1]))
            # <R A, R B> = tr(A' V V' B); permuting the types of B is permuting the rows of the V that multiplies it
            test = relabelling_test(
                along(B @ fits[0].T), V, np.zeros(len(A), dtype=int), n_resamples=n_resamples,
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


def check_connectivity(
    connectivity: pd.DataFrame | AnnData, types: str, layer: str | None, within: bool
) -> tuple[pd.DataFrame, Neurons | None]:
    """Checked connectivity between types; and the neurons that it summarises, if it was given by neuron."""
    if not isinstance(connectivity, AnnData):
        if layer is not None:
            raise ValueError(f"layer={layer!r} is for single neurons in an AnnData; transform the table instead.")
        return check_matrix(connectivity), None
    neurons = read_neurons(connectivity, types, layer, within)
    return check_matrix(neurons.matrix()), neurons


def columns_of_neurons(square: float, of_neurons: tuple[np.ndarray, np.ndarray] | None) -> dict[str, float]:
    """Columns of a result table for single neurons: the share of a square between types, and their number."""
    if of_neurons is None:
        return {}
    return {"share_neurons": square / spread_of_neurons(*of_neurons), "n_neurons": len(of_neurons[1])}


def both_tests(
    statistic: Statistic, V: np.ndarray, design: Design, effect: Effect, n_resamples: int, random_state: int
) -> tuple[Relabelled, Relabelled]:
    """The test over the whole design, and the test within the levels of the other factors."""
    strata = strata_of(design, effect)
    free, inside = (
        relabelling_test(statistic, V, groups, n_resamples=n_resamples, random_state=random_state)
        for groups in (np.zeros_like(strata), strata)
    )
    return free, inside


def as_columns(free: Relabelled, inside: Relabelled) -> dict[str, float]:
    """Columns of a result table for both tests."""
    return {
        "pval": free.pval,
        "pval_within": inside.pval,
        "n_distinct": free.n_distinct,
        "n_distinct_within": inside.n_distinct,
    }


def _strongest(carried: np.ndarray, partners: pd.Index) -> str:
    """The three partners with the largest contributions, as text."""
    total = carried.sum()
    if total == 0:
        return ""
    first = np.argsort(-carried, kind="stable")[:3]
    return ", ".join(f"{partners[i]} {100 * carried[i] / total:.0f} %" for i in first if carried[i] > 0)
