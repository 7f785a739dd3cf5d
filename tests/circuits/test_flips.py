"""Hidden units whose sign the responses do not determine."""

import numpy as np
import pytest

from flda.circuits import flip_unit, flippable_units, system_recovery

from circuit_problems import small


@pytest.mark.parametrize("threshold", [0.0, 0.7])
def test_a_flipped_unit_is_another_circuit_with_the_same_responses(threshold):
    model, w, X = small(threshold)
    other, flipped = flip_unit(model, w, "hidden", 1)
    np.testing.assert_allclose(other.predict(flipped, X), model.predict(w, X), atol=1e-12)
    assert system_recovery(flipped, w) < 0.9
    # within the model the unit can be flipped only if its known threshold stays the same
    assert flippable_units(model, w)["flippable"].tolist() == [threshold == 0] * 3


def test_known_signs_or_a_missing_path_exclude_the_flip():
    model, w, _ = small(signs=np.ones((4, 3)))
    w["in->hidden"] = np.abs(w["in->hidden"])
    table = flippable_units(model, w)
    assert not table["free_signs"].any()
    assert not table["flippable"].any()
    bare, w, _ = small(skip=False)
    assert not flippable_units(bare, w)["direct_path"].any()
    with pytest.raises(ValueError, match="in->out"):
        flip_unit(bare, w, "hidden", 0)
