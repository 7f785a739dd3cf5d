"""Splits of the cells: equal shares of every group, or whole donors."""

import numpy as np
import pandas as pd
import pytest

from flda import FLDA
from flda._design.make import make_design
from flda._design.splits import Split, cell_folds, folds, hold_out

from oracle import donor_problem, problem


def codes_of(donors):
    return pd.factorize(donors, sort=True)[0]


def test_folds_cover_every_cell_once_and_keep_small_groups_in_training():
    y = np.repeat(["a", "b", "c"], [1, 3, 50])
    design = make_design(pd.DataFrame({"f": y}))
    splits = list(folds(design, None, 0, 5))
    assert sorted(np.concatenate([s.test for s in splits])) == list(range(1, 54))
    for s in splits:
        np.testing.assert_array_equal(np.sort(np.concatenate([s.train, s.test])), np.arange(54))
    sizes = [np.sum(design.codes[s.test] == 2) for s in splits]
    assert max(sizes) - min(sizes) <= 1


def test_small_groups_are_spread_over_the_folds():
    """50 groups of two cells: about two fifths of them have a cell in any of five folds."""
    design = make_design(pd.DataFrame({"f": pd.Categorical(np.repeat(np.arange(50), 2))}))
    sizes = np.bincount(cell_folds(design, 0, 5))
    assert sizes.sum() == 100
    assert sizes.min() >= 10


def test_folds_hold_out_whole_donors():
    _, y = problem(200, 10, (2, 2))
    donors = np.arange(200) % 7
    splits = list(folds(make_design(y), donors, 0, 5))
    assert sorted(np.concatenate([s.test for s in splits])) == list(range(200))
    for s in splits:
        assert not set(donors[s.train]) & set(donors[s.test])


def test_every_level_of_a_factor_between_donors_is_spread_over_the_folds():
    _, y, donors = donor_problem(6, 20, 12)
    codes = codes_of(donors)
    splits = list(folds(make_design(y), codes, 1, 3))
    assert sorted(np.concatenate([s.test for s in splits])) == list(range(len(y)))
    for s in splits:
        counts = y.iloc[s.test].assign(donor=codes[s.test]).groupby("treatment")["donor"].nunique()
        assert counts.tolist() == [2, 2]


def test_there_are_no_more_folds_than_donors():
    _, y, donors = donor_problem(2, 20, 12)
    design = make_design(y)
    assert len(list(folds(design, codes_of(donors), 0, 10))) == 4
    with pytest.raises(ValueError, match="donor"):
        list(folds(design, np.zeros(len(donors), dtype=int), 0, 5))


@pytest.mark.parametrize("with_donors", [False, True])
def test_the_seed_decides(with_donors):
    _, y, donors = donor_problem(6, 20, 12)
    design, codes = make_design(y), codes_of(donors) if with_donors else None

    def tests_of(seed):
        return [s.test.tolist() for s in folds(design, codes, seed, 3)]

    assert tests_of(1) == tests_of(1)
    assert tests_of(1) != tests_of(2)


def test_a_split_knows_its_designs_and_donors():
    X, y, donors = donor_problem(3, 20, 12)
    design, codes = make_design(y), codes_of(donors)
    train, test = np.flatnonzero(codes > 1), np.flatnonzero(codes <= 1)
    split = Split(design, codes, train, test)
    np.testing.assert_array_equal(split.training.counts, np.bincount(design.codes[train]))
    np.testing.assert_array_equal(split.held_out.counts, np.bincount(design.codes[test]))
    some, labels, of = split.training_data(X, y)
    np.testing.assert_array_equal(some, X[train])
    pd.testing.assert_frame_equal(labels, y.iloc[train])
    np.testing.assert_array_equal(of, codes[train])
    model = FLDA(shrinkage=0.1)
    fitted = split.fit(model, X, y, shrinkage=0.4)
    expected = FLDA(shrinkage=0.4).fit(X[train], y.iloc[train], groups=codes[train])
    np.testing.assert_array_equal(fitted.components_, expected.components_)
    assert fitted.donor_share_ is not None
    assert model.shrinkage == 0.1
    assert not hasattr(model, "components_")


