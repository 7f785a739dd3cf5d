"""Links of gene axes to wiring: found where they were planted, and computed densely."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad

import flda
from flda import datasets
from flda.circuits import link_axes

from circuit_problems import PARTNERS, TYPES, planted, projector, random_matrix


def test_links_are_found_where_they_were_planted(cells):
    adata = cells.copy()
    links = link_axes(adata, planted(adata), "subtype")
    table = links.set_index(["direction", "axis"])
    assert table.loc[("inputs", "dendrite_1"), "share"] > 0.6
    assert table.loc[("inputs", "dendrite_1"), "pval"] == pytest.approx(1 / 35)
    assert table.loc[("inputs", "dendrite_1"), "n_distinct"] == 35
    assert table.loc[("inputs", "dendrite_1"), "held_out_r2"] > 0.8
    assert table.loc[("outputs", "dendrite_1"), "pval"] > 0.2
    assert table.loc[("outputs", "dendrite_1"), "held_out_r2"] < 0.2
    assert table.loc["outputs"].loc[["axon_1", "axon_2"], "share"].sum() > 0.6
    assert table.loc[("inputs", "axon_1"), "pval"] > 0.2
    assert (links["n_types"] == 8).all()
    assert set(adata.uns["flda"]["connectivity"]) == {"links", "scores", "matrix", "pre", "post", "params"}


def test_a_link_is_what_it_says_densely(cells):
    adata = cells.copy()
    matrix = random_matrix(3)
    links = link_axes(adata, matrix, "subtype", directions="outputs").set_index("axis")
    scores = pd.DataFrame(adata.obsm["X_flda_held_out"], columns=flda.get.axes_df(adata)["axis"])
    s = scores["axon_2"].groupby(adata.obs["subtype"].astype(str).to_numpy()).mean()[TYPES].to_numpy()
    s = projector(("axon",)) @ s
    G = matrix.loc[TYPES, PARTNERS].to_numpy()
    G = G - G.mean(axis=0)
    assert links.loc["axon_2", "share"] == pytest.approx(np.sum((G.T @ s) ** 2) / (s @ s) / np.sum(G**2))
    t = G @ G.T @ s
    assert links.loc["axon_2", "correlation"] == pytest.approx(np.corrcoef(s, t)[0, 1])
    drawn = np.sum((s[np.array(list(itertools.permutations(range(8))))] @ G) ** 2, axis=1)
    assert links.loc["axon_2", "pval"] == pytest.approx(np.mean(drawn >= drawn[0] * (1 - 1e-9)))
    predicted = []
    for i in range(8):
        rest = np.delete(np.arange(8), i)
        w = (G[rest] - G[rest].mean(axis=0)).T @ (s[rest] - s[rest].mean())
        slope, offset = np.polyfit(G[rest] @ w, s[rest], 1)
        predicted.append(slope * (G[i] @ w) + offset)
    loo = np.array([np.delete(s, i).mean() for i in range(8)])
    expected = 1 - np.sum((s - predicted) ** 2) / np.sum((s - loo) ** 2)
    assert links.loc["axon_2", "held_out_r2"] == pytest.approx(expected)


def test_scores_and_links_survive_a_file(cells, tmp_path):
    adata = cells.copy()
    links = link_axes(adata, planted(adata), "subtype", directions="inputs")
    adata.write_h5ad(tmp_path / "a.h5ad")
    back = read_h5ad(tmp_path / "a.h5ad")
    pd.testing.assert_frame_equal(back.uns["flda"]["connectivity"]["links"], links)
    for data in (adata, back):
        ax = flda.pl.connectivity(data, "dendrite_1")
        assert ax.get_title(loc="left").splitlines()[0].endswith("p = 0.029 (at least 0.029)")
        assert {t.get_text() for t in ax.texts} == set(TYPES)
    plt.close("all")


def test_rules_between_axes_of_partners_that_have_cells():
    """Partners with cells of their own: connections follow the product of presynaptic and postsynaptic gene scores."""
    rng = np.random.default_rng(0)
    both = datasets.t4t5_simulated(n_obs=800, n_vars=200)
    partners = datasets.t4t5_simulated(n_obs=800, n_vars=200)
    partners.obs["subtype"] = "Q" + partners.obs["subtype"].astype(str)
    partners.obs_names = "partner_" + partners.obs_names
    obs = pd.concat([both.obs, partners.obs]).astype(object)
    obs.loc[partners.obs_names, ["dendrite", "axon"]] = np.nan
    adata = AnnData(np.vstack([both.X.toarray(), partners.X.toarray()]), obs=obs, var=both.var)
    adata.obs = adata.obs.astype(dict.fromkeys(("dendrite", "axon", "subtype"), "category"))
    flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    scores = pd.DataFrame(adata.obsm["X_flda"], columns=flda.get.axes_df(adata)["axis"])
    means = scores.groupby(adata.obs["subtype"].astype(str).to_numpy()).mean()
    others = [f"Q{t}" for t in TYPES]
    B = np.outer(means.loc[others, "axon_1"], means.loc[TYPES, "dendrite_1"])
    matrix = pd.DataFrame(B + 0.1 * B.std() * rng.normal(size=B.shape), index=others, columns=TYPES)
    link_axes(adata, matrix, "subtype", directions="inputs")
    found = adata.uns["flda"]["connectivity"]
    strongest = found["rules"].abs().stack().idxmax()
    assert strongest == ("axon_1", "dendrite_1")
    score = found["rules_score"].set_index("held out")
    assert score.loc["neurons", "score"] > 0.8
    assert score.loc["neurons", "permutation_mean"] < 0.5


def test_links_refuse_what_cannot_be_linked(cells):
    adata = cells.copy()
    before = set(adata.uns["flda"])
    with pytest.raises(ValueError, match="'subtypes'"):
        link_axes(adata, random_matrix(), "subtypes")
    with pytest.raises(ValueError, match=r"'donor1'.*'donor'"):
        link_axes(adata, random_matrix(), "donor")
    with pytest.raises(ValueError, match=r"'T5d'.*presynaptic"):
        link_axes(adata, random_matrix().drop(index="T5d"), "subtype", directions="outputs")
    with pytest.raises(ValueError, match=r"flda\.tl\.flda"):
        link_axes(adata, random_matrix(), "subtype", key="nope")
    assert set(adata.uns["flda"]) == before
    with pytest.raises(ValueError, match=r"flda\.circuits\.link_axes"):
        flda.pl.connectivity(adata)
    link_axes(adata, random_matrix(), "subtype", directions="inputs")
    with pytest.raises(ValueError, match="direction='outputs'"):
        flda.pl.connectivity(adata, direction="outputs")
    with pytest.raises(ValueError, match="'axon_9'"):
        flda.pl.connectivity(adata, "axon_9")


def test_links_of_a_view_leave_its_parent_unchanged(cells):
    parent = cells.copy()
    view = parent[parent.obs["axon"] != "d"]
    before = set(parent.uns["flda"])
    types = [t for t in TYPES if not t.endswith("d")]
    link_axes(view, random_matrix(types=types), "subtype", directions="inputs")
    assert "connectivity" in view.uns["flda"]
    assert set(parent.uns["flda"]) == before


def test_figure_of_the_matrix(cells):
    adata = cells.copy()
    matrix = planted(adata)
    link_axes(adata, matrix, "subtype")
    for direction, part in (("inputs", matrix.loc[PARTNERS, TYPES]), ("outputs", matrix.loc[TYPES, PARTNERS].T)):
        ax = flda.pl.connectivity(adata, direction=direction, n_partners=4)
        strongest = part.abs().sum(axis=1).sort_values(ascending=False).index[:4]
        assert [t.get_text() for t in ax.get_yticklabels()] == list(strongest)
        assert [t.get_text() for t in ax.get_xticklabels()] == TYPES
        drawn = np.asarray(ax.collections[0].get_array()).reshape(4, 8)
        np.testing.assert_allclose(np.sign(drawn) * drawn**2, part.loc[strongest], atol=1e-12)
        assert [line.get_xdata()[0] for line in ax.lines] == [4]  # between T4 and T5
        assert "4 strongest of 6" in ax.get_ylabel()
    ax = flda.pl.connectivity(adata, "axon_1")
    assert ax.get_ylabel().startswith("outputs along")
    plt.close("all")
