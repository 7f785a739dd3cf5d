"""Signs of a connectome's edges against evidence of another kind."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd


def audit_signs(
    edges: pd.DataFrame, signs: Mapping[str, float] | pd.Series, *, names: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Which signs of a connectome agree with measured transmitters or genes, which conflict, which rest on nothing.

    Parameters
    ----------
    edges
        Columns ``pre, post, sign`` (+1, -1) and ``n_synapses``; several rows of one pair of types are added up. An
        optional boolean column ``referenced`` says whether the connectome gives a source for the sign.
    signs
        Sign by presynaptic type, +1, -1 or NaN: of :func:`signs_from_transmitters` or of :func:`infer_signs`.
    names
        Name in ``signs`` of presynaptic types that go by another one in ``edges``.

    Returns
    -------
    DataFrame with a row per pair of types, strongest first: ``pre, post, n_synapses, sign, referenced, sign_evidence``
    and ``verdict``: "agree", "conflict", or, without evidence, "reference only" and "no evidence".

    Raises
    ------
    ValueError
        For missing columns, signs other than +1, -1 and NaN, or a pair of types with both signs.

    Examples
    --------
    >>> edges = pd.DataFrame({"pre": ["Mi1", "Mi4", "Xx"], "post": "T4a", "sign": [1, 1, 1], "n_synapses": [50, 10, 3]})
    >>> audit_signs(edges, {"Mi1": 1.0, "Mi4": -1.0})["verdict"].tolist()
    ['agree', 'conflict', 'no evidence']
    """
    lacking = [c for c in ("pre", "post", "sign", "n_synapses") if c not in edges]
    if lacking:
        raise ValueError(f"edges need the columns pre, post, sign and n_synapses; {lacking} missing.")
    evidence = pd.Series(signs, dtype=float)
    for what, values in (("edges", edges["sign"].astype(float)), ("signs", evidence)):
        bad = values[~values.isin([1.0, -1.0]) & values.notna()]
        if len(bad):
            raise ValueError(f"the sign {bad.iloc[0]:g} of the {what} is neither +1 nor -1 (NaN for unknown).")
    if not evidence.index.is_unique:
        raise ValueError(f"type {evidence.index[evidence.index.duplicated()][0]!r} has two entries in the signs.")
    pairs = edges.groupby(["pre", "post"], sort=False)
    both = pairs["sign"].nunique()
    if (both > 1).any():
        pre, post = both.index[both > 1][0]
        raise ValueError(f"{pre} -> {post} has both signs in the edges; give one sign per pair of types.")
    table = pairs.agg(n_synapses=("n_synapses", "sum"), sign=("sign", "first")).reset_index()
    table["referenced"] = pairs["referenced"].any().to_numpy() if "referenced" in edges else False
    known_as = table["pre"].map(lambda pre: (names or {}).get(pre, pre))
    table["sign_evidence"] = known_as.map(evidence).astype(float)
    known, silent = table["sign_evidence"].notna(), np.where(table["referenced"], "reference only", "no evidence")
    judged = np.where(table["sign_evidence"] == table["sign"], "agree", "conflict")
    table["verdict"] = np.where(known, judged, silent)
    return table.sort_values(["n_synapses", "pre", "post"], ascending=[False, True, True], ignore_index=True)
