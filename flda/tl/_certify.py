"""Held-out certificates of a fit: :func:`flda.tl.certify`."""

from __future__ import annotations

import time

from anndata import AnnData

from .._adata.fitted import Fitted, selection_of
from .._adata.results import _savable, _write
from .._logging import get_logger, quiet
from ..estimators import FLDA
from ..inference._certificate import certify_together

logger = get_logger(__name__)


def certify(
    adata: AnnData,
    *,
    n_folds: int = 5,
    n_repeats: int = 1,
    random_state: int = 0,
    key: str = "flda",
    copy: bool = False,
) -> AnnData | None:
    """Certify every axis on held-out cells, or donors: signal, cross-talk and accuracy.

    Refits the model of :func:`flda.tl.flda` and, after :func:`flda.tl.rank_genes`, that of the selected genes in every
    fold, tuning and selection included. See :func:`flda.inference.certify`.

    Parameters
    ----------
    adata
        With the results of :func:`flda.tl.flda`. If it was given a donor, whole donors are held out.
    n_folds, n_repeats, random_state
        Folds, how often cells are dealt anew, seed.
    key
        The ``key_added`` of the fit.
    copy
        Return a copy with the results instead of writing into ``adata``.

    Returns
    -------
    None, or the copy. Writes ``uns["flda"]["certificate"]``, a DataFrame with a row per axis for ``genes`` ``"all"``
    and ``"selected"``; read it with :func:`flda.get.certificate_df`.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.tl.certify(adata)
    >>> bool(flda.get.certificate_df(adata).loc[0, "accuracy"] > 0.9)
    True
    """
    start = time.perf_counter()
    fitted, selection = Fitted.read(adata, key), selection_of(adata, key)
    models: dict[str, FLDA] = {"all": FLDA(**fitted.options())}
    if selection is not None:
        models["selected"] = fitted.sparse(selection)
    with quiet():
        table = certify_together(
            models, fitted.X, fitted.labels, fitted.donors,
            n_folds=n_folds, n_repeats=n_repeats, random_state=random_state,
        )  # fmt: skip
    adata = adata.copy() if copy else adata
    _write(adata, key, certificate=_savable(table))
    logger.info("certify: wrote uns[%r]['certificate'] (%.1f s)", key, time.perf_counter() - start)
    return adata if copy else None
