"""Simulated retinas and stimuli."""

import numpy as np
import pytest

from flda.circuits import simulate


@pytest.mark.parametrize("name", ["1", "2", "3A", "3B"])
@pytest.mark.parametrize("n_kernels", [3, 8, 28])
def test_simulated_retinas(name, n_kernels):
    retina = simulate.retina_circuit(name, n_kernels=n_kernels)
    assert retina.model.n_parameters == 100 * n_kernels * (1 if name == "1" else 2) + 25
    weights = retina.model.weights(retina.model.parameters(retina.truth))
    for key, w in retina.truth.items():  # the truth lies on existing synapses, with the stated signs
        np.testing.assert_array_equal(weights[key], w)
    theta = retina.model.parameters(retina.truth)
    assert (theta * retina.model.signs >= 0).all()
    X, y = retina.sample(30, random_state=0)
    assert (X >= 0).all()
    assert y.std() > 0
    again = retina.sample(30, random_state=0)[1]
    np.testing.assert_array_equal(y, again)
    if name != "1":
        assert {key: int((w != 0).sum()) for key, w in retina.truth.items()} == {
            "bipolar->amacrine": 16, "amacrine->ganglion": 4, "bipolar->ganglion": 4,
        }  # fmt: skip
        expected = X.reshape(30, 10, 10, n_kernels)
        direct = 0.8 * expected[:, 3:5, 3:5, 0].sum(axis=(1, 2))
        blocks = expected[:, 2:6, 2:6, 1].reshape(30, 2, 2, 2, 2).sum(axis=(2, 4))
        total = direct - 0.4 * np.maximum(3 * 0.2 * blocks - 5, 0).sum(axis=(1, 2))
        by_hand = {"2": total, "3A": np.maximum(total + 8, 0), "3B": np.maximum(total, 0)}[name]
        np.testing.assert_allclose(y, by_hand, atol=1e-4)


def test_stimuli_have_their_statistics():
    white, smooth, natural = (simulate.stimuli(60, kind=k, random_state=0) for k in ("white", "smooth", "natural"))
    assert all(np.abs(s).max() <= 1 for s in (white, smooth, natural))

    def correlation(images, lag):
        return np.corrcoef(images[:, :, lag:].ravel(), images[:, :, : 100 - lag].ravel())[0, 1]

    assert abs(correlation(white, 1)) < 0.01
    # noise convolved with a Gaussian of sd s has correlation exp(-lag^2 / (4 s^2))
    assert correlation(smooth, 3) == pytest.approx(np.exp(-0.25), abs=0.03)
    assert correlation(natural, 20) > 0.05 > correlation(smooth, 20)
    with pytest.raises(ValueError, match="'pink'"):
        simulate.stimuli(1, kind="pink")
    with pytest.raises(ValueError, match="'4'"):
        simulate.retina_circuit("4")
    with pytest.raises(ValueError, match="n_kernels=40"):
        simulate.retina_circuit("2", n_kernels=40)
