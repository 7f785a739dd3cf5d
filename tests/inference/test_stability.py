"""How often half of the cells, or of the donors, select a gene."""

import numpy as np
import pandas as pd
import pytest

from flda import SparseFLDA
from flda._design.make import make_design
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
    found = stability_selection(model, X, y, n_resamples=20)
    assert found.n_resamples == 20
    for effect, true in {"A": range(4), "B": range(4, 8)}.items():
        part = found.genes[found.genes["effect"] == effect].set_index("gene")
        assert (part.loc[list(true), "frequency"] >= 0.9).all()
        assert part["frequency"].sum() == pytest.approx(6)
        assert part["frequency"].is_monotonic_decreasing
        sure = part["frequency"] > 0.5
        np.testing.assert_allclose(part.loc[sure, "expected_false"], 36 / (60 * (2 * part.loc[sure, "frequency"] - 1)))
        assert part.loc[~sure, "expected_false"].isna().all()
        assert np.sum(part.index[part["frequency"] >= 0.9].to_numpy() > max(true)) <= 1


@pytest.mark.parametrize("constant", [0, 10])
def test_the_bound_counts_candidates_and_holds_for_noise(constant):
    """Pure noise, 30 of 300 genes are candidates, 12 are selected: the bound on false genes is that of 30 genes."""
    candidates = np.arange(300) < 30 + constant
    found, bounds = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(40, 300))
        X[:, :constant] = 1.0  # a gene that does not vary cannot be selected either
        y = pd.DataFrame({"A": np.repeat(["p", "q"], 20)})
        model = SparseFLDA(n_genes=12, shrinkage=0.5, mode="marker", candidates=candidates)
        genes = stability_selection(model, X, y, n_resamples=12, random_state=seed).genes
        assert genes["gene"].between(constant, 29 + constant).all()
        sure = genes[genes["frequency"] > 0.5]
        expected = np.minimum(12**2 / (30 * (2 * sure["frequency"] - 1)), 30)
        np.testing.assert_allclose(sure["expected_false"], expected)
        for t in (0.6, 0.7, 0.8, 0.9):
            found.append(np.sum(genes["frequency"] >= t))
            bounds.append(12**2 / (30 * (2 * t - 1)))
    # the mean number of genes, all of them false, stays below the bound at every threshold
    assert (np.reshape(found, (8, 4)).mean(axis=0) <= np.reshape(bounds, (8, 4))[0]).all()
    assert np.reshape(found, (8, 4))[:, 1].mean() > 1.2  # what p = 300 would promise


def test_halves_are_complementary_and_share_every_group():
    _, y = planted()
    design = make_design(y)
    for first, second in _pairs(design, None, 5, np.random.default_rng(0)):
        np.testing.assert_array_equal(np.sort(np.concatenate([first.train, second.train])), np.arange(300))
        np.testing.assert_array_equal(first.test, second.train)
        np.testing.assert_array_equal(second.test, first.train)
        sizes = np.stack([half.training.counts for half in (first, second)])
        assert (np.abs(np.diff(sizes, axis=0)) <= 1).all()


def test_the_odd_cell_of_a_group_goes_to_either_half():
    """Four groups of five cells: each has two or three in the first half, as often, whatever the others have."""
    design = make_design(pd.DataFrame(np.repeat(list(np.ndindex(2, 2)), 5, axis=0).astype(str), columns=["A", "B"]))
    first = [pair[0].training.counts for pair in _pairs(design, None, 200, np.random.default_rng(0))]
    more = np.array(first) == 3
    assert set(np.ravel(first)) == {2, 3}
    np.testing.assert_allclose(more.mean(axis=0), 0.5, atol=4 * np.sqrt(0.25 / 200))
    correlation = np.corrcoef(more.T)[np.triu_indices(4, 1)]
    np.testing.assert_allclose(correlation, 0, atol=4 / np.sqrt(200))


def test_donors_are_halved_whole_and_by_level():
    X, y, names = donor_problem(4, 20, 15)
    donors = pd.factorize(names, sort=True)[0]
    for pair in _pairs(make_design(y), donors, 5, np.random.default_rng(0)):
        first, second = (half.train for half in pair)
        assert not set(donors[first]) & set(donors[second])
        assert y.iloc[first].assign(d=donors[first]).groupby("treatment")["d"].nunique().tolist() == [2, 2]
    found = stability_selection(SparseFLDA(n_genes=3, shrinkage=0.5), X, y, names, n_resamples=4)
    assert found.unit == "donor"


@pytest.mark.parametrize("with_donors", [False, True])
def test_frequencies_are_those_of_fits_on_the_halves(with_donors):
    """With donors, each half is fitted with its donors in the error term."""
    X, y, names = donor_problem(4, 20, 60)
    donors = pd.factorize(names, sort=True)[0] if with_donors else None
    model = SparseFLDA(n_genes=3, shrinkage=0.5)
    found = stability_selection(model, X, y, names if with_donors else None, n_resamples=4, random_state=2)
    counts = dict.fromkeys(["treatment", "type", "treatment:type"], 0)
    for pair in _pairs(make_design(y), donors, 2, np.random.default_rng(2)):
        for half in pair:
            own = None if donors is None else donors[half.train]
            fold = SparseFLDA(n_genes=3, shrinkage=0.5).fit(X[half.train], y.iloc[half.train], own)
            for effect, (genes,) in fold.selected_.items():
                counts[effect] = counts[effect] + np.isin(np.arange(60), genes)
    for effect, part in found.genes.groupby("effect"):
        frequency = np.zeros(60)
        frequency[part["gene"]] = part["frequency"]
        np.testing.assert_allclose(frequency, counts[effect] / 4)


def test_same_seed_same_result_and_threads_change_nothing():
    X, y = planted(100, 60)
    model = SparseFLDA(n_genes=3, shrinkage=0.5)
    one = stability_selection(model, X, y, n_resamples=3, random_state=1)
    two = stability_selection(model, X, y, n_resamples=3, random_state=1, n_jobs=2)
    assert one.n_resamples == 4  # whole pairs
    pd.testing.assert_frame_equal(one.genes, two.genes)


def test_bad_requests_are_refused():
    X, y = planted(40, 10)
    with pytest.raises(ValueError, match="n_resamples=1"):
        stability_selection(SparseFLDA(n_genes=3), X, y, n_resamples=1)
    donors = (y["A"] + y["B"]).to_numpy()
    with pytest.raises(ValueError, match="donors"):
        stability_selection(SparseFLDA(n_genes=3), X, y, donors)
