"""Single neurons: what is said of them, computed the slow way, and types as the unit of exchange."""

import itertools

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import flda
from flda.circuits import decompose_connectivity, link_axes, wiring_features, wiring_from_edges

from circuit_problems import FACTORS, TYPES, projector


def neurons(counts=(3, 2, 4, 2, 3, 3, 2, 1), seed=0):
    """Neurons of eight types with inputs and outputs of six partners each, and one feature among the types."""
    rng = np.random.default_rng(seed)
    types = np.repeat(TYPES, counts)
    var = pd.DataFrame({"direction": ["inputs"] * 6 + ["outputs"] * 7, "partner": [*"ABCDEF", *"ABCDEF", "T4a"]})
    var.index = [f"{d} {p}" for d, p in zip(var["direction"], var["partner"], strict=True)]
    X = 2 * rng.normal(size=(8, 13))[np.repeat(np.arange(8), counts)] + rng.normal(size=(len(types), 13))
    order = rng.permutation(len(types))
    obs = pd.DataFrame({"type": types[order]}, index=[f"n{i}" for i in order])
    return AnnData(X[order], obs=obs, var=var, layers={"half": X[order] / 2})


def means_of(adata, direction):
    features = adata.var_names[(adata.var["direction"] == direction) & (adata.var["partner"] != "T4a")]
    X = adata.to_df()[features]
    G = np.array([X[(adata.obs["type"] == t).to_numpy()].to_numpy().mean(axis=0) for t in TYPES])
    return X, G - G.mean(axis=0), G.mean(axis=0)


def spread(X, adata, centre):
    """Differences between neurons, every type counting once, by a loop over neurons."""
    n = adata.obs["type"].value_counts()
    return sum(
        np.sum((x - centre) ** 2) / n[t] for x, t in zip(X.to_numpy(), adata.obs["type"].astype(str), strict=True)
    )


@pytest.mark.parametrize("direction", ["inputs", "outputs"])
def test_shares_of_neurons_the_slow_way(direction):
    adata = neurons()
    table = decompose_connectivity(adata, FACTORS, directions=direction).set_index("effect")
    X, G, centre = means_of(adata, direction)
    everyone = np.array(list(itertools.permutations(range(8))))
    for effect in (("dendrite",), ("axon",), ("dendrite", "axon")):
        row, P = table.loc[":".join(effect)], projector(effect)
        assert row["share"] == pytest.approx(np.sum((P @ G) ** 2) / np.sum(G**2))
        assert row["share_neurons"] == pytest.approx(np.sum((P @ G) ** 2) / spread(X, adata, centre))
        drawn = np.einsum("pij,ij->p", (G @ G.T)[everyone[:, :, None], everyone[:, None, :]], P)
        assert row["pval"] == pytest.approx(np.mean(drawn >= drawn[0] - 1e-9))
    assert (table["n_neurons"] == 20).all()


def test_a_balanced_table_has_the_shares_of_its_neurons_as_observations():
    adata = neurons(counts=[3] * 8)
    adata = adata[:, adata.var["direction"] == "inputs"].copy()
    by_type = decompose_connectivity(adata, FACTORS, directions="inputs")
    factors = FACTORS.loc[adata.obs["type"]].set_axis(adata.obs_names)
    by_neuron = decompose_connectivity(adata.to_df().T, factors, directions="inputs", n_resamples=9)
    np.testing.assert_allclose(by_type["share_neurons"], by_neuron["share"])


