"""Expression of marker genes per cell type: counts and exposure, whatever the unit of the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from .._adata.read import in_memory
from .._data import arrays, entry
from .._data.device import to_numpy
from .._logging import get_logger, warn

logger = get_logger(__name__)

TARGET = 1e4  # levels are counts per 10,000
UNITS = ("auto", "counts", "log1p", "log2p1", "tpm", "scaled")
WHOLE = 2000  # a table with more genes than this is taken for a whole transcriptome
MAX_LOG = 30.0  # logarithms of counts or TPM are smaller
MAX_DISPERSION = 50.0
MAX_COUNT = 50.0  # a relative error below 14 % is not believed: cells and animals differ by more


@dataclass
class TypeCounts:
    """Marker genes in cell types.

    Attributes
    ----------
    levels : DataFrame
        Mean counts per 10,000, types x genes.
    counts, exposure : ndarray of shape (T, G)
        Effective Poisson counts and their exposure: the expected count is the level times the exposure.
    n_cells : Series
        Number of rows per type.
    soup : ndarray of shape (G,)
        Mean level over all cells, which is what ambient RNA looks like.
    """

    levels: pd.DataFrame
    counts: np.ndarray
    exposure: np.ndarray
    n_cells: pd.Series
    soup: np.ndarray


def type_counts(adata: AnnData, groupby: str, genes: dict[str, int], layer: str | None, unit: str) -> TypeCounts:
    """Counts of marker genes (name -> column of ``adata``) per type of ``obs[groupby]``, in the unit of the values."""
    X = entry.matrix(adata.X if layer is None else adata.layers[layer])
    if entry.is_lazy(X):  # the depth of a cell takes all genes
        X = sp.vstack([sp.csr_matrix(to_numpy(block)) for _, block in arrays.row_blocks(X)], format="csr")
    where = "adata.X" if layer is None else f"layer {layer!r}"
    X = sp.csr_matrix(X, dtype=float, copy=True)
    if X.nnz and (not np.isfinite(X.data).all() or X.data.min() < 0):
        raise ValueError(f"{where} holds negative, NaN or infinite values; pass counts, or log1p of counts per 10,000.")
    X.eliminate_zeros()
    unit = _unit(X, where) if unit == "auto" else unit
    if unit in ("log1p", "log2p1"):
        X.data = np.expm1(X.data * (1.0 if unit == "log1p" else np.log(2)))
    total = np.asarray(X.sum(axis=1)).ravel()
    labels = in_memory(adata.obs)[groupby]
    keep = (labels.notna() & (total > 0)).to_numpy()
    if not keep.any():
        raise ValueError(f"no cell has both a label in obs[{groupby!r}] and a count in {where}; check both.")
    X, total = X[keep], total[keep]
    # the factor from values to counts per 10,000: a table of TPM may hold a part of the genes, so its sums are not used
    factor = np.full(len(total), TARGET / 1e6) if unit == "tpm" else TARGET / total
    level = X[:, list(genes.values())].toarray() * factor[:, None]
    # Normalisation multiplies all counts of a cell by one number. The smallest non-zero value of a cell stands for a
    # count of one, which gives the counts back; in a mean over cells it stands for one count among all of them.
    one = 1.0 if unit == "counts" else np.minimum.reduceat(X.data, X.indptr[:-1])
    exposure = 1 / (one * factor)
    names, codes = np.unique(labels[keep].astype(str).to_numpy(), return_inverse=True)
    members = sp.csr_matrix((np.ones(len(codes)), (codes, np.arange(len(codes)))), (len(names), len(codes)))
    n_cells = np.bincount(codes)
    means = members @ level / n_cells[:, None]
    summed = members @ exposure
    dispersion = _dispersion(level, means[codes], exposure, len(names))
    counts = means * summed[:, None] / dispersion
    believed = np.minimum(1.0, MAX_COUNT / np.maximum(counts, 1e-300))
    index = pd.Index(names, name=groupby)
    return TypeCounts(
        pd.DataFrame(means, index=index, columns=list(genes)),
        counts * believed,
        summed[:, None] / dispersion * believed,
        pd.Series(n_cells, index=index),
        means.T @ (n_cells / n_cells.sum()),
    )


def _unit(X: sp.csr_matrix, where: str) -> str:
    """What the values are: counts, logarithms, TPM, or counts per 10,000."""
    if X.nnz == 0:
        return "counts"
    total = np.asarray(X.sum(axis=1)).ravel()
    total = total[total > 0]
    whole = bool((X.data == np.round(X.data)).all())
    if whole and not (np.abs(total / 1e6 - 1) < 0.01).all():
        return "counts"
    if X.data.max() <= MAX_LOG and not whole:
        # normalised cells have equal sums once the logarithm is undone; the base that makes them so is the right one
        spread = {}
        for name, base in (("log1p", 1.0), ("log2p1", np.log(2))):
            undone = X.copy()
            undone.data = np.expm1(undone.data * base)
            sums = np.asarray(undone.sum(axis=1)).ravel()
            spread[name] = sums[sums > 0].std() / sums[sums > 0].mean()
        found = "log2p1" if spread["log2p1"] < min(0.01, spread["log1p"] / 5) else "log1p"
        if found == "log2p1":
            logger.info("%s holds log2(1 + x); pass unit='log1p' if that is wrong", where)
        return found
    # thresholds take up to half of the sum of a table of TPM away
    found = "scaled" if X.shape[1] > WHOLE and not 4e5 < np.median(total) < 1.1e6 else "tpm"
    what = "TPM" if found == "tpm" else "values in proportion to counts"
    warn(f"{where} holds neither counts nor logarithms and is read as {what}; pass unit= if that is wrong")
    return found


def _dispersion(level: np.ndarray, mean: np.ndarray, exposure: np.ndarray, n_types: int) -> np.ndarray:
    """Variance of the counts of cells within types over that of a Poisson count, per gene; at least 1."""
    df = len(level) - n_types
    if df <= 0:
        return np.ones(level.shape[1])
    expected = mean * exposure[:, None]
    square = np.divide((level * exposure[:, None] - expected) ** 2, expected, out=np.zeros_like(mean), where=mean > 0)
    return np.clip(square.sum(axis=0) / df, 1.0, MAX_DISPERSION)


def find_genes(table: pd.DataFrame, var_names: pd.Index) -> dict[str, int]:
    """Column of every marker in the data, found by its symbol or an alias; upper and lower case are the same."""
    position: dict[str, Any] = {}
    for i, name in enumerate(var_names.astype(str)):
        position.setdefault(name.lower(), i)
    found = {}
    for gene, aliases in zip(table["gene"], table["aliases"], strict=True):
        for name in [gene, *str(aliases).split("|")]:
            if name and name.lower() in position:
                found[gene] = position[name.lower()]
                break
    return found
