"""Permutation tests of effects and of genes."""

import numpy as np
import pandas as pd
import pytest

from flda import FLDA, SparseFLDA
from flda._design.design import effect_penalties, make_design
from flda._design.splits import cell_folds
from flda._solve.objective import Objective
from flda.inference import effect_tests
from flda.inference._cells import CellStatistics
from flda.inference._schemes import scheme_of
from flda.inference._tests import _holm

from oracle import donor_problem, problem


@pytest.mark.parametrize("seed", range(6))
def test_every_assignment_of_donors_counts_and_ties_count_as_large(seed):
    """3 + 3 donors: 20 assignments. Each and its mirror image have one statistic up to rounding: 0.1 is the least p."""
    X, y, donors = donor_problem(3, 30, 12, donor_sd=0.05, effect=1.0, seed=seed)
    result = effect_tests(FLDA(interactions=None), X, y, donors, effects=["treatment"], n_resamples=500)
    row = result.table.iloc[0]
    assert (row["n_resamples"], row["n_distinct"], row["unit"], row["scheme"]) == (19, 20, "donor", "restricted")
    assert row["pval"] == pytest.approx(0.1)
    assert result.genes["pval_max"].min() == pytest.approx(0.1)
    assert result.genes["pval"].min() == pytest.approx(2 / (1 + 19 * 12))  # of all genes in all assignments


def test_labels_that_a_permutation_only_renames_tie():
    """Two cells per level in each of two folds: of 36 labellings two are the observed one and its mirror image."""
    y = pd.DataFrame({"A": np.repeat(["p", "q"], 4)})
    found, n = [], 400
    for seed in range(6):
        X = np.random.default_rng(seed).normal(size=(8, 12))
        X[:, :3] += 100 * (y["A"] == "q").to_numpy()[:, None]  # no other labelling is as good
        result = effect_tests(FLDA(shrinkage=0.5), X, y, n_resamples=n, n_folds=2, random_state=seed)
        assert result.table["n_distinct"].item() == 36
        p = np.array([result.table["pval"].item(), result.genes["pval_max"].min()])
        found.append(p * (1 + n) - 1)
    share = np.sum(found, axis=0) / (6 * n)
    np.testing.assert_allclose(share, 2 / 36, atol=4 * np.sqrt(2 / 36 * 34 / 36 / (6 * n)))


def test_effects_and_their_genes_are_found_and_noise_is_not():
    rng = np.random.default_rng(0)
    codes = rng.integers(2, size=(400, 2))
    y = pd.DataFrame(codes.astype(str), columns=["A", "B"])
    X = rng.normal(size=(400, 60))
    X[:, :5] += codes[:, [0]]
    result = effect_tests(FLDA(shrinkage=0.5), X, y, n_resamples=199)
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


def test_p_values_count_by_hand():
    """p of a gene: how many F of all genes and permutations are as large; p_max: how many largest ones."""
    X, y = problem(60, 7, (2, 2), seed=3)
    design = make_design(y)
    result = effect_tests(FLDA(shrinkage=0.5), X, y, effects=["A"], n_resamples=40, random_state=5)
    rng = np.random.default_rng(5)
    fold = cell_folds(design, np.random.RandomState(rng.integers(2**31)), 5)
    objective = Objective("ratio", effect_penalties(design, 1.0), 0.3)
    engine = CellStatistics(X, design, scheme_of(("A",), design, None, None), objective, 1, fold, (0.5,))
    (statistic,), (observed,) = engine.statistics(design.codes[None])
    null, F = engine.statistics(np.stack([engine.permuted(rng) for _ in range(40)]))
    row, genes = result.table.iloc[0], result.genes
    assert row["statistic"] == pytest.approx(statistic, rel=1e-4)
    np.testing.assert_allclose(result.null["A"], null, rtol=1e-3, atol=1e-5)
    assert row["pval"] == (1 + np.sum(null >= statistic)) / 41
    assert row["null_95"] == pytest.approx(np.quantile(null, 0.95), rel=1e-3)
    np.testing.assert_allclose(genes["statistic"], observed)
    np.testing.assert_allclose(genes["pval"], [(1 + np.sum(f <= F)) / (1 + 40 * 7) for f in observed])
    np.testing.assert_allclose(genes["pval_max"], [(1 + np.sum(F.max(axis=1) >= f)) / 41 for f in observed])


def test_with_donors_held_out_cells_are_of_other_donors():
    """Every donor has a difference of its own between the types: its other cells show it, other donors do not."""
    rng = np.random.default_rng(0)
    donors = np.repeat(np.arange(10), 40)
    y = pd.DataFrame({"type": np.where(np.arange(400) % 2, "q", "p")})
    X = rng.normal(size=(400, 30)) + rng.normal(size=(10, 30))[donors] * (
        2 * (y["type"] == "q").to_numpy()[:, None] - 1
    )
    with_donors = effect_tests(FLDA(shrinkage=0.3), X, y, donors, n_resamples=99).table.iloc[0]
    without = effect_tests(FLDA(shrinkage=0.3), X, y, n_resamples=99).table.iloc[0]
    assert without["statistic"] > 0.3
    assert with_donors["statistic"] < 0.1
    assert with_donors["unit"] == "cell"


