"""Scores of new cells on the axes of a fit: :func:`flda.tl.transform`."""

from __future__ import annotations

import numpy as np
from anndata import AnnData

from .._adata import read
from .._adata.results import Record, Step, check_same_fit
from .._data import arrays
from .._data.summary import summarise
from .._docs import documented
from .._logging import get_logger

logger = get_logger(__name__)


@documented
def transform(adata: AnnData, adata_ref: AnnData, *, key: str = "flda", copy: bool = False) -> AnnData | None:
    """Score new cells on the axes of a reference that :func:`flda.tl.flda` has fitted.

    Genes are matched by name and read from the layer that the fit used. Expression must be normalised in the same way
    as in the reference. A gene of the fit that the new cells lack is set to its mean in the reference, so it adds
    nothing to any score. A warning is then logged; it gives the number of missing genes and their share in the most
    affected axis.

    Parameters
    ----------
    adata
        New cells. Genes that the fit did not use are ignored.
    adata_ref
        AnnData with the results of :func:`flda.tl.flda`.
    key
        The ``key_added`` of the fit. The scores are written under the same key.
    {copy}

    Returns
    -------
    None, or the copy if ``copy=True``. Writes ``obsm["X_flda"]``: scores, ndarray N x k, columns as in
    ``flda.get.axes_df(adata_ref)``. For the cells of the reference they are those of the fit.

    Raises
    ------
    ValueError
        If ``adata_ref`` holds no fit, ``adata`` holds another fit under the same key, no gene is shared, a layer is
        missing, or values cannot be used. ``adata`` is then left as it was.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> reference, new = adata[:300].copy(), adata[300:].copy()
    >>> flda.tl.flda(reference, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.tl.transform(new, reference)
    >>> new.obsm["X_flda"].shape
    (100, 7)
    """
    step = Step("transform", adata, key, copy)
    record = Record(adata_ref, key)
    check_same_fit(adata, record)
    read.check_gene_names(adata)
    layer = record.params["layer"]
    X = read.checked_expression(adata, layer)
    with read.naming(adata.obs_names, adata.var_names, layer):
        values = summarise(X, np.zeros(adata.n_obs, dtype=np.int64), 1)
    if values.counts_like:
        read.warn_of_counts(layer)

    names, loadings, centre = record.gene_names, record.loadings.to_numpy(), record.centre.to_numpy()
    index = adata.var_names.get_indexer(names)
    found = index >= 0
    if not found.any():
        raise ValueError(
            f"none of the {len(names)} genes of the fit ({', '.join(names[:3])}, ...) is among the {adata.n_vars} "
            f"genes of adata ({', '.join(adata.var_names[:3])}, ...). Use the same kind of gene names."
        )
    if not found.all():
        weight = (loadings * record.within_sd.to_numpy()[:, None]) ** 2
        lost = weight[~found].sum(axis=0) / weight.sum(axis=0)
        logger.warning(
            "%d of the %d genes of the fit are not in adata (%s); they are set to their mean in the reference. They "
            "carry up to %.2g %% of the squared standardised loadings of an axis (%s)",
            *(np.sum(~found), len(names), ", ".join(names[~found][:3])),
            *(100 * lost.max(), record.axis_names[int(lost.argmax())]),
        )
    of_all_genes = np.zeros((adata.n_vars, loadings.shape[1]))  # the axes over the genes of the new cells
    of_all_genes[index[found]] = loadings[found]
    return step.write(scores=arrays.times(X, of_all_genes) - centre[found] @ loadings[found])
