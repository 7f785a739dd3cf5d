"""Predicted levels and their probabilities."""

import numpy as np
import pandas as pd
import pytest

from flda import FLDA, SparseFLDA
from flda.estimators._shrinkage import GRID

import oracle
from oracle import level_probabilities, problem

MAINS, ALL = [(0,), (1,)], [(0,), (1,), (0, 1)]


def dense_delta(model, X, y, effects, new, donors=None):
    scatter, means = oracle.within_scatter(X, y, "pooled") if donors is None else oracle.donor_scatter(X, y, donors)
    found = model.prediction_.iloc[0]
    metric = oracle.shrunken(scatter, found["shrinkage"], "diagonal")
    groups, counts = oracle.group_table(y, donors)
    return oracle.discriminants(new, means, groups, counts, scatter, metric, effects, found["means"])


@pytest.mark.parametrize("interactions", ["all", None])
@pytest.mark.parametrize("solver", ["primal", "dual", "iterative"])
@pytest.mark.parametrize("shrinkage", [0.3, "cv"])
@pytest.mark.parametrize("prior", ["equal", "frequency", {"A": [0.7, 0.3], "B": "frequency"}])
def test_probabilities_are_the_gaussian_posterior(interactions, solver, shrinkage, prior):
    X, y = problem(160, 30, (2, 3))
    model = FLDA(interactions=interactions, shrinkage=shrinkage, solver=solver, prior=prior).fit(X, y)
    new = np.random.default_rng(1).normal(3, 1.5, size=(40, 30))
    delta = dense_delta(model, X, y, ALL if interactions else MAINS, new)
    groups, counts = oracle.group_table(y)
    found = model.predict_proba(new)
    for j, f in enumerate("AB"):
        wanted = prior if isinstance(prior, str) else prior[f]
        cells = np.bincount(groups[:, j], counts)
        shares = {"equal": np.full(len(cells), 1 / len(cells)), "frequency": cells / cells.sum()}
        share = np.array(wanted) if isinstance(wanted, list) else shares[wanted]
        t = model.prediction_.set_index("factor").loc[f, "temperature"]
        expected = level_probabilities(delta, groups, counts, j, share, t)
        np.testing.assert_allclose(found[f], expected, atol=1e-7)


def test_donors_make_the_noise_of_a_mean():
    X, y, donors = oracle.donor_problem(4, 15, 20)
    model = FLDA(shrinkage=0.3, interactions=None).fit(X, y, groups=donors)
    delta = dense_delta(model, X, y, MAINS, X, donors)
    groups, _ = oracle.group_table(y, donors)
    cells = oracle.group_table(y)[1]  # groups within a level count as their cells
    for j, f in enumerate(y):
        expected = level_probabilities(delta, groups, cells, j, np.full(2, 0.5))
        np.testing.assert_allclose(model.predict_proba(X)[f], expected, atol=1e-8)


def test_fixed_shrinkage_leaves_probabilities_as_they_are():
    X, y = problem(120, 20, (2, 3))
    for options, means in (({"interactions": None}, "shrunken"), ({}, "shrunken")):
        table = FLDA(shrinkage=0.2, **options).fit(X, y).prediction_
        assert table["temperature"].tolist() == [1.0, 1.0]
        assert (table["means"] == means).all()
        assert (table["shrinkage"] == 0.2).all()
    assert FLDA(shrinkage=0.2).fit(X, y["B"]).prediction_["means"].tolist() == ["observed"]


def test_the_table_of_the_prediction():
    X, y = problem(150, 20, (2, 3, 2))
    table = FLDA(interactions=None, nuisance=["C"]).fit(X, y).prediction_
    assert table.columns.tolist() == ["factor", "means", "shrinkage", "temperature"]
    assert table["factor"].tolist() == ["A", "B", "C"]
    assert table["means"].isin(["observed", "fitted", "shrunken"]).all()
    assert table["shrinkage"].isin(GRID).all()
    assert table["temperature"].between(0.01, 5).all()


def additive(n_groups, n_genes, seed, effect):
    """Cells of 2 x 4 groups with additive means: sizes of groups, centre of every group, and a sampler."""
    rng = np.random.default_rng(seed)
    a, b = effect * rng.normal(size=(2, n_genes)), effect * rng.normal(size=(4, n_genes))
    codes = np.array(list(np.ndindex(2, 4)))
    means = a[codes[:, 0]] + b[codes[:, 1]]

    def sample(sizes):
        rows = np.repeat(np.arange(8), sizes)
        y = pd.DataFrame({"A": codes[rows, 0].astype(str), "B": codes[rows, 1].astype(str)})
        return means[rows] + rng.normal(size=(len(rows), n_genes)), y

    return means, sample


