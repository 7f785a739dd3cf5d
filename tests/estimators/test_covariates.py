"""Continuous covariates against dense least squares on the cells, over solvers, array kinds and the doors above."""

import numpy as np
import pandas as pd
import pytest
import scipy.linalg as sl

from flda import FLDA, SparseFLDA
from flda._design.make import make_design
from flda._design.samples import samples_in_error
from flda._design.splits import folds
from flda._solve.dual import Dual
from flda._solve.folds import Training
from flda._solve.iterative import Iterative
from flda._solve.primal import Primal
from flda._solve.within import Within
from flda.inference import certify, effect_tests
from flda.metrics import effect_snr

from array_kinds import IN_BLOCKS, SINGLE, kinds
from oracle import donor_problem

AGE = {"nuisance": ["age"], "numeric": ["age"]}


def aged(n=200, p=9, seed=0, *, slope=1.0, effect=1.0, related=1.0):
    """Two crossed factors and an age that goes with the first; every gene has a slope on age."""
    rng = np.random.default_rng(seed)
    y = pd.DataFrame({"A": rng.choice(["a", "b"], n), "B": rng.choice(["x", "y", "z"], n, p=[0.5, 0.3, 0.2])})
    first, third = (y["A"] == "a").to_numpy(), (y["B"] == "z").to_numpy()
    y["age"] = 50 + 10 * rng.normal(size=n) + 10 * related * first
    X = rng.normal(size=(n, p)) @ (np.eye(p) + 0.3 * rng.normal(size=(p, p))) + 3
    X += slope * np.outer((y["age"] - 50) / 10, rng.normal(size=p))
    X += effect * (np.outer(first, rng.normal(size=p)) + np.outer(third, rng.normal(size=p)))
    return X, y


