"""The genes behind every axis: :func:`flda.tl.rank_genes`."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from anndata import AnnData, ImplicitModificationWarning

from .. import get
from .._adata import read
from .._adata.fitted import Fitted
from .._adata.results import Keys
from .._data import arrays
from .._design.effects import SEPARATOR
from .._logging import get_logger, quiet
from ..estimators import SparseFLDA
from ._fit import spread
from ._stability import run_stability, write_stability
from ._tests import run_permutations, write_permutations

logger = get_logger(__name__)

PSEUDOCOUNT = 0.1  # in fold changes, on the scale of expm1(X): counts per 10,000 if so normalised
N_BOOTS = 200  # resamples for the intervals that come with n_halves


def rank_genes(
    adata: AnnData,
    *,
    effects: str | Sequence[str] | None = None,
    n_genes: int | str | Mapping[str, int] = 20,
    mode: str = "axis",
    mask_var: str | np.ndarray | None = None,
    min_cells: int = 0,
    exclude: Sequence[str] = (),
    n_perms: int = 0,
    n_halves: int = 0,
    key: str = "flda",
    key_added: str = "rank_genes_flda",
    copy: bool = False,
) -> AnnData | None:
    """Pick the few genes behind every axis, and rank all genes by them.

    Runs :class:`flda.SparseFLDA` on the cells, genes, penalties and shrinkage of :func:`flda.tl.flda`. In scanpy's
    results the groups are the axes: ``sc.get.rank_genes_groups_df(adata, "dendrite_1", key="rank_genes_flda")`` and
    the ``sc.pl.rank_genes_groups*`` functions read them.

    Parameters
    ----------
    adata
        With the results of :func:`flda.tl.flda`.
    effects
        Effects to rank genes for, e.g. ``["dendrite"]``; None for all.
    n_genes
        Genes per axis: a number, a dict by effect, or ``"cv"``.
    mode
        ``"axis"``: the best axis of ``n_genes`` genes; ``"marker"``: genes that are themselves specific.
    mask_var, min_cells, exclude
        Which genes may be selected: a boolean column of ``var`` (such as ``"highly_variable"``) or an array; those
        with a non-zero value in at least ``min_cells`` cells; all but the named ones.
    n_perms, n_halves
        Run :func:`permutation_test` and :func:`stability` too, with so many permutations and halves; 0 for not.
    key
        The ``key_added`` of :func:`flda.tl.flda`.
    key_added
        Key of the ranking in ``uns``.
    copy
        Return a copy with the results instead of writing into ``adata``.

    Returns
    -------
    None, or the copy if ``copy=True``. Writes:

    * ``uns["rank_genes_flda"]``: ``params`` and the records ``names, scores`` (standardised loadings, zero for genes
      that were not selected), ``logfoldchanges, pvals, pvals_adj`` (NaN if no test was run), a field per axis. Fold
      changes are log2 of the mean expression, plus 0.1, of the groups on the positive side over the negative side.
      The colon of an interaction is written `` x `` in field names (``"dendrite x axon_1"``): zarr allows no colon.
    * ``varm["flda_sparse"]``: loadings, p x sparse axes
    * ``uns["flda"]["sparse_axes"]`` and ``uns["flda"]["gene_report"]``: the axes, and what each selected gene does

    Raises
    ------
    ValueError
        For names and numbers that do not fit. ``adata`` is then left as it was.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.tl.rank_genes(adata, n_genes=5)
    >>> flda.get.rank_genes_df(adata, "dendrite")["selected"].sum()
    np.int64(5)
    """
    start = time.perf_counter()
    # a selection may use simulated cells, what says how far to believe it may not
    results, keys = get.results(adata, key), Keys(key)
    fitted = Fitted.read(adata, key, evidence=bool(n_perms or n_halves))
    params, genes = fitted.params, fitted.genes
    names = adata.var_names.to_numpy()

    candidates = genes & read.gene_mask(adata, mask_var)
    unknown = [g for g in exclude if g not in adata.var_names]
    if unknown:
        raise ValueError(f"exclude names genes that are not in var_names: {unknown[:5]}.")
    candidates &= ~np.isin(names, list(exclude))
    if min_cells:
        candidates[genes] &= arrays.detected(fitted.X) >= min_cells
    if not candidates.any():
        raise ValueError("mask_var, min_cells and exclude leave no gene that could be selected.")
    wanted = [effects] if isinstance(effects, str) else list(effects or dict.fromkeys(results["axes"]["effect"]))
    for effect in wanted:
        if effect not in set(results["axes"]["effect"]):
            raise ValueError(
                f"no axes for the effect {effect!r}; effects are {list(dict.fromkeys(results['axes']['effect']))}."
            )

    selection = {
        "n_genes": dict(n_genes) if isinstance(n_genes, Mapping) else n_genes, "mode": mode, "candidates": candidates
    }  # fmt: skip
    with quiet():
        model = fitted.sparse(selection, shrinkage=fitted.shrinkage).fit(fitted.X, fitted.labels, fitted.donors)
    seed = params["random_state"]
    tested = run_permutations(fitted, None, n_perms, seed, None) if n_perms else None
    halves = run_stability(fitted, selection, n_halves, N_BOOTS, seed, None) if n_halves else None
    chosen = model.axes_["effect"].isin(wanted).to_numpy()
    axes = model.axes_[chosen].reset_index(drop=True)
    loadings = spread(model.components_[chosen].T, genes, 0.0)
    report = model.gene_report_[model.gene_report_["effect"].isin(wanted)].reset_index(drop=True)
    # genes are named by their place among the fitted ones so far
    report["gene"] = names[genes][report["gene"]]
    report["collinear"] = [", ".join(names[genes][list(others)]) for others in report["collinear"]]
    report.columns = [c.replace("/", "_") for c in report.columns]  # file formats allow no slash in a key

    changes = spread(_log_fold_changes(model, adata)[:, chosen], genes, np.nan)
    adata = adata.copy() if copy else adata
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImplicitModificationWarning)
        adata.varm[keys.varm_sparse] = loadings
        adata.uns[keys.uns]["sparse_axes"] = axes
        adata.uns[keys.uns]["gene_report"] = report
        adata.uns[keys.uns]["selection"] = selection
        for stale in ("certificate", "stability"):
            adata.uns[keys.uns].pop(stale, None)
        if tested is not None:
            write_permutations(adata, key, tested)
        if halves is not None:
            write_stability(adata, key, halves, N_BOOTS, seed)
    ranking = get.rank_genes_df(adata, key=key)
    adata.uns[key_added] = {
        "params": {
            "groupby": params["factors"][0],
            "reference": "rest",
            "method": "flda",
            "use_raw": False,
            "layer": params["layer"],
            "corr_method": None,
            "key": key,
            "mode": mode,
            "n_genes": selection["n_genes"],
        },
        **_scanpy_records(ranking, pd.DataFrame(changes, index=adata.var_names, columns=axes["axis"])),
    }
    logger.info(
        "rank_genes: wrote uns[%r], varm[%r], uns[%r] (%.1f s)",
        key_added, keys.varm_sparse, keys.uns, time.perf_counter() - start,
    )  # fmt: skip
    return adata if copy else None


def _scanpy_records(ranking: pd.DataFrame, changes: pd.DataFrame) -> dict[str, np.ndarray]:
    """The five record arrays that scanpy's readers want, a field per axis and rows in the order of the ranking."""
    columns: dict[str, dict[str, np.ndarray]] = {
        "names": {}, "scores": {}, "logfoldchanges": {}, "pvals": {}, "pvals_adj": {}
    }  # fmt: skip
    for axis, part in ranking.groupby("axis", sort=False):
        field = axis.replace(SEPARATOR, " x ")  # zarr allows no colon in a field name
        columns["names"][field] = part["gene"].to_numpy(dtype=object)
        columns["scores"][field] = part["score"].to_numpy()
        columns["logfoldchanges"][field] = changes.loc[part["gene"], axis].to_numpy()
        columns["pvals"][field] = part["pval"].to_numpy()
        columns["pvals_adj"][field] = part["pval_adj"].to_numpy()
    kinds = {"names": "O", "scores": "float32", "logfoldchanges": "float32", "pvals": "float64", "pvals_adj": "float64"}
    return {
        name: pd.DataFrame(fields).to_records(index=False, column_dtypes=kinds[name])
        for name, fields in columns.items()
    }


def _log_fold_changes(model: SparseFLDA, adata: AnnData) -> np.ndarray:
    """log2 fold change of every gene between the two sides of every axis, p x k; NaN where expression is negative."""
    base = adata.uns.get("log1p", {}).get("base")
    linear = np.expm1(model.means_ * (1.0 if base is None else np.log(base)))
    linear = np.where((model.means_ >= 0).all(axis=0), linear, np.nan)
    design, out = model.design_, []
    for effect, u in zip(model.axes_["effect"], model.components_, strict=True):
        own = next(e for e in design.effects if e.name == effect)
        side = design.fitted(own) @ (model.means_ @ u)
        up, down = linear[side > 0].mean(axis=0), linear[side <= 0].mean(axis=0)
        out.append(np.log2((up + PSEUDOCOUNT) / (down + PSEUDOCOUNT)))
    return np.column_stack(out)