@pytest.mark.parametrize("shrinkage", [0.5, "cv"])
def test_rare_groups_are_not_penalised_for_their_few_cells(shrinkage):
    """Level 3 of B has 1 and 3 cells: its recall comes near that with the true means."""
    recall, best, naive = [], [], []
    for seed in range(5):
        means, sample = additive(8, 150, seed, 0.3)
        X, y = sample([60, 60, 60, 1, 60, 60, 60, 3])
        new, _ = sample([0, 0, 0, 200, 0, 0, 0, 200])
        model = FLDA(interactions=None, shrinkage=shrinkage).fit(X, y)
        recall.append(np.mean(model.predict(new)["B"] == "3"))
        closest = np.argmin(((new[:, None] - means[None]) ** 2).sum(axis=2), axis=1)
        best.append(np.mean(closest % 4 == 3))
        seen = np.stack([X[(y["A"] == str(i)) & (y["B"] == str(j))].mean(axis=0) for i, j in np.ndindex(2, 4)])
        naive.append(np.mean(np.argmin(((new[:, None] - seen[None]) ** 2).sum(axis=2), axis=1) % 4 == 3))
    assert np.mean(best) > 0.9
    assert np.mean(naive) < 0.3
    assert np.mean(recall) > np.mean(best) - 0.25


def calibration_error(probabilities, truth):
    """Expected calibration error of the most probable level, over ten bins of confidence."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    bins = np.minimum((confidence * 10).astype(int), 9)
    return sum(abs(right[bins == b].mean() - confidence[bins == b].mean()) * np.mean(bins == b) for b in set(bins))


def test_confidence_is_calibrated_on_held_out_cells():
    """Ten genes for every cell: with temperature 1 the probabilities are far too sure of themselves."""
    errors, plain = [], []
    for seed in range(3):
        _, sample = additive(8, 1500, seed, 0.06)
        X, y = sample(np.full(8, 18))
        new, truth = sample(np.full(8, 100))
        model = FLDA(interactions=None).fit(X, y)
        found = model.prediction_.iloc[0]
        fixed = FLDA(interactions=None, shrinkage=float(found["shrinkage"])).fit(X, y)
        for f in "AB":
            codes = truth[f].astype(int).to_numpy()
            errors.append(calibration_error(model.predict_proba(new)[f].to_numpy(), codes))
            plain.append(calibration_error(fixed.predict_proba(new)[f].to_numpy(), codes))
    assert np.mean(errors) < 0.10
    assert np.mean(plain) > 0.2


@pytest.mark.parametrize(
    ("prior", "message"), [("uniform", "prior='uniform'"), ({"Q": "equal"}, "'Q'"), ({"A": [0.5, 0.4, 0.1]}, "'A'")]
)
@pytest.mark.parametrize("kind", [FLDA, SparseFLDA])
def test_priors_that_do_not_fit_are_refused_before_the_fit(kind, prior, message):
    X, y = problem(60, 25, (2, 3))
    with pytest.raises(ValueError, match=message):
        kind(prior=prior, shrinkage=0.3).fit(X, y)


def test_a_prior_moves_predictions_towards_its_level():
    X, y = problem(200, 8, (2, 3))
    share = []
    for p in (0.02, 0.5, 0.98):
        model = FLDA(shrinkage=0.9, prior={"A": [p, 1 - p]}).fit(X, y)
        share.append(np.mean(model.predict(X)["A"] == "A0"))
    assert share[0] < share[1] < share[2]


@pytest.mark.parametrize("shrinkage", [0.3, "cv"])
@pytest.mark.parametrize("mode", ["axis", "marker"])
def test_sparse_predictions_are_those_of_a_fit_to_the_selected_genes(shrinkage, mode):
    X, y = problem(200, 60, (2, 3))
    model = SparseFLDA(n_genes=4, shrinkage=shrinkage, mode=mode, prior="frequency", interactions=None).fit(X, y)
    genes = np.unique(np.concatenate([g for axes in model.selected_.values() for g in axes]))
    assert len(genes) < 30
    alone = FLDA(shrinkage=shrinkage, prior="frequency", interactions=None).fit(X[:, genes], y)
    other = X.copy()
    other[:, np.setdiff1d(np.arange(60), genes)] = 1e3
    expected = alone.predict_proba(X[:, genes])
    for new in (X, other):
        np.testing.assert_allclose(model.predict_proba(new), expected, atol=1e-10)
    pd.testing.assert_frame_equal(model.prediction_, alone.prediction_)


def test_cells_of_every_form_give_the_same_probabilities():
    X, y = problem(150, 20, (2, 3))
    frame = FLDA(shrinkage=0.2).fit(pd.DataFrame(X), y).predict_proba(pd.DataFrame(X, index=np.arange(150) + 7))
    assert frame.index[0] == 7
    assert frame.columns.names == ["factor", "level"]
    arrays = FLDA(shrinkage=0.2).fit(X, y.to_numpy()).predict_proba(X)
    np.testing.assert_allclose(np.hstack(arrays), frame.to_numpy())
    one = FLDA(shrinkage=0.2).fit(X, y["A"].to_numpy()).predict_proba(X)
    assert one.shape == (150, 2)
    assert one.sum(axis=1) == pytest.approx(1)
