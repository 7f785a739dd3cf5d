"""Bulk expression of mammary epithelium in three states."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from ._common import from_counts
from ._files import fetch

CELL_TYPES = ("basal", "luminal")
STATUS = {"virgin": "virgin", "pregnant": "pregnant", "lactate": "lactating"}


def mammary(data_dir: str | os.PathLike | None = None) -> AnnData:
    """Load bulk counts of the mammary gland of the mouse: basal and luminal cells x three states (Fu et al. 2015).

    There are 12 samples x 27,179 genes: two mice for each of basal and luminal cells of virgin, pregnant and lactating
    mice. Every sample is one unit, as a pseudobulk sample is. Genes have Entrez ids. Many are expressed in no sample;
    leave them out before a fit.

    Parameters
    ----------
    data_dir
        As in :func:`rnamix`.

    Returns
    -------
    AnnData with log1p of counts per 10,000 in ``X``, and

    * ``layers["counts"]``: the counts
    * ``obs["cell_type"]``: basal or luminal
    * ``obs["status"]``: virgin, pregnant or lactating
    * ``obs["total_counts"]``: sum of the counts of the sample

    Raises
    ------
    FileNotFoundError, ValueError, ImportError, OSError
        As :func:`fetch`.

    References
    ----------
    Fu NY et al. EGF-mediated induction of Mcl-1 at the switch to lactation is essential for alveolar cell survival.
    Nat. Cell Biol. 17:365 (2015). Data: GEO GSE60450.

    Examples
    --------
    >>> adata = mammary()  # doctest: +SKIP
    >>> adata.shape  # doctest: +SKIP
    (12, 27179)
    """
    counts = pd.read_csv(fetch("mammary", "countdata.tsv", data_dir=data_dir), sep="\t", index_col=0)
    samples = pd.read_csv(fetch("mammary", "sampleinfo.tsv", data_dir=data_dir), sep="\t", index_col=0)
    group = samples.loc[counts.columns, "CellTypeStatus"]
    cell_type = [next(t for t in CELL_TYPES if name.startswith(t)) for name in group]
    status = [STATUS[name.removeprefix(t)] for name, t in zip(group, cell_type, strict=True)]
    X = counts.to_numpy(np.float32).T
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical(cell_type, categories=list(CELL_TYPES)),
            "status": pd.Categorical(status, categories=list(STATUS.values())),
            "total_counts": X.sum(axis=1, dtype=np.float64),
        },
        index=pd.Index(counts.columns.astype(str), name=None),
    )
    var = pd.DataFrame(index=pd.Index(counts.index.astype(str), name=None))
    return from_counts(sp.csr_matrix(X), obs, var)
