import json
import os
import re
import shutil
import sys
import warnings
from pathlib import Path
from urllib.parse import unquote

import fastjsonschema
import numpy as np
import pandas as pd
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
def test_mice_protein():
    adata = datasets.mice_protein()
    manifest = datasets.manifests()["mice_protein"]
    assert list(adata.shape) == manifest["shape"] == [1080, 77]
    assert set(datasets.verify("mice_protein")["status"]) == {"ok"}
    assert {c: list(adata.obs[c].cat.categories) for c in manifest["factors"]} == {
        "genotype": ["Control", "Ts65Dn"],
        "treatment": ["Saline", "Memantine"],
        "behaviour": ["shock-context", "context-shock"],
    }
    assert not adata.obs.isna().any(axis=None)
    # the class of the source has the same groups: c or t, CS or SC, m or s
    source = pd.read_csv(Path(os.environ["FLDA_DATA_DIR"]) / "mice_protein" / "Data_Cortex_Nuclear.csv")
    letters = {
        "Control": "c",
        "Ts65Dn": "t",
        "Saline": "s",
        "Memantine": "m",
        "shock-context": "SC",
        "context-shock": "CS",
    }
    parts = [adata.obs[c].astype(str).map(letters) for c in ("genotype", "behaviour", "treatment")]
    assert parts[0].str.cat(parts[1:], sep="-").tolist() == source["class"].tolist()
    assert adata.obs_names.tolist() == source.iloc[:, 0].tolist()
    mice = adata.obs.groupby("mouse", observed=True)
    assert mice["measurement"].agg(sorted).tolist() == [list(range(1, 16))] * 72
    assert (mice[manifest["factors"]].nunique() == 1).all(axis=None)
    assert sorted(adata.obs.drop_duplicates("mouse").groupby(manifest["factors"], observed=True).size()) == [
        7, 9, 9, 9, 9, 9, 10, 10,
    ]  # fmt: skip
    assert sorted(adata.var_names[adata.var["triplicated"]]) == ["APP", "DSCR1", "DYRK1A", "ITSN1", "SOD1", "TIAM1"]


@pytest.mark.data
def test_missing_levels_are_filled_and_marked():
    adata = datasets.mice_protein()
    level, observed = adata.layers["level"], adata.layers["observed"]
    assert np.isfinite(adata.X).all()
    assert observed.dtype == bool
    assert (np.isnan(level).sum(), (level <= 0).sum(), (~observed).sum()) == (1396, 1, 1397)
    np.testing.assert_array_equal(adata.var["n_missing"], (~observed).sum(axis=0))
    np.testing.assert_allclose(np.exp2(adata.X[observed]), level[observed])
    mouse = adata.obs["mouse"].astype(str).to_numpy()
    # three measurements of this mouse lack 43 proteins, and the negative level belongs to another mouse
    for name, protein, n in (("3426", "BDNF", 3), ("365", "RRP1", 1)):
        own = mouse == name
        j = adata.var_names.get_loc(protein)
        seen, filled = own & observed[:, j], own & ~observed[:, j]
        assert (seen.sum(), filled.sum()) == (15 - n, n)
        np.testing.assert_allclose(adata.X[filled, j], np.log2(level[seen, j]).mean())
    whole, j = 0, adata.var_names.get_loc("BCL2")
    seen = [m for m in np.unique(mouse) if observed[mouse == m, j].any()]
    overall = np.mean([np.log2(level[(mouse == m) & observed[:, j], j]).mean() for m in seen])
    for m in set(mouse) - set(seen):
        np.testing.assert_allclose(adata.X[mouse == m, j], overall)
        whole += 1
    assert whole == 19
    n_whole = sum((~observed[mouse == m].any(axis=0)).sum() for m in np.unique(mouse))
    assert (n_whole, (~observed).sum() - 15 * n_whole) == (84, 137)


