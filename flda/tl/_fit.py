"""The dense fit: :func:`flda.tl.flda`."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version

import numpy as np
import pandas as pd
from anndata import AnnData, ImplicitModificationWarning

from .._adata import read
from .._adata.results import Keys
from .._data.summary import summarise
from .._design.design import Design
from .._design.effects import Effect
from .._design.samples import sample_units
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
    n_comps: int | Mapping[str, int] | None = None,
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
    n_comps
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
    start = time.perf_counter()
    factors = [factors] if isinstance(factors, str) else list(factors)
    nuisance = [nuisance] if isinstance(nuisance, str) else list(nuisance or ())
    if isinstance(interactions, Iterable) and not isinstance(interactions, str):
        interactions = [i if isinstance(i, str) else Effect(i).name for i in interactions]
    cells = read.read_cells(adata, factors, nuisance, donor, layer, device)
    genes = read.gene_mask(adata, mask_var)
    made = read.augmented(adata) & cells.labelled
    model = FLDA(
        interactions=interactions,
        nuisance=nuisance,
        n_components=n_comps,
        penalty=penalty,
        shrinkage=shrinkage,
        random_state=random_state,
    )
    real = cells.labelled & ~made
    if made.any() and isinstance(shrinkage, str):
        # tuning holds cells out, and only real ones can show what holds
        with quiet(), cells.named(adata, genes, real, layer):
            model.fit(*dataclasses.replace(cells, labelled=real).data(genes))
        model.set_params(shrinkage=model.shrinkage_)
    with cells.named(adata, genes, cells.labelled, layer):
        prepared = model._prepare(*cells.data(genes))
        if prepared.summary.counts_like:
            read.warn_of_counts(layer)
        model._fit(prepared)
    X = cells.X if genes.all() else cells.X[:, genes]
    with cells.named(adata, genes, np.ones(adata.n_obs, dtype=bool), layer):
        scores = model.transform(X)

    summary, donors = prepared.summary, prepared.donors
    design: Design | None = prepared.design
    if made.any():
        chosen = real[cells.labelled]
        design, donors = prepared.design.subset(np.flatnonzero(chosen)), None if donors is None else donors[chosen]
        if design is None:
            logger.warning("without the simulated cells some effect cannot be estimated: its variance is left out")
        else:
            units = sample_units(design, donors)
            summary = summarise(X[real], units.codes, len(units.counts))
    products = None if design is None else total_products(summary.sums, summary.squares, design, donors)
    ratios = gene_f(prepared.within.means, model.within_sd_**2, model.design_)
    loadings = spread(model.components_.T, genes, 0.0)
    adata = adata.copy() if copy else adata
    keys = Keys(key_added)
    with warnings.catch_warnings():
        # writing into a view makes it a real object, which is what the caller asked for
        warnings.simplefilter("ignore", ImplicitModificationWarning)
        _forget_selection(adata, keys)
        adata.obsm[keys.obsm] = scores
        adata.varm[keys.varm] = loadings
        adata.varm[keys.varm_f] = spread(ratios.to_numpy(), genes, np.nan)
        adata.var[keys.var_sd] = spread(model.within_sd_, genes, np.nan)
        adata.var[keys.var_centre] = spread(model.means_.mean(axis=0), genes, np.nan)
        adata.uns[keys.uns] = {
            "params": {
                "factors": factors,
                "interactions": interactions,
                "nuisance": nuisance,
                "donor": donor,
                "layer": layer,
                "mask_var": mask_var if mask_var is None or isinstance(mask_var, str) else "array",
                "n_comps": dict(n_comps) if isinstance(n_comps, Mapping) else n_comps,
                "penalty": dict(penalty) if isinstance(penalty, Mapping) else penalty,
                "shrinkage": shrinkage,
                "device": device,
                "random_state": random_state,
                "use_raw": False,
            },
            "axes": model.axes_,
            "design": _as_text(model.design_.counts_table()),
            "estimability": model.design_.report,
            "effects": list(ratios.columns),
            "fit": {
                "n_cells": int(cells.labelled.sum()),
                "n_genes": int(genes.sum()),
                "shrinkage": model.shrinkage_,
                "solver": model.solver_,
                "residual": model.residual_,
                **({"n_augmented": int(made.sum())} if made.any() else {}),
                **({} if model.donor_share_ is None else {"donor_share": model.donor_share_}),
            },
            "variance": _shares(products, model.design_ if design is None else design),
            "versions": {name: version(name) for name in ("flda", "numpy", "scipy", "scikit-learn", "anndata")},
        }
    logger.info(
        "flda: %d cells x %d genes in %d groups, %d axes, shrinkage %.3g; wrote obsm[%r], varm[%r], uns[%r] (%.1f s)",
        *(cells.labelled.sum(), genes.sum(), model.design_.n_groups, len(model.axes_), model.shrinkage_),
        *(keys.obsm, keys.varm, keys.uns, time.perf_counter() - start),
    )
    return adata if copy else None


def _forget_selection(adata: AnnData, keys: Keys) -> None:
    """Remove what was written about an earlier fit under the same key."""
    for name in (keys.varm_sparse, *(f"{keys.key}_{p}" for p in ("pval", "pval_adj", "pval_max"))):
        adata.varm.pop(name, None)
    adata.obsm.pop(keys.obsm_held_out, None)
    for name, value in list(adata.uns.items()):
        params = value.get("params", {}) if isinstance(value, Mapping) else {}
        if isinstance(params, Mapping) and params.get("method") == "flda" and params.get("key") == keys.key:
            del adata.uns[name]


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


def _as_text(table: pd.DataFrame) -> pd.DataFrame:
    """Level columns as categories of text: what every AnnData file format can hold."""
    return table.assign(
        **{
            c: pd.Categorical.from_codes(table[c].cat.codes, [str(v) for v in table[c].cat.categories])
            for c in table
            if isinstance(table[c].dtype, pd.CategoricalDtype)
        }
    )


def spread(values: np.ndarray, genes: np.ndarray, fill: float) -> np.ndarray:
    """Rows of the used genes, placed among all genes."""
    out = np.full((len(genes), *values.shape[1:]), fill)
    out[genes] = values
    return out
