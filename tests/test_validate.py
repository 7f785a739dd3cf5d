import numpy as np
import pandas as pd
import pytest

from flda import FLDA, SparseFLDA
from flda.design import make_design
from flda.validate import certify, certify_together, effect_snr

from oracle import problem


def planted(n_per_group, seed, effect=1.0):
    """2 x 2, unit noise: A moves gene 0 by +-effect, B gene 1, the interaction gene 2; variances on one axis known."""
    rng = np.random.default_rng(seed)
    codes = np.repeat([(0, 0), (0, 1), (1, 0), (1, 1)], n_per_group, axis=0)
    signs = 2.0 * codes - 1
    X = rng.normal(size=(len(codes), 3))
    X += effect * np.column_stack([signs[:, 0], signs[:, 1], signs[:, 0] * signs[:, 1]])
    return X, pd.DataFrame(codes.astype(str), columns=["A", "B"])


def test_effect_snr_is_unbiased_in_an_unequal_heteroscedastic_table():
    """Truth: theta_A = 2 * 0.5**2 (mean square of +-0.5 over its one degree of freedom), no B, no interaction."""
    rng = np.random.default_rng(0)
    n, sd = np.array([50, 600, 200, 100]), np.array([3.0, 1.0, 1.0, 0.5])
    codes = np.repeat(np.arange(4), n)
    design = make_design(pd.DataFrame({"A": (codes // 2).astype(str), "B": (codes % 2).astype(str)}))
    scores = 0.5 * (2.0 * (codes // 2) - 1)[:, None] + sd[codes][:, None] * rng.normal(size=(950, 4000))
    got = effect_snr(scores, design)
    v = np.mean(sd**2)
    # noise adds 0.25 * sum(sd^2 / n) / v = 0.017 to every effect; the pooled variance would take off half of it
    assert np.mean(got["B"]) == pytest.approx(0, abs=0.002)
    assert np.mean(got["A:B"]) == pytest.approx(0, abs=0.002)
    assert np.mean(got["A"]) == pytest.approx(0.5 / v, abs=0.01)


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
    rng = np.random.default_rng(0)
    donor = np.repeat(np.arange(8), 50)
    y = pd.DataFrame({"A": (donor % 2).astype(str), "B": rng.integers(2, size=400).astype(str)})
    X = rng.normal(size=(400, 30)) + rng.normal(size=(8, 30))[donor]
    cells = certify(FLDA(shrinkage=0.1, interactions=None), X, y).set_index("axis")
    donors = certify(FLDA(shrinkage=0.1, interactions=None), X, y, groups=donor, n_folds=4).set_index("axis")
    assert cells.loc["A_1", "snr"] > 2
    assert donors.loc["A_1", "snr"] < cells.loc["A_1", "snr"] / 2


def test_columns_and_refusal():
    X, y = problem(200, 20, (2, 3))
    table = certify(FLDA(shrinkage=0.2, n_components={"B": 1}), X, y)
    assert table["axis"].tolist() == ["A_1", "B_1", "A:B_1", "A:B_2"]
    own = [row[f"snr_{row['effect']}"] for _, row in table.iterrows()]
    np.testing.assert_allclose(table["snr"], own)
    np.testing.assert_allclose(table.filter(like="snr_").sum(axis=1), table["snr"] + table["crosstalk"])
    with pytest.raises(ValueError, match="no fold of 5 keeps every effect"):
        certify(FLDA(shrinkage=0.2), X, y, groups=(y["A"] + y["B"]).to_numpy())


def test_together_is_one_by_one():
    """Sharing the tuned shrinkage within a fold changes nothing."""
    X, y = problem(160, 25, (2, 3))
    models = {"all": FLDA(random_state=0), "few": SparseFLDA(n_genes=4, random_state=0)}
    both = certify_together(models, X, y)
    for name, model in models.items():
        alone = certify(model, X, y)
        part = both[both["genes"] == name].drop(columns="genes").reset_index(drop=True)
        pd.testing.assert_frame_equal(part, alone)
