"""From cells to signed wiring and back: signs from genes, weights from activity, links to gene axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData

from .._logging import get_logger
from .linear import SignedLinear
from .link import link_axes
from .signs import SignMask, infer_signs

logger = get_logger(__name__)


@dataclass
class SignedWiring:
    """What :func:`signed_wiring` found.

    Attributes
    ----------
    signs
        The table of :func:`infer_signs`, a row per type.
    mask
        Signs of the edges that were used.
    weights
        Recovered weights, presynaptic x postsynaptic types, signs included.
    fits
        DataFrame by postsynaptic type: ``n_units`` (candidate inputs), ``n_active`` (with a weight), ``alpha``,
        ``r2_test`` (on samples that took no part in fit or choice), ``n_free`` (units whose sign was unknown).
    links
        The table of :func:`link_axes` for the recovered inputs.
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
    """Recover the signed inputs of cell types under signs read from their genes, and link them to FLDA axes.

    Genes of the presynaptic types give signs (:func:`infer_signs`), the connectome says which types touch which
    (:class:`SignMask`), activity and responses give weights under these signs (:class:`SignedLinear`, L1, the largest
    penalty within one standard error of the best on validation samples), and the weights per pair of types go into
    :func:`link_axes`. Edges of unknown sign stay free. For circuits with hidden units recover weights with
    :func:`recover_circuit` and hand them to :func:`link_axes`.

    Parameters
    ----------
    adata
        Cells of presynaptic and postsynaptic types with the results of :func:`flda.tl.flda` on the postsynaptic ones
        (cells of other types have no label in the factors).
    edges
        Columns ``pre`` and ``post``, types that touch; an optional ``sign`` overrides that of the type where it is not
        NaN. Other columns are ignored.
    activity
        Samples x presynaptic units. Columns are names of types, or a MultiIndex whose first level is the type (units
        of several columns of the eye, say); their weights are added up per type.
    responses
        Samples x postsynaptic types, of the same samples.
    groupby
        Column of ``obs`` with the types' names.
    organism, layer
        As in :func:`infer_signs`.
    overrides
        Signs of single edges, as in :meth:`SignMask.from_types`.
    n_alphas
        Length of the path of penalties.
    random_state
        Seed of the split of samples: three fifths fit, one fifth chooses, one fifth tests.
    key
        The ``key_added`` of the fit.

    Raises
    ------
    ValueError
        For responses of types that no edge reaches, types without activity, samples that do not match, and what the
        steps refuse.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> adata.var_names = ["VAChT", *adata.var_names[1:]]
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> types = list(adata.obs["subtype"].cat.categories)
    >>> edges = pd.DataFrame([(pre, t) for t in types for pre in ("Mi1", "Tm9")], columns=["pre", "post"])
    >>> rng = np.random.default_rng(0)
    >>> activity = pd.DataFrame(rng.random((300, 2)), columns=["Mi1", "Tm9"])
    >>> responses = pd.DataFrame({t: activity["Mi1" if t[1] == "4" else "Tm9"] for t in types})
    >>> found = signed_wiring(adata, edges, activity, responses, groupby="subtype")
    >>> bool(found.weights.loc["Mi1", "T4a"] > 0.5 > found.weights.loc["Mi1", "T5a"])
    True
    """
    posts = [str(c) for c in responses.columns]
    if len(activity) != len(responses):
        raise ValueError(f"activity has {len(activity)} samples and responses {len(responses)}; give the same samples.")
    for what, table in (("activity", activity), ("responses", responses)):
        if not np.isfinite(table.to_numpy(dtype=float)).all():
            raise ValueError(f"{what} holds NaN or infinite values; drop those samples.")
    of_unit = activity.columns.get_level_values(0).astype(str)
    used = edges[edges["post"].isin(posts) & edges["pre"].isin(of_unit)]
    without = sorted(set(posts) - set(used["post"]))
    if without:
        raise ValueError(f"no edge from a type with activity reaches {without[0]!r}; add edges, or leave it out.")
    silent = sorted(set(edges.loc[edges["post"].isin(posts), "pre"]) - set(of_unit))
    if silent:
        logger.warning("types without activity, their synapses are left out: %s", ", ".join(silent))

    signs = infer_signs(adata, groupby, organism=organism, layer=layer)
    mask = SignMask.from_types(signs, used, overrides=overrides)
    X, order = activity.to_numpy(dtype=float), np.random.default_rng(random_state).permutation(len(activity))
    weights = pd.DataFrame(0.0, index=mask.values.index, columns=posts)
    fits = []
    for post in posts:
        values = mask.values[post].reindex(of_unit, fill_value=0.0).to_numpy()
        units = np.flatnonzero(values != 0)
        w, report = _fit(X[:, units], responses[post].to_numpy(dtype=float), values[units], order, n_alphas)
        summed = pd.Series(w, index=of_unit[units]).groupby(level=0).sum()
        weights.loc[summed.index, post] = summed
        fits.append({"post": post, **report, "n_free": int(np.isnan(values[units]).sum())})
    links = link_axes(adata, weights, groupby, directions="inputs", random_state=random_state, key=key)
    return SignedWiring(signs, mask, weights, pd.DataFrame(fits).set_index("post"), links)


def _fit(
    X: np.ndarray, y: np.ndarray, signs: np.ndarray, order: np.ndarray, n_alphas: int
) -> tuple[np.ndarray, dict[str, float]]:
    """Weights of one postsynaptic type at the chosen penalty, fitted on three fifths of the samples."""
    held = len(y) // 5
    if held < 2:
        raise ValueError(f"{len(y)} samples are too few to fit, choose and test; give 10 or more.")
    test, choose, train = order[:held], order[held : 2 * held], order[2 * held :]
    alphas, path = SignedLinear(signs).path(X[train], y[train], n_alphas=n_alphas)
    offset = y[train].mean() - path @ X[train].mean(axis=0)
    errors = (y[choose] - path @ X[choose].T - offset[:, None]) ** 2
    mean = errors.mean(axis=1)
    best = int(mean.argmin())
    spread = (errors - errors[best]).std(axis=1) / np.sqrt(held)
    chosen = int(np.flatnonzero(mean <= mean[best] + spread + 1e-12 * y.var())[0])  # penalties fall along the path
    residual = y[test] - X[test] @ path[chosen] - offset[chosen]
    report = {
        "n_units": len(signs),
        "n_active": int(np.count_nonzero(path[chosen])),
        "alpha": float(alphas[chosen]),
        "r2_test": float(1 - np.mean(residual**2) / y[test].var()),
    }
    return path[chosen], report
