"""Where results live in an AnnData: no other file of the package spells these slots.

:class:`Record` reads them. :class:`Step` and :func:`write` write them.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar, overload

import numpy as np
import pandas as pd
from anndata import AnnData

from .._design.effects import SEPARATOR
from .._logging import collect_warnings, get_logger
from .read import AUGMENTED, in_memory
from .storable import plain, storable

logger = get_logger(__name__)

T = TypeVar("T")

FIT, RANK, TESTS = "flda.tl.flda", "flda.tl.rank_genes", "flda.tl.effect_tests"


class Slot(Generic[T]):
    """One field of a :class:`Record`: where it is stored, and which call writes it.

    Parameters
    ----------
    call
        The function that writes the field; the error about a missing field names it.
    where
        ``"uns"``, ``"obs"``, ``"obsm"``, ``"varm"`` or ``"var"``. In ``uns[key]`` a field has its own name.
    name
        Name of the slot elsewhere, with ``{}`` for the key.
    columns
        Property of the record that names the columns of an array.
    fill
        Value for genes that the fit did not use.
    """

    def __init__(self, call: str, where: str = "uns", name: str = "", *, columns: str = "", fill: Any = np.nan):
        self.call, self.where, self.name, self.columns, self.fill = call, where, name, columns, fill

    def __set_name__(self, owner: type, field: str) -> None:
        self.field = field

    @overload
    def __get__(self, record: None, owner: type) -> Slot[T]: ...

    @overload
    def __get__(self, record: Record, owner: type) -> T: ...

    def __get__(self, record: Record | None, owner: type) -> Any:
        if record is None:
            return self
        stored = self.stored(record)
        if self.where == "uns":
            return plain(stored)
        if self.where == "obs":
            return stored
        if self.where == "var":
            return stored[record.genes]
        columns = getattr(record, self.columns)
        if self.where == "obsm":
            return pd.DataFrame(np.asarray(stored), record.adata.obs_names, columns)
        return pd.DataFrame(np.asarray(stored)[record.genes], record.gene_names, columns)

    def stored(self, record: Record) -> Any:
        """What is stored, or an error that names the call to run."""
        if not self.exists(record.adata, record.key):
            raise ValueError(f"adata has no {self.spelled(record.key)}; run {self.call} first.")
        if self.where == "uns":
            return record.adata.uns[record.key][self.field]
        return in_memory(getattr(record.adata, self.where))[self.name.format(record.key)]

    def exists(self, adata: AnnData, key: str) -> bool:
        """Whether anything is stored."""
        if self.where == "uns":
            return self.field in adata.uns.get(key, {})
        return self.name.format(key) in getattr(adata, self.where)

    def spelled(self, key: str) -> str:
        """The slot as a user writes it, such as ``varm['flda_F']``."""
        return f"uns[{key!r}][{self.field!r}]" if self.where == "uns" else f"{self.where}[{self.name.format(key)!r}]"

    def put(self, adata: AnnData, key: str, value: Any, genes: np.ndarray | None) -> None:
        """Store a value; one by gene has a row for each of ``genes``, a boolean array over the genes of ``adata``."""
        if self.where == "uns":
            adata.uns[key][self.field] = value
            return
        if self.where == "obs":
            value = pd.Series(value, index=adata.obs_names)
        elif self.where != "obsm":
            rows = np.asarray(value)
            value = np.full((adata.n_vars, *rows.shape[1:]), self.fill, dtype=rows.dtype)
            value[genes] = rows
        getattr(adata, self.where)[self.name.format(key)] = value

    def drop(self, adata: AnnData, key: str) -> None:
        """Remove what is stored."""
        if self.exists(adata, key):
            if self.where == "uns":
                del adata.uns[key][self.field]
            else:
                del getattr(adata, self.where)[self.name.format(key)]


class Record:
    """The results of :func:`flda.tl.flda` and of later steps, read from an AnnData.

    Tables and parameters come as they were written, whatever a file format has made of them. Values by gene have a row
    for every gene of the fit, with the gene names as index; scores have a row for every cell. A field that has not been
    computed raises a ValueError that names the call to run; ``"certificate" in record`` says whether it has been.

    Parameters
    ----------
    adata
        With the results of :func:`flda.tl.flda`.
    key
        The ``key_added`` of the fit.
    """

    params = Slot[dict[str, Any]](FIT)
    axes = Slot[pd.DataFrame](FIT)
    design = Slot[pd.DataFrame](FIT)
    estimability = Slot[pd.DataFrame](FIT)
    effects = Slot[list[str]](FIT)
    fit = Slot[dict[str, Any]](FIT)
    variance = Slot[pd.DataFrame](FIT)
    contrasts = Slot[dict[str, dict[str, Any]]](FIT)
    versions = Slot[dict[str, str]](FIT)
    groups = Slot[pd.Series](FIT, "obs", "{}_group")
    scores = Slot[pd.DataFrame](FIT, "obsm", "X_{}", columns="axis_names")
    loadings = Slot[pd.DataFrame](FIT, "varm", "{}", columns="axis_names", fill=0.0)
    patterns = Slot[pd.DataFrame](FIT, "varm", "{}_pattern", columns="axis_names")
    F = Slot[pd.DataFrame](FIT, "varm", "{}_F", columns="effects")
    within_sd = Slot[pd.Series](FIT, "var", "{}_within_sd")
    centre = Slot[pd.Series](FIT, "var", "{}_centre")
    prediction = Slot[dict[str, Any]](FIT)
    discriminants = Slot[pd.DataFrame](FIT, "varm", "{}_discriminants", columns="group_names", fill=0.0)

    selection = Slot[dict[str, Any]](RANK)
    candidates = Slot[pd.Series](RANK, "var", "{}_candidates", fill=False)
    sparse_axes = Slot[pd.DataFrame](RANK)
    sparse_loadings = Slot[pd.DataFrame](RANK, "varm", "{}_sparse", columns="sparse_axis_names", fill=0.0)
    sparse_patterns = Slot[pd.DataFrame](RANK, "varm", "{}_sparse_pattern", columns="sparse_axis_names")
    gene_report = Slot[pd.DataFrame](RANK)

    tests = Slot[dict[str, Any]](TESTS)
    pval = Slot[pd.DataFrame](TESTS, "varm", "{}_pval", columns="effects_with_axes")
    pval_adj = Slot[pd.DataFrame](TESTS, "varm", "{}_pval_adj", columns="effects_with_axes")
    pval_max = Slot[pd.DataFrame](TESTS, "varm", "{}_pval_max", columns="effects_with_axes")

    gene_sets = Slot[dict[str, Any]]("flda.tl.gene_sets")
    certificate = Slot[pd.DataFrame]("flda.tl.certify")
    stability = Slot[dict[str, Any]]("flda.tl.stability")
    path = Slot[pd.DataFrame]("flda.tl.path")
    scale_check = Slot[dict[str, Any]]("flda.tl.scale_check")
    penalties = Slot[dict[str, Any]]("flda.tl.choose_penalty")
    held_out_scores = Slot[pd.DataFrame]("flda.tl.held_out_scores", "obsm", "X_{}_held_out", columns="axis_names")
    connectivity = Slot[dict[str, Any]]("flda.circuits.link_axes")
    warnings = Slot[dict[str, list[str]]](FIT)

    def __init__(self, adata: AnnData, key: str = "flda"):
        if key not in adata.uns:
            raise ValueError(f"adata.uns has no {key!r}; run flda.tl.flda first, or give the key_added of the fit.")
        if not is_fit(adata.uns[key]):
            raise ValueError(f"adata.uns[{key!r}] was not written by flda.tl.flda; give the key_added of a fit.")
        self.adata, self.key = adata, key

    def __contains__(self, field: str) -> bool:
        return SLOTS[field].exists(self.adata, self.key)

    @property
    def genes(self) -> np.ndarray:
        """Which genes of ``adata`` the fit used, a boolean array."""
        return Record.within_sd.stored(self).notna().to_numpy()

    @property
    def gene_names(self) -> pd.Index:
        """Names of the genes that the fit used."""
        return self.adata.var_names[self.genes]

    @property
    def axis_names(self) -> list[str]:
        """Names of the axes of all genes."""
        return self.axes["axis"].tolist()

    @property
    def group_names(self) -> list[str]:
        """The levels of every group of the fit, joined by a colon."""
        occupied = self.design[self.design["n_cells"] > 0].drop(columns="n_cells")
        return occupied.astype(str).agg(SEPARATOR.join, axis=1).tolist()

    @property
    def sparse_axis_names(self) -> list[str]:
        """Names of the axes of the selected genes."""
        return self.sparse_axes["axis"].tolist()

    @property
    def effects_with_axes(self) -> list[str]:
        """All effects of the fit but the nuisance effects."""
        return self.axes["effect"].drop_duplicates().tolist()

    def rivals(self, effect: str) -> list[str]:
        """The effects that an effect, or a named contrast, is compared with, itself first."""
        named = self.contrasts if "contrasts" in self else {}
        if effect in named:
            return [effect, *named[effect]["others"]]
        return [effect, *(e for e in self.effects if e != effect and e not in named)]

    def factors_of(self, effect: str) -> list[str]:
        """The factors of an effect, without the parts of numeric factors; for a named contrast, those that it names."""
        if "contrasts" in self and effect in self.contrasts:
            items = self.params["contrasts"][effect].values()
            named = {f for item in items for f in item["levels"]}
            return [f for f in (*self.params["factors"], *self.params["nuisance"]) if f in named]
        numeric = self.params.get("numeric") or ()
        parts = [name.rpartition(".") for name in effect.split(SEPARATOR)]
        return [head if dot and head in numeric else head + dot + tail for head, dot, tail in parts]

    @property
    def frequency(self) -> pd.DataFrame:
        """Share of the resamples that select each gene (rows) for each effect (columns)."""
        genes = self.stability["genes"]
        return pd.DataFrame(
            {
                effect: part.set_index("gene")["frequency"].reindex(self.gene_names, fill_value=0.0)
                for effect, part in genes.groupby("effect", sort=False, observed=True)
            },
            index=self.gene_names,
        )


SLOTS: dict[str, Slot] = {name: slot for name, slot in vars(Record).items() if isinstance(slot, Slot)}
ABOUT_SELECTION = ("certificate", "stability")  # what a new selection makes stale
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
    the one before.

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
        for step in ("certify", "stability"):
            adata.uns[key].get("warnings", {}).pop(step, None)
    if genes is None and any(SLOTS[name].where in ("var", "varm") for name in fields):
        genes = Record(adata, key).genes
    for name, value in fields.items():
        SLOTS[name].put(adata, key, value, genes)
    adata.uns.update(rankings)
    if rankings or IN_RANKINGS & set(fields):
        _complete_rankings(Record(adata, key))
    return [*(SLOTS[name].spelled(key) for name in fields), *(f"uns[{name!r}]" for name in rankings)]


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
    """

    def __init__(self, name: str, adata: AnnData, key: str, copy: bool = False):
        self._start = time.perf_counter()
        check_name(key)
        if adata.isbacked and (copy or adata.is_view):
            part = "a copy" if copy else "a part"
            raise ValueError(f"{part} of a backed AnnData cannot hold results; call adata.to_memory() first.")
        self._name, self._key, self._copy, self._adata = name, key, copy, adata
        self._written: list[str] = []
        self._warnings = collect_warnings()

    def put(self, **fields: Any) -> AnnData:
        """Store fields, with the arguments of :func:`write`; returns the AnnData that holds them."""
        if self._copy and not self._written:
            self._adata = self._adata.copy()
        self._written += write(self._adata, self._key, **fields)
        if is_fit(self._adata.uns.get(self._key)):
            add_warnings(self._adata, self._key, self._name, self._warnings)
        return self._adata

    def write(self, summary: str = "", **fields: Any) -> AnnData | None:
        """Store fields and log one line, which starts with ``summary``; returns the copy if one was asked for."""
        self.put(**fields)
        return self._log(summary)

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

    def _log(self, summary: str) -> AnnData | None:
        seconds = time.perf_counter() - self._start
        logger.info("%s: %swrote %s (%.1f s)", self._name, summary, ", ".join(self._written), seconds)
        return self._adata if self._copy else None


