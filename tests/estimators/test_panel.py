"""PanelFLDA: the demands on a panel, what it says of its genes, and its axes."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from flda import FLDA, PanelFLDA
from flda.inference import certify

from oracle import problem


@pytest.fixture(scope="module")
def data():
    X, y = problem(120, 25, (2, 3), seed=1)
    return X, y


def test_axes_are_those_of_a_fit_to_the_panel_alone(data):
    X, y = data
    model = PanelFLDA(n_genes=6, shrinkage=0.3).fit(X, y)
    genes = np.sort(model.panel_)
    alone = FLDA(shrinkage=0.3).fit(X[:, genes], y)
    np.testing.assert_allclose(model.components_[:, genes], alone.components_, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(model.eigenvalues_, alone.eigenvalues_)
    assert not model.components_[:, np.setdiff1d(np.arange(25), genes)].any()
    assert (model.predict(X).to_numpy() == alone.predict(X[:, genes]).to_numpy()).all()
    np.testing.assert_allclose(model.transform(X), alone.transform(X[:, genes]), atol=1e-9)
    np.testing.assert_allclose(model.inverse_transform(model.transform(X))[:, genes].mean(axis=0),
                               alone.inverse_transform(alone.transform(X[:, genes])).mean(axis=0))  # fmt: skip


def test_table_says_what_the_panel_loses_without_each_gene(data):
    X, y = data
    model = PanelFLDA(n_genes=5, shrinkage=0.3).fit(X, y)
    table, total = model.panel_table_, model.information_["information"].sum()
    assert table["gene"].tolist() == model.panel_.tolist()
    assert table["loss"].is_monotonic_decreasing
    for gene, loss in zip(table["gene"], table["loss"], strict=True):
        rest = np.setdiff1d(model.panel_, gene)
        without = PanelFLDA(n_genes=4, include=rest, shrinkage=0.3).fit(X, y)
        np.testing.assert_allclose(without.information_["information"].sum(), total * (1 - loss))
    home = np.abs(FLDA(shrinkage=0.3).fit(X, y).patterns_).argmax(axis=0)
    assert table["axis"].tolist() == model.axes_["axis"].iloc[home[model.panel_]].tolist()
    # with fixed contrasts, the information about all genes is the sum of log(1 + eigenvalue) of the axes of all genes
    dense = FLDA(shrinkage=0.3).fit(X, y).axes_.assign(J=lambda t: np.log1p(t["eigenvalue"]))
    np.testing.assert_allclose(model.information_["all_genes"], dense.groupby("effect", sort=False)["J"].sum())


def test_demands_are_met(data):
    X, y = data
    axes = FLDA(shrinkage=0.3).fit(X, y).axes_["axis"]
    cost = np.linspace(1, 2, 25)
    model = PanelFLDA(
        n_genes=12,
        include=[3, 20],
        min_per_axis=1,
        cost=cost,
        budget=17.0,
        candidates=np.arange(25) != 5,
        shrinkage=0.3,
    ).fit(X, y)
    assert {3, 20} <= set(model.panel_)
    assert 5 not in model.panel_
    assert len(model.panel_) <= 12
    assert cost[model.panel_].sum() <= 17.0
    counts = model.panel_table_["axis"].value_counts()
    assert all(counts[axis] >= 1 for axis in axes)
    assert set(model.panel_table_.query("included")["gene"]) == {3, 20}


def test_effects_and_weights_say_what_the_panel_is_for(data):
    X, y = data
    own = PanelFLDA(n_genes=3, effects="A", shrinkage=0.3).fit(X, y)
    assert own.information_["effect"].tolist() == ["A"]
    both = PanelFLDA(n_genes=3, effects=["A", "B"], shrinkage=0.3).fit(X, y)
    heavy = PanelFLDA(n_genes=3, effects={"A": 1000.0, "B": 1.0}, shrinkage=0.3).fit(X, y)
    assert set(heavy.panel_) == set(own.panel_) != set(both.panel_)
    assert own.axes_["effect"].nunique() == 3  # all effects get axes


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"n_genes": 0}, "n_genes=0"),
        ({"n_genes": 26}, "25"),
        ({"n_genes": None}, "budget"),
        ({"n_genes": 2, "include": [0, 1, 2]}, "include"),
        ({"include": [25]}, "25"),
        ({"include": [1, 1]}, "twice"),
        ({"n_genes": 3, "min_per_axis": 2}, "min_per_axis=2"),
        ({"min_per_axis": -1}, "min_per_axis=-1"),
        ({"cost": np.ones(25)}, "budget"),
        ({"budget": 3.0}, "cost"),
        ({"cost": np.zeros(25), "budget": 3.0}, "cost"),
        ({"cost": np.ones(24), "budget": 3.0}, "25"),
        ({"cost": np.full(25, 4.0), "budget": 3.0}, "budget=3"),
        ({"cost": np.ones(25), "budget": 3.0, "min_per_axis": 1}, "budget=3"),
        ({"effects": ["none"]}, "none"),
        ({"effects": {"A": -1.0}}, "A"),
        ({"candidates": np.zeros(25, bool)}, "n_genes"),
        ({"min_per_axis": 1, "candidates": np.arange(25) < 6, "n_genes": 6}, "the axis"),
    ],
)
def test_demands_that_cannot_be_met_are_named(data, options, word):
    X, y = data
    with pytest.raises(ValueError, match=word):
        PanelFLDA(**{"n_genes": 8, "shrinkage": 0.3, **options}).fit(X, y)


def test_collinear_genes_can_be_included(data):
    X, y = data
    X = np.column_stack([X, 2 * X[:, 4]])
    model = PanelFLDA(n_genes=5, include=[4, 25], shrinkage=0.1).fit(X, y)
    assert {4, 25} <= set(model.panel_)


def test_certificate_chooses_the_genes_again_in_every_fold():
    """Pure noise: chosen on all cells, the genes would show an effect on cells that took part in the choice."""
    rng = np.random.default_rng(0)
    y = pd.DataFrame({"a": ["p", "q"] * 30, "b": ["r"] * 30 + ["s"] * 30})
    X = rng.normal(size=(60, 150))
    model = PanelFLDA(n_genes=5, shrinkage=0.5)
    honest = certify(clone(model), X, y)
    genes = model.fit(X, y).panel_
    leaky = certify(FLDA(shrinkage=0.5), X[:, genes], y)
    assert honest["snr"].max() < 0.3
    assert leaky["snr"].max() > 0.5


def test_infinite_penalties_and_donors_work():
    rng = np.random.default_rng(0)
    y = pd.DataFrame({"a": np.repeat(["p", "q"], 60), "b": ["r", "s"] * 60})
    donor = np.repeat(np.arange(12), 10)
    X = rng.normal(size=(120, 12)) + 0.3 * rng.normal(size=(12, 12))[donor]
    X[:, :3] += (y["a"] == "q").to_numpy()[:, None]
    X[:, 2:5] += (y["b"] == "s").to_numpy()[:, None]
    model = PanelFLDA(n_genes=5, penalty={"b": np.inf}, effects="a", interactions=None, shrinkage=0.2).fit(X, y, donor)
    scores = model.transform(model.means_)[:, 0]
    levels = model.design_.group_levels()["b"].to_numpy()
    np.testing.assert_allclose(scores[levels == "r"].mean(), scores[levels == "s"].mean(), atol=1e-8)
    assert {0, 1} <= set(model.panel_)


def test_an_effect_without_any_difference_has_no_share():
    y = pd.DataFrame({"a": ["p", "q"] * 12, "b": ["r", "r", "s", "s"] * 6})
    X = np.zeros((24, 4))
    X[:, 1] = y["a"] == "q"  # the levels of b have equal means
    found = PanelFLDA(n_genes=1, shrinkage=0.5, interactions=None).fit(X, y).information_.set_index("effect")["share"]
    assert found["a"] == pytest.approx(1)
    assert np.isnan(found["b"])
