"""What is permuted, among which units, and what it leaves alone."""

import numpy as np
import pandas as pd
import pytest

from flda._design.design import effect_penalties, make_design
from flda.inference._cells import CellStatistics
from flda.inference._schemes import every_assignment, n_distinct, permuted_codes, scheme_of

from oracle import donor_problem

GRID = (0.05, 0.5, 0.9)


def test_cells_keep_their_strata_and_groups_their_counts():
    X, y, donors = donor_problem(4, 30, 12)
    design, codes = make_design(y), pd.factorize(donors, sort=True)[0]
    scheme = scheme_of(("type",), design, codes, None)
    assert not scheme.by_donor
    assert scheme.taken_out == (("treatment", "type"),)
    fold = codes % 3
    engine = CellStatistics(X, design, scheme, effect_penalties(design, 1.0), 1, fold, GRID)
    new = engine.permuted(np.random.default_rng(0))
    before, after = design.table.groups[design.codes], design.table.groups[new]
    assert (before[:, 0] == after[:, 0]).all()  # the treatment stays
    assert (before[:, 1] != after[:, 1]).mean() > 0.3
    for d in range(8):
        np.testing.assert_array_equal(
            np.bincount(new[codes == d], minlength=4), np.bincount(design.codes[codes == d], minlength=4)
        )


def test_donors_are_exchanged_within_the_other_between_factor():
    _, y, donors = donor_problem(6, 10, 12)
    codes = pd.factorize(donors, sort=True)[0]
    y["site"] = np.array(["n", "s"])[(codes // 2) % 2]
    design = make_design(y, interactions=None)
    scheme = scheme_of(("treatment",), design, codes, None)
    units = np.array([[t, 0, s] for s in (0, 1) for t in (0, 1) for _ in range(3)])
    strata = units[:, 2]
    new = permuted_codes(scheme, units, strata, np.random.default_rng(0))
    assert (new[:, 2] == units[:, 2]).all()
    for s in (0, 1):
        assert new[strata == s, 0].sum() == 3
    assert n_distinct(scheme, units, strata) == 20 * 20
    every = {tuple(u[:, 0]) for u in every_assignment(scheme, units, strata)}
    assert len(every) == 400
    assert tuple(units[:, 0]) in every


@pytest.mark.parametrize(
    ("effect", "by_donor", "permuted", "taken_out"),
    [
        ("treatment", True, [0], ["treatment:type"]),
        ("type", False, [1], ["treatment:type"]),
        ("treatment:type", True, [0], ["treatment"]),
    ],
)
def test_what_is_permuted_and_taken_out(effect, by_donor, permuted, taken_out):
    _, y, names = donor_problem(4, 20, 12)
    design, donors = make_design(y), pd.factorize(names, sort=True)[0]
    scheme = scheme_of(design.effect(effect), design, donors, None)
    assert scheme.by_donor == by_donor
    assert scheme.permuted.tolist() == permuted
    assert [e.name for e in scheme.taken_out] == taken_out
    assert scheme.name == "residual"
    assert len(scheme.strata) == (8 if by_donor else len(y))
    alone = scheme_of(("type",), make_design(y, interactions=None), None, None)
    assert alone.name == "restricted"
    np.testing.assert_array_equal(alone.strata, y["treatment"].factorize(sort=True)[0])


@pytest.mark.parametrize("seed", range(5))
def test_every_assignment_comes_once(seed):
    rng = np.random.default_rng(seed)
    _, y, names = donor_problem(4, 10, 12)
    design = make_design(y, interactions=None)
    scheme = scheme_of(("treatment",), design, pd.factorize(names, sort=True)[0], None)
    units, strata = rng.integers(3, size=(7, 2)), rng.integers(2, size=7)
    every = [tuple(u[:, 0]) for u in every_assignment(scheme, units, strata)]
    assert len(every) == len(set(every)) == n_distinct(scheme, units, strata)
    drawn = {tuple(permuted_codes(scheme, units, strata, rng)[:, 0]) for _ in range(3000)}
    assert drawn <= set(every)
    if len(every) < 100:
        assert drawn == set(every)


def test_what_donors_cannot_answer_is_refused_by_name():
    _, y, names = donor_problem(2, 20, 12)
    donors = pd.factorize(names, sort=True)[0]
    for effect in ("treatment", "treatment:type"):
        design = make_design(y)
        with pytest.raises(ValueError, match=r"'no' of 'treatment'.* 3 "):
            scheme_of(design.effect(effect), design, donors, None)
    _, y, names = donor_problem(4, 20, 12)
    donors = pd.factorize(names, sort=True)[0]
    donors[(donors == 1).nonzero()[0][:3]] = 0  # donor 1 is treated, donor 0 is not
    with pytest.raises(ValueError, match=r"d00.*'treatment'"):
        scheme_of(("treatment",), make_design(y), donors, np.unique(names))
