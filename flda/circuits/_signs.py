"""Signs of the synapses that cell types make, from their transmitter genes or from measured transmitters."""

from __future__ import annotations

from importlib import resources
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from .._adata.keys import check_adata
from .._adata.read import labels
from .._adata.results import check_new_table, write_table
from .._logging import warn
from ._expression import UNITS, TypeCounts, find_genes, type_counts
from ._transmitters import Posterior, fit_transmitters

ORGANISMS = ("drosophila", "mouse", "celegans")


def marker_table(organism: str | None = None) -> pd.DataFrame:
    """Return the marker genes of transmitter systems.

    Parameters
    ----------
    organism
        ``"drosophila"``, ``"mouse"`` or ``"celegans"``; None for all three.

    Returns
    -------
    DataFrame
        One row per marker gene, with the columns ``organism, transmitter, sign, group, gene, aliases, role, source``.
        The sign is +1 (excitatory), -1 (inhibitory), or 0 if it depends on the receptor. A cell type uses a transmitter
        if it expresses at least one gene of each *required* group. *Supporting* genes are reported but do not decide:
        in the fly, for example, VGAT without Gad1 does not make a neuron inhibitory. ``source`` cites the publication
        behind each marker.

    Raises
    ------
    ValueError
        If there is no table for the organism.

    Examples
    --------
    >>> from flda.circuits import marker_table
    >>> marker_table("drosophila").query("transmitter == 'GABA'")[["gene", "role"]].values.tolist()
    [['Gad1', 'required'], ['VGAT', 'supporting']]
    """
    return packaged_table("marker", organism)


def packaged_table(kind: str, organism: str | None) -> pd.DataFrame:
    """Read the packaged table of one kind of genes, ``"marker"`` or ``"receptor"``, for one organism or for all."""
    with resources.files(__package__).joinpath(f"{kind}s.csv").open(encoding="utf-8") as handle:
        table = pd.read_csv(handle, keep_default_na=False)
    if organism is None:
        return table
    if organism not in ORGANISMS:
        raise ValueError(
            f"there is no {kind} table for the organism {organism!r}; choose one of {', '.join(ORGANISMS)}, or pass a "
            f"table as {kind}s."
        )
    return table[table["organism"] == organism].reset_index(drop=True)


