"""Tables of genes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData

from .._adata.results import Record
from .._docs import documented
from ..metrics import specificity

RANKING_COLUMNS = [
    "effect", "axis", "rank", "gene", "score", "loading",
    "selected", "frequency", "pval", "pval_adj", "specificity", "kind",
    "optimality_gap",
]  # fmt: skip


@documented
def rank_genes_df(adata: AnnData, effect: str | None = None, *, key: str = "flda") -> pd.DataFrame:
    """Rank the genes of every axis: those selected by :func:`flda.tl.rank_genes` first, then all others.

    Before :func:`flda.tl.rank_genes` has run, the ranking is that of the axes of all genes and no gene is selected.

    Parameters
    ----------
    {adata}
    effect
        Only the axes of this effect, such as ``"dendrite"``.
    {key}

    Returns
    -------
    DataFrame with a row per axis and gene:

    * ``effect, axis, rank, gene``: genes are ranked by absolute score. Genes with a score of zero follow in the order
      of the axis of all genes. Genes with equal scores are ordered by name
    * ``score``: standardised loading, which is the loading times the standard deviation within groups
    * ``loading``: loading, zero for genes that were not selected
    * ``selected``: whether the axis uses the gene
    * ``frequency``: share of the halves of the data that select the gene for the effect; NaN before
      :func:`flda.tl.stability`
    * ``pval, pval_adj``: p-value of the gene for the effect, and its false discovery rate; NaN before
      :func:`flda.tl.effect_tests`
    * ``specificity``: share of the axis's own effect in the sum of the gene's F ratios over all effects
    * ``kind``: ``cancelling`` if the gene has a larger and significant F for another effect, else ``pure``. A
      cancelling gene helps the axis by cancelling that effect in the other genes
    * ``optimality_gap``: how much better the axis can be at most with another choice of as many genes, as a share of
      its eigenvalue; the same for all genes of an axis. NaN before :func:`flda.tl.rank_genes`

    Raises
    ------
    ValueError
        If :func:`flda.tl.flda` has not run, or for an effect without axes.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> table = flda.get.rank_genes_df(adata, "dendrite")
    >>> table.shape, table["rank"].iloc[0]
    ((200, 13), np.int64(1))
    """
    record = Record(adata, key)
    sparse = "sparse_axes" in record
    axes, loadings = (record.sparse_axes, record.sparse_loadings) if sparse else (record.axes, record.loadings)
    df = record.variance.set_index("effect")["df"].to_dict()
    names, sd, F = record.gene_names.to_numpy(), record.within_sd.to_numpy(), record.F.reset_index(drop=True)
    unknown = pd.DataFrame(np.nan, record.gene_names, record.effects_with_axes)
    tested = "pval" in record
    columns = {
        "frequency": record.frequency.reindex(columns=unknown.columns) if "stability" in record else unknown,
        "pval": record.pval if tested else unknown,
        "pval_adj": record.pval_adj if tested else unknown,
    }
    gaps = axes.set_index("axis").get("optimality_gap", pd.Series(np.nan, axes["axis"]))
    tables = []
    for axis, own in zip(axes["axis"], axes["effect"], strict=True):
        if effect is not None and own != effect:
            continue
        loading, dense_score = loadings[axis].to_numpy(), record.loadings[axis].to_numpy() * sd
        score = loading * sd
        share, kind = specificity(F, own, df)
        order = np.lexsort((names.astype(str), -np.abs(dense_score), -np.abs(score)))
        table = pd.DataFrame(
            {
                "effect": own,
                "axis": axis,
                "rank": np.arange(1, len(names) + 1),
                "gene": names[order],
                "score": score[order],
                "loading": loading[order],
                "selected": (loading[order] != 0) if sparse else False,
                "specificity": share[order],
                "kind": kind[order],
                "optimality_gap": gaps[axis],
                **{name: values[own].to_numpy()[order] for name, values in columns.items()},
            }
        )
        tables.append(table[RANKING_COLUMNS])
    if not tables:
        raise ValueError(
            f"the effect {effect!r} has no axes; effects with axes are {axes['effect'].drop_duplicates().tolist()}."
        )
    return pd.concat(tables, ignore_index=True)


@documented
def gene_tests_df(adata: AnnData, effect: str | Sequence[str] | None = None, *, key: str = "flda") -> pd.DataFrame:
    """Return the tests of whether each gene differs between any levels of each effect.

    Parameters
    ----------
    {adata_tested}
    effect
        One or several effects. None returns all effects that were tested.
    {key}

    Returns
    -------
    DataFrame with a row per effect and gene: ``effect, gene, F`` (F ratio of the gene for the effect), ``pval``,
    ``pval_adj`` (false discovery rate over the genes) and ``pval_max`` (family-wise p-value over the genes). The genes
    of an effect are sorted by p-value, then by decreasing F, then by name; genes without variance come last and have
    NaN.

    Raises
    ------
    ValueError
        If :func:`flda.tl.effect_tests` has not run, or for an effect that was not tested.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=300, n_vars=100)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.tl.effect_tests(adata, n_resamples=19)
    >>> flda.get.gene_tests_df(adata, "dendrite").columns.tolist()
    ['effect', 'gene', 'F', 'pval', 'pval_adj', 'pval_max']
    """
    record = Record(adata, key)
    tested = record.tests["table"]["effect"].tolist()
    wanted = tested if effect is None else [effect] if isinstance(effect, str) else list(effect)
    tables = []
    for name in wanted:
        if name not in tested:
            raise ValueError(f"the effect {name!r} was not tested; the tested effects are {tested}.")
        table = pd.DataFrame(
            {
                "effect": name,
                "gene": record.gene_names,
                "F": record.F[name].to_numpy(),
                "pval": record.pval[name].to_numpy(),
                "pval_adj": record.pval_adj[name].to_numpy(),
                "pval_max": record.pval_max[name].to_numpy(),
            }
        )
        tables.append(table.sort_values(["pval", "F", "gene"], ascending=[True, False, True], kind="stable"))
    return pd.concat(tables, ignore_index=True)


@documented
def stability_df(adata: AnnData, *, key: str = "flda") -> pd.DataFrame:
    """Return how often halves of the data select each gene.

    Parameters
    ----------
    {adata}
        The results of :func:`flda.tl.rank_genes` and :func:`flda.tl.stability` are also needed.
    {key}

    Returns
    -------
    DataFrame with a row per effect and gene that was selected at least once, the most frequent genes of an effect
    first: ``effect, gene, frequency, expected_false``, the columns of :attr:`flda.inference.Stability.genes`.

    Raises
    ------
    ValueError
        If :func:`flda.tl.stability` has not run since genes were selected.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=100)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.tl.rank_genes(adata, n_genes=5)
    >>> flda.tl.stability(adata, n_resamples=4, n_bootstraps=0)
    >>> flda.get.stability_df(adata).columns.tolist()
    ['effect', 'gene', 'frequency', 'expected_false']
    """
    return Record(adata, key).stability["genes"]
