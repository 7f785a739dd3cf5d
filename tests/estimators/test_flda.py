"""The dense estimator: scikit-learn's contract, prediction, and what is refused."""

import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from flda import FLDA

from oracle import problem, shrunken, within_scatter

N_CHECKS = 60  # a check that stops being collected would otherwise go unnoticed


@parametrize_with_checks([FLDA(random_state=0), FLDA(shrinkage=0.1, shrinkage_target="identity", solver="dual")])
def test_common_estimator_checks(estimator, check):
    check(estimator)


def test_number_of_common_checks():
    assert len(list(estimator_checks_generator(FLDA()))) >= N_CHECKS


@pytest.mark.parametrize("shrinkage", [0.0, 0.3])
@pytest.mark.parametrize("balanced", [True, False])
def test_one_factor_predicts_as_scikit_learns_lda(shrinkage, balanced):
    """scikit-learn averages the class covariances by the priors, which is within="balanced" here.

    It takes nothing off the squared length of a mean for the noise of its n_c cells, which is d / n_c.
    """
    rng = np.random.default_rng(0)
    y = np.repeat(list("abcd"), [40] * 4 if balanced else [20, 35, 50, 80])
    X = (
        rng.normal(size=(len(y), 12)) @ rng.normal(size=(12, 12))
        + rng.normal(size=(4, 12))[np.searchsorted(list("abcd"), y)]
    )
    reference = LinearDiscriminantAnalysis(solver="eigen", shrinkage=shrinkage, priors=np.full(4, 0.25)).fit(X, y)
    model = FLDA(shrinkage=shrinkage, shrinkage_target="identity", within="balanced").fit(X, y)
    # their covariance divides by n_c, ours by n_c - 1 in expectation: a scale c of the whole metric
    scale = np.sum(1 - 1 / np.bincount(np.searchsorted(list("abcd"), y))) / 4
    scatter, _ = within_scatter(X, pd.DataFrame({"y": y}), "balanced")
    d = np.trace(np.linalg.solve(shrunken(scatter, shrinkage, "identity"), scatter))
    counts = np.unique(y, return_counts=True)[1]
    theirs = scale * (reference.decision_function(X) - np.log(0.25)) + d / (2 * counts)
    found = model._predictor
    ours = (X - found.centre) @ found.discriminants - found.offsets
    np.testing.assert_allclose(np.diff(ours, axis=1), np.diff(theirs, axis=1), atol=1e-8 * np.abs(theirs).max())
    np.testing.assert_array_equal(model.predict(X), np.array(list("abcd"))[theirs.argmax(axis=1)])
    if balanced:
        np.testing.assert_array_equal(model.predict(X), reference.predict(X))


