"""Fits whose noise is what the effects leave of single units, against least squares written out."""

import itertools

import numpy as np
import pandas as pd
import pytest

from flda import FLDA, FLDAWarning, SparseFLDA
from flda._design.make import make_design
from flda._design.splits import folds
from flda._error.gene_f import gene_f
from flda._solve.dual import Dual
from flda._solve.iterative import Iterative
from flda._solve.primal import Primal
from flda._solve.within import Within
from flda.inference import certify, effect_tests
from flda.metrics import effect_snr
from flda.metrics._ratios import RatioSums

DRUGS, DOSES = "abcdef", range(5)


@pytest.fixture(scope="module")
def table():
    """One unit for every drug and dose, with an age that goes with the dose, and a number of cells."""
    rng = np.random.default_rng(1)
    y = pd.DataFrame(list(itertools.product(DRUGS, DOSES)), columns=["drug", "dose"])
    # values that make the age a covariate: more than a third of the units are different
    y["age"] = (y["dose"] + rng.normal(size=len(y))).round(3)
    y["n"] = rng.integers(5, 200, len(y))
    X = rng.normal(size=(len(y), 6)) + 5
    X[:, 0] += 3 * (y["drug"] == "a")
    X[:, 1] += y["dose"]
    X[:, 2] += y["age"]
    return X, y


def scaled_model(y, names):
    """Columns of the additive model, times the roots of the weights, and these roots, by pandas alone."""
    M = pd.get_dummies(y[["drug", "dose"]].astype(str), drop_first=True).to_numpy(dtype=float)
    M = np.column_stack([np.ones(len(y)), M, *([y["age"]] if "age" in names else [])])
    root = np.sqrt(y["n"] / y["n"].mean()).to_numpy() if "n" in names else np.ones(len(y))
    return root[:, None] * M, root


def options(names):
    out = {"interactions": None}
    if "age" in names:
        out |= {"nuisance": ["age"], "numeric": ["age"]}
    return out | ({"weights": "n"} if "n" in names else {})


CASES = [(), ("age",), ("n",), ("age", "n")]


@pytest.mark.parametrize("names", CASES)
@pytest.mark.parametrize("solver", ["primal", "dual", "iterative"])
def test_axes_maximise_the_ratio_with_the_scatter_of_the_residuals(table, names, solver):
    X, y = table
    y = y[["drug", "dose", *names]]
    model = FLDA(shrinkage=0.2, solver=solver, reliability=False, **options(names)).fit(X, y)
    M, root = scaled_model(y, names)
    b = np.linalg.lstsq(M, root[:, None] * X, rcond=None)[0]
    rest = root[:, None] * X - M @ b
    M_e = rest.T @ rest / (len(y) - M.shape[1])
    np.testing.assert_allclose(model.within_sd_**2, np.diag(M_e), rtol=1e-10)
    ratio = 0.8 * M_e + 0.2 * np.diag(np.diag(M_e))
    # fitted means of the complete table, at the mean age, and the mean squares of both factors
    of_age = 0 if "age" not in names else b[-1] * y["age"].mean()
    k = len(DRUGS) + len(DOSES) - 1
    means = (M / root[:, None])[:, :k] @ b[:k] + of_age
    np.testing.assert_allclose(model.means_, means, atol=1e-9)
    cube = means.reshape(len(DRUGS), len(DOSES), -1)
    squares = [np.einsum("lg,lh->gh", c, c) / (len(c) - 1) for c in (_centred(cube.mean(1)), _centred(cube.mean(0)))]
    against = ratio + squares[1]
    if "age" in names:
        slope = b[-1] * y["age"].std(ddof=0)
        against = against + np.outer(slope, slope)
    u = model.components_[0]
    value = (u @ squares[0] @ u) / (u @ against @ u)
    best = np.linalg.eigvals(np.linalg.solve(against, squares[0])).real.max()
    np.testing.assert_allclose([value, model.eigenvalues_[0]], best, rtol=1e-9)


def _centred(rows):
    return rows - rows.mean(axis=0)


