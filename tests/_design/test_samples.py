"""Which factors vary between donors, and when donors enter the error term."""

import numpy as np
import pandas as pd
import pytest

from flda._design.make import make_design
from flda._design.samples import Samples, between_factors, donor_strata, sample_units, samples_in_error

from oracle import donor_problem


def codes_of(donors):
    return pd.factorize(donors, sort=True)[0]


def test_factors_that_vary_between_donors():
    _, y, donors = donor_problem(3, 20, 12)
    design = make_design(y)
    assert between_factors(design, codes_of(donors)) == ("treatment",)
    assert samples_in_error(design, None) is None
    samples = samples_in_error(design, codes_of(donors))
    assert samples.counts.sum() == len(y)
    np.testing.assert_array_equal(samples.groups[samples.codes], design.codes)


def test_samples_are_the_cells_of_one_donor_in_one_group():
    groups, donors = np.array([1, 0, 1, 1, 0, 0]), np.array([2, 0, 0, 2, 1, 0])
    samples = Samples.of(groups, donors)
    assert samples.groups.tolist() == [0, 0, 1, 1]  # by group, then by donor
    assert samples.counts.tolist() == [2, 1, 1, 2]
    assert samples.codes.tolist() == [3, 0, 2, 3, 1, 0]


def test_without_donors_the_samples_are_the_groups():
    _, y, donors = donor_problem(3, 20, 12)
    design = make_design(y)
    np.testing.assert_array_equal(sample_units(design, None).codes, design.codes)
    assert len(sample_units(design, codes_of(donors)).counts) == 12


def test_strata_are_the_combinations_of_the_factors_between_donors():
    _, y, donors = donor_problem(4, 20, 12)
    codes = codes_of(donors)
    np.testing.assert_array_equal(donor_strata(make_design(y), codes), np.arange(8) % 2)
    np.testing.assert_array_equal(donor_strata(make_design(y[["type"]]), codes), np.zeros(8))


def test_a_reused_donor_name_is_pointed_out(recwarn):
    _, y, donors = donor_problem(4, 20, 12)
    donors[(donors == "d01").nonzero()[0][:3]] = "d00"  # d01 is treated, d00 is not
    assert samples_in_error(make_design(y), codes_of(donors), np.unique(donors)) is None
    (record,) = recwarn
    assert {"'d00'", "'treatment'"} <= set(str(record.message).split())


def test_one_donor_per_group_leaves_the_error_term_to_the_cells(recwarn):
    _, y, _ = donor_problem(3, 20, 12)
    assert samples_in_error(make_design(y), codes_of(y["treatment"])) is None
    (record,) = recwarn
    assert "treatment" in str(record.message)


@pytest.mark.parametrize("n_rows", [1, 2])
def test_one_row_per_donor_and_group_leaves_the_error_term_to_the_rows(n_rows):
    """With one row (pseudobulk) the rows are the donors; with two, cells and donors can be distinguished."""
    y = pd.DataFrame({"treatment": np.repeat(["no", "yes"], 12), "type": np.tile(["p", "q"], 12)})
    donors = np.repeat(np.arange(12), 2)
    rows = np.repeat(np.arange(24), n_rows)
    samples = samples_in_error(make_design(y.iloc[rows]), donors[rows])
    assert (samples is None) == (n_rows == 1)
