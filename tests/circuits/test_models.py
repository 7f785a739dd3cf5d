"""Circuits of several populations: responses, shared weights, bad wiring."""

import numpy as np
import pytest

from flda.circuits import CircuitModel, Connection, Population

from circuit_problems import small


def test_responses_by_hand():
    model, w, X = small(threshold=0.3)
    hidden = np.maximum(2 * X @ w["in->hidden"] - 0.3, 0)
    np.testing.assert_allclose(model.predict(w, X), (hidden @ w["hidden->out"] + X @ w["in->out"])[:, 0])


def test_parameters_and_weights_are_inverse_and_shared_weights_are_one():
    sharing = np.array([[0, 1], [1, 0], [2, 2]])
    signs = np.array([[1.0, -1.0], [-1.0, 1.0], [0.0, np.nan]])
    model = CircuitModel(
        [Population("a", 3), Population("b", 2, rectify=False)], [Connection("a", "b", signs, sharing, penalty=0.5)]
    )
    assert model.n_parameters == 3
    np.testing.assert_array_equal(model.signs, [1, -1, np.nan])
    np.testing.assert_array_equal(model.penalties, 0.5)
    w = model.weights(np.array([2.0, -3.0, 0.5]))
    np.testing.assert_array_equal(w["a->b"], [[2, -3], [-3, 2], [0, 0.5]])
    np.testing.assert_array_equal(model.parameters(w), [2, -3, 0.5])


@pytest.mark.parametrize(
    ("connections", "message"),
    [
        ([Connection("a", "b", np.ones((2, 2)))], r"'a->b'.*\(2, 2\).*\(3, 2\)"),
        ([Connection("a", "b", np.full((3, 2), 0.5))], r"'a->b'.*\(0, 0\) is 0.5"),
        ([Connection("b", "a", np.ones((2, 3)))], "'b->a'"),
        ([Connection("a", "c", np.ones((3, 2)))], "'a->c'.*'c'"),
        (
            [Connection("a", "b", np.array([[1, -1], [1, 1], [1, 1]]), np.zeros((3, 2), int))],
            r"'a->b'.*\(0, 1\)",
        ),
    ],
)
def test_bad_circuits(connections, message):
    with pytest.raises(ValueError, match=message):
        CircuitModel([Population("a", 3), Population("b", 2)], connections)
