"""``flda run --from-counts``: formats, thresholds, and errors that name the format."""

import gzip
import json

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import read_h5ad
from scipy.io import mmwrite

import flda
from flda.cli import main
from flda.cli._reading import from_counts, read_data

FACTORS = ["--factors", "dendrite", "axon"]


@pytest.fixture(scope="module")
def adata():
    adata = flda.datasets.t4t5_simulated(n_obs=240, n_vars=60)
    adata.X = adata.layers.pop("counts")
    adata.var_names = [f"MT-{g}" if i < 2 else g for i, g in enumerate(adata.var_names)]
    return adata


def write_10x(adata, path, version):
    X = sp.csr_matrix(adata.X)
    names = adata.var_names.to_numpy().astype("S")
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix" if version == 3 else "hg19")
        arrays = {"data": X.data, "indices": X.indices, "indptr": X.indptr, "shape": X.shape[::-1]}
        for name, values in {**arrays, "barcodes": adata.obs_names.to_numpy().astype("S")}.items():
            group[name] = values
        if version == 3:
            kinds = np.array(["Gene Expression"] * (len(names) - 1) + ["Antibody Capture"]).astype("S")
            for name, values in {"id": names, "name": names, "feature_type": kinds}.items():
                group[f"features/{name}"] = values
        else:
            group["gene_names"] = group["genes"] = names


def write_mtx(adata, folder, zipped):
    folder.mkdir()

    def opened(name):
        return gzip.open(folder / f"{name}.gz", "wb") if zipped else (folder / name).open("wb")

    with opened("matrix.mtx") as file:
        mmwrite(file, sp.coo_matrix(adata.X.T).astype(int))
    with opened("barcodes.tsv") as file:
        file.write("\n".join(adata.obs_names).encode())
    with opened("features.tsv" if zipped else "genes.tsv") as file:
        file.write("\n".join(f"id\t{g}" for g in adata.var_names).encode())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the readers of the newest anndata
def test_every_format_gives_the_same_counts(adata, tmp_path):
    write_10x(adata, tmp_path / "three.h5", 3)
    write_10x(adata, tmp_path / "two.h5", 2)
    write_mtx(adata, tmp_path / "zipped", True)
    write_mtx(adata, tmp_path / "plain", False)
    adata.write_h5ad(tmp_path / "x.h5ad")
    adata.write_zarr(tmp_path / "x.zarr")
    for name in ("three.h5", "two.h5", "zipped", "plain", "x.h5ad", "x.zarr"):
        found = read_data(tmp_path / name, counts=True)
        n = found.n_vars
        assert n == adata.n_vars - (name == "three.h5")  # only gene expression
        assert found.var_names.equals(adata.var_names[:n])
        assert found.obs_names.equals(adata.obs_names)
        np.testing.assert_array_equal(sp.csr_matrix(found.X).toarray(), adata.X.toarray()[:, :n])


