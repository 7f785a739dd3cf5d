"""Tables of a panel."""

from __future__ import annotations

import pandas as pd
from anndata import AnnData

from .._adata.record import Record
from .._docs import documented


@documented
def panel_df(adata: AnnData, *, key: str = "flda") -> pd.DataFrame:
    """Return the genes of the panel, those that are missed most first.

    Parameters
    ----------
    {adata}
        The results of :func:`flda.tl.panel` are also needed.
    {key}

    Returns
    -------
    DataFrame with a row per gene:

    * ``rank, gene``
    * ``axis``: the axis of all genes to which the gene belongs, with which it has the largest absolute pattern
    * ``included``: whether it was asked for
    * ``loss``: by which share the information of the panel about all effects falls without this gene. A gene whose
      loss is small is replaceable, since other genes of the panel say the same
    * ``cost``: 1 without costs
    * ``F_<effect>``: F ratio for every effect of the fit
    * ``score_<axis>``: standardised loading on every axis of the panel

    Raises
    ------
    ValueError
        If :func:`flda.tl.panel` has not run since the fit.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=100)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], interactions=None, shrinkage=0.5)
    >>> flda.tl.panel(adata, 8)
    >>> flda.get.panel_df(adata).columns.tolist()[:6]
    ['rank', 'gene', 'axis', 'included', 'loss', 'cost']
    """
    return Record(adata, key).panel["genes"]


@documented
def panel_axes_df(adata: AnnData, *, key: str = "flda") -> pd.DataFrame:
    """Return the axes of the panel.

    Parameters
    ----------
    {adata}
        The results of :func:`flda.tl.panel` are also needed.
    {key}

    Returns
    -------
    DataFrame with a row per axis: ``axis, effect, component, eigenvalue`` and ``eigenvalue_all_genes``, that of the
    same axis of all genes. Both are those of the fitted cells; :func:`flda.tl.certify` measures the axes on held-out
    cells.

    Raises
    ------
    ValueError
        If :func:`flda.tl.panel` has not run since the fit.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=100)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], interactions=None, shrinkage=0.5)
    >>> flda.tl.panel(adata, 8)
    >>> flda.get.panel_axes_df(adata)["axis"].tolist()
    ['dendrite_1', 'axon_1', 'axon_2', 'axon_3']
    """
    return Record(adata, key).panel["axes"]
