"""Loadings and expression of genes, judged by what is drawn."""

import numpy as np
import pandas as pd
from labels import texts
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

import flda

FACTORS = ["dendrite", "axon"]


def test_loadings_are_those_of_the_ranking(adata):
    ax = flda.pl.loadings(adata, "axon_1", n_genes=4)
    table = flda.get.rank_genes_df(adata, "axon").query("axis == 'axon_1'").head(4)
    assert texts(ax.get_yticklabels()) == table["gene"].tolist()
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], table["score"])
    assert [bar.get_hatch() is not None for bar in ax.patches] == (table["kind"] == "cancelling").tolist()
    assert len(flda.pl.loadings(adata, n_genes=50).patches) == 6  # no more than are selected
    del adata.uns["flda"]["sparse_axes"]
    assert len(flda.pl.loadings(adata, n_genes=50).patches) == 50  # the dense axis uses all


def test_genes_that_are_not_significant_are_marked(adata):
    table = flda.get.rank_genes_df(adata, "dendrite:axon").query("axis == 'dendrite:axon_3' and selected")
    adata.varm["flda_F"][adata.var_names.get_indexer(table["gene"][1:3]), 2] = 0.5
    ax = flda.pl.loadings(adata, "dendrite:axon_3")
    marks = {int(text.get_position()[1]) for text in ax.texts}
    table = flda.get.rank_genes_df(adata, "dendrite:axon").query("axis == 'dendrite:axon_3' and selected")
    assert marks == set(np.flatnonzero(~table["significant"])) >= {1, 2}
    assert all(text.get_text().strip() == "n.s." for text in ax.texts)


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
