"""Tables of a fit."""

from __future__ import annotations

import pandas as pd
from anndata import AnnData

from .._adata.record import Record
from .._docs import documented


@documented
def axes_df(adata: AnnData, *, key: str = "flda") -> pd.DataFrame:
    """Return the axes of all genes.

    Parameters
    ----------
    {adata}
    {key}

    Returns
    -------
    DataFrame with a row per axis: ``axis, effect, component, eigenvalue``. The eigenvalue is that of the fitted cells;
    :func:`flda.tl.certify` measures the axes on held-out cells.

    {not_fitted}

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.get.axes_df(adata)["axis"].tolist()[:2]
    ['dendrite_1', 'axon_1']
    """
    return Record(adata, key).axes


@documented
def design_df(adata: AnnData, *, key: str = "flda") -> pd.DataFrame:
    """Return the number of cells in every combination of levels, including combinations without cells.

    Parameters
    ----------
    {adata}
    {key}

    Returns
    -------
    DataFrame with a row per combination: the levels of every factor and nuisance factor as text, and ``n_cells``.

    {not_fitted}

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> len(flda.get.design_df(adata))
    8
    """
    return Record(adata, key).design


@documented
def estimability_df(adata: AnnData, *, key: str = "flda") -> pd.DataFrame:
    """Return which effects the design can estimate, and why it cannot estimate the others.

    Parameters
    ----------
    {adata}
    {key}

    Returns
    -------
    DataFrame with a row per effect: ``effect, df, estimable`` (boolean), ``left_out`` (degrees of freedom that cannot
    be estimated), ``missing`` (empty groups) and ``reason``, which says what is in the way and what would help. It is
    empty for effects that can be estimated as a whole.

    {not_fitted}

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> part = adata[adata.obs["subtype"] != "T5c"].copy()
    >>> flda.tl.flda(part, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.get.estimability_df(part).set_index("effect")["estimable"].to_dict()
    {'dendrite': True, 'axon': True, 'dendrite:axon': False}
    """
    return Record(adata, key).estimability


@documented
def variance_df(adata: AnnData, *, key: str = "flda") -> pd.DataFrame:
    """Return the share of every effect in the variance of expression, summed over genes and corrected for noise.

    Parameters
    ----------
    {adata}
    {key}

    Returns
    -------
    DataFrame with a row per effect and a last row, ``within``, for the variance within groups:
    ``effect, df, variance, share``. The shares refer to a table with equally many cells in every group. The noise in
    the group means is subtracted, so a share can be negative.

    {not_fitted}

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.get.variance_df(adata)["effect"].tolist()
    ['dendrite', 'axon', 'dendrite:axon', 'within']
    """
    return Record(adata, key).variance


@documented
def scale_check_df(adata: AnnData, *, key: str = "flda") -> pd.DataFrame:
    """Return whether interactions hold on the log of mean counts, or may be the curvature of log1p.

    Parameters
    ----------
    adata
        AnnData with the results of :func:`flda.tl.flda` and :func:`flda.tl.scale_check`.
    {key}

    Returns
    -------
    DataFrame with a row per interaction: ``effect, pval, pval_log_rate, n_genes, n_kept, share_kept, reading``, as in
    :class:`flda.inference.ScaleCheck`.

    Raises
    ------
    ValueError
        If :func:`flda.tl.scale_check` has not run.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=300, n_vars=100)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.tl.scale_check(adata, n_resamples=99)
    >>> flda.get.scale_check_df(adata)["n_genes"].tolist()[0] >= 0
    True
    """
    return Record(adata, key).scale_check["table"]
