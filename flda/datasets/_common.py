"""Helpers that several loaders use."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from .._adata.read import set_log_base
from .._data.log_normalise import log_normalise


def from_counts(counts: sp.csr_matrix, obs: pd.DataFrame, var: pd.DataFrame) -> AnnData:
    """Build an AnnData with log1p of counts per 10,000 in ``X`` and the counts in ``layers["counts"]``."""
    adata = AnnData(log_normalise(counts), obs=obs, var=var, layers={"counts": counts})
    set_log_base(adata, None)
    return adata


def axon_halves(axon: pd.Categorical) -> dict[str, pd.Categorical]:
    """Split the axon layers into two binary factors: a and b against c and d, and b and c against a and d."""
    letters = np.asarray(axon.astype(str))
    halves = {"axon_ab_cd": ("ab", "cd"), "axon_bc_ad": ("bc", "ad")}
    return {
        name: pd.Categorical(np.where(np.isin(letters, list(first)), first, second), categories=[first, second])
        for name, (first, second) in halves.items()
    }
