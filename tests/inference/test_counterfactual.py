"""Certificates of counterfactual means, against least squares by hand and against known truth."""

import numpy as np
import pandas as pd
import pytest

from flda import FLDA
from flda.inference import certify_counterfactual
from flda.inference._block_means import BlockMeans
from flda.inference._counterfactual import _Task, _weights

P = 40


def labels_of(groups, sizes):
    return pd.DataFrame(np.repeat(np.array(groups), sizes, axis=0), columns=[f"f{j}" for j in range(len(groups[0]))])


@pytest.fixture
def three_factors():
    """2 x 2 x 3 with unequal groups."""
    rng = np.random.default_rng(0)
    groups = [(a, b, c) for a in "pq" for b in "uv" for c in "xyz"]
    y = labels_of(groups, rng.integers(8, 30, len(groups)))
    X = rng.normal(size=(len(y), P)) + 2.0
    X += np.outer(y["f0"] == "q", rng.normal(size=P)) + np.outer(y["f1"] == "v", rng.normal(size=P))
    X += np.outer((y["f0"] == "q") & (y["f1"] == "v"), 2 * rng.normal(size=P))
    return X, y


def squared(prediction, X, rows):
    """The squared distance to the true mean of some cells, without the noise of their mean."""
    y = X[rows]
    return np.sum((prediction - y.mean(axis=0)) ** 2 - y.var(axis=0, ddof=1) / len(y))


def test_it_is_least_squares_without_the_group(three_factors):
    X, y = three_factors
    table = certify_counterfactual(FLDA(), X, y, change={"f1": "v"}, group_means="fitted").query("genes == 'all'")
    dummies = {f: pd.get_dummies(y[f], drop_first=True).to_numpy(float) for f in y}
    own = (y == ("q", "v", "y")).all(axis=1).to_numpy()
    source = (y == ("q", "u", "y")).all(axis=1).to_numpy()

    def predicted(terms):
        columns = [np.ones((len(y), 1))]
        for term in terms:
            block = np.ones((len(y), 1))
            for f in term:
                block = (block[:, :, None] * dummies[f][:, None, :]).reshape(len(y), -1)
            columns.append(block)
        D = np.hstack(columns)
        groups = y[~own].groupby(list(y)).ngroup().to_numpy()
        first = np.unique(groups, return_index=True)[1]
        n, Dg = np.bincount(groups), D[~own][first]
        G = np.stack([X[~own][groups == g].mean(axis=0) for g in range(len(n))])
        v = sum((X[~own][groups == g].var(axis=0, ddof=1) * (k - 1)) for g, k in enumerate(n)) / (n.sum() - len(n))
        left = np.eye(len(n)) - Dg @ np.linalg.pinv(Dg)
        tau2 = (np.mean(np.sum((left @ G) ** 2, axis=0) / v) - np.diag(left) @ (1 / n)) / np.trace(left)
        W = np.diag(1 / (max(tau2, 0) + 1 / n))
        beta = np.linalg.lstsq(Dg.T @ W @ Dg, Dg.T @ W @ G, rcond=None)[0]
        return X[source].mean(axis=0) + (D[own][0] - D[source][0]) @ beta

    row = table[table["group"] == "q:v:y"].iloc[0]
    D0 = squared(X[source].mean(axis=0), X, own)
    mains = [("f0",), ("f1",), ("f2",)]
    pairs = [("f0", "f1"), ("f0", "f2"), ("f1", "f2")]
    assert row["r2_additive"] == pytest.approx(1 - squared(predicted(mains), X, own) / D0, rel=1e-9)
    assert row["r2"] == pytest.approx(1 - squared(predicted(mains + pairs), X, own) / D0, rel=1e-9)
    assert row["reading"] == "better than no change; better than the additive mean"
    assert row["n_cells"] == own.sum()
    assert set(table["group"]) == {f"{a}:v:{c}" for a in "pq" for c in "xyz"} | {"all groups"}


def test_two_factors_know_no_more_than_the_additive_mean(three_factors):
    X, y = three_factors
    table = certify_counterfactual(FLDA(), X, y[["f0", "f2"]], change="f0", group_means="fitted")
    assert (table["difference"].dropna() == 0).all()
    assert table["reading"].str.endswith("the same as the additive mean").any()


def test_shrunken_means_are_linear_with_the_weights_that_are_kept(three_factors):
    """The prediction by weights is the posterior mean of the prior, fitted to the other groups."""
    from dataclasses import replace

    from flda._solve.prior import FactorialMeans

    X, y = three_factors
    design = FLDA().design_of(y)
    data = BlockMeans.of(X, design, None, None, 0)
    c, s = (
        int(np.flatnonzero((design.group_levels() == g).all(axis=1))[0]) for g in [("q", "v", "y"), ("q", "u", "y")]
    )
    weights = _weights(data, _Task(c, np.array([s])), "shrunken")
    others = np.delete(np.arange(12), c)
    kept, table = design.table.at(design.table.groups[others]).estimable_in_part(list(design.contrasts))
    part = replace(design, table=table, contrasts=table.contrasts(kept))
    n, v = design.counts[others], data.variances[others]
    noise = ((n - 1) @ v / (n - 1).sum()) / n[:, None]
    found = FactorialMeans.fit(data.means[others], noise, part).at(design.table.groups[[c, s]])
    np.testing.assert_allclose((weights * data.means[others]).sum(axis=0), found[0] - found[1], atol=1e-10)


