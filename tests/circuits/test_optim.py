"""Optimisers: what each keeps at every step, and one table of convergence."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

jax = pytest.importorskip("jax", reason="jax is in the extra 'circuits'")
optax = pytest.importorskip("optax", reason="optax is in the extra 'circuits'")
jnp = jax.numpy

from flda.circuits import optim  # noqa: E402

GRADIENTS = st.lists(
    st.lists(st.floats(-1e6, 1e6, width=32, allow_subnormal=False), min_size=6, max_size=6), min_size=1, max_size=5
)
START = jnp.array([[1.0, -2.0, 0.0], [0.3, -1e-3, 4.0]])


def steps(opt, w, gradients):
    state = opt.init(w)
    for g in gradients:
        updates, state = opt.update(jnp.asarray(g, jnp.float32).reshape(w.shape), state, w)
        w = optax.apply_updates(w, updates)
        yield w, state


@given(GRADIENTS)
def test_madam_keeps_signs_and_zeros(gradients):
    for w, _ in steps(optim.madam(0.1), START, gradients):
        np.testing.assert_array_equal(np.sign(w), np.sign(START))


@given(GRADIENTS)
def test_exponentiated_gradient_keeps_signs_and_zeros(gradients):
    scaled = [np.asarray(g) / 1e5 for g in gradients]
    for w, _ in steps(optim.exponentiated_gradient(0.1), START, scaled):
        np.testing.assert_array_equal(np.sign(w), np.sign(START))


@given(GRADIENTS)
def test_integer_madam_stays_on_its_grid(gradients):
    w_max = 3 * float(jnp.sqrt(jnp.mean(START**2)))
    for w, state in steps(optim.integer_madam(0.05, bits=8, base=0.01), START, gradients):
        level = np.asarray(state.level)
        assert level.dtype == np.uint8
        np.testing.assert_allclose(w, optim.integer_weights(state), rtol=1e-5)
        np.testing.assert_allclose(
            w, np.where(START < 0, -1, 1) * w_max * np.exp(-0.01 * level.astype(float)), rtol=1e-5
        )


def test_integer_madam_stores_few_bits():
    """17 bits for a weight of 12 bits and 9 for one of 8, beside the second moment that every form of Madam keeps."""
    w = jax.random.normal(jax.random.key(0), (100, 80))
    for bits, per_weight in ((12, 17), (8, 9)):
        state = optim.integer_madam(bits=bits).init({"w": w})
        assert 8 * (state.level["w"].nbytes + state.sign["w"].nbytes) == per_weight * w.size
        np.testing.assert_array_equal(np.sign(optim.integer_weights(state)["w"]), np.sign(w))
    with pytest.raises(ValueError, match="bits=17"):
        optim.integer_madam(bits=17)


@given(GRADIENTS)
def test_nero_keeps_every_neuron_balanced_and_of_unit_norm(gradients):
    start = optim.nero_project(START.T)
    for w, _ in steps(optim.nero(0.1), start, gradients):
        np.testing.assert_allclose(w.mean(axis=0), 0, atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(w, axis=0), 1, atol=1e-5)


@given(GRADIENTS)
def test_nero_for_signed_circuits_keeps_unit_norm_and_no_negative_weight(gradients):
    start = optim.nero_project(jnp.abs(START.T) + 0.1, balanced=False)
    for w, _ in steps(optim.nero(0.05, balanced=False, nonnegative=True), start, gradients):
        assert (np.asarray(w) >= 0).all()
        np.testing.assert_allclose(np.linalg.norm(w, axis=0), 1, atol=1e-5)


@given(GRADIENTS)
def test_proximal_adam_keeps_known_signs(gradients):
    signs = jnp.array([[1.0, -1.0, 0.0], [1.0, -1.0, jnp.nan]])
    for w, _ in steps(optim.proximal_adam(0.1, penalty=0.5, signs=signs), START, gradients):
        assert (np.asarray(w)[[0, 1, 0, 1], [0, 0, 1, 1]] * [1, 1, -1, -1] >= 0).all()
        assert w[0, 2] == 0


def test_first_steps_by_hand():
    w, g = jnp.array([2.0, -1.0]), jnp.array([3.0, 0.5])
    new, _ = next(iter(steps(optim.madam(0.01), w, [g])))
    np.testing.assert_allclose(new, [2 * np.exp(-0.01), -np.exp(0.01)], rtol=1e-6)  # g / rms(g) is 1 at first
    clipped, _ = next(iter(steps(optim.madam(0.5, p_scale=1.0), w, [-g])))
    np.testing.assert_allclose(clipped, [np.sqrt(2.5), -np.exp(-0.5)], rtol=1e-5)
    new, _ = next(iter(steps(optim.nero(0.1), w, [g])))  # a vector: entry by entry, step 0.1 x mean |w|
    np.testing.assert_allclose(new, [2 - 0.15, -1 - 0.15], rtol=1e-6)
    one = optim.nero_project(jnp.array([[1.0], [0.0], [0.0]]))
    new, _ = next(iter(steps(optim.nero(0.1), one, [jnp.array([[0.0], [3.0], [4.0]])])))
    by_hand = np.asarray(one)[:, 0] - 0.1 * np.array([0, 0.6, 0.8])
    by_hand -= by_hand.mean()
    np.testing.assert_allclose(new[:, 0], by_hand / np.linalg.norm(by_hand), rtol=1e-5)


def test_proximal_step_is_the_minimiser():
    grid = np.linspace(-4, 4, 80_001)
    for sign, allowed in ((1.0, grid >= 0), (-1.0, grid <= 0), (np.nan, grid == grid), (0.0, grid == 0)):
        for w in (-3.0, -0.2, 0.0, 0.4, 2.0):
            values = np.where(allowed, (grid - w) ** 2 / 2 + 0.5 * np.abs(grid), np.inf)
            assert float(optim.proximal_l1(jnp.array(w), 0.5, jnp.array(sign))) == pytest.approx(
                grid[values.argmin()], abs=2e-4
            )


def test_proximal_adam_ends_at_the_lasso():
    """Its fixed point is that of the penalised problem, with exact zeros; coordinates differ in scale a hundredfold."""
    from flda.circuits import SignedLinear

    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 6)) * np.geomspace(0.1, 10, 6)
    y = X @ np.array([5.0, 0, -1, 0.5, 0, 0.1]) + 0.1 * rng.normal(size=80)
    signs = np.array([1, 1, -1, np.nan, np.nan, -1.0])
    exact = SignedLinear(signs, alpha=0.1, fit_intercept=False).fit(X, y).coef_
    opt = optim.proximal_adam(optax.cosine_decay_schedule(0.1, 5000), penalty=0.1, signs=jnp.asarray(signs))
    A, b = jnp.asarray(X), jnp.asarray(y)

    def step(carry, _):
        w, state = carry
        updates, state = opt.update(jax.grad(lambda v: jnp.mean((A @ v - b) ** 2) / 2)(w), state, w)
        return (optax.apply_updates(w, updates), state), None

    start = jnp.zeros(6)
    (w, _), _ = jax.lax.scan(step, (start, opt.init(start)), length=5000)
    np.testing.assert_allclose(w, exact, atol=2e-3)
    np.testing.assert_array_equal(np.asarray(w) == 0, exact == 0)


CONVERGENCE = {
    "madam": (lambda s: optim.madam(s(0.05)), 1e-4),
    "madam, clipped": (lambda s: optim.madam(s(0.05), p_scale=10.0), 1e-4),
    "integer madam, 12 bits": (lambda s: optim.integer_madam(s(0.05), p_scale=10.0), 1e-2),
    "exponentiated gradient": (lambda s: optim.exponentiated_gradient(s(0.3)), 1e-4),
    "nero": (lambda s: optim.nero(s(0.05)), 1e-4),
    "nero, norm only": (lambda s: optim.nero(s(0.05), balanced=False), 1e-4),
    "nero, non-negative": (lambda s: optim.nero(s(0.05), balanced=False, nonnegative=True), 1e-4),
    "proximal adam": (lambda s: optim.proximal_adam(s(0.05)), 1e-4),
}


@pytest.mark.parametrize("name", CONVERGENCE)
@pytest.mark.parametrize("condition", [1.0, 30.0])
def test_convergence(name, condition):
    """Least squares whose solution meets each optimiser's constraint; the loss falls by the stated factor."""
    make, factor = CONVERGENCE[name]
    rng = np.random.default_rng(1)
    X = rng.normal(size=(100, 8)) * np.geomspace(1, 1 / np.sqrt(condition), 8)
    target, start = np.abs(rng.normal(size=(8, 3))) + 0.3, np.abs(rng.normal(size=(8, 3))) + 0.3
    if "nero" in name:
        balanced = name == "nero"
        target, start = (np.asarray(optim.nero_project(jnp.asarray(a), balanced=balanced)) for a in (target, start))
    A, b = jnp.asarray(X, jnp.float32), jnp.asarray(X @ target, jnp.float32)

    def loss(w):
        return jnp.mean((A @ w - b) ** 2)

    n = 4000
    opt = make(lambda rate: optax.cosine_decay_schedule(rate, n))

    def step(carry, _):
        w, state = carry
        updates, state = opt.update(jax.grad(loss)(w), state, w)
        return (optax.apply_updates(w, updates), state), None

    w0 = jnp.asarray(start, jnp.float32)
    (w, _), _ = jax.lax.scan(step, (w0, opt.init(w0)), length=n)
    assert loss(w) < factor * loss(w0)


@pytest.mark.parametrize("make", [optim.madam, optim.integer_madam, optim.exponentiated_gradient])
def test_multiplying_zeros_is_refused(make):
    with pytest.raises(ValueError, match=r"\['bias'\]"):
        make().init({"bias": jnp.zeros(3), "w": jnp.ones(3)})


def test_misuse():
    with pytest.raises(ValueError, match="balanced"):
        optim.nero(nonnegative=True)
    for make in (optim.madam, optim.nero, optim.exponentiated_gradient, optim.integer_madam, optim.proximal_adam):
        opt = make()
        with pytest.raises(ValueError, match="params"):
            opt.update(jnp.ones(2), opt.init(jnp.ones(2)))


def test_a_constant_zero_gradient_moves_nothing():
    for make in (optim.madam, optim.exponentiated_gradient):
        for w, _ in steps(make(), START, [np.zeros(6)] * 2):
            np.testing.assert_array_equal(w, START)
