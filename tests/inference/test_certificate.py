"""What axes show on cells, or donors, that they were not fitted on."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flda import FLDA, SparseFLDA
from flda._design.make import make_design
from flda._design.splits import folds
from flda.datasets import uch
from flda.estimators import _flda
from flda.inference import certify
from flda.inference._certificate import certify_together
from flda.metrics import mean_products
from flda.metrics._ratios import RatioSums

from oracle import donor_problem, problem


def benchmark():
    """The module benchmarks/inference.py, which imports its neighbours."""
    folder = str(Path(__file__).parents[2] / "benchmarks")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module("inference")
    finally:
        sys.path.remove(folder)


def planted(n_per_group, seed, effect=1.0):
    """2 x 2, unit noise: A moves gene 0 by +-effect, B gene 1, the interaction gene 2; variances on one axis known."""
    rng = np.random.default_rng(seed)
    codes = np.repeat([(0, 0), (0, 1), (1, 0), (1, 1)], n_per_group, axis=0)
    signs = 2.0 * codes - 1
    X = rng.normal(size=(len(codes), 3))
    X += effect * np.column_stack([signs[:, 0], signs[:, 1], signs[:, 0] * signs[:, 1]])
    return X, pd.DataFrame(codes.astype(str), columns=["A", "B"])


def test_certificate_recovers_known_ratios_and_ignores_in_sample_fit():
    X, y = planted(2000, 0)
    table = certify(FLDA(shrinkage=0.0), X, y).set_index("axis")
    assert table.index.tolist() == ["A_1", "B_1", "A:B_1"]
    np.testing.assert_allclose(table["snr"], [2, 2, 4], rtol=0.1)
    assert (table["crosstalk"].abs() < 0.05).all()
    rng = np.random.default_rng(1)
    noise = certify(FLDA(shrinkage=0.01), rng.normal(size=(200, 500)), planted(50, 0)[1])
    assert (noise["snr"] < 0.5).all()  # the training eigenvalue of pure noise is in the hundreds


def test_certificate_by_donor_holds_out_whole_donors():
    """A donor effect that confounds the cells' labels fools folds of cells, not folds of donors."""
    rng = np.random.default_rng(1)
    donor = np.repeat(np.arange(8), 50)
    y = pd.DataFrame({"A": (donor % 2).astype(str), "B": rng.integers(2, size=400).astype(str)})
    X = rng.normal(size=(400, 30)) + rng.normal(size=(8, 30))[donor]
    cells = certify(FLDA(shrinkage=0.1, interactions=None), X, y).set_index("axis")
    donors = certify(FLDA(shrinkage=0.1, interactions=None), X, y, donor, n_folds=4, n_repeats=10).set_index("axis")
    assert cells.loc["A_1", "snr"] > 2
    assert donors.loc["A_1", ["scheme", "n_folds"]].tolist() == ["folds", 2]  # each holds out two donors of every level
    assert abs(donors.loc["A_1", "snr"]) < cells.loc["A_1", "snr"] / 4  # donors differ, A does nothing
    assert cells.loc["A_1", "accuracy"] > 0.9
    assert donors.loc["A_1", "accuracy"] < 0.75


def test_three_donors_per_level_are_pooled(caplog):
    """A varies between donors, so a fold of two donors would leave one donor of a level to fit on."""
    X, y, donors = donor_problem(3, 30, 12)
    with caplog.at_level("INFO", "flda"):
        table = certify(FLDA(shrinkage=0.3), X, y, donors)
    said = [(r.levelname, r.getMessage()) for r in caplog.records if r.getMessage().startswith("certificate: ")]
    assert said == [
        (
            "INFO",
            "certificate: a group has 3 donors, so no two folds hold out 2 donors of every group; one donor is left "
            "out at a time, and held-out scores are pooled",
        )
    ]
    assert table[["scheme", "n_folds"]].drop_duplicates().to_numpy().tolist() == [["pooled", 6]]


