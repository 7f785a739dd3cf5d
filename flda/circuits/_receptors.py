"""Signs of single edges, from the transmitter of the presynaptic type and the receptors of the postsynaptic type."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from .._logging import warn
from ._names import as_names, named_edges
from ._signs import infer_signs, marker_table, packaged_table, read_markers
from ._transmitters import fit_transmitters

MIXED = ("unknown", "type")
LIKELY = 0.5  # a receptor with this probability stands in the way of a sign by receptors of the other effect


def receptor_table(organism: str | None = None) -> pd.DataFrame:
    """Return the receptor genes of fast transmitters.

    Parameters
    ----------
    organism
        ``"drosophila"``, ``"mouse"`` or ``"celegans"``; None for all three.

    Returns
    -------
    DataFrame
        One row per transmitter and gene, with the columns ``organism, transmitter, effect, gene, aliases, source``. The
        effect is +1 (excites) or -1 (inhibits). Receptors whose effect depends on the cell are not listed.

    Raises
    ------
    ValueError
        If there is no table for the organism.

    Examples
    --------
    >>> from flda.circuits import receptor_table
    >>> receptor_table("drosophila").query("transmitter == 'histamine'")[["gene", "effect"]].values.tolist()
    [['ort', -1], ['HisCl1', -1]]
    """
    return packaged_table("receptor", organism)


def edge_signs(
    adata: AnnData,
    groupby: str,
    edges: pd.DataFrame,
    *,
    signs: pd.DataFrame | None = None,
    organism: str = "drosophila",
    layer: str | None = None,
    markers: pd.DataFrame | None = None,
    receptors: pd.DataFrame | None = None,
    unit: str = "auto",
    confidence: float = 0.9,
    mixed: str = "unknown",
) -> pd.DataFrame:
    """Give every edge a sign from the transmitter of its presynaptic and the receptors of its postsynaptic type.

    :func:`infer_signs` gives all synapses of a type one sign. Receptors can make that wrong: in the worm, glutamate and
    acetylcholine open cation channels and chloride channels. Here the receptors of the transmitter that the
    postsynaptic type expresses decide, if all of them have the same effect. That a type expresses a receptor does not
    show that the receptor is at this synapse, so receptors of both effects leave the sign unknown, and a sign that
    rests on receptors remains a prediction.

    Whether a receptor is expressed is found by the mixture model of :func:`infer_signs`.

    Parameters
    ----------
    adata, groupby, organism, layer, markers, unit
        As in :func:`infer_signs`. Postsynaptic types without cells keep the sign of the presynaptic type.
    edges
        Columns ``pre`` and ``post``, names of types.
    signs
        Table with the columns ``sign`` and ``transmitter`` by presynaptic type, such as those of :func:`infer_signs`
        and :func:`signs_from_predictions`; by default, :func:`infer_signs` makes it from the same cells.
    receptors
        Table that replaces :func:`receptor_table`, with the same columns.
    confidence
        Probability of expression that receptors of one effect must reach to decide.
    mixed
        Sign of an edge whose target expresses receptors of both effects: ``"unknown"``, or that of the ``"type"``.

    Returns
    -------
    DataFrame
        The edges, with the columns

        * ``sign``: +1, -1, or NaN if unknown; :meth:`SignMask.from_edges` takes it
        * ``sign_type``, ``transmitter``: of the presynaptic type
        * ``receptors``: expressed receptors of the transmitter, with their effects
        * ``p_excites``, ``p_inhibits``: probabilities that at least one receptor of this effect is expressed
        * ``verdict``: ``"agrees"``, ``"inverts"`` (receptors have the other sign), ``"decides"`` (the transmitters of
          the type have opposite signs), ``"mixed"``, ``"no receptor found"``, ``"no cells"``, or ``"no transmitter"``
        * ``caveat``: whether the transmitter has receptors of both effects in this organism, in words

    Raises
    ------
    ValueError
        As :func:`infer_signs`, or if a column is missing or ``mixed`` is unknown.

    References
    ----------
    Signs of synapses from receptor genes: Fenyves BG et al. Synaptic polarity and sign-balance prediction using gene
    expression data in the Caenorhabditis elegans chemical synapse neuronal connectome network. PLoS Comput. Biol.
    16:e1007974 (2020).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from anndata import AnnData
    >>> from flda.circuits import edge_signs
    >>> genes = ["VAChT", "ChAT", "Gad1", "VGlut", "Hdc", "ple", "Tdc2", "Tbh", "Trh", "GluClalpha", "other"]
    >>> means = pd.DataFrame(0.0, index=["Mi9", "Tm2", "T4"], columns=genes).assign(other=9000.0)
    >>> means.loc["Mi9", "VGlut"] = means.loc["Tm2", "VAChT"] = means.loc["T4", "GluClalpha"] = 9.0
    >>> cells = means.loc[np.repeat(means.index, 20)]
    >>> obs = pd.DataFrame({"type": cells.index}).rename(str)
    >>> adata = AnnData(cells.to_numpy(), obs=obs, var=pd.DataFrame(index=genes))
    >>> edges = pd.DataFrame({"pre": ["Mi9", "Tm2"], "post": ["T4", "T4"]})
    >>> edge_signs(adata, "type", edges)[["sign", "verdict"]].values.tolist()
    [[-1.0, 'agrees'], [1.0, 'no receptor found']]
    """
    if mixed not in MIXED:
        raise ValueError(f"mixed={mixed!r} is unknown; choose one of {', '.join(MIXED)}.")
    missing = [c for c in ("pre", "post") if c not in edges]
    if missing:
        raise ValueError(f"edges lack the columns {missing}; they need pre and post.")
    table = receptor_table(organism) if receptors is None else receptors
    if signs is None:
        signs = infer_signs(
            adata, groupby, organism=organism, layer=layer, markers=markers, unit=unit, confidence=confidence
        )
    lacking = [c for c in ("sign", "transmitter") if c not in signs]
    if lacking:
        raise ValueError(f"signs lack the columns {lacking}; pass a table such as infer_signs returns.")
    signs = signs.set_axis(as_names(signs.index))
    on = _expressed(adata, groupby, organism, layer, markers, unit, table)
    both = table.groupby("transmitter")["effect"].nunique() > 1
    edges = named_edges(edges)
    rows = [
        _sign_of_edge(pre, post, signs, on, table, both, confidence, mixed, organism)
        for pre, post in zip(edges["pre"], edges["post"], strict=True)
    ]
    found = pd.DataFrame(rows, index=edges.index, columns=list(_ROW))
    open_ = (found["caveat"] != "") & (found["verdict"] == "no receptor found")
    if open_.any():
        warn(
            f"{int(open_.sum())} of {len(found)} edges have the sign of their type, because no receptor was found, "
            f"although their transmitter has receptors of both effects in {organism}; the column 'caveat' marks them"
        )
    return pd.concat([edges.drop(columns=[c for c in _ROW if c in edges]), found], axis=1)


_ROW = ("sign", "sign_type", "transmitter", "receptors", "p_excites", "p_inhibits", "verdict", "caveat")


def _expressed(
    adata: AnnData, groupby: str, organism: str, layer: str | None, markers: pd.DataFrame | None, unit: str,
    table: pd.DataFrame,
) -> pd.DataFrame:  # fmt: skip
    """Probability that a type expresses a receptor, types x genes.

    A receptor enters the model of transmitters as a gene that no transmitter needs: on or off at levels of its own.
    """
    genes = table.drop_duplicates("gene")
    own = marker_table(organism) if markers is None else markers
    extra = pd.DataFrame(
        {
            "organism": organism, "transmitter": "receptor", "sign": 0, "group": np.arange(len(genes)),
            "gene": genes["gene"], "aliases": genes["aliases"], "role": "supporting", "source": genes["source"],
        }
    )  # fmt: skip
    extra = extra[~extra["gene"].isin(own["gene"])]
    data, _ = read_markers(adata, groupby, organism, layer, pd.concat([own, extra], ignore_index=True), unit)
    on = fit_transmitters(data, pd.concat([own, extra], ignore_index=True)).on
    return on[[g for g in genes["gene"] if g in on]].set_axis(as_names(on.index))


def _sign_of_edge(
    pre: str, post: str, signs: pd.DataFrame, on: pd.DataFrame, table: pd.DataFrame, both: pd.Series,
    confidence: float, mixed: str, organism: str,
) -> tuple[Any, ...]:  # fmt: skip
    """Row of :func:`edge_signs`."""
    said = signs["transmitter"].get(pre, "")
    sign = float(signs["sign"].get(pre, np.nan))
    names = [t.strip() for t in str(said).split(",")] if isinstance(said, str) and said else []
    opposite = "conflict" in signs and pre in signs.index and bool(signs.at[pre, "conflict"])
    fast = [t for t in names if t in both.index]
    doubled = [t for t in fast if both[t]]
    caveat = f"{' and '.join(doubled)} excites through some receptors of {organism}, inhibits by others" * bool(doubled)
    text, p = "", {1: np.nan, -1: np.nan}
    if len(fast) < max(len(names), 1) or (np.isnan(sign) and not opposite):
        verdict = "no transmitter"
    elif post not in on.index:
        verdict = "no cells"
    else:
        own = table[table["transmitter"].isin(fast) & table["gene"].isin(on.columns)]
        chance = on.loc[post, own["gene"]].to_numpy()
        for effect in p:
            p[effect] = float(1 - np.prod(1 - chance[(own["effect"] == effect).to_numpy()]))
        seen = [f"{g} {e:+d}" for g, e, c in zip(own["gene"], own["effect"], chance, strict=True) if c >= LIKELY]
        text = ", ".join(seen)
        decided = next((e for e in p if p[e] >= confidence and p[-e] < LIKELY), None)
        if min(p.values()) >= LIKELY:
            verdict = "mixed"
            sign = sign if mixed == "type" else np.nan
        elif decided is None:
            verdict = "no receptor found"
        else:
            verdict = "decides" if np.isnan(sign) else "agrees" if decided == sign else "inverts"
            sign = float(decided)
    own_sign = float(signs["sign"].get(pre, np.nan))
    return sign, own_sign, ", ".join(names), text, p[1], p[-1], verdict, caveat
