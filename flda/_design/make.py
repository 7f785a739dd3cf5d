"""From a table of labels to a design: groups of cells, and the effects that the groups identify."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .._logging import warn
from .contrasts import check_estimable, parse_contrasts
from .covariates import is_covariate, make_covariates
from .design import Design
from .effects import Effect
from .estimability import refuse_confounded, report
from .interactions import requested, without_saturation
from .labels import encode
from .table import Table
from .trends import numeric_parts, parse_numeric, values_of
from .unit_model import precision_weights


def make_design(
    labels: pd.DataFrame,
    *,
    interactions: str | Iterable[str | Sequence[str]] | None = "all",
    nuisance: Iterable[str] = (),
    numeric: str | Sequence[str] | Mapping[str, int | str] | None = None,
    contrasts: Mapping[str, Any] | None = None,
    error: str = "within",
    weights: str | None = None,
) -> Design:
    """Build the design of a table of labels, which has one row per cell and one column per factor.

    Parameters
    ----------
    labels
        Labels of the cells. Levels are ordered as the categories of a categorical column, and sorted otherwise;
        categories without cells are dropped.
    interactions
        ``"all"`` includes every interaction that the table identifies, and ``"estimable"`` also those of which it
        identifies a part. None includes main effects only. A list names the interactions, each as ``"a:b"`` or
        ``("a", "b")``, with names of factors or of parts of numeric factors.
    nuisance
        Columns of ``labels`` that enter the fit as additive effects without axes of their own. A column of more than
        20 numbers that ``numeric`` names is a covariate: it differs from cell to cell and makes no groups.
    numeric
        Columns of numbers, or of ordered levels, with the parts to fit; see :func:`flda._design.trends.numeric_parts`.
        Names alone get their linear part.
    contrasts
        Named contrasts; see :func:`flda._design.contrasts.parse_contrasts`.
    error
        ``"within"``: the noise is what varies within groups. ``"residual"``: it is what the effects leave. ``"auto"``
        takes the second if no group has two cells, or if there are precision weights. If ``"all"`` interactions then
        leave nothing, those with the most degrees of freedom become the noise.
    weights
        Column of ``labels`` with the precision weights of the cells.

    Returns
    -------
    A :class:`Design`.

    Raises
    ------
    ValueError
        If labels are missing, a factor has a single level or is continuous, factors are nested or confounded, or a
        listed interaction or a contrast cannot be estimated.

    Examples
    --------
    >>> labels = pd.DataFrame({"dendrite": ["T4", "T4", "T5", "T5"], "axon": ["a", "b", "a", "b"]})
    >>> make_design(labels).effects
    [('dendrite',), ('axon',), ('dendrite', 'axon')]
    """
    if error not in ("auto", "within", "residual"):
        raise ValueError(f"error={error!r}: use 'auto', 'within' or 'residual'.")
    precision = None
    if weights is not None:
        precision, labels = _precision(labels, weights, error)
    nuisance, kinds = tuple(nuisance), parse_numeric(numeric, labels.columns)
    for name in nuisance:
        if name not in labels.columns:
            raise ValueError(
                f"nuisance factor {name!r} is not one of the label columns {list(labels.columns)}; correct or remove "
                "its name."
            )
    varying = [name for name in nuisance if name in kinds and is_covariate(labels[name])]
    covariates = make_covariates(labels[varying], kinds)
    kinds = {name: kind for name, kind in kinds.items() if name not in varying}
    nuisance = tuple(name for name in nuisance if name not in varying)
    factors = tuple(f for f in labels.columns.drop(varying) if f not in nuisance)
    if not factors:
        raise ValueError(
            f"no factor is left to give axes: every column of {list(labels.columns)} is nuisance; take one out of "
            "nuisance."
        )
    groups = _groups(labels.drop(columns=varying), kinds)
    whole, levels = groups.table, groups.levels

    mains = [Effect((part,)) for f in whole.factors for part in whole.parts_of(f)]
    wanted = requested(whole, factors, interactions)
    noise: list[Effect] = []
    n_cells, n_covariates = len(labels), 0 if covariates is None else covariates.values.shape[1]
    residual = error == "residual" or weights is not None
    unreplicated = len(groups.counts) == n_cells
    if residual or (error == "auto" and unreplicated):
        spare = n_cells - n_covariates
        if unreplicated and isinstance(interactions, str):
            wanted, noise = without_saturation(whole, mains, wanted, spare)
        residual = residual or 1 + sum(map(whole.df, [*mains, *wanted])) < spare
    table = whole
    if isinstance(interactions, str) and interactions == "estimable":
        kept, table = whole.estimable_in_part([*mains, *wanted])
    else:
        kept = whole.estimable([*mains, *wanted])
    refuse_confounded(table, levels, [e for e in mains if e not in kept])
    rows = report(table, levels, [*mains, *wanted, *noise], kept, noise)
    if residual and error == "auto" and weights is None:
        included = f", the interactions {[e.name for e in noise]} included" if noise else ""
        warn(f"no group has two cells, so the noise is what the effects leave (error='residual'){included}")
    left_out = [*(e for e in wanted if e not in kept), *table.estimable_parts]
    if left_out:
        _refuse_or_warn(left_out, rows, interactions)

    named = parse_contrasts(contrasts, levels, factors)
    for effect, contrast in named.items():
        if effect in kept or effect.name in whole.factors:
            raise ValueError(f"the contrast {effect.name!r} has the name of an effect or a factor; rename it.")
        check_estimable(effect.name, contrast, whole, table, levels, [*mains, *wanted], kept)
    design = Design(
        table=table,
        levels=levels,
        codes=groups.codes,
        counts=groups.counts,
        effects=[*(e for e in kept if not set(table.factors_of(e)) & set(nuisance)), *named],
        nuisance=nuisance,
        contrasts=table.contrasts(kept),
        report=rows,
        numeric=groups.values,
        named=named,
        covariates=covariates,
        residual=residual,
        precision=precision,
    )
    if design.unit_model is not None and not design.unit_model.full_rank():
        raise ValueError(
            f"{n_cells} cells leave no degree of freedom for error='residual' beside the effects "
            f"{[e.name for e in kept]}{'' if covariates is None else ' and the covariates'}; leave out an interaction "
            "or a covariate."
        )
    return design


class _Groups(NamedTuple):
    """The occupied groups, the levels of the factors, the values of the numeric ones, and the cells of each group."""

    table: Table
    levels: dict[str, np.ndarray]
    values: dict[str, np.ndarray]
    codes: np.ndarray
    counts: np.ndarray


def _groups(labels: pd.DataFrame, kinds: Mapping[str, Any]) -> _Groups:
    """Find the groups of cells; ``kinds`` holds the parts to fit of every numeric column."""
    columns = {name: encode(labels[name], called_numeric=name in kinds) for name in labels.columns}
    names, levels = tuple(columns), {name: found for name, (_, found) in columns.items()}
    values = {
        name: values_of(name, levels[name], ordered=bool(getattr(labels[name].dtype, "ordered", False)))
        for name in kinds
    }
    parts = {p: part for name, kind in kinds.items() for p, part in numeric_parts(name, values[name], kind).items()}
    if taken := [p for p in parts if p in names]:
        raise ValueError(f"the column {taken[0]!r} has the name of a part of a numeric factor; rename it.")
    n_levels = tuple(len(levels[f]) for f in names)
    # one number for every combination of levels; sorted, they give the groups in lexicographic order
    cells = np.ravel_multi_index([codes for codes, _ in columns.values()], n_levels)
    codes, occupied = pd.factorize(cells, sort=True)
    table = Table(names, n_levels, np.column_stack(np.unravel_index(occupied, n_levels)), parts)
    return _Groups(table, levels, values, codes, np.bincount(codes))


def _precision(labels: pd.DataFrame, weights: str, error: str) -> tuple[np.ndarray, pd.DataFrame]:
    """Return the precision weights of the cells, and the labels without their column."""
    if error == "within":
        raise ValueError(
            "error='within' with precision weights: their fit takes what the effects leave for noise; use "
            "error='residual' or leave the weights out."
        )
    if weights not in labels.columns:
        raise ValueError(
            f"weights={weights!r}: use 'random', 'equal', or a column of {list(labels.columns)} with precision weights."
        )
    return precision_weights(labels[weights].to_numpy(), weights), labels.drop(columns=weights)


def _refuse_or_warn(left_out: list[Effect], rows: pd.DataFrame, interactions: Any) -> None:
    """Name the interactions that cannot be estimated: an error if a list asked for them, and otherwise a warning."""
    reasons = rows.set_index("effect")["reason"]
    text = "; ".join(f"{e.name!r}: {reasons[e.name]}" for e in left_out)
    if not isinstance(interactions, str):
        raise ValueError(
            f"cannot estimate the interaction {text}. Leave it out of interactions, or use "
            "interactions='estimable' for the part that can be estimated."
        )
    warn(f"left out interactions that the occupied groups cannot identify: {text}")