def test_thresholds_and_normalisation(adata):
    counts = adata.X.toarray()
    detected = (counts > 0).sum(axis=1)
    percent = 100 * counts[:, :2].sum(axis=1) / counts.sum(axis=1)
    least, most = int(np.median(detected)), float(np.quantile(percent, 0.9))
    found, said = from_counts(adata, None, min_genes=least, min_cells=30, max_mito=most)
    cells = (detected >= least) & (percent <= most)
    genes = (counts[cells] > 0).sum(axis=0) >= 30
    assert 0 < cells.sum() < len(cells)
    assert 0 < genes.sum() < len(genes)
    assert found.obs_names.equals(adata.obs_names[cells])
    assert found.var_names.equals(adata.var_names[genes])
    kept = counts[cells][:, genes]
    expected = np.log1p(1e4 * kept / kept.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(found.X.toarray(), expected, rtol=1e-5)
    np.testing.assert_array_equal(found.layers["counts"].toarray(), kept)
    np.testing.assert_allclose(found.obs["total_counts"], counts[cells].sum(axis=1))
    np.testing.assert_allclose(found.obs["pct_counts_mt"], percent[cells])
    assert f"{cells.sum()} of 240 cells" in said[1]
    assert f"{genes.sum()} of 60 genes" in said[2]
    assert "layers" not in adata.uns
    np.testing.assert_array_equal(adata.X.toarray(), counts)


@pytest.mark.usefixtures("no_figures")
def test_run_from_10x_with_a_table_of_labels(adata, tmp_path, capsys):
    write_10x(adata, tmp_path / "x.h5", 3)
    adata.obs[["dendrite", "axon"]].to_csv(tmp_path / "labels.csv")
    out = tmp_path / "out"
    options = [
        *FACTORS,
        "--labels",
        tmp_path / "labels.csv",
        "--shrinkage",
        "0.5",
        "--n-genes",
        "3",
        "--interactions",
        "none",
        "--out",
        out,
    ]
    assert main(["run", *map(str, [tmp_path / "x.h5", *options])]) == 2
    assert "--from-counts" in capsys.readouterr().err
    assert main(["run", *map(str, [tmp_path / "x.h5", *options, "--from-counts", "--min-genes", "1"])]) == 0
    assert "of 240 cells" in capsys.readouterr().out
    assert any("of 240 cells" in line for line in json.loads((out / "summary.json").read_text())["from_counts"])
    result = read_h5ad(out / "result.h5ad")
    assert "counts" in result.layers
    assert result.uns["log1p"] is not None


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("x.loom", "read_loom"),
        ("x.csv", "read_csv"),
        ("x.csv.gz", "csv"),
        ("x.rds", "zellkonverter"),
        ("x.h5mu", "mudata"),
        ("x.mtx", "folder"),
        ("x.parquet", "parquet"),
        ("x.h5", "x.h5"),
        ("folder", "matrix.mtx"),
        ("half", "barcodes.tsv"),
        ("x.h5ad.gz", "gunzip"),
        ("x.tar", "tar -xf"),
        ("none.h5ad", "none.h5ad"),
    ],
)
def test_another_format_is_named(tmp_path, capsys, name, named):
    if name in ("folder", "half"):
        (tmp_path / name).mkdir()
    elif name != "none.h5ad":
        (tmp_path / name).write_text("x")
    if name == "half":
        (tmp_path / name / "matrix.mtx").write_text("x")
    assert main(["run", str(tmp_path / name), "--factors", "a", "--from-counts", "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert named in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--layer", "logs"], r"layers\['logs'\].*--layer"),
        (["--min-genes", "61"], "--min-genes"),
        (["--min-genes", "1", "--min-cells", "999"], "--min-cells"),
        (["--backed"], "--backed"),
        (["--labels", "{dir}/none.csv"], "none.csv"),
        (["--labels", "{dir}/other.csv"], "other.csv"),
    ],
)
def test_what_cannot_be_counted_is_named(adata, tmp_path, capsys, options, named):
    import re

    adata.copy().write_h5ad(tmp_path / "x.h5ad")
    with_logs = adata.copy()
    with_logs.layers["logs"] = with_logs.X.log1p()
    with_logs.write_h5ad(tmp_path / "x.h5ad")
    pd.DataFrame({"a": [1]}, index=["nobody"]).to_csv(tmp_path / "other.csv")
    options = [option.format(dir=tmp_path) for option in options]
    out = str(tmp_path / "out")
    assert main(["run", str(tmp_path / "x.h5ad"), *FACTORS, "--from-counts", "--out", out, *options]) == 2
    assert re.search(named, capsys.readouterr().err)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the readers of the newest anndata
def test_matrix_and_barcodes_of_two_runs(adata, tmp_path, capsys):
    write_mtx(adata, tmp_path / "one", zipped=False)
    names = (tmp_path / "one" / "barcodes.tsv").read_text().splitlines()
    (tmp_path / "one" / "barcodes.tsv").write_text("\n".join(names[:100]))
    assert main(["run", str(tmp_path / "one"), *FACTORS, "--from-counts", "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    for part in ("240 cells", "60 genes", "barcodes.tsv", "100"):
        assert part in err


@pytest.mark.parametrize("option", ["--n-genes", "--seed", "--stability", "--permutations", "--min-genes"])
@pytest.mark.parametrize("value", ["x", "-1", "1.5"])
def test_numbers_that_are_none_name_their_option(option, value, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["run", "x.h5ad", *FACTORS, option, value])
    assert ended.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert option in last
    assert repr(value) in last
