import json
import os
import shutil
from pathlib import Path
from urllib.parse import unquote

import fastjsonschema
import numpy as np
import pytest

from flda import datasets


def test_simulation_is_reproducible_and_as_documented():
    a, b = (datasets.t4t5_simulated(n_obs=500, n_vars=1000) for _ in range(2))
    assert (a.X != b.X).nnz == 0
    assert (a.X != datasets.t4t5_simulated(500, 1000, random_state=1).X).nnz > 0
    assert a.obs["subtype"].value_counts().nunique() > 1
    truth = a.var[["truth_dendrite", "truth_axon", "truth_dendrite:axon"]]
    assert truth.sum().tolist() == [60, 80, 30]
    assert (a.var["truth_dendrite"] & a.var["truth_axon"]).sum() == 20
    counts = a.layers["counts"]
    assert counts.dtype == a.X.dtype == np.float32
    assert (counts.data == np.floor(counts.data)).all()
    np.testing.assert_allclose(np.expm1(a.X).sum(axis=1), 1e4, rtol=1e-4)
    assert 0.1 < counts.nnz / np.prod(counts.shape) < 0.4
    assert not any(name.startswith(("dpr", "bi")) for name in a.var_names)


def test_simulated_counts_are_overdispersed_and_carry_what_var_says():
    a = datasets.t4t5_simulated(n_obs=3000, n_vars=300, effect_size=2.0)
    counts = a.layers["counts"].toarray()
    mean, variance = counts.mean(axis=0), counts.var(axis=0)
    expressed = mean > 0.5
    assert (variance[expressed] > mean[expressed]).mean() > 0.95
    log = a.X.toarray()
    t5 = (a.obs["dendrite"] == "T5").to_numpy()
    difference = np.abs(log[t5].mean(axis=0) - log[~t5].mean(axis=0)) / log.std(axis=0)
    carries = a.var["truth_dendrite"].to_numpy()
    assert np.median(difference[carries]) > 4 * np.median(difference[~a.var.any(axis=1)])


def test_whole_genome_size_stays_sparse():
    a = datasets.t4t5_simulated(n_obs=100, n_vars=17492)
    assert a.shape == (100, 17492)


def test_too_small_a_simulation():
    with pytest.raises(ValueError, match="n_obs=5"):
        datasets.t4t5_simulated(n_obs=5)


FOLDER = Path(__file__).parents[2] / "data_manifests"


def test_manifests_follow_the_schema():
    valid = fastjsonschema.compile(json.loads((FOLDER / "manifest.schema.json").read_text("utf-8")))
    files = {f.stem: json.loads(f.read_text("utf-8")) for f in FOLDER.glob("*.json") if f.stem != "manifest.schema"}
    assert datasets.manifests() == dict(sorted(files.items()))
    for name, manifest in files.items():
        valid(manifest)
        assert manifest["name"] == name
        loader = getattr(datasets, manifest["loader"].removeprefix("flda.datasets."))
        assert loader.__name__ in datasets.__all__
        for entry in manifest["files"]:
            assert unquote(entry["url"]).endswith("/" + entry["name"])


@pytest.mark.parametrize(
    ("key", "value"),
    [("doi", "doi:10.1"), ("citation", "Someone, in press"), ("shape", [3]), ("loader", "os.remove"), ("files", [])],
)
def test_the_schema_refuses(key, value):
    valid = fastjsonschema.compile(json.loads((FOLDER / "manifest.schema.json").read_text("utf-8")))
    manifest = json.loads((FOLDER / "rnamix.json").read_text("utf-8"))
    with pytest.raises(fastjsonschema.JsonSchemaValueException, match=key):
        valid({**manifest, key: value})
    broken = {**manifest["files"][0], "sha256": "not known"}
    with pytest.raises(fastjsonschema.JsonSchemaValueException, match="sha256"):
        valid({**manifest, "files": [broken]})


@pytest.mark.data
@pytest.mark.parametrize("name", ["flyvis", "flywire_optic_types"])
def test_what_is_loaded_has_the_shape_of_the_manifest(name):
    manifest = datasets.manifests()[name]
    loaded = getattr(datasets, manifest["loader"].removeprefix("flda.datasets."))()
    assert list(loaded.shape) == manifest["shape"]
    assert set(datasets.verify(name)["status"]) == {"ok"}


