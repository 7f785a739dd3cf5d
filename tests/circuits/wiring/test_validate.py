"""Cross-validation of rules: what is held out, and what the nulls score."""

import numpy as np
import pandas as pd
from scipy.special import expit

from flda.circuits.wiring import BilinearModel, SpatialConnectomeModel, cross_validate

from circuit_problems import problem, undirected


def test_cross_validation_of_a_rule_that_is_there():
    rng = np.random.default_rng(0)
    X = (rng.random((60, 4)) < 0.5).astype(float)
    B = np.triu(rng.random((60, 60)) < 0.05 + 0.5 * np.outer(X[:, 0], X[:, 0]), 1)
    B = (B + B.T).astype(float)
    classes = np.repeat([f"class{i}" for i in range(30)], 2)
    table = cross_validate(SpatialConnectomeModel(1.0), X, B, contact=1 - np.eye(60), classes=classes, n_nulls=6)
    assert table.index.tolist() == ["in sample", "pairs", "neurons", "classes"]
    assert (table["metric"] == "auc").all()
    assert (table.loc[["pairs", "neurons", "classes"], "score"] > 0.65).all()
    assert (table["lower"] < table["score"]).all()
    assert (table["score"] < table["upper"]).all()
    assert (table["score"] > table["permutation_mean"] + 3 * table["permutation_sd"]).all()
    assert (table["permutation_pval"] == 1 / 7).all()
    assert (table["class_mean"] < table["score"]).all()
    assert (table["n_pairs"] == 60 * 59 / 2).all()
    again = cross_validate(SpatialConnectomeModel(1.0), X, B, contact=1 - np.eye(60), classes=classes, n_nulls=6)
    pd.testing.assert_frame_equal(table, again)


def test_cross_validation_of_nothing_and_of_degrees():
    """Without a rule the in-sample score is high and the held-out one is not; a hub gene scores by degree alone."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(40, 8))
    B = np.triu(rng.random((40, 40)) < 0.2, 1)
    table = cross_validate(SpatialConnectomeModel(0.1), X, (B + B.T).astype(float), contact=1 - np.eye(40), n_nulls=5)
    assert table.loc["in sample", "score"] > 0.6
    assert abs(table.loc["in sample", "score"] - table.loc["in sample", "permutation_mean"]) < 0.05
    assert (abs(table.loc[["pairs", "neurons"], "score"] - 0.5) < 0.08).all()
    X = np.column_stack([np.ones(60), rng.normal(size=60)])
    B = np.triu(rng.random((60, 60)) < expit(-1.5 + X[:, 1][:, None] + X[:, 1][None, :]), 1)
    table = cross_validate(SpatialConnectomeModel(0.1), X, (B + B.T).astype(float), contact=1 - np.eye(60), n_nulls=5)
    assert table.loc["pairs", "permutation_pval"] == 1 / 6
    assert abs(table.loc["pairs", "score"] - table.loc["pairs", "degree_mean"]) < 0.05


def test_no_held_out_pair_is_seen():
    """A model that looks its answers up scores 1 on what it has seen, and must be blind in every fold."""

    class Lookup(SpatialConnectomeModel):
        def _fit(self, pairs):
            self.seen_ = np.zeros(pairs.shape)
            self.seen_[pairs.i, pairs.j] = pairs.b
            return self

        def _at(self, pairs):
            return self.seen_[pairs.i, pairs.j]

    X, B, C = undirected(n=30)
    classes = np.arange(30) // 2
    table = cross_validate(Lookup(), X, B, contact=C, classes=classes, n_nulls=0)
    assert table["score"].tolist() == [1.0, 0.5, 0.5, 0.5]
    assert table["degree_mean"].isna().all()


def test_two_populations_and_strengths():
    X, Y, B, C = problem(n=40, m=30)
    names = [f"pre{i}" for i in range(40)], [f"post{i}" for i in range(30)]
    X, Y = pd.DataFrame(X, index=names[0], columns=list("abcd")), pd.DataFrame(Y, index=names[1], columns=list("xyz"))
    table = cross_validate(
        BilinearModel(2, alpha=0.1), X, pd.DataFrame(B, *names).iloc[::-1], Y=Y, contact=pd.DataFrame(C, *names),
        classes=np.arange(40) // 2, classes_post=np.arange(30) // 2, n_nulls=2,
    )  # fmt: skip
    assert (table["metric"] == "correlation").all()
    assert (table["score"] > 0.4).all()
    assert table["degree_mean"].isna().all()  # strengths have no degrees
    model = SpatialConnectomeModel().fit(X, pd.DataFrame(B, *names), Y=Y, contact=pd.DataFrame(C, *names))
    assert model.rules_.index.tolist() == list("abcd")
    assert model.rules_.columns.tolist() == list("xyz")
