"""Signs from predicted transmitters, and signs fused from genes and predictions."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ._names import as_names, without_name
from ._signs import marker_table

SHORT = {
    "ach": "acetylcholine", "glut": "glutamate", "glu": "glutamate", "da": "dopamine", "oct": "octopamine",
    "oa": "octopamine", "ser": "serotonin", "5ht": "serotonin", "his": "histamine", "hist": "histamine",
    "tyr": "tyramine",
}  # fmt: skip
UNSAID = ("unclear", "unknown", "none", "na", "nan")  # a row that says so is as good as none
FLOOR = 0.02  # a predicted probability is not believed beyond 1 - FLOOR


def signs_from_predictions(
    table: pd.DataFrame,
    *,
    name: str = "type",
    transmitter: str = "transmitter",
    probability: str | None = "probability",
    organism: str = "drosophila",
    confidence: float = 0.9,
) -> pd.DataFrame:
    """Derive the sign of every type from predicted transmitters in a long table.

    The table has one row per neuron, or one per neuron and transmitter.

    The probabilities of a type are the means over its neurons, because predictions for neurons of one type share their
    errors. What is missing to a sum of one is spread evenly over all transmitters.

    Parameters
    ----------
    table
        Long table, for example ``wiring.annotations`` of :func:`wiring_from_flywire` with ``transmitter="nt_type"`` and
        ``probability="nt_type_score"``. If the names are in the index, they are unique per neuron and the column
        ``name`` holds the types.
    name
        Column with the types.
    transmitter
        Column with the transmitters; the abbreviations of FlyWire (ACH, GABA, GLUT, DA, SER, OCT) are known. Rows
        without one, or with ``unclear`` or ``unknown``, are left out.
    probability
        Column with the probabilities; None counts every row as certain.
    organism
        Whose transmitter signs to use.
    confidence
        Probability that a sign must reach to be reported.

    Returns
    -------
    DataFrame
        One row per type (index), with the columns ``n_rows, sign, transmitter, p_positive, p_negative, p_unknown``.

    Raises
    ------
    ValueError
        If a column is missing, a transmitter is unknown, or a probability is not between 0 and 1.

    Examples
    --------
    >>> import pandas as pd
    >>> from flda.circuits import signs_from_predictions
    >>> table = pd.DataFrame({"type": ["Mi1", "Mi1", "Mi4"], "transmitter": ["ACH", "ACH", "GABA"]})
    >>> signs_from_predictions(table.assign(probability=[0.9, 1.0, 0.97]))["sign"].to_dict()
    {'Mi1': 1.0, 'Mi4': -1.0}
    """
    missing = [c for c in (name, transmitter, *([] if probability is None else [probability])) if c not in table]
    if missing:
        raise ValueError(f"the table lacks the columns {missing}; it has {list(table.columns)}.")
    sign = marker_table(organism).query("role == 'required'").groupby("transmitter")["sign"].first()
    known = {t.lower(): t for t in sign.index} | {k: v for k, v in SHORT.items() if v in sign.index}
    rows = table[~without_name(table[name]) & ~without_name(table[transmitter])]
    said = rows[transmitter].astype(str).str.strip().str.lower()
    rows, said = rows[~said.isin(UNSAID)], said[~said.isin(UNSAID)]
    strange = said[~said.isin(known)]
    if len(strange):
        raise ValueError(f"{strange.iloc[0]!r} is not a transmitter of {organism}; use {', '.join(sign.index)}.")
    p = np.ones(len(rows)) if probability is None else rows[probability].to_numpy(float, na_value=np.nan)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"column {probability!r} must hold probabilities between 0 and 1.")
    long = pd.DataFrame({"type": as_names(rows[name]), "transmitter": said.map(known).to_numpy(), "p": p})
    counted = long.groupby("type").size()
    total = (
        long.groupby(["type", "transmitter"])["p"]
        .sum()
        .unstack(fill_value=0.0)
        .reindex(columns=sign.index, fill_value=0.0)
    )
    # one row per neuron gives a mean over rows; one row per neuron and transmitter sums to one per neuron
    share = total.div(
        np.where(total.sum(axis=1) > 0, np.maximum(total.sum(axis=1), _neurons(long)[total.index]), 1), axis=0
    )
    share = share.add((1 - share.sum(axis=1)) / len(sign), axis=0)
    share = (1 - FLOOR) * share + FLOOR / len(sign)
    found = pd.DataFrame({"n_rows": counted})
    found["p_positive"], found["p_negative"] = (share.loc[:, sign[share.columns] == s].sum(axis=1) for s in (1, -1))
    found["p_unknown"] = 1 - found["p_positive"] - found["p_negative"]
    found.insert(
        1,
        "sign",
        np.select([found["p_positive"] >= confidence, found["p_negative"] >= confidence], [1.0, -1.0], np.nan),
    )
    found.insert(2, "transmitter", share.idxmax(axis=1))
    return found.rename_axis("type")


def _neurons(long: pd.DataFrame) -> pd.Series:
    """Number of neurons of every type: its rows, or fewer if a neuron has a row for every transmitter."""
    most = long.groupby(["type", "transmitter"]).size().groupby(level=0)
    several = most.size() > 1
    sums = long.groupby("type")["p"].sum()
    listed = most.max()
    # with one row per neuron and transmitter every transmitter has one row per neuron, and p sums to that number
    complete = several & (np.abs(sums - listed) < 0.05 * listed)
    return pd.Series(np.where(complete, listed, long.groupby("type").size()), index=sums.index)


def fuse_signs(
    genes: pd.DataFrame, predicted: pd.DataFrame, *, confidence: float = 0.9, weight: float = 1.0
) -> pd.DataFrame:
    """Fuse signs from genes with signs from predicted transmitters, and list where they disagree.

    Both are taken to be independent, given the sign: probabilities multiply, and ``p_unknown`` of one leaves
    the decision to the other. Where each is confident of another sign, the fused sign is unknown: such types need a
    look, not a vote.

    Parameters
    ----------
    genes
        Table of :func:`infer_signs`.
    predicted
        Table of :func:`signs_from_predictions`.
    confidence
        Probability that the fused sign must reach to be reported.
    weight
        Power of the odds of the predictions; less than 1 if they are overconfident.

    Returns
    -------
    DataFrame
        One row per type that either table has, with the columns ``sign, p_positive, p_negative, p_unknown`` (fused),
        ``sign_genes, sign_predicted, transmitter_genes, transmitter_predicted``, and ``verdict``: ``"both"`` (known and
        equal), ``"genes"``, ``"predicted"`` (only one is known), ``"together"`` (only both together), ``"conflict"``,
        or ``"unknown"``.

    Raises
    ------
    ValueError
        If a type occurs twice in one of the tables.

    Examples
    --------
    >>> import pandas as pd
    >>> from flda.circuits import fuse_signs
    >>> def table(rows):
    ...     columns = ["sign", "transmitter", "p_positive", "p_negative", "p_unknown"]
    ...     return pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    >>> genes = table({"Mi1": [1, "acetylcholine", 0.99, 0, 0.01], "Mi9": [1, "acetylcholine", 0.95, 0, 0.05]})
    >>> predicted = table({"Mi1": [1, "acetylcholine", 0.95, 0.03, 0.02], "Mi9": [-1, "glutamate", 0.02, 0.97, 0.01]})
    >>> fuse_signs(genes, predicted)["verdict"].to_dict()
    {'Mi1': 'both', 'Mi9': 'conflict'}
    """
    tables = []
    for what, t in (("genes", genes), ("predicted", predicted)):
        t = t.set_axis(as_names(t.index))
        if not t.index.is_unique:
            raise ValueError(f"type {t.index[t.index.duplicated()][0]!r} occurs twice in {what}; keep one.")
        tables.append(t)
    names = tables[0].index.union(tables[1].index)
    g, q = (t.reindex(names) for t in tables)
    odds = []
    for t, power in ((g, 1.0), (q, weight)):
        # a type that a table lacks, and its share of unknown, say nothing about the sign
        unknown = t["p_unknown"].fillna(1.0)
        odds.append([(t[c].fillna(0.0) + unknown / 2) ** power for c in ("p_positive", "p_negative")])
    positive, negative = (odds[0][k] * odds[1][k] for k in (0, 1))
    total = positive + negative
    # what neither knows stays unknown; monoamines and co-release are in p_unknown of both
    blind = g["p_unknown"].fillna(1.0) * q["p_unknown"].fillna(1.0)
    fused = pd.DataFrame({"p_positive": (1 - blind) * positive / total, "p_negative": (1 - blind) * negative / total})
    fused["p_unknown"] = blind
    one, two = g["sign"], q["sign"]
    barred = pd.Series(False, index=names)
    for column in ("conflict", "ambiguous"):
        if column in g:
            barred |= g[column].eq(True)
    conflict = one.notna() & two.notna() & (one != two)
    sign = np.select([fused["p_positive"] >= confidence, fused["p_negative"] >= confidence], [1.0, -1.0], np.nan)
    fused.insert(0, "sign", np.where(conflict | barred, np.nan, sign))
    fused["sign_genes"], fused["sign_predicted"] = one, two
    fused["transmitter_genes"], fused["transmitter_predicted"] = (t["transmitter"].fillna("") for t in (g, q))
    fused["verdict"] = np.select(
        [conflict, fused["sign"].isna(), one.notna() & two.notna(), one.notna(), two.notna()],
        ["conflict", "unknown", "both", "genes", "predicted"],
        "together",
    )
    return fused.rename_axis("type")