def add_warnings(adata: AnnData, key: str, step: str, messages: Iterable[str]) -> None:
    """Store the warnings of a step with the results, in place of those of an earlier run of the step."""
    record = Record(adata, key)
    stored = record.warnings if "warnings" in record else {}
    write(adata, key, warnings={**stored, step: list(messages)})


def is_fit(value: Any) -> bool:
    """Whether an entry of ``uns`` holds the results of :func:`flda.tl.flda`."""
    return isinstance(value, Mapping) and {"params", "axes", "fit"} <= set(value)


def check_name(name: str) -> None:
    """Refuse a key that a file cannot hold."""
    if not isinstance(name, str) or not name or "/" in name:
        raise ValueError(f"the key {name!r} cannot be stored in a file; give a text without a slash.")


def prediction_name(key: str, factor: str) -> str:
    """Name of the predictions of a factor in ``obs`` and ``obsm``."""
    name = f"{key}_{factor}"
    check_name(name)
    if name == AUGMENTED:
        raise ValueError(f"obs[{name!r}] marks simulated cells; fit the reference with another key_added.")
    if factor == "group":
        raise ValueError(f"obs[{name!r}] holds the groups of a fit; rename the factor 'group' in the reference.")
    return name


def check_storable(params: Mapping[str, Any]) -> None:
    """Refuse parameters that cannot be stored with the results."""
    for name, value in params.items():
        try:
            storable(value)
        except TypeError as error:
            raise ValueError(f"{name}={value!r} cannot be used: {error}. Give text, numbers or None.") from None


