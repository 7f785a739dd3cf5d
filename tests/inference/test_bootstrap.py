"""How sure loadings and scores are: percentiles of fits on resamples."""

import numpy as np
import pandas as pd
import pytest

from flda import FLDA, SparseFLDA
from flda.inference import bootstrap
from flda.inference._bootstrap import _Frozen, _resamples

from oracle import donor_problem, problem


@pytest.mark.parametrize("mode", ["axis", "marker"])
@pytest.mark.parametrize("target", ["diagonal", "identity"])
@pytest.mark.parametrize("with_donors", [False, True])
@pytest.mark.parametrize("group_means", ["observed", "shrunken"])
def test_the_data_themselves_give_the_axes_of_the_fit(mode, target, with_donors, group_means):
    """A replicate that is the sample: frozen axes equal those of the model, up to sign or rotation."""
    X, y, donors = donor_problem(4, 25, 60)
    y["type"] = np.array(list("pqr"))[np.arange(len(y)) % 3]
    groups = donors if with_donors else None
    options = {"n_genes": 5, "shrinkage": 0.3, "mode": mode, "shrinkage_target": target, "group_means": group_means}
    model = SparseFLDA(**options).fit(X, y, groups=groups)
    if group_means == "shrunken":
        observed = FLDA(shrinkage=0.3).fit(X, y, groups=groups).means_
        assert np.abs(model.means_ - observed).max() > 0.01
    genes = np.unique(np.concatenate([a for axes in model.selected_.values() for a in axes]))
    frozen = _Frozen(model, genes)
    codes = pd.factorize(donors, sort=True)[0] if with_donors else None
    U, means, metric = frozen.of(X[:, genes], model.design_, codes)
    np.testing.assert_allclose(means, model.means_[:, genes])
    np.testing.assert_allclose(np.diag(U.T @ metric @ U), 1)
    turned = frozen.turned(U, model.components_[:, genes].T, metric)
    np.testing.assert_allclose(turned, model.components_[:, genes].T, atol=1e-8)


def test_turning_undoes_signs_and_rotations():
    X, y = problem(200, 12, (2, 4))
    rng = np.random.default_rng(0)
    for mode in ("axis", "marker"):
        model = SparseFLDA(n_genes=6, shrinkage=0.3, mode=mode, interactions=None).fit(X, y)
        genes = np.unique(np.concatenate([a for axes in model.selected_.values() for a in axes]))
        frozen, original = _Frozen(model, genes), model.components_[:, genes].T
        metric = frozen.of(X[:, genes], model.design_, None)[2]
        U = -original
        if mode == "marker":
            U[:, 1:] = U[:, 1:] @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
        np.testing.assert_allclose(frozen.turned(U, original, metric), original, atol=1e-8)


def one_gene(n=60, seed=0):
    """One gene and one factor: the loading is one over the within-group standard deviation."""
    rng = np.random.default_rng(seed)
    a = np.repeat([0, 1], n)
    X = rng.normal(size=(2 * n, 1)) + 2 * a[:, None]
    y = pd.DataFrame({"A": a.astype(str)})
    return X, y, SparseFLDA(n_genes=1, shrinkage=0.0).fit(X, y)


@pytest.mark.parametrize("confidence", [0.5, 0.9])
def test_intervals_are_the_percentiles_of_many_refits(confidence):
    """Of 40,000 resamples drawn and fitted by hand, the interval leaves out as many on each side as it says."""
    X, y, model = one_gene()
    bands = bootstrap(model, X, y, n_resamples=800, confidence=confidence)
    rng = np.random.default_rng(1)
    groups = [X[:60, 0], X[60:, 0]]
    draws = [g[rng.integers(60, size=(40_000, 60))] for g in groups]
    loadings = 1 / np.sqrt((draws[0].var(axis=1, ddof=1) + draws[1].var(axis=1, ddof=1)) / 2)
    scores = (draws[1].mean(axis=1) - draws[0].mean(axis=1)) / 2 * loadings
    tail = (1 - confidence) / 2
    near = 4 * np.sqrt(tail * (1 - tail) / 800)  # standard errors of the percentile of 800 resamples
    row = bands.loadings.iloc[0]
    assert np.mean(loadings < row["lower"]) == pytest.approx(tail, abs=near)
    assert np.mean(loadings > row["upper"]) == pytest.approx(tail, abs=near)
    row = bands.scores.iloc[1]
    assert np.mean(scores < row["lower"]) == pytest.approx(tail, abs=near)
    assert np.mean(scores > row["upper"]) == pytest.approx(tail, abs=near)


def test_more_confidence_is_a_wider_interval():
    X, y, model = one_gene()
    bands = [bootstrap(model, X, y, n_resamples=60, confidence=c).loadings.iloc[0] for c in (0.5, 0.8, 0.95)]
    assert bands[0]["lower"] > bands[1]["lower"] > bands[2]["lower"]
    assert bands[0]["upper"] < bands[1]["upper"] < bands[2]["upper"]


