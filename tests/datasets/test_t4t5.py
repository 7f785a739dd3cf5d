"""Loaders of the GEO data on small files of the same format."""

import gzip
import json
import logging

import numpy as np
import pytest
import scipy.sparse as sp

from flda import cli, datasets
from flda.datasets import _files, _t4t5

SUBTYPES = [f"{d}{a}" for d in ("T4", "T5") for a in "abcd"]
PUBLISHED = {s: 3 + i for i, s in enumerate(SUBTYPES)}


def write(path, text):
    with gzip.open(path, "wt", encoding="ascii") as handle:
        handle.write(text)


def matrix_market(counts):
    """Genes x cells in the layout of Cell Ranger."""
    cells_genes = sp.csr_matrix(counts)
    lines = [
        f"{g + 1} {c + 1} {int(v)}"
        for c in range(cells_genes.shape[0])
        for g, v in zip(cells_genes[c].indices, cells_genes[c].data, strict=True)
    ]
    head = f"%%MatrixMarket matrix coordinate integer general\n%\n{counts.shape[1]} {counts.shape[0]} {len(lines)}\n"
    return head + "\n".join(lines) + "\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Manifests without checksums, and an empty data folder."""
    names = ("gse126139", "gse156455")
    real = {name: manifest for name, manifest in datasets.manifests().items() if name in names}
    (tmp_path / "manifests").mkdir()
    for name, manifest in real.items():
        for entry in manifest["files"]:
            entry["sha256"] = _files.UNKNOWN
        manifest["shape"] = [sum(PUBLISHED.values()) * (1 if name == "gse156455" else 2), None]
        manifest["groups"] = PUBLISHED
        (tmp_path / "manifests" / f"{name}.json").write_text(json.dumps(manifest))
    monkeypatch.setattr(_files, "_folder", lambda: tmp_path / "manifests")
    monkeypatch.setenv("FLDA_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(_t4t5, "LINES", 50)  # several blocks
    return tmp_path


def problem(seed, n_genes=20, n_others=15):
    rng = np.random.default_rng(seed)
    labels = [s for s, n in PUBLISHED.items() for _ in range(n)] + ["Mi1"] * n_others
    labels = np.array(labels)[rng.permutation(len(labels))]
    return labels, rng.poisson(0.7, size=(len(labels), n_genes)) + np.eye(len(labels), n_genes, dtype=int)


@pytest.fixture
def gse156455(folder):
    labels, counts = problem(0)
    barcodes = [f"BC{i:03d}-1_A" for i in range(len(labels))]
    times = np.where(np.arange(len(labels)) % 3 == 0, "24h", "48h")
    write(folder / "GSE156455_barcodes_main.tsv.gz", "\n".join(barcodes) + "\n")
    genes = [f"FBgn{g:07d}\tgene{g // 2}" for g in range(counts.shape[1])]  # symbols occur twice
    write(folder / "GSE156455_features_main.tsv.gz", "\n".join(genes) + "\n")
    write(folder / "GSE156455_matrix_main.mtx.gz", matrix_market(counts))
    rows = [f"{b}\tW1118\tA\t1\tw\t{t}\tN\tT4/T5\t{s}" for b, t, s in zip(barcodes, times, labels, strict=True)]
    head = "barcode\tset\trep\ttrep\tgenotype\ttime\tclass\ttype\tsubtype"
    write(folder / "GSE156455_metadata_main.tsv.gz", "\n".join([head, *rows[::-1]]) + "\n")  # in another order
    return folder, labels, counts, times, [head, *rows]


def test_atlas(gse156455):
    _, labels, counts, times, _ = gse156455
    adata = datasets.t4t5("gse156455")
    keep = labels != "Mi1"
    np.testing.assert_array_equal(adata.layers["counts"].toarray(), counts[keep])
    assert adata.obs["subtype"].astype(str).tolist() == labels[keep].tolist()
    assert adata.obs["time"].astype(str).tolist() == times[keep].tolist()
    assert (adata.obs["dendrite"].astype(str) + adata.obs["axon"].astype(str)).tolist() == labels[keep].tolist()
    assert set(adata.obs.loc[adata.obs["axon"] == "b", "axon_ab_cd"]) == {"ab"}
    assert set(adata.obs.loc[adata.obs["axon"] == "d", "axon_bc_ad"]) == {"ad"}
    assert set(adata.obs["donor"]) == {"W1118_w_A"}
    assert adata.var_names.is_unique
    assert adata.var["gene_id"].iloc[3] == "FBgn0000003"
    np.testing.assert_allclose(np.expm1(adata.X.toarray()).sum(axis=1), 1e4, rtol=1e-5)
    part = datasets.t4t5("gse156455", time="48h")
    assert part.n_obs == (keep & (times == "48h")).sum()
    assert list(part.obs["time"].cat.categories) == ["48h"]
    with pytest.raises(ValueError, match=r"'30h'.*24h, 48h"):
        datasets.t4t5("gse156455", time="30h")


def test_it_equals_the_whole_matrix_read_at_once(gse156455):
    folder, labels, *_ = gse156455
    with gzip.open(folder / "GSE156455_matrix_main.mtx.gz") as handle:
        genes, cells, values = np.loadtxt(handle, skiprows=3).T
    shape = (len(labels), int(genes.max()))
    whole = sp.csr_matrix((values, (cells.astype(int) - 1, genes.astype(int) - 1)), shape=shape)
    assert (datasets.t4t5("gse156455").layers["counts"] != whole[labels != "Mi1"]).nnz == 0


def test_it_survives_a_file(gse156455, tmp_path):
    adata = datasets.t4t5("gse156455")
    adata.write_h5ad(tmp_path / "t4t5.h5ad")


def test_metadata_with_row_names(gse156455):
    folder, labels, _, _, rows = gse156455
    write(folder / "GSE156455_metadata_main.tsv.gz", "\n".join([rows[0].removeprefix("barcode\t"), *rows[1:]]) + "\n")
    assert datasets.t4t5("gse156455").n_obs == (labels != "Mi1").sum()


def test_labels_of_before_the_correction_are_refused(gse156455):
    folder, _, _, _, rows = gse156455
    swap = {"T4c": "T4d", "T4d": "T4c"}
    old = [r.rpartition("\t")[0] + "\t" + swap.get(r.rpartition("\t")[2], r.rpartition("\t")[2]) for r in rows]
    write(folder / "GSE156455_metadata_main.tsv.gz", "\n".join(old) + "\n")
    (folder / "GSE156455_matrix_main.mtx.gz").unlink()  # found out before the long download
    with pytest.raises(ValueError, match=r"metadata_main\.tsv\.gz.*T4c and T4d"):
        datasets.t4t5("gse156455")


def test_the_checksum_says_so_too(gse156455):
    manifest = json.loads((gse156455[0] / "manifests" / "gse156455.json").read_text())
    manifest["files"][1]["sha256"] = "0" * 64
    (gse156455[0] / "manifests" / "gse156455.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"metadata_main\.tsv\.gz.*T4c and T4d"):
        datasets.t4t5("gse156455")


def test_other_labels_are_refused(gse156455):
    folder, _, _, _, rows = gse156455
    write(folder / "GSE156455_metadata_main.tsv.gz", "\n".join(rows).replace("T5a", "T5b") + "\n")
    with pytest.raises(ValueError, match=r"metadata_main\.tsv\.gz.*T4a to T5d"):
        datasets.t4t5("gse156455")
    write(folder / "GSE156455_metadata_main.tsv.gz", "\n".join(rows).replace("T5a", "T5b", 1) + "\n")
    with pytest.raises(ValueError, match="6 T5a instead of 7, 9 T5b instead of 8"):
        datasets.t4t5("gse156455")
    write(folder / "GSE156455_metadata_main.tsv.gz", "\n".join(rows).replace("BC", "XX") + "\n")
    with pytest.raises(ValueError, match=r"metadata_main\.tsv\.gz.*barcodes"):
        datasets.t4t5("gse156455")


def test_a_broken_matrix_is_named(gse156455):
    path = gse156455[0] / "GSE156455_matrix_main.mtx.gz"
    whole = path.read_bytes()
    text = gzip.decompress(whole).decode()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"matrix_main\.mtx\.gz"):
        datasets.t4t5("gse156455")
    write(path, text.rpartition("\n")[0].rpartition("\n")[0] + "\n")
    with pytest.raises(ValueError, match=r"matrix_main\.mtx\.gz has [\d,]+ of [\d,]+ counts"):
        datasets.t4t5("gse156455")
    write(path, "gene,cell\n")
    with pytest.raises(ValueError, match="'gene,cell"):
        datasets.t4t5("gse156455")
    write(path, text.replace("\n20 ", "\n21 ", 1))
    with pytest.raises(ValueError, match=r"matrix_main\.mtx\.gz.* 21 .* 67 .* 20 .* 67"):
        datasets.t4t5("gse156455")
    path.write_bytes(b"<html>")
    with pytest.raises(ValueError, match=r"matrix_main\.mtx\.gz"):
        datasets.t4t5("gse156455")


@pytest.fixture
def gse126139(folder):
    truth = {}
    for seed, time in enumerate(("24h", "48h")):
        labels, counts = problem(seed, n_genes=12 + seed)
        labels = np.where(labels == "Mi1", "filtered", labels)
        barcodes = [f"{time}AC{i:03d}" for i in range(len(labels))]
        prefix = _t4t5.SAMPLES[time]
        # one of the two has the number of the lane
        write(folder / f"{prefix}_barcodes.tsv.gz", "\n".join(f"{b}-1" if seed else b for b in barcodes) + "\n")
        write(folder / f"{prefix}_genes.tsv.gz", "".join(f"FBgn{g:02d}\tgene{g}\n" for g in range(counts.shape[1])))
        write(folder / f"{prefix}_matrix.mtx.gz", matrix_market(counts))
        listed = [f"{b}-1\t{s}" for b, s in zip(barcodes, labels, strict=True)][:-1]  # one cell is not listed
        listed.append(f"{barcodes[-1]}-1\t{labels[-1]}" if labels[-1] != "filtered" else "other\tT4a")
        write(folder / _t4t5.LABELS[time], "\n".join(listed) + "\n")
        truth[time] = (labels, counts)
    return folder, truth


def test_two_samples(gse126139, caplog):
    with caplog.at_level(logging.INFO, "flda"):
        adata = datasets.t4t5("gse126139")
    assert "14 cells (filtered), 1 cells (no label)" in caplog.text
    labels, counts = gse126139[1]["48h"]
    in_order = [f"gene{g}" for g in range(13)]
    late = adata[adata.obs["time"] == "48h"]
    np.testing.assert_array_equal(late[:, in_order].layers["counts"].toarray(), counts[labels != "filtered"])
    assert late.obs["subtype"].astype(str).tolist() == labels[labels != "filtered"].tolist()
    early = adata[adata.obs["time"] == "24h"]
    assert adata.shape == (2 * sum(PUBLISHED.values()), 13)
    assert early[:, "gene12"].layers["counts"].sum() == 0  # a gene that only one sample has
    assert adata.obs_names.is_unique
    assert datasets.t4t5(time=["48h"]).n_obs == len(late)
    with pytest.raises(ValueError, match=r"'96h'.*24h, 48h"):
        datasets.t4t5(time="96h")


def test_labels_that_do_not_fit(gse126139):
    path = gse126139[0] / _t4t5.LABELS["24h"]
    write(path, "24hAC000\tcluster 1\n24hAC001\tcluster 2\n")
    with pytest.raises(ValueError, match=r"clust24\.txt\.gz.*'cluster 1'"):
        datasets.t4t5()
    write(path, "24hAC000\n")
    with pytest.raises(ValueError, match=r"clust24\.txt\.gz"):
        datasets.t4t5()


def test_another_version(gse126139):
    path = gse126139[0] / _t4t5.LABELS["24h"]
    write(path, gzip.decompress(path.read_bytes()).decode().replace("T4a", "filtered", 1))
    with pytest.raises(ValueError, match=r"gse126139.* 103 .* 104"):
        datasets.t4t5()


def test_unknown_source():
    with pytest.raises(ValueError, match="'gse1'"):
        datasets.t4t5("gse1")


def test_the_simulation_has_the_same_columns(gse126139):
    simulated = datasets.t4t5_simulated(n_obs=50, n_vars=50)
    real = datasets.t4t5()
    shared = ["dendrite", "axon", "axon_ab_cd", "axon_bc_ad", "subtype"]
    for column in shared:
        assert list(real.obs[column].cat.categories) == list(simulated.obs[column].cat.categories)


def test_verify_says_what_to_expect_and_what_is_there(gse156455, capsys):
    assert cli.main(["datasets", "verify", "gse156455"]) == 0
    said = capsys.readouterr().out
    assert "T4, T5" in said
    assert "found" not in said
    assert cli.main(["datasets", "verify", "gse156455", "--load"]) == 0
    table = datasets.expected("gse156455", load=True).set_index("what")
    assert table.loc["cells with subtype T5a", "found"] == str(PUBLISHED["T5a"])
    assert (table.drop(index="genes")["status"] == "same").all()
    file = gse156455[0] / "manifests" / "gse156455.json"
    manifest = json.loads(file.read_text())
    file.write_text(json.dumps({**manifest, "levels": {"axon": ["a", "b", "c"]}}))
    capsys.readouterr()
    assert cli.main(["datasets", "verify", "gse156455", "--load"]) == 2
    assert "levels of axon" in capsys.readouterr().err


def test_what_was_published_of_the_data_of_the_paper():
    table = datasets.expected("gse126139").set_index("what")["expected"]
    assert table["cells"] == "6,628"
    assert table["cells with time 24h"] == "3,071"
    assert table["levels of axon"] == "a, b, c, d"
    with pytest.raises(ValueError, match="'nowhere'"):
        datasets.expected("nowhere")
