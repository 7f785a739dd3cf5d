"""Projection of new cells onto the axes of a fit, as ``scanpy.tl.ingest`` does for its embeddings."""

from __future__ import annotations

import time
import warnings

import numpy as np
from anndata import AnnData, ImplicitModificationWarning

from .. import get
from .._adata import read
from .._adata.results import Keys
from .._data import arrays
from .._logging import get_logger

logger = get_logger(__name__)


def transform(adata: AnnData, adata_ref: AnnData, *, key: str = "flda", copy: bool = False) -> AnnData | None:
    """Score new cells on the axes of a reference that :func:`flda.tl.flda` has fitted.

    Genes are matched by name and read from the layer that the fit used; they must be normalised like the
    reference. A gene of the fit that the new cells lack is taken to be at the reference's mean, so that it adds
    nothing to any score: a logged warning says how many genes that are, and what part of the axis that
    suffers most they carry.

    Parameters
    ----------
    adata
        New cells. Genes that the fit did not use are ignored.
    adata_ref
        With the results of :func:`flda.tl.flda`.
    key
        The ``key_added`` of the fit; results go under the same name.
    copy
        Return a copy with the results instead of writing into ``adata``.

    Returns
    -------
    None, or the copy if ``copy=True``. Writes ``obsm["X_flda"]``: scores, ndarray N x k, columns as in
    ``flda.get.axes_df(adata_ref)``. For the cells of the reference they are those of the fit.

    Raises
    ------
    ValueError
        When ``adata_ref`` holds no fit, no gene is shared, a layer is missing, or values cannot be used. ``adata`` is
        then left as it was.

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
    start = time.perf_counter()
    results, keys = get.results(adata_ref, key), Keys(key)
    if keys.var_centre not in adata_ref.var:
        raise ValueError(f"adata_ref.var has no {keys.var_centre!r}: its fit is of an older version; fit it again.")
    read.check_gene_names(adata)
    layer = results["params"]["layer"]
    X = read.expression(adata, layer)
    read.check_values(X, layer)

    used = np.flatnonzero(adata_ref.var[keys.var_centre].notna())
    place = adata.var_names.get_indexer(adata_ref.var_names[used])
    found = place >= 0
    if not found.any():
        raise ValueError(
            f"none of the {len(used)} genes of the fit ({', '.join(adata_ref.var_names[used][:3])}, ...) is among the "
            f"{adata.n_vars} genes of adata ({', '.join(adata.var_names[:3])}, ...). Use the same kind of gene names."
        )
    loadings = np.asarray(adata_ref.varm[keys.varm])[used]
    if not found.all():
        weight = (loadings * adata_ref.var[keys.var_sd].to_numpy()[used, None]) ** 2
        lost = weight[~found].sum(axis=0) / weight.sum(axis=0)
        logger.warning(
            "%d of the %d genes of the fit are not in adata (%s); they are taken to be at the reference's mean. "
            "They carry up to %.2g %% of the squared standardised loadings of an axis (%s)",
            *(np.sum(~found), len(used), ", ".join(adata_ref.var_names[used[~found]][:3])),
            *(100 * lost.max(), results["axes"]["axis"].iloc[int(lost.argmax())]),
        )
    loadings, centre = loadings[found], adata_ref.var[keys.var_centre].to_numpy()[used[found]]
    spread = np.zeros((adata.n_vars, loadings.shape[1]))  # the axes among the genes of the new cells
    spread[place[found]] = loadings
    scores = arrays.times(X, spread) - centre @ loadings

    adata = adata.copy() if copy else adata
    with warnings.catch_warnings():
        # writing into a view makes it a real object, which is what the caller asked for
        warnings.simplefilter("ignore", ImplicitModificationWarning)
        adata.obsm[keys.obsm] = scores
    logger.info("transform: wrote obsm[%r] (%.1f s)", keys.obsm, time.perf_counter() - start)
    return adata if copy else None
