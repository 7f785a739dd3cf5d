"""What the loaders share."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

TARGET_SUM = 1e4


def with_log_layer(counts: sp.csr_matrix, obs: pd.DataFrame, var: pd.DataFrame) -> AnnData:
    """AnnData with log1p of counts per 10,000 in ``X`` and the counts in a layer."""
    total = np.asarray(counts.sum(axis=1)).ravel()
    factor = np.divide(TARGET_SUM, total, out=np.zeros_like(total), where=total > 0)
    X = sp.csr_matrix(sp.diags(factor.astype(np.float32)) @ counts)
    X.data = np.log1p(X.data)
    adata = AnnData(X, obs=obs, var=var, layers={"counts": counts})
    adata.uns["log1p"] = {"base": None}
    return adata


def axon_halves(axon: pd.Categorical) -> dict[str, pd.Categorical]:
    """The two binary halves of the axon's layer: a and b against c and d, b and c against a and d."""
    letters = np.asarray(axon.astype(str))
    halves = {"axon_ab_cd": ("ab", "cd"), "axon_bc_ad": ("bc", "ad")}
    return {
        name: pd.Categorical(np.where(np.isin(letters, list(first)), first, second), categories=[first, second])
        for name, (first, second) in halves.items()
    }
