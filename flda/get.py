"""Results as tidy DataFrames; nothing is changed."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData

from ._adata import read
from ._adata.results import Keys
from .metrics import specificity

RANKING_COLUMNS = [
    "effect", "axis", "rank", "gene", "score", "loading",
    "selected", "frequency", "pval", "pval_adj", "specificity", "kind",
]  # fmt: skip


def axes_df(adata: AnnData, *, key: str = "flda") -> pd.DataFrame:
    """One row per axis: ``axis, effect, component, eigenvalue``.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> axes_df(adata)["axis"].tolist()[:2]
    ['dendrite_1', 'axon_1']
    """
    return results(adata, key)["axes"].copy()


def design_df(adata: AnnData, *, key: str = "flda") -> pd.DataFrame:
    """Contingency table in long form: a row per combination of levels with ``n_cells``, empty ones included.

    What could be estimated is in ``adata.uns["flda"]["estimability"]``.
    """
    return results(adata, key)["design"].copy()


def certificate_df(adata: AnnData, *, key: str = "flda") -> pd.DataFrame:
    """Held-out certificates, a row per axis and set of genes: the columns of :func:`flda.inference.certify`.

    Raises
    ------
    ValueError
        If :func:`flda.tl.certify` has not run since the fit, or since genes were selected.
    """
    found = results(adata, key)
    if "certificate" not in found:
        raise ValueError("there is no certificate of this fit yet; run flda.tl.certify.")
    return found["certificate"].copy()


def rank_genes_df(adata: AnnData, effect: str | None = None, *, key: str = "flda") -> pd.DataFrame:
    """Genes of every axis: those selected by :func:`flda.tl.rank_genes` first, then all others.

    Before :func:`flda.tl.rank_genes` has run, the ranking is that of the dense axes and nothing is selected.

    Parameters
    ----------
    adata
        With the results of :func:`flda.tl.flda`.
    effect
        Only the axes of this effect, e.g. ``"dendrite"``.
    key
        The ``key_added`` of the fit.

    Returns
    -------
    DataFrame with the columns

    * ``effect, axis, rank, gene``: rank by absolute score; genes with a score of zero follow in the order of the
      dense axis; ties by gene name
    * ``score``: standardised loading, loading x within-group standard deviation
    * ``loading``: raw loading, zero for genes that were not selected
    * ``selected``: whether the axis uses the gene
    * ``frequency``: share of halves that select the gene for the effect, empty before :func:`flda.tl.stability`
    * ``pval, pval_adj``: permutation p-value of the gene for the effect, and its false discovery rate; empty before
      :func:`flda.tl.permutation_test`
    * ``specificity``: share of the axis's own effect in the sum of the gene's F ratios over all effects
    * ``kind``: ``pure`` if that share is at least one half, else ``cancelling``: the gene carries other effects
      more, and helps the axis by cancelling them in its partners

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> table = rank_genes_df(adata, "dendrite")
    >>> table.shape, table["rank"].iloc[0]
    ((200, 12), np.int64(1))
    """
    keys, found = Keys(key), results(adata, key)
    dense_axes, dense = found["axes"]["axis"].tolist(), np.asarray(adata.varm[keys.varm])
    sparse = "sparse_axes" in found
    axes = found["sparse_axes"] if sparse else found["axes"]
    loadings = np.asarray(adata.varm[keys.varm_sparse]) if sparse else dense
    if effect is not None and effect not in set(axes["effect"]):
        raise ValueError(f"no axes for the effect {effect!r}; effects are {list(dict.fromkeys(axes['effect']))}.")
    sd = read.in_memory(adata.var)[keys.var_sd].to_numpy()
    used = np.flatnonzero(~np.isnan(sd))
    names, sd = adata.var_names.to_numpy()[used], sd[used]
    ratios = pd.DataFrame(np.asarray(adata.varm[keys.varm_f])[used], columns=list(found["effects"]))
    frequency = _frequencies(found, names)
    effects = list(dict.fromkeys(found["axes"]["effect"]))
    tested = {c: adata.varm.get(f"{keys.key}_{c}", np.full((adata.n_vars, len(effects)), np.nan))[used]
              for c in ("pval", "pval_adj")}  # fmt: skip
    tables = []
    for j, (axis, own) in enumerate(zip(axes["axis"], axes["effect"], strict=True)):
        if effect is not None and own != effect:
            continue
        loading = loadings[used, j]
        score = loading * sd
        share, kind = specificity(ratios, own)
        order = np.lexsort((names.astype(str), -np.abs(dense[used, dense_axes.index(axis)] * sd), -np.abs(score)))
        tables.append(
            pd.DataFrame(
                {
                    "effect": own,
                    "axis": axis,
                    "rank": np.arange(1, len(used) + 1),
                    "gene": names[order],
                    "score": score[order],
                    "loading": loading[order],
                    "selected": (loading[order] != 0) if sparse else False,
                    "frequency": frequency[own][order] if own in frequency else np.nan,
                    "pval": tested["pval"][order, effects.index(own)],
                    "pval_adj": tested["pval_adj"][order, effects.index(own)],
                    "specificity": share[order],
                    "kind": kind[order],
                }
            )
        )
    return pd.concat(tables, ignore_index=True)[RANKING_COLUMNS]


def _frequencies(found: dict, names: np.ndarray) -> dict[str, np.ndarray]:
    """Effect -> share of halves that select each gene."""
    if "stability" not in found:
        return {}
    genes = found["stability"]["genes"]
    return {
        effect: part.set_index("gene")["frequency"].reindex(names, fill_value=0.0).to_numpy()
        for effect, part in genes.groupby("effect", sort=False, observed=True)
    }


def results(adata: AnnData, key: str) -> dict:
    """The results of :func:`flda.tl.flda` in ``uns``, or an error that says what to run."""
    if Keys(key).uns not in adata.uns:
        raise ValueError(f"uns has no {key!r}; run flda.tl.flda first, or name its key_added.")
    return adata.uns[Keys(key).uns]
