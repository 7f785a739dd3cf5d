"""Whether the AnnData is still that of the fit, and the group means of its genes."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .._adata import read
from .._adata.results import Record
from .._data import arrays

TOLERANCE = 1e-3  # of the standard deviation of a score; single precision keeps far below it


def changes(record: Record) -> list[str]:
    """Sentences that say how cells, labels, genes or values differ from those of the fit; none if nothing changed."""
    adata, fit, groups = record.adata, record.fit, record.groups
    out = []
    n_cells, n_genes = int(groups.notna().sum()), int(record.genes.sum())
    if n_cells != int(fit["n_cells"]):
        out.append(f"The fit used {int(fit['n_cells']):,} cells; {n_cells:,} of its labelled cells are here.")
    if n_genes != int(fit["n_genes"]):
        out.append(f"The fit used {int(fit['n_genes']):,} genes; {n_genes:,} of them are here.")
    obs, factors = read.in_memory(adata.obs), record.params["factors"]
    gone = [f for f in factors if f not in obs]
    if gone:
        out.append(f"obs has no column {gone[0]!r} any more, which is a factor of the fit.")
    elif (n := _relabelled(obs[factors].astype(object), groups)) > 0:
        out.append(f"The labels of {n:,} cells are not those of the fit.")
    if n_genes == int(fit["n_genes"]) and not _same_values(record):
        out.append("The expression values are not those of the fit.")
    return out


def _relabelled(labels: pd.DataFrame, groups: pd.Series) -> int:
    """How many cells have other labels than in the fit; a level that was only renamed does not count."""
    text = labels.astype(str).agg(" x ".join, axis=1).where(labels.notna().all(axis=1)).to_numpy()
    before = groups.astype(object).to_numpy()
    had, has = pd.notna(before), pd.notna(text)
    n = int((had & ~has).sum())
    both = pd.DataFrame({"before": before, "now": text})[had & has]
    counts = both.value_counts()
    if counts.empty:
        return n
    kept = counts.groupby(level="before").max().sum()
    names = counts.groupby(level="before").idxmax().map(lambda pair: pair[1])
    merged = set(names[names.duplicated()])  # two groups that have become one
    n += len(both) - int(kept)
    return n + int(both["now"].isin(merged).sum())


def _same_values(record: Record) -> bool:
    """Whether the scores of the fit follow from the expression as it is now."""
    loadings, genes = record.loadings.to_numpy(), record.genes
    every = np.zeros((record.adata.n_vars, loadings.shape[1]))
    every[genes] = loadings
    try:
        X = read.expression(record.adata, record.params["layer"])
        now = arrays.times(X, every) - record.centre.to_numpy() @ loadings
    except ValueError:  # the layer is gone
        return False
    before = record.scores.to_numpy()
    return bool((np.abs(now - before) <= TOLERANCE * np.maximum(before.std(axis=0), 1e-12)).all())


def group_means(record: Record) -> pd.DataFrame:
    """Mean expression of every gene of the fit (rows) in every group (columns)."""
    groups = record.groups
    X = read.expression(record.adata, record.params["layer"])
    known = groups.notna().to_numpy()
    X = X if known.all() else X[known]
    codes = groups.cat.codes.to_numpy()[known].astype(np.int64)
    n = len(groups.cat.categories)
    sums = arrays.group_sums(X, codes, n)[:, record.genes]
    return pd.DataFrame(
        (sums / np.maximum(np.bincount(codes, minlength=n), 1)[:, None]).T, record.gene_names, groups.cat.categories
    )