def check_new_fit(adata: AnnData, key: str, columns: Iterable[str | None] = ()) -> None:
    """Refuse a key under which a fit would replace what is not its own; ``columns`` of obs are those that it reads."""
    if Record.groups.name.format(key) in columns:
        raise ValueError(
            f"the fit would write into {Record.groups.spelled(key)}, which it reads; give another key_added."
        )
    if key in adata.uns and not is_fit(adata.uns[key]):
        raise ValueError(f"adata.uns[{key!r}] holds something that flda.tl.flda did not write; give another key_added.")
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


def check_new_ranking(adata: AnnData, name: str) -> None:
    """Refuse the name of a ranking that would replace a fit."""
    check_name(name)
    if is_fit(adata.uns.get(name)):
        raise ValueError(f"key_added={name!r} would replace the results of flda.tl.flda; give another name.")


def rankings_of(adata: AnnData, key: str) -> list[str]:
    """Names in ``uns`` of the rankings in scanpy's form that were made from a fit."""
    params = {name: value.get("params") for name, value in adata.uns.items() if isinstance(value, Mapping)}
    return [
        name
        for name, p in params.items()
        if isinstance(p, Mapping) and (p.get("method"), p.get("key")) == ("flda", key)
    ]


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


def _drop(adata: AnnData, key: str, names: Iterable[str]) -> None:
    for name in names:
        SLOTS[name].drop(adata, key)
