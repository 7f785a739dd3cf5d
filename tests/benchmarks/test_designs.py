"""What the benchmark of designs measures, at a small size."""

import designs
import numpy as np
import pandas as pd
import pytest
import responses

import flda


def test_every_study_can_be_tested(monkeypatch):
    monkeypatch.setattr(designs, "N_FLIPS", 19)
    table = designs.level(1)
    assert table["study"].tolist() == list(designs.STUDIES)
    assert table["genes"].between(0, 0.5).all()


def test_rows_of_studies_that_are_not_run_are_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(designs, "N_FLIPS", 19)
    monkeypatch.setattr(designs, "OUT", tmp_path)
    before = pd.DataFrame({"study": ["simple effect", "one unit per group"], "genes": [0.25, 7.0]})
    before.to_csv(tmp_path / "designs_level.csv", index=False)
    table = designs.level(1, ["one unit per group"]).set_index("study")["genes"]
    assert table["simple effect"] == 0.25
    assert table["one unit per group"] <= 1


def test_samples_of_donors_that_respond_are_warned_of():
    rows = {row["fit"]: row for row in responses.study(1.0, 0)}
    assert rows["samples"]["warned"]
    assert rows["weighted"]["warned"]
    assert rows["samples"]["ratio"] > 3
    assert not rows["donors"]["rejected"]


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
