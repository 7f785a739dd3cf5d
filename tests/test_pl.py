import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

import flda


@pytest.fixture(scope="module")
def adata():
    adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=120)
    flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    return adata


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def test_scores_draws_every_cell_and_every_group_mean(adata):
    ax = flda.pl.scores(adata, "axon_2", "axon_1", color="axon")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("axon_2", "axon_1")
    drawn = ax.collections[0].get_offsets()
    expected = adata.obsm["X_flda"][:, [2, 1]]
    np.testing.assert_allclose(np.sort(drawn, axis=0), np.sort(expected, axis=0))
    assert [t.get_text() for t in ax.get_legend().get_texts()] == list("abcd")
    assert [len(c.get_offsets()) for c in ax.collections[1:]] == [2, 2, 2, 2]
    mean = adata.obsm["X_flda"][(adata.obs["subtype"] == "T4a").to_numpy()][:, [2, 1]].mean(axis=0)
    assert np.isclose(ax.collections[1].get_offsets(), mean).all(axis=1).any()


def test_scores_defaults_colours_and_axes(adata):
    adata.uns["dendrite_colors"] = ["#112233", "#445566"]
    ax = plt.figure().add_subplot()
    assert flda.pl.scores(adata, ax=ax) is ax
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("dendrite_1", "axon_1")
    assert ax.get_legend().get_title().get_text() == "dendrite"
    np.testing.assert_allclose(ax.collections[1].get_facecolor()[0, :3], to_rgb("#112233"))


def test_scores_bad_names(adata):
    with pytest.raises(ValueError, match="no axis 'leg_1'"):
        flda.pl.scores(adata, "leg_1")
    with pytest.raises(ValueError, match="no column 'leg'"):
        flda.pl.scores(adata, color="leg")