def test_halves_of_the_axon():
    obs = datasets.t4t5_simulated(n_obs=200, n_vars=50).obs
    found = obs.groupby("axon", observed=True)[["axon_ab_cd", "axon_bc_ad"]].agg(lambda s: set(s.astype(str)).pop())
    assert found.to_numpy().tolist() == [["ab", "ad"], ["ab", "bc"], ["cd", "bc"], ["cd", "ad"]]


@pytest.mark.data
def test_rnamix():
    adata = datasets.rnamix()
    manifest = datasets.manifests()["rnamix"]
    assert list(adata.shape) == manifest["shape"] == [636, 16469]
    assert set(manifest["factors"]) <= set(adata.obs)
    assert adata.var["spike_in"].sum() == 45
    groups = adata.obs.groupby(["mixture", "amount", "protocol"], observed=False).size()
    assert len(groups) == 56
    assert groups[groups == 0].index.tolist() == [("0-100-0", "15", "SORT-seq")]
    assert list(adata.obs["amount"].cat.categories) == ["3.75", "7.5", "15", "30"]
    assert adata.obs.loc[adata.obs["mixture"] == "33-33-33", "mix"].nunique() == 2
    assert adata.layers["counts"].sum() == pytest.approx(np.round(adata.layers["counts"].sum()))


@pytest.mark.data
def test_a_damaged_file_is_named(tmp_path):
    folder = Path(os.environ["FLDA_DATA_DIR"]) / "scmixology_rnamix"
    for source in folder.glob("RNAmix*"):
        shutil.copyfile(source, tmp_path / source.name)
    assert datasets.rnamix(tmp_path).n_obs == 636
    target = tmp_path / "RNAmix_celseq2.metadata.csv.gz"
    target.write_bytes(target.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"RNAmix_celseq2\.metadata\.csv\.gz"):
        datasets.rnamix(tmp_path)
    target.unlink()
    with pytest.raises(FileNotFoundError, match=r"RNAmix_celseq2\.metadata\.csv\.gz"):
        datasets.rnamix(tmp_path)


@pytest.mark.data
def test_worm():
    data = datasets.celegans_gap_junctions()
    genes, contact, gap = data["genes"], data["contact"].to_numpy(), data["gap_junctions"].to_numpy()
    assert genes.shape == (185, 18)
    assert (contact.sum(), np.trace(contact), gap.sum()) == (11149, 35, 1195)
    assert len(genes.drop_duplicates()) == 43
    assert data["classes"][["ADAL", "ADAR", "AVL", "PVR", "VB01", "RMED"]].tolist() == [
        "ADA",
        "ADA",
        "AVL",
        "PVR",
        "VB",
        "RMED",
    ]
    sides = genes.groupby(data["classes"]).nunique().max(axis=1)
    assert (sides == 1).all()  # left and right express the same: the names are in the rows' order
    for table in (data["contact"], data["gap_junctions"]):
        assert table.index.equals(genes.index)
        assert table.columns.equals(genes.index)


@pytest.mark.data
def test_flywire_counts():
    edges = datasets.flywire_connectivity()
    assert len(edges) == 72954
    assert len(set(edges["pre"]) | set(edges["post"])) == 742
    assert not edges.duplicated(["pre", "post"]).any()


@pytest.mark.data
def test_binding_pairs():
    pairs = datasets.fly_binding_pairs()
    assert pairs["detected"].sum() == 105
    dip_dpr = pairs[
        (pairs["family_1"] == "DIP") & (pairs["family_2"] == "Dpr")
        | (pairs["family_1"] == "Dpr") & (pairs["family_2"] == "DIP")
    ]
    assert len(dip_dpr) > 20
    assert (pairs["homophilic"] == (pairs["gene_1"] == pairs["gene_2"])).all()
    known = pairs.loc[pairs["gene_1"] == "dpr6", "flybase_1"]
    assert known.str.startswith("FBgn").all()


def test_unknown_names():
    with pytest.raises(ValueError, match="'nope'"):
        datasets.fetch("nope", "x")
    with pytest.raises(ValueError, match=r"'rnamix'.*'x'"):
        datasets.fetch("rnamix", "x")
