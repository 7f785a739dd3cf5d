"""Held-out certificates of a fit: :func:`flda.tl.certify`."""

from __future__ import annotations

from collections.abc import Sequence

from anndata import AnnData

from .._adata.fitted import Fitted
from .._adata.results import Step
from .._docs import documented
from ..estimators import FLDA
from ..inference._certificate import certify_together


@documented
def certify(
    adata: AnnData,
    *,
    n_folds: int = 5,
    n_repeats: int = 1,
    random_state: int = 0,
    n_jobs: int | None = None,
    genes: Sequence[str] | None = None,
    key: str = "flda",
    copy: bool = False,
) -> AnnData | None:
    """Measure SNR, cross-talk and accuracy of every axis on cells, or donors, that were held out of the fit.

    Every fold refits the model of :func:`flda.tl.flda`. After :func:`flda.tl.rank_genes`, every fold also refits the
    model of the selected genes, and after :func:`flda.tl.panel` that of the panel. Every fold tunes the shrinkage and
    selects the genes again. The signal-to-noise ratio
    (SNR) is the variance of the axis's own effect in units of the variance within groups. With too few cells (donors)
    for folds, one is left out at a time and the scores are pooled; the column ``scheme`` says so. See
    :func:`flda.inference.certify`.

    Parameters
    ----------
    {adata}
        If the fit had a ``donor``, whole donors are held out.
    {folds}
    {random_state}
    {n_jobs}
    genes
        Axes to certify, of ``"all"``, ``"selected"`` and ``"panel"``; by default those that there are.
    {key}
    {copy}

    Returns
    -------
    None, or the copy if ``copy=True``. Writes ``uns["flda"]["certificate"]``, a DataFrame with one row per axis. Its
    column ``genes`` is ``"all"`` for the axes of all genes, ``"selected"`` for those of :func:`flda.tl.rank_genes`, and
    ``"panel"`` for those of :func:`flda.tl.panel`. Read it with :func:`flda.get.certificate_df`, and draw it with
    :func:`flda.pl.certificate`.

    Raises
    ------
    ValueError
        If no cell (donor) can be held out without losing an effect, or if the fit has simulated cells.
        ``adata`` is then left as it was.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.tl.certify(adata)
    >>> bool(flda.get.certificate_df(adata).loc[0, "accuracy"] > 0.9)
    True
    """
    step = Step("certify", adata, key, copy, random_state)
    fitted = Fitted.read(adata, key)
    models: dict[str, FLDA] = {"all": fitted.dense()}
    if "selection" in fitted.record:
        models["selected"] = fitted.sparse()
    if "panel" in fitted.record:
        models["panel"] = fitted.panel()
    if genes is not None:
        genes = [genes] if isinstance(genes, str) else list(genes)
        if not genes or not set(genes) <= set(models):
            raise ValueError(f"genes={genes}: name some of {list(models)}, which are the axes that there are.")
        models = {name: models[name] for name in genes}
    with step.refit():
        table = certify_together(
            models, fitted.X, fitted.labels, fitted.donors,
            n_folds=n_folds, n_repeats=n_repeats, random_state=random_state, n_jobs=n_jobs,
        )  # fmt: skip
    return step.write(certificate=table)