def test_estimates_are_unbiased_and_standard_errors_are_right():
    """Over fresh data the mean R2 is that of the true means, and the spread is what the standard errors say."""
    rng = np.random.default_rng(1)
    groups = [(a, b) for a in "pq" for b in "uvw"]
    y = labels_of(groups, [12, 30, 25, 20, 15, 30])
    effect, interaction = rng.normal(size=(2, P))
    mean = np.outer(y["f0"] == "q", effect) + np.outer((y["f0"] == "q") & (y["f1"] == "w"), interaction)
    found = []
    for _ in range(25):
        X = mean + 1.5 * rng.normal(size=mean.shape)
        table = certify_counterfactual(FLDA(), X, y, change={"f0": "q"}, group_means="fitted", random_state=None)
        found.append(table.query("genes == 'all' and group == 'q:w'").iloc[0])
    found = pd.DataFrame(found)
    # the additive mean of q:w is w plus the mean of the two other differences, with their noise and that of p:w
    noise = P * 1.5**2
    start = noise / 25
    more = noise * np.mean([1 / 12, 1 / 20, 1 / 30, 1 / 15])
    D0 = np.sum((effect + interaction) ** 2) + start
    truth = 1 - (np.sum(interaction**2) + start + more) / D0
    spread = found["r2"].std()
    assert found["r2"].mean() == pytest.approx(truth, abs=4 * spread / np.sqrt(25))
    assert found["se_r2"].mean() == pytest.approx(spread, rel=0.45)


def test_donors_are_the_noise_if_a_factor_varies_between_them():
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"f0": np.repeat(["p", "q"], 60), "f1": np.tile(np.repeat(["u", "v"], 30), 2)})
    donor = np.repeat(np.arange(24), 5)
    X = rng.normal(size=(120, P)) + 2 * rng.normal(size=(24, P))[donor] + np.outer(frame["f0"] == "q", np.ones(P))
    data = BlockMeans.of(X, FLDA().design_of(frame), donor, np.arange(24), 0)
    assert data.equal
    means = pd.DataFrame(X).groupby(donor).mean().to_numpy()
    np.testing.assert_allclose(data.variances[0], means[:6].var(axis=0, ddof=1))
    changes = np.stack([data.change(b, data.everything, data.means) for b in range(data.n_blocks)])
    B = data.n_blocks
    np.testing.assert_allclose((B - 1) / B * np.sum(changes**2, axis=0), data.variances / 6, rtol=1e-9)
    table = certify_counterfactual(FLDA(), X, frame, donor, change={"f0": "q"})
    assert set(table["n_units"].dropna()) == {6}


def test_genes_that_differ_are_judged_by_cells_that_did_not_choose_them():
    """Without any difference, no gene, or few, is found, and no change is not made to look bad."""
    rng = np.random.default_rng(3)
    y = labels_of([(a, b) for a in "pq" for b in "uv"], [40] * 4)
    X = rng.normal(size=(160, 300))
    X[:, 0] += 3 * (y["f0"] == "q")
    table = certify_counterfactual(FLDA(), X, y, change={"f0": "q"}, group_means="fitted")
    rows = table.query("genes == 'differing' and group != 'all groups'")
    assert rows["n_genes"].between(1, 3).all()
    assert (rows["r2"] > 0.8).all()
    assert rows["reading"].str.startswith("better than no change").all()


def test_groups_that_cannot_be_predicted_are_rows_with_a_reason(three_factors):
    X, y = three_factors
    keep = ~((y["f0"] == "q") & (y["f1"] == "u") & (y["f2"] == "x")).to_numpy()
    table = certify_counterfactual(FLDA(), X[keep], y[keep], change={"f1": "v"}, group_means="fitted")
    row = table[table["group"] == "q:v:x"].iloc[0]
    assert np.isnan(row["r2"])
    assert "'f1'" in row["reading"]


@pytest.mark.parametrize(
    ("change", "kinds", "name"),
    [
        ({"f9": "v"}, "fitted", "'f9'"),
        ({"f1": "w"}, "fitted", "'w'"),
        ("f9", "fitted", "'f9'"),
        ([], "fitted", "change"),
        ("f1", "observed", "'observed'"),
    ],
)
def test_refusals_name_the_cause(three_factors, change, kinds, name):
    X, y = three_factors
    with pytest.raises(ValueError, match=name):
        certify_counterfactual(FLDA(), X, y, change=change, group_means=kinds)


def test_one_factor_cannot_be_certified(three_factors):
    X, y = three_factors
    with pytest.raises(ValueError, match="'f0'"):
        certify_counterfactual(FLDA(), X, y[["f0"]], change="f0")
