import numpy as np
import pandas as pd
import pytest

from flda import SparseFLDA
from flda._design.design import make_design
from flda.inference import stability_selection
from flda.inference._stability import _pairs

from oracle import donor_problem


def planted(n=300, p=60, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(2, size=(n, 2))
    X = rng.normal(size=(n, p))
    X[:, :4] += codes[:, [0]]
    X[:, 4:8] += codes[:, [1]]
    return X, pd.DataFrame(codes.astype(str), columns=["A", "B"])


def test_true_genes_are_selected_in_most_halves_and_false_ones_are_bounded():
    X, y = planted()
    model = SparseFLDA(n_genes=6, shrinkage=0.5, interactions=None)
    found = stability_selection(model, X, y, n_halves=20)
    assert found.n_halves == 20
    for effect, true in {"A": range(4), "B": range(4, 8)}.items():
        part = found.genes[found.genes["effect"] == effect].set_index("gene")
        assert (part.loc[list(true), "frequency"] >= 0.9).all()
        assert part["frequency"].sum() == pytest.approx(6)
        assert part["frequency"].is_monotonic_decreasing
        sure = part["frequency"] > 0.5
        np.testing.assert_allclose(part.loc[sure, "expected_false"], 36 / (60 * (2 * part.loc[sure, "frequency"] - 1)))
        assert part.loc[~sure, "expected_false"].isna().all()
        assert np.sum(part.index[part["frequency"] >= 0.9].to_numpy() > max(true)) <= 1


def test_halves_are_complementary_and_share_every_group():
    _, y = planted()
    design = make_design(y)
    for first, second in _pairs(design, None, 5, np.random.default_rng(0)):
        np.testing.assert_array_equal(np.sort(np.concatenate([first, second])), np.arange(300))
        sizes = np.stack([np.bincount(design.codes[half]) for half in (first, second)])
        assert (np.abs(np.diff(sizes, axis=0)) <= 1).all()


def test_donors_are_halved_whole_and_by_level():
    X, y, names = donor_problem(4, 20, 15)
    donors = pd.factorize(names, sort=True)[0]
    for first, second in _pairs(make_design(y), donors, 5, np.random.default_rng(0)):
        assert not set(donors[first]) & set(donors[second])
        assert y.iloc[first].assign(d=donors[first]).groupby("treatment")["d"].nunique().tolist() == [2, 2]
    found = stability_selection(SparseFLDA(n_genes=3, shrinkage=0.5), X, y, names, n_halves=4)
    assert found.unit == "donor"


def test_same_seed_same_result_and_threads_change_nothing():
    X, y = planted(100, 20)
    model = SparseFLDA(n_genes=3, shrinkage=0.5)
    one = stability_selection(model, X, y, n_halves=3, random_state=1)
    two = stability_selection(model, X, y, n_halves=3, random_state=1, n_jobs=2)
    assert one.n_halves == 4  # whole pairs
    pd.testing.assert_frame_equal(one.genes, two.genes)


def test_bad_requests_are_refused():
    X, y = planted(40, 10)
    with pytest.raises(ValueError, match="n_halves=1"):
        stability_selection(SparseFLDA(n_genes=3), X, y, n_halves=1)
    donors = (y["A"] + y["B"]).to_numpy()
    with pytest.raises(ValueError, match="some group has one of the donors"):
        stability_selection(SparseFLDA(n_genes=3), X, y, donors)