def test_links_of_neurons_the_slow_way(cells):
    genes, adata = cells.copy(), neurons()
    links = link_axes(genes, adata, "subtype", directions="inputs").set_index("axis")
    scores = pd.DataFrame(genes.obsm["X_flda_held_out"], columns=flda.get.axes_df(genes)["axis"])
    s = scores["axon_1"].groupby(genes.obs["subtype"].astype(str).to_numpy()).mean()[TYPES].to_numpy()
    s = projector(("axon",)) @ s
    X, G, centre = means_of(adata, "inputs")
    row = links.loc["axon_1"]
    square = np.sum((G.T @ s) ** 2) / (s @ s)
    assert row["share"] == pytest.approx(square / np.sum(G**2))
    assert row["share_neurons"] == pytest.approx(square / spread(X, adata, centre))
    drawn = np.sum((s[np.array(list(itertools.permutations(range(8))))] @ G) ** 2, axis=1)
    assert row["pval"] == pytest.approx(np.mean(drawn >= drawn[0] * (1 - 1e-9)))
    t, own = [], []
    for i, kind in enumerate(adata.obs["type"].astype(str)):
        rest = np.delete(np.arange(adata.n_obs), i)
        if kind not in set(adata.obs["type"].iloc[rest]):
            continue
        others = X.iloc[rest].groupby(adata.obs["type"].iloc[rest].astype(str).to_numpy()).mean().loc[TYPES].to_numpy()
        w = others.T @ s
        t.append((X.iloc[i].to_numpy() - centre) @ w / np.linalg.norm(w))
        own.append(s[TYPES.index(kind)])
    assert len(t) == 19  # T5d has one neuron
    assert row["correlation_neurons"] == pytest.approx(np.corrcoef(own, t)[0, 1])
    assert set(genes.uns["flda"]["connectivity"]) == {"links", "scores", "matrix", "pre", "post", "params"}
    flda.pl.connectivity(genes, "axon_1", direction="inputs")


def test_layers_partners_among_the_types_and_what_cannot_be_read():
    adata = neurons()
    half = decompose_connectivity(adata, FACTORS, layer="half")
    pd.testing.assert_frame_equal(half, decompose_connectivity(adata, FACTORS))  # a scale changes nothing
    with_among = decompose_connectivity(adata, FACTORS, within=True)
    assert not np.allclose(with_among["share"], half["share"])
    adata.var["among"] = adata.var["partner"] == "A"
    assert not np.allclose(decompose_connectivity(adata, FACTORS)["share"], half["share"])
    with pytest.raises(ValueError, match="'cell'"):
        decompose_connectivity(adata, FACTORS, types="cell")
    with pytest.raises(ValueError, match="'log'"):
        decompose_connectivity(adata, FACTORS, layer="log")
    with pytest.raises(ValueError, match="layer='log'"):
        decompose_connectivity(adata.to_df(), FACTORS, layer="log")
    with pytest.raises(ValueError, match="'direction'"):
        decompose_connectivity(AnnData(adata.X, obs=adata.obs), FACTORS)
    adata.X[2, 3] = np.nan
    with pytest.raises(ValueError, match=r"'inputs D'.*'" + adata.obs_names[2]):
        decompose_connectivity(adata, FACTORS)


def test_features_count_the_synapses_of_the_edges():
    rng = np.random.default_rng(0)
    ids = {str(i): t for i, t in enumerate([*np.repeat(TYPES, 2), "A", "A", "B", "", ""])}
    edges = pd.DataFrame({"pre": rng.integers(0, 21, 400), "post": rng.integers(0, 21, 400)})
    edges["n_synapses"] = rng.integers(1, 9, 400)
    wiring = wiring_from_edges(edges, ids, by="neuron")
    adata = wiring_features(wiring, FACTORS)
    assert adata.obs["dendrite"].astype(str).tolist() == [t[:2] for t in adata.obs["type"]]
    seen = 0.0
    for neuron in adata.obs_names:
        for name, row in adata.var.iterrows():
            own, other = ("post", "pre") if row["direction"] == "inputs" else ("pre", "post")
            on = (edges[own].astype(str) == neuron) & (edges[other].astype(str).map(ids) == row["partner"])
            assert adata[neuron, name].X.item() == edges.loc[on, "n_synapses"].sum()
            seen += edges.loc[on, "n_synapses"].sum()
    assert adata.X.sum() == seen
    inputs = edges[edges["post"] < 16]
    lost = inputs.loc[inputs["pre"] >= 19, "n_synapses"].sum() / inputs["n_synapses"].sum()
    assert adata.uns["untyped"]["inputs"] == pytest.approx(lost)
    assert adata.var.loc[adata.var["among"], "partner"].isin(TYPES).all()
    np.testing.assert_allclose(adata.layers["sqrt"] ** 2, adata.X)
    with pytest.raises(ValueError, match="'T9'"):
        wiring_features(wiring, ["T4a", "T9"])
    with pytest.raises(ValueError, match="'T4a'"):
        wiring_features(wiring, ["T4a", "T4a"])