def test_three_paired_donors_are_held_out_in_pairs():
    rng = np.random.default_rng(0)
    donor, b = np.repeat(np.arange(3), 20), np.tile(np.repeat([0, 1], 10), 3)
    X, y = rng.normal(size=(60, 8)) + 2.0 * b[:, None], pd.DataFrame({"B": b.astype(str)})
    table = certify(FLDA(shrinkage=0.2), X, y, donor)
    assert table.loc[0, ["scheme", "n_folds"]].tolist() == ["folds", 3]
    numerator, denominator = 0.0, 0.0
    within = np.mean([FLDA(shrinkage=0.2).fit(X[donor == d], y[donor == d]).within_sd_ ** 2 for d in range(3)], axis=0)
    for d in range(3):  # fitted on donor d alone
        u = FLDA(shrinkage=0.2).fit(X[donor == d], y[donor == d]).components_[0]
        u = u / np.sqrt(within @ u**2)
        test = donor != d
        T, v = mean_products(
            (X[test] @ u)[:, None], make_design(y[test]), np.unique(donor[test], return_inverse=True)[1]
        )
        numerator += np.sum(make_design(y).scatter_weights(make_design(y).effects[0]) * T[0])
        denominator += v[0]
    assert table.loc[0, "snr"] == pytest.approx(numerator / denominator, rel=0.1)  # the correction is small here
    assert 0 < table.loc[0, "se_snr"] < table.loc[0, "snr"]


def test_it_is_a_corrected_ratio_of_sums_over_fits_without_their_cells():
    """By hand: cells, equal groups; rho and kappa from the variances of the groups."""
    X, y = problem(96, 12, (2, 2), seed=3)
    model = FLDA(shrinkage="cv", random_state=3)
    table = certify(model, X, y, n_folds=3, random_state=1)
    design = make_design(y)
    splits = list(folds(design, None, np.random.RandomState(1), 3))
    fits = [FLDA(shrinkage="cv", random_state=3).fit(X[s.train], y.iloc[s.train]) for s in splits]
    variances = np.mean([fit.within_sd_**2 for fit in fits], axis=0)
    for j, row in table.iterrows():
        for effect in design.effects:
            Q = design.scatter_weights(effect)
            N = V = var = cov = 0.0
            for s, fit in zip(splits, fits, strict=True):
                u = fit.components_[j] / np.sqrt(variances @ fit.components_[j] ** 2)
                score, code = X[s.test] @ u, design.codes[s.test]
                parts = [score[code == c] for c in range(4)]
                m, v, n = (np.array([f(p) for p in parts]) for f in (np.mean, lambda p: p.var(ddof=1), len))
                N += m @ Q @ m - np.diag(Q) @ (v / n)
                V += v.mean()
                var += np.sum(2 * v**2 / (n + 1)) / 16
                cov += np.sum(np.diag(Q) / n * 2 * v**2 / (n + 1)) / 4
            rho, kappa = var / (V**2 - var), cov / (V**2 - var)
            assert row[f"snr_{effect.name}"] == pytest.approx((1 - rho) * N / V - kappa)


def test_pooled_scores_of_one_gene_are_the_estimate_of_all_cells():
    """All axes are that gene, so leaving cells out changes nothing, and signs and scales must not either."""
    X, y = planted(3, 0)
    X, design = X[:, :1], make_design(y)
    table = certify(FLDA(shrinkage=0.1), X, y)
    assert table[["scheme", "n_folds"]].drop_duplicates().to_numpy().tolist() == [["pooled", 12]]
    for effect, expected in RatioSums.of(X, design).snr().items():
        np.testing.assert_allclose(table[f"snr_{effect}"], expected[0])
    assert (table["se_snr"] > 0).all()


