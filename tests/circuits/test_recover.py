"""Recovery of circuits with known truth, judged on weights and on samples that were not fitted."""

import numpy as np
import pytest

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
from flda.circuits._confidence import standard_errors
from flda.circuits._solve import Problem


@pytest.fixture(scope="module")
def retina():
    circuit = simulate.retina_circuit("2", n_kernels=3)
    return circuit, circuit.sample(340, random_state=0)


@pytest.fixture(scope="module")
def recovered(retina):
    circuit, (X, y) = retina
    return recover_circuit(circuit.model, X, y)


def test_defaults_recover_the_circuit(retina, recovered):
    circuit, _ = retina
    assert system_recovery(recovered.weights, circuit.truth) > 0.9999
    assert support_recovery(recovered.weights, circuit.truth) == 1
    parameters = circuit.model.parameters(recovered.weights)
    assert (parameters * circuit.model.signs >= 0).all()
    assert np.count_nonzero(parameters) == np.count_nonzero(circuit.model.parameters(circuit.truth))  # exact zeros
    X_test, y_test = circuit.sample(300, random_state=2)
    np.testing.assert_allclose(recovered.predict(X_test), y_test, atol=0.01 * y_test.std())
    assert recovered.path["chosen"].sum() == 1
    true = circuit.truth["bipolar->ganglion"] != 0
    assert (recovered.confidence["bipolar->ganglion"][true] > 0.95).all()
    assert recovered.agreement > 0.99
    assert recovered.learning["n_samples"].tolist() == [170, 340]
    assert not recovered.warnings
    (fact,) = recovered.notes
    assert fact.startswith("21 of 25 amacrine units (0, 1, 2, ...) affect no response")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["1", "3A", "3B"])
def test_defaults_recover_the_other_circuits(name):
    circuit = simulate.retina_circuit(name, n_kernels=3)
    X, y = circuit.sample(340, random_state=1)
    found = recover_circuit(circuit.model, X, y, halves=False)
    assert system_recovery(found.weights, circuit.truth) > 0.999


@pytest.mark.slow
def test_prediction_does_not_certify_weights(retina):
    """Without a penalty the held-out responses are nearly as good and the weights are not."""
    circuit, (X, y) = retina
    free = recover_circuit(circuit.model, X, y, penalties=[0.0], halves=False, n_restarts=1)
    assert free.path["r2_validation"][0] > 0.9
    assert system_recovery(free.weights, circuit.truth) < 0.8
    assert any("no penalty" in note for note in free.warnings)


def test_too_few_samples_are_reported(recwarn):
    circuit = simulate.retina_circuit("3B", n_kernels=3)
    X, y = circuit.sample(60, noise=0.3, random_state=0)
    found = recover_circuit(circuit.model, X, y, n_restarts=1)
    assert system_recovery(found.weights, circuit.truth) < 0.9
    assert any("too few samples" in note for note in found.warnings)
    assert found.warnings[0] in " ".join(str(w.message) for w in recwarn)
    assert found.notes[: len(found.warnings)] == found.warnings


def test_starts_follow_until_two_find_the_same_circuit(retina, recovered):
    assert recovered.path["start"].unique().tolist() == [0]  # it makes no error
    circuit, _ = retina
    X, y = circuit.sample(340, noise=0.1, random_state=0)
    found = recover_circuit(circuit.model, X, y, halves=False)
    assert found.path["start"].nunique() == 2
    assert system_recovery(found.weights, circuit.truth) > 0.99
    assert not found.warnings


def test_a_circuit_that_no_second_start_finds_is_reported():
    """Without signs the two starts end in different minima, and the better prediction is far from the truth."""
    circuit = simulate.retina_circuit("1", n_kernels=3, random_state=7)
    X, y = circuit.sample(340, random_state=10)
    found = recover_circuit(circuit.model.unsigned(), X, y, halves=False, n_restarts=2)
    assert system_recovery(found.weights, circuit.truth) < 0.9
    assert any("wrong minimum" in note for note in found.warnings)


def test_a_circuit_that_the_start_of_a_half_does_not_find_is_reported():
    circuit = simulate.retina_circuit("3B", n_kernels=3, random_state=7)
    X, y = circuit.sample(200, random_state=0)
    found = recover_circuit(circuit.model.unsigned(), X, y, n_restarts=1)
    assert system_recovery(found.weights, circuit.truth) < 0.9
    assert any("wrong minimum" in note for note in found.warnings)


def test_a_stimulus_that_drives_no_hidden_unit_is_reported():
    circuit = simulate.retina_circuit("2", n_kernels=3)
    X, y = circuit.sample(300, stimulus="white", random_state=0)
    found = recover_circuit(circuit.model, X, y, halves=False, n_restarts=1)
    assert any("choose a stimulus that drives them" in note for note in found.warnings)
    assert np.isnan(found.agreement)
    assert np.isnan(found.confidence["bipolar->ganglion"]).all()  # every pair is a synapse of the model


