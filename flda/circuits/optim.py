"""Optimisers for circuits, as optax gradient transformations, implemented from the equations of their papers.

===================================  =======================================  ==========================
transformation                       keeps                                    cannot
===================================  =======================================  ==========================
:func:`madam`                        every sign, every zero                   leave zero, change a sign
:func:`integer_madam`                every sign, weights on a grid of logs    come near zero
:func:`nero`                         mean 0 and norm 1 of every neuron        keep signs
``nero(balanced=False, ...)``        norm 1 (and non-negative weights)        fit the norm
:func:`exponentiated_gradient`       every sign, every zero                   leave zero, change a sign
===================================  =======================================  ==========================

Adam with known signs and exact zeros under an L1 penalty is :func:`flda.circuits.proximal.proximal_adam`. All need
``params`` in ``update`` and jitter at a constant learning rate: let it decay.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ._jax import jax, jnp, optax

LearningRate = Any  # a number, a traced scalar, or an optax schedule
_tree = jax.tree_util


class MadamState(NamedTuple):
    """Steps taken, second moments of the gradient, and the largest absolute value allowed, per array."""

    count: Any
    nu: Any
    w_max: Any


class IntegerMadamState(NamedTuple):
    """As :class:`MadamState`, with the sign and the integer level of every weight."""

    count: Any
    nu: Any
    w_max: Any
    sign: Any
    level: Any


class NeroState(NamedTuple):
    """Steps taken, second moments of every neuron's gradient norm, and step scale per array."""

    count: Any
    nu: Any
    scale: Any


def madam(
    learning_rate: LearningRate = 0.01, *, b2: float = 0.999, g_bound: float = 10.0, p_scale: float | None = None
) -> optax.GradientTransformation:
    """Madam: multiplicative adaptive moments, ``w <- w exp(-lr sign(w) g / rms(g))``.

    A weight changes by a factor near ``exp(lr)`` at most steps, whatever its size or its gradient. Signs never change
    and a zero stays zero, so that initial values are an exact mask of signs and of absent synapses; for the same
    reason a zero initial bias never trains.

    Parameters
    ----------
    learning_rate
        Number or schedule.
    b2
        Decay of the second moment.
    g_bound
        Bound of the normalised gradient.
    p_scale
        Weights are clipped to ``p_scale`` times the root mean square of the array's initial values; None, the
        default, does not clip, because 3 (the paper's setting) can lie below a true synapse. An array must then not be
        all zero.

    Raises
    ------
    ValueError
        At ``init``, for an array that is zero everywhere: it could never train.

    References
    ----------
    Bernstein J, Zhao J, Meister M, Liu M-Y, Anandkumar A, Yue Y. Learning compositional functions via multiplicative
    weight updates. NeurIPS (2020), algorithm 1.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import optax
    >>> opt = madam(0.1)
    >>> w = jnp.array([1.0, -1.0, 0.0])
    >>> step, state = opt.update(jnp.array([1.0, 1.0, 1.0]), opt.init(w), w)
    >>> [round(float(x), 4) for x in optax.apply_updates(w, step)]
    [0.9048, -1.1052, 0.0]
    """

    def init(params):
        _check_not_all_zero(params, "Madam")
        limit = jnp.inf if p_scale is None else p_scale
        w_max = _tree.tree_map(lambda w: limit * jnp.sqrt(jnp.mean(w**2)), params)
        return MadamState(jnp.zeros([], jnp.int32), _tree.tree_map(jnp.zeros_like, params), w_max)

    def update(grads, state, params=None):
        params = _needed(params)
        count = state.count + 1
        nu = _second_moment(grads, state.nu, b2)
        rate = _rate(learning_rate, state.count)

        def step(w, g, v, w_max):
            ghat = _normalised(g, v, b2, count, g_bound)
            delta = w * jnp.expm1(-rate * jnp.sign(w) * ghat)  # expm1 >= -1: w + delta keeps the sign
            return jnp.clip(w + delta, -w_max, w_max) - w if p_scale is not None else delta

        return _tree.tree_map(step, params, grads, nu, state.w_max), MadamState(count, nu, state.w_max)

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
    """Madam in a logarithmic number system: ``w = sign w_max exp(-base n)`` with an integer level n of ``bits`` bits.

    Parameters of the first step are rounded to the grid, and lie on it ever after. The range ``exp(base (2**bits -
    1))`` between largest and smallest absolute value is 60 with the default and 13 with ``bits=8, base=0.01``: no
    weight comes near zero. For small memories, not for sparse recovery.

    Parameters
    ----------
    learning_rate
        Number or schedule, in units of log weight: a step is ``round(learning_rate / base * g / rms(g))`` levels.
    bits, base
        Levels ``0 ... 2**bits - 1`` and their spacing in log weight.
    b2, g_bound
        As in :func:`madam`.
    p_scale
        ``w_max`` in units of the root mean square of the array's initial values.

    References
    ----------
    Bernstein J et al. NeurIPS (2020), section 4: published are 12 bits, base .001 and 16 levels a step; 10 bits, base
    .005; 8 bits, base .01.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> opt = integer_madam(bits=8, base=0.01)
    >>> state = opt.init(jnp.array([0.5, -2.0]))
    >>> state.level.tolist(), state.sign.tolist()
    ([217, 78], [1.0, -1.0])
    """
    last = 2**bits - 1

    def value(sign, level, w_max):
        return sign * w_max * jnp.exp(-base * level)

    def init(params):
        _check_not_all_zero(params, "integer Madam")
        w_max = _tree.tree_map(lambda w: p_scale * jnp.sqrt(jnp.mean(w**2)), params)
        level = _tree.tree_map(
            lambda w, m: jnp.clip(jnp.round(jnp.log(m / jnp.abs(w)) / base), 0, last).astype(jnp.int32), params, w_max
        )
        nu = _tree.tree_map(jnp.zeros_like, params)
        return IntegerMadamState(jnp.zeros([], jnp.int32), nu, w_max, _tree.tree_map(jnp.sign, params), level)

    def update(grads, state, params=None):
        params = _needed(params)
        count = state.count + 1
        nu = _second_moment(grads, state.nu, b2)
        rate = _rate(learning_rate, state.count)

        def move(level, sign, g, v):
            jump = jnp.round(rate / base * _normalised(g, v, b2, count, g_bound)) * sign
            return jnp.clip(level + jump.astype(jnp.int32), 0, last)

        level = _tree.tree_map(move, state.level, state.sign, grads, nu)
        new = _tree.tree_map(value, state.sign, level, state.w_max)
        updates = _tree.tree_map(jnp.subtract, new, params)
        return updates, IntegerMadamState(count, nu, state.w_max, state.sign, level)

    return optax.GradientTransformation(init, update)


