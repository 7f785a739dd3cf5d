"""Scores of cells on axes that were fitted without them: what an honest picture shows."""

from __future__ import annotations

import time

import numpy as np
from anndata import AnnData
from scipy.linalg import orthogonal_procrustes

from .._adata.fitted import Fitted
from .._adata.results import Keys
from .._design.design import Design
from .._design.splits import folds
from .._logging import get_logger, quiet
from .._progress import progress
from ..estimators import FLDA
from ..estimators._shrinkage import N_FOLDS

logger = get_logger(__name__)


def held_out_scores(adata: AnnData, *, n_folds: int = N_FOLDS, key: str = "flda", copy: bool = False) -> AnnData | None:
    """Score every cell on axes that were fitted without it.

    With more genes than cells the fitted cells pile up on the means of their groups, whatever the truth; held-out cells
    do not. :func:`flda.pl.scores` draws these scores once they exist. A fold holds out an equal share of every group,
    or whole donors if the fit had donors. The shrinkage is that of the fit. The axes of a fold are matched to those of
    the fit by the rotation within each effect that brings the effect's values at the groups closest (orthogonal
    Procrustes); a rotation moves no variance from one effect to another.

    Parameters
    ----------
    adata
        With the results of :func:`flda.tl.flda`.
    n_folds
        Number of folds.
    key
        The ``key_added`` of the fit.
    copy
        Return a copy with the results instead of writing into ``adata``.

    Returns
    -------
    None, or the copy if ``copy=True``. Writes ``obsm["X_flda_held_out"]``, ndarray N x k. NaN for cells without a
    label, the only cell of a group, and cells of folds without which an effect could not be estimated.

    Raises
    ------
    ValueError
        When no fold can be used. ``adata`` is then left as it was.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.tl.held_out_scores(adata)
    >>> adata.obsm["X_flda_held_out"].shape
    (400, 7)
    """
    start = time.perf_counter()
    fitted, keys = Fitted.read(adata, key), Keys(key)
    X, labels, seed = fitted.X, fitted.labels.reset_index(drop=True), fitted.params["random_state"]
    donors = None if fitted.donors is None else np.unique(fitted.donors, return_inverse=True)[1]
    with quiet():
        model = FLDA(**{**fitted.options(), "shrinkage": fitted.shrinkage}).fit(X, labels, fitted.donors)

    scores = np.full((len(labels), len(model.axes_)), np.nan)
    split = folds(model.design_, donors, seed, n_folds)
    for part in progress(split, desc="held-out scores", total=n_folds):
        if part.training is None:
            continue
        with quiet():
            fold = part.fit(model, X, labels)
        scores[part.test] = fold.transform(X[part.test]) @ _rotation(fold, model, part.training)
    if np.isnan(scores).all():
        raise ValueError(f"none of {n_folds} folds keeps every effect estimable; use fewer folds or interactions.")
    adata = adata.copy() if copy else adata
    out = np.full((adata.n_obs, scores.shape[1]), np.nan)
    out[fitted.cells] = scores
    adata.obsm[keys.obsm_held_out] = out
    logger.info("held_out_scores: wrote obsm[%r] (%.1f s)", keys.obsm_held_out, time.perf_counter() - start)
    return adata if copy else None


def _rotation(fold: FLDA, model: FLDA, part: Design) -> np.ndarray:
    """Takes scores of a fold's axes (columns) to those of the whole fit, effect by effect (k x k)."""
    present = (model.design_.table.groups[:, None] == part.table.groups).all(axis=2).any(axis=1)
    whole, own = (m.means_ @ m.components_.T for m in (model, fold))
    out = np.zeros((whole.shape[1], whole.shape[1]))
    for effect in part.effects:
        columns = np.flatnonzero(model.axes_["effect"] == effect.name)
        theirs = (model.design_.fitted(effect) @ whole[:, columns])[present]
        ours = part.fitted(effect) @ own[:, columns]
        out[np.ix_(columns, columns)] = orthogonal_procrustes(ours, theirs)[0]
    return out
