"""Scores of cells on axes that were fitted without them: :func:`flda.tl.held_out_scores`."""

from __future__ import annotations

import numpy as np
from anndata import AnnData

from .._adata.fitted import Fitted
from .._adata.results import Step
from .._design.splits import Split, folds
from .._docs import documented
from .._logging import quiet
from .._progress import each
from ..estimators._shrinkage import N_FOLDS
from ..inference._alignment import Alignment


@documented
def held_out_scores(
    adata: AnnData, *, n_folds: int = N_FOLDS, n_jobs: int | None = None, key: str = "flda", copy: bool = False
) -> AnnData | None:
    """Score every cell on axes that were fitted without it.

    With more genes than cells, fitted cells lie close to the means of their groups even if there is no effect. Held-out
    cells do not. :func:`flda.pl.scores` draws the held-out scores if they have been computed. A fold holds out an equal
    share of every group, or whole donors if the fit had donors. A fold may hold out a single donor, which is enough for
    scores, but not for the estimates of :func:`flda.tl.certify`. The shrinkage is that of the fit. Within each effect,
    the axes of a fold are rotated as close as possible to those of the fit (orthogonal Procrustes, in the metric of the
    covariance within groups). This rotation moves no variance from one effect to another.

    Parameters
    ----------
    {adata}
    n_folds
        Number of folds.
    {n_jobs}
    {key}
    {copy}

    Returns
    -------
    None, or the copy if ``copy=True``. Writes ``obsm["X_flda_held_out"]``, ndarray N x k. The scores are NaN for cells
    without a label and for the only cell of a group. They are also NaN for the cells of a fold if an effect cannot be
    estimated without these cells.

    Raises
    ------
    ValueError
        If no fold can be used, or if the fit has simulated cells. ``adata`` is then left as it was.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.tl.held_out_scores(adata)
    >>> adata.obsm["X_flda_held_out"].shape
    (400, 7)
    """
    step = Step("held_out_scores", adata, key, copy)
    fitted = Fitted.read(adata, key)
    X, labels, seed = fitted.X, fitted.labels.reset_index(drop=True), fitted.record.params["random_state"]
    donors = None if fitted.donors is None else np.unique(fitted.donors, return_inverse=True)[1]
    with quiet():
        model = fitted.dense(shrinkage=fitted.shrinkage).fit(X, labels, fitted.donors)

    alignment = Alignment(model, X, model.design_)
    scores = np.full((len(labels), len(model.axes_)), np.nan)
    splits = [split for split in folds(model.design_, donors, seed, n_folds) if split.training is not None]

    def scored(split: Split) -> np.ndarray:
        fold = split.fit(model, X, labels, axes_only=True)
        return fold.transform(X[split.test]) @ alignment.rotation(fold)

    found = each(scored, splits, desc="held-out scores", n_jobs=n_jobs, total=len(splits))
    for split, of_fold in zip(splits, found, strict=True):
        scores[split.test] = of_fold
    if np.isnan(scores).all():
        raise ValueError(
            f"none of {n_folds} folds keeps every effect estimable; use fewer folds or fewer interactions."
        )
    of_all_cells = np.full((adata.n_obs, scores.shape[1]), np.nan)
    of_all_cells[fitted.cells] = scores
    return step.write(held_out_scores=of_all_cells)