def test_shared_weights_and_several_outputs():
    rng = np.random.default_rng(1)
    X = np.abs(rng.normal(size=(300, 4)))
    sharing = np.array([[0, 1], [1, 0], [2, 3], [3, 2]])
    model = CircuitModel(
        [Population("in", 4), Population("out", 2, gain=2.0, threshold=0.5)],
        [Connection("in", "out", np.ones((4, 2)), sharing)],
    )
    truth = model.weights(np.array([1.0, 0.0, 0.5, 0.3]))
    found = recover_circuit(model, X, model.predict(truth, X))
    assert system_recovery(found.weights, truth) > 0.9999
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
    found = recover_circuit(model, X, y)
    assert np.corrcoef(found.predict(X), y)[0, 1] ** 2 > 0.999
    assert (found.weights["in->hidden"] >= 0).all()
    # v relu(w x) has no scale of its own: compare the product
    effective = dict.fromkeys("a", found.weights["in->hidden"] * found.weights["hidden->out"][0, 0])
    true_effective = dict.fromkeys("a", truth["in->hidden"] * truth["hidden->out"][0, 0])
    assert system_recovery(effective, true_effective) > 0.99


def test_equal_seeds_give_equal_weights_and_units_of_the_responses_do_not_matter(retina):
    circuit, (X, y) = retina
    a, b = (recover_circuit(circuit.model, X, y, halves=False).weights for _ in range(2))
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])
    rng = np.random.default_rng(3)
    X = rng.normal(size=(100, 5))
    model = CircuitModel(
        [Population("in", 5), Population("out", 1, rectify=False)], [Connection("in", "out", np.ones((5, 1)))]
    )
    truth = {"in->out": np.array([[1.0], [0.0], [2.0], [0.0], [0.0]])}
    for unit in (1e-6, 1e6):
        found = recover_circuit(model, X, unit * model.predict(truth, X))
        np.testing.assert_allclose(found.weights["in->out"] / unit, truth["in->out"], atol=1e-2)


def test_given_validation_samples_only_choose_the_penalty(retina):
    circuit, (X, y) = retina
    held = circuit.sample(100, random_state=5)
    found = recover_circuit(circuit.model, X, y, validation=held, penalties=[10.0, 0.03], halves=False)
    assert found.penalty == 0.03
    assert found.learning["n_samples"].tolist() == [340]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["2", "3A"])
def test_twenty_eight_kernels(name):
    circuit = simulate.retina_circuit(name, n_kernels=28)
    X, y = circuit.sample(340, random_state=1)
    found = recover_circuit(circuit.model, X, y, halves=False)
    assert system_recovery(found.weights, circuit.truth) > 0.99


def test_bad_input(retina):
    circuit, (X, y) = retina
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
    with pytest.raises(ValueError, match="n_restarts=0"):
        recover_circuit(model, X, y, n_restarts=0)
    with pytest.raises(ValueError, match="penalties"):
        recover_circuit(model, X, y, penalties=[-1.0])
    with pytest.raises(ValueError, match="validation=0"):
        recover_circuit(model, X, y, validation=0.0)


def test_standard_errors_are_those_of_least_squares():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(200, 3)) @ np.array([[1.0, 0.9, 0.0], [0.0, 0.4, 0.0], [0.0, 0.0, 1.0]])
    model = CircuitModel(
        [Population("in", 3), Population("out", 1, rectify=False)], [Connection("in", "out", np.ones((3, 1)))]
    )
    theta = np.array([5.0, 4.0, 0.0])
    found = standard_errors(Problem(model, (X, X @ theta[:, None])), theta, 0.3)
    used = X[:, :2]
    np.testing.assert_allclose(found[:2], np.sqrt(0.3 * np.diag(np.linalg.inv(used.T @ used))), rtol=1e-3)
    assert found[2] == 0


def test_standard_errors_with_more_weights_than_samples():
    rng = np.random.default_rng(6)
    X, theta = rng.normal(size=(8, 20)), rng.uniform(0.5, 2, size=20)
    model = CircuitModel(
        [Population("in", 20), Population("out", 1, rectify=False)], [Connection("in", "out", np.ones((20, 1)))]
    )
    found = standard_errors(Problem(model, (X, X @ theta[:, None])), theta, 0.3)
    D = np.sqrt(np.mean(theta**2))
    np.testing.assert_allclose(found, np.sqrt(np.diag(0.3 * np.linalg.inv(X.T @ X + 0.3 / D**2 * np.eye(20)))))