@pytest.mark.parametrize("n_folds", [2, 4])
def test_folds_of_cells_are_whole_donors(monkeypatch, n_folds):
    X, y, names = donor_problem(4, 15, 12)
    donors, seen = np.unique(names, return_inverse=True)[1], []

    class Seen(CellStatistics):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            seen.append(self.fold)

    monkeypatch.setattr("flda.inference._tests.CellStatistics", Seen)
    effect_tests(FLDA(shrinkage=0.3), X, y, names, effects=["type"], n_resamples=3, n_folds=n_folds)
    (fold,) = seen
    assert len(np.unique(fold)) == n_folds
    assert all(len(np.unique(fold[donors == d])) == 1 for d in range(8))


def test_same_seed_same_result_and_threads_change_nothing():
    X, y = problem(80, 10, (2, 2))
    X = np.column_stack([X, np.ones(80)])
    one = effect_tests(FLDA(shrinkage=0.5), X, y, n_resamples=70, random_state=3)
    two = effect_tests(FLDA(shrinkage=0.5), X, y, n_resamples=70, random_state=3, n_jobs=2)
    pd.testing.assert_frame_equal(one.table, two.table)
    pd.testing.assert_frame_equal(one.genes, two.genes)
    assert one.genes.groupby("effect")["pval"].apply(lambda p: p.isna().sum()).tolist() == [1, 1, 1]  # constant gene
    other = effect_tests(FLDA(shrinkage=0.5), X, y, n_resamples=70, random_state=4)
    assert (other.null != one.null).any(axis=None)


def test_options_of_the_estimator_that_count():
    """Interactions, nuisance, penalty, components and a fixed shrinkage do; n_genes does not."""
    X, y = problem(80, 12, (2, 3))
    expected = effect_tests(FLDA(shrinkage=0.3, penalty=2.0), X, y, n_resamples=9)
    sparse = effect_tests(SparseFLDA(n_genes=3, shrinkage=0.3, penalty=2.0), X, y, n_resamples=9)
    pd.testing.assert_frame_equal(sparse.table, expected.table)
    for options in (
        {"shrinkage": 0.9},
        {"penalty": 0.0},
        {"interactions": None},
        {"n_components": 1},
        {"objective": "difference"},
    ):
        model = FLDA(**{"shrinkage": 0.3, "penalty": 2.0, **options})
        other = effect_tests(model, X, y, n_resamples=9).table.set_index("effect")["statistic"]
        assert other["B"] != expected.table.set_index("effect").loc["B", "statistic"]
    nuisance = effect_tests(FLDA(nuisance=["B"]), X, y, n_resamples=9)
    assert nuisance.table["effect"].tolist() == ["A"]


def test_too_few_donors_are_refused(caplog):
    X, y, donors = donor_problem(2, 30, 12)
    few = "'no' of 'treatment'.* 3 "
    with pytest.raises(ValueError, match=few):
        effect_tests(FLDA(), X, y, donors, effects=["treatment"])
    with pytest.raises(ValueError, match=few):
        effect_tests(FLDA(interactions=None), X, y[["treatment"]], donors)
    table = effect_tests(FLDA(), X, y, donors, n_resamples=19).table
    assert table[["effect", "unit"]].values.tolist() == [["type", "cell"]]
    assert any("treatment:type" in r.getMessage() for r in caplog.records)


def test_bad_requests_are_refused_by_name():
    X, y, donors = donor_problem(4, 30, 12)
    with pytest.raises(ValueError, match="'axon'"):
        effect_tests(FLDA(), X, y, effects=["axon"])
    with pytest.raises(ValueError, match="n_resamples=0"):
        effect_tests(FLDA(), X, y, n_resamples=0)
    reused = donors.copy()
    reused[(donors == "d01").nonzero()[0][:3]] = "d00"
    with pytest.raises(ValueError, match=r"d00.*'treatment'"):
        effect_tests(FLDA(), X, y, reused, effects=["treatment"])
    d = np.repeat(np.arange(4), 6)  # within a donor the type goes with the site, in some donors the other way round
    kind = np.tile([0, 1], 12)
    locked = pd.DataFrame({"type": kind.astype(str), "site": ((kind + d) % 2).astype(str)})
    with pytest.raises(ValueError, match="'type'"):
        effect_tests(FLDA(interactions=None), X[:24], locked, d)


def test_few_distinct_permutations_are_announced(caplog):
    """Each donor has one cell of type q among two: two ways per donor."""
    rng = np.random.default_rng(0)
    donors = np.repeat(np.arange(4), 2)
    y = pd.DataFrame({"type": np.tile(["p", "q"], 4)})
    result = effect_tests(FLDA(shrinkage=0.5), rng.normal(size=(8, 5)), y, donors, n_resamples=30, n_folds=2)
    (record,) = [r for r in caplog.records if r.name == "flda.inference._tests"]
    assert "type" in record.getMessage()
    assert " 16 " in record.getMessage()
    assert result.table["n_distinct"].item() == 16


def test_holm():
    np.testing.assert_allclose(_holm(np.array([0.01, 0.04, 0.03])), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(_holm(np.array([0.9, 0.5])), [1.0, 1.0])


@pytest.mark.parametrize("n_genes", [30, 400])
def test_on_the_device(cupy, n_genes):
    X, y = problem(200, n_genes, (2, 3))
    options = {"n_resamples": 9, "n_jobs": 1}
    expected, got = (effect_tests(FLDA(), Z, y, **options) for Z in (X, cupy.asarray(X)))
    np.testing.assert_allclose(got.null, expected.null, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(got.table["pval"], expected.table["pval"])


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
