"""How many genes an axis needs."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from anndata import AnnData

from .._adata.fitted import Fitted
from .._adata.results import Keys
from .._logging import get_logger
from ..estimators import SparseFLDA
from ..inference._certificate import certify_together

logger = get_logger(__name__)


def path(
    adata: AnnData,
    *,
    n_genes: Sequence[int] = (2, 5, 10, 20, 50),
    mode: str = "axis",
    n_folds: int = 5,
    key: str = "flda",
    copy: bool = False,
) -> AnnData | None:
    """Objective, held-out signal and held-out cross-talk of every axis for several numbers of genes.

    Every number of genes is refitted in every fold, with the shrinkage of the fit; folds hold out whole donors if the
    fit had donors. This takes about as many times :func:`flda.tl.rank_genes` as there are folds and numbers.

    Parameters
    ----------
    adata
        With the results of :func:`flda.tl.flda`.
    n_genes
        Numbers of genes per axis, in any order.
    mode
        As in :func:`flda.tl.rank_genes`.
    n_folds
        Folds of the held-out part.
    key
        The ``key_added`` of :func:`flda.tl.flda`.
    copy
        Return a copy with the results instead of writing into ``adata``.

    Returns
    -------
    None, or the copy if ``copy=True``. Writes ``uns["flda"]["path"]``, a DataFrame with a row per number and axis:
    ``n_genes, axis, effect, component, eigenvalue`` (the objective on the fitted cells), ``dense_eigenvalue`` (that of
    all genes), ``snr`` and ``crosstalk`` (held out). Drawn by :func:`flda.pl.path`.

    Raises
    ------
    ValueError
        For numbers of genes that do not fit, or when no fold can be used. ``adata`` is then left as it was.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=100)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], interactions=None, shrinkage=0.5)
    >>> flda.tl.path(adata, n_genes=[3, 6])
    >>> adata.uns["flda"]["path"].groupby("n_genes").size().to_dict()
    {3: 4, 6: 4}
    """
    start = time.perf_counter()
    fitted = Fitted.read(adata, key)
    sizes = sorted({int(k) for k in n_genes})
    if not sizes:
        raise ValueError("n_genes is empty; give the numbers of genes to compare.")
    options = {**fitted.options(), "shrinkage": fitted.shrinkage}
    data = fitted.X, fitted.labels

    def model(k: int) -> SparseFLDA:
        return SparseFLDA(n_genes=k, mode=mode, **options)

    table = model(sizes[-1]).path(*data, sizes, fitted.donors).drop(columns="genes")
    held_out = certify_together(
        {str(k): model(k) for k in sizes},
        *data,
        fitted.donors,
        n_folds=n_folds,
        random_state=fitted.params["random_state"],
    )
    held_out = held_out.assign(n_genes=held_out["genes"].astype(np.int64))[["n_genes", "axis", "snr", "crosstalk"]]
    adata = adata.copy() if copy else adata
    adata.uns[Keys(key).uns]["path"] = table.merge(held_out, on=["n_genes", "axis"], how="left")
    logger.info("path: wrote uns[%r]['path'] (%.1f s)", Keys(key).uns, time.perf_counter() - start)
    return adata if copy else None
