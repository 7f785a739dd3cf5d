"""Cells under other levels of factors: :func:`flda.tl.counterfactual` and :func:`flda.tl.certify_counterfactual`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from anndata import AnnData

from .. import inference
from .._adata import read
from .._adata.fitted import Fitted
from .._adata.keys import check_storable
from .._adata.results import Step, check_new_layer
from .._data import arrays
from .._data.shift import SPARSE, changed_share, result_dtype, shifted
from .._docs import documented
from .._logging import quiet, warn
from .._solve.choose import available_memory
from ..estimators._counterfactual import check_kind, counterfactual_groups, counterfactual_shift
from ..inference._counterfactual import CERTIFIED


@documented
def counterfactual(
    adata: AnnData,
    levels: Mapping[str, Any],
    *,
    group_means: str = "fitted",
    mask_var: str | np.ndarray | None = None,
    clip: bool = False,
    layer_added: str = "counterfactual",
    key: str = "flda",
    copy: bool = False,
) -> AnnData | None:
    """Write what the expression of every cell would be under other levels of some factors.

    A cell becomes itself plus the difference of two means: that of its counterfactual group, which has the given levels
    and its own levels of all other factors, and that of its own group. So it keeps all that sets it apart from its
    group, and cells that have the given levels keep their values exactly. Run :func:`flda.tl.certify_counterfactual` to
    see how well such means predict groups that were left out of the fit. The difference is one of the design: whether
    it is what an intervention would cause is not for the data to say.

    **Negative values.** The result is not clipped by default, so that the means of the counterfactual cells are exactly
    those that were predicted; a cell with zero counts of a gene can then have a negative value. With ``clip=True`` a
    value that was not negative becomes zero instead, and means are a little too large where a gene falls.

    **Memory.** The data are read in blocks, and the result has the form of ``X``: an array, a CSR matrix, or, if ``X``
    is a dask array, a dense dask array that is computed when it is used. A sparse ``X`` gives an array if more than
    30 % of all values can change from zero to something else, as they do when every gene of every cell is shifted. To
    keep it sparse, name the genes to shift by ``mask_var``, for example those that differ. ``clip=True`` keeps the
    zeros of genes that fall.

    Parameters
    ----------
    {adata}
    levels
        Factor -> its level, such as ``{"condition": "stim"}``; factors of the fit and its nuisance factors. A numeric
        factor also takes a number between its values, unless it was fitted with ``"trend"``.
    group_means
        ``"fitted"``: the values of the effects of the fit. If the fit has all interactions, they are the observed
        means; a group without cells has the value that the effects predict. ``"observed"``: the means of the cells; a
        group without cells is refused. ``"shrunken"``: posterior means under the factorial prior, see
        :class:`flda.FLDA`, which move noisy means towards what the main effects predict.
    mask_var
        Genes to shift: a boolean column of ``var`` or a boolean array. None for all genes of the fit. All other genes
        keep their values.
    clip
        Whether a value that was not negative becomes zero instead of negative.
    layer_added
        Name of the layer for the result. A layer that another call of this function wrote for the same fit is
        replaced; any other is refused.
    {key}
    {copy}

    Returns
    -------
    None, or the copy if ``copy=True``. Writes:

    * ``layers["counterfactual"]``, or the layer with the name ``layer_added``: expression of all cells and genes, in
      float32 if that of the fit is, and in float64 otherwise. Cells without a label of the design are NaN
    * ``uns["flda"]["counterfactuals"]``: for each such layer a dict with ``levels``, ``group_means`` and ``clip``

    Raises
    ------
    ValueError
        If a factor or a level is unknown, a group that is needed has no cells, the layer exists, or the result does
        not fit into memory. ``adata`` is then left as it was.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.tl.counterfactual(adata, {"dendrite": "T5"}, layer_added="as_T5")
    >>> adata.layers["as_T5"].shape
    (400, 200)
    """
    step = Step("counterfactual", adata, key, copy)
    fitted = Fitted.read(adata, key, real_cells_only=False)
    record = fitted.record
    check_new_layer(record, layer_added)
    genes = read.gene_mask(adata, mask_var)
    model, layer = fitted.dense(), record.params["layer"]
    with quiet():
        design = model.design_of(fitted.labels)
    targets = counterfactual_groups(design, levels)
    about: dict[str, Any] = {"levels": dict(levels), "group_means": group_means, "clip": bool(clip)}
    check_storable({"levels": about["levels"]})
    check_kind(design, targets, group_means)
    if not (genes & record.genes).any():
        raise ValueError("mask_var selects no gene of the fit; select at least one.")

    X = read.checked_expression(adata, layer)
    with quiet(), read.naming(adata.obs_names[fitted.cells], record.gene_names, layer):
        found = counterfactual_shift(model._prepare(fitted.X, fitted.labels, fitted.donors), levels, group_means)
    shift = np.zeros((len(found), adata.n_vars))
    shift[:, record.genes] = found
    shift[:, ~genes] = 0.0
    codes = np.full(adata.n_obs, -1, dtype=np.int64)
    codes[fitted.cells] = design.codes
    _check_memory(X, changed_share(codes, shift, clip=clip))
    if (codes < 0).any():
        warn(f"{np.sum(codes < 0)} of {adata.n_obs} cells have no label of the design; they are NaN")
    result = shifted(X, codes, shift, clip=clip)
    known = record.counterfactuals if "counterfactuals" in record else {}
    return step.write_layer(layer_added, result, counterfactuals={**known, layer_added: about})


def _check_memory(X: Any, share: float) -> None:
    """Refuse a result that does not fit into memory."""
    if arrays.is_dask(X):
        return
    size = result_dtype(X).itemsize
    values = float(X.shape[0]) * X.shape[1]
    sparse = arrays.is_sparse(X) and share <= SPARSE
    needed = (share * values + X.nnz) * (size + 4) * 2 if sparse else values * size
    free = available_memory()
    if needed > free:
        raise ValueError(
            f"the counterfactual of {X.shape[0]:,} cells x {X.shape[1]:,} genes takes {needed / 1e9:.1f} GB, and "
            f"{free / 1e9:.1f} GB are free; name fewer genes by mask_var, or take a part of the cells."
        )


@documented
def certify_counterfactual(
    adata: AnnData,
    change: Mapping[str, Any] | str | Sequence[str],
    *,
    group_means: str | Sequence[str] = CERTIFIED,
    random_state: int = 0,
    n_jobs: int | None = None,
    key: str = "flda",
    copy: bool = False,
) -> AnnData | None:
    """Measure how well counterfactual means predict groups that are left out of the fit, against two baselines.

    Every group with the given levels is left out with all of its cells. Its mean is predicted from the cells of the
    groups that differ from it in the changed factors only, as :func:`flda.tl.counterfactual` does. Two baselines are
    judged on the same groups: the cells as they are (no change), and the cells plus the difference of the main effects
    (the additive mean). See :func:`flda.inference.certify_counterfactual` for the measure, and for what can be
    predicted: in a fit of two factors, nothing but the additive mean.

    Parameters
    ----------
    {adata}
    change
        Factor -> its level, as in :func:`flda.tl.counterfactual`: the groups with this level are left out, one at a
        time. Or the name of a factor, or several: every group is left out.
    group_means
        The means to judge: ``"fitted"``, ``"shrunken"``, or both.
    {random_state}
    {n_jobs}
    {key}
    {copy}

    Returns
    -------
    None, or the copy if ``copy=True``. Writes ``uns["flda"]["counterfactual_certificate"]``, a DataFrame with one row
    per group, set of genes and kind of means. Read it with :func:`flda.get.counterfactual_df`, and draw it with
    :func:`flda.pl.counterfactual`.

    Raises
    ------
    ValueError
        If a factor or a level is unknown, or no group can be predicted without its own cells. ``adata`` is then left as
        it was.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.tl.certify_counterfactual(adata, {"dendrite": "T5"})
    >>> table = flda.get.counterfactual_df(adata)
    >>> table["reading"].iloc[0]
    'better than no change; the same as the additive mean'
    """
    step = Step("certify_counterfactual", adata, key, copy, random_state)
    fitted = Fitted.read(adata, key)
    with step.refit():
        table = inference.certify_counterfactual(
            fitted.dense(), fitted.X, fitted.labels, fitted.donors,
            change=change, group_means=group_means, random_state=random_state, n_jobs=n_jobs,
        )  # fmt: skip
    return step.write(counterfactual_certificate=table)
