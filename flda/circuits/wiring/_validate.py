"""Whether rules hold for pairs, neurons and classes of neurons that were not fitted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone

from ..._progress import progress
from ._network import expected_connections, redrawn
from ._pairs import Agreement, Pairs, check_pairs, class_codes, class_means

Folds = list[np.ndarray]  # masks of the held-out pairs
Predictions = list[tuple[np.ndarray, Agreement]]  # positions of pairs, and the predictions for these
Units = tuple[np.ndarray, np.ndarray]  # codes of the presynaptic and the postsynaptic members: neurons or classes


def cross_validate(
    model: Any,
    X: Any,
    B: Any,
    *,
    Y: Any = None,
    contact: Any = None,
    classes: Any = None,
    classes_post: Any = None,
    n_folds: int = 5,
    n_nulls: int = 20,
    n_resamples: int = 200,
    random_state: int = 0,
) -> pd.DataFrame:
    """Score a wiring model in sample and on held-out pairs, neurons and classes, next to null models.

    A model of wiring sees every neuron in many pairs. How well it predicts held-out pairs of known neurons, held-out
    neurons and held-out classes of neurons are therefore three different questions; only the last shows that genes
    predict connections. Under every null, the complete cross-validation is repeated, including the choice of the
    penalty:

    * ``permutation``: gene profiles are permuted between neurons. The score shows the flexibility of the model.
    * ``class`` (with ``classes``): mean profiles are permuted between whole classes, so that neurons that are alike
      stay alike. The score shows how much is due to neurons, such as left and right homologues, that share both genes
      and partners.
    * ``degree``: connections are redrawn with the same contacts and expected degrees (:class:`MaximumEntropy`). The
      score shows how much is due to genes that mark well-connected neurons.

    Parameters
    ----------
    model
        :class:`SpatialConnectomeModel` or :class:`BilinearModel`.
    X, B, Y, contact
        As for ``fit`` of the model; ``B`` and ``contact`` may be sparse matrices.
    classes
        ``(n,)`` class of every presynaptic neuron, to hold out classes; None leaves this row out.
    classes_post
        ``(m,)`` class of every postsynaptic neuron, if these are other neurons.
    n_folds
        Number of folds. Both directions of an undirected pair are in the same fold. A held-out neuron takes all its
        pairs with it.
    n_nulls
        Number of draws under each null.
    n_resamples
        Number of bootstrap samples for the interval. Classes are resampled if given, otherwise neurons; pairs cannot
        be resampled, because they share neurons.
    random_state
        Seed of folds, nulls and bootstrap samples.

    Returns
    -------
    DataFrame
        One row per question (index ``in sample, pairs, neurons, classes``), with the columns

        * ``metric``: ``"auc"`` for connections of 0 and 1, else ``"correlation"``
        * ``score, lower, upper``: the score with its 95 % interval
        * ``permutation_mean, permutation_sd, permutation_pval``, and the same for ``class`` and ``degree``: the
          distribution of the score under each null. They are NaN without nulls; the degree null needs connections of 0
          and 1.
        * ``n_pairs``: number of tested pairs; an undirected pair counts once

    Raises
    ------
    ValueError
        If the model refuses the data, or if there are fewer pairs, neurons or classes than folds.

    Examples
    --------
    >>> import numpy as np
    >>> from flda.circuits.wiring import SpatialConnectomeModel, cross_validate
    >>> rng = np.random.default_rng(0)
    >>> X = (rng.random((40, 3)) < 0.5).astype(float)
    >>> B = np.triu(rng.random((40, 40)) < 0.1 + 0.6 * np.outer(X[:, 0], X[:, 0]), 1)
    >>> table = cross_validate(SpatialConnectomeModel(alpha=1.0), X, B + B.T, n_nulls=3)
    >>> bool(table.loc["neurons", "score"] > table.loc["neurons", "permutation_mean"])
    True
    """
    pairs = check_pairs(X, B, Y, contact, directed=model.directed)
    rng = np.random.default_rng(random_state)
    members = (np.arange(len(pairs.X)), np.arange(len(pairs.Y)))
    schemes: dict[str, Folds | None] = {"in sample": None, "pairs": _pair_folds(pairs, n_folds, rng)}
    schemes["neurons"] = _member_folds(pairs, members, n_folds, rng, "neurons")
    units = members
    if classes is not None:
        units = class_codes(pairs, classes, classes_post)
        schemes["classes"] = _member_folds(pairs, units, n_folds, rng, "classes")

    found = {
        name: _predictions(model, pairs, schemes[name]) for name in progress(list(schemes), desc="cross-validation")
    }
    nulls: dict[str, list[dict[str, float]]] = {"permutation": [], "class": [], "degree": []}
    probability = expected_connections(pairs) if pairs.binary and n_nulls else None
    # folds stay the same in all nulls, so that scores differ by the data alone
    for _ in progress(range(n_nulls), desc="null networks"):
        for kind, other in (
            ("permutation", _permuted(pairs, members, rng)),
            ("class", None if classes is None else _permuted(pairs, units, rng)),
            ("degree", None if probability is None else pairs.replace(b=redrawn(pairs, probability, rng))),
        ):
            if other is not None:
                drawn = {name: _scored(_predictions(model, other, folds)) for name, folds in schemes.items()}
                nulls[kind].append(drawn)
    rows: dict[str, dict[str, Any]] = {}
    for name, predictions in found.items():
        score = _scored(predictions)
        lower, upper = _interval(pairs, predictions, units, n_resamples, rng)
        metric = "auc" if pairs.binary else "correlation"
        rows[name] = {"metric": metric, "score": score, "lower": lower, "upper": upper}
        for kind, draws in nulls.items():
            rows[name] |= _summary(kind, score, [draw[name] for draw in draws])
        tested = np.zeros(len(pairs.i), dtype=bool)
        for shown, _ in predictions:
            tested[shown] = True
        rows[name]["n_pairs"] = int((tested & pairs.once).sum())
    return pd.DataFrame.from_dict(rows, orient="index")


def _pair_folds(pairs: Pairs, n_folds: int, rng: np.random.Generator) -> Folds:
    """Random folds of the pairs in contact."""
    listed = np.flatnonzero(pairs.once)
    if len(listed) < n_folds:
        raise ValueError(f"{len(listed)} pairs in contact are fewer than {n_folds} folds; lower n_folds.")
    fold = np.empty(len(pairs.i), dtype=int)
    fold[listed] = rng.permutation(len(listed)) % n_folds
    if pairs.undirected:
        fold = np.where(pairs.once, fold, fold[pairs.mirror])
    return [fold == k for k in range(n_folds)]


def _member_folds(pairs: Pairs, units: Units, n_folds: int, rng: np.random.Generator, what: str) -> Folds:
    """Random folds of units: a fold holds out every pair with a held-out unit on either side."""
    folds = []
    for codes in units if pairs.Y is not pairs.X else units[:1]:
        n = codes.max() + 1
        if n < n_folds:
            raise ValueError(f"{n} {what} are fewer than {n_folds} folds; lower n_folds.")
        folds.append((rng.permutation(n) % n_folds)[codes])
    pre, post = folds[0], folds[-1]
    return [(pre == k)[pairs.i] | (post == k)[pairs.j] for k in range(n_folds)]


def _predictions(model: Any, pairs: Pairs, folds: Folds | None) -> Predictions:
    """Held-out pairs and their predictions, fold by fold; without folds, all pairs in contact and one fit."""
    found = []
    held: np.ndarray | None
    for held in [None] if folds is None else folds:
        train = pairs if held is None else pairs.keep(~held)
        if len(train.b) == 0 or (train.b == train.b[0]).all():
            raise ValueError("all connections outside one fold are equal, so no rules can be fitted; lower n_folds.")
        fitted = clone(model)._fit(train)
        tested = pairs if held is None else pairs.keep(held)
        shown = np.arange(len(pairs.i)) if held is None else np.flatnonzero(held)
        found.append((shown, Agreement(fitted._at(tested), tested.b)))
    return found


def _scored(predictions: Predictions, weights: np.ndarray | None = None) -> float:
    """Mean score over folds; predictions of different fits have different scales, so they are not pooled."""
    scores = [own.score(None if weights is None else weights[shown]) for shown, own in predictions if len(shown)]
    known = [s for s in scores if np.isfinite(s)]
    return float(np.mean(known)) if known else np.nan


def _interval(
    pairs: Pairs, predictions: Predictions, units: Units, n_resamples: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Percentile bootstrap of units; a pair has the product of its members' multiplicities as weight."""
    if not n_resamples:
        return np.nan, np.nan
    drawn = []
    for _ in range(n_resamples):
        times = [np.bincount(rng.integers(u.max() + 1, size=u.max() + 1), minlength=u.max() + 1)[u] for u in units]
        if pairs.Y is pairs.X:  # one population: a neuron is drawn once for both of its roles
            times[1] = times[0]
        drawn.append(_scored(predictions, times[0][pairs.i] * times[1][pairs.j].astype(float)))
    return float(np.nanquantile(drawn, 0.025)), float(np.nanquantile(drawn, 0.975))


def _permuted(pairs: Pairs, units: Units, rng: np.random.Generator) -> Pairs:
    """Pairs with the mean profiles of units permuted between them."""
    X, Y = (
        class_means(genes, codes)[rng.permutation(codes.max() + 1)][codes]
        for genes, codes in zip((pairs.X, pairs.Y), units, strict=True)
    )
    return pairs.replace(X=X, Y=X if pairs.Y is pairs.X else Y)


def _summary(kind: str, score: float, drawn: list[float]) -> dict[str, float]:
    """Mean, standard deviation and p-value of one null; the observed score counts as one draw."""
    values = np.array(drawn, dtype=float)
    if not len(values):
        return dict.fromkeys([f"{kind}_mean", f"{kind}_sd", f"{kind}_pval"], np.nan)
    return {
        f"{kind}_mean": float(values.mean()),
        f"{kind}_sd": float(values.std(ddof=1)) if len(values) > 1 else np.nan,
        f"{kind}_pval": float((np.sum(values >= score) + 1) / (len(values) + 1)),
    }
