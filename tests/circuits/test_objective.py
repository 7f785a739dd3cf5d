"""The error of a circuit and its gradient, against the model's own prediction and finite differences."""

import numpy as np
import pytest

from flda.circuits import CircuitModel, Connection, Population
from flda.circuits._objective import Objective
from flda.circuits._solve import Problem


def deep(rng):
    """Two hidden populations, skips, shared weights, unknown signs, gains and several outputs."""
    sharing = np.arange(12).reshape(4, 3) // 2
    return CircuitModel(
        [
            Population("in", 4),
            Population("first", 3, gain=np.array([1.0, 2.0, 0.5]), threshold=0.1),
            Population("second", 2, threshold=-0.2),
            Population("out", 2, threshold=np.array([0.0, -0.3])),
        ],
        [
            Connection("in", "first", np.full((4, 3), np.nan), sharing),
            Connection("in", "second", rng.choice([0.0, np.nan], size=(4, 2))),
            Connection("first", "second", np.full((3, 2), np.nan)),
            Connection("second", "out", np.full((2, 2), np.nan)),
            Connection("first", "out", np.full((3, 2), np.nan)),
        ],
    )


def test_error_and_gradient():
    rng = np.random.default_rng(0)
    model = deep(rng)
    X, y, theta = rng.normal(size=(40, 4)), rng.normal(size=(40, 2)), rng.normal(size=model.n_parameters)
    objective = Objective(model, X, y, np.arange(model.n_parameters))
    error, gradient = objective(theta)
    assert error == pytest.approx(((model.predict(model.weights(theta), X) - y) ** 2).sum() / 80)
    for i in range(model.n_parameters):
        step = np.zeros(model.n_parameters)
        step[i] = 1e-6
        numeric = (objective(theta + step)[0] - objective(theta - step)[0]) / 2e-6
        assert gradient[i] == pytest.approx(numeric, abs=1e-6)


def test_jacobian():
    rng = np.random.default_rng(3)
    model = deep(rng)
    X, y, theta = rng.normal(size=(20, 4)), rng.normal(size=(20, 2)), rng.normal(size=model.n_parameters)
    objective = Objective(model, X, y, np.arange(model.n_parameters))
    found = objective.jacobian(theta)
    for i in range(model.n_parameters):
        step = np.zeros(model.n_parameters)
        step[i] = 1e-6
        numeric = (model.predict(model.weights(theta + step), X) - model.predict(model.weights(theta - step), X)) / 2e-6
        np.testing.assert_allclose(found[:, :, i], numeric, atol=1e-6)


def test_a_working_set_gives_the_same_error_and_its_part_of_the_gradient():
    rng = np.random.default_rng(1)
    model = deep(rng)
    X, y, theta = rng.normal(size=(30, 4)), rng.normal(size=(30, 2)), rng.normal(size=model.n_parameters)
    at = np.flatnonzero(rng.random(model.n_parameters) < 0.5)
    theta[np.setdiff1d(np.arange(model.n_parameters), at)] = 0
    full = Objective(model, X, y, np.arange(model.n_parameters))(theta)
    part = Objective(model, X, y, at)(theta[at])
    assert part[0] == pytest.approx(full[0])
    np.testing.assert_allclose(part[1], full[1][at], atol=1e-12)


def test_a_circuit_without_hidden_units_is_the_signed_lasso():
    from flda.circuits import SignedLinear

    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 6))
    y = X @ np.array([1.0, 0.0, -0.7, 0.5, 0.4, 0.0]) + 0.1 * rng.normal(size=200)
    signs = np.array([1, 1, -1, np.nan, -1, 1.0])  # the fifth sign is wrong
    model = CircuitModel(
        [Population("in", 6), Population("out", 1, rectify=False)], [Connection("in", "out", signs[:, None])]
    )
    for penalty in (0.0, 0.05):
        exact = SignedLinear(signs, alpha=penalty, fit_intercept=False).fit(X, y).coef_
        found = Problem(model, (X, y[:, None])).solve(np.where(np.isnan(signs), -0.1, 0.1 * signs), np.full(6, penalty))
        np.testing.assert_allclose(found, exact, atol=1e-3)
        assert found[4] == exact[4] == 0