def nero(
    learning_rate: LearningRate = 0.01,
    *,
    b2: float = 0.999,
    balanced: bool = True,
    nonnegative: bool = False,
    neuron_axis: int = -1,
) -> optax.GradientTransformation:
    """Nero: per-neuron normalised steps, every neuron held at mean zero and unit norm.

    A neuron is one slice of a weight array along ``neuron_axis`` (the last, as in JAX: ``x @ W``). After each step
    its mean is taken off (``balanced``) and its norm set to one. One-dimensional arrays (biases, gains) are
    scaled entry by entry and not projected.

    Balanced neurons mix signs and the projection can flip a weight's sign: for circuits of known signs use
    ``balanced=False, nonnegative=True`` on absolute weights, which keeps the norm constraint alone.

    Parameters
    ----------
    learning_rate
        Number or schedule.
    b2
        Decay of the second moment of the gradient's norm.
    balanced
        Hold the mean of every neuron at zero.
    nonnegative
        Set negative weights to zero before the norm is set; not with ``balanced``.
    neuron_axis
        Axis that counts neurons.

    References
    ----------
    Liu Y, Bernstein J, Meister M, Yue Y. Learning by turning: neural architecture aware optimisation. ICML (2021),
    algorithm 1; ``balanced=False`` is its ablation.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import optax
    >>> opt = nero(0.1)
    >>> w = nero_project(jnp.array([[1.0, 4.0], [2.0, 0.0], [3.0, 1.0]]))
    >>> step, state = opt.update(jnp.ones((3, 2)) * jnp.array([[1.0], [0.0], [2.0]]), opt.init(w), w)
    >>> new = optax.apply_updates(w, step)
    >>> bool(abs(new.mean(axis=0)).max() < 1e-6), bool(abs(jnp.linalg.norm(new, axis=0) - 1).max() < 1e-6)
    (True, True)
    """
    if balanced and nonnegative:
        raise ValueError("nero cannot hold a neuron's mean at zero and its weights non-negative; set balanced=False.")

    def init(params):
        nu = _tree.tree_map(lambda w: jnp.zeros_like(_neuron_norm(w, neuron_axis)), params)

        def scale(w):
            if w.ndim > 1:
                return jnp.ones([])  # the mean norm of neurons that are projected to norm one
            mean = jnp.mean(jnp.abs(w))
            return jnp.where(mean > 0, mean, 0.01)

        return NeroState(jnp.zeros([], jnp.int32), nu, _tree.tree_map(scale, params))

    def update(grads, state, params=None):
        params = _needed(params)
        count = state.count + 1
        rate = _rate(learning_rate, state.count)
        nu = _tree.tree_map(lambda g, v: b2 * v + (1 - b2) * _neuron_norm(g, neuron_axis) ** 2, grads, state.nu)

        def step(w, g, v, scale):
            norm = jnp.sqrt(v / (1 - b2**count))
            new = w - rate * scale * jnp.where(norm > 0, g / jnp.where(norm > 0, norm, 1.0), 0.0)
            return _project_neurons(new, balanced, nonnegative, neuron_axis) - w

        return _tree.tree_map(step, params, grads, nu, state.scale), NeroState(count, nu, state.scale)

    return optax.GradientTransformation(init, update)


