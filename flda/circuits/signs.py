"""Signs of synapses: from gene expression, per cell type, and as a mask over the edges of a circuit."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from .._logging import get_logger
from ._expression import expressed_probability, type_levels

logger = get_logger(__name__)

ORGANISMS = ("drosophila", "mouse", "celegans")


def marker_table(organism: str | None = None) -> pd.DataFrame:
    """Marker genes of transmitter systems.

    Parameters
    ----------
    organism
        "drosophila", "mouse" or "celegans"; None for all.

    Returns
    -------
    DataFrame with ``organism, transmitter, sign, group, gene, aliases, role, source``; the sign is +1, -1, or 0 where
    it depends on the receptor. A system is on when each of its *required* groups has an expressed gene; *supporting*
    genes are reported but decide nothing (in the fly, VGAT without Gad1 is not inhibitory).

    Raises
    ------
    ValueError
        For an organism without a table.

    Examples
    --------
    >>> marker_table("drosophila").query("transmitter == 'GABA'")[["gene", "role"]].values.tolist()
    [['Gad1', 'required'], ['VGAT', 'supporting']]
    """
    with resources.files(__package__).joinpath("markers.csv").open(encoding="utf-8") as handle:
        table = pd.read_csv(handle, keep_default_na=False)
    if organism is None:
        return table
    if organism not in ORGANISMS:
        raise ValueError(
            f"the organism {organism!r} has no marker table; choose one of {', '.join(ORGANISMS)}, or pass markers."
        )
    return table[table["organism"] == organism].reset_index(drop=True)


def infer_signs(
    adata: AnnData,
    groupby: str,
    *,
    organism: str = "drosophila",
    layer: str | None = None,
    markers: pd.DataFrame | None = None,
    ambient: float = 0.03,
    min_level: float = 0.5,
    confidence: float = 0.9,
    key_added: str | None = None,
) -> pd.DataFrame:
    """Sign of the synapses that every cell type makes, from its transmitter genes.

    Per type, not per cell: dropout silences a marker in single cells (4 of 5 cells right on one data set where 33 of
    33 types were). Every marker's level in a type is compared with its highest level in any type. Given the number of
    counts expected at the type's depth, two explanations compete: expression, near that highest level, and
    contamination by ambient RNA or neighbouring cells, around ``ambient`` of it but up to several times as much. Few
    or shallow cells leave both open, and the sign unknown. A positive and a negative system together, or any
    monoamine, leave the sign unknown too: missing evidence must not become a constraint.

    Parameters
    ----------
    adata
        Cells x genes: counts, or log1p of counts per 10,000 (with zeros kept), from which a cell's depth is read off
        its smallest value.
    groupby
        Column of ``adata.obs`` with the cell types.
    organism
        "drosophila", "mouse" or "celegans".
    layer
        Layer to use instead of ``X``.
    markers
        Table in the form of :func:`marker_table`, to replace it.
    ambient
        Median contamination, as a share of a gene's highest level; its spread is a factor e either way.
    min_level
        Counts per 10,000: a gene that stays below it in every type is not taken as expressed anywhere.
    confidence
        Probability from which a sign is stated.
    key_added
        Also store the table in ``adata.uns[key_added]``.

    Returns
    -------
    DataFrame with a row per type (index): ``n_cells, sign`` (+1, -1, NaN), ``transmitter`` (systems that are on,
    strongest first), ``p_positive, p_negative, p_unknown``, ``cotransmission`` (more than one system on),
    ``ambiguous`` (a monoamine is on), ``conflict`` (systems of opposite sign are on), ``evidence`` (gene = level in
    counts per 10,000) and ``reason`` (why the sign is unknown).

    Raises
    ------
    ValueError
        For a missing column or layer, negative or scaled values, or when no marker gene is among ``var_names``.

    References
    ----------
    Davis FP et al. A genetic, genomic, and computational resource for exploring neural circuit function. eLife
    9:e50901 (2020) for the fly's rules. Sources of single markers are in :func:`marker_table`.

    Examples
    --------
    >>> counts = np.tile([[9.0, 0.0, 0.0, 9000.0], [0.0, 7.0, 0.0, 9000.0]], (20, 1))
    >>> adata = AnnData(counts, obs=pd.DataFrame({"type": ["Mi1", "Mi4"] * 20}, index=[str(i) for i in range(40)]))
    >>> adata.var_names = ["VAChT", "Gad1", "VGlut", "other"]
    >>> infer_signs(adata, "type")["sign"].to_dict()
    {'Mi1': 1.0, 'Mi4': -1.0}
    """
    table = marker_table(organism) if markers is None else markers
    if groupby not in adata.obs:
        raise ValueError(f"adata.obs has no column {groupby!r}; it has {list(adata.obs.columns)}.")
    if layer is not None and layer not in adata.layers:
        raise ValueError(f"adata.layers has no {layer!r}; it has {list(adata.layers)}.")
    at = _find_genes(table, adata.var_names)
    if not at:
        raise ValueError(
            f"none of the {organism} marker genes ({', '.join(table['gene'][:4])}, ...) is in adata.var_names; check "
            "the organism and that names are gene symbols."
        )
    lost = sorted({g for g, role in zip(table["gene"], table["role"], strict=True) if role == "required"} - set(at))
    if lost:
        logger.warning("marker genes not in the data, their transmitters may be missed: %s", ", ".join(lost))
    levels, depth, n_cells = type_levels(adata, groupby, list(at.values()), layer)
    levels.columns = list(at)
    on = expressed_probability(levels, depth, ambient=ambient, min_level=min_level)
    result = pd.DataFrame(
        [_judge(on.loc[t], levels.loc[t], table, confidence) for t in levels.index], index=levels.index
    )
    result.insert(0, "n_cells", n_cells)
    result.index.name = groupby
    if key_added is not None:
        adata.uns[key_added] = result.copy()
    return result


def signs_from_transmitters(table: pd.DataFrame, *, organism: str = "drosophila") -> pd.Series:
    """Sign per cell type from measured transmitters.

    Parameters
    ----------
    table
        Types x transmitters, 1 where a transmitter was shown, -1 where it was shown to be absent, 0 or NaN where it
        was not tested. Rows of one type are combined: shown anywhere counts, unless another row shows the contrary.
    organism
        Whose signs of transmitters to use.

    Returns
    -------
    Series of +1, -1 and NaN (none shown, a monoamine, opposite signs, or contradicting rows) by type.

    Examples
    --------
    >>> table = pd.DataFrame({"acetylcholine": [1, 0, 1], "gaba": [0, 1, 1]}, index=["Mi1", "Mi4", "odd"])
    >>> signs_from_transmitters(table).to_dict()
    {'Mi1': 1.0, 'Mi4': -1.0, 'odd': nan}
    """
    known = marker_table(organism).groupby("transmitter")["sign"].first()
    known.index = known.index.str.lower()
    usable = [c for c in table.columns if str(c).lower() in known.index]
    if not usable:
        raise ValueError(f"no column of the table is a transmitter of {organism}: {list(known.index)}.")
    shown = (table[usable] == 1).groupby(level=0, sort=False).any()
    denied = (table[usable] == -1).groupby(level=0, sort=False).any()
    of_column = known[[str(c).lower() for c in usable]].to_numpy()
    signs = {}
    for name in shown.index:
        has = shown.loc[name].to_numpy()
        own = set(of_column[has])
        clear = len(own) == 1 and 0 not in own and not (has & denied.loc[name].to_numpy()).any()
        signs[name] = float(own.pop()) if clear else np.nan
    return pd.Series(signs, name="sign", dtype=float)


class SignMask:
    """Signs of the edges of a wiring diagram: +1, -1, 0 (no synapse) or NaN (a synapse of unknown sign).

    Parameters
    ----------
    values
        DataFrame, presynaptic x postsynaptic.

    Raises
    ------
    ValueError
        For values other than +1, -1, 0 and NaN, or names that occur twice.

    Examples
    --------
    >>> edges = pd.DataFrame({"pre": ["Mi1", "Mi9", "Mi9"], "post": ["T4a", "T4a", "T4b"]})
    >>> mask = SignMask.from_types(pd.Series({"Mi1": 1, "Mi9": np.nan}), edges, overrides={("Mi9", "T4b"): -1})
    >>> mask.values
    post  T4a  T4b
    pre
    Mi1   1.0  0.0
    Mi9   NaN -1.0
    """

    def __init__(self, values: pd.DataFrame) -> None:
        for axis, names in (("presynaptic", values.index), ("postsynaptic", values.columns)):
            if not names.is_unique:
                raise ValueError(f"{axis} name {names[names.duplicated()][0]!r} occurs twice in the sign mask.")
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
        """Mask of edges that take the sign of their presynaptic type.

        Parameters
        ----------
        signs
            Sign by presynaptic type, or the table of :func:`infer_signs`. Types without an entry are unknown.
        edges
            Columns ``pre`` and ``post``; pairs that are not listed have no synapse. An optional column ``sign`` takes
            precedence over the type's sign where it is not NaN (a receptor that inverts it).
        overrides
            Sign by (pre, post), over everything else. The pair must be an edge.

        Raises
        ------
        ValueError
            When an edge is listed twice with contradicting signs, or an override is no edge.
        """
        if isinstance(signs, pd.DataFrame):
            signs = signs["sign"]
        lacking = [c for c in ("pre", "post") if c not in edges]
        if lacking:
            raise ValueError(f"edges need the columns pre and post; {lacking} missing.")
        by_type = pd.Series(signs, dtype=float)
        value = edges["pre"].map(by_type)
        if "sign" in edges:
            value = edges["sign"].astype(float).where(edges["sign"].notna(), value)
        frame = pd.DataFrame(
            {"pre": edges["pre"].astype(str), "post": edges["post"].astype(str), "sign": value.astype(float)}
        )
        contrary = frame.groupby(["pre", "post"], sort=False)["sign"].nunique()
        if (contrary > 1).any():
            pre, post = contrary.index[contrary > 1][0]
            raise ValueError(f"edge {pre} -> {post} is listed with contradicting signs; keep one, or set it to NaN.")
        frame = (
            frame.sort_values("sign", na_position="last", kind="stable").drop_duplicates(["pre", "post"]).sort_index()
        )
        pres, posts = pd.unique(frame["pre"]), pd.unique(frame["post"])
        values = np.zeros((len(pres), len(posts)))
        values[pd.Index(pres).get_indexer(frame["pre"]), pd.Index(posts).get_indexer(frame["post"])] = frame["sign"]
        found = cls(pd.DataFrame(values, index=pd.Index(pres, name="pre"), columns=pd.Index(posts, name="post")))
        return found.override(overrides) if overrides else found

    def override(self, signs: Mapping[tuple[str, str], float]) -> SignMask:
        """A mask with the signs of some edges (pre, post) replaced; 0 removes an edge.

        Raises
        ------
        ValueError
            For a pair that is not an edge of the mask.
        """
        values = self.values.copy()
        for (pre, post), sign in signs.items():
            if pre not in values.index or post not in values.columns or values.loc[pre, post] == 0:
                raise ValueError(f"{pre} -> {post} is not an edge of the mask; add it to the edges first.")
            values.loc[pre, post] = sign
        return SignMask(values)

    def flip(self, share: float, *, random_state: int | None = None) -> SignMask:
        """A mask with a random share of the known signs reversed, to test what wrong signs would do.

        Parameters
        ----------
        share
            Between 0 and 1, of the edges with a known sign.
        random_state
            Seed.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"share={share} of signs to flip must lie between 0 and 1.")
        values = self.values.to_numpy(copy=True)
        known = np.argwhere(np.isin(values, (1, -1)))
        chosen = np.random.default_rng(random_state).choice(len(known), size=round(share * len(known)), replace=False)
        values[tuple(known[chosen].T)] *= -1
        return SignMask(pd.DataFrame(values, index=self.values.index, columns=self.values.columns))

    def counts(self) -> dict[str, int]:
        """How many edges are positive, negative and unknown."""
        v = self.values.to_numpy()
        return {"positive": int((v == 1).sum()), "negative": int((v == -1).sum()), "unknown": int(np.isnan(v).sum())}


