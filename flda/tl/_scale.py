"""Whether interactions are a matter of scale: :func:`flda.tl.scale_check`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from anndata import AnnData

from .. import inference
from .._adata import read
from .._adata.fitted import Fitted
from .._adata.results import Step
from .._data import arrays
from .._data.device import to_host
from .._docs import documented


@documented
def scale_check(
    adata: AnnData,
    *,
    layer: str = "counts",
    effects: str | Sequence[str] | None = None,
    n_resamples: int = 199,
    random_state: int = 0,
    key: str = "flda",
    copy: bool = False,
) -> AnnData | None:
    """Check whether interactions are more than the curvature of log1p.

    Two factors that each multiply the counts of a gene leave an interaction on log1p values near zero. This function
    tests every interaction on the expression of the fit and on the log of mean counts, where they leave none; see
    :func:`flda.inference.scale_check` for the method and for how to read the result.

    Parameters
    ----------
    {adata}
    layer
        Layer with the raw counts; those on disk or in dask are read into memory.
    effects
        Interactions to check, such as ``["dendrite:axon"]``. None checks all that have axes.
    n_resamples
        Number of resamples.
    {random_state}
    {key}
    {copy}

    Returns
    -------
    None, or the copy if ``copy=True``. Writes ``uns["flda"]["scale_check"]``:

    * ``table``: DataFrame ``effect, pval, pval_log_rate, n_genes, n_kept, share_kept, reading``, a row per interaction;
      read it with :func:`flda.get.scale_check_df`. The last column is a sentence that says what the numbers mean
    * ``genes``: DataFrame ``effect, gene, pval_adj, pval_log_rate, kept``, a row per interaction and gene that has it
      on the expression of the fit

    Raises
    ------
    ValueError
        If there is no such layer, it does not hold raw counts, there is no interaction to check, or the fit
        has simulated cells. ``adata`` is then left as it was.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=300, n_vars=100)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.tl.scale_check(adata, n_resamples=99)
    >>> flda.get.scale_check_df(adata)["effect"].tolist()
    ['dendrite:axon']
    """
    step = Step("scale_check", adata, key, copy, random_state)
    fitted = Fitted.read(adata, key)
    if layer not in adata.layers:
        names = [name for name in adata.layers if name is not None]
        raise ValueError(
            f"there is no layer {layer!r} with raw counts; layers are {names}. Keep the counts before normalising: "
            f"adata.layers[{layer!r}] = adata.X.copy()."
        )
    counts = to_host(read.checked_expression(adata, layer))[fitted.cells]
    depth = arrays.times(counts, np.ones((counts.shape[1], 1))).ravel()
    found = inference.scale_check(
        fitted.dense(), fitted.X, fitted.labels, fitted.donors,
        counts=counts[:, fitted.record.genes], depth=depth,
        effects=[effects] if isinstance(effects, str) else effects,
        n_resamples=n_resamples, random_state=random_state,
    )  # fmt: skip
    names = fitted.record.gene_names
    genes = found.genes.assign(gene=names[found.genes["gene"]])
    return step.write(scale_check={"table": found.table, "genes": genes})