def test_intervals_cover_the_truth():
    """One factor, independent genes: the best weights are the effect, the same for all 4 genes. 20 data sets."""
    inside = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        a = np.repeat([0, 1], 60)
        X = rng.normal(size=(120, 4)) + 0.8 * a[:, None]
        y = pd.DataFrame({"A": a.astype(str)})
        model = SparseFLDA(n_genes=4, shrinkage=0.0).fit(X, y)
        bands = bootstrap(model, X, y, n_resamples=80, confidence=0.9).loadings
        inside += ((bands["lower"] <= 0.5) & (bands["upper"] >= 0.5)).tolist()
    # 80 intervals, nearly independent within a data set too
    assert np.mean(inside) == pytest.approx(0.9, abs=4 * np.sqrt(0.09 / 80))


@pytest.mark.parametrize("mode", ["axis", "marker"])
@pytest.mark.parametrize("with_donors", [False, True])
def test_with_shrunken_means(mode, with_donors):
    X, y, donors = donor_problem(4, 15, 60)
    groups = donors if with_donors else None
    model = SparseFLDA(n_genes=4, shrinkage=0.3, mode=mode, group_means="shrunken").fit(X, y, groups=groups)
    bands = bootstrap(model, X, y, groups, n_resamples=40)
    table = bands.scores
    inside = (table["lower"] <= table["score"]) & (table["score"] <= table["upper"])
    assert inside.mean() > 0.8
    np.testing.assert_allclose(
        bands.scores.query("axis == 'treatment_1'")["score"], model.transform(model.means_)[:, 0], atol=1e-10
    )


def test_tables():
    X, y = problem(200, 12, (2, 3))
    model = SparseFLDA(n_genes=4, shrinkage=0.3).fit(X, y)
    bands = bootstrap(model, X, y, n_resamples=60)
    assert bands.n_resamples == 60
    assert bands.loadings.groupby("axis", sort=False).size().tolist() == [4] * 5
    assert (bands.loadings["lower"] <= bands.loadings["upper"]).all()
    assert bands.scores.columns.tolist() == ["axis", "A", "B", "score", "lower", "upper"]
    assert len(bands.scores) == 5 * 6
    own = bands.scores.query("axis == 'A_1'")
    assert ((own["lower"] <= own["score"]) & (own["score"] <= own["upper"])).all()
    again = bootstrap(model, X, y, n_resamples=60)
    pd.testing.assert_frame_equal(bands.loadings, again.loadings)


def test_donors_are_drawn_then_cells_within_them():
    X, y, names = donor_problem(4, 20, 15)
    donors = pd.factorize(names, sort=True)[0]
    model = SparseFLDA(n_genes=3, shrinkage=0.5).fit(X, y, groups=names)
    drawn = []
    for cells, instances in _resamples(model.design_, donors, 20, np.random.default_rng(0)):
        of = [np.unique(donors[cells[instances == i]]) for i in range(8)]
        assert all(len(d) == 1 for d in of)
        levels = [y["treatment"].iloc[np.flatnonzero(donors == d[0])[0]] for d in of]
        assert sorted(levels) == ["no"] * 4 + ["yes"] * 4
        drawn.append(len({d[0] for d in of}))
    assert min(drawn) < 8
    by_donor = bootstrap(model, X, y, names, n_resamples=60).scores
    by_cell = bootstrap(SparseFLDA(n_genes=3, shrinkage=0.5).fit(X, y), X, y, n_resamples=60).scores
    widths = [(s["upper"] - s["lower"])[s["axis"] == "treatment_1"].mean() for s in (by_donor, by_cell)]
    assert widths[0] > widths[1]  # donors differ, cells of one donor agree


def test_other_cells_are_refused():
    X, y = problem(100, 12, (2, 2))
    model = SparseFLDA(n_genes=3, shrinkage=0.5).fit(X, y)
    with pytest.raises(ValueError, match=r"\b100 cells.*\b50\b"):
        bootstrap(model, X[:50], y.iloc[:50])


def test_too_few_donors_for_resamples_are_refused():
    """Each of twelve types is seen in two of twelve donors: resamples of the donors hardly ever have all types."""
    donors = np.repeat(np.arange(12), 10)
    y = pd.DataFrame({"type": ((donors + np.arange(120) % 2) % 12).astype(str)})
    X = np.random.default_rng(0).normal(size=(120, 10))
    model = SparseFLDA(n_genes=3, shrinkage=0.5, n_components=1).fit(X, y, groups=donors)
    with pytest.raises(ValueError, match="donors"):
        bootstrap(model, X, y, donors, n_resamples=2)
