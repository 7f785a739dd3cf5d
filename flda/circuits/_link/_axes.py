"""Links between FLDA axes of genes and the wiring of the same types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.stats import false_discovery_control

from ..._adata import read
from ..._adata.record import Record
from ..._adata.results import write
from ..._design.design import Design
from ..._design.effects import SEPARATOR, Effect
from ..._logging import get_logger, warn
from ..wiring import SpatialConnectomeModel, cross_validate
from ._decompose import as_columns, both_tests, check_connectivity, columns_of_neurons
from ._neurons import scores_of_neurons
from ._profiles import (
    DIRECTIONS,
    centred,
    check_directions,
    design_of_types,
    effect_operator,
    profiles,
)
from ._relabel import explained_by

logger = get_logger(__name__)


def link_axes(
    adata: AnnData,
    connectivity: pd.DataFrame | AnnData,
    groupby: str,
    *,
    directions: Sequence[str] = DIRECTIONS,
    within: bool = False,
    types: str = "type",
    layer: str | None = None,
    held_out: bool | None = None,
    n_resamples: int = 9999,
    random_state: int = 0,
    key: str = "flda",
) -> pd.DataFrame:
    """Test whether wiring changes along the axes that FLDA found in the genes.

    Cells and connectomes come from different animals, so only types can be compared. Let s be the mean score of every
    type on an axis, restricted to the effect that the axis belongs to, and G the centred profiles of the types' inputs
    or outputs (types x partners). The *wiring axis* of a gene axis is the pattern of partners that covaries with it,
    ``G's``. Its share of the wiring is ``s'GG's / (s's |G|^2)``. Labels of the design do not enter the wiring axis.

    Significance comes from permuting types between genes and wiring: over the whole design (``pval``), or within the
    levels of the factors that are not part of the axis's effect (``pval_within``); see :func:`decompose_connectivity`.
    ``held_out_r2`` measures how well wiring predicts the gene score of a type whose wiring was not used for the wiring
    axis.

    Only axes of plain factors and their interactions are linked, not those of named contrasts and numeric factors.

    A link means that types that differ along the gene axis differ in wiring. With few types, two axes along which the
    types are arranged alike cannot be distinguished.

    Parameters
    ----------
    adata
        With the results of :func:`flda.tl.flda`.
    connectivity
        Presynaptic types (rows) x postsynaptic types (columns): weights or counts, 0 for no connection. Or single
        neurons x features, as in :func:`decompose_connectivity`: the neurons of a type share its gene score, so types
        stay the unit of exchange.
    groupby
        Column of ``adata.obs`` with the names of the types. All cells of a type must belong to the same group of the
        design. Cells without labels of the design, such as those of partners, are only used for the rules.
    directions, within, types, layer, n_resamples, random_state
        As in :func:`decompose_connectivity`.
    held_out
        Whether to use the scores of :func:`flda.tl.held_out_scores`; by default they are used if there are any.
    key
        The ``key_added`` of the fit.

    Returns
    -------
    DataFrame
        One row per direction and axis, with the columns

        * ``direction, axis, effect``: the gene axis and its effect
        * ``share``: share of the wiring axis in the differences between the profiles
        * ``share_neurons, n_neurons``, of single neurons only: share in the differences between neurons, those within
          types included, where every type counts the same; and the number of neurons
        * ``expected``: expected share of an axis that is unrelated to wiring
        * ``correlation``: correlation of gene and wiring scores, in sample
        * ``correlation_neurons``, of single neurons only: the same over neurons, each scored on the wiring axis of all
          other neurons. Types with one neuron are left out.
        * ``held_out_r2``: R^2 of the gene score predicted from wiring, each type left out in turn
        * ``pval, pval_within, pval_adj``: the two p-values, and ``pval`` adjusted by Benjamini-Hochberg
        * ``n_distinct, n_distinct_within``: number of distinguishable relabellings
        * ``n_types``: number of types
        * ``partners``: the three partners with the largest weights in the wiring axis, with their signs

        The call also writes ``adata.uns["flda"]["connectivity"]`` for :func:`flda.pl.connectivity`: ``links`` (this
        table), ``scores`` (of the types, on gene and wiring axes), ``matrix``, ``pre`` and ``post``. If at least four
        presynaptic and four postsynaptic types have cells, it adds ``rules`` (axes x axes, the
        :class:`~flda.circuits.wiring.SpatialConnectomeModel` of their connections on the gene axes of main effects;
        with all axes, few types could be fitted exactly) and ``rules_score`` (its score in sample and held out).

    Raises
    ------
    ValueError
        If a column is missing, if the cells of a type lie in several groups, if the connectivity lacks types, or for
        any reason of :func:`decompose_connectivity`. ``adata`` does not change in that case.

    Examples
    --------
    >>> import pandas as pd
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> types = list(adata.obs["subtype"].cat.categories)
    >>> wiring = pd.DataFrame(0.0, index=["Mi1", "Tm9"], columns=types)
    >>> wiring.loc["Mi1", types[:4]] = 60.0
    >>> wiring.loc["Tm9", types[4:]] = 50.0
    >>> links = flda.circuits.link_axes(adata, wiring, "subtype", directions="inputs")
    >>> links[["axis", "pval"]].round(3).values.tolist()[0]
    ['dendrite_1', 0.029]
    """
    matrix, neurons = check_connectivity(connectivity, types, layer, within)
    listed = check_directions(directions)
    record = Record(adata, key)
    axes = record.axes
    plain = [record.factors_of(e) == list(Effect.parse(e)) for e in axes["effect"]]
    if not all(plain):
        left_out = axes.loc[~np.array(plain), "effect"].drop_duplicates().tolist()
        warn(f"wiring is linked to plain effects only; left out {', '.join(map(repr, left_out))}")
        axes = axes[plain]
    scores, factors = _scores_of_types(record, groupby, held_out)
    labelled = factors.index
    design = design_of_types(factors, record.params["interactions"])
    rows, shown = [], {f"genes {a}": scores.loc[labelled, a] for a in axes["axis"]}
    for direction in listed:
        table = profiles(matrix, labelled, direction, within=within)
        G = centred(table.to_numpy(), f"the {direction}")
        for axis, effect in zip(axes["axis"], axes["effect"], strict=True):
            own = Effect.parse(effect)
            if own not in design.effects:
                raise ValueError(
                    f"the effect {effect!r} cannot be estimated from the types that have cells; fit FLDA again to the "
                    "cells of these types."
                )
            s = effect_operator(design, own) @ scores.loc[labelled, axis].to_numpy()
            of_neurons = None if neurons is None else neurons.of(labelled, table.columns, direction)
            row, t = _link(s, G, table.columns, of_neurons, design, own, n_resamples, random_state)
            shown[f"{direction} {axis}"] = pd.Series(t, index=labelled)
            rows.append({"direction": direction, "axis": axis, "effect": effect, **row})
    links = pd.DataFrame(rows)
    links.insert(links.columns.get_loc("pval_within") + 1, "pval_adj", false_discovery_control(links["pval"]))
    found: dict[str, Any] = {
        "links": links,
        "scores": pd.DataFrame(shown).rename_axis("type").reset_index(),
        "matrix": matrix.to_numpy(),
        "pre": matrix.index.astype(str).to_numpy(dtype=object),
        "post": matrix.columns.astype(str).to_numpy(dtype=object),
        "params": {"groupby": groupby, "within": bool(within), "types": list(map(str, _ordered(design, factors)))},
    }
    mains = axes.loc[~axes["effect"].str.contains(SEPARATOR), "axis"].tolist()
    rules = _rules(scores[mains], matrix, random_state)
    if rules is not None:
        found["rules"], found["rules_score"] = rules
    write(adata, key, connectivity=found)
    best = links.loc[links["pval"].idxmin()]
    logger.info("link_axes: %d types; smallest p %.3g (%s, %s)", len(factors), *best[["pval", "direction", "axis"]])
    return links


def _scores_of_types(record: Record, groupby: str, held_out: bool | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Mean scores of all types with cells, and the factors of those that the design labels."""
    params = record.params
    obs = read.labels(record.adata, [groupby, *params["factors"]])
    if held_out is None:
        held_out = "held_out_scores" in record
    X = record.scores
    if held_out:  # cells without labels were not fitted either
        outside = obs[params["factors"]].isna().any(axis=1)
        X = record.held_out_scores.where(~outside, X)
    names = obs[groupby].astype(object)
    named = names.notna().to_numpy() & X.notna().all(axis=1).to_numpy()
    scores = X[named].groupby(names[named].astype(str).to_numpy()).mean()
    labels = obs[params["factors"]].astype(object)
    whole = named & labels.notna().all(axis=1).to_numpy()
    levels = labels[whole].groupby(names[whole].astype(str).to_numpy())
    spread = levels.nunique().max(axis=1)
    if (spread > 1).any():
        name = spread.index[spread > 1][0]
        raise ValueError(
            f"cells of type {name!r} in obs[{groupby!r}] lie in several groups of the design; choose a column in which "
            "all cells of a type have the same levels of the factors."
        )
    return scores, levels.first().infer_objects()


