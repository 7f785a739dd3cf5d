"""Fits of a circuit: against the signed lasso, by their starting weights, and side by side."""

import numpy as np
import pytest

pytest.importorskip("jax", reason="jax is in the extra 'circuits'")
optax = pytest.importorskip("optax", reason="optax is in the extra 'circuits'")

from flda.circuits import (  # noqa: E402
    CircuitModel,
    Connection,
    Population,
    SignedLinear,
    fit_circuit,
    simulate,
)
from flda.circuits._start import starting_weights  # noqa: E402


def linear(signs):
    return CircuitModel(
        [Population("in", 6), Population("out", 1, rectify=False)], [Connection("in", "out", signs[:, None])]
    )


@pytest.mark.parametrize("parameterisation", ["projected", "absolute", "multiplicative"])
def test_a_circuit_without_hidden_units_is_the_signed_lasso(parameterisation):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 6))
    y = X @ np.array([1.0, 0.0, -0.7, 0.5, 0.4, 0.0]) + 0.1 * rng.normal(size=200)
    signs = np.array([1, 1, -1, np.nan, -1, 1.0])  # the fifth sign is wrong
    exact = SignedLinear(signs, alpha=0.05, fit_intercept=False).fit(X, y).coef_
    fit = fit_circuit(
        linear(signs), X, y, validation=(X, y), penalties=[0.05], seeds=[0], parameterisation=parameterisation,
        batch_size=200, n_steps=3000,
    )[0]  # fmt: skip
    np.testing.assert_allclose(fit, exact, atol=0.02)
    if parameterisation == "projected":
        assert fit[4] == exact[4] == 0


def test_starting_weights_drive_every_unit():
    for name in ("1", "2", "3A", "3B"):
        circuit = simulate.retina_circuit(name)
        X, y = circuit.sample(200, random_state=0)
        for model in (circuit.model, circuit.model.unsigned()):
            theta = starting_weights(model, X, y[:, None], 0)
            active = model.activities(model.weights(theta), X)["amacrine"] > 0
            assert (active.mean(axis=0) > 0.05).mean() > 0.9
        assert (starting_weights(circuit.model, X, y[:, None], 0) * circuit.model.signs > 0).all()


def test_fits_side_by_side_are_the_fits_one_by_one():
    """Each pair of a penalty and a seed has its own start, minibatches and samples."""
    circuit = simulate.retina_circuit("2", n_kernels=3)
    (X, y), held = circuit.sample(200), circuit.sample(100, random_state=1)
    subsets = np.stack([np.random.default_rng(k).permutation(200)[:150] for k in range(2)])
    options = {"validation": held, "n_steps": 100}
    both = fit_circuit(circuit.model, X, y, penalties=[0.01, 0.05], seeds=[3, 4], subsets=subsets, **options)
    for k, (penalty, seed) in enumerate([(0.01, 3), (0.05, 4)]):
        alone = fit_circuit(circuit.model, X, y, penalties=[penalty], seeds=[seed], subsets=subsets[[k]], **options)
        np.testing.assert_allclose(alone[0], both[k], atol=1e-4)
    assert not np.allclose(both[0], both[1])


def test_another_optimiser_keeps_the_signs():
    circuit = simulate.retina_circuit("2", n_kernels=3)
    X, y = circuit.sample(200)
    fit = fit_circuit(
        circuit.model, X, y, validation=(X, y), penalties=[0.01], seeds=[0], optimizer=optax.sgd, n_steps=50
    )[0]
    assert (fit * circuit.model.signs >= 0).all()
    assert fit.any()


def test_bad_input():
    circuit = simulate.retina_circuit("2", n_kernels=3)
    X, y = circuit.sample(20)
    with pytest.raises(ValueError, match=r"penalties and seeds .*\(2,\).*\(1,\)"):
        fit_circuit(circuit.model, X, y, validation=(X, y), penalties=[0.1, 0.2], seeds=[0])
    with pytest.raises(ValueError, match="'free'"):
        fit_circuit(circuit.model, X, y, validation=(X, y), penalties=[0.1], seeds=[0], parameterisation="free")
    with pytest.raises(ValueError, match="validation y"):
        fit_circuit(circuit.model, X, y, validation=(X, y[1:]), penalties=[0.1], seeds=[0])