def test_one_factor_axes_are_scikit_learns_lda_axes():
    """Up to sign and scale, without shrinkage: with it scikit-learn shrinks the total scatter too."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2, 3], 50)
    X = rng.normal(size=(200, 12)) @ rng.normal(size=(12, 12)) + rng.normal(size=(4, 12))[y]
    reference = LinearDiscriminantAnalysis(solver="eigen", priors=np.full(4, 0.25)).fit(X, y)
    model = FLDA(shrinkage=0.0).fit(X, y)
    theirs = reference.scalings_[:, :3].T
    cosines = np.sum(theirs * model.components_, axis=1) / (
        np.linalg.norm(theirs, axis=1) * np.linalg.norm(model.components_, axis=1)
    )
    np.testing.assert_allclose(np.abs(cosines), 1, atol=1e-8)
    # and with shrinkage the discriminant directions span the same space as their coefficients
    shrunken = LinearDiscriminantAnalysis(solver="eigen", shrinkage=0.3, priors=np.full(4, 0.25)).fit(X, y)
    ours = FLDA(shrinkage=0.3, shrinkage_target="identity").fit(X, y).components_
    both = np.vstack([np.diff(shrunken.coef_, axis=0), ours])
    assert np.linalg.matrix_rank(both, tol=1e-8 * np.linalg.norm(both, 2)) == 3


def test_unequal_groups_do_not_leak():
    """90/10 2 x 2 design with pure-B genes: what A shows on them is sampling noise, as its expectation says."""
    rng = np.random.default_rng(0)
    codes = np.repeat([(0, 0), (0, 1), (1, 0), (1, 1)], [900, 100, 100, 900], axis=0)
    y = pd.DataFrame(codes.astype(str), columns=["A", "B"])
    X = rng.normal(size=(2000, 300))
    X[:, :100] += 2.0 * codes[:, 1:]
    model = FLDA(shrinkage=0.1).fit(X, y)
    Q = model.design_.scatter_weights(("A",))
    scatter = np.einsum("cp,cd,dp->p", model.means_, Q, model.means_)[:100].mean()
    noise = np.sum(np.diag(Q) / model.design_.counts)
    assert scatter == pytest.approx(noise, rel=0.5)
    margins = np.stack([X[codes[:, 0] == a].mean(axis=0) for a in (0, 1)])
    assert np.var(margins[:, :100], axis=0, ddof=1).mean() > 100 * noise  # cell-weighted margins do leak


def test_fitted_attributes_and_names():
    X, y = problem(200, 30, (2, 4))
    model = FLDA(shrinkage=0.2).fit(pd.DataFrame(X, columns=[f"g{i}" for i in range(30)]), y)
    assert model.effects_ == [("A",), ("B",), ("A", "B")]
    names = ["A_1", "B_1", "B_2", "B_3", "A:B_1", "A:B_2", "A:B_3"]
    assert model.get_feature_names_out().tolist() == names == model.axes_["axis"].tolist()
    assert model.components_.shape == (7, 30)
    assert model.means_.shape == (8, 30)
    assert model.feature_names_in_[0] == "g0"
    assert model.shrinkage_ == 0.2
    standardised = model.components_ * model.within_sd_
    assert (standardised[np.arange(7), np.abs(standardised).argmax(axis=1)] > 0).all()
    one = FLDA(shrinkage=0.2, n_components={"B": 2, "A:B": 1}).fit(X, y)
    assert one.get_feature_names_out().tolist() == ["A_1", "B_1", "B_2", "A:B_1"]
    np.testing.assert_allclose(one.components_[1], model.components_[1], atol=1e-12)


def test_transform_centres_at_the_unweighted_mean_of_the_groups():
    X, y = problem(200, 30, (2, 3))
    model = FLDA(shrinkage=0.2).fit(X, y)
    np.testing.assert_allclose(model.transform(model.means_).mean(axis=0), 0, atol=1e-10)
    np.testing.assert_allclose(
        model.transform(sp.csr_array(X)), (X - model.means_.mean(axis=0)) @ model.components_.T, atol=1e-9
    )


def test_inverse_transform_is_a_right_inverse_within_the_span_of_the_means():
    X, y = problem(200, 30, (2, 3))
    model = FLDA(shrinkage=0.2).fit(X, y)
    scores = np.random.default_rng(0).normal(size=(10, 5))
    back = model.inverse_transform(scores)
    np.testing.assert_allclose(model.transform(back), scores, atol=1e-9)
    # all C - 1 axes together give the group means back
    np.testing.assert_allclose(model.inverse_transform(model.transform(model.means_)), model.means_, atol=1e-8)
    with pytest.raises(ValueError, match=r"\b5\b.*\(10, 2\)"):
        model.inverse_transform(scores[:, :2])


def test_predict_as_y_was_given():
    X, y = problem(300, 20, (2, 3))
    frame = FLDA(shrinkage=0.1).fit(X, y)
    predicted = frame.predict(X)
    assert list(predicted.columns) == ["A", "B"]
    assert set(predicted["B"]) == {"B0", "B1", "B2"}
    assert frame.score(X, y) > 0.8
    matrix = FLDA(shrinkage=0.1).fit(X, y.to_numpy())
    assert matrix.effects_[0] == ("factor0",)
    np.testing.assert_array_equal(matrix.predict(X), predicted.to_numpy())
    vector = FLDA(shrinkage=0.1).fit(X, y["B"])
    assert vector.predict(X).shape == (300,)
    assert vector.effects_ == [("B",)]
    proba = frame.predict_proba(X)
    assert proba.columns.tolist()[:3] == [("A", "A0"), ("A", "A1"), ("B", "B0")]
    np.testing.assert_allclose(proba["B"].sum(axis=1), 1)
    assert (proba["B"].to_numpy().argmax(axis=1) == pd.Categorical(predicted["B"]).codes).all()
    assert [p.shape[1] for p in matrix.predict_proba(X)] == [2, 3]


def test_scikit_learn_tools_work_with_two_factors():
    X, y = problem(200, 20, (2, 3))
    pipeline = make_pipeline(StandardScaler(), FLDA(shrinkage=0.1)).set_output(transform="pandas")
    out = pipeline.fit(X, y).transform(X)
    assert list(out.columns) == ["A_1", "B_1", "B_2", "A:B_1", "A:B_2"]
    search = GridSearchCV(FLDA(), {"shrinkage": [0.1, 0.9]}, cv=3).fit(X, y)
    assert search.best_params_["shrinkage"] in (0.1, 0.9)
    model = FLDA(shrinkage="cv", random_state=1).fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.transform(X), model.transform(X))
    np.testing.assert_array_equal(clone(model).fit(X, y).components_, model.components_)


def test_nuisance_columns():
    X, y = problem(300, 20, (2, 3))
    X += 5 * (y["B"] == "B1").to_numpy()[:, None]
    model = FLDA(nuisance=["B"], shrinkage=0.1).fit(X, y)
    assert model.effects_ == [("A",)]
    assert list(model.predict(X).columns) == ["A", "B"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_components": 3}, "n_components=3 for 'A'"),
        ({"n_components": {"Q": 1}}, "n_components.*'Q'"),
        ({"penalty": {"Q": 1}}, "penalty.*'Q'"),
        ({"penalty": -1}, "penalty of 'A' is -1"),
        ({"shrinkage": 1.5}, "shrinkage=1.5"),
        ({"shrinkage": "lw"}, "shrinkage='lw'.*'ledoit-wolf'"),
        ({"shrinkage_target": "unit"}, "shrinkage_target='unit'"),
        ({"group_means": "borrowed"}, "group_means='borrowed'.*'shrunken'"),
        ({"within": "weighted"}, "within='weighted'"),
        ({"solver": "lu"}, "solver='lu'"),
        ({"nuisance": ["batch"]}, "'batch'.*'A'"),
        ({"nuisance": ["A", "B"]}, "'A'.*nuisance"),
    ],
)
def test_bad_parameters(options, message):
    X, y = problem(60, 10, (2, 3))
    with pytest.raises(ValueError, match=message):
        FLDA(**options).fit(X, y)


def test_bad_data():
    X, y = problem(60, 10, (2, 3))
    with pytest.raises(ValueError, match=r"shrinkage=0\b.*\b54\b.*\b60\b"):
        FLDA(shrinkage=0).fit(np.hstack([X] * 6)[:, :54], y)
    with pytest.raises(ValueError, match=r"\b60 cells.*\b59 rows"):
        FLDA().fit(X, y[1:])
    bad = pd.DataFrame(X.copy(), columns=[f"g{i}" for i in range(10)])
    bad.iloc[3, 4] = np.inf
    with pytest.raises(ValueError, match="inf in row 3, gene 'g4'"):
        FLDA().fit(bad, y)
    model = FLDA(shrinkage=0.1).fit(bad.replace(np.inf, 0.0), y)
    with pytest.raises(ValueError, match="inf in row 3, gene 'g4'"):
        model.predict(bad)
    with pytest.raises(ValueError, match=r"\b6 groups"):
        FLDA(error="within").fit(X[:6], pd.DataFrame({"A": list("aabbcc"), "B": list("xyxyxy")}))
    with pytest.raises(ValueError, match="mean"):
        FLDA(shrinkage=0.5).fit(np.full_like(X, 0.1), y)


def test_constant_genes_get_no_loading():
    X, y = problem(60, 10, (2, 3))
    X[:, 3] = 0.1
    X[:, 5] = 0
    for options in (
        {"shrinkage": 0},
        {"shrinkage": 0.2, "solver": "dual"},
        {"shrinkage": 0.2, "solver": "primal"},
        {"shrinkage": 0.2, "shrinkage_target": "identity"},
    ):
        model = FLDA(**options).fit(X, y)
        np.testing.assert_allclose(model.components_[:, [3, 5]], 0, atol=1e-12)
        rest = FLDA(**options).fit(np.delete(X, [3, 5], axis=1), y)
        if "shrinkage_target" not in options:  # the identity target is the mean over all genes, constant ones too
            np.testing.assert_allclose(model.eigenvalues_, rest.eigenvalues_, rtol=1e-8)


def test_groups_of_one_cell_are_fitted():
    X, y = problem(80, 10, (2, 3))
    keep = (y.groupby(["A", "B"]).cumcount() == 0) | (y["A"] + y["B"] != "A0B1")
    model = FLDA(random_state=0).fit(X[keep], y[keep])
    assert model.design_.counts.min() == 1
    assert np.isfinite(model.components_).all()
