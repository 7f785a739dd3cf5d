"""Hidden units whose sign the responses do not determine."""

import numpy as np
import pytest

from flda.circuits import flip_unit, flippable_units, simulate, system_recovery

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


def test_a_retina_and_its_flipped_twin_respond_alike_to_new_images():
    retina = simulate.retina_circuit("2", n_kernels=3)
    X, y = retina.sample(100, random_state=3)
    other, w = retina.model, retina.truth
    units = np.flatnonzero(retina.truth["amacrine->ganglion"])
    for unit in units:
        other, w = flip_unit(other, w, "amacrine", unit)
    np.testing.assert_allclose(other.predict(w, X), y, atol=1e-9 * y.std())
    # every unit with inputs now has inputs of the other sign, and the direct synapses carry its linear part
    assert (w["bipolar->amacrine"] == -retina.truth["bipolar->amacrine"]).all()
    assert (w["bipolar->ganglion"] < 0).sum() == 16
    assert system_recovery(w, retina.truth) < 0.7
    # known signs exclude the twin: it has synapses of the wrong sign in the model that states them
    assert (retina.model.parameters(w) * retina.model.signs < 0).any()
