"""Numbers about genes: F ratios, specificity and signs."""

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_selection import f_classif

from flda._design.design import make_design
from flda.metrics import gene_f, largest_signs, specificity

from oracle import problem, within_scatter


def f_of(X, y, **options):
    scatter, means = within_scatter(X, y, "pooled")
    return gene_f(means, np.diag(scatter).copy(), make_design(y, **options))


def test_one_factor_is_the_one_way_analysis_of_variance():
    rng = np.random.default_rng(0)
    y = pd.DataFrame({"A": np.repeat(list("pqr"), 20)})
    X = rng.normal(size=(60, 8)) + rng.normal(size=(3, 8))[np.repeat(np.arange(3), 20)]
    np.testing.assert_allclose(f_of(X, y)["A"], f_classif(X, y["A"])[0], rtol=1e-9)


def test_a_balanced_table_is_the_two_way_analysis_of_variance():
    """Mean squares of each effect over the residual one, in a 2 x 3 table of 10 cells."""
    rng = np.random.default_rng(0)
    codes = np.repeat(list(np.ndindex(2, 3)), 10, axis=0)
    y = pd.DataFrame(codes.astype(str), columns=["A", "B"])
    X = rng.normal(size=(60, 4)) + codes[:, :1] + codes[:, 1:] * codes[:, :1]
    means = np.array([X[(codes == g).all(axis=1)].mean(axis=0) for g in np.ndindex(2, 3)]).reshape(2, 3, 4)
    grand = means.mean(axis=(0, 1))
    a, b = means.mean(axis=1) - grand, means.mean(axis=0) - grand
    ab = means - grand - a[:, None] - b
    residual = sum(((X[(codes == g).all(axis=1)] - means[g]) ** 2).sum(axis=0) for g in np.ndindex(2, 3)) / 54
    F = f_of(X, y)
    np.testing.assert_allclose(F["A"], 30 * (a**2).sum(axis=0) / 1 / residual)
    np.testing.assert_allclose(F["B"], 20 * (b**2).sum(axis=0) / 2 / residual)
    np.testing.assert_allclose(F["A:B"], 10 * (ab**2).sum(axis=(0, 1)) / 2 / residual)


def test_noise_alone_has_a_ratio_of_about_one_in_unequal_groups():
    _, y = problem(300, 1, (2, 3))
    F = f_of(np.random.default_rng(0).normal(size=(300, 2000)), y)
    for effect in F:
        assert F[effect].mean() == pytest.approx(1, abs=5 * F[effect].std() / np.sqrt(2000) + 2 / 292)


def test_nuisance_counts_and_a_gene_without_variance_has_no_ratio():
    X, y = problem(60, 5, (2, 3))
    X[:, 2] = y["A"] == "A1"
    F = f_of(X, y, nuisance=["B"])
    assert F.columns.tolist() == ["A", "B"]
    assert F.isna().any(axis=1).tolist() == [False, False, True, False, False]


def test_specificity_is_the_share_of_the_effect():
    ratios = pd.DataFrame({"A": [8.0, 1.0, 2.0, np.nan, 0.0], "B": [2.0, 3.0, 2.0, np.nan, 0.0]})
    share, kind = specificity(ratios, "A")
    np.testing.assert_allclose(share, [0.8, 0.25, 0.5, np.nan, np.nan])
    assert kind.tolist()[:3] == ["pure", "cancelling", "pure"]


def test_the_largest_loading_is_made_positive():
    standardised = np.array([[1.0, -2.0, 3.0], [-4.0, 1.0, -3.0], [0.0, -1.0, 1.0]])
    assert largest_signs(standardised).tolist() == [-1, -1, 1]  # the first one on ties
