"""Figures are judged by what they hold: labels, counts, and data drawn."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import read_h5ad
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

import flda
from flda.inference._certificate import certify_together

FACTORS = ["dendrite", "axon"]
AXES = ["dendrite_1", "axon_1", "axon_2", "axon_3", "dendrite:axon_1", "dendrite:axon_2", "dendrite:axon_3"]


@pytest.fixture(scope="module")
def fitted():
    adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=120)
    flda.tl.flda(adata, FACTORS, shrinkage=0.5)
    flda.tl.rank_genes(adata, n_genes=6)
    models = {"all": flda.FLDA(shrinkage=0.5), "selected": flda.SparseFLDA(n_genes=6, shrinkage=0.5)}
    adata.uns["flda"]["certificate"] = certify_together(models, adata.X, adata.obs[FACTORS])
    return adata


@pytest.fixture
def adata(fitted):
    return fitted.copy()


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def texts(labels):
    return [label.get_text() for label in labels]


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
    assert "not estimable: dendrite:axon, 1 of 8 groups are empty (T5 x c)" in title


def test_design_of_one_and_of_three_factors(adata):
    flda.tl.flda(adata, "axon", shrinkage=0.5)
    assert texts(flda.pl.design(adata).get_xticklabels()) == list("abcd")
    flda.tl.flda(adata, [*FACTORS, "donor"], interactions=None, shrinkage=0.5)
    ax = flda.pl.design(adata)
    assert len(ax.texts) == 2 * 4 * 4
    assert texts(ax.get_xticklabels())[:2] == ["a × donor1", "a × donor2"]
    counts = pd.crosstab(adata.obs["dendrite"], [adata.obs["axon"], adata.obs["donor"]]).to_numpy()
    assert texts(ax.texts) == [str(n) for n in counts.ravel()]


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


def test_held_out_scores_are_drawn_and_said_to_be(adata):
    with pytest.raises(ValueError, match="X_flda_held_out"):
        flda.pl.scores(adata, held_out=True)
    flda.tl.held_out_scores(adata)
    adata.obsm["X_flda_held_out"][:5] = np.nan  # cells that no fold held out
    ax = flda.pl.scores(adata)
    assert ax.get_xlabel() == "dendrite_1, held out"
    expected = adata.obsm["X_flda_held_out"][5:, :2]
    np.testing.assert_allclose(np.sort(ax.collections[0].get_offsets(), axis=0), np.sort(expected, axis=0))
    assert flda.pl.scores(adata, "axon_1").get_ylabel() == "axon_1 score, held out"
    assert flda.pl.scores(adata, held_out=False).get_xlabel() == "dendrite_1"


def test_loadings_are_those_of_the_ranking(adata):
    ax = flda.pl.loadings(adata, "axon_1", n_genes=4)
    table = flda.get.rank_genes_df(adata, "axon").query("axis == 'axon_1'").head(4)
    assert texts(ax.get_yticklabels()) == table["gene"].tolist()
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], table["score"])
    assert [bar.get_hatch() is not None for bar in ax.patches] == (table["kind"] == "cancelling").tolist()
    assert len(flda.pl.loadings(adata, n_genes=50).patches) == 6  # no more than are selected
    del adata.uns["flda"]["sparse_axes"]
    assert len(flda.pl.loadings(adata, n_genes=50).patches) == 50  # the dense axis uses all


def test_genes_shows_group_means_in_the_order_of_the_axis(adata):
    adata.uns["axon_colors"] = ["#111111", "#222222", "#333333", "#444444"]
    ax = flda.pl.genes(adata, "axon_1")
    table = flda.get.rank_genes_df(adata, "axon").query("axis == 'axon_1' and selected")
    table = table.sort_values("loading", ascending=False)
    assert texts(ax.get_yticklabels()) == table["gene"].tolist()
    X = pd.DataFrame(adata[:, table["gene"]].X.toarray(), columns=table["gene"])
    means = X.groupby([adata.obs[f].to_numpy() for f in ("axon", "dendrite")]).mean()
    means = means - means.mean()
    place = (means * table["loading"].to_numpy()).sum(axis=1).groupby(level=0).mean().sort_values()
    expected = means.loc[place.index] / adata.var.loc[table["gene"], "flda_within_sd"]
    drawn = ax.collections[0].get_array().reshape(6, 8)
    np.testing.assert_allclose(drawn, expected.T, rtol=1e-4, atol=1e-5)
    assert texts(ax.get_xticklabels()) == ["T4", "T5"] * 4
    assert texts(ax.texts) == place.index.tolist()
    strips = [p.get_facecolor()[:3] for p in ax.patches if isinstance(p, Rectangle)]
    np.testing.assert_allclose(strips, [to_rgb("#" + 6 * str("abcd".index(a) + 1)) for a in place.index])


def test_genes_of_an_interaction_name_whole_groups(adata):
    labels = texts(flda.pl.genes(adata, "dendrite:axon_1").get_xticklabels())
    assert sorted(labels) == sorted(f"{d} × {a}" for d in ("T4", "T5") for a in "abcd")


def test_genes_leaves_out_unlabelled_cells_and_reads_the_layer(adata):
    adata.layers["log"], adata.X = adata.X, adata.X * 0
    adata.obs.loc[adata.obs_names[:30], "axon"] = np.nan
    flda.tl.flda(adata, FACTORS, shrinkage=0.5, layer="log")
    ax = flda.pl.genes(adata, "dendrite_1", n_genes=3)
    gene = texts(ax.get_yticklabels())[0]
    x = pd.Series(adata[30:, gene].layers["log"].toarray().ravel())
    means = x.groupby([adata.obs[f][30:].to_numpy() for f in FACTORS]).mean()
    expected = np.sort((means - means.mean()) / adata.var.loc[gene, "flda_within_sd"])
    np.testing.assert_allclose(np.sort(ax.collections[0].get_array().reshape(3, 8)[0]), expected, rtol=1e-4)


@pytest.mark.parametrize("genes", ["all", "selected"])
def test_certificate_is_the_table_with_the_own_effect_boxed(adata, genes):
    ax = flda.pl.certificate(adata, genes=genes)
    table = adata.uns["flda"]["certificate"].query("genes == @genes")
    effects = ["dendrite", "axon", "dendrite:axon"]
    assert texts(ax.get_yticklabels()) == AXES
    assert texts(ax.get_xticklabels()) == effects
    written = np.array([float(t) for t in texts(ax.texts)]).reshape(7, 3)
    np.testing.assert_allclose(written, table[[f"snr_{e}" for e in effects]], atol=0.5, rtol=0.05)
    boxes = {(p.get_y(), p.get_x()) for p in ax.patches}
    assert boxes == {(i, effects.index(e)) for i, e in enumerate(table["effect"])}


def test_certificate_marks_what_could_not_be_estimated(adata):
    table = adata.uns["flda"]["certificate"].copy()
    table.loc[1, "snr_dendrite"] = np.nan
    table["sd_snr"] = 0.1  # further columns do no harm
    adata.uns["flda"]["certificate"] = table
    ax = flda.pl.certificate(adata)
    assert [p.get_xy() for p in ax.patches if p.get_hatch()] == [(0, 1)]
    assert len(ax.texts) == 20
    with pytest.raises(ValueError, match="no rows with genes='few'"):
        flda.pl.certificate(adata, genes="few")


def test_variance_may_be_negative(adata):
    table = pd.DataFrame({"effect": ["dendrite", "axon", "within"], "df": [1, 3, 392], "share": [0.12, -0.01, 0.89]})
    adata.uns["flda"]["variance"] = table
    ax = flda.pl.variance(adata)
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], table["share"])
    assert texts(ax.texts) == ["12 %", "-1 %", "89 %"]
    assert ax.get_xlim()[0] < -0.01


def test_path_draws_what_the_tool_found(adata):
    flda.tl.path(adata, n_genes=[8, 3])
    ax = flda.pl.path(adata, "axon_2")
    table = adata.uns["flda"]["path"].query("axis == 'axon_2'")
    for line, column in zip(ax.lines, ["eigenvalue", "snr", "crosstalk"], strict=False):
        np.testing.assert_allclose(line.get_xydata(), table[["n_genes", column]])
    assert texts(ax.get_xticklabels()) == ["3", "8"]


def test_stability_of_all_axes_and_of_one(adata):
    selected = flda.get.rank_genes_df(adata).query("selected")[["axis", "effect", "gene"]]
    found = selected[["effect", "gene"]].drop_duplicates()
    found["frequency"] = np.linspace(0.1, 1, len(found))
    rare = pd.DataFrame({"effect": ["axon"], "gene": ["none of the selected"], "frequency": [0.02]})
    found = pd.concat([found.iloc[1:], rare])
    adata.uns["flda"]["stability"] = {"genes": found, "params": {"n_halves": 10}}
    ax = flda.pl.stability(adata)
    assert texts(ax.get_yticklabels()) == AXES
    drawn = [np.sort(c.get_offsets()[:, 0]) for c in ax.collections]
    lookup = found.set_index(["effect", "gene"])["frequency"]
    for dots, (_, part) in zip(drawn, selected.groupby("axis", sort=False), strict=True):
        expected = [lookup.get((e, g), 0.0) for e, g in zip(part["effect"], part["gene"], strict=True)]
        np.testing.assert_allclose(dots, np.sort(expected))
    ax = flda.pl.stability(adata, "axon_1")
    table = found.query("effect == 'axon'").sort_values("frequency", ascending=False)
    assert texts(ax.get_yticklabels()) == table["gene"].tolist()
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], table["frequency"])
    own = set(selected.query("axis == 'axon_1'")["gene"])
    shades = {gene: bar.get_facecolor() for gene, bar in zip(table["gene"], ax.patches, strict=True)}
    assert len({shades[g] for g in own & set(shades)}) == 1
    assert shades["none of the selected"] not in {shades[g] for g in own & set(shades)}


@pytest.mark.parametrize("name", ["certificate", "path", "stability", "variance"])
def test_what_was_not_run_is_said(name):
    adata = flda.datasets.t4t5_simulated(n_obs=200, n_vars=60)
    with pytest.raises(ValueError, match=r"run flda\.tl\.flda first"):
        getattr(flda.pl, name)(adata)
    flda.tl.flda(adata, FACTORS, shrinkage=0.5)
    adata.uns["flda"].pop(name, None)
    with pytest.raises(ValueError, match=rf"has no '{name}'; run flda\.tl\."):
        getattr(flda.pl, name)(adata)


@pytest.mark.parametrize("figure", [flda.pl.scores, flda.pl.loadings, flda.pl.genes])
def test_unknown_axes_are_named(adata, figure):
    with pytest.raises(ValueError, match="no axis 'leg_1'"):
        figure(adata, "leg_1")


def test_unknown_colour(adata):
    with pytest.raises(ValueError, match="no column 'leg'"):
        flda.pl.scores(adata, color="leg")


def test_every_figure_draws_on_the_axes_given_and_from_a_file(adata, tmp_path):
    adata.uns["flda"]["variance"] = pd.DataFrame({"effect": ["dendrite", "within"], "df": [1, 9], "share": [0.1, 0.9]})
    adata.write_h5ad(tmp_path / "x.h5ad")
    back = read_h5ad(tmp_path / "x.h5ad")
    for name in ("design", "scores", "loadings", "genes", "certificate", "variance"):
        ax = plt.figure().add_subplot()
        assert getattr(flda.pl, name)(back, ax=ax) is ax
        plt.close("all")
