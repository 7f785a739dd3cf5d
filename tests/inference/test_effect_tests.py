"""Tests of effects and of genes: p-values by hand, and their level where variances, sizes and donors differ."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import false_discovery_control

from flda import FLDA
from flda.inference import effect_tests
from flda.inference._tests import _holm, _pvalues

from oracle import donor_problem


def two_by_two(n=400, p=60, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(2, size=(n, 2))
    return rng.normal(size=(n, p)), codes, pd.DataFrame(codes.astype(str), columns=["A", "B"])


@pytest.mark.parametrize("method", ["flips", "permutation"])
def test_effects_and_their_genes_are_found_and_noise_is_not(method):
    X, codes, y = two_by_two()
    X[:, :5] += codes[:, [0]]
    interactions = None if method == "permutation" else "all"
    result = effect_tests(FLDA(interactions=interactions), X, y, n_resamples=199, method=method)
    table = result.table.set_index("effect")
    assert table.loc["A", ["pval", "pval_sum", "pval_max"]].tolist() == [1 / 200] * 3
    assert table.loc["A", "pval_adj"] == pytest.approx(len(table) / 200)
    assert (table.drop(index="A")["pval"] > 0.02).all()
    np.testing.assert_allclose(table["null_mean"], 1, atol=0.05)
    assert set(table["method"]) == {method}
    assert table["n_units"].tolist() == [400] * len(table)
    genes = result.genes[result.genes["effect"] == "A"].set_index("gene")
    assert (genes.loc[:4, ["pval_adj", "pval_max"]] < 0.05).all(axis=None)
    assert np.sum(genes.loc[5:, "pval_adj"] < 0.1) <= 2
    assert (genes["pval_max"] >= genes["pval"]).all()
    assert result.null.shape == (199, len(table))


def test_p_values_count_by_hand():
    rng = np.random.default_rng(0)
    F, null = rng.chisquare(1, 6), rng.chisquare(1, (30, 6))
    F[0] = 30.0
    row, sums, genes = _pvalues(F, null, 2.0**40)
    np.testing.assert_allclose(sums, null.mean(axis=1))
    assert row["pval_sum"] == (1 + np.sum(null.mean(axis=1) >= F.mean())) / 31
    assert row["pval_max"] == 1 / 31
    every = np.vstack([F, null])
    p = np.stack([[np.mean(s(every) >= s(x[None])) for x in every] for s in (lambda v: v.mean(axis=1),
                                                                            lambda v: v.max(axis=1))])  # fmt: skip
    assert row["pval"] == np.mean(p.min(axis=0) <= p.min(axis=0)[0])
    expected = [(1 + np.sum(null >= f)) / (1 + null.size) for f in F]
    np.testing.assert_allclose(genes["pval"], expected)
    np.testing.assert_allclose(genes["pval_adj"], false_discovery_control(expected))
    np.testing.assert_allclose(genes["pval_max"], [(1 + np.sum(null.max(axis=1) >= f)) / 31 for f in F])


def test_no_p_value_of_a_gene_is_below_that_of_the_number_of_flips():
    rng = np.random.default_rng(0)
    F, null = np.r_[1000.0, rng.chisquare(1, 99)], rng.chisquare(1, (7, 100))
    assert _pvalues(F, null, 8.0)[2]["pval"].min() == 1 / 8


def test_a_constant_gene_has_no_p_value_and_does_not_count():
    X, _, y = two_by_two(p=20)
    expected = effect_tests(FLDA(), X, y, n_resamples=49)
    more = np.insert(X, 7, 3.0, axis=1)
    found = effect_tests(FLDA(), more, y, n_resamples=49)
    pd.testing.assert_frame_equal(found.table, expected.table, rtol=1e-6)
    constant = found.genes["gene"] == 7
    assert found.genes.loc[constant, ["statistic", "pval", "pval_adj", "pval_max"]].isna().all(axis=None)
    assert found.genes.loc[~constant, "pval"].notna().all()
    with pytest.raises(ValueError, match="constant"):
        effect_tests(FLDA(), np.ones((400, 3)), y)


def test_donors_are_the_units_and_all_of_their_flips_are_used():
    X, y, donors = donor_problem(4, 15, 30)
    table = effect_tests(FLDA(), X, y, donors, n_resamples=999).table.set_index("effect")
    assert set(table["unit"]) == {"donor"}
    assert table["n_units"].tolist() == [8, 8, 8]
    assert table["n_resamples"].tolist() == [127] * 3
    assert table["n_distinct"].tolist() == [128] * 3


def test_the_numbers_of_cells_of_donors_change_nothing():
    """Every cell of two donors twice: the means of the samples stay, and with them all results."""
    X, y, donors = donor_problem(4, 15, 30)
    again = np.r_[np.arange(len(X)), np.flatnonzero(np.isin(donors, np.unique(donors)[:2]))]
    expected = effect_tests(FLDA(), X, y, donors)
    found = effect_tests(FLDA(), X[again], y.iloc[again].reset_index(drop=True), np.asarray(donors)[again])
    pd.testing.assert_frame_equal(found.table, expected.table)
    pd.testing.assert_frame_equal(found.genes, expected.genes)


def paired(rng, n_donors, p=40):
    """Two conditions of every donor; the response of a donor is random and moves all genes along two directions."""
    donors = np.repeat(np.arange(n_donors), 20)
    A = np.tile(np.repeat([0, 1], 10), n_donors)
    shared = rng.normal(size=(n_donors, 2, 2)) @ rng.normal(size=(2, p)) * 0.3
    X = rng.normal(size=(len(donors), p)) + shared[donors, A] + rng.normal(size=(n_donors, p))[donors]
    return X, pd.DataFrame({"A": A.astype(str)}), donors


def unequal(rng, n, sd, p=40):
    codes = np.repeat([0, 1], n)
    return rng.normal(size=(len(codes), p)) * np.array(sd)[codes][:, None], pd.DataFrame({"A": codes.astype(str)}), None


def between(rng, n, sd, p=40):
    level = np.repeat([0, 1], n)
    own = rng.normal(size=(len(level), p)) * np.array(sd)[level][:, None]
    donors = np.repeat(np.arange(len(level)), np.where(level == 0, 6, 60))
    X = rng.normal(size=(len(donors), p)) + own[donors]
    return X, pd.DataFrame({"A": level[donors].astype(str)}), donors


REGIMES = {
    "small group of large variance": lambda rng: unequal(rng, (20, 180), (3, 1)),
    "small group of small variance": lambda rng: unequal(rng, (20, 180), (1, 2)),
    "four and four cells": lambda rng: unequal(rng, (4, 4), (2, 1)),
    "four and eight donors": lambda rng: between(rng, (4, 8), (0.6, 0.2)),
    "six paired donors": lambda rng: paired(rng, 6),
    "three paired donors": lambda rng: paired(rng, 3),
}


@pytest.mark.parametrize("regime", REGIMES)
def test_level(regime):
    """Share of null effects and genes with p <= .05 in 60 data sets; the bounds are those of chance around .05."""
    rejected, genes, false = [], [], []
    for seed in range(60):
        result = effect_tests(FLDA(interactions=None), *REGIMES[regime](np.random.default_rng(seed)), n_resamples=99)
        rejected.append(result.table["pval"].item() <= 0.05)
        genes.append((result.genes["pval"] <= 0.05).mean())
        false.append((result.genes["pval_adj"] <= 0.1).any())
    assert np.sum(rejected) <= 9  # P(more of 60) = .003 at .05
    assert np.mean(genes) <= 0.08
    assert np.sum(false) <= 15  # P(more of 60) = .0001 at .1
    if "cells" in regime or "group" in regime:
        assert np.mean(genes) >= 0.03


@pytest.mark.parametrize("regime", ["cells", "paired", "between"])
def test_power(regime):
    """An effect on 5 of 40 genes that a good test finds nearly always."""
    found = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        if regime == "cells":
            X, y, donors = unequal(rng, (20, 180), (3, 1))
            size = 3.0
        elif regime == "paired":
            X, y, donors = paired(rng, 8)
            size = 2.5
        else:
            X, y, donors = between(rng, (6, 6), (0.3, 0.3))
            size = 2.0
        X[:, :5] += size * (y["A"] == "1").to_numpy()[:, None]
        result = effect_tests(FLDA(interactions=None), X, y, donors, n_resamples=199)
        found += result.table["pval"].item() <= 0.05
    assert found >= 18


def test_permutation_exchanges_all_labels():
    """Three and three cells: 20 assignments in pairs of mirror images, so no p-value is below a tenth by much."""
    pvals = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(6, 12))
        X[3:, :3] += 100
        y = pd.DataFrame({"A": np.repeat(["p", "q"], 3)})
        row = effect_tests(FLDA(), X, y, method="permutation", n_resamples=500, random_state=seed).table.iloc[0]
        assert (row["n_distinct"], row["unit"], row["method"]) == (20, "cell", "permutation")
        pvals.append(row["pval"])
    assert 0.07 < np.mean(pvals) < 0.13


def test_permutation_of_donors_and_of_cells_within_them():
    X, y, donors = donor_problem(4, 15, 30)
    with pytest.raises(ValueError, match="within donors"):
        effect_tests(FLDA(interactions=None), X, y, donors, effects=["treatment"], method="permutation")
    row = effect_tests(FLDA(interactions=None), X, y, donors, effects=["type"], method="permutation").table.iloc[0]
    assert (row["unit"], row["n_units"]) == ("cell", len(X))
    one = y[["treatment"]]
    row = effect_tests(FLDA(), X, one, donors, method="permutation").table.iloc[0]
    assert (row["unit"], row["n_units"], row["n_distinct"]) == ("donor", 8, 70)


def test_permutation_is_refused_where_it_is_not_exact():
    X, _, y = two_by_two()
    with pytest.raises(ValueError, match="A:B"):
        effect_tests(FLDA(), X, y, effects=["A"], method="permutation")


def test_permutation_weighs_groups_as_the_flips_do():
    """Four cells of a rare level of A must not blur B; with equal weights the F of B would be a tenth."""
    rng = np.random.default_rng(0)
    y = pd.DataFrame({"A": ["rare"] * 4 + ["common"] * 196, "B": ["r", "s"] * 100})
    X = rng.normal(size=(200, 40))
    X[:, :20] += (y["B"] == "s").to_numpy()[:, None]
    model = FLDA(interactions=None)
    first, second = (
        effect_tests(model, X, y, effects=["B"], method=method, n_resamples=19).genes["statistic"]
        for method in ("permutation", "flips")
    )
    np.testing.assert_allclose(first, second, rtol=0.5)  # variances are not moderated in permutations
    assert first[:20].mean() > 30


def test_permutations_of_unequal_groups_are_exact():
    """Under the null, the data rank anywhere among their permutations, weights included."""
    y = pd.DataFrame({"A": ["p"] * 4 + ["q"] * 9, "B": ["r", "s"] * 6 + ["r"]})
    pvals = [
        effect_tests(
            FLDA(interactions=None), np.random.default_rng(seed).normal(size=(13, 3)), y, effects=["B"],
            method="permutation", n_resamples=19, random_state=seed,
        ).table.loc[0, "pval_sum"]
        for seed in range(60)
    ]  # fmt: skip
    assert 0.01 <= np.mean(np.array(pvals) <= 0.1) <= 0.22


def test_same_seed_same_result():
    X, _, y = two_by_two(n=80, p=10)
    first, second = (effect_tests(FLDA(), X, y, n_resamples=49, random_state=4) for _ in range(2))
    pd.testing.assert_frame_equal(first.genes, second.genes)
    other = effect_tests(FLDA(), X, y, n_resamples=49, random_state=5)
    assert not first.null.equals(other.null)


def test_nuisance_and_interactions_of_the_estimator_count():
    X, codes, y = two_by_two()
    X += 2 * codes[:, [1]]
    assert effect_tests(FLDA(nuisance=["B"]), X, y, n_resamples=49).table["effect"].tolist() == ["A"]
    assert effect_tests(FLDA(interactions=None), X, y, n_resamples=49).table["effect"].tolist() == ["A", "B"]


def test_donors_that_lack_a_group_are_named(recwarn):
    X, y, donors = donor_problem(4, 15, 30)
    donors = np.asarray(donors)
    last = donors == np.unique(donors)[-1]
    keep = ~(last & (y["type"] == "p").to_numpy())
    table = effect_tests(FLDA(), X[keep], y[keep].reset_index(drop=True), donors[keep]).table
    assert table["n_units"].tolist() == [7, 7, 7]
    assert str(np.unique(donors)[-1]) in " ".join(str(w.message) for w in recwarn)


def test_bad_requests_are_refused_by_name():
    X, _, y = two_by_two(n=80, p=10)
    with pytest.raises(ValueError, match="'C'"):
        effect_tests(FLDA(), X, y, effects=["C"])
    with pytest.raises(ValueError, match="n_resamples"):
        effect_tests(FLDA(), X, y, n_resamples=0)
    with pytest.raises(ValueError, match="method='exact'"):
        effect_tests(FLDA(), X, y, method="exact")
    X[3, 4] = np.nan
    with pytest.raises(ValueError, match="row 3"):
        effect_tests(FLDA(), X, y)
    y = pd.DataFrame({"A": np.arange(10).astype(str)})
    with pytest.raises(ValueError, match="single cell"):
        effect_tests(FLDA(), np.random.default_rng(0).normal(size=(10, 3)), y)


def test_one_donor_is_refused_and_few_are_announced(recwarn):
    rng = np.random.default_rng(0)
    X, y, donors = paired(rng, 1)
    with pytest.raises(ValueError, match="donor"):
        effect_tests(FLDA(), X, y, donors)
    table = effect_tests(FLDA(), *paired(rng, 3)).table
    (said,) = [str(w.message) for w in recwarn if "resamples" in str(w.message)]  # once for all effects
    assert "4 different" in said
    assert "0.25" in said
    assert all(effect in said for effect in table["effect"])


def test_holm():
    p = np.array([0.01, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(_holm(p), [0.03, 0.06, 0.06, 0.02])


def test_few_units_with_nearly_all_noise_limit_the_p_value_of_the_sum():
    """Four donors vary and eight hardly do, so that a sum over 300 genes has only about eight different values."""
    donor = np.repeat(np.arange(12), 5)
    y = pd.DataFrame({"A": np.where(donor < 4, "few", "many")})
    hits = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        sd = np.where(np.arange(12) < 4, 1.0, 0.1)[:, None]
        X = 0.1 * rng.normal(size=(60, 300)) + (sd * rng.normal(size=(12, 300)))[donor]
        table = effect_tests(FLDA(), X, y, donor, n_resamples=99, random_state=seed).table
        hits.append(table[["pval", "pval_sum"]].iloc[0] <= 0.05)
    assert np.mean(hits, axis=0)[0] <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 40)
    assert not np.any(hits, axis=0)[1]
