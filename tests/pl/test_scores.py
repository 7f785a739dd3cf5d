"""Scores of cells, judged by what is drawn."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from labels import texts
from matplotlib.colors import to_rgb

import flda

FACTORS = ["dendrite", "axon"]


def test_a_pair_of_axes_draws_every_cell_and_every_group_mean(adata):
    ax = flda.pl.scores(adata, "axon_2", "axon_1", color="axon")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("axon_2", "axon_1")
    drawn = ax.collections[0].get_offsets()
    expected = adata.obsm["X_flda"][:, [2, 1]]
    np.testing.assert_allclose(np.sort(drawn, axis=0), np.sort(expected, axis=0))
    assert texts(ax.get_legend().get_texts()) == list("abcd")
    assert [len(c.get_offsets()) for c in ax.collections[1:]] == [2, 2, 2, 2]
    mean = expected[(adata.obs["subtype"] == "T4a").to_numpy()].mean(axis=0)
    assert np.isclose(ax.collections[1].get_offsets(), mean).all(axis=1).any()


def test_defaults_colours_and_axes_given(adata):
    adata.obs["dendrite"] = adata.obs["dendrite"].cat.set_categories(["T3", "T4", "T5"])
    adata.uns["dendrite_colors"] = ["#ff0000", "#112233", "#445566"]  # the first is of a level that has no cell
    ax = plt.figure().add_subplot()
    assert flda.pl.scores(adata, ax=ax) is ax
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("dendrite_1", "axon_1")
    assert ax.get_legend().get_title().get_text() == "dendrite"
    assert texts(ax.get_legend().get_texts()) == ["T4", "T5"]
    np.testing.assert_allclose(ax.collections[1].get_facecolor()[0, :3], to_rgb("#112233"))


def test_many_levels_have_different_colours(adata):
    adata.obs["many"] = pd.Categorical([f"n{i % 23:02d}" for i in range(400)])
    ax = flda.pl.scores(adata, color="many")
    assert len({tuple(c.get_facecolor()[0]) for c in ax.collections[1:]}) == 23


def test_one_axis_shows_means_and_their_confidence(adata):
    ax = flda.pl.scores(adata, "axon_1")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("axon", "axon_1 score")
    assert texts(ax.get_legend().get_texts()) == ["T4", "T5"]
    score = pd.Series(adata.obsm["X_flda"][:, 1], adata.obs_names)
    groups = score.groupby([adata.obs["dendrite"], adata.obs["axon"]], observed=True)
    pooled = (score - groups.transform("mean")).pow(2).sum() / (400 - 8)
    for container, dendrite in zip(ax.containers, ["T4", "T5"], strict=True):
        points, _, (bars,) = container
        np.testing.assert_allclose(points.get_ydata().astype(float), groups.mean()[dendrite])
        ends = np.array([segment[:, 1] for segment in bars.get_segments()])
        half = 1.966 * np.sqrt(pooled / groups.count()[dendrite])  # t quantile of 392 degrees of freedom
        np.testing.assert_allclose(np.diff(ends)[:, 0] / 2, half, rtol=1e-3)
    assert len(ax.collections[0].get_offsets()) == 400


def test_means_over_a_third_factor_count_groups_the_same():
    adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=60)
    adata.obs["third"] = pd.Categorical(np.where(np.arange(400) % 7 == 0, "rare", "common"))
    flda.tl.flda(adata, [*FACTORS, "third"], interactions=None, shrinkage=0.5)
    ax = flda.pl.scores(adata, "dendrite_1", color="axon")
    score = pd.Series(adata.obsm["X_flda"][:, 0], adata.obs_names)
    means = score.groupby([adata.obs[f] for f in ("axon", "dendrite", "third")], observed=True).mean()
    expected = means.groupby(level=["axon", "dendrite"], observed=True).mean()
    np.testing.assert_allclose(ax.containers[2][0].get_ydata().astype(float), expected["c"])


@pytest.mark.parametrize(
    ("axis", "color", "by", "levels"),
    [
        ("dendrite:axon_1", None, "axon", ["T4", "T5"]),
        ("dendrite:axon_1", "axon", "dendrite", list("abcd")),
        ("axon_1", "axon", "axon", list("abcd")),
        ("axon_1", "donor", "axon", ["donor1", "donor2", "donor3", "donor4"]),
    ],
)
def test_what_one_axis_puts_where(adata, axis, color, by, levels):
    ax = flda.pl.scores(adata, axis, color=color)
    assert ax.get_xlabel() == by
    assert texts(ax.get_legend().get_texts()) == levels


def test_cells_that_are_groups_of_their_own_have_no_second_mark():
    adata = flda.datasets.t4t5_simulated(n_obs=120, n_vars=50)
    adata.obs["well"] = pd.Categorical([f"well{i % 15:02d}" for i in range(120)])
    adata.obs["dose"] = pd.Categorical(np.arange(120) // 15)
    flda.tl.flda(adata, ["well", "dose"], interactions=None, shrinkage=0.5)
    ax = flda.pl.scores(adata, "well_1", "dose_1", color="axon")
    assert [len(c.get_offsets()) for c in ax.collections] == [120, 0, 0, 0, 0]
    assert texts(ax.get_legend().get_texts()) == list("abcd")
    for cloud, level in zip(ax.collections[1:], "abcd", strict=True):  # the legend has the colours of the cells
        own = ax.collections[0].get_facecolor()[:, :3]
        assert np.isclose(own, cloud.get_facecolor()[0, :3]).all(axis=1).sum() == (adata.obs["axon"] == level).sum()


def test_held_out_scores_are_drawn_and_said_to_be(adata):
    with pytest.raises(ValueError, match=r"X_flda_held_out.*flda\.tl\.held_out_scores"):
        flda.pl.scores(adata, held_out=True)
    flda.tl.held_out_scores(adata)
    adata.obsm["X_flda_held_out"][:5] = np.nan  # cells that no fold held out
    ax = flda.pl.scores(adata)
    assert ax.get_xlabel() == "dendrite_1, held out"
    expected = adata.obsm["X_flda_held_out"][5:, :2]
    np.testing.assert_allclose(np.sort(ax.collections[0].get_offsets(), axis=0), np.sort(expected, axis=0))
    assert flda.pl.scores(adata, "axon_1").get_ylabel() == "axon_1 score, held out"
    assert flda.pl.scores(adata, held_out=False).get_xlabel() == "dendrite_1"


def test_unknown_colour(adata):
    with pytest.raises(ValueError, match="'leg'"):
        flda.pl.scores(adata, color="leg")
