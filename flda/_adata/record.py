"""Where results live in an AnnData, and how they are read: :class:`Record`.

No other file of the package spells these slots.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar, overload

import numpy as np
import pandas as pd
from anndata import AnnData

from .._design.effects import SEPARATOR
from . import identity
from .keys import check_adata, is_fit
from .read import in_memory
from .storable import plain

T = TypeVar("T")

FIT, RANK, TESTS, PANEL = "flda.tl.flda", "flda.tl.rank_genes", "flda.tl.effect_tests", "flda.tl.panel"


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
        if self.where == "obs":  # older versions of anndata read the categories of a lazy table as text
            return stored if isinstance(stored.dtype, pd.CategoricalDtype) else stored.astype("category")
        if self.where == "var":
            return stored[record.genes]
        columns, values = getattr(record, self.columns), np.asarray(stored)
        if values.ndim != 2 or values.shape[1] != len(columns):
            raise ValueError(f"{self.spelled(record.key)} is not of this fit; fit again with flda.tl.flda.")
        if self.where == "obsm":
            if self.field == "scores":
                record.check_scores(values)
            return pd.DataFrame(values, record.adata.obs_names, columns)
        return pd.DataFrame(values[record.genes], record.gene_names, columns)

    def stored(self, record: Record) -> Any:
        """What is stored, or an error that names the call to run."""
        if not self.exists(record.adata, record.key):
            if self.call != FIT and self.where in ("var", "varm"):
                Record.within_sd.stored(record)  # of a fit that lost its genes, the fit is what is missing
            if self.call == FIT and self.where != "uns":
                raise ValueError(
                    f"adata.uns[{record.key!r}] describes a fit, but {self.spelled(record.key)} is not there, as after "
                    "raw.to_adata() or anndata.concat; fit again with flda.tl.flda."
                )
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

    panel = Slot[dict[str, Any]](PANEL)
    panel_cost = Slot[pd.Series](PANEL, "var", "{}_panel_cost")
    panel_loadings = Slot[pd.DataFrame](PANEL, "varm", "{}_panel", columns="panel_axis_names", fill=0.0)

    gene_sets = Slot[dict[str, Any]]("flda.tl.gene_sets")
    certificate = Slot[pd.DataFrame]("flda.tl.certify")
    stability = Slot[dict[str, Any]]("flda.tl.stability")
    path = Slot[pd.DataFrame]("flda.tl.path")
    scale_check = Slot[dict[str, Any]]("flda.tl.scale_check")
    penalties = Slot[dict[str, Any]]("flda.tl.choose_penalty")
    counterfactuals = Slot[dict[str, Any]]("flda.tl.counterfactual")
    counterfactual_certificate = Slot[pd.DataFrame]("flda.tl.certify_counterfactual")
    held_out_scores = Slot[pd.DataFrame]("flda.tl.held_out_scores", "obsm", "X_{}_held_out", columns="axis_names")
    connectivity = Slot[dict[str, Any]]("flda.circuits.link_axes")
    warned = Slot[dict[str, list[str]]](FIT)
    identity = Slot[dict[str, Any]](FIT)
    scored = Slot[np.ndarray](FIT)

    def __init__(self, adata: AnnData, key: str = "flda"):
        check_adata(adata)
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
    def panel_axis_names(self) -> list[str]:
        """Names of the axes of the panel."""
        return self.panel["axes"]["axis"].tolist()

    @property
    def effects_with_axes(self) -> list[str]:
        """All effects of the fit but the nuisance effects."""
        return self.axes["effect"].drop_duplicates().tolist()

    @property
    def warnings(self) -> list[str]:
        """What the fit and all later steps have warned of."""
        steps = self.warned if "warned" in self else {}
        return list(dict.fromkeys(text for texts in steps.values() for text in texts))

    def check_scores(self, scores: np.ndarray) -> None:
        """Refuse scores that are not those of this fit; cells may be fewer and in another order."""
        known = np.asarray(SLOTS["scored"].stored(self), dtype=np.uint64)
        foreign = ~np.isin(identity.cell_hashes(self.adata.obs_names, scores), known)
        if foreign.any():
            raise ValueError(
                f"the scores of {foreign.sum()} of {len(foreign)} cells in {SLOTS['scores'].spelled(self.key)} are not "
                "of the fit that uns describes, as after anndata.concat of several fits; fit again with flda.tl.flda."
            )

    def check_genes(self) -> None:
        """Refuse an AnnData that lacks genes of the fit; their order does not matter."""
        then, now = self.identity, len(self.gene_names)
        if now != then["n_genes"]:
            raise ValueError(
                f"the fit used {then['n_genes']} genes, of which {now} are left; fit again with flda.tl.flda, or use "
                "the AnnData with all genes."
            )

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