@pytest.mark.parametrize("names", CASES)
def test_folds_are_least_squares_on_the_training_units(table, names):
    X, y = table
    y = y[["drug", "dose", *names]]
    g, design = 0.4, FLDA(**options(names)).design_of(y)
    data = Within.of_units(X, design.unit_model)
    solvers = [kind(data, "diagonal") for kind in (Primal, Dual, Iterative)]
    M, root = scaled_model(y, names)
    k = len(DRUGS) + len(DOSES) - 1
    age = (y["age"] - y["age"].mean()).to_numpy() if "age" in names else np.zeros(len(y))
    for split in list(folds(design, None, 0, 4))[:2]:
        train, test = split.train, split.test
        b = np.linalg.lstsq(M[train], (root[:, None] * X)[train], rcond=None)[0]
        rest = (root[:, None] * X)[train] - M[train] @ b
        scatter = (1 - g) * rest.T @ rest / (len(train) - M.shape[1]) + g * np.diag(solvers[0].target)
        slope = b[-1] if "age" in names else np.zeros(X.shape[1])
        means = (M / root[:, None])[:, :k] @ b[:k] + slope * (y["age"].mean() if "age" in names else 0)
        G, centre = means - means.mean(axis=0), means.mean(axis=0)
        rows = np.vstack([G, slope * y["age"].std(ddof=0)]) if "age" in names else G
        Z = np.linalg.solve(scatter, rows.T)
        for solver in solvers:
            (space,) = solver.fold(split).group_spaces([g])
            tolerance = 0.02 if solver.name == "iterative" else 1e-9
            np.testing.assert_allclose(space.K, rows @ Z, atol=tolerance * np.abs(rows @ Z).max())
            scores = (X[test] - centre - np.outer(age[test], slope)) @ Z
            np.testing.assert_allclose(space.scores, scores, atol=tolerance * np.abs(scores).max())


@pytest.mark.parametrize("names", CASES)
def test_the_f_of_a_gene_is_that_of_statsmodels(table, names):
    smf = pytest.importorskip("statsmodels.formula.api", reason="needs the extra scanpy")
    from statsmodels.stats.anova import anova_lm

    X, y = table
    y = y[["drug", "dose", *names]]
    model = FLDA(shrinkage=0.5, **options(names))
    prepared = model._prepare(X, y, None)
    F = gene_f(prepared.design, None, prepared.summary.sums, prepared.summary.squares)
    tests = effect_tests(model, X, y, n_resamples=9).genes
    formula = "x ~ C(drug, Sum) + C(dose, Sum)" + (" + age" if "age" in names else "")
    for gene in range(3):
        data = y.assign(x=X[:, gene])
        fit = smf.wls(formula, data, weights=data["n"] if "n" in names else 1.0).fit()
        expected = anova_lm(fit, typ=3)["F"]
        for factor in ("drug", "dose"):
            value = expected[f"C({factor}, Sum)"]
            assert F.loc[gene, factor] == pytest.approx(value, rel=1e-8)
            row = tests[(tests["effect"] == factor) & (tests["gene"] == gene)]
            assert row["statistic"].item() == pytest.approx(value, rel=1e-8)


def test_the_f_of_a_contrast_and_of_trends_is_that_of_least_squares(table):
    X, y = table
    pair = {"b - a": ({"drug": "b"}, {"drug": "a"})}
    model = FLDA(numeric={"dose": 1}, contrasts=pair, shrinkage=0.5)
    prepared = model._prepare(X, y[["drug", "dose"]], None)
    F = gene_f(prepared.design, None, prepared.summary.sums, prepared.summary.squares)
    tests = effect_tests(model, X, y[["drug", "dose"]], effects=["b - a"], n_resamples=9).genes
    D = pd.get_dummies(y["drug"]).to_numpy(dtype=float)
    dose = y["dose"].to_numpy() - 2.0
    M = np.hstack([D, D * dose[:, None]])
    b = np.linalg.lstsq(M, X, rcond=None)[0]
    s2 = np.sum((X - M @ b) ** 2, axis=0) / (len(y) - M.shape[1])
    expected = (b[1] - b[0]) ** 2 / (s2 * 2 / len(DOSES))
    np.testing.assert_allclose(F["b - a"], expected, rtol=1e-8)
    np.testing.assert_allclose(tests["statistic"], expected, rtol=1e-8)
    slope = b[len(DRUGS) :].mean(axis=0)
    np.testing.assert_allclose(F["dose.linear"], slope**2 / (s2 / (len(DRUGS) * 10)), rtol=1e-8)


