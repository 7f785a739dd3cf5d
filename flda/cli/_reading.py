"""Data files of the command line: log-normalised h5ad and zarr, and counts in the formats of 10x Genomics."""

from __future__ import annotations

import gzip
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData, read_h5ad, read_zarr
from scipy.io import mmread

from .._adata import read
from .._data.log_normalise import TARGET_SUM, log_normalise
from ._folder import UsageError

FORMATS = "flda reads h5ad and zarr and, with --from-counts, also 10x .h5 files and folders with matrix.mtx"
OTHERS = {  # what to do with other formats
    ".loom": "anndata.io.read_loom(FILE).write_h5ad('cells.h5ad') converts it",
    ".csv": "anndata.io.read_csv(FILE).write_h5ad('cells.h5ad') converts it",
    ".tsv": "anndata.io.read_text(FILE).write_h5ad('cells.h5ad') converts it",
    ".txt": "anndata.io.read_text(FILE).write_h5ad('cells.h5ad') converts it",
    ".xlsx": "anndata.io.read_excel(FILE, sheet).write_h5ad('cells.h5ad') converts it",
    ".mtx": "name its folder, which also holds barcodes.tsv and features.tsv, with --from-counts",
    ".rds": "zellkonverter::writeH5AD(sce, 'cells.h5ad') converts it in R",
    ".rda": "zellkonverter::writeH5AD(sce, 'cells.h5ad') converts it in R",
    ".h5seurat": "SeuratDisk::Convert(FILE, dest = 'h5ad') converts it in R",
    ".h5mu": "mudata.read(FILE)['rna'].write_h5ad('cells.h5ad') takes the RNA out of it",
    ".parquet": "anndata.AnnData(pandas.read_parquet(FILE)).write_h5ad('cells.h5ad') converts it",
}
PACKED = {".gz": "gunzip", ".bz2": "bunzip2", ".xz": "unxz", ".zip": "unzip", ".tar": "tar -xf", ".tgz": "tar -xf"}
MITOCHONDRIAL = ("MT-", "mt-", "Mt-")


def read_data(path: Path, *, counts: bool = False, backed: bool = False, labels: Path | None = None) -> AnnData:
    """Read a data file or folder of any format that flda knows; an error names the format and what to do.

    Parameters
    ----------
    path
        An h5ad file or a zarr folder; with ``counts``, also a 10x .h5 file or a folder with ``matrix.mtx``.
    counts
        Whether formats that hold counts only are read.
    backed
        Leave the matrix of an h5ad file on disk.
    labels
        A CSV or TSV file whose first column has names of cells; its other columns go into ``obs``.
    """
    if not path.exists():
        raise UsageError(f"there is no file {path}")
    suffix = path.suffix.lower()
    if suffix in PACKED and not path.is_dir():
        inner = Path(path.stem).suffix.lower()
        if inner not in OTHERS:
            raise UsageError(f"{path} is compressed; unpack it first, for example with {PACKED[suffix]} {path}")
        suffix = inner
    of_counts = _is_10x(path) or (path.is_dir() and _part(path, "matrix.mtx") is not None)
    if of_counts and not counts:
        raise UsageError(f"{path} holds raw counts; add --from-counts to filter and normalise them")
    if suffix in OTHERS and not path.is_dir():
        raise UsageError(f"{path} is a {suffix[1:]} file; {FORMATS}; {OTHERS[suffix]}")
    try:
        if of_counts:
            adata = _read_mtx(path) if path.is_dir() else _read_10x(path)
        elif path.is_dir():
            if not any((path / name).exists() for name in (".zgroup", ".zattrs", "zarr.json")):
                raise UsageError(f"{path} is a folder without zarr data and without matrix.mtx; {FORMATS}")
            adata = read_zarr(path)
        else:
            adata = read_h5ad(path, backed="r" if backed else None)
    except (KeyboardInterrupt, UsageError):
        raise
    except Exception as error:  # noqa: BLE001  h5py and anndata raise many kinds for a broken file
        raise UsageError(
            f"cannot read {path}; it is damaged or of another format ({type(error).__name__}); {FORMATS}"
        ) from None
    if labels is not None:
        _add_labels(adata, labels)
    return adata


