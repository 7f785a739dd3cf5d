"""A fit read back from an AnnData."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from .. import get
from .._data.device import NoDevice, require
from .._logging import get_logger, quiet
from ..estimators import SparseFLDA
from . import read
from .results import Keys

logger = get_logger(__name__)


@dataclass(frozen=True)
class Fitted:
    """What :func:`flda.tl.flda` fitted: expression of the labelled cells, and the parameters of the estimator.

    ``cells`` and ``genes`` are boolean, over those of the AnnData.
    """

    X: Any
    labels: pd.DataFrame
    donors: np.ndarray | None
    cells: np.ndarray
    genes: np.ndarray
    params: dict[str, Any]
    shrinkage: float

    @classmethod
    def read(cls, adata: AnnData, key: str, *, evidence: bool = True) -> Fitted:
        """From the results in ``adata``. What says how far to believe a fit needs ``evidence``: real cells only."""
        results = get.results(adata, key)
        made = read.augmented(adata)
        if evidence and made.any():
            raise ValueError(
                f"{made.sum()} of {len(made)} cells are simulated (obs[{read.AUGMENTED!r}]) and are no evidence: "
                f"fit the real cells, adata[~adata.obs[{read.AUGMENTED!r}]], or score real cells that were kept "
                "out of the augmentation with flda.tl.transform."
            )
        params = read.plain(results["params"])
        device = _device_of(params)
        with quiet():
            cells = read.read_cells(
                adata, params["factors"], params["nuisance"], params["donor"], params["layer"], device
            )
        genes = read.in_memory(adata.var)[Keys(key).var_sd].notna().to_numpy()
        rows = cells.labelled
        X = cells.X if rows.all() else cells.X[rows]
        donors = None if cells.donors is None else cells.donors[rows].to_numpy()
        return cls(
            X if genes.all() else X[:, genes], cells.labels[rows], donors, rows, genes, params,
            float(results["fit"]["shrinkage"]),
        )  # fmt: skip

    def options(self) -> dict[str, Any]:
        """Arguments of the estimator, with the shrinkage setting, not its value."""
        return {
            "interactions": self.params["interactions"],
            "nuisance": self.params["nuisance"],
            "n_components": self.params["n_comps"],
            "penalty": self.params["penalty"],
            "shrinkage": self.params["shrinkage"],
            "random_state": self.params["random_state"],
        }

    def sparse(self, selection: dict[str, Any], **options: Any) -> SparseFLDA:
        """The estimator of :func:`flda.tl.rank_genes`."""
        return SparseFLDA(
            n_genes=selection["n_genes"],
            mode=selection["mode"],
            candidates=np.asarray(selection["candidates"], dtype=bool)[self.genes],
            **{**self.options(), **options},
        )


def _device_of(params: dict[str, Any]) -> str:
    """The device of the fit if it is here: results of a machine with a GPU may be read on one without."""
    device = params.get("device", "cpu")
    try:
        require(device)
    except (ImportError, NoDevice) as error:
        logger.warning("this fit was made on a GPU; the CPU goes on (%s)", error)
        return "cpu"
    return device


def selection_of(adata: AnnData, key: str) -> dict[str, Any] | None:
    """Parameters of the last :func:`flda.tl.rank_genes`, or None."""
    found = get.results(adata, key).get("selection")
    if found is None:
        return None
    candidates = np.asarray(found["candidates"], dtype=bool)
    return {**read.plain({k: v for k, v in found.items() if k != "candidates"}), "candidates": candidates}
