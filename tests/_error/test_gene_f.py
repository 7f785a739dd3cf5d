"""The F ratio of every gene against tests of scipy and the definition. Fewer than ten genes have no common prior."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp, ttest_ind

from flda._data.summary import summarise
from flda._design.make import make_design
from flda._design.samples import sample_units
from flda._error.gene_f import gene_f

from oracle import donor_problem, problem


def f_of(X, y, donors=None, **options):
    design = make_design(y, **options)
    codes = None if donors is None else pd.factorize(np.asarray(donors), sort=True)[0]
    units = sample_units(design, codes)
    found = summarise(X, units.codes, len(units.counts))
    return gene_f(design, codes, found.sums, found.squares)


def test_two_levels_are_welchs_test_with_half_of_each_variance_pooled():
    rng = np.random.default_rng(0)
    y = pd.DataFrame({"A": np.repeat(list("pq"), [12, 40])})
    X = rng.normal(size=(52, 8)) * np.repeat([3.0, 1.0], [12, 40])[:, None]
    a, b = X[:12].var(axis=0, ddof=1), X[12:].var(axis=0, ddof=1)
    pooled = (11 * a + 39 * b) / 50
    expected = (X[:12].mean(axis=0) - X[12:].mean(axis=0)) ** 2 / ((a + pooled) / 24 + (b + pooled) / 80)
    np.testing.assert_allclose(f_of(X, y)["A"], expected, rtol=1e-9)


def test_donors_of_two_levels_are_welchs_test_of_their_means():
    X, y, donors = donor_problem(8, 15, 8)
    means = pd.DataFrame(X).groupby([donors, y["type"].to_numpy()]).mean().groupby(level=0).mean()
    treated = y["treatment"].groupby(donors).first().loc[means.index] == "yes"
    expected = ttest_ind(means[treated], means[~treated], equal_var=False).statistic ** 2
    np.testing.assert_allclose(f_of(X, y, donors)["treatment"], expected, rtol=1e-9)


def test_a_factor_within_donors_is_a_paired_test():
    X, y, donors = donor_problem(8, 15, 8)
    means = pd.DataFrame(X).groupby([donors, y["type"].to_numpy()]).mean().unstack()
    p, q = (means.xs(level, axis=1, level=1) for level in ("p", "q"))
    one = y[["type"]]
    np.testing.assert_allclose(f_of(X, one, donors)["type"], ttest_1samp(p - q, 0).statistic ** 2, rtol=1e-9)


@pytest.mark.parametrize("donors", [False, True])
def test_noise_alone_has_a_ratio_of_about_one(donors):
    rng = np.random.default_rng(0)
    if donors:
        _, y, names = donor_problem(20, 12, 1)
        X = rng.normal(size=(len(y), 2000)) + rng.normal(size=(40, 2000))[pd.factorize(names)[0]]
        F = f_of(X, y, names)
    else:
        _, y = problem(400, 1, (2, 3))
        F = f_of(rng.normal(size=(400, 2000)) * (1 + (y["A"] == "A1").to_numpy()[:, None]), y)
    for effect in F:
        assert F[effect].mean() == pytest.approx(1.0, abs=0.09)


def test_nuisance_has_a_ratio_and_a_constant_gene_has_none():
    X, y = problem(60, 5, (2, 3))
    X[:, 2] = 4.0
    F = f_of(X, y, nuisance=["B"])
    assert F.columns.tolist() == ["A", "B"]
    assert F.isna().any(axis=1).tolist() == [False, False, True, False, False]


def test_a_perfect_marker_has_the_largest_ratio():
    X, y = problem(60, 5, (2, 3))
    X[:, 2] = y["A"] == "A1"
    F = f_of(X, y)["A"]
    assert np.isfinite(F).all()
    assert F.idxmax() == 2


def test_one_donor_is_measured_by_its_cells(caplog):
    X, y = problem(60, 5, (2, 2))
    with caplog.at_level("INFO"):
        found = f_of(X, y, np.zeros(60))
    pd.testing.assert_frame_equal(found, f_of(X, y))


def test_a_balanced_split_plot_is_the_mixed_model_of_statsmodels():
    """Donors are whole plots with a genotype, and conditions vary within them: squared t of the mixed model by REML."""
    smf = pytest.importorskip("statsmodels.formula.api", reason="needs the extra scanpy")
    rng = np.random.default_rng(3)
    rows = [(d, "wt" if d < 6 else "mut", c) for d in range(12) for c in ("ctrl", "stim")]
    y = pd.DataFrame(rows, columns=["donor", "genotype", "condition"])
    X = rng.normal(size=(24, 3)) + 1.5 * rng.normal(size=(12, 3))[y["donor"]]
    X[:, 0] += (y["genotype"] == "mut") * 1.0 + (y["condition"] == "stim") * 1.0
    design = make_design(y[["genotype", "condition"]])
    samples = sample_units(design, y["donor"].to_numpy())
    sums = np.empty_like(X)
    sums[samples.codes] = X
    F = gene_f(design, y["donor"].to_numpy(), sums, sums**2)
    data = y.assign(g=np.where(y["genotype"] == "mut", 0.5, -0.5), c=np.where(y["condition"] == "stim", 0.5, -0.5))
    for gene in range(3):
        model = smf.mixedlm("x ~ g * c", data.assign(x=X[:, gene]), groups=data["donor"])
        fit = model.fit(reml=True, method=["bfgs", "cg"], gtol=1e-9)
        expected = fit.tvalues[["g", "c", "g:c"]] ** 2
        found = F.loc[gene, ["genotype", "condition", "genotype:condition"]]
        np.testing.assert_allclose(found, expected, rtol=1e-6)
