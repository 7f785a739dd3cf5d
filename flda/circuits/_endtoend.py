"""From cells to signed wiring and back: signs from genes, weights from activity, links to gene axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData

from .._logging import warn
from ._linear import SignedLinear
from ._link import link_axes
from ._sign_mask import SignMask
from ._signs import infer_signs


@dataclass
class SignedWiring:
    """The result of :func:`signed_wiring`.

    Attributes
    ----------
    signs : DataFrame
        Table of :func:`infer_signs`, one row per type.
    mask : SignMask
        Signs of the edges that were used.
    weights : DataFrame
        Recovered weights, presynaptic x postsynaptic types, signs included, in units of the responses per unit of
        activity.
    fits : DataFrame
        One row per postsynaptic type, with the columns ``n_units`` (candidate inputs), ``n_active`` (inputs with a
        non-zero weight), ``alpha`` (the chosen penalty), ``r2_test`` (R^2 on samples that were used neither to fit nor
        to choose the penalty) and ``n_free`` (inputs of unknown sign).
    links : DataFrame
        Table of :func:`link_axes` for the recovered inputs.

    Examples
    --------
    :func:`signed_wiring` has an example that makes one.
    """

    signs: pd.DataFrame
    mask: SignMask
    weights: pd.DataFrame
    fits: pd.DataFrame
    links: pd.DataFrame


def signed_wiring(
    adata: AnnData,
    edges: pd.DataFrame,
    activity: pd.DataFrame,
    responses: pd.DataFrame,
    *,
    groupby: str,
    organism: str = "drosophila",
    layer: str | None = None,
    overrides: Mapping[tuple[str, str], float] | None = None,
    n_alphas: int = 20,
    random_state: int = 0,
    key: str = "flda",
) -> SignedWiring:
    """Recover the signed inputs of cell types under signs from their genes, and link them to FLDA axes.

    Genes of the presynaptic types give signs (:func:`infer_signs`), the connectome gives the pairs of types that are
    connected (:class:`SignMask`), and activity and responses give the weights under these signs (:class:`SignedLinear`
    with an L1 penalty, the largest within one standard error of the best on validation samples). The weights per pair
    of types are passed to :func:`link_axes`. Edges of unknown sign are unconstrained. For circuits with hidden units,
    recover the weights with :func:`recover_circuit` and pass them to :func:`link_axes`.

    Parameters
    ----------
    adata
        Cells of presynaptic and postsynaptic types, with the results of :func:`flda.tl.flda` for the postsynaptic ones.
        Cells of other types have missing values in the factors.
    edges
        Columns ``pre`` and ``post``: pairs of connected types. If there is a column ``sign``, its values take
        precedence over the sign of the type where they are not NaN. Other columns are ignored.
    activity
        Samples x presynaptic units. Columns are names of types, or a MultiIndex whose first level is the type, for
        example if a type has a unit in each of several columns of the eye. The weights of its units are summed.
    responses
        Samples x postsynaptic types, for the same samples.
    groupby
        Column of ``adata.obs`` with the names of the types.
    organism, layer
        As in :func:`infer_signs`.
    overrides
        Signs of single edges, as in :meth:`SignMask.from_types`.
    n_alphas
        Number of penalties to try.
    random_state
        Seed of the split of samples: three fifths to fit, one fifth to choose the penalty, one fifth to test.
    key
        The ``key_added`` of the fit.

    Returns
    -------
    SignedWiring
        Signs, mask, weights, fits and links. As :func:`link_axes` does, the call also writes
        ``adata.uns["flda"]["connectivity"]``.

    Raises
    ------
    ValueError
        If no edge reaches a type with responses, if activity and responses differ in the number of samples, if they
        hold NaN or infinite values, or if one of the steps refuses its input.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> adata.var_names = ["VAChT", *adata.var_names[1:]]
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> types = list(adata.obs["subtype"].cat.categories)
    >>> edges = pd.DataFrame([(pre, t) for t in types for pre in ("Mi1", "Tm9")], columns=["pre", "post"])
    >>> rng = np.random.default_rng(0)
    >>> activity = pd.DataFrame(rng.random((300, 2)), columns=["Mi1", "Tm9"])
    >>> responses = pd.DataFrame({t: activity["Mi1" if t[1] == "4" else "Tm9"] for t in types})
    >>> found = flda.circuits.signed_wiring(adata, edges, activity, responses, groupby="subtype")
    >>> bool(found.weights.loc["Mi1", "T4a"] > 0.5 > found.weights.loc["Mi1", "T5a"])
    True
    """
    used = _checked_edges(edges, activity, responses)
    of_unit = activity.columns.get_level_values(0).astype(str)
    posts = [str(c) for c in responses.columns]
    signs = infer_signs(adata, groupby, organism=organism, layer=layer)
    mask = SignMask.from_types(signs, used, overrides=overrides)
    X, order = activity.to_numpy(dtype=float), np.random.default_rng(random_state).permutation(len(activity))
    weights = pd.DataFrame(0.0, index=mask.values.index, columns=posts)
    fits = []
    for post in posts:
        values = mask.values[post].reindex(of_unit, fill_value=0.0).to_numpy()
        units = np.flatnonzero(values != 0)
        w, report = _fit(X[:, units], responses[post].to_numpy(dtype=float), values[units], order, n_alphas)
        # several units of one type, such as those of neighbouring columns, add up
        summed = pd.Series(w, index=of_unit[units]).groupby(level=0).sum()
        weights.loc[summed.index, post] = summed
        fits.append({"post": post, **report, "n_free": int(np.isnan(values[units]).sum())})
    links = link_axes(adata, weights, groupby, directions="inputs", random_state=random_state, key=key)
    return SignedWiring(signs, mask, weights, pd.DataFrame(fits).set_index("post"), links)


def _checked_edges(edges: pd.DataFrame, activity: pd.DataFrame, responses: pd.DataFrame) -> pd.DataFrame:
    """Edges from types with activity to types with responses, once activity and responses have been checked."""
    if len(activity) != len(responses):
        raise ValueError(
            f"activity has {len(activity)} samples and responses have {len(responses)}; pass the same samples."
        )
    for what, table in (("activity", activity), ("responses", responses)):
        if not np.isfinite(table.to_numpy(dtype=float)).all():
            raise ValueError(f"{what} holds NaN or infinite values; remove those samples.")
    posts = {str(c) for c in responses.columns}
    of_unit = activity.columns.get_level_values(0).astype(str)
    to_posts = edges[edges["post"].isin(posts)]
    used = to_posts[to_posts["pre"].isin(of_unit)]
    without = sorted(posts - set(used["post"]))
    if without:
        raise ValueError(
            f"no edge from a type with activity reaches {without[0]!r}; add an edge, or remove it from responses."
        )
    missing = sorted(set(to_posts["pre"]) - set(of_unit))
    if missing:
        warn(f"these types have no activity, so their synapses are left out: {', '.join(missing)}")
    return used


def _fit(
    X: np.ndarray, y: np.ndarray, signs: np.ndarray, order: np.ndarray, n_alphas: int
) -> tuple[np.ndarray, dict[str, float]]:
    """Weights of one postsynaptic type at the chosen penalty, fitted on three fifths of the samples."""
    n_held = len(y) // 5
    if n_held < 2:
        raise ValueError(f"{len(y)} samples are too few to fit, choose and test; pass 10 or more.")
    test, choose, train = order[:n_held], order[n_held : 2 * n_held], order[2 * n_held :]
    alphas, path = SignedLinear(signs).path(X[train], y[train], n_alphas=n_alphas)
    offset = y[train].mean() - path @ X[train].mean(axis=0)
    errors = (y[choose] - path @ X[choose].T - offset[:, None]) ** 2
    mean = errors.mean(axis=1)
    best = int(mean.argmin())
    # one-standard-error rule on the paired differences of squared errors; penalties decrease along the path, so the
    # first that qualifies is the largest
    spread = (errors - errors[best]).std(axis=1) / np.sqrt(n_held)
    chosen = int(np.flatnonzero(mean <= mean[best] + spread + 1e-12 * y.var())[0])
    residual = y[test] - X[test] @ path[chosen] - offset[chosen]
    report = {
        "n_units": len(signs),
        "n_active": int(np.count_nonzero(path[chosen])),
        "alpha": float(alphas[chosen]),
        "r2_test": float(1 - np.mean(residual**2) / y[test].var()),
    }
    return path[chosen], report
