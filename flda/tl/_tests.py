"""Tests of effects and genes: :func:`flda.tl.effect_tests`."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from anndata import AnnData

from .. import get
from .._adata import read
from .._adata.fitted import Fitted
from .._adata.results import Keys, _savable, _write
from .._logging import get_logger
from ..estimators import FLDA
from ..inference import EffectTests
from ..inference import effect_tests as permute

logger = get_logger(__name__)


def permutation_test(
    adata: AnnData,
    *,
    effects: str | Sequence[str] | None = None,
    n_perms: int = 999,
    random_state: int = 0,
    n_jobs: int | None = None,
    key: str = "flda",
    copy: bool = False,
) -> AnnData | None:
    """Permutation p-values of every effect, and of every gene for each effect.

    See :func:`flda.inference.permutation_test` for what is permuted. If :func:`flda.tl.flda` was given a donor, factors
    that vary between donors are tested by exchanging donors.

    Parameters
    ----------
    adata
        With the results of :func:`flda.tl.flda`.
    effects
        Effects to test, e.g. ``["dendrite"]``; None for all that can be.
    n_perms, random_state, n_jobs
        Permutations per effect, seed, number of threads.
    key
        The ``key_added`` of the fit.
    copy
        Return a copy with the results instead of writing into ``adata``.

    Returns
    -------
    None, or the copy. Writes

    * ``uns["flda"]["permutation"]``: ``table``, a row per effect, and ``null``, the statistic under every permutation
    * ``varm["flda_pval"]``, ``varm["flda_pval_adj"]``, ``varm["flda_pval_max"]``: p-values of each gene, false
      discovery rate and family-wise, p x effects with axes; NaN for genes and effects that were not tested

    Raises
    ------
    ValueError
        For an effect between donors with fewer than three donors in a level, and data that are too large.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=300, n_vars=100)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.tl.permutation_test(adata, n_perms=19)
    >>> adata.uns["flda"]["permutation"]["table"]["pval"].tolist()[0]
    0.05
    """
    start = time.perf_counter()
    result = run_permutations(Fitted.read(adata, key), effects, n_perms, random_state, n_jobs)
    adata = adata.copy() if copy else adata
    write_permutations(adata, key, result)
    logger.info(
        "permutation_test: wrote uns[%r]['permutation'], varm['%s_pval'] (%.1f s)",
        key, key, time.perf_counter() - start,
    )  # fmt: skip
    return adata if copy else None


def run_permutations(
    fitted: Fitted, effects: str | Sequence[str] | None, n_perms: int, random_state: int, n_jobs: int | None
) -> EffectTests:
    """The test of a fit; nothing is written."""
    effects = [effects] if isinstance(effects, str) else effects
    return permute(
        FLDA(**fitted.options()), fitted.X, fitted.labels, fitted.donors,
        effects=effects, n_resamples=n_perms, random_state=random_state, n_jobs=n_jobs,
    )  # fmt: skip


def write_permutations(adata: AnnData, key: str, result: EffectTests) -> None:
    """Into ``uns`` and ``varm``."""
    keys = Keys(key)
    results = get.results(adata, key)
    effects = list(dict.fromkeys(results["axes"]["effect"]))
    genes = np.flatnonzero(read.in_memory(adata.var)[keys.var_sd].notna().to_numpy())
    for column in ("pval", "pval_adj", "pval_max"):
        values = np.full((adata.n_vars, len(effects)), np.nan)
        for effect, part in result.genes.groupby("effect", sort=False):
            values[genes[part["gene"]], effects.index(effect)] = part[column]
        adata.varm[f"{key}_{column}"] = values
    _write(adata, key, permutation={"table": _savable(result.table), "null": result.null})
