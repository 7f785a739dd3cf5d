"""Tables of connectomes: edges by id, Codex, neuPrint; predicted transmitters fused with genes."""

import numpy as np
import pandas as pd
import pytest

from flda.circuits import (
    SignMask,
    decompose_connectivity,
    fuse_signs,
    signs_from_predictions,
    wiring_from_edges,
    wiring_from_flywire,
    wiring_from_neuprint,
)

IDS = {720575940600000001: "Mi1", 720575940600000002: "Mi1", 720575940600000003: "T4a", 720575940600000004: None}


def connections():
    a, b, c, d = IDS
    rows = [(a, c, "ME_L", 4), (a, c, "LO_L", 3), (b, c, "ME_L", 9), (d, c, "ME_L", 50), (b, a, "ME_L", 2)]
    return pd.DataFrame(rows, columns=["pre_root_id", "post_root_id", "neuropil", "syn_count"])


def test_codex_by_type_and_by_neuron():
    types = pd.DataFrame({"root_id": list(IDS), "primary_type": list(IDS.values())})
    neurons = pd.DataFrame({"root_id": list(IDS), "nt_type": ["ACH", "ACH", "ACH", "GABA"], "nt_type_score": 0.97})
    wiring = wiring_from_flywire(connections(), types, neurons)
    assert wiring.edges.values.tolist() == [["Mi1", "T4a", 16.0, 2]]
    report = wiring.report.set_index("step")
    assert report.loc["a partner has no type: dropped", ["n_rows", "n_synapses"]].tolist() == [1, 50]
    assert report.loc["fewer than min_synapses: dropped", "n_synapses"] == 2
    assert report.loc["rows of the same pair merged", "n_rows"] == 1
    # nothing is lost without a line in the report
    assert report["n_synapses"].sum() + wiring.edges["n_synapses"].sum() == connections()["syn_count"].sum()
    kept = wiring_from_flywire(connections(), types, untyped="keep", min_synapses=0)
    assert kept.edges["n_synapses"].sum() == 68
    assert "720575940600000004" in kept.names
    single = wiring_from_flywire(connections(), types, by="neuron", min_synapses=0)
    assert len(single.edges) == 4
    assert single.annotations.loc["720575940600000001", "type"] == "Mi1"
    dense = single.matrix()
    np.testing.assert_array_equal(single.sparse().toarray(), dense)
    assert dense.loc["720575940600000001", "720575940600000003"] == 7
    signs = signs_from_predictions(wiring.annotations, transmitter="nt_type", probability="nt_type_score")
    assert SignMask.from_types(signs["sign"].to_dict(), wiring.edges).counts()["positive"] == 1


@pytest.mark.parametrize("kind", [str, "int64", "category"])
def test_ids_of_every_kind_match(kind):
    edges = connections().astype({"pre_root_id": kind, "post_root_id": kind})
    found = wiring_from_edges(edges, IDS, pre="pre_root_id", post="post_root_id", weight="syn_count")
    assert found.edges["n_synapses"].tolist() == [16.0, 2.0]


def test_neuprint_feeds_the_decomposition():
    rng = np.random.default_rng(0)
    types = [f"T{d}{a}" for d in (4, 5) for a in "abcd"]
    neurons = pd.DataFrame({"bodyId": range(17), "type": [*types, *types, "Mi1"], "instance": "x"})
    rows = [(16, i, "ME", 30 if neurons["type"][i].startswith("T4") else 1) for i in range(16)]
    rows += [(16, i, "LO", int(rng.integers(1, 3))) for i in range(16)]
    edges = pd.DataFrame(rows, columns=["bodyId_pre", "bodyId_post", "roi", "weight"])
    wiring = wiring_from_neuprint(neurons, edges)
    factors = pd.DataFrame({"dendrite": [t[:2] for t in types], "axon": [t[2] for t in types]}, index=types)
    table = decompose_connectivity(wiring.matrix(), factors, directions="inputs").set_index("effect")
    assert table.loc["dendrite", "share"] > 0.95


