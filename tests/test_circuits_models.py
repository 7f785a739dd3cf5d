"""Circuits, their simulation, metrics, diagnostics and the sign-consistent projection."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.utils.estimator_checks import parametrize_with_checks

from flda.circuits import (
    CircuitModel,
    Connection,
    FilterBank,
    Population,
    SignConsistentProjection,
    canonical_scale,
    flip_twins,
    flip_unit,
    matched_recovery,
    simulate,
    support_recovery,
    system_recovery,
    unit_report,
)
from flda.circuits.diagnose import agreement, circuit_notes


def small(threshold=0.0, signs=None, skip=True):
    """Four inputs, three hidden units, one output, with or without a direct path."""
    rng = np.random.default_rng(0)
    signs = np.full((4, 3), np.nan) if signs is None else signs
    connections = [Connection("in", "hidden", signs), Connection("hidden", "out", np.full((3, 1), np.nan))]
    if skip:
        connections.append(Connection("in", "out", np.full((4, 1), np.nan)))
    model = CircuitModel(
        [Population("in", 4), Population("hidden", 3, 2.0, threshold), Population("out", 1, rectify=False)], connections
    )
    return model, model.weights(rng.normal(size=model.n_parameters)), rng.normal(size=(200, 4))


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
        ([Connection("a", "b", np.ones((2, 2)))], r"signs of connection 'a->b' have shape \(2, 2\), not \(3, 2\)"),
        ([Connection("a", "b", np.full((3, 2), 0.5))], r"entry \(0, 0\) is 0.5; use \+1, -1, 0"),
        ([Connection("b", "a", np.ones((2, 3)))], "runs backwards"),
        ([Connection("a", "c", np.ones((3, 2)))], "no population 'c'"),
        (
            [Connection("a", "b", np.array([[1, -1], [1, 1], [1, 1]]), np.zeros((3, 2), int))],
            r"synapse \(0, 1\) has sign -1 but shares its weight with one of sign 1",
        ),
    ],
)
def test_bad_circuits(connections, message):
    with pytest.raises(ValueError, match=message):
        CircuitModel([Population("a", 3), Population("b", 2)], connections)


def test_filters_against_a_loop():
    rng = np.random.default_rng(1)
    bank = FilterBank(rng.normal(size=(2, 11, 11)), np.array([-0.5, 0.2]), 10)
    images = rng.uniform(-1, 1, size=(3, 100, 100))
    found = bank.transform(images).reshape(3, 10, 10, 2)
    padded = np.pad(images, [(0, 0), (0, 1), (0, 1)])
    for n, i, j, k in [(0, 0, 0, 0), (1, 9, 9, 1), (2, 4, 9, 0), (2, 3, 5, 1)]:
        window = padded[n, 10 * i : 10 * i + 11, 10 * j : 10 * j + 11]
        expected = max((window * bank.kernels[k]).sum() + bank.biases[k], 0)
        assert found[n, i, j, k] == pytest.approx(expected, abs=1e-4)


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
    with pytest.raises(ValueError, match="'pink' is not known; choose"):
        simulate.stimuli(1, kind="pink")
    with pytest.raises(ValueError, match="circuit '4' is not known"):
        simulate.retina_circuit("4")
    with pytest.raises(ValueError, match="between 3 and 28"):
        simulate.retina_circuit("2", n_kernels=40)


def test_recovery_scores():
    truth = np.array([0.8, 0.0, -0.4])
    assert system_recovery(truth, truth) == pytest.approx(1)
    assert system_recovery(truth / 2, truth) == pytest.approx(0.8)  # the wrong scale counts
    assert system_recovery({"a": truth[:1], "b": truth[1:]}, {"a": truth[:1], "b": truth[1:]}) == pytest.approx(1)
    assert support_recovery(np.array([0.1, 0.1, -0.1]), truth) == pytest.approx(0.8)
    assert support_recovery(np.array([0.1, 0.0, 0.1]), truth) == pytest.approx(0.5)  # a wrong sign is not found
    assert support_recovery(np.array([0.05, 0.0, -0.1]), truth) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="differs from the truth"):
        system_recovery(np.ones(2), truth)
    with pytest.raises(ValueError, match="not defined"):
        system_recovery(np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match="NaN"):
        system_recovery(np.full(3, np.nan), truth)
    with pytest.raises(ValueError, match="cannot be compared"):
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


@pytest.mark.parametrize("threshold", [0.0, 0.7])
def test_a_flipped_unit_is_another_circuit_with_the_same_responses(threshold):
    model, w, X = small(threshold)
    twin, flipped = flip_unit(model, w, "hidden", 1)
    np.testing.assert_allclose(twin.predict(flipped, X), model.predict(w, X), atol=1e-12)
    assert system_recovery(flipped, w) < 0.9
    # a twin inside the model exists only while the threshold stays what it is known to be
    assert flip_twins(model, w)["twin"].tolist() == [threshold == 0] * 3


def test_known_signs_or_a_missing_path_exclude_the_twin():
    model, w, _ = small(signs=np.ones((4, 3)))
    w["in->hidden"] = np.abs(w["in->hidden"])
    table = flip_twins(model, w)
    assert not table["signs"].any()
    assert not table["twin"].any()
    bare, w, _ = small(skip=False)
    assert not flip_twins(bare, w)["skip"].any()
    with pytest.raises(ValueError, match="no direct synapses in->out"):
        flip_unit(bare, w, "hidden", 0)


def test_diagnostics_tell_driven_units_from_silent_ones():
    retina = simulate.retina_circuit("2", n_kernels=3)
    smooth, white = (retina.sample(400, stimulus=s, random_state=0)[0] for s in ("smooth", "white"))
    driven, silent = (unit_report(retina.model, retina.truth, X) for X in (smooth, white))
    true = retina.truth["bipolar->amacrine"].any(axis=0)
    assert (driven.loc[true, "active"] > 0.2).all()
    assert driven["output_share"].sum() > 0.3
    assert (silent.loc[true, "active"] < 0.02).all()
    assert silent["output_share"].sum() < 0.01
    notes = " ".join(circuit_notes(retina.model, retina.truth, white, silent))
    assert "all amacrine units together carry" in notes
    assert "choose a stimulus that drives them" in notes
    X = smooth.copy()
    X[:, 5] = 0
    assert (
        "1 (5) of the bipolar units are zero in every sample"
        in circuit_notes(retina.model, retina.truth, X, unit_report(retina.model, retina.truth, X))[0]
    )
    assert np.isnan(agreement([retina.truth]))


def test_output_share_against_variance_by_hand():
    model, w, X = small(skip=False)
    hidden = np.maximum(2 * X @ w["in->hidden"], 0)
    y = hidden @ w["hidden->out"]
    expected = (hidden * w["hidden->out"].T).var(axis=0) / y.var()
    np.testing.assert_allclose(unit_report(model, w, X)["output_share"], expected)


def distortion(signs, X, n_components=256, n_nonzero=4):
    model = SignConsistentProjection(n_components, n_nonzero=n_nonzero, signs=signs, random_state=0).fit(X)
    Z = model.transform(X)
    return model.components_, np.abs((Z**2).sum(1) / (X**2).sum(1) - 1).mean()


def test_columns_have_one_sign_and_lengths_survive():
    X = np.random.default_rng(0).normal(size=(100, 2000))
    P, consistent = distortion("consistent", X)
    assert P.shape == (256, 2000)
    dense = P.toarray()
    assert ((dense >= 0).all(axis=0) | (dense <= 0).all(axis=0)).all()
    np.testing.assert_array_equal((dense != 0).sum(axis=0), 4)
    np.testing.assert_allclose((dense**2).sum(axis=0), 1)
    free_columns = distortion("free", X)[0].toarray()
    assert not ((free_columns >= 0).all(axis=0) | (free_columns <= 0).all(axis=0)).all()
    assert consistent < 1.3 * distortion("free", X)[1] < 0.12
    # without inhibition the lengths of non-negative inputs explode
    assert distortion("positive", np.abs(X))[1] > 5 > 0.5 > distortion("consistent", np.abs(X))[1]


def test_projection_of_sparse_data_and_bad_input():
    X = sp.random(20, 300, 0.1, format="csr", random_state=0)
    model = SignConsistentProjection(50, random_state=1).fit(X)
    Z = model.transform(X)
    assert sp.issparse(Z)
    np.testing.assert_allclose(Z.toarray(), model.transform(X.toarray()), atol=1e-12)
    assert model.get_feature_names_out()[0] == "signconsistentprojection0"
    for bad, message in (({"n_components": 2}, "n_nonzero=4"), ({"n_components": 0}, "positive integer")):
        with pytest.raises(ValueError, match=message):
            SignConsistentProjection(**bad).fit(X)
    with pytest.raises(ValueError, match="'consistent', 'free' or 'positive'"):
        SignConsistentProjection(8, signs="none").fit(X)


@parametrize_with_checks([SignConsistentProjection(n_components=2, n_nonzero=1)])
def test_scikit_learn(estimator, check):
    check(estimator)
