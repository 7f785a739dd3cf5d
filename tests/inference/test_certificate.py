"""What axes show on cells, or donors, that they were not fitted on."""

import numpy as np
import pandas as pd
import pytest

from flda import FLDA, SparseFLDA
from flda._design.design import make_design
from flda._design.splits import folds
from flda.inference import certify
from flda.inference._certificate import certify_together
from flda.metrics import effect_snr

from oracle import donor_problem, problem


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
    assert donors.loc["A_1", "n_folds"] == 20  # two folds: each holds out two donors of every level
    assert abs(donors.loc["A_1", "snr"]) < cells.loc["A_1", "snr"] / 4  # donors differ, A does nothing
    assert cells.loc["A_1", "accuracy"] > 0.9
    assert donors.loc["A_1", "accuracy"] < 0.75


def test_certificate_with_few_donors_says_what_it_cannot_do(caplog):
    X, y, donors = donor_problem(3, 30, 12)
    table = certify(FLDA(shrinkage=0.3), X, y, donors)
    assert any("treatment" in r.getMessage() and r.levelname == "WARNING" for r in caplog.records)
    assert table["n_folds"].unique() == [3]


def test_it_is_the_mean_over_folds_of_fits_without_their_donors():
    X, y, donors = donor_problem(4, 15, 30)
    model = FLDA(shrinkage="cv", random_state=3)
    table = certify(model, X, y, donors, n_folds=2, random_state=1).set_index("axis")
    design, codes, ratios = make_design(y), np.unique(donors, return_inverse=True)[1], []
    for split in folds(design, codes, 1, 2):
        fold = FLDA(shrinkage="cv", random_state=3).fit(X[split.train], y.iloc[split.train], donors[split.train])
        scores = fold.transform(X[split.test])
        ratios.append(effect_snr(scores, make_design(y.iloc[split.test]), codes[split.test]))
    for j, axis in enumerate(table.index):
        for effect in ("treatment", "type", "treatment:type"):
            each = [r[effect][j] for r in ratios]
            assert table.loc[axis, f"snr_{effect}"] == pytest.approx(np.mean(each))
        own = [r[table.loc[axis, "effect"]][j] for r in ratios]
        assert table.loc[axis, "sd_snr"] == pytest.approx(np.std(own, ddof=1))


def test_accuracy_of_known_overlap():
    """Gene 0 moves by +-1 with unit noise: the best rule is right with probability Phi(1) = 0.841; no effect, 1/2."""
    X, y = planted(3000, 0)
    table = certify(FLDA(shrinkage=0.0, interactions=None), X, y, n_repeats=2).set_index("axis")
    np.testing.assert_allclose(table["accuracy"], 0.841, atol=0.01)
    assert (table["n_repeats"] == 2).all()
    assert (table["sd_snr"] > 0).all()
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
    with pytest.raises(ValueError, match="fold"):
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


def test_on_the_device(cupy):
    X, y = problem(200, 60, (2, 3))
    tables = [certify(FLDA(shrinkage=0.3), Z, y, n_folds=3).select_dtypes("number") for Z in (X, cupy.asarray(X))]
    np.testing.assert_allclose(*tables, rtol=1e-6, atol=1e-9)