def nero_project(params: Any, *, balanced: bool = True, nonnegative: bool = False, neuron_axis: int = -1) -> Any:
    """Parameters brought onto :func:`nero`'s constraint, for the start of training.

    Parameters
    ----------
    params
        Array or tree of arrays.
    balanced, nonnegative, neuron_axis
        As in :func:`nero`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> nero_project(jnp.array([[3.0], [4.0]]), balanced=False).ravel().tolist()
    [0.6000..., 0.8000...]
    """
    return _tree.tree_map(lambda w: _project_neurons(w, balanced, nonnegative, neuron_axis), params)


def exponentiated_gradient(learning_rate: LearningRate = 0.01) -> optax.GradientTransformation:
    """Exponentiated gradient on absolute weights: ``w <- w exp(-lr sign(w) g)``.

    Mirror descent under the entropy of ``|w|``; :func:`madam` is the same with a normalised gradient. Signs and zeros
    are kept.

    Parameters
    ----------
    learning_rate
        Number or schedule, in units of 1 / gradient.

    References
    ----------
    Kivinen J, Warmuth M. Exponentiated gradient versus gradient descent for linear predictors. Inf. Comput. 132:1
    (1997).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> opt = exponentiated_gradient(1.0)
    >>> w = jnp.array([1.0, -1.0])
    >>> step, _ = opt.update(jnp.array([0.0, 1.0]), opt.init(w), w)
    >>> [round(float(x), 4) for x in w + step]
    [1.0, -2.7183]
    """

    def init(params):
        _check_not_all_zero(params, "the exponentiated gradient")
        return optax.ScaleByScheduleState(jnp.zeros([], jnp.int32))

    def update(grads, state, params=None):
        params = _needed(params)
        rate = _rate(learning_rate, state.count)
        updates = _tree.tree_map(lambda w, g: w * jnp.expm1(-rate * jnp.sign(w) * g), params, grads)
        return updates, optax.ScaleByScheduleState(state.count + 1)

    return optax.GradientTransformation(init, update)


def _needed(params: Any) -> Any:
    if params is None:
        raise ValueError("this optimiser needs the parameters: call update(grads, state, params).")
    return params


def _rate(learning_rate: LearningRate, count: Any) -> Any:
    return learning_rate(count) if callable(learning_rate) else learning_rate


def _second_moment(grads: Any, nu: Any, b2: float) -> Any:
    return _tree.tree_map(lambda g, v: b2 * v + (1 - b2) * g**2, grads, nu)


def _normalised(g: Any, v: Any, b2: float, count: Any, bound: float) -> Any:
    """Gradient over its root mean square, bounded; 0 where there never was a gradient."""
    rms = jnp.sqrt(v / (1 - b2**count))
    return jnp.clip(jnp.where(rms > 0, g / jnp.where(rms > 0, rms, 1.0), 0.0), -bound, bound)


def _neuron_norm(w: Any, axis: int) -> Any:
    """Norm of every neuron, broadcasting against the array; absolute values of a one-dimensional one."""
    if w.ndim < 2:
        return jnp.abs(w)
    return jnp.sqrt(jnp.sum(w**2, axis=_others(w, axis), keepdims=True))


def _others(w: Any, axis: int) -> tuple[int, ...]:
    return tuple(i for i in range(w.ndim) if i != axis % w.ndim)


def _project_neurons(w: Any, balanced: bool, nonnegative: bool, axis: int) -> Any:
    if w.ndim < 2:
        return jnp.maximum(w, 0.0) if nonnegative else w
    if balanced:
        w = w - jnp.mean(w, axis=_others(w, axis), keepdims=True)
    if nonnegative:
        w = jnp.maximum(w, 0.0)
    norm = _neuron_norm(w, axis)
    return w / jnp.where(norm > 0, norm, 1.0)


def _check_not_all_zero(params: Any, name: str) -> None:
    for path, w in _tree.tree_flatten_with_path(params)[0]:
        if not isinstance(w, jax.core.Tracer) and w.size and not jnp.any(w != 0):
            raise ValueError(
                f"{name} multiplies weights, and array {_tree.keystr(path) or 'params'!r} is zero everywhere: it would "
                "never train. Start it from non-zero values, or give it to another optimiser (optax.multi_transform)."
            )
