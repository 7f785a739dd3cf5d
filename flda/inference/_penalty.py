"""The choice of the penalty from a limit on held-out cross-talk."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.base import clone

from ..estimators import FLDA
from ._certificate import certify_together

# the penalties that are tried
PENALTIES = (0.1, 1.0, 10.0, 100.0, float("inf"))


def choose_penalty(
    model: FLDA,
    X,
    y,
    donor: ArrayLike | None = None,
    *,
    crosstalk: float = 0.1,
    penalties: Sequence[float] = PENALTIES,
    n_folds: int = 5,
    n_repeats: int = 1,
    random_state: int | None = 0,
    n_jobs: int | None = None,
) -> tuple[dict[str, float], pd.DataFrame]:
    """Choose, for every effect, the smallest penalty that keeps held-out cross-talk below a limit.

    Parameters
    ----------
    model
        Estimator to tune. Its own ``penalty`` is ignored.
    X, y, donor, n_folds, n_repeats, random_state, n_jobs
        As in :func:`certify`.
    crosstalk
        The limit on the ratio of held-out cross-talk to held-out SNR, each summed over the axes of an effect.
    penalties
        The penalties to try.

    Returns
    -------
    chosen
        Effect name -> the smallest penalty within the limit. If none is, the penalty with the smallest ratio. Fit each
        effect of interest with its own penalty, as in ``FLDA(penalty=chosen["dendrite"])``.
    table
        The certificates for all penalties, with a column ``penalty``.

    Examples
    --------
    >>> from flda.datasets import t4t5_simulated
    >>> adata = t4t5_simulated(n_obs=600, n_vars=200)
    >>> chosen, table = choose_penalty(FLDA(shrinkage=0.2), adata.X, adata.obs[["dendrite", "axon"]])
    >>> chosen["dendrite"]
    0.1
    """
    values = sorted(float(p) for p in penalties)
    models = {str(value): clone(model).set_params(penalty=value) for value in values}
    options = {"n_folds": n_folds, "n_repeats": n_repeats, "random_state": random_state, "n_jobs": n_jobs}
    table = certify_together(models, X, y, donor, **options)  # type: ignore[arg-type]
    table.insert(0, "penalty", table.pop("genes").astype(float))
    sums = table.groupby(["effect", "penalty"], sort=False)[["snr", "crosstalk"]].sum()
    chosen = {}
    for effect in table["effect"].unique():
        part = sums.loc[effect].sort_index()
        # a penalty whose axes have no held-out SNR is never within the limit
        ratio = (part["crosstalk"] / part["snr"]).where(part["snr"] > 0, np.inf)
        within = ratio.index[ratio <= crosstalk]
        chosen[effect] = float(within[0] if len(within) else ratio.idxmin())
    return chosen, table
