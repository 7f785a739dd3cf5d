"""Multiplicative optimisers: Madam, its integer form, and the exponentiated gradient."""

from __future__ import annotations

from typing import Any, NamedTuple

from .._jax import jnp, optax
from ._common import LearningRate, check_not_all_zero, needed, normalised, rate_at, second_moment, tree


class MadamState(NamedTuple):
    """Number of steps; per array the second moment of the gradient, and the largest absolute value allowed."""

    count: Any
    nu: Any
    w_max: Any


class IntegerMadamState(NamedTuple):
    """As :class:`MadamState`, with the signs and the integer levels that are the weights.

    ``sign`` holds eight signs a byte (a bit of one is a negative weight), ``level`` unsigned integers of 8 or 16 bits.
    """

    count: Any
    nu: Any
    w_max: Any
    sign: Any
    level: Any
    base: Any


def madam(
    learning_rate: LearningRate = 0.01, *, b2: float = 0.999, g_bound: float = 10.0, p_scale: float | None = None
) -> optax.GradientTransformation:
    """Madam, an optimiser with multiplicative updates: ``w <- w exp(-lr sign(w) g / rms(g))``.

    A typical step changes a weight by a factor of about ``exp(lr)``, whatever the size of the weight or of its
    gradient. Signs never change, and a zero stays zero. Initial values therefore fix the signs and the absent synapses
    exactly; for the same reason, a bias that starts at zero never changes.

    Parameters
    ----------
    learning_rate
        Number or schedule, in units of log weight per step.
    b2
        Decay of the moving average of the squared gradient.
    g_bound
        Largest absolute value of the normalised gradient.
    p_scale
        Weights are clipped to ``p_scale`` times the root mean square of the initial values of their array. The default,
        None, does not clip: the paper's value, 3, can be smaller than a true synapse.

    Returns
    -------
    optax.GradientTransformation
        Its ``update`` needs ``params``.

    Raises
    ------
    ValueError
        In ``init``, if an array is zero everywhere, because it would never change.

    References
    ----------
    Bernstein J, Zhao J, Meister M, Liu M-Y, Anandkumar A, Yue Y. Learning compositional functions via multiplicative
    weight updates. NeurIPS (2020), algorithm 1.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import optax
    >>> from flda.circuits import optim
    >>> opt = optim.madam(0.1)
    >>> w = jnp.array([1.0, -1.0, 0.0])
    >>> step, state = opt.update(jnp.array([1.0, 1.0, 1.0]), opt.init(w), w)
    >>> [round(float(x), 4) for x in optax.apply_updates(w, step)]
    [0.9048, -1.1052, 0.0]
    """

    def init(params):
        check_not_all_zero(params, "Madam")
        limit = jnp.inf if p_scale is None else p_scale
        w_max = tree.tree_map(lambda w: limit * jnp.sqrt(jnp.mean(w**2)), params)
        return MadamState(jnp.zeros([], jnp.int32), tree.tree_map(jnp.zeros_like, params), w_max)

    def update(grads, state, params=None):
        params = needed(params)
        count = state.count + 1
        nu = second_moment(grads, state.nu, b2)
        rate = rate_at(learning_rate, state.count)

        def step(w, g, v, w_max):
            ghat = normalised(g, v, b2, count, g_bound)
            # w exp(-u) - w = w expm1(-u); expm1 is never below -1, so that w + delta cannot change its sign
            delta = w * jnp.expm1(-rate * jnp.sign(w) * ghat)
            return jnp.clip(w + delta, -w_max, w_max) - w if p_scale is not None else delta

        return tree.tree_map(step, params, grads, nu, state.w_max), MadamState(count, nu, state.w_max)

    return optax.GradientTransformation(init, update)


