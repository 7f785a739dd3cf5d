"""Synapses of single T4 and T5 neurons, as features of the neurons."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from ._files import fetch


def t4t5_fib19_wiring(data_dir: str | os.PathLike | None = None) -> AnnData:
    """Load the synapses of 40 reconstructed T4 and T5 neurons: 2 dendrites x 4 axon layers, 5 neurons each.

    Neurons are rows, and every combination of direction, type of the partner and neuropil is a feature, with the number
    of synapses in ``X``. All effects of :func:`flda.tl.flda` can be estimated from the balanced table. Counts of strong
    partners have the largest variance; take roots or logarithms for weak partners to count, for example
    ``flda.tl.flda(adata, ["dendrite", "axon"], layer="sqrt")``.

    Parameters
    ----------
    data_dir
        As in :func:`rnamix`.

    Returns
    -------
    AnnData with the numbers of synapses in ``X``, their square roots in ``layers["sqrt"]``, ``log1p`` of them in
    ``layers["log1p"]``, and

    * ``obs``: ``type`` (T4a to T5d), ``dendrite`` (T4 or T5), ``axon`` (layer a to d) and ``name``; the index is the
      id of the neuron
    * ``var``: ``direction`` (``"inputs"`` or ``"outputs"``), ``partner``, ``neuropil`` (ME, LO, LOP or NotPrimary), and
      ``among``, whether the partner is a T4 or T5 itself
    * ``uns["connections"]``: all rows of the source, with the columns ``pre, pre_type, post, post_type, neuropil`` and
      ``weight``; the type of a partner without one is empty
    * ``uns["untyped"]``: share of the inputs and of the outputs whose partner has no type. They are not among the
      features.

    Raises
    ------
    FileNotFoundError, ValueError, OSError
        As :func:`fetch`.
    ImportError
        If rdata is not installed, which reads the file, or as :func:`fetch`.

    References
    ----------
    Yoo J et al. Brain wiring determinants uncovered by integrating connectomes and transcriptomes. Curr. Biol. 33:3998
    (2023).

    Shinomiya K et al. Comparisons between the ON- and OFF-edge motion pathways in the Drosophila brain. eLife 8:e40025
    (2019).

    Examples
    --------
    >>> adata = t4t5_fib19_wiring()  # doctest: +SKIP
    >>> adata.obs.groupby(["dendrite", "axon"], observed=True).size().unique().tolist()  # doctest: +SKIP
    [5]
    """
    source = _connections(fetch("t4t5_fib19_wiring", "con1.rds", data_dir=data_dir))
    seeds = pd.read_csv(
        fetch("t4t5_fib19_wiring", "seed0.txt", data_dir=data_dir), sep="\t", dtype={"bodyID": str}
    ).sort_values(["type", "bodyID"])
    ids = pd.Index(seeds["bodyID"], name="neuron")
    parts = []
    for direction, own, other in (("inputs", "post", "pre"), ("outputs", "pre", "post")):
        rows = source[source[own].isin(ids)]
        parts.append(
            pd.DataFrame(
                {
                    "neuron": rows[own], "direction": direction, "partner": rows[f"{other}_type"],
                    "neuropil": rows["neuropil"], "weight": rows["weight"],
                }
            )
        )  # fmt: skip
    synapses = pd.concat(parts, ignore_index=True)
    typed = synapses["partner"] != ""
    total, lost = (s.groupby("direction")["weight"].sum() for s in (synapses, synapses[~typed]))
    keys = ["direction", "partner", "neuropil"]
    table = synapses[typed].pivot_table(index="neuron", columns=keys, values="weight", aggfunc="sum", fill_value=0.0)
    table = table.reindex(ids).loc[:, lambda t: t.any()]
    var = table.columns.to_frame(index=False)
    var["among"] = var["partner"].str.match(r"T[45][a-d]?$")
    var.index = pd.Index([" ".join(column) for column in table.columns])
    obs = pd.DataFrame(
        {
            "type": pd.Categorical(seeds["type"]), "dendrite": pd.Categorical(seeds["type"].str[:2]),
            "axon": pd.Categorical(seeds["type"].str[2]), "name": seeds["instance"].to_numpy(),
        },
        index=pd.Index(ids.to_numpy(), dtype=str),
    )  # fmt: skip
    X = table.to_numpy(dtype=float)
    uns = {"connections": source, "untyped": {d: float(lost.get(d, 0.0) / total[d]) for d in total.index}}
    return AnnData(X, obs=obs, var=var, layers={"sqrt": np.sqrt(X), "log1p": np.log1p(X)}, uns=uns)


def _connections(path: Path) -> pd.DataFrame:
    try:
        import rdata
    except ImportError:
        raise ImportError(
            "reading the file of t4t5_fib19_wiring needs rdata; install it with: pip install 'flda[data]'"
        ) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rdata warns of encodings and classes of R, which make no difference here
        content = rdata.read_rds(path)
    columns = {
        "pre_bodyID": "pre", "pre_type": "pre_type", "post_bodyID": "post", "post_type": "post_type",
        "roi": "neuropil", "weight": "weight",
    }  # fmt: skip
    table = content[list(columns)].rename(columns=columns).reset_index(drop=True)
    for name in table.columns.drop("weight"):
        table[name] = table[name].astype(object).where(table[name].notna(), "").astype(str)
    table["weight"] = table["weight"].astype(float)
    return table[table["weight"] > 0].reset_index(drop=True)
