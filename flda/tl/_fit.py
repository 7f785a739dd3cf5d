"""The dense fit: :func:`flda.tl.flda`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version

import numpy as np
import pandas as pd
from anndata import AnnData

from .._adata import read
from .._adata.results import Step, check_new_fit, check_storable
from .._design.design import Design
from .._design.effects import Effect
from .._logging import get_logger, quiet
from ..estimators import FLDA
from ..metrics import effect_shares, gene_f, total_products

logger = get_logger(__name__)


def flda(
    adata: AnnData,
    factors: str | Sequence[str],
    *,
    interactions: str | Iterable[str | Sequence[str]] | None = "all",
    nuisance: str | Sequence[str] | None = None,
    donor: str | None = None,
    layer: str | None = None,
    mask_var: str | np.ndarray | None = None,
    n_components: int | Mapping[str, int] | None = None,
    penalty: float | Mapping[str, float] = 1.0,
    shrinkage: float | str = "auto",
    device: str = "cpu",
    random_state: int = 0,
    key_added: str = "flda",
    copy: bool = False,
) -> AnnData | None:
    """Find axes of expression that vary with one factor, or interaction, and little with the others.

    Runs :class:`flda.FLDA` on the cells that have a label for every factor and scores all cells. ``.raw`` is
    never used. Cells that :func:`flda.pp.augment` made take part in the fit, not in the tuning of the shrinkage, nor in
    ``variance``.

    Parameters
    ----------
    adata
        Cells x genes with log-normalised expression.
    factors
        Columns of ``obs`` that cross, e.g. ``["dendrite", "axon"]``.
    interactions
        ``"all"`` that the table identifies, None, or a list such as ``["dendrite:axon"]``.
    nuisance
        Columns of ``obs`` that enter the fit as additive effects without axes, e.g. a batch.
    donor
        Column of ``obs`` with the donor. Cross-validated shrinkage then holds out whole donors, and donors enter the
        error term if a factor varies between them; see :class:`flda.FLDA`.
    layer
        Layer to use instead of ``X``.
    mask_var
        Genes to use: a boolean column of ``var`` or a boolean array. None takes all genes.
    n_components
        Axes per effect: None for all useful ones, a number, or a dict by effect.
    penalty
        Charge for variance of other effects, see :class:`flda.FLDA`.
    shrinkage
        Shrinkage of the within scatter, see :class:`flda.FLDA`.
    device
        ``"cuda"`` works on a GPU through cupy (``pip install "flda[gpu]"``), block by block, so that the data need not
        fit there; results are NumPy's. The steps after this one use the same device, or the CPU where there is none.
    random_state
        Seed of the cross-validation folds.
    key_added
        Key of the results, see below.
    copy
        Return a copy with the results instead of writing into ``adata``.

    Returns
    -------
    None, or the copy if ``copy=True``. Writes:

    * ``obsm["X_flda"]``: scores of all cells, ndarray N x k
    * ``varm["flda"]``: loadings, ndarray p x k, zero for genes left out
    * ``varm["flda_F"]``: F ratio of each gene for every effect in the fit, ndarray p x effects
    * ``var["flda_within_sd"]``: within-group standard deviation, NaN for genes left out
    * ``var["flda_centre"]``: mean of the group means, where scores are zero, NaN for genes left out
    * ``uns["flda"]``: ``params``, ``axes``, ``design``, ``estimability``, ``effects``, ``fit``, ``variance`` and
      ``versions``. ``variance`` has the share of every effect in the variance of all genes, in a table with equal
      groups; noise is taken off, so a share can be negative

    With another ``key_added`` the names follow it (``X_<key>``, ``<key>``, ...).

    Raises
    ------
    ValueError
        For columns, layers or values that cannot be used. ``adata`` is then left as it was.
    ImportError, RuntimeError
        For ``device="cuda"`` without cupy, or without a GPU.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> adata.obsm["X_flda"].shape
    (400, 7)
    """
    step = Step("flda", adata, key_added, copy)
    check_new_fit(adata, key_added)
    factors = [factors] if isinstance(factors, str) else list(factors)
    nuisance = [nuisance] if isinstance(nuisance, str) else list(nuisance or ())
    if isinstance(interactions, Iterable) and not isinstance(interactions, str):
        interactions = [i if isinstance(i, str) else Effect(i).name for i in interactions]
    params = {
        "factors": factors,
        "interactions": interactions,
        "nuisance": nuisance,
        "donor": donor,
        "layer": layer,
        "mask_var": mask_var if mask_var is None or isinstance(mask_var, str) else "array",
        "n_components": n_components,
        "penalty": penalty,
        "shrinkage": shrinkage,
        "device": device,
        "random_state": random_state,
        "use_raw": False,
    }
    check_storable(params)
    cells = read.read_cells(adata, factors, nuisance, donor, layer, device)
    genes = read.gene_mask(adata, mask_var)
    made = read.augmented(adata) & cells.labelled
    model = FLDA(
        interactions=interactions,
        nuisance=nuisance,
        n_components=n_components,
        penalty=penalty,
        shrinkage=shrinkage,
        random_state=random_state,
    )
    real = cells.labelled & ~made
    if made.any() and isinstance(shrinkage, str):
        # tuning holds cells out, and only real ones can show what holds
        with quiet():
            dataclasses.replace(cells, labelled=real).fit(model, genes)
        model.set_params(shrinkage=model.shrinkage_)
    X = cells.fit(model, genes)
    scores = model.transform(X)

    donors = None if cells.donors is None else pd.factorize(cells.donors[real])[0]
    design = model.design_ if not made.any() else model.design_.subset(np.flatnonzero(real[cells.labelled]))
    if design is None:
        logger.warning("without the simulated cells some effect cannot be estimated: its variance is left out")
    products = None if design is None else total_products(X if real.all() else X[real], design, donors)
    F = gene_f(model.means_, model.within_sd_**2, model.design_)
    return step.write(
        f"{cells.labelled.sum()} cells x {genes.sum()} genes in {model.design_.n_groups} groups, "
        f"{len(model.axes_)} axes, shrinkage {model.shrinkage_:.3g}; ",
        genes=genes,
        params=params,
        axes=model.axes_,
        design=model.design_.counts_table(),
        estimability=model.design_.report,
        effects=list(F.columns),
        fit={
            "n_cells": int(cells.labelled.sum()),
            "n_genes": int(genes.sum()),
            "shrinkage": model.shrinkage_,
            "solver": model.solver_,
            "residual": model.residual_,
            **({"n_augmented": int(made.sum())} if made.any() else {}),
            **({} if model.donor_share_ is None else {"donor_share": model.donor_share_}),
        },
        variance=_shares(products, model.design_ if design is None else design),
        versions={name: version(name) for name in ("flda", "numpy", "scipy", "scikit-learn", "anndata")},
        scores=scores,
        loadings=model.components_.T,
        F=F,
        within_sd=model.within_sd_,
        centre=model.means_.mean(axis=0),
    )


def _shares(products: tuple[np.ndarray, np.ndarray] | None, design: Design) -> pd.DataFrame:
    """``effect, df, variance, share`` of all genes, with a last row for what is within groups; NaN without products."""
    df = [design.df(e) for e in design.contrasts]
    if products is None:
        shares = pd.Series(np.nan, index=[*(e.name for e in design.contrasts), "within"])
        variance = shares
    else:
        shares = effect_shares(*products, design)[0]
        variance = shares * (products[1][0] / shares["within"])
    return pd.DataFrame(
        {
            "effect": shares.index.to_list(),
            "df": [*df, int(design.counts.sum() - design.n_groups)],
            "variance": variance.to_numpy(),
            "share": shares.to_numpy(),
        }
    )
