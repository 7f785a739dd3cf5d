"""What the benchmark of designs measures, at a small size."""

import designs
import numpy as np
import pytest

import flda


def test_every_study_can_be_tested(monkeypatch):
    monkeypatch.setattr(designs, "N_FLIPS", 19)
    table = designs.level(1)
    assert table["study"].tolist() == list(designs.STUDIES)
    assert table["genes"].between(0, 0.5).all()


def test_size_factors_undo_a_few_high_genes():
    rng = np.random.default_rng(0)
    rates = rng.gamma(2, 50, size=200)
    counts = rng.poisson(rates * np.array([[1.0], [2.0], [1.0]]))
    counts[2, :5] = 50_000
    size = designs.size_factors(counts)
    np.testing.assert_allclose(size / size[0], [1, 2, 1], rtol=0.05)


@pytest.mark.data
def test_simple_effects_of_mammary_agree_with_edger():
    """Simple effects of mammary agree with those of edgeR."""
    adata = designs.prepared("ratios")
    flda.tl.flda(adata, ["cell_type", "status"], contrasts=designs.PAIRS, shrinkage=0.5)
    table = designs.agreement(adata)
    assert (table[["F", "change"]] > 0.9).all(axis=None)
    assert (table["first_100"] >= 60).all()


def test_regions():
    ppm = np.array([2.6, 3.98, 5.0, 7.6])
    assert designs.in_region("citrate", ppm).tolist() == [True, False, False, False]
    assert designs.in_region("hippurate", ppm).tolist() == [False, True, False, True]
