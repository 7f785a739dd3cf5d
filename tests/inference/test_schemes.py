"""What is permuted, among which units, and what it leaves alone."""

import numpy as np
import pandas as pd

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
