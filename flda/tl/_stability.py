"""Selection stability of a fit: :func:`flda.tl.stability`."""

from __future__ import annotations

import time
from typing import Any

import pandas as pd
from anndata import AnnData

from .._adata import read
from .._adata.fitted import Fitted, selection_of
from .._adata.results import Keys, _savable, _write
from .._logging import get_logger, quiet
from ..inference import Bootstrap, Stability, stability_selection
from ..inference import bootstrap as bootstrap_axes

logger = get_logger(__name__)


def stability(
    adata: AnnData,
    *,
    n_halves: int = 50,
    n_boots: int = 200,
    random_state: int = 0,
    n_jobs: int | None = None,
    key: str = "flda",
    copy: bool = False,
) -> AnnData | None:
    """How often halves of the cells (donors) select each gene, and intervals for loadings and scores.

    See :func:`flda.inference.stability_selection` and :func:`flda.inference.bootstrap`. The shrinkage is that of the
    fit.

    Parameters
    ----------
    adata
        With the results of :func:`flda.tl.flda` and :func:`flda.tl.rank_genes`. If the fit was given a donor, halves
        and resamples take whole donors.
    n_halves, n_boots
        Number of halves, and of resamples for the intervals (0 for none).
    random_state, n_jobs
        Seed, number of threads.
    key
        The ``key_added`` of the fit.
    copy
        Return a copy with the results instead of writing into ``adata``.

    Returns
    -------
    None, or the copy. Writes ``uns["flda"]["stability"]``:

    * ``genes``: DataFrame ``effect, gene, frequency, expected_false``, most frequent first
    * ``loadings``: ``axis, gene, loading, lower, upper``, and ``scores``: ``axis``, levels, ``score, lower, upper`` of
      group means; 95 % bootstrap intervals given the selected genes
    * ``params``: ``n_halves, n_boots, unit`` (cell or donor), ``random_state``

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=100)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.tl.rank_genes(adata, n_genes=5)
    >>> flda.tl.stability(adata, n_halves=4, n_boots=20)
    >>> bool(flda.get.rank_genes_df(adata)["frequency"].max() > 0.5)
    True
    """
    start = time.perf_counter()
    selection = selection_of(adata, key)
    if selection is None:
        raise ValueError("no genes are selected yet; run flda.tl.rank_genes first.")
    found = run_stability(Fitted.read(adata, key), selection, n_halves, n_boots, random_state, n_jobs)
    adata = adata.copy() if copy else adata
    write_stability(adata, key, found, n_boots, random_state)
    logger.info("stability: wrote uns[%r]['stability'] (%.1f s)", key, time.perf_counter() - start)
    return adata if copy else None


def run_stability(
    fitted: Fitted, selection: dict[str, Any], n_halves: int, n_boots: int, random_state: int, n_jobs: int | None
) -> tuple[Stability, Bootstrap | None]:
    """Halves and resamples of a fit; nothing is written."""
    model = fitted.sparse(selection, shrinkage=fitted.shrinkage)
    X, labels, donors = fitted.X, fitted.labels, fitted.donors
    halves = stability_selection(
        model, X, labels, donors, n_resamples=n_halves, random_state=random_state, n_jobs=n_jobs
    )
    if not n_boots:
        return halves, None
    with quiet():
        model.fit(X, labels, donors)
    return halves, bootstrap_axes(model, X, labels, donors, n_resamples=n_boots, random_state=random_state)


def write_stability(
    adata: AnnData, key: str, found: tuple[Stability, Bootstrap | None], n_boots: int, random_state: int
) -> None:
    """Into ``uns``; places of genes become names."""
    halves, boots = found
    names = adata.var_names.to_numpy()[read.in_memory(adata.var)[Keys(key).var_sd].notna().to_numpy()]

    def named(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(gene=names[table["gene"]])

    slot: dict[str, Any] = {
        "genes": named(halves.genes),
        "params": {
            "n_halves": halves.n_resamples,
            "n_boots": n_boots if boots is None else boots.n_resamples,
            "unit": halves.unit,
            "random_state": random_state,
        },
    }
    if boots is not None:
        slot["loadings"], slot["scores"] = named(boots.loadings), _savable(boots.scores)
    _write(adata, key, stability=slot)
