"""Results are written into an AnnData: :class:`Step` and :func:`write`."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from .._design.effects import SEPARATOR
from .._logging import get_logger, listen, said_before
from .keys import OWN, check_adata, check_name, check_seed, check_writable, is_fit, prediction_name, ranking_params
from .read import in_memory
from .record import SLOTS, Record
from .storable import storable

logger = get_logger(__name__)


ABOUT_SELECTION = ("certificate", "stability")  # what a new selection makes stale
ABOUT_PANEL = ("certificate",)  # what a new panel makes stale
IN_RANKINGS = {"pval", "pval_adj", "stability"}  # what the rankings in scanpy's form repeat


def write(
    adata: AnnData,
    key: str,
    *,
    genes: np.ndarray | None = None,
    rankings: Mapping[str, Any] | None = None,
    **fields: Any,
) -> list[str]:
    """Store fields of a :class:`Record`.

    A view is made actual first, so that its parent stays as it is. A new fit (the field ``params``) removes all that
    is stored under its key and the rankings made from it. A new selection removes the certificate and the stability of
    the one before, and a new panel the certificate.

    Parameters
    ----------
    adata
        Where to write.
    key
        The ``key_added`` of the fit.
    genes
        The genes that values by gene have rows for, a boolean array; by default those of the fit in ``adata``.
    rankings
        Name in ``uns`` -> results in the form of ``scanpy.tl.rank_genes_groups``. Their p-values and frequencies are
        filled in now, and again whenever they are computed later.
    fields
        Values, by the name of the field.

    Returns
    -------
    The slots that were written, as a user writes them.
    """
    fields = {name: storable(value) if SLOTS[name].where == "uns" else value for name, value in fields.items()}
    rankings = {name: {**of, "params": storable(of["params"])} for name, of in (rankings or {}).items()}
    _make_actual(adata)
    if "params" in fields:
        for name in rankings_of(adata, key):
            del adata.uns[name]
        _drop(adata, key, SLOTS)
        adata.uns[key] = {}
    elif "selection" in fields:
        _drop(adata, key, ABOUT_SELECTION)
        _forget(adata, key, "certify", "stability")
    elif "panel" in fields:
        _drop(adata, key, ABOUT_PANEL)
        _forget(adata, key, "certify")
    if genes is None and any(SLOTS[name].where in ("var", "varm") for name in fields):
        genes = Record(adata, key).genes
    for name, value in fields.items():
        SLOTS[name].put(adata, key, value, genes)
    adata.uns.update(rankings)
    if rankings or IN_RANKINGS & set(fields):
        _complete_rankings(Record(adata, key))
    return [*(SLOTS[name].spelled(key) for name in fields), *(f"uns[{name!r}]" for name in rankings)]


def check_new_table(adata: AnnData, name: str) -> None:
    """Refuse the name in ``uns`` of a table that would replace a fit, or another tool's results."""
    check_name(name)
    if name in adata.uns and not isinstance(adata.uns[name], pd.DataFrame):
        raise ValueError(f"adata.uns[{name!r}] holds something else than a table; give another key_added.")


def write_table(adata: AnnData, name: str, table: pd.DataFrame) -> None:
    """Store a table that belongs to no fit in ``uns``."""
    _make_actual(adata)
    adata.uns[name] = table.copy()


def write_parameters(adata: AnnData, name: str, params: Mapping[str, Any]) -> None:
    """Store the parameters of a step that belongs to no fit in ``uns``."""
    _make_actual(adata)
    adata.uns[name] = storable(params)


def predictions(adata: AnnData, key: str, factor: str) -> tuple[pd.Categorical, np.ndarray]:
    """The predicted level of every cell, and the probability of every level, from :func:`flda.tl.predict`."""
    name = prediction_name(key, factor)
    return in_memory(adata.obs)[name].array, np.asarray(adata.obsm[name])


class Step:
    """One step of an analysis: checks before the work that results can be stored, and stores them after it.

    Parameters
    ----------
    name
        Name of the function, for the log.
    adata
        Where the results go.
    key
        The ``key_added`` of the fit.
    copy
        Whether the results go into a copy, which :meth:`write` returns.
    random_state
        The seed of the step, which is stored with its results.
    """

    def __init__(self, name: str, adata: AnnData, key: str, copy: bool = False, random_state: int | None = None):
        self._start = time.perf_counter()
        check_adata(adata)
        check_name(key)
        check_writable(adata, copy=copy)
        check_seed(random_state)
        self._heard = listen()
        self._name, self._key, self._copy, self._adata = name, key, copy, adata
        self._written: list[str] = []

    def refit(self) -> AbstractContextManager[None]:
        """Within, the step fits again what the fit has fitted, and does not repeat the warnings of other steps."""
        warned = self._adata.uns[self._key].get("warned", {})
        return said_before(text for name, texts in warned.items() if name != self._name for text in texts)

    def put(self, **fields: Any) -> AnnData:
        """Store fields, with the arguments of :func:`write`; returns the AnnData that holds them."""
        if self._copy and not self._written:
            self._adata = self._adata.copy()
        self._written += write(self._adata, self._key, **fields)
        self._keep_warnings()
        return self._adata

    def write(self, summary: str = "", **fields: Any) -> AnnData | None:
        """Store fields and log one line, which starts with ``summary``; returns the copy if one was asked for."""
        self.put(**fields)
        return self._log(summary)

    def write_layer(self, name: str, matrix: Any, **fields: Any) -> AnnData | None:
        """Store a layer, and fields as in :meth:`put`; returns the copy if one was asked for."""
        self.put(**fields)
        self._adata.layers[name] = matrix
        self._written.append(f"layers[{name!r}]")
        return self._log("")

    def write_predictions(self, found: Mapping[str, tuple[pd.Categorical, np.ndarray]]) -> AnnData | None:
        """Store the level of every cell, and the probability of every level, by factor; returns the copy if any."""
        self._adata = adata = self._adata.copy() if self._copy else self._adata
        _make_actual(adata)
        for factor, (levels, probabilities) in found.items():
            name = prediction_name(self._key, factor)
            adata.obs[name] = pd.Series(levels, index=adata.obs_names)
            adata.obsm[name] = probabilities
            self._written += [f"obs[{name!r}]", f"obsm[{name!r}]"]
        return self._log("")

    def _keep_warnings(self) -> None:
        """Store the warnings of this step in place of those of the same step before."""
        results = self._adata.uns.get(self._key)
        if not is_fit(results):  # scores of new cells
            return
        warned = {name: texts for name, texts in results.get("warned", {}).items() if name != self._name}
        if self._heard or len(warned) < len(results.get("warned", {})):
            results["warned"] = {**warned, **({self._name: list(self._heard)} if self._heard else {})}

    def _log(self, summary: str) -> AnnData | None:
        seconds = time.perf_counter() - self._start
        logger.info("%s: %swrote %s (%.1f s)", self._name, summary, ", ".join(self._written), seconds)
        return self._adata if self._copy else None


