"""Tests of effects and genes: :func:`flda.tl.effect_tests`."""

from __future__ import annotations

from collections.abc import Sequence

from anndata import AnnData

from .. import inference
from .._adata.fitted import Fitted
from .._adata.results import Step
from .._docs import documented


@documented
def effect_tests(
    adata: AnnData,
    *,
    effects: str | Sequence[str] | None = None,
    n_resamples: int = 999,
    method: str = "auto",
    random_state: int = 0,
    key: str = "flda",
    copy: bool = False,
) -> AnnData | None:
    """Test every effect, and every gene for each effect, by resampling.

    See :func:`flda.inference.effect_tests` for the statistic and for what is resampled. If the fit had a ``donor``,
    factors that vary between donors are tested with donors as the unit.

    Parameters
    ----------
    {adata}
    effects
        Effects to test, such as ``["dendrite"]``. None tests all effects that can be tested.
    n_resamples
        Number of resamples per effect. The smallest possible p-value is ``1 / (n_resamples + 1)``.
    method
        ``"auto"``, ``"flips"`` or ``"permutation"``.
    {random_state}
    {key}
    {copy}

    Returns
    -------
    None, or the copy if ``copy=True``. Writes:

    * ``uns["flda"]["tests"]``: ``table``, a row per effect, and ``null``, the statistic of every resample; read the
      table with :func:`flda.get.effect_tests_df`
    * ``varm["flda_pval"]``, ``varm["flda_pval_adj"]``, ``varm["flda_pval_max"]``: for each gene the p-value, the false
      discovery rate and the family-wise p-value, ndarrays p x effects with axes. They are NaN for genes and effects
      that were not tested. Read them with :func:`flda.get.gene_tests_df`

    The p-values also appear in :func:`flda.get.rank_genes_df` and in every ranking that :func:`flda.tl.rank_genes`
    makes from the fit, before or after this call.

    Raises
    ------
    ValueError
        If fewer than two donors give the contrast of an effect, if no group has two cells where that is needed, or if
        the fit has simulated cells. ``adata`` is then left as it was.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=300, n_vars=100)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.tl.effect_tests(adata, n_resamples=19)
    >>> flda.get.effect_tests_df(adata)["pval"].tolist()[0]
    0.05
    """
    step = Step("effect_tests", adata, key, copy, random_state)
    fitted = Fitted.read(adata, key)
    with step.refit():
        found = inference.effect_tests(
            fitted.dense(), fitted.X, fitted.labels, fitted.donors,
            effects=[effects] if isinstance(effects, str) else effects,
            n_resamples=n_resamples, method=method, random_state=random_state,
        )  # fmt: skip
    of_genes = found.genes.pivot(index="gene", columns="effect").reindex(range(fitted.X.shape[1]))
    pvals = {c: of_genes[c].reindex(columns=fitted.record.effects_with_axes) for c in ("pval", "pval_adj", "pval_max")}
    return step.write(tests={"table": found.table, "null": found.null}, **pvals)
