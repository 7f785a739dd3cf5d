"""Signs of edges by the receptors of the target: known receptors, unknown ones, and what is said about them."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from flda.circuits import SignMask, edge_signs, infer_signs, receptor_table

MARKERS = {"Glu": ["eat-4"], "Ach": ["unc-17", "cha-1"], "Gaba": ["unc-25", "unc-47"], "Dop": ["cat-2", "dat-1"]}
TARGETS = {
    "excited": ["glr-1", "acr-16", "unc-49"],
    "inhibited": ["avr-14", "acc-1", "unc-49"],
    "both": ["glr-1", "avr-14", "acr-16", "acc-1", "exp-1", "unc-49"],
    "deaf": [],
}


def atlas(seed=0, n_cells=40, ambient=0.03):
    """Counts of presynaptic types with transmitter genes and of targets with receptors, with ambient RNA."""
    rng = np.random.default_rng(seed)
    expressed = {**MARKERS, **{t: [*g, "unc-17", "cha-1"] for t, g in TARGETS.items()}}
    genes = sorted({g for names in expressed.values() for g in names} | {"glc-3", "acr-2", "cat-1", "tph-1"})
    profile = pd.DataFrame(0.0, index=list(expressed), columns=genes)
    for t, names in expressed.items():
        profile.loc[t, names] = 6 * rng.lognormal(0, 0.4, len(names))
    profile = (1 - ambient) * profile + ambient * profile.mean()
    types = np.repeat(profile.index, n_cells)
    counts = rng.poisson(0.4 * profile.loc[types].to_numpy())
    rest = rng.poisson(4000 / 60, size=(len(types), 60))
    obs = pd.DataFrame({"type": types}, index=[f"c{i}" for i in range(len(types))])
    var = pd.DataFrame(index=[*genes, *(f"other{i}" for i in range(60))])
    return AnnData(np.hstack([counts, rest]).astype(np.float32), obs=obs, var=var)


def edges():
    return pd.DataFrame([(a, b) for a in MARKERS for b in [*TARGETS, "unseen"]], columns=["pre", "post"])


@pytest.mark.filterwarnings("ignore:adata.var_names lacks")
@pytest.mark.parametrize("seed", range(3))
def test_receptors_decide_where_they_agree(seed):
    adata = atlas(seed)
    with pytest.warns(UserWarning, match="'caveat'"):
        table = edge_signs(adata, "type", edges(), organism="celegans").set_index(["pre", "post"])
    expected = {
        ("Glu", "excited"): (1, "agrees"), ("Glu", "inhibited"): (-1, "inverts"), ("Glu", "both"): (np.nan, "mixed"),
        ("Glu", "deaf"): (1, "no receptor found"), ("Glu", "unseen"): (1, "no cells"),
        ("Ach", "excited"): (1, "agrees"), ("Ach", "inhibited"): (-1, "inverts"), ("Ach", "both"): (np.nan, "mixed"),
        ("Gaba", "excited"): (-1, "agrees"), ("Gaba", "both"): (np.nan, "mixed"),
        ("Dop", "excited"): (np.nan, "no transmitter"),
    }  # fmt: skip
    for edge, (sign, verdict) in expected.items():
        assert table.loc[edge, "verdict"] == verdict, edge
        np.testing.assert_equal(table.loc[edge, "sign"], sign)
    assert table.loc[("Glu", "inhibited"), "receptors"] == "avr-14 -1"
    assert table.loc[("Glu", "inhibited"), "p_inhibits"] > 0.9 > 0.1 > table.loc[("Glu", "inhibited"), "p_excites"]
    assert table.loc[("Glu", "unseen"), "caveat"].startswith("glutamate excites")
    assert table.loc[("Dop", "excited"), "caveat"] == ""
    by_type = edge_signs(adata, "type", edges()[:3], organism="celegans", mixed="type")
    assert by_type["sign"].tolist() == [1, -1, 1]
    mask = SignMask.from_edges(table.reset_index())
    assert np.isnan(mask.values.loc["Glu", "both"])
    assert mask.values.loc["Ach", "inhibited"] == -1


@pytest.mark.filterwarnings("ignore:adata.var_names lacks")
def test_signs_may_come_from_elsewhere_and_opposite_transmitters_are_told_apart_by_receptors():
    adata = atlas()
    signs = pd.DataFrame(
        {"sign": [np.nan, np.nan], "transmitter": ["glutamate, GABA", "glutamate"], "conflict": [True, False]},
        index=["two", "unsure"],
    )
    pairs = pd.DataFrame(
        {"pre": ["two", "two", "unsure", "absent"], "post": ["inhibited", "excited", "excited", "excited"]}
    )
    table = edge_signs(adata, "type", pairs, signs=signs, organism="celegans")
    assert table["verdict"].tolist() == ["decides", "mixed", "no transmitter", "no transmitter"]
    np.testing.assert_equal(table["sign"].to_numpy(), [-1, np.nan, np.nan, np.nan])


@pytest.mark.filterwarnings("ignore:adata.var_names lacks")
def test_receptors_leave_the_signs_of_types_alone():
    adata = atlas()
    table = edge_signs(adata, "type", edges()[:1], organism="celegans")
    assert table["sign_type"].tolist() == [infer_signs(adata, "type", organism="celegans").loc["Glu", "sign"]]


def test_the_receptor_table_and_what_is_refused():
    table = receptor_table()
    assert not table.duplicated(["organism", "transmitter", "gene"]).any()
    assert set(table["effect"]) == {-1, 1}
    assert (table["source"] != "").all()
    worm = receptor_table("celegans").groupby("transmitter")["effect"].nunique()
    assert worm[["glutamate", "acetylcholine"]].tolist() == [2, 2]
    with pytest.raises(ValueError, match="'rat'"):
        receptor_table("rat")
    adata = atlas()
    with pytest.raises(ValueError, match="'post'"):
        edge_signs(adata, "type", edges()[["pre"]], organism="celegans")
    with pytest.raises(ValueError, match="mixed='no'"):
        edge_signs(adata, "type", edges(), organism="celegans", mixed="no")
    with pytest.raises(ValueError, match="'transmitter'"):
        edge_signs(adata, "type", edges(), organism="celegans", signs=pd.DataFrame({"sign": [1.0]}, index=["Glu"]))
    with pytest.raises(ValueError, match="'sign'"):
        SignMask.from_edges(edges())
