"""Labels and expression from an AnnData, checked; an error names the column, layer, gene or cell."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from .._data import arrays, entry
from .._data.device import NoDevice, OnDevice, require
from .._data.summary import NonFiniteError, Summary
from .._logging import get_logger, warn

logger = get_logger(__name__)

AUGMENTED = "flda_augmented"  # obs column that marks the cells of flda.pp.augment


def labels(adata: AnnData, columns: Sequence[str]) -> pd.DataFrame:
    """Columns of ``obs``; the error about a missing column suggests similar names."""
    obs = in_memory(adata.obs)
    for name in columns:
        if name not in obs:
            near = difflib.get_close_matches(str(name), [str(c) for c in obs.columns], n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"it has {list(obs.columns)}."
            raise ValueError(f"obs has no column {name!r}; {hint}")
        if isinstance(obs[name], pd.DataFrame):
            raise ValueError(f"obs has more than one column {name!r}; rename all but one of them, or leave them out.")
    if len(set(columns)) < len(columns):
        raise ValueError(f"a column is named twice in {list(columns)}; name each column once.")
    return obs[list(columns)]


def in_memory(table: Any) -> pd.DataFrame:
    """``obs`` or ``var`` as a DataFrame; a lazily read AnnData has them on disk."""
    return table.to_memory() if hasattr(table, "to_memory") else table


def augmented(adata: AnnData) -> np.ndarray:
    """Which cells :func:`flda.pp.augment` simulated, (N,) boolean; cells without a mark are real."""
    obs = in_memory(adata.obs)
    if AUGMENTED not in obs:
        return np.zeros(adata.n_obs, dtype=bool)
    return obs[AUGMENTED].isin([True, "True", 1]).to_numpy()


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
        raise ValueError("mask_var selects no gene; select at least one.")
    return mask


def expression(adata: AnnData, layer: str | None):
    """``X`` or a layer; one on disk is read in blocks, or into memory if it is stored by columns."""
    if layer is not None and layer not in adata.layers:
        names = [name for name in adata.layers if name is not None]
        raise ValueError(f"there is no layer {layer!r}; layers are {names}.")
    X = adata.X if layer is None else adata.layers[layer]
    if X is None:
        raise ValueError("adata.X is empty; pass the name of a layer.")
    if arrays.on_disk(X) and getattr(X, "format", "csr") == "csc":
        logger.info("the matrix is stored by columns (CSC): reading it into memory; store it as CSR to stream it")
    return entry.known(X, matrix_name(layer))


def check_gene_names(adata: AnnData) -> None:
    """Refuse gene names that occur more than once."""
    if not adata.var_names.is_unique:
        name = adata.var_names[adata.var_names.duplicated()][0]
        raise ValueError(f"gene name {name!r} occurs more than once; call adata.var_names_make_unique() first.")


def checked_expression(adata: AnnData, layer: str | None):
    """The expression, or an error if it is not a matrix of numbers; single values are checked where they are summed."""
    X, name = expression(adata, layer), matrix_name(layer)
    if not (arrays.in_memory(X) or arrays.is_dask(X) or isinstance(X, arrays.Stream)):
        raise ValueError(
            f"{name} is a {type(X).__module__}.{type(X).__qualname__}; use a NumPy array or a scipy.sparse matrix, for "
            "instance with adata.to_memory()."
        )
    if X.dtype.kind not in "fiub":
        raise ValueError(f"{name} holds {X.dtype} values; expression must be numeric.")
    return X


def log_base(adata: AnnData) -> float | None:
    """The base of the logarithm that scanpy.pp.log1p took, or None for e."""
    found = adata.uns.get("log1p")
    base = found.get("base") if isinstance(found, Mapping) else None
    return None if base is None else float(base)


def set_log_base(adata: AnnData, base: float | None) -> None:
    """Store the base of the logarithm in ``X`` as scanpy.pp.log1p does."""
    adata.uns["log1p"] = {"base": base}


def matrix_name(layer: str | None) -> str:
    """The matrix as messages name it."""
    return "X" if layer is None else f"layers[{layer!r}]"


@contextlib.contextmanager
def naming(cells: pd.Index, genes: pd.Index, layer: str | None) -> Iterator[None]:
    """Within, an error about a value that is not finite names its cell and its gene.

    Parameters
    ----------
    cells, genes
        Names of the rows and columns of the matrix that is worked on.
    layer
        The layer that the matrix comes from.
    """
    try:
        yield
    except NonFiniteError as error:
        raise ValueError(
            f"{matrix_name(layer)} contains {error.value} for gene {genes[error.column]!r} in cell "
            f"{cells[error.row]!r}; remove or impute such values first."
        ) from None


def check_values(adata: AnnData, layer: str | None, found: Summary, *, allow_counts: bool) -> None:
    """Refuse raw counts, and warn of negative values; both make a fit of something else than log expression.

    Parameters
    ----------
    adata, layer
        Where the values come from.
    found
        What a pass over them has found.
    allow_counts
        Whether the user has said that whole numbers are meant.
    """
    name = matrix_name(layer)
    if found.counts_like and not allow_counts:
        where = "adata" if layer is None else f"adata, layer={layer!r}"
        raise ValueError(
            f"{name} looks like raw counts; FLDA expects log-normalised expression. Call scanpy.pp.normalize_total("
            f"{where}) and scanpy.pp.log1p({where}) first (flda run --from-counts does), or pass allow_counts=True "
            "(--allow-counts) if these whole numbers are no counts."
        )
    if found.negative:
        others = [
            f"layers[{n!r}]" for n in adata.layers if n not in (None, layer, "counts") and _has_fractions(adata, n)
        ]
        others += ["adata.raw.to_adata()"] if adata.raw is not None else []
        elsewhere = f" If log-normalised values are in {' or '.join(others)}, fit these." if others else ""
        warn(
            f"{name} holds negative values, as after scanpy.pp.scale or regressing out; axes and tests are those of "
            f"these values, and fold changes are missing for genes with a negative group mean.{elsewhere}"
        )


def _has_fractions(adata: AnnData, layer: str) -> bool:
    """Whether a layer can hold log-normalised values: it is neither logical nor of whole numbers by its type."""
    return np.dtype(getattr(adata.layers[layer], "dtype", float)).kind == "f"


def depth(adata: AnnData, layer: str | None) -> tuple[np.ndarray, str] | None:
    """Total counts of every cell, and where they come from, or None if they are not known.

    They are columns of ``obs`` that quality control leaves, or sums of ``layers["counts"]`` if it is in memory.
    """
    obs = in_memory(adata.obs)
    for name in ("total_counts", "n_counts"):
        if name in obs and pd.api.types.is_numeric_dtype(obs[name]):
            values = obs[name].to_numpy(dtype=float)
            if (np.isfinite(values) & (values > 0)).all():
                return values, f"obs[{name!r}]"
    if layer != "counts" and "counts" in adata.layers:
        counts = adata.layers["counts"]
        if arrays.in_memory(counts) and counts.dtype.kind in "fiu":
            values = np.asarray(counts.sum(axis=1), dtype=float).ravel()
            if (np.isfinite(values) & (values > 0)).all():
                return values, "layers['counts']"
    return None


def warn_of_unused_choice(adata: AnnData, mask_var: object) -> None:
    """Warn that all genes are used although a choice of highly variable genes is there."""
    var = in_memory(adata.var)
    if mask_var is not None or "highly_variable" not in var or var["highly_variable"].dtype != bool:
        return
    n = int(var["highly_variable"].sum())
    if 0 < n < len(var):
        warn(
            f"all {len(var)} genes are used, and not only the {n} that var['highly_variable'] marks; for these pass "
            "mask_var='highly_variable'.",
        )


def warn_of_depth(table: pd.DataFrame, limit: float, source: str) -> None:
    """Warn of every factor whose levels differ in depth by more than a limit."""
    for row in table[table["ratio"] > limit].itertuples():
        warn(
            f"depth goes with {row.factor!r}: cells of level {row.highest!r} have {row.ratio:.1f} times the depth of "
            f"those of {row.lowest!r} (geometric means of {source}), so its axes and p-values can show depth instead "
            "of biology. Normalise the counts of every cell if that was not done, and enter the log of the total "
            "counts as a covariate: name its obs column in nuisance and in numeric."
        )


@dataclass(frozen=True)
class Cells:
    """Expression and labels for a fit.

    Attributes
    ----------
    X
        Expression of all cells in the genes of the fit.
    labels, donors
        Labels of the design, and donors if there are any, of all cells; some may be missing.
    names
        Names of all cells.
    genes
        Names of the genes of the fit.
    labelled, real
        Which cells have all labels, and which of these are not simulated, boolean arrays.
    """

    X: Any
    labels: pd.DataFrame
    donors: pd.Series | None
    names: pd.Index
    genes: pd.Index
    labelled: np.ndarray
    real: np.ndarray

    def columns(self) -> dict[str, pd.Series]:
        """Column of ``obs`` -> its values in all cells, for all columns that the fit depends on."""
        found = {str(name): self.labels[name] for name in self.labels}
        if self.donors is not None:
            found[str(self.donors.name)] = self.donors
        return {**found, AUGMENTED: pd.Series(self.labelled & ~self.real, index=self.labels.index)}

    def of(self, cells: np.ndarray) -> tuple[Any, pd.DataFrame, np.ndarray | None]:
        """Expression, labels and donors of some cells: what an estimator is fitted on."""
        donors = None if self.donors is None else self.donors[cells].to_numpy()
        return (self.X if cells.all() else self.X[cells]), self.labels[cells], donors


# columns in which tools for pseudobulk samples put the number of cells
N_CELLS = ("n_cells", "psbulk_cells", "psbulk_n_cells", "n_obs_aggregated")


def weights_column(adata: AnnData, weights: str) -> str | None:
    """The column of precision weights that ``weights`` names, or None for a way to weigh groups.

    ``"n_cells"`` also stands for the columns in which other tools put the number of cells of a sample.
    """
    if not isinstance(weights, str) or weights in ("random", "equal"):
        return None
    if weights == "n_cells":
        obs = in_memory(adata.obs)
        if found := [name for name in N_CELLS if name in obs]:
            return found[0]
        raise ValueError(f"weights='n_cells': obs has none of the columns {list(N_CELLS)}; add one, or name yours.")
    return weights


def read_cells(
    adata: AnnData,
    factors: Sequence[str],
    nuisance: Sequence[str],
    donor: str | None,
    layer: str | None,
    genes: np.ndarray,
    device: str = "cpu",
    *,
    weights: str | None = None,
    again: bool = False,
) -> Cells:
    """Read and check what a fit needs.

    Parameters
    ----------
    adata
        Cells x genes.
    factors, nuisance, donor
        Columns of ``obs``.
    layer
        Layer to use instead of ``X``.
    genes
        Which genes to use, boolean.
    device
        Where to compute.
    weights
        Column of ``obs`` with precision weights.
    again
        Whether this repeats the reading of a fit. The CPU then stands in for a GPU that is not there, and what the fit
        has logged is not logged again.
    """
    table = labels(adata, [*factors, *nuisance, *([] if weights is None else [weights])])
    donors = None if donor is None else labels(adata, [donor])[donor]
    check_gene_names(adata)
    labelled = table.notna().all(axis=1).to_numpy()
    if donors is not None:
        labelled = labelled & donors.notna().to_numpy()
    if not len(labelled):
        raise ValueError("adata has no cells.")
    if not labelled.any():
        columns = {**dict(table.items()), **({} if donors is None else {donor: donors})}
        empty = [name for name, column in columns.items() if column.isna().all()]
        which = f"; {', '.join(map(repr, empty))} has no label at all" if empty else ""
        raise ValueError(f"no cell has a label in every one of {list(map(str, columns))}{which}.")
    if not labelled.all() and not again:
        missing = [str(c) for c in table if table[c].isna().any()]
        warn(
            f"{np.sum(~labelled)} of {adata.n_obs} cells have no label in {missing or [donor]}; they get scores but "
            "take no part in the fit."
        )
    real = labelled & ~augmented(adata)
    try:
        require(device)
    except (ImportError, NoDevice) as error:
        if not again:
            raise
        logger.warning("the fit used a GPU, which is not available here; the CPU is used instead (%s)", error)
        device = "cpu"
    X = checked_expression(adata, layer)
    if device == "cuda" and not isinstance(X, OnDevice):
        X = OnDevice(arrays.by_rows(X))
    X = X if genes.all() else X[:, genes]
    return Cells(X, table, donors, adata.obs_names, adata.var_names[genes], labelled, real)
