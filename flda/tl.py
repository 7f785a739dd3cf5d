"""Tools: AnnData in, results written into the AnnData."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version

import numpy as np
import pandas as pd
from anndata import AnnData, ImplicitModificationWarning

from . import _anndata
from ._keys import Keys
from .design import SEPARATOR
from .estimators import FLDA
from .metrics import gene_f

logger = logging.getLogger(__name__)


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
    random_state: int = 0,
    key_added: str = "flda",
    copy: bool = False,
) -> AnnData | None:
    """Find axes of expression that vary with one factor, or interaction, and little with the others.

    Runs :class:`flda.FLDA` on the cells that have a label for every factor and scores all cells. ``.raw`` is
    never used.

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
        Column of ``obs`` with the donor; cross-validated shrinkage then holds out whole donors.
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
    * ``uns["flda"]``: ``params``, ``axes``, ``design``, ``estimability``, ``effects``, ``fit`` and ``versions``

    With another ``key_added`` the names follow it (``X_<key>``, ``<key>``, ...).

    Raises
    ------
    ValueError
        For columns, layers or values that cannot be used. ``adata`` is then left as it was.

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
        interactions = [i if isinstance(i, str) else SEPARATOR.join(i) for i in interactions]
    labels = _anndata.labels(adata, [*factors, *nuisance])
    donors = None if donor is None else _anndata.labels(adata, [donor])[donor]
    if not adata.var_names.is_unique:
        twin = adata.var_names[adata.var_names.duplicated()][0]
        raise ValueError(f"gene name {twin!r} occurs more than once; call adata.var_names_make_unique() first.")
    genes = _anndata.gene_mask(adata, mask_var)
    X = _anndata.expression(adata, layer)
    _anndata.check_values(X, adata, layer)
    if not genes.all():
        X = X[:, genes]

    labelled = labels.notna().all(axis=1).to_numpy()
    if donors is not None:
        labelled &= donors.notna().to_numpy()
    if not labelled.all():
        missing = [c for c in labels if labels[c].isna().any()]
        logger.warning(
            "%d of %d cells have no label in %s; they get scores but take no part in the fit",
            np.sum(~labelled), adata.n_obs, missing or [donor],
        )  # fmt: skip
    if not labelled.any():
        raise ValueError(f"no cell has a label in every one of {list(labels)}.")
    everyone = bool(labelled.all())
    model = FLDA(
        interactions=interactions,
        nuisance=nuisance,
        n_components=n_comps,
        penalty=penalty,
        shrinkage=shrinkage,
        random_state=random_state,
    ).fit(
        X if everyone else X[labelled],
        labels if everyone else labels[labelled],
        None if donors is None else donors[labelled].to_numpy(),
    )
    scores = model.transform(X)

    ratios = gene_f(model.means_, model.within_sd_**2, model.design_)
    loadings = _spread(model.components_.T, genes, 0.0)
    adata = adata.copy() if copy else adata
    keys = Keys(key_added)
    with warnings.catch_warnings():
        # writing into a view makes it a real object, which is what the caller asked for
        warnings.simplefilter("ignore", ImplicitModificationWarning)
        adata.obsm[keys.obsm] = scores
        adata.varm[keys.varm] = loadings
        adata.varm[keys.varm_f] = _spread(ratios.to_numpy(), genes, np.nan)
        adata.var[keys.var_sd] = _spread(model.within_sd_, genes, np.nan)
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
                "random_state": random_state,
                "use_raw": False,
            },
            "axes": model.axes_,
            "design": _as_text(model.design_.counts_table()),
            "estimability": model.design_.report,
            "effects": list(ratios.columns),
            "fit": {
                "n_cells": int(labelled.sum()),
                "n_genes": int(genes.sum()),
                "shrinkage": model.shrinkage_,
                "solver": model.solver_,
                "residual": model.residual_,
            },
            "versions": {name: version(name) for name in ("flda", "numpy", "scipy", "scikit-learn", "anndata")},
        }
    logger.info(
        "flda: wrote obsm[%r], varm[%r], varm[%r], var[%r], uns[%r] (%.1f s)",
        keys.obsm, keys.varm, keys.varm_f, keys.var_sd, keys.uns, time.perf_counter() - start,
    )  # fmt: skip
    return adata if copy else None


def _spread(values: np.ndarray, genes: np.ndarray, fill: float) -> np.ndarray:
    """Rows of the used genes, placed among all genes."""
    out = np.full((len(genes), *values.shape[1:]), fill)
    out[genes] = values
    return out


def _as_text(table: pd.DataFrame) -> pd.DataFrame:
    """Level columns as categories of text: what every AnnData file format can hold."""
    return table.assign(
        **{
            c: pd.Categorical.from_codes(table[c].cat.codes, [str(v) for v in table[c].cat.categories])
            for c in table
            if isinstance(table[c].dtype, pd.CategoricalDtype)
        }
    )
