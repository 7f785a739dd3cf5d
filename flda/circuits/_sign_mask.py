"""Signs of the edges of a wiring diagram, and the check that all signs in this package pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ._names import as_names, named_edges


class SignMask:
    """Signs of the edges of a wiring diagram.

    Parameters
    ----------
    values
        DataFrame, presynaptic x postsynaptic: +1 (excitatory), -1 (inhibitory), 0 (no synapse) or NaN (a synapse of
        unknown sign).

    Attributes
    ----------
    values : DataFrame
        The signs as floats.

    Raises
    ------
    ValueError
        If there are other values, or if a name occurs twice on one side.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from flda.circuits import SignMask
    >>> edges = pd.DataFrame({"pre": ["Mi1", "Mi9", "Mi9"], "post": ["T4a", "T4a", "T4b"]})
    >>> mask = SignMask.from_types(pd.Series({"Mi1": 1, "Mi9": np.nan}), edges, overrides={("Mi9", "T4b"): -1})
    >>> mask.values
    post  T4a  T4b
    pre
    Mi1   1.0  0.0
    Mi9   NaN -1.0
    """

    def __init__(self, values: pd.DataFrame) -> None:
        for side, names in (("presynaptic", values.index), ("postsynaptic", values.columns)):
            if not names.is_unique:
                raise ValueError(
                    f"{side} name {names[names.duplicated()][0]!r} occurs twice in the sign mask; keep one of them."
                )
        self.values = pd.DataFrame(
            check_signs(values.to_numpy(), what="the sign mask"), index=values.index, columns=values.columns
        )

    @classmethod
    def from_types(
        cls,
        signs: Mapping[str, float] | pd.Series | pd.DataFrame,
        edges: pd.DataFrame,
        *,
        overrides: Mapping[tuple[str, str], float] | None = None,
    ) -> SignMask:
        """Give every edge the sign of its presynaptic type.

        Parameters
        ----------
        signs
            Sign by presynaptic type, or the table that :func:`infer_signs` returns. The sign of a type without an entry
            is unknown.
        edges
            Columns ``pre`` and ``post``; pairs of types that are not listed have no synapse. Names are compared as
            text, and rows without a name are left out, with a warning. If there is a column
            ``sign``, its values take precedence over the sign of the type wherever they are not NaN, for example for
            a receptor that inverts the sign.
        overrides
            Signs by (pre, post). They take precedence over everything else. Each pair must be an edge.

        Returns
        -------
        SignMask
            Types in the order in which ``edges`` lists them.

        Raises
        ------
        ValueError
            If a column is missing, if an edge is listed with two different signs, or if an override is not an edge.

        Examples
        --------
        >>> import pandas as pd
        >>> from flda.circuits import SignMask
        >>> edges = pd.DataFrame({"pre": ["Mi1", "C3"], "post": ["T4a", "T4a"]})
        >>> SignMask.from_types({"Mi1": 1, "C3": -1}, edges).values["T4a"].to_dict()
        {'Mi1': 1.0, 'C3': -1.0}
        """
        if isinstance(signs, pd.DataFrame):
            signs = signs["sign"]
        missing = [c for c in ("pre", "post") if c not in edges]
        if missing:
            raise ValueError(f"edges lack the columns {missing}; they need pre and post.")
        known = pd.Series(signs, dtype=float)
        known.index = as_names(known.index)
        if not known.index.is_unique:
            raise ValueError(
                f"type {known.index[known.index.duplicated()][0]!r} has two entries in signs; keep one of them."
            )
        edges = named_edges(edges)
        value = edges["pre"].map(known)
        if "sign" in edges:
            value = edges["sign"].astype(float).where(edges["sign"].notna(), value)
        frame = pd.DataFrame({"pre": edges["pre"], "post": edges["post"], "sign": value.astype(float)})
        n_signs = frame.groupby(["pre", "post"], sort=False)["sign"].nunique()
        if (n_signs > 1).any():
            pre, post = n_signs.index[n_signs > 1][0]
            raise ValueError(f"edge {pre} -> {post} is listed with two different signs; keep one, or set it to NaN.")
        # an edge listed several times keeps its known sign (sorted first), at the position of that row
        frame = (
            frame.sort_values("sign", na_position="last", kind="stable").drop_duplicates(["pre", "post"]).sort_index()
        )
        pres, posts = pd.unique(frame["pre"]), pd.unique(frame["post"])
        values = np.zeros((len(pres), len(posts)))
        values[pd.Index(pres).get_indexer(frame["pre"]), pd.Index(posts).get_indexer(frame["post"])] = frame["sign"]
        mask = cls(pd.DataFrame(values, index=pd.Index(pres, name="pre"), columns=pd.Index(posts, name="post")))
        return mask.override(overrides) if overrides else mask

    @classmethod
    def from_edges(cls, edges: pd.DataFrame, *, overrides: Mapping[tuple[str, str], float] | None = None) -> SignMask:
        """Give every edge the sign in its own row, such as :func:`edge_signs` finds from receptors.

        Parameters
        ----------
        edges
            Columns ``pre``, ``post`` and ``sign``. An edge without a sign is of unknown sign.
        overrides
            As in :meth:`from_types`.

        Returns
        -------
        SignMask
            Types in the order in which ``edges`` lists them.

        Raises
        ------
        ValueError
            As :meth:`from_types`, or if there is no column ``sign``.

        Examples
        --------
        >>> import numpy as np, pandas as pd
        >>> from flda.circuits import SignMask
        >>> edges = pd.DataFrame({"pre": ["Mi9", "Mi9"], "post": ["T4a", "Am"], "sign": [-1, np.nan]})
        >>> SignMask.from_edges(edges).values.loc["Mi9"].to_dict()
        {'T4a': -1.0, 'Am': nan}
        """
        if "sign" not in edges:
            raise ValueError("edges lack the column 'sign'; use from_types for signs by presynaptic type.")
        return cls.from_types({}, edges, overrides=overrides)

    def override(self, signs: Mapping[tuple[str, str], float]) -> SignMask:
        """Replace the signs of some edges.

        Parameters
        ----------
        signs
            New sign by (pre, post); 0 removes the edge.

        Returns
        -------
        SignMask
            A new mask; this one does not change.

        Raises
        ------
        ValueError
            If a pair is not an edge of the mask.

        Examples
        --------
        >>> import pandas as pd
        >>> from flda.circuits import SignMask
        >>> mask = SignMask(pd.DataFrame([[1.0]], index=["Mi1"], columns=["T4a"]))
        >>> float(mask.override({("Mi1", "T4a"): -1}).values.loc["Mi1", "T4a"])
        -1.0
        """
        values = self.values.copy()
        for (pre, post), sign in signs.items():
            if pre not in values.index or post not in values.columns or values.loc[pre, post] == 0:
                raise ValueError(f"{pre} -> {post} is not an edge of the mask; add it to the edges first.")
            values.loc[pre, post] = sign
        return SignMask(values)

    def flip(self, share: float, *, random_state: int | None = 0) -> SignMask:
        """Reverse a random share of the known signs, to measure what wrong signs would do.

        Parameters
        ----------
        share
            Share of the edges with a known sign, between 0 and 1.
        random_state
            Seed of the choice of edges.

        Returns
        -------
        SignMask
            A new mask; this one does not change.

        Raises
        ------
        ValueError
            If the share is not between 0 and 1.

        Examples
        --------
        >>> import numpy as np, pandas as pd
        >>> from flda.circuits import SignMask
        >>> SignMask(pd.DataFrame(np.ones((4, 5)))).flip(0.25).counts()
        {'positive': 15, 'negative': 5, 'unknown': 0}
        """
        if not 0 <= share <= 1:
            raise ValueError(f"share={share} must lie between 0 and 1.")
        values = self.values.to_numpy(copy=True)
        known = np.argwhere(np.isin(values, (1, -1)))
        chosen = np.random.default_rng(random_state).choice(len(known), size=round(share * len(known)), replace=False)
        values[tuple(known[chosen].T)] *= -1
        return SignMask(pd.DataFrame(values, index=self.values.index, columns=self.values.columns))

    def counts(self) -> dict[str, int]:
        """Count the positive, negative and unknown edges.

        Returns
        -------
        dict
            Number of edges by ``"positive"``, ``"negative"`` and ``"unknown"``.

        Examples
        --------
        >>> import numpy as np, pandas as pd
        >>> from flda.circuits import SignMask
        >>> SignMask(pd.DataFrame([[1, -1, 0, np.nan]])).counts()
        {'positive': 1, 'negative': 1, 'unknown': 1}
        """
        v = self.values.to_numpy()
        return {"positive": int((v == 1).sum()), "negative": int((v == -1).sum()), "unknown": int(np.isnan(v).sum())}


def check_signs(signs: Any, shape: tuple[int, ...] | None = None, *, what: str = "signs") -> np.ndarray:
    """Signs as a float array; a ValueError names the first entry that is not +1, -1, 0 or NaN.

    Parameters
    ----------
    signs
        Array-like.
    shape
        Shape that the signs must have; None for any.
    what
        Name of the signs in the error message.
    """
    values = np.array(signs, float)
    if shape is not None and values.shape != tuple(shape):
        raise ValueError(f"{what} have shape {values.shape}; they need {tuple(shape)}.")
    bad = ~(np.isin(values, (-1.0, 0.0, 1.0)) | np.isnan(values))
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"{what}: entry {where} is {values[where]:g}; use +1, -1, 0 (no synapse) or NaN (unknown sign)."
        )
    return values
