"""Signs of a connectome's edges compared with signs from transmitters or genes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ._sign_mask import with_named_ends


def audit_signs(
    edges: pd.DataFrame, signs: Mapping[str, float] | pd.Series, *, names: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Compare the signs of a connectome with signs from measured transmitters or genes.

    Parameters
    ----------
    edges
        Columns ``pre, post, sign`` (+1 or -1) and ``n_synapses``. The synapses of several rows with the same pair of
        types are summed. An optional boolean column ``referenced`` says whether the connectome cites a source for the
        sign.
    signs
        Sign by presynaptic type, +1, -1 or NaN, from :func:`signs_from_transmitters` or :func:`infer_signs`.
    names
        For presynaptic types that have another name in ``signs``: name in ``edges`` -> name in ``signs``.

    Returns
    -------
    DataFrame
        One row per pair of types, the most synapses first, with the columns ``pre, post, n_synapses, sign, referenced``
        of the connectome, ``sign_measured`` (the sign in ``signs``) and ``verdict``. The verdict is ``"agree"`` or
        ``"conflict"`` if both signs are known. Otherwise it is ``"reference only"`` if the connectome
        cites a source, and ``"unsupported"`` if it does not.

    Raises
    ------
    ValueError
        If columns are missing, if a sign is not +1, -1 or NaN, if a pair of types has two signs, or if a type has two
        entries in ``signs``.

    Examples
    --------
    >>> import pandas as pd
    >>> from flda.circuits import audit_signs
    >>> edges = pd.DataFrame({"pre": ["Mi1", "Mi4", "Xx"], "post": "T4a", "sign": [1, 1, 1], "n_synapses": [50, 10, 3]})
    >>> audit_signs(edges, {"Mi1": 1.0, "Mi4": -1.0})["verdict"].tolist()
    ['agree', 'conflict', 'unsupported']
    """
    missing = [c for c in ("pre", "post", "sign", "n_synapses") if c not in edges]
    if missing:
        raise ValueError(f"edges lack the columns {missing}; they need pre, post, sign and n_synapses.")
    measured = pd.Series(signs, dtype=float)
    for what, values in (("edges", edges["sign"].astype(float)), ("signs", measured)):
        bad = values[~values.isin([1.0, -1.0]) & values.notna()]
        if len(bad):
            raise ValueError(f"{what} hold the sign {bad.iloc[0]:g}; use +1, -1, or NaN for an unknown sign.")
    if not measured.index.is_unique:
        raise ValueError(
            f"type {measured.index[measured.index.duplicated()][0]!r} has two entries in signs; keep one of them."
        )
    edges = with_named_ends(edges)
    pairs = edges.groupby(["pre", "post"], sort=False)
    n_signs = pairs["sign"].nunique()
    if (n_signs > 1).any():
        pre, post = n_signs.index[n_signs > 1][0]
        raise ValueError(f"{pre} -> {post} has both signs in the edges; give one sign per pair of types.")
    table = pairs.agg(n_synapses=("n_synapses", "sum"), sign=("sign", "first")).reset_index()
    table["referenced"] = pairs["referenced"].any().to_numpy() if "referenced" in edges else False
    measured.index = measured.index.map(str)
    listed = {str(edge): str(own) for edge, own in (names or {}).items()}
    name_in_signs = table["pre"].map(lambda pre: listed.get(pre, pre))
    table["sign_measured"] = name_in_signs.map(measured).astype(float)
    compared = np.where(table["sign_measured"] == table["sign"], "agree", "conflict")
    unknown = np.where(table["referenced"], "reference only", "unsupported")
    both = table["sign_measured"].notna() & table["sign"].notna()
    table["verdict"] = np.where(both, compared, unknown)
    return table.sort_values(["n_synapses", "pre", "post"], ascending=[False, True, True], ignore_index=True)
