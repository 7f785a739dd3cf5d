"""Connections between cell types, and what their synapses are made of."""

from __future__ import annotations

import json
import os

import pandas as pd

from ._files import fetch


def flyvis_connectome(data_dir: str | os.PathLike | None = None) -> pd.DataFrame:
    """Signed synapse counts between cell types of the fly's optic lobe, by column offset (Lappalainen et al. 2024).

    Parameters
    ----------
    data_dir
        As in :func:`rnamix`.

    Returns
    -------
    DataFrame with a row per pair of types and offset (2,140): ``pre, post, du, dv`` (hexagonal column offset),
    ``n_synapses`` (mean per postsynaptic cell), ``sign`` (+1, -1) and ``referenced`` (whether the sign has a source;
    the others, all +1, are a default).

    References
    ----------
    Lappalainen JK et al. Connectome-constrained networks predict neural activity across the fly visual system. Nature
    634:1132 (2024). Data: MIT licence.

    Examples
    --------
    >>> edges = flyvis_connectome()  # doctest: +SKIP
    >>> edges.groupby(["pre", "post"]).ngroups  # doctest: +SKIP
    605
    """
    content = json.loads(fetch("flyvis", "fib25-fib19_v2.2.json", data_dir=data_dir).read_text("utf-8"))
    rows = [
        (e["src"], e["tar"], du, dv, float(n), int(e["alpha"]), bool(e["alpha_references"]))
        for e in content["edges"]
        for (du, dv), n in e["offsets"]
    ]
    return pd.DataFrame(rows, columns=["pre", "post", "du", "dv", "n_synapses", "sign", "referenced"])


def flywire_optic_types(data_dir: str | os.PathLike | None = None, *, min_confidence: int = 1) -> pd.DataFrame:
    """Measured transmitters of adult fly cell types (ground-truth table of Eckstein et al. 2024).

    Parameters
    ----------
    data_dir
        As in :func:`rnamix`.
    min_confidence
        Least confidence of a row, 1 (low) to 5.

    Returns
    -------
    DataFrame of cell types (index, several rows per type) x transmitters: 1 shown, -1 shown to be absent, 0 not tested.

    References
    ----------
    Eckstein N et al. Neurotransmitter classification from electron microscopy images at synaptic sites in Drosophila
    melanogaster. Cell 187:2574 (2024). Data: CC BY 4.0.

    Examples
    --------
    >>> table = flywire_optic_types()  # doctest: +SKIP
    >>> int(table.loc[["Mi1"], "acetylcholine"].max())  # doctest: +SKIP
    1
    """
    table = pd.read_csv(fetch("flywire_optic_types", "gt_data.csv", data_dir=data_dir))
    confidence = pd.to_numeric(table["neurotransmitter_verified_confidence"], errors="coerce")
    adult = table["species"] == "adult_drosophila_melanogaster"
    table = table[adult & (confidence >= min_confidence) & table["cell_type"].notna()].set_index("cell_type")
    return table.loc[:, "acetylcholine":].fillna(0).astype(int)
