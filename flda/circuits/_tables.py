"""Connectomes as users hold them: edge lists by id, FlyWire Codex downloads, neuPrint adjacencies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from .._logging import get_logger
from ._names import as_names, without_name

logger = get_logger(__name__)

LEVELS = ("type", "neuron")
UNTYPED = ("drop", "keep")


@dataclass
class Wiring:
    """Connections between types or neurons, and what became of the rows of the tables that they come from.

    Attributes
    ----------
    edges : DataFrame
        One row per connected pair, with the columns ``pre, post, n_synapses`` and ``n_connections`` (pairs of neurons).
    annotations : DataFrame
        One row per neuron (index), with its ``type``, its ``name`` in ``edges`` (type or neuron), and the other columns
        of the annotations.
    report : DataFrame
        One row per step that merged or dropped something: ``step, n_rows, n_synapses``, and an ``example``.

    Examples
    --------
    :func:`wiring_from_edges` has an example that makes one.
    """

    edges: pd.DataFrame
    annotations: pd.DataFrame
    report: pd.DataFrame

    @property
    def names(self) -> pd.Index:
        """All presynaptic and postsynaptic names, sorted."""
        return pd.Index(sorted(set(self.edges["pre"]) | set(self.edges["post"])), dtype=object)

    def sparse(self, column: str = "n_synapses") -> sp.csr_array:
        """Return a column of the edges as a sparse matrix, for the models of :mod:`flda.circuits.wiring`.

        Parameters
        ----------
        column
            ``"n_synapses"`` or ``"n_connections"``.

        Returns
        -------
        scipy.sparse.csr_array
            Rows and columns in the order of :attr:`names`.
        """
        names = self.names
        at = [names.get_indexer(self.edges[side]) for side in ("pre", "post")]
        return sp.csr_array((self.edges[column].to_numpy(float), tuple(at)), (len(names), len(names)))

    def matrix(self, column: str = "n_synapses") -> pd.DataFrame:
        """Return a column of the edges as a table, for :func:`decompose_connectivity` and :func:`link_axes`.

        Parameters
        ----------
        column
            ``"n_synapses"`` or ``"n_connections"``.

        Returns
        -------
        DataFrame
            Presynaptic (rows) x postsynaptic (columns), 0 for no connection.
        """
        names = self.names
        return pd.DataFrame(self.sparse(column).toarray(), index=names, columns=names)


def wiring_from_edges(
    edges: pd.DataFrame,
    annotations: pd.DataFrame | pd.Series | Mapping[Any, str] | None = None,
    *,
    pre: str = "pre",
    post: str = "post",
    weight: str | None = "n_synapses",
    id_column: str | None = None,
    type_column: str = "type",
    by: str = "type",
    untyped: str = "drop",
    min_synapses: float = 0,
) -> Wiring:
    """Connections between types, or between neurons, from a list of edges between ids.

    Ids are compared as text, so numbers, text and categories match each other. Several rows of the same pair, such as
    one per neuropil, are added up.

    Parameters
    ----------
    edges
        One row per connection.
    annotations
        Type of every neuron: a table, a Series, or a dictionary, by id. None if ``pre`` and ``post`` are types already.
    pre, post, weight
        Columns of ``edges`` with the two ids and the number of synapses; ``weight=None`` counts every row as one.
    id_column
        Column of the annotations with the ids; None for their index.
    type_column
        Column of the annotations with the types.
    by
        ``"type"`` adds up the neurons of a type; ``"neuron"`` keeps single neurons, and needs no type.
    untyped
        What becomes of neurons without a type, with ``by="type"``: ``"drop"``, or ``"keep"`` under their id.
    min_synapses
        Pairs of neurons with fewer synapses are dropped.

    Returns
    -------
    Wiring
        Edges, annotations, and the report of what was merged and dropped.

    Raises
    ------
    ValueError
        If a column is missing, if an id has two types, if weights are negative or not finite, or if nothing is left.

    Examples
    --------
    >>> import pandas as pd
    >>> from flda.circuits import wiring_from_edges
    >>> edges = pd.DataFrame({"pre": [1, 1, 2, 3], "post": [9, 9, 9, 9], "n_synapses": [5, 2, 4, 1]})
    >>> wiring = wiring_from_edges(edges, {"1": "Mi1", "2": "Mi1", "9": "T4a"})
    >>> wiring.edges.values.tolist()
    [['Mi1', 'T4a', 11.0, 2]]
    >>> wiring.report[["step", "n_rows"]].values.tolist()
    [['rows of the same pair merged', 1], ['a partner has no type: dropped', 1]]
    """
    _choose("by", by, LEVELS)
    _choose("untyped", untyped, UNTYPED)
    _need(edges, [pre, post, *([] if weight is None else [weight])], "edges")
    table = pd.DataFrame({"pre": edges[pre], "post": edges[post]}).reset_index(drop=True)
    table["n_synapses"] = 1.0 if weight is None else pd.to_numeric(edges[weight]).to_numpy(float, na_value=np.nan)
    bad = ~np.isfinite(table["n_synapses"]) | (table["n_synapses"] < 0)
    if bad.any():
        raise ValueError(
            f"column {weight!r} of the edges has {int(bad.sum())} negative, missing or infinite values, the first in "
            f"row {int(np.flatnonzero(bad)[0])}; correct them, or pass weight=None."
        )
    report: list[dict[str, Any]] = []
    table = _dropped(
        table, without_name(table["pre"]) | without_name(table["post"]), "no id on one side: dropped", report
    )
    for side in ("pre", "post"):
        table[side] = as_names(table[side])
    table = _dropped(table, (table["n_synapses"] == 0).to_numpy(), "no synapse: dropped", report)
    merged = table.groupby(["pre", "post"], sort=False, as_index=False)["n_synapses"].sum()
    _note(report, "rows of the same pair merged", len(table) - len(merged), 0.0, "")
    table = _dropped(
        merged, (merged["n_synapses"] < min_synapses).to_numpy(), "fewer than min_synapses: dropped", report
    )
    notes = _annotated(annotations, id_column, type_column, table, report)
    names = {side: table[side].map(notes["type"]) for side in ("pre", "post")}
    if by == "neuron":
        notes["name"] = notes.index
    else:
        notes["name"] = notes["type"].where(notes["type"] != "", notes.index if untyped == "keep" else "")
        lost = (names["pre"] == "") | (names["post"] == "")
        if untyped == "keep":
            _note(report, "a partner has no type: kept by id", int(lost.sum()), table.loc[lost, "n_synapses"].sum(), "")
        else:
            table = _dropped(table, lost.to_numpy(), "a partner has no type: dropped", report)
    if table.empty:
        raise ValueError("no edge is left; check that the ids of edges and annotations are of the same data set.")
    for side in ("pre", "post"):
        table[side] = table[side].map(notes["name"]).to_numpy(dtype=object)
    pairs = table.groupby(["pre", "post"], sort=False)["n_synapses"]
    found = pd.DataFrame({"n_synapses": pairs.sum(), "n_connections": pairs.size()}).reset_index()
    steps = pd.DataFrame(report, columns=["step", "n_rows", "n_synapses", "example"])
    for row in steps.itertuples():
        logger.info("%s: %d rows, %g synapses", row.step, row.n_rows, row.n_synapses)
    return Wiring(found, notes, steps)


def wiring_from_flywire(
    connections: pd.DataFrame,
    types: pd.DataFrame,
    neurons: pd.DataFrame | None = None,
    *,
    by: str = "type",
    untyped: str = "drop",
    min_synapses: float = 5,
) -> Wiring:
    """Connections from the tables that FlyWire Codex offers for download.

    Parameters
    ----------
    connections
        ``connections*.csv``: ``pre_root_id, post_root_id, neuropil, syn_count``, one row per pair and neuropil. The
        names ``pre_pt_root_id`` and ``post_pt_root_id`` of the archived release are taken too.
    types
        A table with ``root_id`` and at least one column of types: ``primary_type`` (``consolidated_cell_types.csv``),
        ``type`` (``visual_neuron_types.csv``), or ``cell_type`` and ``hemibrain_type`` (the annotations of the
        community, and ``classification.csv`` of older versions). A neuron without a type in one takes that of the next.
    neurons
        ``neurons.csv``, with ``nt_type`` and ``nt_type_score``; they are added to the annotations, for
        :func:`signs_from_predictions`.
    by, untyped
        As in :func:`wiring_from_edges`.
    min_synapses
        Pairs of neurons with fewer synapses, in all neuropils together, are dropped. Codex itself uses 5.

    Returns
    -------
    Wiring
        As :func:`wiring_from_edges` returns it.

    Raises
    ------
    ValueError
        As :func:`wiring_from_edges`, or if ``types`` has none of the columns.

    Examples
    --------
    >>> import pandas as pd
    >>> from flda.circuits import wiring_from_flywire
    >>> connections = pd.DataFrame({"pre_root_id": [1, 1], "post_root_id": 9, "neuropil": ["ME_L", "LO_L"]})
    >>> connections["syn_count"] = [4, 3]
    >>> types = pd.DataFrame({"root_id": [1, 9], "primary_type": ["Mi1", "T4a"]})
    >>> wiring_from_flywire(connections, types).edges.values.tolist()
    [['Mi1', 'T4a', 7.0, 1]]
    """
    columns = [c for c in ("primary_type", "type", "cell_type", "hemibrain_type") if c in types]
    if not columns or "root_id" not in types:
        raise ValueError(
            "types needs the column root_id, and primary_type, type, cell_type or hemibrain_type; it has "
            f"{list(types.columns)}."
        )
    found = types[columns[0]].astype(object)
    for column in columns[1:]:
        found = found.where(~without_name(found), types[column].astype(object))
    notes = types.drop(columns=columns).assign(type=found, root_id=as_names(types["root_id"]))
    connections = connections.rename(columns={f"{s}_pt_root_id": f"{s}_root_id" for s in ("pre", "post")})
    if neurons is not None:
        _need(neurons, ["root_id"], "neurons")
        extra = neurons.assign(root_id=as_names(neurons["root_id"])).drop_duplicates("root_id")
        new = [c for c in extra if c == "root_id" or c not in notes]
        notes = notes.merge(extra[new], on="root_id", how="outer")
    return wiring_from_edges(
        connections, notes, pre="pre_root_id", post="post_root_id", weight="syn_count", id_column="root_id", by=by,
        untyped=untyped, min_synapses=min_synapses,
    )  # fmt: skip


def wiring_from_neuprint(
    neurons: pd.DataFrame,
    connections: pd.DataFrame,
    *,
    by: str = "type",
    untyped: str = "drop",
    min_synapses: float = 0,
) -> Wiring:
    """Connections from the two tables of ``fetch_adjacencies`` of neuprint-python, or from files of the same form.

    Parameters
    ----------
    neurons
        Columns ``bodyId`` and ``type``. Others, such as ``predictedNt`` and ``predictedNtConfidence``, are kept in the
        annotations, for :func:`signs_from_predictions`.
    connections
        Columns ``bodyId_pre, bodyId_post, weight``, and often ``roi``: one row per pair and region.
    by, untyped, min_synapses
        As in :func:`wiring_from_edges`.

    Returns
    -------
    Wiring
        As :func:`wiring_from_edges` returns it.

    Raises
    ------
    ValueError
        As :func:`wiring_from_edges`.

    Examples
    --------
    >>> import pandas as pd
    >>> from flda.circuits import wiring_from_neuprint
    >>> neurons = pd.DataFrame({"bodyId": [1, 9], "type": ["Mi1", "T4a"], "instance": ["Mi1_R", "T4a_R"]})
    >>> connections = pd.DataFrame({"bodyId_pre": [1], "bodyId_post": [9], "roi": ["ME(R)"], "weight": [4]})
    >>> wiring_from_neuprint(neurons, connections, by="neuron").edges.values.tolist()
    [['1', '9', 4.0, 1]]
    """
    return wiring_from_edges(
        connections, neurons, pre="bodyId_pre", post="bodyId_post", weight="weight", id_column="bodyId", by=by,
        untyped=untyped, min_synapses=min_synapses,
    )  # fmt: skip


def _annotated(
    annotations: Any, id_column: str | None, type_column: str, table: pd.DataFrame, report: list[dict[str, Any]]
) -> pd.DataFrame:
    """One row per neuron in the edges, with its type as text; empty if it has none."""
    used = pd.Index(pd.unique(pd.concat([table["pre"], table["post"]])), dtype=object)
    if annotations is None:
        return pd.DataFrame({"type": used}, index=used)
    if isinstance(annotations, (pd.Series, Mapping)):
        annotations = pd.Series(annotations, dtype=object).rename(type_column).to_frame()
        id_column = None
    _need(annotations, [type_column, *([] if id_column is None else [id_column])], "annotations")
    ids = annotations.index if id_column is None else annotations[id_column]
    notes = annotations.drop(columns=[] if id_column is None else [id_column])
    notes = notes.set_axis(as_names(ids)).rename(columns={type_column: "type"})
    missing = without_name(notes["type"])
    notes["type"] = (
        pd.Series(notes["type"].astype(object).to_numpy(), notes.index).where(~missing, "").astype(str).str.strip()
    )
    typed = notes[notes["type"] != ""]
    n_types = typed.groupby(level=0)["type"].nunique()
    if (n_types > 1).any():
        name = n_types.index[n_types > 1][0]
        raise ValueError(
            f"neuron {name!r} has two types in the annotations, {sorted(set(typed.loc[name, 'type']))}; keep one."
        )
    # a typed row comes first, so that it is the one that is kept
    notes = notes.iloc[np.argsort(notes["type"].to_numpy() == "", kind="stable")]
    repeated = notes.index.duplicated()
    _note(
        report,
        "repeated annotations merged",
        int(repeated.sum()),
        0.0,
        str(notes.index[repeated][0]) if repeated.any() else "",
    )
    notes = notes[~repeated].reindex(used)
    notes["type"] = notes["type"].fillna("")
    return notes


def _dropped(table: pd.DataFrame, lost: Any, step: str, report: list[dict[str, Any]]) -> pd.DataFrame:
    """The table without the lost rows, which the report counts."""
    lost = np.asarray(lost, dtype=bool)
    if lost.any():
        first = table[lost].iloc[0]
        _note(
            report,
            step,
            int(lost.sum()),
            float(table.loc[lost, "n_synapses"].sum()),
            f"{first['pre']} -> {first['post']}",
        )
    return table[~lost].reset_index(drop=True)


def _note(report: list[dict[str, Any]], step: str, n_rows: int, n_synapses: float, example: str) -> None:
    if n_rows:
        report.append({"step": step, "n_rows": n_rows, "n_synapses": float(n_synapses), "example": example})


def _need(table: pd.DataFrame, columns: list[str], what: str) -> None:
    missing = [c for c in columns if c not in table]
    if missing:
        raise ValueError(f"{what} lack the columns {missing}; they have {list(table.columns)}.")


def _choose(what: str, value: str, options: tuple[str, ...]) -> None:
    if value not in options:
        raise ValueError(f"{what}={value!r} is unknown; choose one of {', '.join(options)}.")