@pytest.mark.data
def test_uch():
    pytest.importorskip("rdata", reason="rdata is in the extra 'data'")
    adata = datasets.uch()
    manifest = datasets.manifests()["uch"]
    assert list(adata.shape) == manifest["shape"] == [34, 600]
    assert set(datasets.verify("uch")["status"]) == {"ok"}
    # the names of the spectra code the design: M2C<hippurate><citrate>D<day>R<time>
    coded = adata.obs_names.str.extract(r"^M2C(?P<hippurate>\d)(?P<citrate>\d)D(?P<day>\d)R(?P<time>\d)$")
    for column in coded:
        assert adata.obs[column].astype(str).tolist() == coded[column].tolist()
    assert sorted(adata.obs.groupby(manifest["factors"], observed=False).size()) == [1] * 2 + [2] * 16
    for substance, doses in (("hippurate", ["0", "1", "2"]), ("citrate", ["0", "2", "4"])):
        assert adata.obs[substance].cat.ordered
        assert list(adata.obs[substance].cat.categories) == doses
        np.testing.assert_array_equal(adata.obs[f"{substance}_dose"], coded[substance].astype(float))
    assert adata.var_names.is_unique
    np.testing.assert_array_equal(adata.var["ppm"], [float(n) for n in adata.var_names])
    np.testing.assert_allclose(adata.X.sum(axis=1), 600)
    assert ((adata.X < 0).sum(), (adata.X == 0).all(axis=0).sum()) == (12, 97)
    assert adata.X.min() > -0.0041
    # the intensities follow the doses where the substances have their signals, and nowhere else as closely
    varies = adata.X.std(axis=0) > 0
    for substance in ("hippurate", "citrate"):
        region = adata.var[substance].to_numpy()
        r = np.corrcoef(adata.X[:, varies].T, adata.obs[f"{substance}_dose"])[-1, :-1]
        assert r[region[varies]].max() > 0.97
        assert r[~region[varies]].max() < 0.82
    citrate = adata.X[:, adata.var["citrate"].to_numpy() & varies]
    assert citrate.shape[1] == 11
    np.testing.assert_allclose(citrate / citrate[:, [5]], np.tile(citrate[0] / citrate[0, 5], (34, 1)), rtol=1e-6)


@pytest.mark.data
def test_l1000_a375():
    adata = datasets.l1000_a375()
    manifest = datasets.manifests()["l1000_a375"]
    assert list(adata.shape) == manifest["shape"] == [377, 978]
    assert set(datasets.verify("l1000_a375")["status"]) == {"ok"}
    assert adata.var_names.is_unique
    assert adata.obs_names.is_unique
    treated = adata.obs[adata.obs["kind"] != "vehicle"]
    assert treated["drug"].nunique() == 59
    assert sorted(treated["dose"].unique()) == [0.04, 0.12, 0.37, 1.11, 3.33, 10]
    assert (treated.groupby(["drug", "dose"], observed=True).size() == 1).all()
    assert len(treated) == 351
    vehicle = adata.obs[adata.obs["kind"] == "vehicle"]
    assert (len(vehicle), vehicle["drug"].unique().tolist()) == (26, ["DMSO"])
    assert vehicle["dose"].isna().all()
    np.testing.assert_allclose(10 ** treated["log_dose"], treated["dose"])
    # the numbers of one line of the file
    path = Path(os.environ["FLDA_DATA_DIR"]) / "l1000_a375" / "test_l1000.gct"
    line = next(text for text in path.read_text("utf-8").splitlines() if text.startswith("218597_s_at\t")).split("\t")
    gene = adata.var_names.get_loc(line[7])
    assert adata.var["probe"].iloc[gene] == "218597_s_at"
    np.testing.assert_allclose(adata.X[:, gene], np.array(line[12:], float))
    assert np.isfinite(adata.X).all()


