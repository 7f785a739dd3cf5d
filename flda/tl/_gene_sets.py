"""Gene sets that vary along an axis: :func:`flda.tl.gene_sets`."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData

from .._adata.fitted import Fitted
from .._adata.results import Step
from .._docs import documented
from .._logging import get_logger, quiet
from ..inference._gene_sets import set_tests

logger = get_logger(__name__)


@documented
def gene_sets(
    adata: AnnData,
    net: pd.DataFrame,
    *,
    n_resamples: int = 999,
    min_genes: int = 5,
    random_state: int = 0,
    key: str = "flda",
    copy: bool = False,
) -> AnnData | None:
    """Test, for every axis, which sets of genes vary with it.

    The null distribution comes from the random signs of :func:`flda.tl.effect_tests`, which turn whole cells (or
    donors' own contrasts), so that genes which are merely correlated do not make a set significant. See
    :func:`flda.inference.gene_set_tests` for the statistic and the null hypothesis. The axes are those of all genes; if
    an effect has several, each set is tested along the axes that are uncorrelated with it within groups.

    Parameters
    ----------
    {adata}
    net
        Gene sets in the format of decoupler: a DataFrame with a row per set and gene, columns ``source`` (the set) and
        ``target`` (the gene), and optionally ``weight``. Genes of one set that vary in opposite directions need weights
        of opposite signs.
    n_resamples
        Number of resamples. The smallest possible p-value is ``1 / (n_resamples + 1)``.
    min_genes
        Sets of which the fit has fewer genes with a weight are left out.
    {random_state}
    {key}
    {copy}

    Returns
    -------
    None, or the copy if ``copy=True``. Writes ``uns["flda"]["gene_sets"]``: ``table``, which
    :func:`flda.get.gene_sets_df` returns, and ``params``.

    Raises
    ------
    ValueError
        If ``net`` lacks a column or names a gene twice in one set, if no set has enough genes, if too few donors can be
        compared, or if the fit has simulated cells. ``adata`` is then left as it was.

    Examples
    --------
    >>> import flda, pandas as pd
    >>> adata = flda.datasets.t4t5_simulated(n_obs=300, n_vars=100)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> planted = adata.var_names[adata.var["truth_dendrite"]][:6]
    >>> pattern = pd.Series(adata.varm["flda_pattern"][:, 0], adata.var_names)
    >>> net = pd.DataFrame({"source": "planted", "target": planted, "weight": pattern[planted].to_numpy()})
    >>> flda.tl.gene_sets(adata, net, n_resamples=99)
    >>> table = flda.get.gene_sets_df(adata, "dendrite")
    >>> table["source"].tolist(), bool(table["pval"].iloc[0] == 0.01)
    (['planted'], True)
    """
    step = Step("gene_sets", adata, key, copy, random_state)
    fitted = Fitted.read(adata, key)
    record = fitted.record
    names = record.gene_names.to_numpy()
    sets = _sets(net, record.gene_names, record.within_sd.to_numpy(), min_genes)
    with quiet():
        model = fitted.dense(shrinkage=fitted.shrinkage)
        solved = model._solve(model._prepare(fitted.X, fitted.labels, fitted.donors))
    table = set_tests(
        fitted.X, solved, axes=record.axes,
        components=record.loadings.to_numpy().T, patterns=record.patterns.to_numpy().T,
        sd=record.within_sd.to_numpy(), sets=sets, n_resamples=n_resamples, random_state=random_state,
    )  # fmt: skip
    table["leading"] = [", ".join(names[list(genes)]) for genes in table["leading"]]
    about = {"n_resamples": n_resamples, "min_genes": min_genes, "random_state": random_state}
    return step.write(gene_sets={"table": table, "params": about})


def _sets(net: pd.DataFrame, genes: pd.Index, sd: np.ndarray, min_genes: int) -> dict[str, dict[int, float]]:
    """Name of a set -> index of a gene -> weight, for the sets with enough genes that vary."""
    missing = [c for c in ("source", "target") if c not in net]
    if missing:
        raise ValueError(f"net lacks the column(s) {missing}; it needs source (the set) and target (the gene).")
    weight = net["weight"] if "weight" in net else pd.Series(1.0, net.index)
    if not np.isfinite(pd.to_numeric(weight, errors="coerce")).all():
        raise ValueError("the column 'weight' of net holds values that are not numbers; remove or replace these rows.")
    twice = net.duplicated(["source", "target"])
    if twice.any():
        first = net[twice].iloc[0]
        raise ValueError(
            f"net names the gene {first['target']!r} twice in the set {first['source']!r}; remove the duplicates."
        )
    at = genes.get_indexer(net["target"].astype(str))
    known = (at >= 0) & (sd[at] > 0) & (weight.to_numpy(dtype=float) != 0)
    table = pd.DataFrame({"source": net["source"].astype(str).to_numpy(), "gene": at, "weight": weight.to_numpy(float)})
    sets = {
        str(name): dict(zip(part["gene"].tolist(), part["weight"].tolist(), strict=True))
        for name, part in table[known].groupby("source", sort=False)
        if len(part) >= min_genes
    }
    n_all = table["source"].nunique()
    if not sets:
        raise ValueError(
            f"none of the {n_all} sets of net has {min_genes} genes of the fit; {int((at >= 0).sum())} of {len(net)} "
            "targets are genes of the fit by name. Use the same kind of gene names, or a smaller min_genes."
        )
    if len(sets) < n_all:
        logger.info("gene_sets: %d of %d sets have fewer than %d genes of the fit", n_all - len(sets), n_all, min_genes)
    return sets
