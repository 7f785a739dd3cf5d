"""What holds for every table, and the tables of the design."""

import pandas as pd
import pytest

import flda

FACTORS = ["dendrite", "axon"]


@pytest.fixture(scope="module")
def adata():
    adata = flda.datasets.t4t5_simulated(n_obs=300, n_vars=60)
    flda.tl.flda(adata, FACTORS, shrinkage=0.5)
    return adata


@pytest.mark.parametrize(
    ("table", "call"),
    [
        ("gene_tests_df", "flda.tl.effect_tests"),
        ("effect_tests_df", "flda.tl.effect_tests"),
        ("certificate_df", "flda.tl.certify"),
        ("stability_df", "flda.tl.stability"),
        ("path_df", "flda.tl.path"),
        ("penalties_df", "flda.tl.choose_penalty"),
    ],
)
def test_what_was_not_run_names_the_call_to_run(adata, table, call):
    with pytest.raises(ValueError, match=call.replace(".", r"\.")):
        getattr(flda.get, table)(adata)


@pytest.mark.parametrize("name", flda.get.__all__)
def test_every_table_asks_for_a_fit_first(name):
    adata = flda.datasets.t4t5_simulated(n_obs=100, n_vars=50)
    with pytest.raises(ValueError, match=r"flda\.tl\.flda"):
        getattr(flda.get, name)(adata)


@pytest.mark.parametrize("name", ["axes_df", "design_df", "estimability_df", "variance_df"])
def test_tables_are_copies(adata, name):
    before = getattr(flda.get, name)(adata)
    table = getattr(flda.get, name)(adata)
    table[table.columns[0]] = "changed"
    del table[table.columns[-1]]
    pd.testing.assert_frame_equal(getattr(flda.get, name)(adata), before)


def test_estimability_says_what_is_missing():
    adata = flda.datasets.t4t5_simulated(n_obs=300, n_vars=50)
    part = adata[adata.obs["subtype"] != "T5c"].copy()
    flda.tl.flda(part, FACTORS, shrinkage=0.5)
    table = flda.get.estimability_df(part).set_index("effect")
    assert table["estimable"].astype(bool).to_dict() == {"dendrite": True, "axon": True, "dendrite:axon": False}
    assert "T5" in table.loc["dendrite:axon", "reason"]
