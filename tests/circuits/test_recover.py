"""Recovery of circuits with known truth, judged on weights and on samples that were not fitted."""

import numpy as np
import pytest

pytest.importorskip("jax", reason="jax is in the extra 'circuits'")
pytest.importorskip("optax", reason="optax is in the extra 'circuits'")

from flda.circuits import (
    CircuitModel,
    Connection,
    Population,
    flip_unit,
    recover_circuit,
    simulate,
    support_recovery,
    system_recovery,
)


@pytest.fixture(scope="module")
def retina():
    circuit = simulate.retina_circuit("2", n_kernels=3)
    return circuit, circuit.sample(340, random_state=0), circuit.sample(300, random_state=1)


@pytest.fixture(scope="module")
def recovered(retina):
    circuit, (X, y), held = retina
    return recover_circuit(circuit.model, X, y, validation=held, penalties=[0.0, 0.005], n_restarts=2)


def test_signed_and_sparse_recovers_the_circuit(retina, recovered):
    circuit, (_, _), _ = retina
    assert recovered.penalty == 0.005  # the larger of two that predict equally well
    assert system_recovery(recovered.weights, circuit.truth) >= 0.95
    assert support_recovery(recovered.weights, circuit.truth) >= 0.85
    parameters = circuit.model.parameters(recovered.weights)
    assert (parameters * circuit.model.signs >= 0).all()
    assert (parameters == 0).mean() > 0.7  # exact zeros
    X_test, y_test = circuit.sample(300, random_state=2)
    assert np.corrcoef(recovered.predict(X_test), y_test)[0, 1] ** 2 > 0.999
    assert recovered.agreement > 0.95
    assert recovered.path["chosen"].sum() == 1
    true = circuit.truth["bipolar->ganglion"] != 0
    assert (recovered.support["bipolar->ganglion"][true] == 1).all()
    assert recovered.support["bipolar->ganglion"][~true].mean() < 0.1


def test_prediction_does_not_certify_weights(retina, recovered):
    """Without a penalty the held-out responses are as good and the weights are not."""
    circuit, (X, y), held = retina
    path = recovered.path.groupby("penalty")["r2_validation"].max()
    assert path[0.0] > 0.99
    free = recover_circuit(circuit.model, X, y, validation=held, penalties=[0.0], n_restarts=1)
    assert system_recovery(free.weights, circuit.truth) < 0.7
    assert any("penalty" in note for note in free.notes)


def test_without_signs_recovery_is_worse(retina, recovered):
    circuit, (X, y), held = retina
    free = recover_circuit(
        circuit.model, X, y, validation=held, penalties=[0.005], n_restarts=1, parameterisation="free"
    )
    assert np.isnan(free.model.signs).all()
    assert system_recovery(free.weights, circuit.truth) < system_recovery(recovered.weights, circuit.truth) - 0.1


def test_undriven_units_are_reported(caplog):
    circuit = simulate.retina_circuit("2", n_kernels=3)
    X, y = circuit.sample(300, stimulus="white", random_state=0)
    found = recover_circuit(circuit.model, X, y, penalties=[0.005], n_restarts=1, n_steps=1500)
    (note,) = [note for note in found.notes if " of 25 amacrine" in note]
    assert note in caplog.text
    assert np.isnan(found.agreement)  # one restart agrees with no other


def test_shared_weights_and_several_outputs():
    rng = np.random.default_rng(1)
    X = np.abs(rng.normal(size=(300, 4)))
    sharing = np.array([[0, 1], [1, 0], [2, 3], [3, 2]])
    model = CircuitModel(
        [Population("in", 4), Population("out", 2, gain=2.0, threshold=0.5)],
        [Connection("in", "out", np.ones((4, 2)), sharing)],
    )
    truth = model.weights(np.array([1.0, 0.0, 0.5, 0.3]))
    found = recover_circuit(model, X, model.predict(truth, X), penalties=[1e-4], n_restarts=2, n_steps=2000)
    assert system_recovery(found.weights, truth) > 0.999
    assert found.weights["in->out"][0, 0] == found.weights["in->out"][1, 1]


def test_the_signed_fit_rejects_a_flipped_circuit():
    """Both circuits explain the data; with known signs only the true one can be found."""
    rng = np.random.default_rng(2)
    X = np.abs(rng.normal(size=(400, 5))) - 0.4
    ones = np.ones
    model = CircuitModel(
        [Population("in", 5), Population("hidden", 1), Population("out", 1, rectify=False)],
        [
            Connection("in", "hidden", ones((5, 1))),
            Connection("hidden", "out", -ones((1, 1))),
            Connection("in", "out", ones((5, 1))),
        ],
    )  # fmt: skip
    truth = model.weights(np.array([0.8, 0.0, 0.6, 0.0, 0.0, -1.0, 0.0, 0.9, 0.0, 0.7, 0.0]))
    y = model.predict(truth, X)
    other, flipped = flip_unit(model, truth, "hidden", 0)
    np.testing.assert_allclose(other.predict(flipped, X), y, atol=1e-12)
    assert (model.parameters(flipped) * model.signs < 0).any()  # the other breaks the signs
    found = recover_circuit(model, X, y, penalties=[1e-3], n_restarts=3, n_steps=3000)
    assert np.corrcoef(found.predict(X), y)[0, 1] ** 2 > 0.99
    assert (found.weights["in->hidden"] >= 0).all()
    # v relu(w x) has no scale of its own: compare the product
    effective = dict.fromkeys("a", found.weights["in->hidden"] * found.weights["hidden->out"][0, 0])
    true_effective = dict.fromkeys("a", truth["in->hidden"] * truth["hidden->out"][0, 0])
    assert system_recovery(effective, true_effective) > 0.9


def test_equal_seeds_give_equal_weights(retina):
    circuit, (X, y), held = retina
    a, b = (
        recover_circuit(circuit.model, X, y, validation=held, penalties=[0.01], n_restarts=1, n_steps=200).weights
        for _ in range(2)
    )
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def test_bad_input(retina):
    circuit, (X, y), _ = retina
    model = circuit.model
    with pytest.raises(ValueError, match=r"X .*\(340, 299\).*300.*'bipolar'"):
        recover_circuit(model, X[:, 1:], y)
    with pytest.raises(ValueError, match=r"y .*\(339, 1\)"):
        recover_circuit(model, X, y[1:])
    damaged = y.copy()
    damaged[7] = np.nan
    with pytest.raises(ValueError, match=r"y .*sample 7, column 0"):
        recover_circuit(model, X, damaged)
    with pytest.raises(ValueError, match="validation y"):
        recover_circuit(model, X, y, validation=(X, damaged))
    with pytest.raises(ValueError, match=r"y .*340 samples"):
        recover_circuit(model, X, np.ones_like(y))
    with pytest.raises(ValueError, match="'softplus'"):
        recover_circuit(model, X, y, parameterisation="softplus")
    with pytest.raises(ValueError, match="penalties"):
        recover_circuit(model, X, y, penalties=[-1.0])
    with pytest.raises(ValueError, match="validation=0"):
        recover_circuit(model, X, y, validation=0.0)