def test_auto_takes_the_largest_interaction_for_noise_and_says_so(table):
    X, y = table
    with pytest.warns(FLDAWarning, match=r"error='residual'.*drug:dose"):
        model = FLDA(shrinkage=0.5).fit(X, y[["drug", "dose"]])
    assert model.effects_ == [("drug",), ("dose",)]
    row = model.design_.report.set_index("effect").loc["drug:dose"]
    assert not row["estimable"]
    assert "noise" in row["reason"]
    same = FLDA(shrinkage=0.5, interactions=None, error="residual").fit(X, y[["drug", "dose"]])
    np.testing.assert_allclose(same.components_, model.components_)


def test_replicates_keep_the_noise_within_groups_unless_asked(table):
    X, y = table
    y = pd.concat([y, y], ignore_index=True)[["drug", "dose"]]
    X = np.vstack([X, X[::-1]])
    assert not FLDA().design_of(y).residual
    model = FLDA(interactions=None, error="residual", shrinkage=0.5).fit(X, y)
    assert model.design_.unit_model.df == len(y) - 10


def test_certificate_leaves_single_units_out(table):
    X, y = table
    y = y[["drug", "dose"]].assign(dose=y["dose"].astype(str))
    found = certify(FLDA(shrinkage=0.5), X, y).set_index("axis")
    assert (found["scheme"] == "pooled").all()
    assert found.loc["dose_1", "snr"] > 0.5
    assert found.loc["drug_1", "snr"] > 0.3
    assert found.loc["drug_1", "crosstalk"] < 0.2
    assert np.isfinite(found[["se_snr", "se_crosstalk"]]).all(axis=None)


def test_ratios_on_given_scores_are_unbiased():
    y = pd.DataFrame(list(itertools.product(DRUGS, DOSES)), columns=["drug", "dose"]).astype(str)
    design = make_design(y, interactions=None, error="residual")
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(len(y), 40000)) + 1.0 * (y["drug"] == "a").to_numpy()[:, None]
    sums = RatioSums.of(scores, design)
    truth = {"drug": np.var([1.0, 0, 0, 0, 0, 0], ddof=1), "dose": 0.0}
    for name, value in sums.snr().items():
        assert value.mean() == pytest.approx(truth[name], abs=0.005)
    # the plain ratio is too large by 2 / (df - 2) of the noise of an effect, 1 / 6
    assert effect_snr(scores, design)["dose"].mean() == pytest.approx(2 / 18 / 6, abs=0.005)


def test_sparse_axes_are_those_of_the_same_scatter(table):
    X, y = table
    y = y[["drug", "dose", "n"]]
    dense = FLDA(shrinkage=0.3, interactions=None, weights="n").fit(X, y)
    sparse = SparseFLDA(n_genes=6, shrinkage=0.3, interactions=None, weights="n").fit(X, y)
    np.testing.assert_allclose(sparse.eigenvalues_[0], dense.eigenvalues_[0], rtol=1e-8)
    np.testing.assert_allclose(sparse.predict_proba(X), dense.predict_proba(X), atol=1e-8)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"error": "within"}, "single cell"),
        ({"error": "residual", "interactions": ["drug:dose"]}, "drug:dose"),
        ({"error": "none"}, "none"),
        ({"weights": "cells"}, "cells"),
        ({"weights": "n", "error": "within"}, "within"),
        ({"group_means": "shrunken"}, "shrunken"),
        ({"within": "balanced"}, "balanced"),
        ({"shrinkage": 0}, "singular"),
    ],
)
def test_what_cannot_be_is_refused_by_name(table, changes, name):
    X, y = table
    X, columns = np.hstack([X] * 5), ["drug", "dose", *(["n"] if changes.get("weights") == "n" else [])]
    with pytest.raises(ValueError, match=name):
        FLDA(**changes).fit(X, y[columns])


def test_weights_must_be_positive_and_donors_must_be_nuisance(table):
    X, y = table
    bad = y[["drug", "dose"]].assign(n=0.0)
    with pytest.raises(ValueError, match="'n'"):
        FLDA(weights="n", interactions=None).fit(X, bad)
    for call in (lambda *a: FLDA().fit(*a), lambda *a: effect_tests(FLDA(), *a), lambda *a: certify(FLDA(), *a)):
        with pytest.raises(ValueError, match="nuisance"):
            call(X, y[["drug", "dose"]], np.arange(len(y)) % 4)
