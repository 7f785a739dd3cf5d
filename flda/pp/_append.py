"""New cells appended to an AnnData: expression, counts, labels and the mark."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from .._adata import read
from .._adata.read import AUGMENTED
from .._data.log_normalise import log_normalise, undo_log

LOG_TOLERANCE = 0.02  # difference of X from log-normalised counts that rounding on storage may cause


def _log_base(adata: AnnData) -> float | None:
    return read.log_base(adata)


def scaled_total(adata: AnnData, Y: sp.csr_matrix) -> float:
    """Total count per cell to which ``X`` was scaled before its logarithm was taken; the median if cells differ.

    Refuses an ``X`` that cannot be obtained from the counts in this way.
    """
    found = sp.csr_matrix(read.expression(adata, None), dtype=np.float64, copy=True)
    found.data = undo_log(found.data, _log_base(adata))
    totals = np.asarray(found.sum(axis=1)).ravel()
    found.data = np.log1p(found.data)
    if not np.isfinite(totals).all() or abs(log_normalise(Y, totals) - found).max() > LOG_TOLERANCE:
        raise ValueError(
            "X is not the log-normalised form of the counts, so it cannot be computed for new cells. Recompute it with "
            "scanpy.pp.normalize_total and scanpy.pp.log1p, or pass counts in X with layer=None."
        )
    return float(np.median(totals))


def append(
    adata: AnnData,
    labels: pd.DataFrame,
    counts: sp.csr_matrix,
    layer: str | None,
    target_sum: float | None,
    method: str,
) -> AnnData:
    """Real cells followed by new ones; without a target sum ``X`` holds counts."""

    def stacked(real, new: sp.csr_matrix):
        if sp.issparse(real):
            return sp.vstack([real, new.astype(real.dtype)], format="csr")
        return np.vstack([real, new.toarray().astype(real.dtype)])

    out = AnnData(
        stacked(adata.X, counts if target_sum is None else log_normalise(counts, target_sum, base=_log_base(adata))),
        obs=_obs(adata, labels, method),
        var=adata.var.copy(),
        uns={k: v for k, v in adata.uns.items() if k == "log1p" or k.endswith("_colors")},
    )
    if layer is not None:
        out.layers[layer] = stacked(adata.layers[layer], counts)
    return out


def _obs(adata: AnnData, labels: pd.DataFrame, method: str) -> pd.DataFrame:
    """``obs`` of real and new cells; new names count up and leave out those that real cells have."""
    used, i = set(adata.obs_names), 0
    names: list[str] = []
    while len(names) < len(labels):
        if (name := f"{method}_{i}") not in used:
            names.append(name)
        i += 1
    obs = pd.DataFrame(index=[*adata.obs_names, *names])
    for column, real in adata.obs.items():
        values = [*real, *(labels[column] if column in labels else [None] * len(names))]
        if isinstance(real.dtype, pd.CategoricalDtype):
            obs[column] = pd.Categorical(values, categories=real.cat.categories, ordered=real.cat.ordered)
        else:
            # h5ad and zarr cannot store missing values in a plain boolean column, only in a nullable one
            obs[column] = pd.array(values, dtype="boolean") if real.dtype == bool else pd.Series(values, obs.index)
    obs[AUGMENTED] = np.arange(len(obs)) >= adata.n_obs
    return obs
