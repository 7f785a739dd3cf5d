"""How precise loadings and scores are: intervals from one half of the data for genes that the other half selects."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from flda import FLDA, SparseFLDA
from flda._design.make import make_design
from flda._design.splits import Split
from flda.inference import bootstrap
from flda.inference._bootstrap import _Frozen, _resamples, halves

from oracle import donor_problem, problem


def frozen_on(model):
    genes = np.unique(np.concatenate([a for axes in model.selected_.values() for a in axes]))
    return genes, _Frozen(model, genes)


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
    genes, frozen = frozen_on(model)
    codes = pd.factorize(donors, sort=True)[0] if with_donors else None
    V, means, metric = frozen.estimate(X[:, genes], model.design_, codes)
    if group_means == "observed":
        np.testing.assert_allclose(means, (model.means_ - model.means_.mean(axis=0))[:, genes], atol=1e-10)
    U = frozen.turned(V, means, metric)
    U /= np.sqrt(np.diag(U.T @ metric @ U))
    np.testing.assert_allclose(U, model.components_[:, genes].T, atol=1e-8)


def test_turning_undoes_signs_and_rotations():
    X, y = problem(200, 12, (2, 4))
    rng = np.random.default_rng(0)
    for mode in ("axis", "marker"):
        model = SparseFLDA(n_genes=6, shrinkage=0.3, mode=mode, interactions=None).fit(X, y)
        genes, frozen = frozen_on(model)
        original = frozen.weights
        _, means, metric = frozen.estimate(X[:, genes], model.design_, None)
        U = -original
        if mode == "marker":
            U[:, 1:] = U[:, 1:] @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
        np.testing.assert_allclose(frozen.turned(U, means, metric), original, atol=1e-8)


def test_weights_are_linear_in_the_effect():
    """With one degree of freedom they are W^-1 b, so that a weak gene does not change those of independent genes."""
    X, y = problem(200, 12, (2, 2))
    model = SparseFLDA(n_genes=6, shrinkage=0.3, interactions=None, objective="difference", penalty=0.0).fit(X, y)
    genes, frozen = frozen_on(model)
    V, means, metric = frozen.estimate(X[:, genes], model.design_, None)
    V = frozen.turned(V, means, metric)
    for j, effect in enumerate(("A", "B")):
        on = frozen.selected[effect][0]
        level = (model.design_.group_levels()[effect] == f"{effect}1").to_numpy()
        b = means[level].mean(axis=0) - means[~level].mean(axis=0)
        expected = np.linalg.solve(metric[np.ix_(on, on)], b[on])
        np.testing.assert_allclose(np.abs(V[on, j] / expected), np.abs(V[on[0], j] / expected[on[0] == on][0]))


def one_gene(n=60, seed=0):
    """One gene and one factor: the loading is one over the within-group standard deviation."""
    rng = np.random.default_rng(seed)
    a = np.repeat([0, 1], n)
    X = rng.normal(size=(2 * n, 1)) + 2 * a[:, None]
    y = pd.DataFrame({"A": a.astype(str)})
    return X, y, SparseFLDA(n_genes=1, shrinkage=0.0).fit(X, y)


@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_intervals_are_those_of_many_resamples_drawn_by_hand(confidence):
    """One gene: the score of a group is its mean times the loading of the first half, and its error is known."""
    X, y, model = one_gene()
    found = bootstrap(model, X, y, n_resamples=500, confidence=confidence)
    split = halves(make_design(y), None, np.random.default_rng(0))
    first, second = split.train, split.test
    groups = [X[second[y["A"].iloc[second] == a], 0] for a in "01"]
    assert [len(g) for g in groups] == [30, 30]
    scale = SparseFLDA(n_genes=1, shrinkage=0.0).fit(X[first], y.iloc[first]).components_[0, 0]
    score = (groups[1].mean() - groups[0].mean()) / 2 * scale
    se = np.sqrt(sum(g.var(ddof=1) / 30 for g in groups)) / 2 * scale
    row = found.scores.iloc[1]
    assert row["score"] == pytest.approx(score)
    reach = se * t.ppf((1 + confidence) / 2, 29)
    np.testing.assert_allclose([row["lower"], row["upper"]], [score - reach, score + reach], atol=0.15 * reach)
    # the loading is one over the standard deviation of the second half
    pooled = np.sqrt(np.mean([g.var(ddof=1) for g in groups]))
    assert found.loadings["loading"].iloc[0] == pytest.approx(1 / pooled)


def test_more_confidence_is_a_wider_interval():
    X, y, model = one_gene()
    found = [bootstrap(model, X, y, n_resamples=60, confidence=c).loadings.iloc[0] for c in (0.5, 0.8, 0.95)]
    assert found[0]["lower"] > found[1]["lower"] > found[2]["lower"]
    assert found[0]["upper"] < found[1]["upper"] < found[2]["upper"]
    with pytest.raises(ValueError, match="confidence=1"):
        bootstrap(model, X, y, confidence=1)


def coverage(effect, n_sets, n_genes=30, k=4):
    """Share of intervals that hold the weight of a gene, over all selected genes of all data sets, and of scores.

    One factor; four of the genes differ by ``effect``, and all are independent with variance one. So the weights are
    the effects, in units of the estimated axis.
    """
    inside, scores, false = [], [], []
    for seed in range(n_sets):
        rng = np.random.default_rng([seed, 1])
        a = np.repeat([0, 1], 50)
        truth = np.where(np.arange(n_genes) < 4, effect, 0.0)
        X = rng.normal(size=(100, n_genes)) + truth * a[:, None]
        y = pd.DataFrame({"A": a.astype(str)})
        model = SparseFLDA(n_genes=k, shrinkage=0.5, interactions=None)
        found = bootstrap(model, X, y, n_resamples=60, random_state=seed)
        table, genes = found.loadings, found.loadings["gene"].to_numpy()
        split = halves(make_design(y), None, np.random.default_rng(seed))
        first, second = split.train, split.test
        part = X[second][:, genes]
        groups = [part[y["A"].iloc[second] == level] for level in "01"]
        b = groups[1].mean(axis=0) - groups[0].mean(axis=0)
        M = sum(np.cov(g.T) for g in groups) / 2
        M = 0.5 * M + 0.5 * np.diag(np.diag(M))
        v = np.linalg.solve(M, b)
        np.testing.assert_allclose(np.abs(table["loading"]), np.abs(v / np.sqrt(v @ M @ v)))
        sign = np.sign(v[0] * table["loading"].iloc[0])
        weights = sign * truth[genes] / np.sqrt(v @ M @ v)
        inside += ((table["lower"] <= weights) & (weights <= table["upper"])).tolist()
        false += (truth[genes] == 0).tolist()
        u = model.fit(X[first], y.iloc[first]).components_[0]
        score = truth @ u / 2
        row = found.scores.iloc[1]
        scores.append(row["lower"] <= score <= row["upper"])
    return np.mean(inside), np.mean(scores), np.mean(false)


@pytest.mark.parametrize("effect", [0.4, 1.5])
def test_intervals_cover_the_truth_of_all_selected_genes(effect):
    """15 data sets, 60 intervals: they would cover about 60 % of the weak effects if the same cells chose the genes."""
    share, scores, false = coverage(effect, 15)
    assert share == pytest.approx(0.95, abs=4 * np.sqrt(0.05 * 0.95 / 60))
    assert scores >= 0.7
    assert (false > 0.2) == (effect == 0.4)  # weak effects: noise is selected too


@pytest.mark.slow
@pytest.mark.parametrize("effect", [0.4, 1.5])
def test_intervals_keep_their_level(effect):
    """100 data sets, 400 intervals, nominal level 0.95."""
    share, scores, _ = coverage(effect, 100)
    assert 0.93 <= share <= 0.975
    assert scores == pytest.approx(0.95, abs=4 * np.sqrt(0.05 * 0.95 / 100))


@pytest.mark.parametrize("mode", ["axis", "marker"])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_genes_that_some_samples_lack(mode, k):
    """Counts so low that bootstrap samples lose a gene: its group means span no direction, and the rest goes on."""
    rng = np.random.default_rng(1)
    codes = np.array([*np.ndindex(2, 4)] * 6)
    y = pd.DataFrame(codes.astype(str), columns=["A", "B"])
    X = np.log1p(rng.poisson(0.08, size=(len(y), 12)).astype(float))
    found = bootstrap(SparseFLDA(n_genes=k, shrinkage=0.5, mode=mode), X, y, n_resamples=40)
    assert found.n_resamples >= 20
    assert np.isfinite(found.loadings[["loading", "lower", "upper"]].to_numpy()).all()


@pytest.mark.parametrize("mode", ["axis", "marker"])
@pytest.mark.parametrize("with_donors", [False, True])
def test_with_shrunken_means(mode, with_donors):
    X, y, donors = donor_problem(6, 15, 60)
    groups = donors if with_donors else None
    model = SparseFLDA(n_genes=4, shrinkage=0.3, mode=mode, group_means="shrunken")
    table = bootstrap(model, X, y, groups, n_resamples=40).loadings
    assert np.isfinite(table[["loading", "lower", "upper"]].to_numpy()).all()
    assert (table["lower"] < table["upper"]).all()


def test_tables():
    X, y = problem(200, 12, (2, 3))
    model = SparseFLDA(n_genes=4, shrinkage=0.3)
    found = bootstrap(model, X, y, n_resamples=60)
    assert (found.n_resamples, found.unit) == (60, "cell")
    assert not hasattr(model, "selected_")  # a clone is fitted
    assert found.loadings.groupby("axis", sort=False).size().tolist() == [4] * 5
    assert (found.loadings["lower"] < found.loadings["upper"]).all()
    assert found.scores.columns.tolist() == ["axis", "A", "B", "score", "lower", "upper"]
    assert len(found.scores) == 5 * 6
    np.testing.assert_allclose(found.scores.groupby("axis")["score"].mean(), 0, atol=1e-10)
    again = bootstrap(model.fit(X, y), X, y, n_resamples=60)
    pd.testing.assert_frame_equal(found.loadings, again.loadings)
    # the genes are those that the first half selects
    split: Split = halves(make_design(y), None, np.random.default_rng(0))
    first = SparseFLDA(n_genes=4, shrinkage=0.3).fit(X[split.train], y.iloc[split.train])
    for axis, part in found.loadings.groupby("axis"):
        j = first.axes_["axis"].tolist().index(axis)
        assert part["gene"].tolist() == np.flatnonzero(first.components_[j]).tolist()


def test_halves_have_every_group_and_share_no_unit():
    _, y, names = donor_problem(4, 20, 15)
    donors = pd.factorize(names, sort=True)[0]
    design = make_design(y)
    for given in (None, donors):
        split = halves(design, given, np.random.default_rng(0))
        assert sorted([*split.train, *split.test]) == list(range(len(y)))
        for half in (split.training, split.held_out):
            assert half.n_groups == design.n_groups
    assert not set(donors[split.train]) & set(donors[split.test])


def test_donors_are_drawn_then_cells_within_them(recwarn):
    X, y, names = donor_problem(8, 20, 15)
    donors = pd.factorize(names, sort=True)[0]
    model = SparseFLDA(n_genes=3, shrinkage=0.5)
    drawn = []
    for cells, instances in _resamples(make_design(y), donors, 20, np.random.default_rng(0)):
        of = [np.unique(donors[cells[instances == i]]) for i in range(16)]
        assert all(len(d) == 1 for d in of)
        levels = [y["treatment"].iloc[np.flatnonzero(donors == d[0])[0]] for d in of]
        assert sorted(levels) == ["no"] * 8 + ["yes"] * 8
        drawn.append(len({d[0] for d in of}))
    assert min(drawn) < 16
    by_donor = bootstrap(model, X, y, names, n_resamples=60)
    assert by_donor.unit == "donor"
    assert "4" in " ".join(str(w.message) for w in recwarn)  # of the donors of a level, half are left
    by_cell = bootstrap(model, X, y, n_resamples=60).scores
    widths = [(s["upper"] - s["lower"])[s["axis"] == "treatment_1"].mean() for s in (by_donor.scores, by_cell)]
    assert widths[0] > widths[1]  # donors differ, cells of one donor agree


def test_a_group_that_cannot_be_split_is_named():
    X, y = problem(100, 12, (2, 2))
    y.loc[len(y)] = ["A0", "lonely"]
    y.loc[len(y)] = ["A1", "lonely"]
    X = np.vstack([X, X[:2]])
    with pytest.raises(ValueError, match="lonely"):
        bootstrap(SparseFLDA(n_genes=3, shrinkage=0.5), X, y)


def test_too_few_donors_for_resamples_are_refused():
    """Each of twelve types is seen in two of twelve donors: resamples of the donors hardly ever have all types."""
    donors = np.repeat(np.arange(12), 10)
    y = pd.DataFrame({"type": ((donors + np.arange(120) % 2) % 12).astype(str)})
    X = np.random.default_rng(0).normal(size=(120, 10))
    model = SparseFLDA(n_genes=3, shrinkage=0.5, n_components=1)
    with pytest.raises(ValueError, match="donors"):
        bootstrap(model, X, y, donors, n_resamples=2)
