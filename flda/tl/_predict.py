"""Levels of new cells: :func:`flda.tl.predict`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from anndata import AnnData

from .._adata.keys import check_new_prediction
from .._adata.new_cells import project
from .._adata.record import Record
from .._adata.results import Step
from .._docs import documented
from ..estimators._predictor import Predictor


@documented
def predict(
    adata: AnnData,
    adata_ref: AnnData,
    *,
    prior: str | Sequence[float] | Mapping[str, str | Sequence[float]] = "equal",
    key: str = "flda",
    copy: bool = False,
) -> AnnData | None:
    """Predict the level of every factor for new cells, from a reference that :func:`flda.tl.flda` has fitted.

    The probabilities are those of :meth:`flda.FLDA.predict_proba`: Gaussian groups, with the means, the shrinkage and
    one temperature per factor that predict held-out cells of the reference best. With a fixed ``shrinkage`` there were
    no held-out cells, and the probabilities are not calibrated. Genes are matched by name as in
    :func:`flda.tl.transform`.

    Parameters
    ----------
    adata
        New cells, normalised in the same way as the reference.
    adata_ref
        AnnData with the results of :func:`flda.tl.flda`. It may be ``adata`` itself; for cells that were fitted, the
        predictions are better than for new ones.
    prior
        Prior probability of the levels: ``"equal"``, ``"frequency"`` for their shares in the reference, or
        probabilities in the order of the levels. A dict holds one of these for each factor.
    key
        The ``key_added`` of the fit. The results are written under the same key.
    {copy}

    Returns
    -------
    None, or the copy if ``copy=True``. Writes for every factor that is not nuisance:

    * ``obs["flda_<factor>"]``: the most probable level, a categorical column with the levels of the reference
    * ``obsm["flda_<factor>"]``: the probability of every level, ndarray N x levels, columns as the categories

    Raises
    ------
    ValueError
        If ``adata_ref`` holds no fit, no gene is shared, a layer is missing, or values or priors cannot be used.
        ``adata`` is then left as it was.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=600, n_vars=200)
    >>> reference, new = adata[:400].copy(), adata[400:].copy()
    >>> flda.tl.flda(reference, ["dendrite", "axon"])
    >>> flda.tl.predict(new, reference)
    >>> bool((new.obs["flda_dendrite"] == new.obs["dendrite"]).mean() > 0.95)
    True
    """
    step = Step("predict", adata, key, copy)
    record = Record(adata_ref, key)
    predictor = _predictor(record)
    factors = record.params["factors"]
    for factor in factors:
        check_new_prediction(adata, key, factor)
    products = project(adata, record, predictor.discriminants)
    probabilities = predictor.probabilities(products, prior)
    return step.write_predictions(
        {
            f: (pd.Categorical.from_codes(p.argmax(axis=1), predictor.levels[f]), p)
            for f, p in probabilities.items()
            if f in factors
        }
    )


def _predictor(record: Record) -> Predictor:
    """The discriminants of the fit, and what turns them into probabilities."""
    stored, table = record.prediction, record.design
    factors = [f for f in (*record.params["factors"], *record.params["nuisance"]) if f in table]  # without covariates
    columns = [table[f].astype("category").cat for f in factors]
    occupied = table["n_cells"].to_numpy() > 0
    return Predictor(
        levels={f: c.categories.to_numpy() for f, c in zip(factors, columns, strict=True)},
        groups=np.column_stack([c.codes for c in columns])[occupied].astype(np.int64),
        counts=table["n_cells"].to_numpy()[occupied],
        centre=record.centre.to_numpy(),
        discriminants=record.discriminants.to_numpy(),
        offsets=np.asarray(stored["offsets"]),
        temperatures=stored["temperatures"],
        means=stored["means"],
        shrinkage=stored["shrinkage"],
    )