def least_squares(X, y):
    """Group means at the mean age, slope per standard deviation, and the within-group scatter, by definition."""
    labels = y[["A", "B"]].astype(str).agg(":".join, axis=1)
    z = (y["age"] - y["age"].mean()) / y["age"].std(ddof=0)
    D = np.column_stack([pd.get_dummies(labels).to_numpy(dtype=float), z])
    beta = np.linalg.lstsq(D, X, rcond=None)[0]
    residual = X - D @ beta
    return beta[:-1], beta[-1], residual.T @ residual / (len(X) - D.shape[1])


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("solver", ["primal", "dual", "iterative"])
def test_axes_equal_the_dense_eigenproblem(store, solver, kind):
    X, y = aged()
    stored = store(X)
    if solver == "dual" and kind in IN_BLOCKS:
        pytest.skip("the dual solver needs the data in memory")
    model = FLDA(**AGE, shrinkage=0.2, solver=solver, reliability=False).fit(stored, y)
    G, slope, M = least_squares(X, y)
    design = model.design_
    scatters = {e: G.T @ design.scatter_weights(e) @ G for e in design.contrasts}
    W = 0.8 * M + 0.2 * np.diag(np.diag(M)) + np.outer(slope, slope)
    tolerance = 1e-5 if kind in SINGLE else 1e-7
    for effect in design.effects:
        rest = sum(S for e, S in scatters.items() if e != effect)
        values = sl.eigh(scatters[effect], W + rest, eigvals_only=True)[::-1][: design.df(effect)]
        found = model.axes_.loc[model.axes_["effect"] == effect.name, "eigenvalue"]
        np.testing.assert_allclose(found, values, rtol=tolerance, atol=1e-12)
    np.testing.assert_allclose(model.within_sd_, np.sqrt(np.diag(M)), rtol=tolerance)
    np.testing.assert_allclose(model.means_, G, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("within", ["pooled", "balanced"])
@pytest.mark.parametrize("with_donors", [False, True])
def test_folds_of_all_solvers_are_the_fit_of_the_training_cells(within, with_donors):
    if with_donors:
        X, y, names = donor_problem(6, 20, 8)
        donors = pd.factorize(names, sort=True)[0]
        y = y.assign(age=np.random.default_rng(1).normal(size=len(y)) + 0.1 * donors)
    else:
        (X, y), donors = aged(150, 8), None
    design = make_design(y, **AGE)
    samples = samples_in_error(design, donors)
    assert (samples is not None) == with_donors
    data = Within.from_data(X, design.codes, design.counts, within, samples, covariates=design.covariates)
    solvers = [kind(data, "diagonal") for kind in (Primal, Dual, Iterative)]
    for split in list(folds(design, donors, 0, 3))[:2]:
        every = [s.fold(split).group_spaces([0.3, 0.9]) for s in solvers]
        for other, tolerance in zip(every[1:], (1e-8, 0.05), strict=True):
            for a, b in zip(every[0], other, strict=True):
                np.testing.assert_allclose(a.K, b.K, atol=tolerance * np.abs(a.K).max())
                np.testing.assert_allclose(a.scores, b.scores, atol=tolerance * np.abs(a.scores).max())
        # the fold of the primal solver is what a fit of the training cells with this target gives
        training = Primal(Training(data, split).within(), "diagonal")
        training.target = solvers[0].target
        Z = training.factor(0.3).solve(training.means.T)
        np.testing.assert_allclose(every[0][0].K, training.means @ Z, rtol=1e-8, atol=1e-9)
        if not with_donors:  # and the scatter is that of least squares on the training cells
            G, slope, M = least_squares(X[split.train], y.iloc[split.train])
            if within == "pooled":
                np.testing.assert_allclose(training.within.gene_scatter(), M, rtol=1e-8, atol=1e-10)
            scale = y["age"].iloc[split.train].std(ddof=0) / y["age"].std(ddof=0)
            np.testing.assert_allclose(training.within.covariates.slopes[0] * scale, slope, rtol=0.2, atol=0.05)
            moved = (y["age"].iloc[split.train].mean() - y["age"].mean()) / y["age"].std(ddof=0)
            if within == "pooled":
                np.testing.assert_allclose(training.within.means, G - moved * slope / scale, rtol=1e-8, atol=1e-9)


def test_scatter_has_the_expectation_of_the_noise():
    rng = np.random.default_rng(0)
    y = pd.DataFrame({"A": np.repeat(["a", "b"], 15), "age": rng.normal(size=30), "time": rng.normal(size=30)})
    both = {"nuisance": ["age", "time"], "numeric": {"age": 2, "time": 1}}
    design = make_design(y, **both)
    X = rng.normal(size=(30, 20000))
    found = Within.from_data(X, design.codes, design.counts, "pooled", covariates=design.covariates)
    assert found.gene_variances().mean() == pytest.approx(1, rel=0.01)  # 30 - 2 - 3 degrees of freedom


def test_type_three_tests_of_least_squares():
    """With one variance for all groups, F is that of ordinary least squares with sum-to-zero coding."""
    smf = pytest.importorskip("statsmodels.formula.api", reason="needs the extra scanpy")
    from statsmodels.stats.anova import anova_lm

    from flda._data.summary import summarise
    from flda._error.adjusted import adjusted
    from flda._error.flips import CellStatistics

    class OneVariance(CellStatistics):
        pooled = 1.0

    X, y = aged(120, 6)
    design = make_design(y, **AGE)
    found = summarise(X, design.codes, design.n_groups)
    less = adjusted(X, design.covariates, design.codes, found.sums, found.squares)
    F = OneVariance(design, design.effects, less.sums / design.counts[:, None], less.squares).observed()
    for gene in range(6):  # six genes have no common prior
        fit = smf.ols("x ~ C(A, Sum) * C(B, Sum) + age", y.assign(x=X[:, gene])).fit()
        table = anova_lm(fit, typ=3)["F"]
        expected = [table["C(A, Sum)"], table["C(B, Sum)"], table["C(A, Sum):C(B, Sum)"]]
        np.testing.assert_allclose([F[e][gene] / design.df(e) for e in design.effects], expected, rtol=1e-8)


@pytest.mark.parametrize("kind", ["csr_array", "dask of CSR", "dask of dense", "stream of CSR"])
def test_tests_are_the_same_for_every_storage(store, kind):
    X, y = aged(90, 5)
    tables = [effect_tests(FLDA(**AGE), Z, y, n_resamples=30) for Z in (X, store(X))]
    pd.testing.assert_frame_equal(tables[0].table, tables[1].table)
    pd.testing.assert_frame_equal(tables[0].genes, tables[1].genes)


def test_level_with_a_covariate_that_goes_with_the_factor():
    """The correlation of age with A is about .5; without the covariate the factor would always be found."""
    pvals, genes = [], []
    for seed in range(80):
        X, y = aged(60, 20, seed, effect=0.0, related=1.2)
        found = effect_tests(FLDA(**AGE, interactions=None), X, y, effects=["A"], n_resamples=99, random_state=seed)
        pvals.append(found.table["pval"][0])
        genes.append((found.genes["pval"] <= 0.05).mean())
    assert np.mean(np.array(pvals) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 80)
    assert np.mean(genes) == pytest.approx(0.05, abs=0.02)


def test_certificate_takes_covariates_off_the_held_out_scores():
    """A has no effect, but goes with age; what age moves is no signal of A."""
    X, y = aged(400, 12, slope=2.0, effect=0.0, related=1.5)
    plain = certify(FLDA(interactions=None, shrinkage=0.2), X, y[["A", "B"]]).set_index("axis")
    found = certify(FLDA(**AGE, interactions=None, shrinkage=0.2), X, y).set_index("axis")
    assert plain.loc["A_1", "snr"] > 0.5
    assert abs(found.loc["A_1", "snr"]) < 0.2
    truth, y = aged(400, 12, slope=2.0, effect=2.0, related=1.5)
    assert certify(FLDA(**AGE, interactions=None, shrinkage=0.2), truth, y).set_index("axis").loc["A_1", "snr"] > 5


def test_snr_of_scores_is_unbiased():
    rng = np.random.default_rng(0)
    y = pd.DataFrame({"A": np.repeat(["a", "b"], 12), "age": rng.normal(size=24)})
    y["age"] += 2 * (y["A"] == "a")
    design = make_design(y, **AGE)
    noise = rng.normal(size=(24, 4000))
    shift = np.where(y["A"] == "a", 1.0, -1.0)[:, None]
    snr = effect_snr(noise + shift + 5 * y[["age"]].to_numpy(), design)["A"]
    # the mean square of a difference of 2 is 2; the slope's noise adds to the means what is not subtracted
    assert np.median(snr) == pytest.approx(2, rel=0.25)


def test_an_axis_avoids_the_covariate():
    """Age moves genes 0 to 3, and A moves gene 0 and gene 4: the axis takes gene 4 where age counts against it."""
    rng = np.random.default_rng(3)
    n = 400
    y = pd.DataFrame({"A": rng.choice(["a", "b"], n), "age": rng.normal(size=n)})
    X = rng.normal(size=(n, 6))
    X[:, :4] += 3 * y[["age"]].to_numpy()
    X[:, [0, 4]] += (y["A"] == "a").to_numpy()[:, None]
    free = FLDA(**AGE, shrinkage=0.1, penalty={"age.linear": 0.0}).fit(X, y)
    avoiding = FLDA(**AGE, shrinkage=0.1, penalty={"age.linear": np.inf}).fit(X, y)
    slope = [abs(np.corrcoef(m.transform(X)[:, 0], y["age"])[0, 1]) for m in (free, avoiding)]
    assert slope[0] > 0.3
    assert slope[1] < 0.1


def test_sparse_axes_on_all_genes_are_the_dense_ones():
    X, y = aged(150, 8)
    dense = FLDA(**AGE, shrinkage=0.3).fit(X, y)
    sparse = SparseFLDA(**AGE, shrinkage=0.3, n_genes=8).fit(X, y)
    np.testing.assert_allclose(sparse.eigenvalues_, dense.eigenvalues_, rtol=1e-6)
    chosen = SparseFLDA(**AGE, n_genes=3).fit(X, y)
    assert (np.count_nonzero(chosen.components_, axis=1) == 3).all()


def test_predictions_need_no_covariate():
    X, y = aged(400, 10, effect=2.0)
    model = FLDA(**AGE).fit(X, y)
    assert model.predict(X).columns.tolist() == ["A", "B"]
    assert model.score(X, y) > 0.6
    assert model.classes_[0].tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: y.assign(age=np.where(y["A"] == "a", 1.0, 2.0) + 1e-9 * np.arange(len(y))), "'age.linear'.*group"),
        (lambda y: y.assign(age=y["age"].where(y["age"] > 40)), "'age'.*no label"),
        (lambda y: y.assign(age=y["age"].mask(y["age"] > 70, np.inf)), "'age'.*not finite"),
    ],
)
def test_covariates_that_cannot_be_fitted_are_named(change, message):
    X, y = aged()
    with pytest.raises(ValueError, match=message):
        FLDA(**AGE, shrinkage=0.5).fit(X, change(y))


def test_two_equal_covariates_are_named():
    X, y = aged()
    both = y.assign(again=y["age"] * 2)
    with pytest.raises(ValueError, match=r"'age\.linear'.*other covariates"):
        FLDA(nuisance=["age", "again"], numeric=["age", "again"], shrinkage=0.5).fit(X, both)


def test_trend_of_a_covariate_is_refused():
    X, y = aged()
    with pytest.raises(ValueError, match=r"'age'.*covariate.*degree"):
        FLDA(nuisance=["age"], numeric={"age": "trend"}).fit(X, y)


@pytest.mark.parametrize("call", [FLDA.fit, effect_tests])
def test_a_covariate_that_does_not_vary_within_samples_is_refused_by_name(call):
    """Groups have several cells, and a donor has one cell of each group."""
    X, y = aged(48)
    y["A"], y["B"] = np.tile(["a", "b"], 24), np.tile(["x", "x", "y", "y"], 12)
    donor = np.repeat(np.arange(12), 4)
    with pytest.raises(ValueError, match=r"'age.linear' hardly varies.*donor"):
        call(FLDA(shrinkage=0.5, **AGE), X, y, donor)
