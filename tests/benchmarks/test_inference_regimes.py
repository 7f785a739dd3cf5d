"""The regimes of the levels and the peers of the power run at a small size, and the peers are those of scipy."""

import inference_power
import inference_regimes
import numpy as np
import pytest
from scipy.stats import ttest_ind, ttest_rel

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", list(inference_regimes.REGIMES))
def test_regimes(name):
    row = inference_regimes.level(name, 20, 2, 9, 1)
    assert row["data sets"] == 2
    assert 0 <= row["FDP at FDR .1"] <= 1


@pytest.mark.parametrize("name", ["20 cells of sd 3, 180 of sd 1", "6 paired donors", "8 libraries in 4 donors"])
def test_power_beside_peers(monkeypatch, name):
    monkeypatch.setattr(inference_power, "N_AIM", 4)
    row = inference_power.row(name, 20, 4, 2, 9, 1)
    assert set(inference_regimes.REGIMES[name].peers) <= set(row)


def test_moderated_t_of_pairs_is_the_t_test_where_nothing_is_shared():
    data = inference_regimes.paired(np.random.default_rng(0), np.zeros(5), 6)  # too few genes for a prior
    _, p = inference_power.moderated_t(data, None)
    np.testing.assert_allclose(p, ttest_rel(data.Y[1::2], data.Y[::2]).pvalue)


def test_welch_is_scipys():
    data = inference_regimes.two_groups(np.random.default_rng(0), np.zeros(5), (5, 9), (2, 1))
    own, other = data.Y[:5], data.Y[5:]
    np.testing.assert_allclose(inference_power.welch(data, None)[1], ttest_ind(own, other, equal_var=False).pvalue)
