"""The penalty that keeps cross-talk below a limit: :func:`flda.tl.choose_penalty`."""

from __future__ import annotations

from collections.abc import Sequence

from anndata import AnnData

from .. import inference
from .._adata.fitted import Fitted
from .._adata.results import Step
from .._docs import documented
from ..inference._penalty import PENALTIES


@documented
def choose_penalty(
    adata: AnnData,
    *,
    crosstalk: float = 0.1,
    penalties: Sequence[float] = PENALTIES,
    n_folds: int = 5,
    n_repeats: int = 1,
    random_state: int = 0,
    n_jobs: int | None = None,
    key: str = "flda",
    copy: bool = False,
) -> AnnData | None:
    """Find for every effect the smallest penalty that keeps held-out cross-talk below a limit.

    This function does not change the fit. Fit each effect of interest again with the penalty that was chosen for it:
    ``flda.tl.flda(adata, ..., penalty=adata.uns["flda"]["penalties"]["chosen"]["dendrite"])``. See
    :func:`flda.inference.choose_penalty`.

    Parameters
    ----------
    {adata}
    crosstalk
        The limit on the ratio of held-out cross-talk to held-out signal-to-noise ratio, each summed over the axes of an
        effect.
    penalties
        Penalties to try.
    {folds}
    {random_state}
    {n_jobs}
    {key}
    {copy}

    Returns
    -------
    None, or the copy if ``copy=True``. Writes ``uns["flda"]["penalties"]``:

    * ``table``: the certificates of all penalties, with the columns of :func:`flda.get.certificate_df` and ``penalty``
    * ``chosen``: a dict from each effect to the smallest penalty within the limit, or to the penalty with the smallest
      ratio if no penalty is within the limit
    * ``params``: ``crosstalk, penalties, n_folds, n_repeats, random_state``

    Read the table with :func:`flda.get.penalties_df`.

    Raises
    ------
    ValueError
        If no cell (donor) can be held out without losing an effect, or if the fit has simulated cells.
        ``adata`` is then left as it was.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=100)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.tl.choose_penalty(adata, penalties=[1, 10], n_folds=3)
    >>> adata.uns["flda"]["penalties"]["chosen"]["dendrite"]
    1.0
    """
    step = Step("choose_penalty", adata, key, copy, random_state)
    fitted = Fitted.read(adata, key)
    with step.refit():
        chosen, table = inference.choose_penalty(
            fitted.dense(), fitted.X, fitted.labels, fitted.donors, crosstalk=crosstalk, penalties=penalties,
            n_folds=n_folds, n_repeats=n_repeats, random_state=random_state, n_jobs=n_jobs,
        )  # fmt: skip
    params = {
        "crosstalk": crosstalk, "penalties": [float(p) for p in penalties],
        "n_folds": n_folds, "n_repeats": n_repeats, "random_state": random_state,
    }  # fmt: skip
    return step.write(penalties={"table": table, "chosen": chosen, "params": params})
