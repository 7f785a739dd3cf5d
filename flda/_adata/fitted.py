"""A fit read back from an AnnData, ready to be fitted again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from .._design.contrasts import stored_contrasts
from ..estimators import FLDA, PanelFLDA, SparseFLDA
from . import identity, read
from .record import Record

# the parameters of the estimator that flda.tl.flda passes on
OPTIONS = (
    "interactions", "nuisance", "numeric", "contrasts", "n_components", "objective", "penalty", "lack_of_fit",
    "weights", "reliability", "group_means", "error", "shrinkage", "random_state",
)  # fmt: skip


@dataclass(frozen=True)
class Fitted:
    """The cells that :func:`flda.tl.flda` fitted, and estimators with its parameters.

    Attributes
    ----------
    record
        The results of the fit and of later steps.
    X
        Expression of the fitted cells in the genes of the fit.
    labels, donors
        Labels of the design and donors of these cells; donors are None if the fit had none.
    cells
        Which cells of the AnnData these are, a boolean array.
    """

    record: Record
    X: Any
    labels: pd.DataFrame
    donors: np.ndarray | None
    cells: np.ndarray

    @classmethod
    def read(cls, adata: AnnData, key: str, *, real_cells_only: bool = True) -> Fitted:
        """Read the fit from ``adata``.

        Parameters
        ----------
        adata
            With the results of :func:`flda.tl.flda`.
        key
            The ``key_added`` of the fit.
        real_cells_only
            Refuse a fit with simulated cells. Whatever measures how far a fit can be trusted needs real cells.
        """
        record = Record(adata, key)
        simulated = read.augmented(adata)
        if real_cells_only and simulated.any():
            raise ValueError(
                f"{simulated.sum()} of {len(simulated)} cells are simulated (obs[{read.AUGMENTED!r}]) and cannot be "
                f"used to test a fit. Fit the real cells, adata[~adata.obs[{read.AUGMENTED!r}]], or score real cells "
                "that took no part in the augmentation with flda.tl.transform."
            )
        params = record.params
        record.check_genes()
        cells = read.read_cells(
            adata, params["factors"], params["nuisance"], params["donor"], params["layer"], record.genes,
            params["device"], weights=read.weights_column(adata, params["weights"]), again=True,
        )  # fmt: skip
        X, labels, donors = cells.of(cells.labelled)
        now = identity.describe(
            cells.names, cells.columns(), cells.labelled, cells.genes, identity.project(X, cells.genes)
        )
        if changed := identity.difference(record.identity, now, read.matrix_name(params["layer"])):
            raise ValueError(f"{changed}; fit again with flda.tl.flda.")
        return cls(record, X, labels, donors, cells.labelled)

    @property
    def shrinkage(self) -> float:
        """The shrinkage that the fit used."""
        return float(self.record.fit["shrinkage"])

    def dense(self, **options: Any) -> FLDA:
        """The estimator of :func:`flda.tl.flda`, with its shrinkage setting unless ``options`` give another."""
        return FLDA(**{**self._options(), **options})

    def sparse(self, **options: Any) -> SparseFLDA:
        """The estimator of :func:`flda.tl.rank_genes`: its last selection unless ``options`` give another."""
        if "n_genes" not in options:
            selection = self.record.selection
            options |= {name: selection[name] for name in ("n_genes", "mode")}
            options["candidates"] = self.record.candidates.to_numpy()
        return SparseFLDA(**{**self._options(), **options})

    def panel(self, **options: Any) -> PanelFLDA:
        """The estimator of :func:`flda.tl.panel`: its last panel unless ``options`` give another."""
        if "n_genes" not in options:
            params, cost = self.record.panel["params"], self.record.panel_cost.to_numpy()
            options |= {name: params[name] for name in ("n_genes", "effects", "min_per_axis", "budget")}
            options |= panel_options(self.record.gene_names, params["include"], cost, params["budget"])
        return PanelFLDA(**{**self._options(), **options})

    def _options(self) -> dict[str, Any]:
        stored = {name: value for name, value in self.record.params.items() if name in OPTIONS}
        contrasts = stored_contrasts(stored.get("contrasts"))
        if contrasts is not None:  # a file does not keep their order
            contrasts = {name: contrasts[name] for name in self.record.effects if name in contrasts}
        return {**stored, "contrasts": contrasts}


def panel_options(names: pd.Index, include: Sequence[str], cost: np.ndarray, budget: float | None) -> dict[str, Any]:
    """Options of :class:`PanelFLDA` from names of genes and from costs, NaN for genes that may not be chosen."""
    known = np.isfinite(cost)
    return {
        "include": names.get_indexer(list(include)),
        "candidates": known,
        "cost": None if budget is None else np.where(known, cost, 1.0),
    }
