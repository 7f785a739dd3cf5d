"""What a fit needs from an AnnData, or one sentence about what is wrong with it."""

from __future__ import annotations

import contextlib
import difflib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from .._data import arrays
from .._data.device import OnDevice, require, wrap
from .._data.summary import NonFiniteError
from .._logging import get_logger

logger = get_logger(__name__)

AUGMENTED = "flda_augmented"  # obs column that marks the cells of flda.pp.augment


def labels(adata: AnnData, columns: Sequence[str]) -> pd.DataFrame:
    """Columns of ``obs``; suggests near names for one that is missing."""
    obs = in_memory(adata.obs)
    for name in columns:
        if name not in obs:
            near = difflib.get_close_matches(str(name), [str(c) for c in obs.columns], n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"it has {list(obs.columns)}."
            raise ValueError(f"obs has no column {name!r}; {hint}")
    if len(set(columns)) < len(columns):
        raise ValueError(f"a column is named twice in {list(columns)}.")
    return obs[list(columns)]


def in_memory(table: Any) -> pd.DataFrame:
    """``obs`` or ``var`` as a DataFrame; of a lazily read AnnData it is on disk yet."""
    return table.to_memory() if hasattr(table, "to_memory") else table


def augmented(adata: AnnData) -> np.ndarray:
    """Which cells :func:`flda.pp.augment` made, (N,) boolean; a cell that was joined later without a mark is real."""
    obs = in_memory(adata.obs)
    if AUGMENTED not in obs:
        return np.zeros(adata.n_obs, dtype=bool)
    return obs[AUGMENTED].isin([True, "True", 1]).to_numpy()


def plain(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as they were written, after a file format has turned lists into arrays and numbers into NumPy's."""
    out = {}
    for name, value in params.items():
        if isinstance(value, Mapping):
            value = plain(value)
        elif isinstance(value, np.ndarray):
            value = value.tolist()
        elif isinstance(value, np.generic):
            value = value.item()
        out[name] = value
    return out


def gene_mask(adata: AnnData, mask_var: str | np.ndarray | None) -> np.ndarray:
    """Which genes to use, (p,) boolean."""
    if mask_var is None:
        return np.ones(adata.n_vars, dtype=bool)
    if isinstance(mask_var, str):
        var = in_memory(adata.var)
        if mask_var not in var:
            raise ValueError(f"var has no column {mask_var!r} for mask_var; it has {list(var.columns)}.")
        mask = var[mask_var].to_numpy()
    else:
        mask = np.asarray(mask_var)
    if mask.dtype != bool or mask.shape != (adata.n_vars,):
        raise ValueError(f"mask_var must be boolean with one entry for each of the {adata.n_vars} genes.")
    if not mask.any():
        raise ValueError("mask_var leaves no gene.")
    return mask


def expression(adata: AnnData, layer: str | None):
    """``X`` or a layer; on disk it is read in blocks, unless it is stored by columns."""
    if layer is not None and layer not in adata.layers:
        names = [name for name in adata.layers if name is not None]
        raise ValueError(f"there is no layer {layer!r}; layers are {names}.")
    X = adata.X if layer is None else adata.layers[layer]
    if X is None:
        raise ValueError("adata.X is empty; name a layer.")
    X = wrap(X)
    if arrays.in_memory(X) or arrays.is_dask(X):
        return X
    if getattr(X, "format", "csr") == "csc":
        logger.info("the matrix is stored by columns (CSC): reading it into memory; store it as CSR to stream it")
        return X.to_memory()
    return arrays.Stream.of(X) if hasattr(X, "shape") and hasattr(X, "dtype") else X


def check_gene_names(adata: AnnData) -> None:
    """Refuse gene names that do not say which gene is meant."""
    if not adata.var_names.is_unique:
        twin = adata.var_names[adata.var_names.duplicated()][0]
        raise ValueError(f"gene name {twin!r} occurs more than once; call adata.var_names_make_unique() first.")


def check_values(X, layer: str | None) -> None:
    """Refuse what is no matrix of numbers; the values themselves are checked in the pass that sums them."""
    if not (arrays.in_memory(X) or arrays.is_dask(X) or isinstance(X, arrays.Stream)):
        raise ValueError(
            f"{where(layer)} is a {type(X).__module__}.{type(X).__qualname__}; use a NumPy array or a scipy.sparse "
            "matrix, for instance with adata.to_memory()."
        )
    if X.dtype.kind not in "fiub":
        raise ValueError(f"{where(layer)} holds {X.dtype} values; expression must be numeric.")


@dataclass(frozen=True)
class Cells:
    """Expression and labels of an AnnData, checked."""

    X: Any
    labels: pd.DataFrame
    donors: pd.Series | None
    labelled: np.ndarray

    def data(self, genes: np.ndarray) -> tuple[Any, pd.DataFrame, np.ndarray | None]:
        """Expression of the given genes, labels and donors of the labelled cells: what an estimator is fitted on."""
        X, rows = self.X if genes.all() else self.X[:, genes], self.labelled
        donors = None if self.donors is None else self.donors[rows].to_numpy()
        return (X if rows.all() else X[rows]), self.labels[rows], donors

    @contextlib.contextmanager
    def named(self, adata: AnnData, genes: np.ndarray, cells: np.ndarray, layer: str | None) -> Iterator[None]:
        """Within, a value that is no number is named by its gene and cell, given which of them the estimator sees."""
        try:
            yield
        except NonFiniteError as error:
            gene = adata.var_names[np.flatnonzero(genes)[error.column]]
            cell = adata.obs_names[np.flatnonzero(cells)[error.row]]
            raise ValueError(
                f"{where(layer)} contains {error.value} for gene {gene!r} in cell {cell!r}; remove or impute such "
                "values first."
            ) from None


def where(layer: str | None) -> str:
    """The matrix that was asked for, as messages name it."""
    return "X" if layer is None else f"layers[{layer!r}]"


def warn_of_counts(layer: str | None) -> None:
    """Say that the values look like raw counts."""
    warnings.warn(
        f"{where(layer)} looks like raw counts; FLDA expects log-normalised expression "
        "(scanpy.pp.normalize_total, then scanpy.pp.log1p).",
        stacklevel=4,
    )


def read_cells(
    adata: AnnData,
    factors: Sequence[str],
    nuisance: Sequence[str],
    donor: str | None,
    layer: str | None,
    device: str = "cpu",
) -> Cells:
    """Read and check what a fit needs."""
    require(device)
    table = labels(adata, [*factors, *nuisance])
    donors = None if donor is None else labels(adata, [donor])[donor]
    check_gene_names(adata)
    X = expression(adata, layer)
    check_values(X, layer)
    labelled = table.notna().all(axis=1).to_numpy()
    if donors is not None:
        labelled = labelled & donors.notna().to_numpy()
    if not labelled.all():
        missing = [c for c in table if table[c].isna().any()]
        logger.warning(
            "%d of %d cells have no label in %s; they get scores but take no part in the fit",
            np.sum(~labelled), adata.n_obs, missing or [donor],
        )  # fmt: skip
    if not labelled.any():
        raise ValueError(f"no cell has a label in every one of {list(table)}.")
    if device == "cuda" and not isinstance(X, OnDevice):
        X = OnDevice(arrays.by_rows(X))
    return Cells(X, table, donors, labelled)
