"""Whether a gene is expressed in a cell type, or what was counted there is contamination."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from scipy.special import gammaln

TARGET = 1e4
SEEN = 3.0  # counts expected of a gene at min_level, over all types, from which its silence means something
ON_MEDIAN, ON_SPREAD = 0.5, 0.7  # expressed: log-normal around half of the gene's highest level
OFF_SPREAD = 1.0
PRIOR_ON = 0.25  # roughly one of four transmitter systems per type


def type_levels(
    adata: AnnData, groupby: str, genes: list[int], layer: str | None
) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    """Mean level (counts per 10,000) per type x gene, total counts per type, and cells per type."""
    X = adata.X if layer is None else adata.layers[layer]
    X = sp.csr_matrix(X).astype(float)
    where = "adata.X" if layer is None else f"layer {layer!r}"
    if X.nnz and (not np.isfinite(X.data).all() or X.data.min() < 0):
        raise ValueError(f"{where} holds negative, NaN or infinite values; give counts or log1p of counts per 10,000.")
    X.eliminate_zeros()
    counts = X.nnz == 0 or bool((X.data == np.round(X.data)).all())
    if not counts:
        X.data = np.expm1(X.data)
    total = np.asarray(X.sum(axis=1)).ravel()
    if counts:
        depth = total
    else:  # the smallest value of a cell is one count
        smallest = np.array(
            [X.data[a:b].min() if b > a else np.inf for a, b in zip(X.indptr, X.indptr[1:], strict=False)]
        )
        depth = np.divide(total, smallest, out=np.zeros_like(total), where=np.isfinite(smallest))
    labels = adata.obs[groupby]
    keep = (labels.notna() & (total > 0)).to_numpy()
    if not keep.any():
        raise ValueError(f"no cell has both a label in {groupby!r} and a count in {where}.")
    names = labels[keep].astype(str)
    scaled = pd.DataFrame(X[keep][:, genes].toarray() * (TARGET / total[keep])[:, None], index=names)
    grouped = scaled.groupby(level=0)
    return grouped.mean(), pd.Series(depth[keep], index=names).groupby(level=0).sum(), grouped.size()


def expressed_probability(levels: pd.DataFrame, depth: pd.Series, *, ambient: float, min_level: float) -> pd.DataFrame:
    """Posterior probability, per type x gene, that the gene is expressed rather than contamination.

    The pooled count of a gene is Poisson around depth times level, with a level that is log-normal in units of the
    gene's highest level: around one half when expressed, around ``ambient`` when not. Integrated numerically.
    """
    u = np.linspace(-12, 3, 301)  # log of the level in units of the highest
    with np.errstate(divide="ignore"):
        log_on = _log_normal(u, np.log(ON_MEDIAN), ON_SPREAD)
        log_off = _log_normal(u, np.log(ambient), OFF_SPREAD)
    found = pd.DataFrame(0.0, index=levels.index, columns=levels.columns)
    for gene in levels.columns:
        # the highest level must rest on more than a stray count: a level is lowered by one standard error
        count = levels[gene] * depth / TARGET
        safe = (count - np.sqrt(count)).clip(lower=0) * TARGET / depth
        if levels[gene].max() < min_level and min_level * depth.sum() / TARGET >= SEEN:
            continue  # silent everywhere, and the cells together would have shown it
        highest = max(float(safe.max()), min_level)
        rate = np.exp(u)[None, :] * (highest * depth.to_numpy() / TARGET)[:, None]
        k = count.to_numpy()[:, None]
        log_likelihood = k * np.log(rate) - rate - gammaln(k + 1)
        on = _log_sum(log_likelihood + log_on) + np.log(PRIOR_ON)
        off = _log_sum(log_likelihood + log_off) + np.log1p(-PRIOR_ON)
        found[gene] = 1 / (1 + np.exp(np.clip(off - on, -700, 700)))
    return found


def _log_normal(u: np.ndarray, mean: float, sd: float) -> np.ndarray:
    density = -0.5 * ((u - mean) / sd) ** 2
    return density - np.log(np.exp(density).sum())


def _log_sum(values: np.ndarray) -> np.ndarray:
    top = values.max(axis=1, keepdims=True)
    return (top + np.log(np.exp(values - top).sum(axis=1, keepdims=True)))[:, 0]
