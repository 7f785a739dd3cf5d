"""One panel of genes for the axes of all effects: :func:`flda.tl.panel`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from .._adata import read
from .._adata.fitted import Fitted, panel_options
from .._adata.record import Record
from .._adata.results import Step
from .._docs import documented
from .._logging import quiet


@documented
def panel(
    adata: AnnData,
    n_genes: int | None = None,
    *,
    effects: str | Sequence[str] | Mapping[str, float] | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    mask_var: str | np.ndarray | None = None,
    min_per_axis: int = 0,
    cost: str | Mapping[str, float] | None = None,
    budget: float | None = None,
    key: str = "flda",
    copy: bool = False,
) -> AnnData | None:
    """Choose a panel of genes for the axes of all effects together, and refit the axes on it.

    Lists of the best genes of single axes repeat each other and spend as much on an easy axis as on a hard one. A panel
    chooses its genes together: every gene counts by the information that it adds for all axes, and most for axes that
    have little yet; see :class:`flda.PanelFLDA`. Run :func:`flda.tl.certify` afterwards: each fold then chooses the
    panel again without its cells (or donors), and the rows with ``genes="panel"`` say how good the axes are on them.

    Parameters
    ----------
    {adata}
    n_genes
        Number of genes of the panel. With ``budget``, the largest number; None then sets no limit.
    effects
        Effects that the panel is for: names, or a dict of names and weights. None is all effects with axes.
    include
        Names of genes that the panel holds in any case.
    exclude
        Names of genes that may not be chosen.
    mask_var
        Genes that may be chosen: a boolean column of ``var``, or a boolean array. It does not matter for ``include``.
    min_per_axis
        Least number of genes for every axis of ``effects``. A gene belongs to the axis of all genes with which it has
        the largest absolute pattern (``varm["flda_pattern"]``).
    cost
        Cost of every gene: a column of ``var``, or a dict by name. Genes without a cost (NaN, or not in the dict)
        cannot be chosen. It needs ``budget``.
    budget
        The largest sum of the costs of the panel.
    {key}
    {copy}

    Returns
    -------
    None, or the copy if ``copy=True``. Writes:

    * ``uns["flda"]["panel"]``: ``genes`` and ``axes``, which :func:`flda.get.panel_df` and
      :func:`flda.get.panel_axes_df` return, and ``params``
    * ``varm["flda_panel"]``: loadings of the axes of the panel, ndarray p x axes, zero for all other genes
    * ``var["flda_panel_cost"]``: cost of every gene that could be chosen, 1 without costs, and NaN for others

    A certificate of an earlier panel is removed.

    Raises
    ------
    ValueError
        If a name or a number cannot be used, or no panel meets all demands. ``adata`` is then left as it was.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.tl.panel(adata, 12, include=[adata.var_names[7]], min_per_axis=1)
    >>> table = flda.get.panel_df(adata)
    >>> len(table), int(table["included"].sum()), table["axis"].nunique()
    (12, 1, 7)
    """
    step = Step("panel", adata, key, copy)
    if n_genes is None and budget is None:
        raise ValueError("give n_genes, the number of genes of the panel, or cost and budget.")
    if (cost is None) != (budget is None):
        raise ValueError("cost and budget belong together: give both, or neither.")
    fitted = Fitted.read(adata, key, real_cells_only=False)
    record = fitted.record
    wanted = [effects] if isinstance(effects, str) else effects
    for effect in wanted or ():
        if effect not in record.effects_with_axes:
            raise ValueError(f"the effect {effect!r} has no axes; effects with axes are {record.effects_with_axes}.")
    include, exclude = _names(adata, record, "include", include), _names(adata, record, "exclude", exclude)
    both = [g for g in include if g in set(exclude)]
    if both:
        raise ValueError(f"the gene {both[0]!r} is in both include and exclude; name it in one of them.")
    if n_genes is not None and len(include) > n_genes:
        raise ValueError(f"include names {len(include)} genes, and the panel has n_genes={n_genes}; use more genes.")
    costs = _costs(adata, record, cost)
    free = [g for g in include if not np.isfinite(costs[g])]
    if free:
        raise ValueError(f"the gene {free[0]!r} of include has no cost; give it one.")
    closed = ~read.gene_mask(adata, mask_var)[record.genes] | record.gene_names.isin(exclude)
    costs[closed & ~record.gene_names.isin(include)] = np.nan
    if not np.isfinite(costs).any():
        raise ValueError("mask_var, exclude and cost leave no gene that can be chosen; relax one of them.")

    weights = dict(wanted) if isinstance(wanted, Mapping) else None if wanted is None else list(wanted)
    params: dict[str, Any] = {
        "n_genes": n_genes,
        "effects": weights,
        "include": include,
        "exclude": exclude,
        "min_per_axis": min_per_axis,
        "cost": cost if cost is None or isinstance(cost, str) else "mapping",
        "budget": budget,
        "mask_var": mask_var if mask_var is None or isinstance(mask_var, str) else "array",
    }
    with quiet():
        model = fitted.panel(
            n_genes=n_genes, effects=weights, min_per_axis=min_per_axis, budget=budget, shrinkage=fitted.shrinkage,
            **panel_options(record.gene_names, include, costs.to_numpy(), budget),
        )  # fmt: skip
        model.fit(fitted.X, fitted.labels, fitted.donors)
    names = record.gene_names
    genes = model.panel_table_.assign(gene=names[model.panel_])
    genes[[f"F_{e}" for e in record.effects]] = record.F.iloc[model.panel_].to_numpy()
    scores = pd.DataFrame(
        (model.components_ * model.within_sd_).T[model.panel_], columns=[f"score_{a}" for a in model.axes_["axis"]]
    )
    genes.insert(0, "rank", np.arange(1, len(genes) + 1))
    axes = model.axes_.merge(record.axes[["axis", "eigenvalue"]], on="axis", how="left", suffixes=("", "_all_genes"))
    return step.write(
        f"{len(genes)} genes for {len(axes)} axes; ",
        panel={
            "genes": pd.concat([genes, scores], axis=1), "axes": axes, "information": model.information_,
            "params": params,
        },
        panel_cost=costs.to_numpy(),
        panel_loadings=model.components_.T,
    )  # fmt: skip


def _names(adata: AnnData, record: Record, what: str, names: Sequence[str]) -> list[str]:
    """Check the names of genes."""
    names = [names] if isinstance(names, str) else list(names)
    unknown = [g for g in names if g not in adata.var_names]
    if unknown:
        raise ValueError(f"{what} names genes that are not in var_names: {unknown[:5]}.")
    twice = pd.Index(names)[pd.Index(names).duplicated()]
    if len(twice):
        raise ValueError(f"{what} names the gene {twice[0]!r} twice.")
    absent = [g for g in names if g not in record.gene_names]
    if absent and what == "include":
        raise ValueError(f"include names genes that the fit did not use: {absent[:5]}; fit again with these genes.")
    return names


def _costs(adata: AnnData, record: Record, cost: str | Mapping[str, float] | None) -> pd.Series:
    """Return the cost of every gene of the fit, NaN where there is none."""
    names = record.gene_names
    if cost is None:
        return pd.Series(1.0, names)
    if isinstance(cost, str):
        if cost not in adata.var:
            raise ValueError(f"cost={cost!r} is not a column of var.")
        given = adata.var[cost][record.genes]
    else:
        unknown = [g for g in cost if g not in adata.var_names]
        if unknown:
            raise ValueError(f"cost names genes that are not in var_names: {unknown[:5]}.")
        given = pd.Series(cost, dtype=object).reindex(names)
    found = pd.to_numeric(given, errors="coerce").astype(float)
    bad = given.notna() & ~(np.isfinite(found) & (found > 0))
    if bad.any():
        raise ValueError(f"the cost of the gene {names[bad][0]!r} is {given[bad].iloc[0]!r}; use numbers above 0.")
    return found