def from_counts(
    adata: AnnData, layer: str | None, *, min_genes: int, min_cells: int, max_mito: float
) -> tuple[AnnData, list[str]]:
    """Filter cells and genes by counts, scale every cell to 10,000 counts and take ``log1p``.

    Parameters
    ----------
    adata
        With counts in ``X``, or in ``layer``; without either in ``layers["counts"]``.
    layer
        Layer with the counts.
    min_genes, min_cells, max_mito
        Thresholds: detected genes of a cell, cells in which a gene is detected, and percent of a cell's counts that may
        come from mitochondrial genes.

    Returns
    -------
    A new AnnData with expression in ``X``, counts in ``layers["counts"]`` and what was measured in ``obs``; and
    sentences that say what was done.
    """
    read.check_gene_names(adata)
    name, X = _counts(adata, layer)
    detected = np.diff(X.indptr)
    total = np.asarray(X.sum(axis=1), dtype=float).ravel()
    mito = adata.var_names.str.startswith(MITOCHONDRIAL)
    percent = 100 * np.asarray(X[:, mito].sum(axis=1), dtype=float).ravel() / np.maximum(total, 1)
    cells = (detected >= max(min_genes, 1)) & (percent <= max_mito)
    if not cells.any():
        raise UsageError(
            f"no cell has {min_genes} detected genes and at most {max_mito:g} % mitochondrial counts; the median cell "
            f"has {np.median(detected):.0f} and {np.median(percent):.1f} %; change --min-genes or --max-mito"
        )
    genes = np.bincount(X[cells].indices, minlength=X.shape[1]) >= min_cells
    if not genes.any():
        raise UsageError(f"no gene is detected in {min_cells} cells; lower --min-cells")
    kept = X[cells][:, genes].astype(np.float32)
    obs = read.in_memory(adata.obs)[cells].copy()
    obs["total_counts"], obs["n_genes_by_counts"], obs["pct_counts_mt"] = total[cells], detected[cells], percent[cells]
    out = AnnData(log_normalise(kept), obs, read.in_memory(adata.var)[genes].copy(), layers={"counts": kept})
    read.set_log_base(out, None)
    said = [
        f"counts are from {name}",
        f"kept {cells.sum():,} of {len(cells):,} cells: at least {min_genes} detected genes and at most {max_mito:g} % "
        f"mitochondrial counts ({mito.sum()} such genes were found by name)",
        f"kept {genes.sum():,} of {len(genes):,} genes: detected in at least {min_cells} of these cells",
        f"scaled every cell to {TARGET_SUM:,.0f} counts and took log1p; doublets and ambient RNA were not removed",
    ]
    return out, said


def _counts(adata: AnnData, layer: str | None) -> tuple[str, sp.csr_matrix]:
    """The counts, and where they are."""
    tried = [layer] if layer is not None else [None, *(["counts"] if "counts" in adata.layers else [])]
    bad = ""
    for each in tried:
        X = read.checked_expression(adata, each)
        X = sp.csr_matrix(X)
        X.sum_duplicates()
        X.eliminate_zeros()
        wrong = np.flatnonzero(~((X.data >= 0) & (X.data == np.floor(X.data)) & np.isfinite(X.data)))
        if len(wrong) == 0:
            return read.matrix_name(each), X
        row = int(np.searchsorted(X.indptr, wrong[0], side="right") - 1)
        gene, cell = adata.var_names[X.indices[wrong[0]]], adata.obs_names[row]
        bad = bad or f"{read.matrix_name(each)} holds {X.data[wrong[0]]:g} for gene {gene!r} in cell {cell!r}"
    raise UsageError(f"{bad}, which is no count; name the layer of the counts with --layer, or leave out --from-counts")


def _is_10x(path: Path) -> bool:
    if path.suffix.lower() not in (".h5", ".hdf5") or path.is_dir():
        return False
    try:
        with h5py.File(path) as file:
            return "matrix" in file or any("gene_names" in group for group in file.values() if hasattr(group, "keys"))
    except OSError:
        return False


