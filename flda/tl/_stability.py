"""Selection stability of a fit: :func:`flda.tl.stability`."""

from __future__ import annotations

from typing import Any

import pandas as pd
from anndata import AnnData

from .. import inference
from .._adata.fitted import Fitted
from .._adata.results import Step
from .._docs import documented
from .._logging import warn
from ..inference._bootstrap import NoHalvesError


@documented
def stability(
    adata: AnnData,
    *,
    n_resamples: int = 50,
    n_bootstraps: int = 200,
    random_state: int = 0,
    n_jobs: int | None = None,
    key: str = "flda",
    copy: bool = False,
) -> AnnData | None:
    """Count how often halves of the data select each gene, and compute intervals of loadings and scores.

    See :func:`flda.inference.stability_selection` and :func:`flda.inference.bootstrap`. The shrinkage is that of the
    fit. If the fit had a ``donor``, halves and bootstrap samples consist of whole donors.

    For the intervals, one half of the cells (or donors) selects the genes, and the other half gives the loadings and
    their intervals. They keep their level for all genes in the table. These genes can differ from those of
    :func:`flda.tl.rank_genes`, which selects them on all cells.

    Parameters
    ----------
    {adata_ranked}
    n_resamples
        Number of halves in which genes are selected again.
    n_bootstraps
        Number of bootstrap samples for the intervals. With 0, no intervals are computed. They are also left out, with
        a warning in the log, if a group is too small to be split.
    {random_state}
    {n_jobs}
    {key}
    {copy}

    Returns
    -------
    None, or the copy if ``copy=True``. Writes ``uns["flda"]["stability"]``:

    * ``genes``: DataFrame ``effect, gene, frequency, expected_false``, the most frequent genes first; read it with
      :func:`flda.get.stability_df`
    * ``loadings``: DataFrame ``axis, gene, loading, lower, upper`` with 95 % intervals for the genes that one half of
      the cells selects, and ``scores``: DataFrame ``axis``, levels, ``score, lower, upper`` of the means of the groups
      in the other half, on the axes of the first
    * ``params``: ``n_resamples, n_bootstraps, unit`` (cell or donor), ``random_state``

    The frequencies also appear in :func:`flda.get.rank_genes_df` and in the ranking of :func:`flda.tl.rank_genes`.

    Raises
    ------
    ValueError
        If no genes are selected, if the groups are too small for halves, or if the fit has simulated cells. ``adata``
        is then left as it was.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=100)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.tl.rank_genes(adata, n_genes=5)
    >>> flda.tl.stability(adata, n_resamples=4, n_bootstraps=20)
    >>> bool(flda.get.rank_genes_df(adata)["frequency"].max() > 0.5)
    True
    """
    step = Step("stability", adata, key, copy, random_state)
    fitted = Fitted.read(adata, key)
    model, data = fitted.sparse(shrinkage=fitted.shrinkage), (fitted.X, fitted.labels, fitted.donors)
    with step.refit():
        halves = inference.stability_selection(
            model, *data, n_resamples=n_resamples, random_state=random_state, n_jobs=n_jobs
        )
    names = fitted.record.gene_names

    def named(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(gene=names[table["gene"]])

    params = {"n_resamples": halves.n_resamples, "n_bootstraps": 0, "unit": halves.unit, "random_state": random_state}
    found: dict[str, Any] = {"genes": named(halves.genes), "params": params}
    if n_bootstraps:
        try:
            with step.refit():
                intervals = inference.bootstrap(
                    model, *data, n_resamples=n_bootstraps, random_state=random_state, n_jobs=n_jobs
                )
        except NoHalvesError as error:
            warn(f"no intervals: {error}")
        else:
            found |= {"loadings": named(intervals.loadings), "scores": intervals.scores}
            params["n_bootstraps"] = intervals.n_resamples
    return step.write(stability=found)