def integer_madam(
    learning_rate: LearningRate = 0.016,
    *,
    bits: int = 12,
    base: float = 0.001,
    b2: float = 0.999,
    g_bound: float = 10.0,
    p_scale: float = 3.0,
) -> optax.GradientTransformation:
    """Madam with weights in a logarithmic number system: ``w = sign w_max exp(-base n)`` with an integer level n.

    The first step rounds the weights to this grid, and they stay on it. The ratio of the largest to the smallest
    absolute value is ``exp(base (2**bits - 1))``: 60 with the default, and 13 with ``bits=8, base=0.01``. Weights can
    therefore not come near zero, and a weight of zero starts at the smallest positive value. The optimiser saves
    memory; it is not suited to sparse recovery.

    The state is the weights: one or two bytes for a level and one bit for a sign. :func:`integer_weights` computes the
    floating-point weights from it, so that no copy of these need outlive a step. The second moment of the gradient
    takes four bytes more per weight; Adam stores two such moments beside the weights.

    Parameters
    ----------
    learning_rate
        Number or schedule, in units of log weight per step: the level changes by
        ``round(learning_rate / base * g / rms(g))``.
    bits, base
        Levels are ``0 ... 2**bits - 1``, with at most 16 bits; ``base`` is their distance in log weight.
    b2, g_bound
        As in :func:`madam`.
    p_scale
        ``w_max`` in units of the root mean square of the initial values of the array.

    Returns
    -------
    optax.GradientTransformation
        Its ``update`` needs ``params``.

    Raises
    ------
    ValueError
        If ``bits`` is not between 1 and 16; in ``init``, if an array is zero everywhere.

    References
    ----------
    Bernstein J et al. Learning compositional functions via multiplicative weight updates. NeurIPS (2020), section 4.
    Published settings: 12 bits, base 0.001 and 16 levels per step; 10 bits, base 0.005; 8 bits, base 0.01.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from flda.circuits import optim
    >>> state = optim.integer_madam(bits=8, base=0.01).init(jnp.array([0.5, -2.0]))
    >>> state.level.tolist(), str(state.level.dtype), state.sign.tolist()
    ([217, 78], 'uint8', [64])
    >>> [round(float(w), 2) for w in optim.integer_weights(state)]
    [0.5, -2.0]
    """
    if not 1 <= bits <= 16:
        raise ValueError(f"bits={bits} must lie between 1 and 16.")
    last = 2**bits - 1
    kind = jnp.uint8 if bits <= 8 else jnp.uint16

    def init(params):
        check_not_all_zero(params, "integer Madam")
        w_max = tree.tree_map(lambda w: p_scale * jnp.sqrt(jnp.mean(w**2)), params)
        level = tree.tree_map(
            lambda w, m: jnp.clip(jnp.round(jnp.log(m / jnp.abs(w)) / base), 0, last).astype(kind), params, w_max
        )
        sign = tree.tree_map(lambda w: jnp.packbits(w.ravel() < 0), params)
        nu = tree.tree_map(jnp.zeros_like, params)
        return IntegerMadamState(jnp.zeros([], jnp.int32), nu, w_max, sign, level, jnp.asarray(base, jnp.float32))

    def update(grads, state, params=None):
        params = needed(params)
        count = state.count + 1
        nu = second_moment(grads, state.nu, b2)
        rate = rate_at(learning_rate, state.count)

        def move(level, sign, g, v):
            # a positive gradient must lower a positive weight, whose level then rises, and conversely
            jump = jnp.round(rate / base * normalised(g, v, b2, count, g_bound)) * _unpacked(sign, level)
            return jnp.clip(level.astype(jnp.int32) + jump.astype(jnp.int32), 0, last).astype(kind)

        level = tree.tree_map(move, state.level, state.sign, grads, nu)
        state = IntegerMadamState(count, nu, state.w_max, state.sign, level, state.base)
        return tree.tree_map(jnp.subtract, integer_weights(state), params), state

    return optax.GradientTransformation(init, update)


def integer_weights(state: IntegerMadamState) -> Any:
    """Compute the weights that a state of :func:`integer_madam` stores.

    Parameters
    ----------
    state
        State of the optimiser.

    Returns
    -------
    Array or tree of arrays
        ``sign w_max exp(-base level)``, with the structure of the parameters.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from flda.circuits import optim
    >>> optim.integer_weights(optim.integer_madam(p_scale=1.0).init(jnp.array([1.0, -1.0]))).tolist()
    [1.0, -1.0]
    """

    def value(sign, level, w_max):
        return _unpacked(sign, level) * w_max * jnp.exp(-state.base * level)

    return tree.tree_map(value, state.sign, state.level, state.w_max)


def _unpacked(sign: Any, level: Any) -> Any:
    """Signs, +1 or -1, in the shape of the levels."""
    return 1.0 - 2.0 * jnp.unpackbits(sign, count=level.size).reshape(level.shape)


def exponentiated_gradient(learning_rate: LearningRate = 0.01) -> optax.GradientTransformation:
    """Exponentiated gradient on absolute weights: ``w <- w exp(-lr sign(w) g)``.

    This is mirror descent under the entropy of ``|w|``. :func:`madam` does the same with a normalised gradient. Signs
    and zeros never change.

    Parameters
    ----------
    learning_rate
        Number or schedule, in units of 1 / gradient.

    Returns
    -------
    optax.GradientTransformation
        Its ``update`` needs ``params``.

    Raises
    ------
    ValueError
        In ``init``, if an array is zero everywhere.

    References
    ----------
    Kivinen J, Warmuth M. Exponentiated gradient versus gradient descent for linear predictors. Inf. Comput. 132:1
    (1997).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from flda.circuits import optim
    >>> opt = optim.exponentiated_gradient(1.0)
    >>> w = jnp.array([1.0, -1.0])
    >>> step, _ = opt.update(jnp.array([0.0, 1.0]), opt.init(w), w)
    >>> [round(float(x), 4) for x in w + step]
    [1.0, -2.7183]
    """

    def init(params):
        check_not_all_zero(params, "the exponentiated gradient")
        return optax.ScaleByScheduleState(jnp.zeros([], jnp.int32))

    def update(grads, state, params=None):
        params = needed(params)
        rate = rate_at(learning_rate, state.count)
        updates = tree.tree_map(lambda w, g: w * jnp.expm1(-rate * jnp.sign(w) * g), params, grads)
        return updates, optax.ScaleByScheduleState(state.count + 1)

    return optax.GradientTransformation(init, update)
