"""Permutation tests of effects and of genes."""

import numpy as np
import pandas as pd
import pytest

from flda import FLDA
from flda._design.design import effect_penalties, make_design
from flda._design.splits import cell_folds
from flda.inference import effect_tests
from flda.inference._cells import CellStatistics
from flda.inference._schemes import scheme_of
from flda.inference._tests import _holm

from oracle import donor_problem, problem


def test_exhaustive_permutation_counts_every_assignment():
    """3 + 3 donors: 20 assignments; each and its mirror image have one statistic, so 0.1 is the least p-value."""
    X, y, donors = donor_problem(3, 30, 12, donor_sd=0.05, effect=1.0)
    result = effect_tests(FLDA(interactions=None), X, y, donors, effects=["treatment"], n_resamples=500)
    row = result.table.iloc[0]
    assert (row["n_resamples"], row["n_distinct"], row["unit"], row["scheme"]) == (19, 20, "donor", "restricted")
    assert row["pval"] == pytest.approx(0.1)


def test_effects_and_their_genes_are_found_and_noise_is_not():
    rng = np.random.default_rng(0)
    codes = rng.integers(2, size=(400, 2))
    y = pd.DataFrame(codes.astype(str), columns=["A", "B"])
    X = rng.normal(size=(400, 60))
    X[:, :5] += codes[:, [0]]
    result = effect_tests(FLDA(), X, y, n_resamples=199)
    table = result.table.set_index("effect")
    assert table.loc["A", "pval"] == 1 / 200
    assert table.loc["A", "pval_adj"] == pytest.approx(3 / 200)
    assert (table.loc[["B", "A:B"], "pval"] > 0.02).all()
    assert (table["null_mean"].abs() < 0.02).all()
    genes = result.genes[result.genes["effect"] == "A"].set_index("gene")
    assert (genes.loc[:4, ["pval_adj", "pval_max"]] < 0.05).all(axis=None)
    assert np.sum(genes.loc[5:, "pval_adj"] < 0.1) <= 2
    assert (genes["pval_max"] >= genes["pval"]).all()
    assert result.null.shape == (199, 3)


def test_gene_p_values_count_by_hand():
    """p of a gene: how many F of all genes and permutations are as large; p_max: how many largest ones."""
    X, y = problem(60, 7, (2, 2), seed=3)
    design = make_design(y)
    result = effect_tests(FLDA(shrinkage=0.5), X, y, effects=["A"], n_resamples=40, random_state=5)
    rng = np.random.default_rng(5)
    fold = cell_folds(design, np.random.RandomState(rng.integers(2**31)), 5)
    engine = CellStatistics(
        X, design, scheme_of(("A",), design, None, None), effect_penalties(design, 1.0), 1, fold, (0.5,)
    )
    observed = engine.statistics(design.codes[None])[1][0]
    F = engine.statistics(np.stack([engine.permuted(rng) for _ in range(40)]))[1]
    genes = result.genes
    np.testing.assert_allclose(genes["statistic"], observed)
    np.testing.assert_allclose(genes["pval"], [(1 + np.sum(f <= F)) / (1 + 40 * 7) for f in observed])
    np.testing.assert_allclose(genes["pval_max"], [(1 + np.sum(F.max(axis=1) >= f)) / 41 for f in observed])


def test_same_seed_same_result_and_threads_change_nothing():
    X, y = problem(80, 10, (2, 2))
    X = np.column_stack([X, np.ones(80)])
    one = effect_tests(FLDA(), X, y, n_resamples=70, random_state=3)
    two = effect_tests(FLDA(), X, y, n_resamples=70, random_state=3, n_jobs=2)
    pd.testing.assert_frame_equal(one.table, two.table)
    pd.testing.assert_frame_equal(one.genes, two.genes)
    assert one.genes.groupby("effect")["pval"].apply(lambda p: p.isna().sum()).tolist() == [1, 1, 1]  # constant gene


def test_too_few_donors_are_refused(caplog):
    X, y, donors = donor_problem(2, 30, 12)
    few = r"level 'no' of 'treatment' has 2 donor\(s\).*needs 3 or more per level"
    with pytest.raises(ValueError, match=few):
        effect_tests(FLDA(), X, y, donors, effects=["treatment"])
    with pytest.raises(ValueError, match=few):
        effect_tests(FLDA(interactions=None), X, y[["treatment"]], donors)
    table = effect_tests(FLDA(), X, y, donors, n_resamples=19).table
    assert table[["effect", "unit"]].values.tolist() == [["type", "cell"]]
    assert "no p-value for treatment:type: level 'no'" in caplog.text


def test_bad_requests_are_refused(caplog):
    X, y, donors = donor_problem(4, 30, 12)
    with pytest.raises(ValueError, match="no axes for the effect 'axon'"):
        effect_tests(FLDA(), X, y, effects=["axon"])
    with pytest.raises(ValueError, match="n_resamples=0"):
        effect_tests(FLDA(), X, y, n_resamples=0)
    reused = donors.copy()
    reused[(donors == "d01").nonzero()[0][:3]] = "d00"
    with pytest.raises(ValueError, match="donor d00 has cells in several levels of 'treatment'"):
        effect_tests(FLDA(), X, y, reused, effects=["treatment"])
    d = np.repeat(np.arange(4), 6)  # within a donor the type goes with the site, in some donors the other way round
    kind = np.tile([0, 1], 12)
    locked = pd.DataFrame({"type": kind.astype(str), "site": ((kind + d) % 2).astype(str)})
    with pytest.raises(ValueError, match="'type' cannot be permuted: no two cells of one stratum"):
        effect_tests(FLDA(interactions=None), X[:24], locked, d)


def test_few_distinct_permutations_are_announced(caplog):
    """Each donor has one cell of type q among two: two ways per donor."""
    rng = np.random.default_rng(0)
    donors = np.repeat(np.arange(4), 2)
    y = pd.DataFrame({"type": np.tile(["p", "q"], 4)})
    result = effect_tests(FLDA(shrinkage=0.5), rng.normal(size=(8, 5)), y, donors, n_resamples=30, n_folds=2)
    assert "only 16 different permutations" in caplog.text
    assert result.table["n_distinct"].item() == 16


def test_holm():
    np.testing.assert_allclose(_holm(np.array([0.01, 0.04, 0.03])), [0.03, 0.06, 0.06])


@pytest.mark.slow
@pytest.mark.parametrize("effect", ["A", "A:B"])
def test_level_under_the_null_with_the_other_effects_present(effect):
    """200 data sets of counts with unequal groups: at nominal 0.05 the rejections are within 3 standard errors."""
    rejected = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        codes = rng.choice(4, p=[0.45, 0.3, 0.15, 0.1], size=200)
        a, b = codes // 2, codes % 2
        rate = np.exp(rng.normal(0, 0.7, size=25) + 0.5 * b[:, None] * rng.normal(size=25))
        others = a if effect == "A:B" else a * b - (a + b) / 2
        rate = rate * np.exp(0.4 * others[:, None] * rng.normal(size=25))
        X = np.log1p(rng.negative_binomial(2, 2 / (2 + rate)))
        y = pd.DataFrame({"A": a.astype(str), "B": b.astype(str)})
        model = FLDA(shrinkage=0.5)
        rejected += effect_tests(model, X, y, effects=[effect], n_resamples=59).table["pval"].item() <= 0.05
    assert 0.05 - 3 * 0.0155 <= rejected / 200 <= 0.05 + 3 * 0.0155
