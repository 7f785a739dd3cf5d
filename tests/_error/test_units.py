"""The contrasts that donors give, against means and differences by hand."""

import numpy as np
import pandas as pd
import pytest

from flda._design.effects import Effect
from flda._design.make import make_design
from flda._design.samples import sample_units
from flda._error.units import donor_units, left_out


def study(rows, n_cells=2, seed=0):
    """Cells of the samples (donor, A, B), with random sample means; returns design, donors, means and samples."""
    frame = pd.DataFrame(rows, columns=["donor", "A", "B"]).loc[np.repeat(range(len(rows)), n_cells)]
    donors, names = pd.factorize(frame["donor"], sort=True)
    design = make_design(frame[["A", "B"]].reset_index(drop=True))
    samples = sample_units(design, donors)
    means = np.random.default_rng(seed).normal(size=(len(samples.counts), 3))
    of = {(d, g): s for s, (d, g) in enumerate(zip(donors[np.unique(samples.codes, return_index=True)[1]],
                                                   samples.groups, strict=True))}  # fmt: skip
    group = {tuple(levels): c for c, levels in enumerate(design.group_levels().to_numpy().tolist())}

    def mean(donor, a, b):
        return means[of[list(names).index(donor), group[a, b]]]

    return design, donors, means, samples, mean, names


SPLIT = [(f"{a}{d}", a, b) for a in "xy" for d in range(3) for b in "pq"]


def test_a_factor_between_donors_is_judged_by_their_means():
    design, donors, means, samples, mean, names = study(SPLIT)
    units = donor_units(Effect(("A",)), design, donors, means, samples)
    expected = [(mean(d, d[0], "p") + mean(d, d[0], "q")) / 2 for d in names]
    np.testing.assert_allclose(units.values[:, 0], expected)
    assert units.groups.tolist() == [0, 0, 0, 1, 1, 1]
    assert units.rows == slice(1, 2)


@pytest.mark.parametrize("effect", [("B",), ("A", "B")])
def test_a_factor_within_donors_is_judged_by_their_differences(effect):
    design, donors, means, samples, mean, names = study(SPLIT)
    units = donor_units(Effect(effect), design, donors, means, samples)
    expected = np.array([mean(d, d[0], "p") - mean(d, d[0], "q") for d in names])
    np.testing.assert_allclose(np.abs(units.values[:, 0]), np.abs(expected) / np.sqrt(2))
    assert units.rows == (slice(1, 2) if effect == ("A", "B") else slice(0, 1))


def test_without_outer_factors_there_is_one_group():
    design, donors, means, samples, mean, names = study([(d, a, b) for d in "klm" for a in "xy" for b in "pqr"])
    units = donor_units(Effect(("A", "B")), design, donors, means, samples)
    assert units.values.shape == (3, 2, 3)
    assert units.groups.tolist() == [0, 0, 0]
    differences = np.stack([[mean(d, "x", b) - mean(d, "y", b) for b in "pqr"] for d in names])
    centred = differences - differences.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(np.sum(units.values**2, axis=1), np.sum(centred**2, axis=1) / 2)


def test_donors_without_the_groups_of_a_contrast_are_left_out_by_name():
    rows = [(d, a, b) for d in "klm" for a in "xy" for b in "pq"] + [("n", "x", "p"), ("n", "x", "q")]
    design, donors, means, samples, _, names = study(rows)
    units = donor_units(Effect(("A",)), design, donors, means, samples)
    assert left_out(units, names) == ["n"]
    within = donor_units(Effect(("B",)), design, donors, means, samples)
    assert len(within.values) == 3  # the interaction is in the fit, so the difference needs both levels of A


def test_too_few_donors_with_the_groups_are_refused():
    rows = [("m", a, b) for a in "xy" for b in "pq"] + [("n", "x", "p"), ("n", "x", "q")]
    design, donors, means, samples, *_ = study(rows)
    with pytest.raises(ValueError, match="'A'"):
        donor_units(Effect(("A",)), design, donors, means, samples)


def test_the_numbers_of_cells_of_donors_do_not_matter():
    design, donors, means, samples, *_ = study(SPLIT)
    keep = np.ones(len(donors), dtype=bool)
    keep[[0, 5, 6]] = False  # samples keep one cell
    part = design.subset(np.flatnonzero(keep))
    again = donor_units(Effect(("B",)), part, donors[keep], means, sample_units(part, donors[keep]))
    expected = donor_units(Effect(("B",)), design, donors, means, samples)
    np.testing.assert_allclose(again.values, expected.values)