def _link(
    s: np.ndarray,
    G: np.ndarray,
    partners: pd.Index,
    of_neurons: tuple[np.ndarray, np.ndarray] | None,
    design: Design,
    effect: Effect,
    n_resamples: int,
    random_state: int,
) -> tuple[dict[str, Any], np.ndarray]:
    """Columns of one gene axis with scores s ``(n,)`` and profiles G ``(n, partners)``, and its wiring scores t."""
    pattern = G.T @ s  # the wiring axis
    t = G @ pattern
    t = t / max(float(np.linalg.norm(pattern)), np.finfo(float).tiny)
    tests = both_tests(explained_by(G @ G.T), s[:, None], design, effect, n_resamples, random_state)
    square = float(pattern @ pattern / max(s @ s, np.finfo(float).tiny))
    row = {
        "share": square / max(float(np.sum(G**2)), np.finfo(float).tiny),
        **columns_of_neurons(square, of_neurons),
        "expected": 1 / (len(s) - 1),
        "correlation": _correlation(s, t),
        **_correlation_neurons(s, of_neurons),
        "held_out_r2": _held_out_r2(s, G),
        **as_columns(*tests),
        "n_types": len(s),
        "partners": _partners(pattern, partners),
    }
    return row, t


def _held_out_r2(s: np.ndarray, G: np.ndarray) -> float:
    """R^2 of each type's gene score, predicted from its wiring by the wiring axis and regression line of the others.

    Each prediction is compared with the mean of the other types, as an R^2 on held-out data must be.
    """
    error = total = 0.0
    for i in range(len(s)):
        rest = np.arange(len(s)) != i
        # centring, wiring axis and slope all come from the other types
        centre, level = G[rest].mean(axis=0), s[rest].mean()
        w = (G[rest] - centre).T @ (s[rest] - level)
        t = (G[rest] - centre) @ w
        slope = t @ (s[rest] - level) / (t @ t) if t @ t > 0 else 0.0
        error += (s[i] - level - slope * ((G[i] - centre) @ w)) ** 2
        total += (s[i] - level) ** 2
    return float(1 - error / total) if total > 0 else np.nan