def check_signs(signs: Any, shape: tuple[int, ...] | None = None, *, what: str = "signs") -> np.ndarray:
    """Signs as floats, or a ValueError that names the first entry which is none of +1, -1, 0, NaN.

    Parameters
    ----------
    signs
        Array-like.
    shape
        Shape that it must have.
    what
        How the error calls it.

    Examples
    --------
    >>> check_signs([1, -1, 0]).tolist()
    [1.0, -1.0, 0.0]
    """
    values = np.array(signs, float)
    if shape is not None and values.shape != tuple(shape):
        raise ValueError(f"{what} have shape {values.shape}, not {tuple(shape)}.")
    bad = ~(np.isin(values, (-1.0, 0.0, 1.0)) | np.isnan(values))
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"{what}: entry {where} is {values[where]:g}; use +1, -1, 0 (no synapse) or NaN (unknown sign)."
        )
    return values


def _find_genes(table: pd.DataFrame, var_names: pd.Index) -> dict[str, int]:
    """Position of every marker that the data have, under its symbol or an alias; case does not matter."""
    position: dict[str, int] = {}
    for i, name in enumerate(var_names.astype(str)):
        position.setdefault(name.lower(), i)
    found = {}
    for gene, aliases in zip(table["gene"], table["aliases"], strict=True):
        for name in [gene, *str(aliases).split("|")]:
            if name and name.lower() in position:
                found[gene] = position[name.lower()]
                break
    return found


