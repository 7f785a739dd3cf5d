"""Scores of new cells on the axes of a fit: :func:`flda.tl.transform`."""

from __future__ import annotations

from anndata import AnnData

from .._adata.new_cells import project
from .._adata.record import Record
from .._adata.results import Step, check_same_fit
from .._docs import documented


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
    return step.write(scores=project(adata, record, record.loadings.to_numpy()))