def test_held_out_cells_of_groups_without_training_cells_have_no_prediction():
    codes = np.array([0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 3])
    y = pd.DataFrame({"A": codes // 2, "B": codes % 2}).astype(str)
    design = make_design(y, interactions=None)
    test = np.array([0, 3, 4, 5, 8, 9])  # both cells of group 1
    split = Split(design, None, np.setdiff1d(np.arange(11), test), test)
    assert split.training.effects == design.effects  # three groups identify two main effects
    assert split.held_out.effects == design.effects
    np.testing.assert_array_equal(split.present, [0, 2, 3])
    np.testing.assert_array_equal(split.known, [0, 5, 8, 9])
    np.testing.assert_array_equal(split.known_groups, [0, 1, 2, 2])
    np.testing.assert_array_equal(split.known_weights, [1, 1, 0.5, 0.5])
    with_interaction = Split(make_design(y), None, split.train, split.test)
    assert with_interaction.training is None


def test_training_cells_without_a_pair_in_any_group_cannot_be_used():
    y = pd.DataFrame({"A": np.repeat(["a", "b"], 2)})
    assert Split(make_design(y), None, np.array([0, 2]), np.array([1, 3])).training is None
    assert Split(make_design(y), None, np.array([0, 1, 2]), np.array([3])).training is not None


@pytest.mark.parametrize(("n", "expected"), [(4, 2), (5, 2), (6, 3), (9, 4), (10, 5), (50, 5)])
def test_a_certificate_holds_out_two_cells_of_every_group(n, expected):
    y = pd.DataFrame({"A": np.repeat(["a", "b"], [n, 60])})
    plan = hold_out(make_design(y), None, 0, 5, 2)
    assert (plan.scheme, plan.n_folds, len(plan.splits)) == ("folds", expected, 2)
    for splits in plan.splits:
        np.testing.assert_array_equal(np.sort(np.concatenate([s.test for s in splits])), np.arange(n + 60))
        assert min(s.held_out.counts.min() for s in splits) >= 2


@pytest.mark.parametrize("within", [False, True])
def test_a_certificate_holds_out_two_donors_of_every_group(within):
    """Fourteen donors; a third of them lack one of the groups."""
    rng = np.random.default_rng(0)
    donors = np.repeat(np.arange(14), 12)
    a = np.tile(["p", "q"], 84) if within else np.where(donors % 2 == 0, "p", "q")
    b = rng.choice(["u", "v"], size=len(donors))
    b[donors < 5] = "u"
    design = make_design(pd.DataFrame({"A": a, "B": b}))
    plan = hold_out(design, donors, 0, 5)
    assert plan.scheme == "folds"
    assert plan.n_folds >= 2
    for split in plan.splits[0]:
        assert not set(donors[split.train]) & set(donors[split.test])
        of_groups = pd.Series(donors[split.test]).groupby(design.codes[split.test]).nunique()
        assert of_groups.reindex(range(4)).min() >= 2


def test_a_certificate_without_folds_leaves_out_one_unit():
    y = pd.DataFrame({"A": np.repeat(["a", "b"], [2, 20])})
    plan = hold_out(make_design(y), None, 0, 5)
    assert (plan.scheme, plan.n_folds) == ("pooled", 22)
    assert "a group has 2 cells" in plan.reason
    donors = np.repeat(np.arange(2), 10)
    paired = hold_out(make_design(pd.DataFrame({"A": np.tile(["a", "b"], 10)})), donors, 0, 5)
    assert [set(donors[s.test]) for s in paired.splits[0]] == [{0}, {1}]
    many = hold_out(make_design(pd.DataFrame({"A": np.repeat(["a", "b"], [2, 60])})), None, 0, 5)
    assert (many.scheme, many.n_folds) == ("pooled", 5)
    assert all(s.training is not None for s in many.splits[0])


def test_groups_too_small_for_folds_stay_in_training_if_others_show_the_effects():
    sizes = [3, 2, 1, 12, 12, 12, 12, 12, 12]
    codes = np.repeat(np.arange(9), sizes)
    y = pd.DataFrame({"A": codes // 3, "B": codes % 3}).astype(str)
    plan = hold_out(make_design(y, interactions=None), None, 0, 5)
    assert plan.scheme == "pooled"  # the small groups are all that there is of a level
    codes = np.repeat(np.arange(9), np.array(sizes)[[0, 3, 4, 5, 1, 6, 7, 8, 2]])
    y = pd.DataFrame({"A": codes // 3, "B": codes % 3}).astype(str)
    design = make_design(y, interactions=None)
    plan = hold_out(design, None, 0, 5)
    assert (plan.scheme, plan.n_folds) == ("folds", 5)
    assert "except 3 groups of fewer than 4 cells" in plan.reason
    small = np.isin(codes, [0, 4, 8])
    assert all(small[s.train].sum() == 6 and not small[s.test].any() for s in plan.splits[0])
    with pytest.raises(ValueError, match="'2 x 2' of A x B has one cell"):  # the interaction needs them
        hold_out(make_design(y), None, 0, 5)


def test_what_no_certificate_can_hold_out_is_named():
    y = pd.DataFrame({"A": list("aabb"), "B": list("uvuv")})
    with pytest.raises(ValueError, match="'a x u', 'a x v', 'b x u', 'b x v' of A x B have one cell"):
        hold_out(make_design(y), None, 0, 5)
    with pytest.raises(ValueError, match="without some of the units the effects of 'A', 'B'"):
        hold_out(make_design(y, error="auto"), None, 0, 5)
    with pytest.raises(ValueError, match=r"'b' of A has one donor.*add donors"):
        hold_out(make_design(y[["A"]]), np.array([0, 1, 2, 2]), 0, 5)
    with pytest.raises(ValueError, match="n_folds=1"):
        hold_out(make_design(y), None, 0, 1)


def test_a_single_training_donor_is_not_passed_on():
    X, y, donors = donor_problem(2, 10, 6)
    split = Split(make_design(y), codes_of(donors), np.flatnonzero(codes_of(donors) == 0), np.array([], dtype=int))
    assert split.training_data(X, y)[2] is None
