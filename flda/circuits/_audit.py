"""Signs of a connectome's edges compared with signs from transmitters or genes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ._names import as_names, name_text, named_edges


def audit_signs(
    edges: pd.DataFrame,
    signs: Mapping[str, float] | pd.Series | pd.DataFrame,
    *,
    names: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Compare the signs of a connectome with signs from measured transmitters or genes.

    Parameters
    ----------
    edges
        Columns ``pre, post, sign`` (+1 or -1) and ``n_synapses``. The synapses of several rows with the same pair of
        types are summed. An optional boolean column ``referenced`` says whether the connectome cites a source for the
        sign.
    signs
        Sign by presynaptic type, +1, -1 or NaN, from :func:`signs_from_transmitters`, or the table of
        :func:`infer_signs`.
    names
        For presynaptic types that have another name in ``signs``: name in ``edges`` -> name in ``signs``.

    Returns
    -------
    DataFrame
        One row per pair of types, the most synapses first, with the columns ``pre, post, n_synapses, sign, referenced``
        of the connectome, ``sign_measured`` (the sign in ``signs``) and ``verdict``. The verdict is ``"agree"`` or
        ``"conflict"`` if ``signs`` knows the sign of the type. Otherwise it is ``"reference only"`` if the connectome
        cites a source, and ``"unsupported"`` if it does not. An edge whose own sign is NaN has the verdict
        ``"no sign"``. Names are compared as text; rows without a name on either side are left out, with a warning.

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
    measured = pd.Series(signs["sign"] if isinstance(signs, pd.DataFrame) else signs, dtype=float)
    for what, values in (("edges", edges["sign"].astype(float)), ("signs", measured)):
        bad = values[~values.isin([1.0, -1.0]) & values.notna()]
        if len(bad):
            raise ValueError(f"{what} hold the sign {bad.iloc[0]:g}; use +1, -1, or NaN for an unknown sign.")
    measured.index = as_names(measured.index)
    if not measured.index.is_unique:
        raise ValueError(
            f"type {measured.index[measured.index.duplicated()][0]!r} has two entries in signs; keep one of them."
        )
    edges = named_edges(edges)
    pairs = edges.groupby(["pre", "post"], sort=False)
    n_signs = pairs["sign"].nunique()
    if (n_signs > 1).any():
        pre, post = n_signs.index[n_signs > 1][0]
        raise ValueError(f"{pre} -> {post} has both signs in the edges; give one sign per pair of types.")
    table = pairs.agg(n_synapses=("n_synapses", "sum"), sign=("sign", "first")).reset_index()
    table["referenced"] = pairs["referenced"].any().to_numpy() if "referenced" in edges else False
    renamed = {name_text(k): name_text(v) for k, v in (names or {}).items()}
    name_in_signs = table["pre"].map(lambda pre: renamed.get(pre, pre))
    table["sign_measured"] = name_in_signs.map(measured).astype(float)
    table["verdict"] = np.select(
        [
            table["sign"].isna(),
            table["sign_measured"].notna() & (table["sign_measured"] == table["sign"]),
            table["sign_measured"].notna(),
            table["referenced"],
        ],
        ["no sign", "agree", "conflict", "reference only"],
        "unsupported",
    )
    return table.sort_values(["n_synapses", "pre", "post"], ascending=[False, True, True], ignore_index=True)
