"""Recovery of weights, synapses and hidden units."""

import numpy as np
import pytest

from flda.circuits import canonical_scale, matched_recovery, support_recovery, system_recovery


def test_recovery_scores():
    truth = np.array([0.8, 0.0, -0.4])
    assert system_recovery(truth, truth) == pytest.approx(1)
    assert system_recovery(truth / 2, truth) == pytest.approx(0.8)  # the wrong scale counts
    assert system_recovery({"a": truth[:1], "b": truth[1:]}, {"a": truth[:1], "b": truth[1:]}) == pytest.approx(1)
    assert support_recovery(np.array([0.1, 0.1, -0.1]), truth) == pytest.approx(0.8)
    assert support_recovery(np.array([0.1, 0.0, 0.1]), truth) == pytest.approx(0.5)  # a wrong sign is not found
    assert support_recovery(np.array([0.05, 0.0, -0.1]), truth) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match=r"\(2,\).*\(3,\)"):
        system_recovery(np.ones(2), truth)
    with pytest.raises(ValueError, match="zero"):
        system_recovery(np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match="NaN"):
        system_recovery(np.full(3, np.nan), truth)
    with pytest.raises(ValueError, match=r"'a'.*'b'"):
        system_recovery({"a": truth}, {"b": truth})


def test_matched_recovery_is_blind_to_order_and_scale_of_hidden_units_only():
    rng = np.random.default_rng(0)
    w, v = rng.normal(size=(8, 6)), rng.normal(size=(6, 2))
    order, scale = rng.permutation(6), rng.uniform(0.2, 5, 6)
    moved = (w * scale)[:, order], (v / scale[:, None])[order]
    assert matched_recovery(*moved, w, v) == pytest.approx(1)
    assert matched_recovery(*moved, w, v, rescale=False) < 0.95
    assert matched_recovery(-moved[0], moved[1], w, v) < 0.9
    cw, cv = canonical_scale(w, v)
    np.testing.assert_allclose(np.linalg.norm(cw, axis=0), 1)
    x = rng.normal(size=(20, 8))
    np.testing.assert_allclose(np.maximum(x @ cw, 0) @ cv, np.maximum(x @ w, 0) @ v)