def infer_signs(
    adata: AnnData,
    groupby: str,
    *,
    organism: str = "drosophila",
    layer: str | None = None,
    markers: pd.DataFrame | None = None,
    unit: str = "auto",
    confidence: float = 0.9,
    key_added: str | None = None,
) -> pd.DataFrame:
    """Infer from transmitter genes whether the synapses that each cell type makes are excitatory or inhibitory.

    Signs are inferred per type, not per cell, because dropout hides markers in single cells. A mixture model is fitted
    to all types at once. A marker gene is either expressed, at a level that varies between types around a level of its
    own, or absent, or contamination by ambient RNA in proportion to its mean over all cells; these levels are learnt
    from the data. A transmitter needs one gene of each of its required groups. If cells are few or shallow, the sign
    stays unknown. It also stays unknown if a type uses transmitters of opposite sign, or any monoamine, or does not
    look like a neuron: a sign that the data do not support must not become a constraint.

    The probabilities are calibrated on simulated atlases; :func:`marker_expression` returns what they rest on.

    Parameters
    ----------
    adata
        Cells x genes, or an atlas with one row of means per type.
    groupby
        Column of ``adata.obs`` with the cell types.
    organism
        ``"drosophila"``, ``"mouse"`` or ``"celegans"``.
    layer
        Layer to use instead of ``adata.X``.
    markers
        Table that replaces :func:`marker_table`, with the same columns.
    unit
        What the values are: ``"counts"``; ``"log1p"`` or ``"log2p1"``, logarithms of 1 + normalised counts; ``"tpm"``;
        or ``"scaled"``, values in proportion to the counts of a row. By default this is found from the values. Zeros
        must have been kept: the depth of a normalised row is computed from its smallest non-zero value.
    confidence
        Probability that a sign must reach to be reported.
    key_added
        If given, the table is also stored in ``adata.uns[key_added]``.

    Returns
    -------
    DataFrame
        One row per type (the index), with the columns

        * ``n_cells``: number of rows of the type
        * ``sign``: +1, -1, or NaN if unknown
        * ``transmitter``: transmitters of the type, the most probable first
        * ``p_positive, p_negative, p_unknown``: probabilities of the three outcomes
        * ``p_neuron``: probability of being a neuron; NaN if the data have no marker of neurons
        * ``cotransmission``: whether the type uses more than one transmitter
        * ``ambiguous``: whether one of them is a monoamine
        * ``conflict``: whether they have opposite signs
        * ``marker_levels``: expressed markers with their levels in counts per 10,000
        * ``reason``: why the sign is unknown

    Raises
    ------
    ValueError
        If the column or the layer is missing, if values are negative or not finite, or if ``var_names`` holds none of
        the marker genes.

    References
    ----------
    The fly's rules: Davis FP et al. A genetic, genomic, and computational resource for exploring neural circuit
    function. eLife 9:e50901 (2020). :func:`marker_table` lists the source of every marker. The statistical model is
    this package's own.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from anndata import AnnData
    >>> from flda.circuits import infer_signs
    >>> genes = ["VAChT", "ChAT", "Gad1", "VGlut", "Hdc", "ple", "Tdc2", "Tbh", "Trh", "other"]
    >>> counts = np.tile([[9.0, 0, 0, 0, 0, 0, 0, 0, 0, 9000], [0, 0, 7.0, 0, 0, 0, 0, 0, 0, 9000]], (20, 1))
    >>> obs = pd.DataFrame({"type": ["Mi1", "Mi4"] * 20}).rename(str)
    >>> adata = AnnData(counts, obs=obs, var=pd.DataFrame(index=genes))
    >>> infer_signs(adata, "type")["sign"].to_dict()
    {'Mi1': 1.0, 'Mi4': -1.0}
    """
    if key_added is not None:
        check_adata(adata)
        check_new_table(adata, key_added)
    data, table = read_markers(adata, groupby, organism, layer, markers, unit)
    fit = fit_transmitters(data, table)
    sign = table.groupby("transmitter", sort=False)["sign"].first()[sorted(frozenset().union(*fit.sets))]
    unseen = _unmeasured(table, data.levels.columns)
    rows = [_sign_of_type(i, data, fit, sign, unseen, confidence) for i in range(len(data.levels))]
    result = pd.DataFrame(rows, index=data.levels.index)
    result.insert(0, "n_cells", data.n_cells)
    if key_added is not None:
        write_table(adata, key_added, result)
    return result


