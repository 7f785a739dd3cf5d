"""FLDA axes of genes against the wiring of the same types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.stats import false_discovery_control

from ..._adata import read
from ..._adata.results import Record, write
from ..._design.design import Design
from ..._design.effects import SEPARATOR, Effect
from ..._logging import get_logger
from ..wiring import SpatialConnectomeModel, cross_validate
from ._decompose import as_columns, both_tests, centred, check_directions
from ._profiles import DIRECTIONS, check_matrix, design_of_types, effect_operator, profiles
from ._relabel import explained_by

logger = get_logger(__name__)


def link_axes(
    adata: AnnData,
    connectivity: pd.DataFrame,
    groupby: str,
    *,
    directions: Sequence[str] = DIRECTIONS,
    within: bool = False,
    held_out: bool | None = None,
    n_permutations: int = 9999,
    random_state: int = 0,
    key: str = "flda",
) -> pd.DataFrame:
    """Whether wiring changes along the axes that FLDA found in the genes.

    Cells and connectomes are of different animals, so only types can be compared: s, the mean score of every type on an
    axis (the part that belongs to the axis's own effect), with G, the profiles of the types' inputs or outputs (types x
    partners). The *wiring axis* of a gene axis is the pattern of partners that covaries with it, G's, and its share of
    the wiring is ``s'GG's / (s's |G|^2)``. The labels of the design have no part in it. Significance comes from
    exchanging types between genes and wiring, over the whole design (``pval``) or within the levels of the factors that
    are not the axis's own (``pval_within``), see :func:`decompose_connectivity`; ``held_out_r2`` says how well wiring
    predicts the gene score of a type whose wiring took no part in the wiring axis.

    A link says that types which differ on the gene axis differ in wiring. With few types it cannot tell apart axes
    along which types lie alike.

    Parameters
    ----------
    adata
        With the results of :func:`flda.tl.flda`.
    connectivity
        Presynaptic types (rows) x postsynaptic types: weights or counts, 0 for none.
    groupby
        Column of ``obs`` with the types' names. All cells of a type must be in one group of the design. Cells
        without labels of the design (partners) count for the rules only.
    directions, within, n_permutations, random_state
        As in :func:`decompose_connectivity`.
    held_out
        Use the scores of :func:`flda.tl.held_out_scores`; by default if there are any.
    key
        The ``key_added`` of the fit.

    Returns
    -------
    DataFrame with a row per direction and axis: ``direction, axis, effect, share, expected`` (share of an axis of
    nothing), ``correlation`` (of gene and wiring scores, in sample), ``held_out_r2`` (leaving each type out),
    ``pval, pval_within, pval_adj`` (Benjamini-Hochberg on ``pval``), ``n_distinct, n_distinct_within, n_types`` and
    ``partners`` (the three that weigh most in the wiring axis, with their sign). Also writes
    ``uns["flda"]["connectivity"]`` for :func:`flda.pl.connectivity`: ``links`` (this table), ``scores`` (of types, on
    gene and wiring axes), ``matrix``, ``pre``, ``post`` and, if at least four of the pre- and of the postsynaptic types
    have cells, ``rules`` (axes x axes, the :class:`~flda.circuits.wiring.SpatialConnectomeModel` of their connections
    on gene axes of main effects; all axes could fit few types exactly) and ``rules_score`` (in sample and held out).

    Raises
    ------
    ValueError
        For a missing column, types spread over groups, types that the connectivity lacks, and what
        :func:`decompose_connectivity` refuses. ``adata`` is then left as it was.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> types = list(adata.obs["subtype"].cat.categories)
    >>> wiring = pd.DataFrame(0.0, index=["Mi1", "Tm9"], columns=types)
    >>> wiring.loc["Mi1", types[:4]] = 60.0
    >>> wiring.loc["Tm9", types[4:]] = 50.0
    >>> links = link_axes(adata, wiring, "subtype", directions="inputs")
    >>> links[["axis", "pval"]].round(3).values.tolist()[0]
    ['dendrite_1', 0.029]
    """
    matrix = check_matrix(connectivity)
    listed = check_directions(directions)
    record = Record(adata, key)
    axes = record.axes
    scores, factors = _scores_of_types(record, groupby, held_out)
    labelled = factors.index
    design = design_of_types(factors, record.params["interactions"])
    rows, shown = [], {f"genes {a}": scores.loc[labelled, a] for a in axes["axis"]}
    for direction in listed:
        table = profiles(matrix, labelled, direction, within=within)
        G = centred(table.to_numpy(), f"{direction} of the types")
        for axis, effect in zip(axes["axis"], axes["effect"], strict=True):
            own = Effect.parse(effect)
            if own not in design.effects:
                raise ValueError(f"the types at hand cannot tell the effect {effect!r} apart; fit them again first.")
            s = effect_operator(design, own) @ scores.loc[labelled, axis].to_numpy()
            pattern = G.T @ s
            t = G @ pattern
            t = t / max(float(np.linalg.norm(pattern)), np.finfo(float).tiny)
            shown[f"{direction} {axis}"] = pd.Series(t, index=labelled)
            tests = both_tests(explained_by(G @ G.T), s[:, None], design, own, n_permutations, random_state)
            rows.append(
                {
                    "direction": direction,
                    "axis": axis,
                    "effect": effect,
                    "share": float(pattern @ pattern / max(s @ s * np.sum(G**2), np.finfo(float).tiny)),
                    "expected": 1 / (len(s) - 1),
                    "correlation": _correlation(s, t),
                    "held_out_r2": _held_out_r2(s, G),
                    **as_columns(*tests),
                    "n_types": len(s),
                    "partners": _partners(pattern, table.columns),
                }
            )
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
            f"cells of type {name!r} in obs[{groupby!r}] lie in several groups of the design; name a column whose "
            "types have one combination of the factors."
        )
    return scores, levels.first().infer_objects()


def _held_out_r2(s: np.ndarray, G: np.ndarray) -> float:
    """1 - squared error over that of the mean, each type's gene score predicted from its wiring by the other types."""
    error = total = 0.0
    for i in range(len(s)):
        rest = np.arange(len(s)) != i
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


def _partners(pattern: np.ndarray, names: pd.Index) -> str:
    strong = np.argsort(-np.abs(pattern), kind="stable")[:3]
    return ", ".join(f"{names[i]} {'+' if pattern[i] > 0 else '-'}" for i in strong if pattern[i] != 0)


def _ordered(design: Design, factors: pd.DataFrame) -> list[str]:
    """Types in the order of the design: by the levels of the first factor, then the next."""
    return list(factors.index[np.argsort(design.codes, kind="stable")])


def _rules(scores: pd.DataFrame, matrix: pd.DataFrame, random_state: int) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Rules between gene axes of main effects, from the connections among types with cells; None for too few of them.

    A first column of ones lets a rule speak of one side alone.
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
