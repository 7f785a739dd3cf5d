"""How many genes an axis needs: :func:`flda.tl.path`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from anndata import AnnData

from .._adata.fitted import Fitted
from .._adata.results import Step
from .._docs import documented
from .._logging import quiet
from ..inference._certificate import certify_together


@documented
def path(
    adata: AnnData,
    *,
    n_genes: Sequence[int] = (2, 5, 10, 20, 50),
    mode: str = "axis",
    n_folds: int = 5,
    n_jobs: int | None = None,
    key: str = "flda",
    copy: bool = False,
) -> AnnData | None:
    """Compare axes of several numbers of genes by objective, held-out SNR and held-out cross-talk.

    For every number of genes, the axes are refitted in every fold with the shrinkage of the fit. Folds hold out whole
    donors if the fit had a ``donor``. The work is about one :func:`flda.tl.rank_genes` for every fold and number of
    genes.

    Parameters
    ----------
    {adata}
    n_genes
        Numbers of genes per axis, in any order.
    mode
        As in :func:`flda.tl.rank_genes`.
    n_folds
        The largest number of folds, as in :func:`flda.tl.certify`.
    {n_jobs}
    {key}
    {copy}

    Returns
    -------
    None, or the copy if ``copy=True``. Writes ``uns["flda"]["path"]``, a DataFrame with one row per number of genes and
    axis: ``n_genes, axis, effect, component, eigenvalue`` (the objective on the fitted cells), ``dense_eigenvalue``
    (the objective with all genes), ``snr`` and ``crosstalk`` (on held-out cells). Read it with
    :func:`flda.get.path_df`, and draw it with :func:`flda.pl.path`.

    Raises
    ------
    ValueError
        If a number of genes cannot be used, or if no cell (donor) can be held out without losing an effect. ``adata``
        is then left as it was.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=100)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], interactions=None, shrinkage=0.5)
    >>> flda.tl.path(adata, n_genes=[3, 6])
    >>> flda.get.path_df(adata).groupby("n_genes").size().to_dict()
    {3: 4, 6: 4}
    """
    step = Step("path", adata, key, copy)
    fitted = Fitted.read(adata, key)
    sizes = sorted({int(k) for k in n_genes})
    if not sizes:
        raise ValueError("n_genes is empty; give the numbers of genes to compare.")
    models = {str(k): fitted.sparse(n_genes=k, mode=mode, shrinkage=fitted.shrinkage) for k in sizes}
    with quiet():
        table = models[str(sizes[-1])].path(fitted.X, fitted.labels, sizes, fitted.donors).drop(columns="genes")
    with step.refit():
        held_out = certify_together(
            models, fitted.X, fitted.labels, fitted.donors,
            n_folds=n_folds, random_state=fitted.record.params["random_state"], n_jobs=n_jobs,
        )  # fmt: skip
    held_out = held_out.assign(n_genes=held_out["genes"].astype(np.int64))[["n_genes", "axis", "snr", "crosstalk"]]
    return step.write(path=table.merge(held_out, on=["n_genes", "axis"], how="left"))