def test_bad_tables():
    edges = connections()
    with pytest.raises(ValueError, match="syn_count"):
        wiring_from_flywire(edges.assign(syn_count=-1), pd.DataFrame({"root_id": [1], "type": ["a"]}))
    with pytest.raises(ValueError, match="root_id"):
        wiring_from_flywire(edges, pd.DataFrame({"id": [1]}))
    notes = pd.DataFrame({"id": [1, 1], "type": ["a", "b"]})
    with pytest.raises(ValueError, match="'1'"):
        wiring_from_edges(pd.DataFrame({"pre": [1], "post": [2], "n_synapses": [1]}), notes, id_column="id")
    with pytest.raises(ValueError, match="no edge is left"):
        wiring_from_edges(edges, {"7": "Mi1"}, pre="pre_root_id", post="post_root_id", weight="syn_count")
    with pytest.raises(ValueError, match="cell"):
        wiring_from_edges(edges, pre="pre_root_id", post="post_root_id", weight="syn_count", by="cell")
    with pytest.raises(ValueError, match="'serine'"):
        signs_from_predictions(pd.DataFrame({"type": ["a"], "transmitter": ["serine"], "probability": [1.0]}))


def test_predictions_per_neuron_and_per_transmitter_agree():
    wide = pd.DataFrame({"ach": [0.9, 0.8], "gaba": [0.1, 0.2]}, index=["x", "x"]).rename_axis("type").reset_index()
    long = wide.melt("type", var_name="transmitter", value_name="probability")
    one = signs_from_predictions(long, confidence=0.8)
    assert one.loc["x", "p_positive"] == pytest.approx(0.98 * 0.85 + 0.02 / 7, abs=1e-9)
    top = signs_from_predictions(wide.assign(transmitter="ach", probability=wide["ach"]), confidence=0.8)
    assert top.loc["x", "p_positive"] == pytest.approx(0.98 * (0.85 + 0.15 / 7) + 0.02 / 7, abs=1e-9)
    assert one.loc["x", "sign"] == 1


def test_fusion():
    columns = ["sign", "transmitter", "p_positive", "p_negative", "p_unknown"]
    genes = pd.DataFrame.from_dict(
        {
            "a": [1.0, "acetylcholine", 0.97, 0.01, 0.02], "b": [np.nan, "", 0.1, 0.1, 0.8],
            "c": [1.0, "acetylcholine", 0.95, 0.0, 0.05], "d": [np.nan, "dopamine", 0.02, 0.0, 0.98],
        },
        orient="index", columns=columns,
    ).assign(conflict=False, ambiguous=[False, False, False, True])  # fmt: skip
    predicted = pd.DataFrame.from_dict(
        {"b": [-1.0, "GABA", 0.02, 0.96, 0.02], "c": [-1.0, "GABA", 0.02, 0.96, 0.02],
         "d": [1.0, "acetylcholine", 0.95, 0.03, 0.02]},
        orient="index", columns=columns,
    )  # fmt: skip
    fused = fuse_signs(genes, predicted)
    assert fused["verdict"].to_dict() == {"a": "genes", "b": "predicted", "c": "conflict", "d": "unknown"}
    assert fused.loc[["a", "b"], "sign"].tolist() == [1, -1]
    assert fused.loc[["c", "d"], "sign"].isna().all()
    np.testing.assert_allclose(fused[["p_positive", "p_negative", "p_unknown"]].sum(axis=1), 1)


def test_tables_of_the_archived_release_and_types_from_two_columns():
    old = connections().rename(columns={"pre_root_id": "pre_pt_root_id", "post_root_id": "post_pt_root_id"})
    types = pd.DataFrame({"root_id": list(IDS), "cell_type": [None, "", "T4a", None], "hemibrain_type": "Mi1"})
    wiring = wiring_from_flywire(old, types)
    assert wiring.edges.values.tolist() == [["Mi1", "T4a", 66.0, 3]]
    assert wiring.annotations["type"].value_counts().to_dict() == {"Mi1": 3, "T4a": 1}


def test_predictions_of_neuprint_leave_unclear_rows_out():
    table = pd.DataFrame({"type": ["A", "A", "B"], "predictedNt": ["gaba", "unclear", "unknown"]})
    found = signs_from_predictions(table, transmitter="predictedNt", probability=None)
    assert found["sign"].to_dict() == {"A": -1.0}
    assert found.loc["A", "n_rows"] == 1