@pytest.mark.data
def test_mammary():
    adata = datasets.mammary()
    manifest = datasets.manifests()["mammary"]
    assert list(adata.shape) == manifest["shape"] == [12, 27179]
    assert set(datasets.verify("mammary")["status"]) == {"ok"}
    assert {c: list(adata.obs[c].cat.categories) for c in manifest["factors"]} == {
        "cell_type": ["basal", "luminal"],
        "status": ["virgin", "pregnant", "lactating"],
    }
    assert (adata.obs.groupby(manifest["factors"], observed=False).size() == 2).all()
    assert adata.obs.loc["MCL1.DI", manifest["factors"]].tolist() == ["basal", "pregnant"]
    assert adata.obs.loc["MCL1.LF", manifest["factors"]].tolist() == ["luminal", "lactating"]
    counts = adata.layers["counts"]
    assert counts[0, adata.var_names.get_loc("497097")] == 438
    np.testing.assert_allclose(np.asarray(counts.sum(axis=1)).ravel(), adata.obs["total_counts"], rtol=1e-6)
    np.testing.assert_allclose(np.expm1(adata.X).sum(axis=1), 1e4, rtol=1e-4)


@pytest.mark.data
def test_t4t5_fib19_wiring():
    pytest.importorskip("rdata", reason="rdata is in the extra 'data'")
    adata = datasets.t4t5_fib19_wiring()
    manifest = datasets.manifests()["t4t5_fib19_wiring"]
    assert adata.obs["type"].value_counts().to_dict() == manifest["groups"]
    # counts of one feature and all synapses, from the rows of the source
    rows = adata.uns["connections"]
    one = rows[(rows["post"] == "28") & (rows["pre_type"] == "Mi1") & (rows["neuropil"] == "ME")]
    assert adata["28", "inputs Mi1 ME"].X.item() == one["weight"].sum() > 0
    sent = rows[rows["pre"].isin(adata.obs_names)]
    outputs = adata[:, adata.var["direction"] == "outputs"]
    assert outputs.X.sum() == sent.loc[sent["post_type"] != "", "weight"].sum()
    assert adata.uns["untyped"]["outputs"] == pytest.approx(1 - outputs.X.sum() / sent["weight"].sum())
    assert adata.var.loc[adata.var["among"], "partner"].str[:2].isin(["T4", "T5"]).all()
    np.testing.assert_allclose(adata.layers["sqrt"] ** 2, adata.X)


def test_uch_without_rdata(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdata", None)
    with pytest.raises(ImportError, match=r"rdata.*pip install 'flda\[data\]'"):
        datasets.uch()


@pytest.mark.data
def test_warnings_of_rdata_do_not_reach_the_user(monkeypatch):
    rdata = pytest.importorskip("rdata", reason="rdata is in the extra 'data'")
    read = rdata.read_rda

    def noisy(path):
        warnings.warn("Unknown encoding. Assumed ASCII.", stacklevel=2)
        return read(path)

    monkeypatch.setattr(rdata, "read_rda", noisy)
    assert datasets.uch().n_obs == 34


@pytest.mark.data
@pytest.mark.parametrize("name", ["mice_protein", "uch", "l1000_a375"])
def test_a_damaged_single_file_is_named(tmp_path, name):
    if name == "uch":
        pytest.importorskip("rdata", reason="rdata is in the extra 'data'")
    (source,) = (Path(os.environ["FLDA_DATA_DIR"]) / name / f["name"] for f in datasets.manifests()[name]["files"])
    target = tmp_path / source.name
    target.write_bytes(source.read_bytes())
    assert list(getattr(datasets, name)(tmp_path).shape) == datasets.manifests()[name]["shape"]
    target.write_bytes(source.read_bytes()[:-10])
    with pytest.raises(ValueError, match=re.escape(source.name)):
        getattr(datasets, name)(tmp_path)
    target.unlink()
    with pytest.raises(FileNotFoundError, match=f"flda datasets fetch {name}"):
        getattr(datasets, name)(tmp_path)


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
