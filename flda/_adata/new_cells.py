"""New cells in the genes of a fit, matched by name."""

from __future__ import annotations

import numpy as np
from anndata import AnnData

from .._data import arrays
from .._data.summary import summarise
from .._logging import warn
from . import read
from .keys import check_adata
from .record import Record


def project(adata: AnnData, record: Record, B: np.ndarray) -> np.ndarray:
    """Compute ``(x - centre)' B`` for new cells x, with the centre of the fit.

    Genes are matched by name and read from the layer of the fit. A gene of the fit that the new cells lack is set to
    its mean in the reference, so it adds nothing; a warning gives the number of such genes and their share in the most
    affected axis.

    Parameters
    ----------
    adata
        New cells.
    record
        The fit.
    B
        One row for each gene of the fit, p x k.

    Returns
    -------
    Array of shape (cells, k).

    Raises
    ------
    ValueError
        If no gene is shared, or the expression cannot be used.
    """
    check_adata(adata)
    record.check_genes()
    read.check_gene_names(record.adata)
    read.check_gene_names(adata)
    layer = record.params["layer"]
    X = read.checked_expression(adata, layer)
    with read.naming(adata.obs_names, adata.var_names, layer):
        values = summarise(X, np.zeros(adata.n_obs, dtype=np.int64), 1)
    read.check_values(adata, layer, values, allow_counts=record.params["allow_counts"])

    names, centre = record.gene_names, record.centre.to_numpy()
    index = adata.var_names.get_indexer(names)
    found = index >= 0
    if not found.any():
        raise ValueError(
            f"none of the {len(names)} genes of the fit ({', '.join(names[:3])}, ...) is among the {adata.n_vars} "
            f"genes of adata ({', '.join(adata.var_names[:3])}, ...). Use the same kind of gene names."
        )
    if not found.all():
        weight = (record.loadings.to_numpy() * record.within_sd.to_numpy()[:, None]) ** 2
        lost = weight[~found].sum(axis=0) / weight.sum(axis=0)
        warn(
            f"{np.sum(~found)} of the {len(names)} genes of the fit are not in adata ({', '.join(names[~found][:3])}); "
            f"they are set to their mean in the reference. They carry up to {100 * lost.max():.2g} % of the squared "
            f"standardised loadings of an axis ({record.axis_names[int(lost.argmax())]})."
        )
    of_all_genes = np.zeros((adata.n_vars, B.shape[1]))  # B over the genes of the new cells
    of_all_genes[index[found]] = B[found]
    return arrays.times(X, of_all_genes) - centre[found] @ B[found]
