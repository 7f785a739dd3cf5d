"""Designed mixtures of RNA from three cell lines."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from ._common import from_counts
from ._files import fetch


def rnamix(data_dir: str | os.PathLike | None = None) -> AnnData:
    """Load designed mixtures of RNA from three cell lines: mixture x amount x protocol (Tian et al. 2019).

    There are 636 pseudo-cells x 16,469 genes from two protocols (CEL-seq2, SORT-seq), four amounts of RNA and seven
    mixtures of the lines H2228, H1975 and HCC827. 55 of the 56 groups are occupied. Genes have Ensembl ids; 45 of them
    are ERCC spike-ins (``ERCC-*``). A gene that only one protocol measured is zero in the other.

    Parameters
    ----------
    data_dir
        Folder with the files. The default is the folder in the environment variable ``FLDA_DATA_DIR``; if it is not
        set, the files are downloaded once into the cache of pooch. Checksums are verified in every case.

    Returns
    -------
    AnnData with log1p of counts per 10,000 in ``X``, and

    * ``layers["counts"]``: the counts
    * ``obs["mixture"]``: percentages of H2228-H1975-HCC827
    * ``obs["mix"]``: the same with the two replicates of the even mixture as separate levels
    * ``obs["amount"]``: RNA in pg
    * ``obs["protocol"]``: CEL-seq2 or SORT-seq
    * ``var["spike_in"]``: whether the gene is a spike-in

    Raises
    ------
    FileNotFoundError, ValueError, ImportError, OSError
        As :func:`fetch`.

    References
    ----------
    Tian L et al. Benchmarking single cell RNA-sequencing analysis pipelines using mixture control experiments.
    Nat. Methods 16:479 (2019). Data: MIT licence, GEO GSE118767.

    Examples
    --------
    >>> adata = rnamix()  # doctest: +SKIP
    >>> adata.shape  # doctest: +SKIP
    (636, 16469)
    """
    parts = []
    for protocol, name in (("CEL-seq2", "celseq2"), ("SORT-seq", "sortseq")):
        counts = _read_csv(fetch("rnamix", f"RNAmix_{name}.count.csv.gz", data_dir=data_dir))
        meta = _read_csv(fetch("rnamix", f"RNAmix_{name}.metadata.csv.gz", data_dir=data_dir))
        lines = meta[["H2228_prop", "H1975_prop", "HCC827_prop"]].mul(100).round().astype(int)
        obs = pd.DataFrame(
            {
                "mixture": lines.astype(str).agg("-".join, axis=1),
                "amount": [f"{a:g}" for a in meta["mRNA_amount"]],
                "protocol": protocol,
                "mix": meta["mix"].astype(str),
            }
        )
        obs.index = f"{name}_" + meta.index.astype(str)
        parts.append((counts[meta.index], obs))
    genes = sorted(set(parts[0][0].index) | set(parts[1][0].index))
    X = sp.vstack([sp.csr_matrix(c.reindex(genes, fill_value=0).to_numpy(np.float32).T) for c, _ in parts])
    obs = pd.concat([o for _, o in parts])
    obs["amount"] = pd.Categorical(obs["amount"], sorted(set(obs["amount"]), key=float))
    for column in ("mixture", "protocol", "mix"):
        obs[column] = obs[column].astype("category")
    var = pd.DataFrame({"spike_in": [g.startswith("ERCC-") for g in genes]}, index=genes)
    return from_counts(X.tocsr(), obs, var)


def _read_csv(path: Path) -> pd.DataFrame:
    with gzip.open(path, "rt") as handle:
        return pd.read_csv(handle, index_col=0)
