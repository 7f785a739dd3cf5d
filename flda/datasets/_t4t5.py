"""Single-cell RNA-seq of the fly's T4 and T5 neurons during development, from GEO."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from .._logging import get_logger
from .._progress import progress
from ._common import axon_halves, from_counts
from ._files import fetch, manifests

logger = get_logger(__name__)

SUBTYPES = [f"{dendrite}{axon}" for dendrite in ("T4", "T5") for axon in "abcd"]
SAMPLES = {"24h": "GSM3592259_T4T5_24", "48h": "GSM3592260_T4T5_48"}
LABELS = {"24h": "GSM3592259_clust24.txt.gz", "48h": "GSM3592260_clust48.txt.gz"}
LINES = 4_000_000  # lines of a matrix file that are read at a time


def t4t5(
    source: Literal["gse126139", "gse156455"] = "gse126139",
    *,
    time: str | Sequence[str] | None = None,
    data_dir: str | os.PathLike | None = None,
) -> AnnData:
    """Load real T4 and T5 neurons of the fly: dendrite (T4, T5) x axon (a, b, c, d), at one or several times.

    ``"gse126139"``, the data of the FLDA paper, has 6,628 cells at 24 and 48 hours after puparium formation (tens of
    megabytes). ``"gse156455"`` has 18,305 T4 and T5 cells at all times from 24 to 96 hours, among 193,727 of the whole
    optic lobe; its matrix (1.05 GB) is read in blocks and only T4 and T5 cells are kept. Labels of ``"gse156455"`` from
    before 2020-11-04 are refused because T4c and T4d are exchanged in them.

    This loader has been tested on small files of the same format, not on the published files. It compares the number of
    cells with the published number. :func:`t4t5_simulated` has the same columns and needs no download.

    Parameters
    ----------
    source
        GEO accession.
    time
        Times to keep, such as ``"48h"``. None keeps all.
    data_dir
        As in :func:`rnamix`.

    Returns
    -------
    AnnData with log1p of counts per 10,000 in ``X``, ``layers["counts"]``, ``var["gene_id"]`` and in ``obs``

    * ``dendrite, axon, subtype, time``: categorical labels
    * ``axon_ab_cd, axon_bc_ad``: the layer of the axon as two binary factors
    * for ``"gse156455"`` only: ``set, rep, trep, genotype`` as published, and ``donor``, which combines set, genotype
      and rep and is the smallest pool of flies that the labels distinguish

    Raises
    ------
    ValueError
        For an unknown source or time, a damaged file, or labels that are not the published ones.
    FileNotFoundError, ImportError, OSError
        As :func:`fetch`.

    References
    ----------
    Kurmangaliyev YZ et al. Modular transcriptional programs separately define axon and dendrite connectivity. eLife
    8:e50822 (2019), GSE126139. Kurmangaliyev YZ et al. Transcriptional programs of circuit assembly in the Drosophila
    visual system. Neuron 108:1045 (2020), GSE156455.

    Examples
    --------
    >>> adata = t4t5(time="48h")  # doctest: +SKIP
    >>> adata.n_obs  # doctest: +SKIP
    3557
    """
    if source not in ("gse126139", "gse156455"):
        raise ValueError(f"source={source!r} is unknown; use 'gse126139' or 'gse156455'.")
    manifest = manifests()[source]
    times = [time] if isinstance(time, str) else time or None
    counts = _gse126139(times, data_dir) if source == "gse126139" else _gse156455(times, data_dir, manifest)
    if times is None and counts.n_obs != manifest["shape"][0]:
        raise ValueError(
            f"the files of {source} have {counts.n_obs:,} T4 and T5 cells, but {manifest['shape'][0]:,} were "
            "published; remove the files and fetch them again."
        )
    subtype = counts.obs.pop("subtype").astype(str).to_numpy()
    axon = pd.Categorical([s[2] for s in subtype], categories=list("abcd"))
    first = pd.DataFrame(
        {
            "dendrite": pd.Categorical([s[:2] for s in subtype], categories=["T4", "T5"]),
            "axon": axon,
            **axon_halves(axon),
            "subtype": pd.Categorical(subtype, categories=SUBTYPES),
        },
        index=counts.obs_names,
    )
    found = counts.obs.pop("time").astype(str)
    first["time"] = pd.Categorical(found, categories=sorted(set(found), key=_hours))
    return from_counts(sp.csr_matrix(counts.X), pd.concat([first, counts.obs], axis=1), counts.var)


def _gse126139(times: Sequence[str] | None, data_dir: str | os.PathLike | None) -> AnnData:
    """Counts of the kept cells of both samples, with ``subtype`` and ``time``."""
    _check_times(times, list(SAMPLES), "gse126139")
    parts = []
    for time in times or SAMPLES:
        paths = {
            what: fetch("gse126139", f"{SAMPLES[time]}_{what}.gz", data_dir=data_dir)
            for what in ("matrix.mtx", "barcodes.tsv", "genes.tsv")
        }
        label_file = fetch("gse126139", LABELS[time], data_dir=data_dir)
        labels = _table(label_file, header=None)
        if labels.shape[1] < 2:
            raise ValueError(f"{label_file} has {labels.shape[1]} column, but needs two: barcode and cluster.")
        cluster = pd.Series(labels.iloc[:, 1].to_numpy(), index=_bare(labels.iloc[:, 0]))
        barcodes = _bare(_table(paths["barcodes.tsv"], header=None).iloc[:, 0])
        subtype = cluster[~cluster.index.duplicated()].reindex(barcodes)
        keep = subtype.isin(SUBTYPES).to_numpy()
        if not keep.any():
            raise ValueError(
                f"{label_file} gives no cell of {paths['barcodes.tsv'].name} a label from {SUBTYPES[0]} to "
                f"{SUBTYPES[-1]}; its labels are {sorted(map(str, cluster.unique()))[:12]}."
            )
        others = subtype[~keep].fillna("no label").value_counts()
        logger.info(
            "t4t5 at %s leaves out %s", time, ", ".join(f"{n:,} cells ({label})" for label, n in others.items())
        )
        var = _genes(paths["genes.tsv"])
        X = _columns(paths["matrix.mtx"], len(var), len(barcodes), keep)
        obs = pd.DataFrame({"subtype": subtype[keep].to_numpy(), "time": time})
        obs.index = [f"{time}_{barcode}" for barcode in barcodes[keep]]
        parts.append(AnnData(X, obs=obs, var=var))
    return parts[0] if len(parts) == 1 else anndata.concat(parts, join="outer", fill_value=0, merge="first")


def _gse156455(times: Sequence[str] | None, data_dir: str | os.PathLike | None, manifest: dict) -> AnnData:
    """Counts of the T4 and T5 cells, with ``subtype``, ``time`` and the published columns of their origin."""

    def path(what: str) -> Path:
        return fetch("gse156455", f"GSE156455_{what}.gz", data_dir=data_dir)

    labels = path("metadata_main.tsv")  # labels are checked before the long download of the matrix
    barcodes = pd.Index(_table(path("barcodes_main.tsv"), header=None).iloc[:, 0].to_numpy())
    obs = _metadata(labels, barcodes)
    _check_labels(obs["subtype"], manifest["groups"], labels)
    keep = obs["subtype"].isin(SUBTYPES).to_numpy()
    _check_times(times, sorted(set(obs.loc[keep, "time"]), key=_hours), "gse156455")
    if times is not None:
        keep = keep & obs["time"].isin(list(times)).to_numpy()
    var = _genes(path("features_main.tsv"))
    X = _columns(path("matrix_main.mtx"), len(var), len(barcodes), keep)
    obs = obs.loc[keep]
    obs["donor"] = obs["set"] + "_" + obs["genotype"] + "_" + obs["rep"]
    return AnnData(X, obs=obs.astype({c: "category" for c in obs if c not in ("subtype", "time")}), var=var)


def _metadata(path: Path, barcodes: pd.Index) -> pd.DataFrame:
    """Labels of the cells in the order of the matrix: ``subtype, time, set, rep, trep, genotype``."""
    table = _table(path, header=0)
    known = set(barcodes)
    if not isinstance(table.index, pd.RangeIndex) and set(table.index) <= known:
        pass
    elif (column := next((c for c in table if set(table[c]) <= known), None)) is not None:
        table = table.set_index(column)
    else:
        raise ValueError(f"{path} has no column with the barcodes of the matrix; its columns are {list(table)}.")
    wanted = ["time", "set", "rep", "trep", "genotype"]
    labels = next((c for c in ("subtype", "type") if c in table and set(SUBTYPES) <= set(table[c])), None)
    if labels is None or not set(wanted) <= set(table):
        raise ValueError(
            f"{path} needs a column with the labels T4a to T5d and the columns {wanted}; its columns are {list(table)}."
        )
    table = table[~table.index.duplicated()].reindex(barcodes)
    hours = table["time"].str.extract(r"(\d+)")[0] + "h"
    return table[wanted].assign(subtype=table[labels], time=hours)


def _check_times(wanted: Sequence[str] | None, known: Sequence[str], source: str) -> None:
    for time in wanted or ():
        if time not in known:
            raise ValueError(f"{source} has no cells at time {time!r}; use one of {', '.join(known)}.")


def _check_labels(subtype: pd.Series, published: dict[str, int], path: Path) -> None:
    """Refuse labels other than the published ones, with a message of its own for those from before the correction."""
    found = {name: int((subtype == name).sum()) for name in published}
    if (found["T4c"], found["T4d"]) == (published["T4d"], published["T4c"]):
        raise ValueError(
            f"{path} is from before 2020-11-04, with T4c and T4d exchanged. Remove the file and fetch it again."
        )
    if wrong := [f"{found[s]} {s} instead of {published[s]}" for s in published if found[s] != published[s]]:
        raise ValueError(f"{path} does not have the published labels: {', '.join(wrong)}.")


def _columns(path: Path, n_genes: int, n_cells: int, keep: np.ndarray) -> sp.csr_matrix:
    """Read the kept cells (rows) and all genes of a Matrix Market file of genes x cells, in blocks of lines."""
    row_of = np.full(n_cells, -1, dtype=np.int32)
    row_of[keep] = np.arange(keep.sum(), dtype=np.int32)
    parts: list[pd.DataFrame] = []
    seen = 0
    try:
        with gzip.open(path, "rt", encoding="ascii") as handle:
            line = handle.readline()
            if not re.match(r"%%MatrixMarket matrix coordinate (integer|real) general", line):
                raise ValueError(f"{path} is not a Matrix Market file of counts; it begins with {line[:60]!r}.")
            while line.startswith("%"):
                line = handle.readline()
            shape = [int(n) for n in line.split()]
            if shape[:2] != [n_genes, n_cells]:
                raise ValueError(
                    f"{path} is a matrix of {shape[0]:,} genes x {shape[1]:,} cells, but the files of genes and "
                    f"barcodes list {n_genes:,} and {n_cells:,}."
                )
            blocks = pd.read_csv(
                handle, sep=" ", header=None, names=["gene", "cell", "count"], chunksize=LINES,
                dtype={"gene": np.int32, "cell": np.int32, "count": np.float32},
            )  # fmt: skip
            for block in progress(blocks, desc=path.name, total=-(-shape[2] // LINES)):
                seen += len(block)
                rows = row_of[block["cell"].to_numpy() - 1]
                parts.append(block.assign(cell=rows)[rows >= 0])
    except (EOFError, OSError, zlib.error, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{path} is damaged or incomplete ({error}); remove it and fetch it again.") from None
    if seen != shape[2]:
        raise ValueError(f"{path} has {seen:,} of {shape[2]:,} counts; remove it and fetch it again.")
    kept = pd.concat(parts)
    ij = (kept["cell"].to_numpy(), kept["gene"].to_numpy() - 1)
    return sp.coo_matrix((kept["count"].to_numpy(), ij), shape=(int(keep.sum()), n_genes)).tocsr()


def _genes(path: Path) -> pd.DataFrame:
    """Read genes: symbols, made unique, as index, and ids in a column. A file with one column has symbols only."""
    table = _table(path, header=None)
    symbols = pd.Index(table.iloc[:, 1 if table.shape[1] > 1 else 0].to_numpy(str), dtype=object)
    return pd.DataFrame({"gene_id": table.iloc[:, 0].to_numpy()}, index=anndata.utils.make_index_unique(symbols))


def _bare(barcodes: pd.Series) -> pd.Index:
    """Barcodes without the number of the lane, which only some of the files have."""
    return pd.Index(barcodes.astype(str).str.replace(r"-\d+$", "", regex=True))


def _table(path: Path, *, header: int | None) -> pd.DataFrame:
    try:
        return pd.read_csv(path, sep="\t", header=header, dtype=str, compression="gzip")
    except (EOFError, OSError, zlib.error, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{path} is damaged or incomplete ({error}); remove it and fetch it again.") from None


def _hours(time: str) -> int:
    return int(time.removesuffix("h"))
