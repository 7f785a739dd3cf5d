"""Discriminants of groups, priors of levels, and the choice of g, means and temperatures on held-out cells."""

import numpy as np
import pandas as pd
import pytest

from flda._design.make import make_design
from flda._design.splits import Split
from flda._solve import prediction
from flda._solve.folds import FoldSpace
from flda._solve.objective import Noise
from flda._solve.prediction import (
    Calibration,
    discriminants,
    group_log_priors,
    level_priors,
    level_probabilities,
)

import oracle
from oracle import problem

RNG = np.random.default_rng(0)
CASES = {
    "2x4": ((2, 4), {}, [(0,), (1,), (0, 1)], {"observed", "shrunken"}),
    "2x4, main effects": ((2, 4), {"interactions": None}, [(0,), (1,)], {"observed", "fitted", "shrunken"}),
    "2x3x2": ((2, 3, 2), {"interactions": ["A:B"]}, [(0,), (1,), (2,), (0, 1)], {"observed", "fitted", "shrunken"}),
    "nuisance": ((2, 3, 2), {"interactions": None, "nuisance": ["C"]}, [(0,), (1,), (2,)],
                 {"observed", "fitted", "shrunken"}),
    "one factor": ((4,), {}, [(0,)], {"observed"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_discriminants_equal_their_definition(case):
    n_levels, options, effects, names = CASES[case]
    X, y = problem(150, 20, n_levels)
    design = make_design(y, **options)
    scatter, means = oracle.within_scatter(X, y, "pooled")
    metric = oracle.shrunken(scatter, 0.3, "diagonal")
    groups, counts = oracle.group_table(y)
    G = means - means.mean(axis=0)
    Z = np.linalg.solve(metric, G.T)
    noise = Noise(np.trace(np.linalg.solve(metric, scatter)), counts)
    x = RNG.normal(3, 2, size=(30, 20))
    found = discriminants(design, G @ Z, noise)
    assert set(found) == names
    for name, d in found.items():
        expected = oracle.discriminants(x, means, groups, counts, scatter, metric, effects, name)
        np.testing.assert_allclose(d.of((x - means.mean(axis=0)) @ Z), expected, atol=1e-9 * np.abs(expected).max())


def test_the_noise_of_a_mean_is_taken_off_its_length():
    """In expectation the discriminants are those of the true means, up to the spread of x: rare groups lose nothing."""
    design = make_design(pd.DataFrame({"A": ["p", "q", "r"]}))
    truth, counts = RNG.normal(size=(3, 50)), np.array([1, 5, 500])
    x, found = RNG.normal(size=50), []
    for _ in range(4000):
        G = truth + RNG.normal(size=(3, 50)) / np.sqrt(counts)[:, None]
        (d,) = discriminants(design, G @ G.T, Noise(50.0, counts)).values()
        found.append(d.of((x @ G.T)[None])[0])
    np.testing.assert_allclose(np.mean(found, axis=0), truth @ x - np.sum(truth**2, axis=1) / 2, atol=0.7)


def test_probabilities_and_priors_by_brute_force():
    groups = np.array([(0, 0), (0, 1), (0, 2), (1, 0), (1, 2)])
    counts, delta = np.array([3, 40, 7, 1, 12]), RNG.normal(size=(20, 5)) * 5
    levels = {"A": ["p", "q"], "B": ["u", "v", "w"]}
    prior = {"A": "frequency", "B": [0.5, 0.2, 0.3]}
    found = level_priors(levels, groups, counts, prior)
    np.testing.assert_allclose(found["A"], [50 / 63, 13 / 63])
    for j, f in enumerate(levels):
        log_prior = group_log_priors(groups[:, j], counts, found[f])
        np.testing.assert_allclose(np.exp(log_prior).sum(), 1)
        got = level_probabilities(delta, 0.4, groups[:, j], log_prior)
        np.testing.assert_allclose(got, oracle.level_probabilities(delta, groups, counts, j, found[f], 0.4), atol=1e-12)
    equal = level_priors(levels, groups, counts, {"A": [0.9, 0.1]})
    np.testing.assert_allclose(equal["B"], 1 / 3)
    far = level_probabilities(delta * 1e5, 1.0, groups[:, 0], log_prior)
    assert np.isfinite(far).all()


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ("balanced", "prior='balanced'.*'equal', 'frequency'"),
        ({"Q": "equal"}, r"'Q'.*\['A', 'B'\]"),
        ({"A": [0.5, 0.4]}, "'A' must hold 2 probabilities.*'p', 'q'"),
        ({"B": [0.5, 0.5]}, "'B' must hold 3"),
        ({"A": [1.0, 0.0]}, "'A'.*above 0"),
        ([0.5, 0.5], "'B' must hold 3"),
    ],
)
def test_priors_that_do_not_fit_are_refused(prior, message):
    with pytest.raises(ValueError, match=message):
        level_priors({"A": ["p", "q"], "B": ["u", "v", "w"]}, np.array([[0, 0], [1, 2]]), np.array([3, 4]), prior)


def held_out(seed, n=400, overconfident=4.0):
    """A split of cells, and spaces in which discriminants are too large by a factor."""
    rng = np.random.default_rng(seed)
    y = pd.DataFrame({"A": rng.choice(["p", "q"], n, p=[0.8, 0.2]), "B": rng.choice(list("uvw"), n)})
    design = make_design(y)
    test = np.arange(0, n, 3)
    split = Split(design, None, np.setdiff1d(np.arange(n), test), test)
    spaces = []
    for scale in (0.2, 1.0):
        G = scale * rng.normal(size=(6, 8))
        G -= G.mean(axis=0)
        x = (G[design.codes] + rng.normal(size=(n, 8)))[split.known]
        G = G * np.sqrt(overconfident)
        noise = Noise(8.0, split.training.counts)
        spaces.append(FoldSpace(G @ G.T, np.sqrt(overconfident) * x @ G.T, noise))
    return split, spaces


def loss_of(parts, factor, prior, kind, temperature):
    """Balanced log loss of a factor over folds: levels count as their priors."""
    total, truths = [], []
    for split, space, cells in parts:
        training = split.training
        delta = discriminants(training, space.K, space.noise)[kind].of(space.scores[cells])
        p = oracle.level_probabilities(delta, training.table.groups, training.counts, factor, prior, temperature)
        truth = training.table.groups[split.known_groups[cells], factor]
        total.append(-np.log(p[np.arange(len(truth)), truth]))
        truths.append(truth)
    total, truth = np.concatenate(total), np.concatenate(truths)
    means = np.array([total[truth == v].mean() for v in range(len(prior))])
    return prior @ means


@pytest.mark.parametrize("priors", ["equal", "frequency"])
def test_the_choice_minimises_the_held_out_loss(priors):
    """Over g, means, and a fine grid of temperatures by brute force."""
    folds = [held_out(seed) for seed in range(3)]
    design = folds[0][0].design
    shares = level_priors({f: design.levels[f] for f in "AB"}, design.table.groups, design.counts, priors)
    calibration = Calibration([0.1, 0.9], shares)
    for split, spaces in folds:
        calibration.add(split, spaces)
    g, kind, temperatures = calibration.choose()
    grid = np.geomspace(0.01, 2, 400)
    losses = {}
    for i, value in enumerate([0.1, 0.9]):
        parts = [(split, spaces[i], slice(None)) for split, spaces in folds]
        for name in ("observed", "shrunken"):
            curves = [[loss_of(parts, j, shares[f], name, t) for t in grid] for j, f in enumerate("AB")]
            losses[value, name] = np.mean([min(c) for c in curves]), [grid[np.argmin(c)] for c in curves]
    best = min(losses, key=lambda k: losses[k][0])
    assert losses[g, kind][0] <= losses[best][0] + 1.1e-3
    np.testing.assert_allclose([temperatures[f] for f in "AB"], losses[g, kind][1], rtol=0.05)
    assert 0.1 < temperatures["A"] < 0.6  # the discriminants are four times too large


def test_only_some_cells_of_each_group_are_evaluated_where_there_are_many(monkeypatch):
    """The first cells of every group, then the second ones, and so on: rare groups keep all of theirs."""
    split, spaces = held_out(0)
    monkeypatch.setattr(prediction, "MAX_CELLS", 40)
    shares = {"A": np.full(2, 1 / 2), "B": np.full(3, 1 / 3)}
    calibration = Calibration([0.1, 0.9], shares)
    calibration.add(split, spaces)
    known = split.known_groups
    rank = pd.Series(known).groupby(known).cumcount().to_numpy()
    cells = np.lexsort((np.arange(len(known)), rank))[:40]
    kept, everything = np.bincount(known[cells]), np.bincount(known)
    assert ((kept == everything) | (kept >= kept.max() - 1)).all()
    g, kind, temperatures = calibration.choose()
    parts = [(split, spaces[[0.1, 0.9].index(g)], cells)]
    grid = np.geomspace(0.01, 2, 400)
    for j, f in enumerate("AB"):
        best = grid[np.argmin([loss_of(parts, j, shares[f], kind, t) for t in grid])]
        assert temperatures[f] == pytest.approx(best, rel=0.05)


def test_without_held_out_cells_there_is_no_choice():
    assert Calibration([0.1], {"A": np.full(2, 0.5)}).choose() is None