def _correlation(s: np.ndarray, t: np.ndarray) -> float:
    size = np.linalg.norm(s) * np.linalg.norm(t)
    return float(s @ t / size) if size > 0 else np.nan


def _correlation_neurons(s: np.ndarray, of_neurons: tuple[np.ndarray, np.ndarray] | None) -> dict[str, float]:
    """Correlation over neurons of their type's gene score and their own wiring score, each without itself."""
    if of_neurons is None:
        return {}
    X, codes = of_neurons
    t = scores_of_neurons(X, codes, s)
    on = np.isfinite(t)
    if not on.any():
        return {"correlation_neurons": np.nan}
    return {"correlation_neurons": _correlation(*(v[on] - v[on].mean() for v in (s[codes], t)))}


def _partners(pattern: np.ndarray, names: pd.Index) -> str:
    """The three partners with the largest weights, as text."""
    strong = np.argsort(-np.abs(pattern), kind="stable")[:3]
    return ", ".join(f"{names[i]} {'+' if pattern[i] > 0 else '-'}" for i in strong if pattern[i] != 0)


def _ordered(design: Design, factors: pd.DataFrame) -> list[str]:
    """Types sorted by the levels of the first factor, then by those of the next."""
    return list(factors.index[np.argsort(design.codes, kind="stable")])


def _rules(scores: pd.DataFrame, matrix: pd.DataFrame, random_state: int) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Rules between gene axes of main effects, from the connections among types with cells; None if these are too few.

    The first column of ones allows rules that depend on the genes of one side only.
    """
    pre, post = matrix.index.intersection(scores.index), matrix.columns.intersection(scores.index)
    B = matrix.loc[pre, post]
    if min(B.shape) < 4 or B.to_numpy().std() == 0:
        return None
    scale = scores.std(ddof=0).replace(0.0, 1.0)
    unit = (scores - scores.mean()) / scale
    unit.insert(0, "1", 1.0)
    model = SpatialConnectomeModel(directed=True)
    X, Y = unit.loc[pre], unit.loc[post]
    rules = model.fit(X, B, Y=Y).rules_
    n_folds = min(5, *B.shape)
    table = cross_validate(model, X, B, Y=Y, n_folds=n_folds, n_nulls=20, random_state=random_state)
    return pd.DataFrame(rules), table.rename_axis("held out").reset_index()