def check_new_layer(record: Record, name: str) -> None:
    """Refuse the name of a layer that the fit has not written."""
    check_name(name)
    known = record.counterfactuals if "counterfactuals" in record else {}
    if name in record.adata.layers and name not in known:
        raise ValueError(
            f"layers[{name!r}] was not written by flda.tl.counterfactual for this fit; give another layer_added, or "
            f"remove it first: del adata.layers[{name!r}]."
        )


def check_new_fit(adata: AnnData, key: str, columns: Iterable[str | None] = ()) -> None:
    """Refuse a key under which a fit would replace what is not its own; ``columns`` of obs are those that it reads."""
    if Record.groups.name.format(key) in columns:
        raise ValueError(
            f"the fit would write into {Record.groups.spelled(key)}, which it reads; give another key_added."
        )
    if key in adata.uns and not is_fit(adata.uns[key]):
        raise ValueError(f"adata.uns[{key!r}] holds something that flda.tl.flda did not write; give another key_added.")
    if key not in adata.uns and not key.startswith(OWN):
        # under a key of our own these are what is left of an earlier fit, for example after a concatenation
        for taken in (slot for slot in SLOTS.values() if slot.where != "uns" and slot.exists(adata, key)):
            raise ValueError(
                f"{taken.spelled(key)} is there already, and flda.tl.flda would replace it; give another key_added, or "
                "delete it first."
            )
    own = {slot.spelled(key) for slot in SLOTS.values()}
    for other in [name for name, value in adata.uns.items() if name != key and is_fit(value)]:
        shared = own & {slot.spelled(other) for slot in SLOTS.values()}
        if shared:
            raise ValueError(f"key_added={key!r} would share {min(shared)} with the fit {other!r}; give another name.")


def check_same_fit(adata: AnnData, record: Record) -> None:
    """Refuse scores of a fit for an AnnData that holds another fit under the same key."""
    if is_fit(adata.uns.get(record.key)) and not Record(adata, record.key).axes.equals(record.axes):
        raise ValueError(
            f"adata holds a fit of its own under the key {record.key!r}, with other axes; fit the reference with "
            "another key_added."
        )


def rankings_of(adata: AnnData, key: str) -> list[str]:
    """Names in ``uns`` of the rankings in scanpy's form that were made from a fit."""
    params = {name: ranking_params(value) for name, value in adata.uns.items()}
    return [name for name, p in params.items() if p is not None and p.get("key") == key]


def scanpy_name(axis: str) -> str:
    """The axis as a field of scanpy's records, in which zarr allows no colon."""
    return axis.replace(SEPARATOR, " x ")


def _complete_rankings(record: Record) -> None:
    """Write what is known of p-values and frequencies into the rankings in scanpy's form."""
    effects = dict(zip(map(scanpy_name, record.axis_names), record.axes["effect"], strict=True))
    for name in rankings_of(record.adata, record.key):
        ranking = dict(record.adata.uns[name])
        tables: dict[str, pd.DataFrame | None] = {"pvals": None, "pvals_adj": None}
        if "pval" in record:
            tables = {"pvals": record.pval, "pvals_adj": record.pval_adj}
        # a ranking of an earlier selection keeps the frequencies that it has
        if "stability" in record and record.selection["key_added"] == name:
            tables["frequencies"] = record.frequency
        for column, table in tables.items():
            fields = {
                field: np.full(len(ranking["names"]), np.nan)
                if table is None or effects.get(field) not in table  # groups have no p-values
                else table[effects[field]].reindex(ranking["names"][field]).to_numpy()
                for field in ranking["names"].dtype.names
            }
            ranking[column] = pd.DataFrame(fields).to_records(index=False, column_dtypes="float64")
        record.adata.uns[name] = ranking


def _make_actual(adata: AnnData) -> None:
    """Make a view an AnnData of its own, which shares no dictionary with its parent."""
    if adata.is_view:
        adata.uns = copy.deepcopy(dict(adata.uns))


def _forget(adata: AnnData, key: str, *steps: str) -> None:
    """Remove what these steps have warned of."""
    warned = adata.uns[key].get("warned", {})
    for name in set(steps) & set(warned):
        del warned[name]


def _drop(adata: AnnData, key: str, names: Iterable[str]) -> None:
    for name in names:
        SLOTS[name].drop(adata, key)