def marker_expression(
    adata: AnnData,
    groupby: str,
    *,
    organism: str = "drosophila",
    layer: str | None = None,
    markers: pd.DataFrame | None = None,
    unit: str = "auto",
) -> pd.DataFrame:
    """Estimate which marker genes and transmitters each type expresses, as :func:`infer_signs` does.

    Parameters
    ----------
    adata, groupby, organism, layer, markers, unit
        As in :func:`infer_signs`.

    Returns
    -------
    DataFrame
        One row per type, transmitter and gene (empty transmitter: markers of neurons), with the columns

        * ``type, transmitter, gene, role``
        * ``level``: mean counts per 10,000
        * ``on_level, ambient_level``: median levels of the gene in types that express it, and of its contamination
        * ``log_ratio``: log likelihood ratio of expression against absence or contamination
        * ``p_on``: probability that the type expresses the gene, all genes considered
        * ``p_transmitter``: probability that the type uses the transmitter; for markers of neurons, of being a neuron

    Raises
    ------
    ValueError
        As :func:`infer_signs`.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from anndata import AnnData
    >>> from flda.circuits import marker_expression
    >>> genes = ["VAChT", "ChAT", "Gad1", "VGlut", "Hdc", "ple", "Tdc2", "Tbh", "Trh", "other"]
    >>> counts = np.tile([[9.0, 0, 0, 0, 0, 0, 0, 0, 0, 9000], [0, 0, 7.0, 0, 0, 0, 0, 0, 0, 9000]], (20, 1))
    >>> obs = pd.DataFrame({"type": ["Mi1", "Mi4"] * 20}).rename(str)
    >>> adata = AnnData(counts, obs=obs, var=pd.DataFrame(index=genes))
    >>> marker_expression(adata, "type").query("gene == 'Gad1'")["p_on"].round(1).tolist()
    [0.0, 1.0]
    """
    data, table = read_markers(adata, groupby, organism, layer, markers, unit)
    fit = fit_transmitters(data, table)
    neuron = np.where(np.isnan(fit.neuron), 1.0, fit.neuron)
    rows = []
    for i, name in enumerate(data.levels.index):
        for transmitter, gene, role in zip(table["transmitter"], table["gene"], table["role"], strict=True):
            if gene in data.levels:
                rows.append(
                    {
                        "type": name, "transmitter": transmitter, "gene": gene, "role": role,
                        "level": data.levels.at[name, gene], "on_level": fit.on_level[gene],
                        "ambient_level": fit.ambient_level[gene], "log_ratio": fit.ratio.at[name, gene],
                        "p_on": fit.on.at[name, gene],
                        "p_transmitter": neuron[i] * (fit.probability(transmitter)[i] if transmitter else 1.0),
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def signs_from_transmitters(table: pd.DataFrame, *, organism: str = "drosophila") -> pd.Series:
    """Derive the sign of each cell type from transmitters that were measured in it.

    Parameters
    ----------
    table
        Types x transmitters: 1 if the transmitter was detected, -1 if it was shown to be absent, 0 or NaN if it was
        not tested. Several rows with the same type are combined: a transmitter counts as present if any row detects
        it, unless another row shows that it is absent.
    organism
        ``"drosophila"``, ``"mouse"`` or ``"celegans"``: whose transmitter signs to use.

    Returns
    -------
    Series
        +1, -1 or NaN by type. NaN means that no transmitter was detected, that one of them is a monoamine, that their
        signs are opposite, or that rows contradict each other.

    Raises
    ------
    ValueError
        If no column of the table is a transmitter of the organism.

    Examples
    --------
    >>> import pandas as pd
    >>> from flda.circuits import signs_from_transmitters
    >>> table = pd.DataFrame({"acetylcholine": [1, 0, 1], "gaba": [0, 1, 1]}, index=["Mi1", "Mi4", "both"])
    >>> signs_from_transmitters(table).to_dict()
    {'Mi1': 1.0, 'Mi4': -1.0, 'both': nan}
    """
    known = marker_table(organism).query("role == 'required'").groupby("transmitter")["sign"].first()
    known.index = known.index.str.lower()
    usable = [c for c in table.columns if str(c).lower() in known.index]
    if not usable:
        raise ValueError(
            f"no column of the table is a transmitter of {organism}; name the columns {', '.join(known.index)}."
        )
    present = (table[usable] == 1).groupby(level=0, sort=False).any()
    absent = (table[usable] == -1).groupby(level=0, sort=False).any()
    sign_of_column = known[[str(c).lower() for c in usable]].to_numpy()
    signs = {}
    for name in present.index:
        has = present.loc[name].to_numpy()
        found = set(sign_of_column[has])
        contradicted = (has & absent.loc[name].to_numpy()).any()
        signs[name] = float(found.pop()) if len(found) == 1 and 0 not in found and not contradicted else np.nan
    return pd.Series(signs, name="sign", dtype=float)


def read_markers(
    adata: AnnData, groupby: str, organism: str, layer: str | None, markers: pd.DataFrame | None, unit: str
) -> tuple[TypeCounts, pd.DataFrame]:
    """Marker genes per type, and the marker table without genes that the data lack."""
    table = marker_table(organism) if markers is None else markers
    check_adata(adata)
    labels(adata, [groupby])  # refuses a column that is not there
    if layer is not None and layer not in adata.layers:
        names = [name for name in adata.layers if name is not None]
        raise ValueError(f"adata.layers has no {layer!r}; it has {names}.")
    if unit not in UNITS:
        raise ValueError(f"unit={unit!r} is unknown; choose one of {', '.join(UNITS)}.")
    column = find_genes(table, adata.var_names)
    deciding = table[table["role"].isin(("required", "supporting"))]
    if not any(g in column for g in deciding["gene"]):
        raise ValueError(
            f"none of the {organism} marker genes ({', '.join(table['gene'][:4])}, ...) is in adata.var_names; check "
            "the organism, and that var_names are gene symbols."
        )
    missing = sorted(set(table.loc[table["role"] == "required", "gene"]) - set(column))
    if missing:
        warn(f"adata.var_names lacks some marker genes, so their transmitters may be missed: {', '.join(missing)}")
    return type_counts(adata, groupby, column, layer, unit), table


def _unmeasured(table: pd.DataFrame, genes: pd.Index) -> dict[str, str]:
    """Transmitters that cannot be confirmed, because the data lack all genes of a required group: name -> genes."""
    required = table[table["role"] == "required"]
    return {
        str(transmitter): " or ".join(rows["gene"])
        for (transmitter, _), rows in required.groupby(["transmitter", "group"], sort=False)
        if not rows["gene"].isin(genes).any()
    }


def _sign_of_type(
    i: int, data: TypeCounts, fit: Posterior, sign: pd.Series, unseen: dict[str, str], confidence: float
) -> dict[str, Any]:
    """Row of :func:`infer_signs` for one type."""
    p = {t: float(fit.probability(t)[i]) for t in sign.index}
    neuron = fit.neuron[i]
    outcome = {1: 0.0, -1: 0.0}
    for members, q in zip(fit.sets, fit.posterior[i], strict=True):
        kinds = {int(sign[t]) for t in members}
        if len(kinds) == 1 and 0 not in kinds:
            outcome[kinds.pop()] += q
    positive, negative = (outcome[s] * (1.0 if np.isnan(neuron) else neuron) for s in (1, -1))
    active = sorted((t for t in sign.index if p[t] >= 0.5), key=lambda t: -p[t])
    kinds = {int(sign[t]) for t in active}
    conflict, ambiguous = {1, -1} <= kinds, 0 in kinds
    blind = [t for t in active if t in unseen]
    found = 1.0 if positive >= confidence else -1.0 if negative >= confidence else np.nan
    if blind:
        found, reason = np.nan, f"{blind[0]} cannot be confirmed without {unseen[blind[0]]}"
    elif not np.isnan(found):
        reason = ""
    elif neuron < 0.5:
        reason = "not a neuron by its genes"
    elif conflict:
        reason = "transmitters of opposite sign"
    elif ambiguous:
        reason = "a monoamine: the sign depends on the receptor"
    elif active:
        reason = "probability below the requested confidence"
    else:
        reason = "no transmitter found"
    levels, on = data.levels.iloc[i], fit.on.iloc[i]
    expressed = [g for g in levels.index if on[g] >= 0.5]
    return {
        "sign": found,
        "transmitter": ", ".join(active),
        "p_positive": positive,
        "p_negative": negative,
        "p_unknown": 1 - positive - negative,
        "p_neuron": neuron,
        "cotransmission": len(active) > 1,
        "ambiguous": ambiguous,
        "conflict": conflict,
        "marker_levels": ", ".join(f"{g}={levels[g]:.3g}" for g in sorted(expressed, key=lambda g: -levels[g])),
        "reason": reason,
    }
