"""The arena measures what it says, and its peers agree with independent computations."""

import compare
import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal
from sklearn.covariance import ledoit_wolf

from flda import datasets
from flda._design.make import make_design
from flda.metrics import effect_snr

import peers
from problems import PROBLEMS


def labelled(n=160, seed=0):
    """Two factors with a strong main effect each on the first two of 24 genes, and groups of unequal size."""
    rng = np.random.default_rng(seed)
    y = pd.DataFrame({"A": rng.choice(["p", "q"], n, p=[0.3, 0.7]), "B": rng.choice(["x", "y", "z"], n)})
    X = rng.normal(size=(n, 24)) @ (np.eye(24) + 0.2 * rng.normal(size=(24, 24)))
    X[:, 0] += 3 * (y["A"] == "q")
    X[:, 1] += 2 * (y["B"] == "z")
    return X, y


@pytest.fixture
def cells():
    X, y = labelled()
    return peers.Cells(X, y, make_design(y), "all", None)


@pytest.fixture
def problem(monkeypatch):
    monkeypatch.setitem(PROBLEMS, "labelled", lambda: (*labelled(), "all", None))
    return compare.Problem.load("labelled")


def test_pooled_lda_is_that_of_gaussians(cells):
    codes = cells.codes("B")
    model = peers.PooledLDA(cells.X, codes)
    means = np.stack([cells.X[codes == c].mean(axis=0) for c in range(3)])
    residuals = cells.X - means[codes]
    scale = np.sqrt((residuals**2).sum(axis=0) / (len(codes) - 3))
    covariance = ledoit_wolf(residuals / scale, assume_centered=True)[0] * len(codes) / (len(codes) - 3)
    covariance = covariance * np.outer(scale, scale)
    density = np.column_stack([multivariate_normal(m, covariance).pdf(cells.X) for m in means])
    np.testing.assert_allclose(model.posterior(cells.X), density / density.sum(axis=1, keepdims=True), atol=1e-8)
    # the first axis has the largest ratio of the variance of the class means to that within
    between = np.cov(means.T, bias=True)

    def ratio(u):
        return u @ between @ u / (u @ covariance @ u)

    best = np.linalg.eigvals(np.linalg.solve(covariance, between)).real.max()
    assert ratio(model.axes(2)[:, 0]) == pytest.approx(best)


def test_demixed_pca_is_reduced_rank_ridge_regression(cells):
    X = cells.X - cells.X.mean(axis=0)
    ridge = 0.3
    (found,) = peers.decoders(X, cells.design, [ridge])
    means = np.stack([X[cells.design.codes == c].mean(axis=0) for c in range(cells.design.n_groups)])
    gram = X.T @ X
    for e in cells.design.effects:
        target = (cells.design.fitted(e) @ means)[cells.design.codes]
        A = np.linalg.solve(gram + ridge * np.trace(gram) / 24 * np.eye(24), X.T @ target)
        F = np.linalg.svd(X @ A, full_matrices=False)[2][: cells.design.df(e)]
        D, encoder = found[e.name]
        np.testing.assert_allclose(X @ D @ encoder, X @ A @ F.T @ F, atol=1e-8)


def test_posteriors_are_distributions(cells):
    for name, fit in peers.methods().items():
        for posterior in fit(cells).posteriors.values():
            for f, p in posterior(cells.X).items():
                assert p.shape == (len(cells.X), len(cells.design.levels[f])), name
                np.testing.assert_allclose(p.sum(axis=1), 1)
                right = p.argmax(axis=1) == cells.codes(f)
                assert right.mean() > 0.5, name  # two of three levels of B differ in nothing


def test_frequency_prior_is_undone(cells):
    model = peers.sklearn_lda(cells.X, cells.codes("A"))
    equal = peers.equal_prior(model, cells.X)
    weighted = equal * model.priors_
    np.testing.assert_allclose(weighted / weighted.sum(axis=1, keepdims=True), model.predict_proba(cells.X), atol=1e-8)


def test_every_effect_gets_its_number_of_axes(cells):
    found = compare.assigned(np.linalg.qr(np.random.default_rng(0).normal(size=(24, 5)))[0], cells)
    assert {e: U.shape[1] for e, U in found.items()} == {"A": 1, "B": 2, "A:B": 2}
    found = compare.assigned(np.eye(24)[:, [3, 1, 0]], cells)
    np.testing.assert_array_equal(found["A"][:, 0], np.eye(24)[0])
    np.testing.assert_array_equal(found["B"][:, 0], np.eye(24)[1])


def test_standardised_axes_are_uncorrelated_within_groups(problem):
    split = problem.splits(0, 4)[0]
    scores = problem.X @ np.random.default_rng(1).normal(size=(24, 3))
    found = compare.standardised(scores, split)
    train, codes = found[split.train], split.training.codes
    residuals = train - pd.DataFrame(train).groupby(codes).transform("mean").to_numpy()
    np.testing.assert_allclose(residuals.T @ residuals / (len(train) - split.training.n_groups), np.eye(3), atol=1e-6)
    assert np.corrcoef(found[:, 0], scores[:, 0])[0, 1] == pytest.approx(1)


