"""Expression of marker genes per cell type, and the probability that it is expression rather than contamination."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from scipy.special import gammaln

from .._adata.read import in_memory
from .._data import arrays, entry
from .._data.device import to_numpy

TARGET = 1e4  # levels are counts per 10,000
MIN_EXPECTED = 3.0  # counts at min_level, summed over types, that must be expected before zero counts mean silence
# prior of the level of an expressed gene, in units of its highest level over types: log-normal around one half
ON_MEDIAN, ON_SPREAD = 0.5, 0.7
OFF_SPREAD = 1.0  # the same for contamination, around `ambient`
PRIOR_ON = 0.25  # about one in four transmitter systems is expressed by a type


def type_levels(
    adata: AnnData, groupby: str, genes: list[int], layer: str | None
) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    """Mean level (counts per 10,000) per type x gene, total counts per type, and number of cells per type."""
    X = entry.matrix(adata.X if layer is None else adata.layers[layer])
    if entry.is_lazy(X):  # the depth of a cell takes all genes
        X = sp.vstack([sp.csr_matrix(to_numpy(block)) for _, block in arrays.row_blocks(X)], format="csr")
    X = sp.csr_matrix(X, dtype=float, copy=True)
    where = "adata.X" if layer is None else f"layer {layer!r}"
    if X.nnz and (not np.isfinite(X.data).all() or X.data.min() < 0):
        raise ValueError(f"{where} holds negative, NaN or infinite values; pass counts, or log1p of counts per 10,000.")
    X.eliminate_zeros()
    counts = X.nnz == 0 or bool((X.data == np.round(X.data)).all())
    if not counts:
        X.data = np.expm1(X.data)
    total = np.asarray(X.sum(axis=1)).ravel()
    if counts:
        depth = total
    else:
        # Normalisation multiplies all counts of a cell by one factor. The smallest non-zero value of a cell stands for
        # a count of one, so the cell's depth is its total divided by that value.
        smallest = np.array(
            [X.data[a:b].min() if b > a else np.inf for a, b in zip(X.indptr, X.indptr[1:], strict=False)]
        )
        depth = np.divide(total, smallest, out=np.zeros_like(total), where=np.isfinite(smallest))
    labels = in_memory(adata.obs)[groupby]
    keep = (labels.notna() & (total > 0)).to_numpy()
    if not keep.any():
        raise ValueError(f"no cell has both a label in obs[{groupby!r}] and a count in {where}; check both.")
    names = labels[keep].astype(str)
    scaled = pd.DataFrame(X[keep][:, genes].toarray() * (TARGET / total[keep])[:, None], index=names)
    grouped = scaled.groupby(level=0)
    return grouped.mean(), pd.Series(depth[keep], index=names).groupby(level=0).sum(), grouped.size()


def expressed_probability(levels: pd.DataFrame, depth: pd.Series, *, ambient: float, min_level: float) -> pd.DataFrame:
    """Posterior probability, per type x gene, that a type expresses a gene, rather than being contaminated with it.

    The count of a gene, summed over the cells of a type, is Poisson with mean depth times level. In units of the gene's
    highest level in any type, the level is log-normal around one half if the gene is expressed and around ``ambient``
    if it is not. Both likelihoods are integrated over the level on a grid.
    """
    u = np.linspace(-12, 3, 301)  # log of the level, in units of the highest level
    with np.errstate(divide="ignore"):
        log_on = _log_normal(u, np.log(ON_MEDIAN), ON_SPREAD)
        log_off = _log_normal(u, np.log(ambient), OFF_SPREAD)
    found = pd.DataFrame(0.0, index=levels.index, columns=levels.columns)
    for gene in levels.columns:
        # The highest level sets the scale, and a stray count in a shallow type must not set it. Levels are therefore
        # lowered by one Poisson standard error, sqrt(count), before the maximum is taken.
        count = levels[gene] * depth / TARGET
        safe = (count - np.sqrt(count)).clip(lower=0) * TARGET / depth
        if levels[gene].max() < min_level and min_level * depth.sum() / TARGET >= MIN_EXPECTED:
            continue  # silent in every type, and deep enough that expression at min_level would have been seen
        highest = max(float(safe.max()), min_level)
        rate = np.exp(u)[None, :] * (highest * depth.to_numpy() / TARGET)[:, None]
        k = count.to_numpy()[:, None]
        log_likelihood = k * np.log(rate) - rate - gammaln(k + 1)  # Poisson; gammaln allows a count that is no integer
        on = _log_sum(log_likelihood + log_on) + np.log(PRIOR_ON)
        off = _log_sum(log_likelihood + log_off) + np.log1p(-PRIOR_ON)
        found[gene] = 1 / (1 + np.exp(np.clip(off - on, -700, 700)))  # exp overflows beyond 709
    return found


def _log_normal(u: np.ndarray, mean: float, sd: float) -> np.ndarray:
    """Log of the normal density on the grid u, normalised to sum to one on it."""
    density = -0.5 * ((u - mean) / sd) ** 2
    return density - np.log(np.exp(density).sum())


def _log_sum(values: np.ndarray) -> np.ndarray:
    """``log(sum(exp(values)))`` along rows, shifted by the largest value so that nothing overflows."""
    top = values.max(axis=1, keepdims=True)
    return (top + np.log(np.exp(values - top).sum(axis=1, keepdims=True)))[:, 0]
