"""Numbers about genes: specificity, kinds and signs."""

import numpy as np
import pandas as pd

from flda.metrics import largest_signs, specificity


def test_specificity_is_the_share_of_the_effect_beyond_noise():
    ratios = pd.DataFrame({"A": [8.0, 1.0, 2.0, np.nan, 0.5], "B": [3.0, 3.0, 2.0, np.nan, 0.9]})
    share, _ = specificity(ratios, "A", {"A": 1, "B": 1})
    np.testing.assert_allclose(share, [7 / 9, 0, 0.5, np.nan, np.nan])


def test_a_gene_cancels_if_another_effect_is_larger_and_significant():
    ratios = pd.DataFrame({"A": [8.0, 8.0, 1.0, 1.0, 1.0, np.nan], "B": [7.9, 20.0, 5.0, 20.0, 1.0, np.nan],
                           "C": [1.0, 1.0, 1.0, 1.0, 5.0, np.nan]})  # fmt: skip
    kind = specificity(ratios, "A", {"A": 1, "B": 1, "C": 6})[1]
    assert kind.tolist() == ["pure", "cancelling", "pure", "cancelling", "cancelling", "pure"]


def test_weak_pure_genes_are_not_called_cancelling_by_chance():
    """F of an effect of noncentrality 9 beside six degrees of freedom of pure noise, in 4,000 genes."""
    rng = np.random.default_rng(0)
    ratios = pd.DataFrame({"A": rng.noncentral_chisquare(1, 9, 4000), "B": rng.chisquare(2, 4000) / 2,
                           "A:B": rng.chisquare(2, 4000) / 2})  # fmt: skip
    kind = specificity(ratios, "A", {"A": 1, "B": 2, "A:B": 2})[1]
    assert np.mean(kind == "cancelling") < 0.003


def test_the_largest_loading_is_made_positive():
    standardised = np.array([[1.0, -2.0, 3.0], [-4.0, 1.0, -3.0], [0.0, -1.0, 1.0]])
    assert largest_signs(standardised).tolist() == [-1, -1, 1]  # the first one on ties