def test_two_replicates_per_group_are_certified():
    """With tuned shrinkage: inner folds that leave one cell in every group cannot be used, and are skipped."""
    X, y = planted(2, 1, effect=6.0)
    X = np.hstack([X, np.random.default_rng(0).normal(size=(8, 20))])
    table = certify(FLDA(), X, y).set_index("axis")
    assert table[["scheme", "n_folds"]].drop_duplicates().to_numpy().tolist() == [["pooled", 8]]
    assert (table["snr"] > 5 * table["crosstalk"]).all()
    assert table.loc[["A_1", "B_1"], "accuracy"].min() == 1


def test_a_cell_alone_in_its_group_only_trains():
    """2 x 3 without interactions; one group of one cell. Moving that cell moves no held-out score of one gene."""
    rng = np.random.default_rng(0)
    codes = np.concatenate([[0], np.repeat(np.arange(1, 6), 2)])
    y = pd.DataFrame({"A": (codes // 3).astype(str), "B": (codes % 3).astype(str)})
    X = rng.normal(size=(11, 1)) + 5.0 * (codes // 3)[:, None]
    moved = X.copy()
    moved[0] += 1.0
    tables = [certify(FLDA(shrinkage=0.3, interactions=None), Z, y) for Z in (X, moved)]
    assert tables[0][["scheme", "n_folds"]].drop_duplicates().to_numpy().tolist() == [["pooled", 10]]
    np.testing.assert_allclose(*[t[["snr", "crosstalk"]] for t in tables])
    with pytest.raises(ValueError, match=r"'0 x 0' of A x B has one cell.*'A:B'.*leave out an interaction"):
        certify(FLDA(shrinkage=0.3), X, y)


def test_many_cells_in_groups_of_three_are_pooled_from_few_folds():
    X, y = problem(100, 10, (2, 2))
    few = np.flatnonzero((y["A"] == "A0") & (y["B"] == "B0"))[3:]
    keep = np.setdiff1d(np.arange(100), few)
    table = certify(FLDA(shrinkage=0.3), X[keep], y.iloc[keep], n_folds=4)
    assert table[["scheme", "n_folds"]].drop_duplicates().to_numpy().tolist() == [["pooled", 4]]
    assert np.isfinite(table.select_dtypes("number")).all(axis=None)


def test_standard_errors_cover_the_spread_of_new_cells():
    """60 data sets of 40 cells and a fixed gene: the mean standard error is the spread of the estimates."""
    tables = [
        certify(FLDA(shrinkage=0.5, interactions=None), X[:, :1], y) for X, y in (planted(10, s) for s in range(60))
    ]
    low, high = np.quantile([t.loc[0, "snr"] for t in tables], [0.16, 0.84])  # few ratios of 40 cells are far out
    assert np.mean([t.loc[0, "se_snr"] for t in tables]) == pytest.approx((high - low) / 2, rel=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 6, 10, 25])
def test_one_gene_is_unbiased(n):
    """True SNR 8 in a 2 x 2 with n cells per group."""
    table = benchmark().one_gene(n, [1, 1, 1, 1], 8.0, 200)
    assert table["snr"].mean() == pytest.approx(8, abs=3 * table["snr"].std() / np.sqrt(200))
    assert table["snr"].mean() == pytest.approx(8, rel=0.35 if n == 3 else 0.1)
    assert abs(table["snr_B"].mean()) < 3 * table["snr_B"].std() / np.sqrt(200)


@pytest.mark.slow
@pytest.mark.parametrize("n_donors", [3, 4, 6])
def test_nothing_between_paired_donors_is_nothing(n_donors):
    table = benchmark().paired_donors(n_donors, 40, 60)
    assert abs(table["snr"].mean()) < 2.5 * table["snr"].std() / np.sqrt(60)


@pytest.mark.data
def test_uch_gets_a_certificate():
    adata = uch()
    table = certify(
        FLDA(shrinkage=0.25, interactions=None),
        adata.X,
        adata.obs[["hippurate", "citrate", "time"]].reset_index(drop=True),
    ).set_index("axis")
    assert table[["scheme", "n_folds"]].drop_duplicates().to_numpy().tolist() == [["pooled", 32]]
    first = table.loc[["hippurate_1", "citrate_1", "time_1"]]
    assert (first["snr"] > 20).all()
    assert (first["crosstalk"].abs() < 1).all()


def test_accuracy_of_known_overlap():
    """Gene 0 moves by +-1 with unit noise: the best rule is right with probability Phi(1) = 0.841; no effect, 1/2."""
    X, y = planted(3000, 0)
    table = certify(FLDA(shrinkage=0.0, interactions=None), X, y, n_repeats=2).set_index("axis")
    np.testing.assert_allclose(table["accuracy"], 0.841, atol=0.01)
    assert (table["n_repeats"] == 2).all()
    assert (table["se_snr"] > 0).all()
    noise = certify(FLDA(shrinkage=0.1), np.random.default_rng(0).normal(size=X.shape), y).set_index("axis")
    np.testing.assert_allclose(noise["accuracy"], noise["chance"], atol=0.02)


def test_columns():
    X, y = problem(200, 20, (2, 3))
    table = certify(FLDA(shrinkage=0.2, n_components={"B": 1}), X, y)
    assert table["axis"].tolist() == ["A_1", "B_1", "A:B_1", "A:B_2"]
    own = [row[f"snr_{row['effect']}"] for _, row in table.iterrows()]
    np.testing.assert_allclose(table["snr"], own)
    every = table[["snr_A", "snr_B", "snr_A:B"]].sum(axis=1)
    np.testing.assert_allclose(every, table["snr"] + table["crosstalk"])
    np.testing.assert_allclose(table["chance"], [1 / 2, 1 / 3, 1 / 6, 1 / 6])


def test_too_few_donors_per_group_are_refused():
    X, y = problem(200, 20, (2, 3))
    with pytest.raises(ValueError, match=r"'A0 x B0'.* have one donor"):
        certify(FLDA(shrinkage=0.2), X, y, (y["A"] + y["B"]).to_numpy())
    with pytest.raises(ValueError, match=r"donor.* 200 cells"):
        certify(FLDA(shrinkage=0.2), X, y, np.zeros(3))


def test_together_is_one_by_one():
    """Sharing the tuned shrinkage within a fold changes nothing."""
    X, y = problem(100, 60, (2, 2))
    models = {"all": FLDA(), "few": SparseFLDA(n_genes=4)}
    both = certify_together(models, X, y, n_folds=3)
    for name, model in models.items():
        alone = certify(model, X, y, n_folds=3)
        part = both[both["genes"] == name].drop(columns="genes").reset_index(drop=True)
        pd.testing.assert_frame_equal(part, alone)
        assert not hasattr(model, "components_")


@pytest.mark.parametrize(("options", "n_solves"), [({}, 2), ({"shrinkage_target": "identity"}, 4)])
def test_models_with_one_solve_share_it(monkeypatch, options, n_solves):
    X, y = problem(100, 30, (2, 2))
    seen = []
    solve = _flda.solve
    monkeypatch.setattr(_flda, "solve", lambda solver, g: (seen.append(solver.within.shape), solve(solver, g))[1])
    models = {"all": FLDA(shrinkage=0.3), "few": SparseFLDA(n_genes=4, shrinkage=0.3, **options)}
    certify_together(models, X, y, n_folds=2)
    assert sum(p == 30 for _, p in seen) == n_solves  # the predictions of selected genes are fitted to fewer genes


def test_on_the_device(cupy):
    X, y = problem(200, 60, (2, 3))
    tables = [certify(FLDA(shrinkage=0.3), Z, y, n_folds=3).select_dtypes("number") for Z in (X, cupy.asarray(X))]
    np.testing.assert_allclose(*tables, rtol=1e-6, atol=1e-9)
