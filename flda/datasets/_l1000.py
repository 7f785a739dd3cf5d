"""Expression of a melanoma line under drugs at several doses."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
from anndata import AnnData

from ._files import fetch

MISSING = "-666"  # how the file marks what is not known or does not apply
KINDS = {"trt_cp": "compound", "trt_poscon": "positive control", "ctl_vehicle": "vehicle"}


def l1000_a375(data_dir: str | os.PathLike | None = None) -> AnnData:
    """Load L1000 profiles of the melanoma line A375 after 24 h: 59 drugs x 6 doses (Subramanian et al. 2017).

    There are 377 wells of one plate x 978 landmark genes. 351 wells have a drug, with one well for each drug and dose
    (three of the 354 are missing). So no group has a replicate, and 26 wells have the vehicle (DMSO) alone.

    ``X`` has the quantile-normalised log2 expression of the source, between 3.2 and 15. It is not counts. The
    ``logfoldchanges`` of :func:`flda.tl.rank_genes` assume log1p of counts: do not use them here.

    Parameters
    ----------
    data_dir
        As in :func:`rnamix`.

    Returns
    -------
    AnnData with log2 expression in ``X``, gene symbols as names of the genes, and

    * ``obs["drug"]``: the drug, or DMSO
    * ``obs["dose"]``: concentration in micromolar, a number: 0.04, 0.12, 0.37, 1.11, 3.33 or 10. NaN for DMSO, so that
      a fit of drug x dose leaves these wells out
    * ``obs["log_dose"]``: its logarithm to the base 10
    * ``obs["kind"]``: compound, positive control or vehicle
    * ``obs["well"]``: well of the plate, such as A03
    * ``var["entrez"]``, ``var["probe"]``, ``var["title"]``: Entrez id, probe and full name of the gene

    Raises
    ------
    FileNotFoundError, ValueError, ImportError, OSError
        As :func:`fetch`.

    References
    ----------
    Subramanian A et al. A next generation Connectivity Map: L1000 platform and the first 1,000,000 profiles. Cell
    171:1437 (2017). Data: test file of cmapPy, BSD-3 licence.

    Examples
    --------
    >>> adata = l1000_a375()  # doctest: +SKIP
    >>> adata.shape  # doctest: +SKIP
    (377, 978)
    """
    path = fetch("l1000_a375", "test_l1000.gct", data_dir=data_dir)
    with open(path, encoding="utf-8") as handle:
        handle.readline()  # the version, 1.3
        _, _, n_row, n_column = map(int, handle.readline().split())
        table = pd.read_csv(handle, sep="\t", dtype=str, index_col=0, keep_default_na=False)
    about = table.iloc[:n_column, n_row:].T  # rows of the file that describe the wells
    genes = table.iloc[n_column:]
    dose = pd.to_numeric(about["pert_dose"].where(about["pert_dose"] != MISSING))
    obs = pd.DataFrame(
        {
            "drug": about["pert_iname"].astype("category"),
            "dose": dose,
            "log_dose": np.log10(dose),
            "kind": pd.Categorical(about["pert_type"].map(KINDS), categories=list(KINDS.values())),
            "well": about["det_well"],
        },
        index=pd.Index(about.index.astype(str), name=None),
    )
    var = pd.DataFrame(
        {
            "entrez": genes["pr_gene_id"].to_numpy(),
            "probe": genes.index.to_numpy(),
            "title": genes["pr_gene_title"].to_numpy(),
        },
        index=pd.Index(genes["pr_gene_symbol"].to_numpy(), name=None),
    )
    return AnnData(genes.iloc[:, n_row:].to_numpy(dtype=np.float64).T.copy(), obs=obs, var=var)