def test_jackknife_of_a_mean_gives_its_terms():
    x = np.array([[1.0, 5.0], [2.0, 7.0], [6.0, 0.0]])
    whole, pseudo = compare.jackknife(lambda kept: x[kept].mean(axis=0), 3)
    np.testing.assert_allclose(whole, x.mean(axis=0))
    np.testing.assert_allclose(pseudo, x)


def test_one_fold_alone_is_the_snr_of_the_package(problem):
    splits = problem.splits(0, 4)
    scores = [problem.X[:, :2] * (k + 1) for k in range(4)]
    of = compare.moments(scores, splits, alone=True)
    snr = effect_snr(scores[1][splits[1].test], splits[1].held_out)
    S, T, log_ratio = compare.axis_values(of([1]), 0, 1)
    assert pytest.approx(snr["A"][0]) == S
    assert pytest.approx(snr["B"][0] + snr["A:B"][0]) == T
    assert log_ratio == pytest.approx(np.log(S / (1 + max(T, 0))))


def test_pooled_folds_undo_rotation_and_scale(problem):
    splits, rng = problem.splits(0, 4), np.random.default_rng(0)
    scores = problem.X[:, :2]
    turned = [scores] + [k * scores @ np.linalg.qr(rng.normal(size=(2, 2)))[0] for k in (2, 3, 4)]
    for one in compare.aligned(turned, splits):
        np.testing.assert_allclose(one, scores, atol=1e-8)
    test = np.concatenate([s.test for s in splits])
    found = compare.moments(turned, splits, alone=False)([0, 1, 2, 3])
    expected = effect_snr(scores[test], problem.design.subset(test))
    np.testing.assert_allclose(found[:, 0] / found[:, -1], expected["A"])


def test_measures_of_levels():
    truth = np.array([0, 0, 0, 1])
    sure = np.eye(2)[[0, 0, 1, 1]]
    balanced, plain, loss, error = compare.level_values(sure, truth)
    assert (balanced, plain, error) == pytest.approx(((2 / 3 + 1) / 2, 3 / 4, 1 / 4))
    assert loss == pytest.approx(-np.log(1e-12) / 3 / 2)
    uniform = compare.level_values(np.full((4, 2), 0.5), truth)
    assert uniform[2:] == pytest.approx([np.log(2), 0.25])


def test_difference_to_itself_is_zero_and_effects_without_signal_are_left_out():
    rng, rows = np.random.default_rng(0), []
    for method in ("FLDA", "peer"):
        for effect, size in (("A", 4.0), ("null", 0.0)):
            for fold in range(4):
                line = dict.fromkeys(compare.AXES, size) | {f"{n}_fold": size + rng.normal() for n in compare.AXES}
                key = {"data": "d", "effect": effect, "axes": "first", "seed": 0, "fold": fold}
                rows.append({**key, "method": method, **line, "seconds": 1.0})
    table = compare.overall(compare.summary(pd.DataFrame(rows), compare.AXES), compare.AXES)
    own = table[(table["method"] == "FLDA") & (table["data"] == "d")]
    assert (own[["signal_diff", "signal_diff_se"]] == 0).all(axis=None)
    mean = table[(table["effect"] == "mean") & (table["data"] == "d")]
    assert (mean["effects"] == 1).all()
    assert (mean["signal"] == 4).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("alone", [True, False])
def test_arena(monkeypatch, tmp_path, capsys, alone):
    adata = datasets.t4t5_simulated(400, 120, random_state=3)
    monkeypatch.setitem(PROBLEMS, "small", lambda: (adata.X, adata.obs[["dendrite", "axon"]], "all", None))
    if not alone:
        monkeypatch.setattr(compare, "measurable", lambda _: False)
    problem = compare.Problem.load("small")
    results = [compare.run_fold(problem, split, peers.methods()) for split in problem.splits(0, 3)]
    axes = pd.DataFrame(compare.axis_rows(problem, 0, results, alone))
    levels = pd.DataFrame(compare.level_rows(problem, 0, results))
    assert set(axes["method"]) | set(levels["method"]) >= set(peers.methods())
    tables = [
        compare.overall(compare.summary(rows, names), names)
        for rows, names in ((axes, compare.AXES), (levels, compare.LEVELS))
    ]
    assert tables[0]["log_ratio_diff_se"].notna().all()
    compare.show(*tables)
    assert "2LDA pooled" in capsys.readouterr().out
    compare.draw(tables[0], tmp_path / "compare.png")
    assert (tmp_path / "compare.png").stat().st_size > 10_000