def _judge(on: pd.Series, levels: pd.Series, table: pd.DataFrame, confidence: float) -> dict[str, Any]:
    """Posterior over signs of one type from the probabilities that its marker genes are expressed."""
    systems = {}
    for transmitter, rows in table[table["role"] == "required"].groupby("transmitter", sort=False):
        groups = [max((on.get(g, 0.0) for g in part["gene"]), default=0.0) for _, part in rows.groupby("group")]
        systems[transmitter] = (min(groups), int(rows["sign"].iloc[0]))
    p = {sign: max((q for q, s in systems.values() if s == sign), default=0.0) for sign in (1, -1, 0)}
    positive = p[1] * (1 - p[-1]) * (1 - p[0])
    negative = p[-1] * (1 - p[1]) * (1 - p[0])
    active = sorted((t for t, (q, _) in systems.items() if q >= 0.5), key=lambda t: -systems[t][0])
    kinds = {systems[t][1] for t in active}
    sign = 1.0 if positive >= confidence else -1.0 if negative >= confidence else np.nan
    conflict, ambiguous = {1, -1} <= kinds, 0 in kinds
    if not np.isnan(sign):
        reason = ""
    elif conflict:
        reason = "systems of opposite sign"
    elif ambiguous:
        reason = "a monoamine: the sign depends on the receptor"
    elif active:
        reason = "evidence below the confidence asked for"
    else:
        reason = "no transmitter system found"
    shown = [g for g in levels.index if on[g] >= 0.5]
    return {
        "sign": sign,
        "transmitter": ", ".join(active),
        "p_positive": positive,
        "p_negative": negative,
        "p_unknown": 1 - positive - negative,
        "cotransmission": len(active) > 1,
        "ambiguous": ambiguous,
        "conflict": conflict,
        "evidence": ", ".join(f"{g}={levels[g]:.3g}" for g in sorted(shown, key=lambda g: -levels[g])),
        "reason": reason,
    }
