"""Tables of genes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData

from .._adata.record import Record
from .._docs import documented
from ..metrics import significant, specificity

RANKING_COLUMNS = [
    "effect", "axis", "rank", "gene", "score", "loading",
    "selected", "frequency", "pval", "pval_adj", "specificity", "kind", "pattern", "F",
    "optimality_gap",
]  # fmt: skip
SORT_BY = ("score", "pattern", "F")
SIGNIFICANT = 0.05  # false discovery rate of the tests of genes


@documented
def rank_genes_df(
    adata: AnnData, effect: str | None = None, *, sort_by: str = "score", key: str = "flda"
) -> pd.DataFrame:
    """Rank the genes of every axis: by what the axis uses, or by what differs.

    The score answers which genes the axis uses, and with which sign. The pattern and the F answer which genes differ: a
    gene can differ much and be used little, because a correlated gene says the same with less noise.

    Parameters
    ----------
    {adata}
    effect
        Only the axes of this effect, such as ``"dendrite"``.
    sort_by
        ``"score"`` ranks genes by absolute score: those selected by :func:`flda.tl.rank_genes` first, then all others
        in the order of the axis of all genes. ``"pattern"`` ranks by absolute pattern, and ``"F"`` by F. Genes with
        equal values are ordered by name. Before :func:`flda.tl.rank_genes` has run, the axes are those of all genes and
        no gene is selected.
    {key}

    Returns
    -------
    DataFrame with a row per axis and gene:

    * ``effect, axis, rank, gene``
    * ``score``: standardised loading, which is the loading times the standard deviation within groups
    * ``loading``: loading, zero for genes that were not selected
    * ``selected``: whether the axis uses the gene
    * ``frequency``: share of the halves of the data that select the gene for the effect; NaN before
      :func:`flda.tl.stability`
    * ``pval, pval_adj``: p-value of the gene for the effect, and its false discovery rate; NaN before
      :func:`flda.tl.effect_tests`
    * ``specificity``: share of the axis's own effect in the sum over all effects of how far F exceeds 1, its value by
      chance; for a named contrast, over the contrast and the effects that count against its axis
    * ``kind``: ``cancelling`` if the gene has a larger and significant F for another effect, which the axis uses to
      cancel that effect in other genes; ``interaction-typical`` if its signal is spread over factors and their
      interaction, as in a gene of one group; else ``pure`` (:func:`flda.metrics.specificity`)
    * ``pattern``: correlation of the gene with the axis, as far as both vary with the effect
      (:func:`flda.metrics.patterns`)
    * ``F``: F ratio of the gene for the effect of the axis; NaN for a gene that is constant
    * ``significant``: whether the gene on its own differs with the effect: its ``pval_adj`` is at most 0.05, or, before
      :func:`flda.tl.effect_tests`, its F is too large for chance (:func:`flda.metrics.significant`). An axis can use a
      gene of which this is not true
    * ``optimality_gap``: how much better the axis can be at most with another choice of as many genes, as a share of
      its eigenvalue; the same for all genes of an axis. NaN before :func:`flda.tl.rank_genes`

    Raises
    ------
    ValueError
        If :func:`flda.tl.flda` has not run, for an effect without axes, or for another ``sort_by``.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> table = flda.get.rank_genes_df(adata, "dendrite", sort_by="F")
    >>> table["rank"].iloc[0], bool(table["F"].dropna().is_monotonic_decreasing)
    (np.int64(1), True)
    """
    if sort_by not in SORT_BY:
        raise ValueError(f"sort_by={sort_by!r}: use one of {list(SORT_BY)}.")
    record = Record(adata, key)
    sparse = "sparse_axes" in record
    axes, loadings = (record.sparse_axes, record.sparse_loadings) if sparse else (record.axes, record.loadings)
    df = dict.fromkeys(record.effects, 1) | record.variance.set_index("effect")["df"].to_dict()
    pattern = record.sparse_patterns if sparse else record.patterns
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
        loading = loadings[axis].to_numpy() + 0.0  # no minus before a zero
        dense_score = record.loadings[axis].to_numpy() * sd
        share, kind = specificity(F[record.rivals(own)], own, df)
        table = pd.DataFrame(
            {
                "effect": own,
                "axis": axis,
                "gene": names,
                "score": loading * sd,
                "loading": loading,
                "selected": (loading != 0) if sparse else False,
                "specificity": share,
                "kind": kind,
                "pattern": pattern[axis].to_numpy(),
                "F": F[own].to_numpy(),
                "optimality_gap": gaps[axis],
                **{name: values[own].to_numpy() for name, values in columns.items()},
            }
        )
        by_test = table["pval_adj"].notna().any()
        table["significant"] = table["pval_adj"] <= SIGNIFICANT if by_test else significant(table["F"], df[own])
        size = np.abs(table[sort_by].to_numpy())
        second = np.abs(dense_score) if sort_by == "score" else np.zeros(len(size))
        order = np.lexsort((names.astype(str), -second, -size, np.isnan(size)))
        table = table.iloc[order].assign(rank=np.arange(1, len(names) + 1))
        tables.append(table[[*RANKING_COLUMNS, "significant"]])
    if not tables:
        raise ValueError(
            f"the effect {effect!r} has no axes; effects with axes are {axes['effect'].drop_duplicates().tolist()}."
        )
    return pd.concat(tables, ignore_index=True)


@documented
def preranked_df(
    adata: AnnData, axis: str | None = None, *, by: str = "score", cancelling: bool = True, key: str = "flda"
) -> pd.DataFrame:
    r"""Return all genes of an axis with one signed number each, as gene-set programs want them.

    The axis is that of all genes, in which every gene has a value, also after :func:`flda.tl.rank_genes`. For a file in
    the format of GSEA, call ``.to_csv("axis.rnk", sep="\t", header=False, index=False)`` on the table.

    Parameters
    ----------
    {adata}
    {axis}
    by
        ``"score"``, what the axis uses, or ``"pattern"``, what differs along it; see :func:`rank_genes_df`.
    cancelling
        Whether to include genes whose ``kind`` is cancelling.
    {key}

    Returns
    -------
    DataFrame with columns ``gene, score``, the largest score first; genes with equal scores are ordered by name.

    Raises
    ------
    ValueError
        If :func:`flda.tl.flda` has not run, or for another axis or ``by``.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.get.preranked_df(adata, "axon_1", cancelling=False).columns.tolist()
    ['gene', 'score']
    """
    record = Record(adata, key)
    axis = record.axis_names[0] if axis is None else axis
    if axis not in record.axis_names:
        raise ValueError(f"there is no axis {axis!r}; the axes are {record.axis_names}.")
    if by not in ("score", "pattern"):
        raise ValueError(f"by={by!r}: use one of ['score', 'pattern'].")
    values = record.patterns[axis] if by == "pattern" else record.loadings[axis] * record.within_sd
    table = pd.DataFrame({"gene": record.gene_names, "score": values.to_numpy()})
    if not cancelling:
        effect = record.axes.loc[record.axes["axis"] == axis, "effect"].iloc[0]
        df = record.variance.set_index("effect")["df"].to_dict()
        table = table[specificity(record.F.reset_index(drop=True), effect, df)[1] != "cancelling"]
    order = np.lexsort((table["gene"].to_numpy().astype(str), -table["score"].to_numpy()))
    return table.iloc[order].reset_index(drop=True)


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
def gene_sets_df(adata: AnnData, effect: str | Sequence[str] | None = None, *, key: str = "flda") -> pd.DataFrame:
    """Return which gene sets vary with each axis.

    Parameters
    ----------
    adata
        AnnData with the results of :func:`flda.tl.flda` and :func:`flda.tl.gene_sets`.
    effect
        Only the axes of one or several effects. None returns all.
    {key}

    Returns
    -------
    DataFrame with a row per axis and set, in the order of the axes and of the p-values: ``axis, effect, source`` (the
    set), ``n_genes``, ``z`` (positive if the set is high on the positive side of the axis), ``pval``, ``pval_adj``
    (false discovery rate over the sets of an axis) and ``leading``, the genes that vary most in the direction of z.

    Raises
    ------
    ValueError
        If :func:`flda.tl.gene_sets` has not run, or for an effect that was not tested.

    Examples
    --------
    >>> import flda, pandas as pd
    >>> adata = flda.datasets.t4t5_simulated(n_obs=300, n_vars=100)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> net = pd.DataFrame({"source": ["first"] * 9 + ["rest"] * 91, "target": adata.var_names})
    >>> flda.tl.gene_sets(adata, net, n_resamples=19)
    >>> flda.get.gene_sets_df(adata, "dendrite").columns.tolist()
    ['axis', 'effect', 'source', 'n_genes', 'z', 'pval', 'pval_adj', 'leading']
    """
    table = Record(adata, key).gene_sets["table"]
    if effect is None:
        return table
    wanted, tested = [effect] if isinstance(effect, str) else list(effect), table["effect"].drop_duplicates().tolist()
    for name in wanted:
        if name not in tested:
            raise ValueError(f"gene sets were not tested for the effect {name!r}; the tested effects are {tested}.")
    return table[table["effect"].isin(wanted)].reset_index(drop=True)


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
