"""Starts, silent units and collapsed fits."""

import numpy as np

from flda.circuits import CircuitModel, Connection, Population, simulate
from flda.circuits._path import climb, collapsed, without_idle, without_silent
from flda.circuits._solve import Problem
from flda.circuits._start import starting_weights


def test_starting_weights_drive_every_unit():
    for name in ("1", "2", "3A", "3B"):
        circuit = simulate.retina_circuit(name)
        X, y = circuit.sample(200, random_state=0)
        for model in (circuit.model, circuit.model.unsigned()):
            theta = starting_weights(model, X, y[:, None], 0)
            active = model.activities(model.weights(theta), X)["amacrine"] > 0
            assert (active.mean(axis=0) > 0.05).mean() > 0.9
        theta = starting_weights(circuit.model, X, y[:, None], 0)
        assert (theta * circuit.model.signs > 0).all()
        assert circuit.model.predict(circuit.model.weights(theta), X).std() > 0.4 * y.std()  # the output is alive


def test_units_that_affect_no_response_have_no_synapses():
    """One unit never fires, one has no output, one reaches only a silent unit; the fourth is kept."""
    model = CircuitModel(
        [Population("in", 2), Population("a", 3), Population("b", 2), Population("out", 1, rectify=False)],
        [
            Connection("in", "a", np.full((2, 3), np.nan)),
            Connection("a", "b", np.full((3, 2), np.nan)),
            Connection("b", "out", np.full((2, 1), np.nan)),
        ],
    )
    X = np.abs(np.random.default_rng(0).normal(size=(20, 2)))
    weights = {
        "in->a": np.array([[1.0, -1.0, 2.0], [1.0, -2.0, 0.0]]),  # unit 1 never fires
        "a->b": np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 3.0]]),  # unit 2 reaches only unit 1 of b
        "b->out": np.array([[2.0], [0.0]]),  # which has no output
    }
    theta, silent = without_silent(model, model.parameters(weights), X)
    kept = model.weights(theta)
    assert {name: index.tolist() for name, index in silent.items()} == {"a": [1, 2], "b": [1]}
    np.testing.assert_array_equal(kept["in->a"], [[1, 0, 0], [1, 0, 0]])
    np.testing.assert_array_equal(kept["a->b"], [[1, 0], [0, 0], [0, 0]])
    np.testing.assert_array_equal(model.predict(kept, X), model.predict(weights, X))


def test_a_unit_that_costs_more_than_it_explains_is_removed():
    """The second unit fires in one sample, where it explains nothing; the first explains all."""
    model = CircuitModel(
        [Population("in", 2), Population("a", 2, threshold=1.0), Population("out", 1, rectify=False)],
        [
            Connection("in", "a", np.array([[1.0, 0.0], [0.0, 1.0]])),
            Connection("a", "out", np.ones((2, 1)), penalty=0.0),
        ],
    )
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.uniform(0, 3, 50), np.r_[2.0, np.zeros(49)]])
    truth = model.parameters({"in->a": np.array([[1.0, 0.0], [0.0, 0.0]]), "a->out": np.array([[1.0], [0.0]])})
    y = model.predict(model.weights(truth), X)[:, None]
    idle = model.parameters({"in->a": np.array([[1.0, 0.0], [0.0, 0.6]]), "a->out": np.array([[1.0], [0.01]])})
    np.testing.assert_array_equal(without_idle(Problem(model, (X, y)), idle, 0.01 * model.penalties), truth)
    needed = model.parameters({"in->a": np.eye(2), "a->out": np.ones((2, 1))})
    y = model.predict(model.weights(needed), X)[:, None]
    np.testing.assert_array_equal(without_idle(Problem(model, (X, y)), needed, 1e-4 * model.penalties), needed)


def test_a_penalty_that_silences_the_circuit_does_not_end_the_path():
    circuit = simulate.retina_circuit("3B")
    X, y = circuit.sample(300)
    samples = (X, y[:, None])
    fits = list(climb(Problem(circuit.model, samples), samples, 0, [100.0, 0.01]))
    assert not fits[0].theta.any()
    assert fits[1].error < 0.01
    assert collapsed(circuit.model, samples, fits[0].theta)
    assert not collapsed(circuit.model, samples, fits[1].lasso)
