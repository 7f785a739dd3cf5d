"""The table of groups and the shares of variance, judged by what is drawn."""

import numpy as np
import pandas as pd
from labels import texts

import flda
from flda._adata.results import write

FACTORS = ["dendrite", "axon"]


def test_design_counts_empty_groups_and_what_is_lost():
    adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=60)
    adata.obs["batch"] = pd.Categorical(np.where(adata.obs["donor"] == "donor1", "x", "y"))
    adata = adata[adata.obs["subtype"] != "T5c"].copy()
    flda.tl.flda(adata, FACTORS, nuisance="batch", shrinkage=0.5)
    ax = flda.pl.design(adata)
    counts = pd.crosstab(adata.obs["dendrite"], adata.obs["axon"]).to_numpy()
    assert texts(ax.texts) == [str(n) for n in counts.ravel()]
    np.testing.assert_array_equal(ax.collections[0].get_array().reshape(2, 4), counts)
    (empty,) = [p for p in ax.patches if p.get_hatch()]
    assert empty.get_xy() == (2, 1)
    assert (texts(ax.get_yticklabels()), texts(ax.get_xticklabels())) == (["T4", "T5"], list("abcd"))
    title = " ".join(ax.get_title(loc="left").split())
    assert "1 of 8 groups is empty" in title
    assert "estimable: dendrite, axon, batch" in title
    assert "not estimable: dendrite:axon, " in title
    assert "T5 x c" in title


def test_design_of_one_and_of_three_factors(adata):
    flda.tl.flda(adata, "axon", shrinkage=0.5)
    assert texts(flda.pl.design(adata).get_xticklabels()) == list("abcd")
    flda.tl.flda(adata, [*FACTORS, "donor"], interactions=None, shrinkage=0.5)
    ax = flda.pl.design(adata)
    assert len(ax.texts) == 2 * 4 * 4
    assert texts(ax.get_xticklabels())[:2] == ["a × donor1", "a × donor2"]
    counts = pd.crosstab(adata.obs["dendrite"], [adata.obs["axon"], adata.obs["donor"]]).to_numpy()
    assert texts(ax.texts) == [str(n) for n in counts.ravel()]


def test_variance_may_be_negative(adata):
    table = pd.DataFrame({"effect": ["dendrite", "axon", "within"], "df": [1, 3, 392], "share": [0.12, -0.01, 0.89]})
    write(adata, "flda", variance=table)
    ax = flda.pl.variance(adata)
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], table["share"])
    assert texts(ax.texts) == ["12 %", "-1 %", "89 %"]
    assert ax.get_xlim()[0] < -0.01
