"""Tables that judge axes and effects."""

from __future__ import annotations

import pandas as pd
from anndata import AnnData

from .._adata.record import Record
from .._docs import documented


@documented
def certificate_df(adata: AnnData, *, key: str = "flda") -> pd.DataFrame:
    """Return the held-out signal-to-noise ratio (SNR), cross-talk and accuracy of every axis, with standard errors.

    Parameters
    ----------
    {adata}
        The results of :func:`flda.tl.certify` are also needed.
    {key}

    Returns
    -------
    DataFrame with a row per axis and set of genes: the columns of :func:`flda.inference.certify`, and ``genes``, which
    is ``"all"`` or ``"selected"``.

    Raises
    ------
    ValueError
        If :func:`flda.tl.certify` has not run since the fit, or since genes were selected.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.tl.certify(adata)
    >>> flda.get.certificate_df(adata)[["axis", "genes"]].values.tolist()[0]
    ['dendrite_1', 'all']
    """
    return Record(adata, key).certificate


@documented
def effect_tests_df(adata: AnnData, *, key: str = "flda") -> pd.DataFrame:
    """Return the test of every effect.

    Parameters
    ----------
    {adata_tested}
    {key}

    Returns
    -------
    DataFrame with a row per effect: the columns of :attr:`flda.inference.EffectTests.table`.

    Raises
    ------
    ValueError
        If :func:`flda.tl.effect_tests` has not run since the fit.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=300, n_vars=100)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.tl.effect_tests(adata, n_resamples=19)
    >>> flda.get.effect_tests_df(adata).set_index("effect").loc["dendrite", "pval"]
    np.float64(0.05)
    """
    return Record(adata, key).tests["table"]


@documented
def path_df(adata: AnnData, *, key: str = "flda") -> pd.DataFrame:
    """Return objective, held-out SNR and held-out cross-talk of every axis for several numbers of genes.

    Parameters
    ----------
    {adata}
        The results of :func:`flda.tl.path` are also needed.
    {key}

    Returns
    -------
    DataFrame with a row per number of genes and axis: ``n_genes, axis, effect, component, eigenvalue,
    dense_eigenvalue, snr, crosstalk``, see :func:`flda.tl.path`.

    Raises
    ------
    ValueError
        If :func:`flda.tl.path` has not run since the fit.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=100)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], interactions=None, shrinkage=0.5)
    >>> flda.tl.path(adata, n_genes=[3, 6], n_folds=2)
    >>> flda.get.path_df(adata)["n_genes"].unique().tolist()
    [3, 6]
    """
    return Record(adata, key).path


@documented
def penalties_df(adata: AnnData, *, key: str = "flda") -> pd.DataFrame:
    """Return the held-out certificates of all penalties that were tried, and which penalty was chosen.

    Parameters
    ----------
    {adata}
        The results of :func:`flda.tl.choose_penalty` are also needed.
    {key}

    Returns
    -------
    DataFrame with a row per penalty and axis: ``penalty``, ``chosen`` (whether this is the penalty chosen for the
    effect of the axis), and the columns of :func:`flda.inference.certify`.

    Raises
    ------
    ValueError
        If :func:`flda.tl.choose_penalty` has not run since the fit.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=100)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.tl.choose_penalty(adata, penalties=[1, 10], n_folds=3)
    >>> flda.get.penalties_df(adata).query("chosen and effect == 'dendrite'")["penalty"].tolist()
    [1.0]
    """
    found = Record(adata, key).penalties
    table = found["table"]
    table.insert(1, "chosen", table["penalty"] == table["effect"].map(found["chosen"]))
    return table


@documented
def counterfactual_df(adata: AnnData, *, key: str = "flda") -> pd.DataFrame:
    """Return how well counterfactual means predict groups that were left out of the fit.

    Parameters
    ----------
    adata
        AnnData with the results of :func:`flda.tl.flda` and :func:`flda.tl.certify_counterfactual`.
    {key}

    Returns
    -------
    DataFrame with one row per group, set of genes and kind of means, and rows for ``"all groups"``:
    ``group, genes, group_means, n_cells, n_units, n_genes, r2, se_r2, r2_additive, se_r2_additive, difference,
    se_difference, reading``, as in :func:`flda.inference.certify_counterfactual`.

    Raises
    ------
    ValueError
        If :func:`flda.tl.certify_counterfactual` has not run.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.tl.certify_counterfactual(adata, {"dendrite": "T5"}, group_means="fitted")
    >>> flda.get.counterfactual_df(adata)["group"].unique().tolist()
    ['T5:a', 'T5:b', 'T5:c', 'T5:d', 'all groups']
    """
    return Record(adata, key).counterfactual_certificate
