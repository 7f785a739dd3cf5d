"""The genes behind every axis: :func:`flda.tl.rank_genes`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from .. import get
from .._adata import read
from .._adata.fitted import Fitted
from .._adata.keys import check_new_ranking
from .._adata.record import Record
from .._adata.results import Step, scanpy_name
from .._data import arrays
from .._data.log_normalise import undo_log
from .._docs import documented
from .._logging import quiet
from ..estimators import SparseFLDA
from ._fit import crossed_groups

MOST_VALUES = 5_000_000  # of groups x genes in the record of groups
PSEUDOCOUNT = 0.1  # in fold changes, on the scale of expm1(X): counts per 10,000 if so normalised


@documented
def rank_genes(
    adata: AnnData,
    *,
    effects: str | Sequence[str] | None = None,
    n_genes: int | str | Mapping[str, int] = 20,
    mode: str = "axis",
    mask_var: str | np.ndarray | None = None,
    min_cells: int = 0,
    exclude: Sequence[str] = (),
    sort_by: str = "score",
    gap_effort: float = 0.05,
    key: str = "flda",
    key_added: str = "rank_genes_flda",
    copy: bool = False,
) -> AnnData | None:
    """Select the few genes behind every axis, and rank all genes for every axis.

    Runs :class:`flda.SparseFLDA` on the cells and genes of :func:`flda.tl.flda`, with the same penalties and shrinkage.
    The ranking is also stored in the form of ``scanpy.tl.rank_genes_groups``, where the groups are the axes:
    ``sc.get.rank_genes_groups_df(adata, "dendrite_1", key="rank_genes_flda")`` and the ``sc.pl.rank_genes_groups*``
    functions read it.

    Parameters
    ----------
    {adata}
    effects
        Effects to rank genes for, such as ``["dendrite"]``; None for all.
    n_genes
        Number of genes per axis: a number, a dict by effect, or ``"cv"``.
    mode
        ``"axis"`` for the best axis of ``n_genes`` genes, ``"marker"`` for genes that are specific on their own.
    mask_var
        Genes that may be selected: a boolean column of ``var``, such as ``"highly_variable"``, or a boolean array.
    min_cells
        A gene can be selected only if it has a non-zero value in at least this many cells.
    exclude
        Names of genes that may not be selected.
    sort_by
        Order and ``scores`` of the ranking in scanpy's form: ``"score"`` for the genes that the axis uses, or
        ``"pattern"`` or ``"F"`` for the genes that differ; see :func:`flda.get.rank_genes_df`.
    gap_effort
        Effort for the optimality gap of each axis: 1 takes about a second per axis, and 0 leaves the gaps out. More
        effort gives smaller gaps.
    {key}
    key_added
        Name in ``uns`` of the ranking in scanpy's form.
    {copy}

    Returns
    -------
    None, or the copy if ``copy=True``. Writes:

    * ``uns["rank_genes_flda"]``: ``params`` and the records ``names, scores`` (by default standardised loadings, zero
      for genes that were not selected), ``logfoldchanges, pvals, pvals_adj``, with a field per axis. A fold change is
      the log2 ratio of the mean expression of the groups on the positive side of the axis to that on the negative side;
      0.1 is added to both. P-values are NaN until :func:`flda.tl.effect_tests` has run, which may be before or after
      this call. :func:`flda.tl.stability` adds ``frequencies``. The colon of an interaction is written `` x `` in field
      names (``"dendrite x axon_1"``) because zarr allows no colon
    * ``uns["rank_genes_flda_groups"]``: the same with a field for each group of ``obs["flda_group"]``, for
      ``values_to_plot=`` of scanpy's dot and matrix plots: ``scores`` are group means minus the mean over groups, in
      standard deviations within groups, and fold changes compare a group with the mean of the others
    * ``varm["flda_sparse"]``, ``varm["flda_sparse_pattern"]``: loadings, and correlations of each gene with each sparse
      axis (:func:`flda.metrics.patterns`), ndarrays p x sparse axes
    * ``var["flda_candidates"]``: which genes could be selected
    * ``uns["flda"]``: ``sparse_axes``, ``gene_report`` (what each selected gene does) and ``selection`` (its
      parameters). The column ``optimality_gap`` of ``sparse_axes`` says how much better another choice of as many genes
      can be at most: 0.02 means 2 %, and 0 proves that there is no better one. There is one selection per fit: a later
      call replaces it and removes the certificate and the stability of the earlier selection. Rankings under another
      ``key_added`` are kept with their own parameters

    Raises
    ------
    ValueError
        If a name or a number cannot be used. ``adata`` is then left as it was.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.tl.rank_genes(adata, n_genes=5)
    >>> flda.get.rank_genes_df(adata, "dendrite")["selected"].sum()
    np.int64(5)
    """
    step = Step("rank_genes", adata, key, copy)
    check_new_ranking(adata, key_added)
    if sort_by not in get.SORT_BY:
        raise ValueError(f"sort_by={sort_by!r}: use one of {list(get.SORT_BY)}.")
    fitted = Fitted.read(adata, key, real_cells_only=False)
    record = fitted.record
    wanted = [effects] if isinstance(effects, str) else list(effects or record.effects_with_axes)
    for effect in wanted:
        if effect not in record.effects_with_axes:
            raise ValueError(f"the effect {effect!r} has no axes; effects with axes are {record.effects_with_axes}.")
    candidates = _candidates(adata, fitted, mask_var, min_cells, exclude)
    n_genes = dict(n_genes) if isinstance(n_genes, Mapping) else n_genes
    with quiet():
        model = fitted.sparse(
            n_genes=n_genes, mode=mode, candidates=candidates, shrinkage=fitted.shrinkage, gap_effort=gap_effort
        )
        model.fit(fitted.X, fitted.labels, fitted.donors)
    chosen = model.axes_["effect"].isin(wanted).to_numpy()
    axes = model.axes_.assign(optimality_gap=model.optimality_gap_.to_numpy())[chosen].reset_index(drop=True)
    base = read.log_base(adata)
    changes = pd.DataFrame(_log_fold_changes(model, base)[:, chosen], record.gene_names, axes["axis"])

    selection = {"n_genes": n_genes, "mode": mode, "key_added": key_added}
    out = step.put(
        selection=selection,
        candidates=candidates,
        sparse_axes=axes,
        sparse_loadings=model.components_[chosen].T,
        sparse_patterns=model.patterns_[chosen].T,
        gene_report=_named(model.gene_report_[model.gene_report_["effect"].isin(wanted)], record),
    )
    params = {
        "groupby": Record.groups.name.format(key),
        "reference": "rest",
        "method": "flda",
        "use_raw": False,
        "layer": record.params["layer"],
        "corr_method": None,
        "key": key,
        "mode": mode,
        "n_genes": n_genes,
        "sort_by": sort_by,
    }
    ranking = get.rank_genes_df(out, sort_by=sort_by, key=key)
    rankings = {key_added: {"params": params, **_in_scanpys_form(ranking, changes, sort_by)}}
    groups = _of_groups(model, record, base)
    if groups is not None:
        rankings[f"{key_added}_groups"] = {"params": {**params, "sort_by": "score"}, **groups}
    return step.write(rankings=rankings)


def _candidates(
    adata: AnnData, fitted: Fitted, mask_var: str | np.ndarray | None, min_cells: int, exclude: Sequence[str]
) -> np.ndarray:
    """Which genes of the fit may be selected, boolean."""
    unknown = [g for g in exclude if g not in adata.var_names]
    if unknown:
        raise ValueError(f"exclude names genes that are not in var_names: {unknown[:5]}.")
    candidates = read.gene_mask(adata, mask_var)[fitted.record.genes]
    candidates &= ~fitted.record.gene_names.isin(list(exclude))
    if min_cells:
        candidates &= arrays.detected(fitted.X) >= min_cells
    if not candidates.any():
        raise ValueError("mask_var, min_cells and exclude leave no gene that can be selected; relax one of them.")
    return candidates


def _named(report: pd.DataFrame, record: Record) -> pd.DataFrame:
    """The gene report with names of genes instead of their indices among the genes of the fit."""
    names = record.gene_names.to_numpy()
    collinear = [", ".join(names[list(others)]) for others in report["collinear"]]
    return report.assign(gene=names[report["gene"]], collinear=collinear)


def _in_scanpys_form(ranking: pd.DataFrame, changes: pd.DataFrame, scores: str) -> dict[str, Any]:
    """Names, a column of scores and fold changes for scanpy: a field per axis, rows in the order of the ranking."""
    columns: dict[str, dict[str, np.ndarray]] = {"names": {}, "scores": {}, "logfoldchanges": {}}
    for axis, part in ranking.groupby("axis", sort=False):
        field = scanpy_name(str(axis))
        columns["names"][field] = part["gene"].to_numpy(dtype=object)
        columns["scores"][field] = part[scores].to_numpy()
        columns["logfoldchanges"][field] = changes.loc[part["gene"], axis].to_numpy()
    kinds = {"names": "O", "scores": "float32", "logfoldchanges": "float32"}
    return {
        name: pd.DataFrame(fields).to_records(index=False, column_dtypes=kinds[name])
        for name, fields in columns.items()
    }


def _of_groups(model: SparseFLDA, record: Record, base: float | None) -> dict[str, Any] | None:
    """A record of scanpy with a field per group, whose values scanpy can colour its dots and squares by.

    The score of a gene is its mean in the group minus the mean over groups, in standard deviations within groups. The
    fold change compares the group with the mean of the other groups. None if the record would be very large.
    """
    design, factors = model.design_, record.params["factors"]
    groups = crossed_groups(design, factors, np.ones(len(design.codes), dtype=bool)).categories
    columns = [design.table.factors.index(f) for f in factors]
    code = np.unique(design.table.groups[:, columns], axis=0, return_inverse=True)[1].ravel()
    if len(groups) * model.means_.shape[1] > MOST_VALUES or len(groups) < 2:
        return None
    counts = np.bincount(code)[:, None]
    means = arrays.group_sums(model.means_, code, len(groups)) / counts  # nuisance levels count the same
    linear = _undone(means, base)
    others = (linear.sum(axis=0) - linear) / (len(groups) - 1)
    changes = np.log2((linear + PSEUDOCOUNT) / (others + PSEUDOCOUNT))
    sd = record.within_sd.to_numpy()
    scores = (means - means.mean(axis=0)) / np.where(sd > 0, sd, np.inf)
    names = record.gene_names.to_numpy(dtype=object)
    table = pd.concat(
        pd.DataFrame({"axis": group, "gene": names, "score": scores[i], "change": changes[i]}).sort_values(
            "score", ascending=False, kind="stable"
        )
        for i, group in enumerate(groups)
    )
    return _in_scanpys_form(table, table.pivot(index="gene", columns="axis", values="change"), "score")


def _log_fold_changes(model: SparseFLDA, base: float | None) -> np.ndarray:
    """log2 fold change of every gene between the two sides of every axis, p x k; NaN if it has none.

    ``base`` is that of the logarithm in the expression, None for e.
    """
    linear = _undone(model.means_, base)
    design, out = model.design_, []
    for effect, u in zip(model.axes_["effect"], model.components_, strict=True):
        own = next(e for e in design.effects if e.name == effect)
        side = design.fitted(own) @ (model.means_ @ u)
        below = side < 0 if own in design.named else side <= 0  # other groups have no part in a contrast
        if not below.any() or not (side > 0).any():  # the groups do not differ on this axis
            out.append(np.full(linear.shape[1], np.nan))
            continue
        up, down = linear[side > 0].mean(axis=0), linear[below].mean(axis=0)
        out.append(np.log2((up + PSEUDOCOUNT) / (down + PSEUDOCOUNT)))
    return np.column_stack(out)


def _undone(means: np.ndarray, base: float | None) -> np.ndarray:
    """Scaled counts of group means, C x p; NaN for genes with a mean that no logarithm of counts has."""
    linear = undo_log(means, base)
    return np.where((means >= 0).all(axis=0) & (linear < 1e300).all(axis=0), linear, np.nan)
