"""Connections between cell types, their transmitters, and proteins that bind across synapses."""

from __future__ import annotations

import json
import os

import numpy as np
import pandas as pd

from ._files import fetch, manifests


def flyvis_connectome(data_dir: str | os.PathLike | None = None) -> pd.DataFrame:
    """Load signed synapse counts between cell types of the fly's optic lobe by column offset (Lappalainen et al. 2024).

    Parameters
    ----------
    data_dir
        As in :func:`rnamix`.

    Returns
    -------
    DataFrame with one row per pair of types and offset (2,140): ``pre, post``; ``du, dv``, the hexagonal column offset;
    ``n_synapses``, the mean per postsynaptic cell; ``sign``, +1 or -1; and ``referenced``, whether a source is given
    for the sign. Signs without a source are the default, +1.

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
    """Load measured transmitters of adult fly cell types (ground-truth table of Eckstein et al. 2024).

    Parameters
    ----------
    data_dir
        As in :func:`rnamix`.
    min_confidence
        Smallest confidence of a row that is kept, from 1 (low) to 5.

    Returns
    -------
    DataFrame of cell types (index; a type may have several rows) x transmitters. 1 means shown to be present, -1 shown
    to be absent, and 0 not tested.

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


def flywire_connectivity(data_dir: str | os.PathLike | None = None) -> pd.DataFrame:
    """Load unsigned connections and synapses between 742 types of the fly's optic lobe (Matsliah et al. 2024).

    Parameters
    ----------
    data_dir
        As in :func:`rnamix`.

    Returns
    -------
    DataFrame with one row per pair of types (72,954): ``pre, post``; ``n_connections``, the number of connected pairs
    of cells; and ``n_synapses``. Both sides of the brain are added up.

    References
    ----------
    Matsliah A et al. Neuronal parts list and wiring diagram for a visual system. Nature 634:166 (2024). Data:
    Apache-2.0; FlyWire asks for citation.

    Examples
    --------
    >>> edges = flywire_connectivity()  # doctest: +SKIP
    >>> edges.query("pre == 'Mi1' and post == 'T4a'")["n_synapses"].item()  # doctest: +SKIP
    67388
    """
    table = pd.read_csv(
        fetch("flywire_connectivity", "type_to_type_connection_and_synapse_counts.csv", data_dir=data_dir),
        keep_default_na=False,
    )
    columns = {
        "from type": "pre", "to type": "post", "connections total": "n_connections", "synapses total": "n_synapses",
    }  # fmt: skip
    return table[list(columns)].rename(columns=columns)


def celegans_gap_junctions(data_dir: str | os.PathLike | None = None) -> dict[str, pd.DataFrame | pd.Series]:
    """Load innexins, contacts and gap junctions of 185 neurons of C. elegans (Kovács et al. 2020).

    Parameters
    ----------
    data_dir
        As in :func:`rnamix`.

    Returns
    -------
    Dictionary of four tables:

    * ``genes``: 185 x 18, 0 or 1. The files do not name the innexins; ``innexin_01`` to ``innexin_18`` are their order.
    * ``contact`` and ``gap_junctions``: 185 x 185, symmetric, 0 or 1.
    * ``classes``: the class of each neuron, which is its name without L, R or number if other neurons share the rest.
      Neurons of a class should be held out together.

    References
    ----------
    Kovács IA, Barabási DL, Barabási A-L. PNAS 117:33570 (2020); connectome: Cook SJ et al. Nature 571:63 (2019). The
    files, published again with Qiao M, eLife 12:RP91532 (2024): Apache-2.0.

    Examples
    --------
    >>> data = celegans_gap_junctions()  # doctest: +SKIP
    >>> int(data["contact"].to_numpy().sum()), data["classes"].nunique()  # doctest: +SKIP
    (11149, 101)
    """
    files = {
        "genes": "INXExpressionJustContact.csv", "contact": "ContactSubgraphMatrix.csv",
        "gap_junctions": "GapJunctContact.csv",
    }  # fmt: skip
    found = {
        what: pd.read_csv(fetch("celegans_gap_junctions", file, data_dir=data_dir), header=None, dtype=float)
        for what, file in files.items()
    }
    names = pd.Index(manifests()["celegans_gap_junctions"]["neurons"].split(), name="neuron")
    innexins = [f"innexin_{i + 1:02d}" for i in range(found["genes"].shape[1])]
    out = {
        what: table.set_axis(names).set_axis(innexins if what == "genes" else names, axis=1)
        for what, table in found.items()
    }
    stems = pd.Series([name[:-1] if name[-1] in "LR" else name.rstrip("0123456789") for name in names])
    shared = stems.duplicated(keep=False).to_numpy()
    return {**out, "classes": pd.Series(np.where(shared, stems, names), index=names, name="class")}


def fly_binding_pairs(data_dir: str | os.PathLike | None = None) -> pd.DataFrame:
    """Load pairs of fly proteins whose extracellular domains bind, as measured by Özkan et al. (2013).

    Parameters
    ----------
    data_dir
        As in :func:`rnamix`.

    Returns
    -------
    DataFrame with one row per pair: ``gene_1, gene_2``, the symbols of 2013; ``flybase_1, flybase_2``, gene ids for
    mapping to current symbols, empty where the authors give none; ``family_1, family_2, homophilic, novel``; and
    ``detected``, False for pairs known from the literature that the assay did not find.

    References
    ----------
    Özkan E et al. An extracellular interactome of immunoglobulin and LRR proteins reveals receptor-ligand networks.
    Cell 154:228 (2013).

    Examples
    --------
    >>> pairs = fly_binding_pairs()  # doctest: +SKIP
    >>> int((pairs["family_1"] == "Dpr").sum()) > 20  # doctest: +SKIP
    True
    """
    lines = fetch("fly_binding_pairs", "ozkan_tableS2.txt", data_dir=data_dir).read_text("ascii").splitlines()
    rows, detected = [], True
    for line in lines[1:]:
        cells = line.split("\t")
        if line.startswith("#Previously established"):
            detected = False
        if len(cells) >= 6 and not line.startswith("#"):
            rows.append([*cells[:6], detected])
    table = pd.DataFrame(rows, columns=["gene_1", "family_1", "gene_2", "family_2", "kind", "known", "detected"])
    clones = pd.read_csv(
        fetch("fly_binding_pairs", "ozkan_tableS1.txt", data_dir=data_dir), sep="\t", encoding="latin-1",
        keep_default_na=False,
    )  # fmt: skip
    ids = clones.drop_duplicates("Symbol").set_index("Symbol")["Flybase Gene ID"]
    return pd.DataFrame(
        {
            "gene_1": table["gene_1"], "gene_2": table["gene_2"],
            "flybase_1": table["gene_1"].map(ids).fillna(""), "flybase_2": table["gene_2"].map(ids).fillna(""),
            "family_1": table["family_1"], "family_2": table["family_2"],
            "homophilic": table["kind"] == "Homophilic", "novel": table["known"] == "Novel",
            "detected": table["detected"],
        }
    )  # fmt: skip