def _read_10x(path: Path) -> AnnData:
    """A .h5 file of Cell Ranger, version 3 or 2; only gene expression is kept."""
    with h5py.File(path) as file:
        group = file["matrix"] if "matrix" in file else next(iter(file.values()))
        parts = tuple(group[name][:] for name in ("data", "indices", "indptr"))
        n_genes, n_cells = group["shape"][:]
        cells = _text(group["barcodes"])
        if "features" in group:
            features = group["features"]
            names, ids, kinds = (_text(features[n]) for n in ("name", "id", "feature_type"))
        else:
            names, ids, kinds = _text(group["gene_names"]), _text(group["genes"]), None
    X = sp.csr_matrix(parts, shape=(n_cells, n_genes))
    return _genes_only(X, cells, names, ids, kinds)


def _read_mtx(folder: Path) -> AnnData:
    """A folder of Cell Ranger with matrix.mtx, barcodes.tsv and features.tsv or genes.tsv, each perhaps gzipped."""
    barcodes, features = _part(folder, "barcodes.tsv"), _part(folder, "features.tsv") or _part(folder, "genes.tsv")
    if barcodes is None or features is None:
        missing = "barcodes.tsv" if barcodes is None else "features.tsv"
        raise UsageError(f"{folder} holds matrix.mtx but no {missing}")
    matrix = _part(folder, "matrix.mtx")
    assert matrix is not None
    with gzip.open(matrix) if matrix.suffix == ".gz" else matrix.open("rb") as file:
        X = sp.csr_matrix(mmread(file).T)
    cells = pd.read_csv(barcodes, sep="\t", header=None, dtype=str)[0].to_numpy()
    table = pd.read_csv(features, sep="\t", header=None, dtype=str)
    kinds = table[2].to_numpy() if table.shape[1] > 2 else None
    if X.shape != (len(cells), len(table)):
        raise UsageError(
            f"{folder}: matrix.mtx has {X.shape[0]} cells and {X.shape[1]} genes, but {barcodes.name} names "
            f"{len(cells)} and {features.name} {len(table)}; take files of one run"
        )
    return _genes_only(X, cells, table[min(1, table.shape[1] - 1)].to_numpy(), table[0].to_numpy(), kinds)


def _genes_only(
    X: sp.csr_matrix, cells: np.ndarray, names: np.ndarray, ids: np.ndarray, kinds: np.ndarray | None
) -> AnnData:
    adata = AnnData(X, pd.DataFrame(index=cells.astype(str)), pd.DataFrame({"gene_ids": ids}, index=names.astype(str)))
    if kinds is not None:
        adata = adata[:, kinds == "Gene Expression"].copy()
    if not adata.var_names.is_unique:
        adata.var_names_make_unique()
    return adata


def _part(folder: Path, name: str) -> Path | None:
    found = [p for p in (folder / name, folder / f"{name}.gz") if p.is_file()]
    return found[0] if found else None


def _text(values: h5py.Dataset) -> np.ndarray:
    return np.array([v.decode() if isinstance(v, bytes) else str(v) for v in values[:]], dtype=object)


def _add_labels(adata: AnnData, path: Path) -> None:
    """Join a table of labels to the cells by name."""
    if not path.is_file():
        raise UsageError(f"there is no file {path} for --labels")
    table = pd.read_csv(path, sep=None, engine="python", index_col=0)
    table.index = table.index.astype(str)
    if table.index.has_duplicates:
        raise UsageError(f"{path} names the cell {table.index[table.index.duplicated()][0]!r} twice")
    found = adata.obs_names.isin(table.index)
    if not found.any():
        raise UsageError(
            f"none of the cells {', '.join(map(repr, adata.obs_names[:2]))}, ... is in the first column of {path} "
            f"({', '.join(map(repr, table.index[:2]))}, ...)"
        )
    for column in table:
        values = table[column].reindex(adata.obs_names)
        adata.obs[str(column)] = values.astype("category") if values.dtype == object else values
