"""Nero: steps that are normalised per neuron, with weights on a constraint set."""

from __future__ import annotations

from typing import Any, NamedTuple

from .._jax import jnp, optax
from ._common import LearningRate, needed, rate_at, tree

BIAS_SCALE = 0.01  # step scale of a one-dimensional array that starts at zero and so has no scale of its own


class NeroState(NamedTuple):
    """Number of steps; second moment of every neuron's gradient norm; step scale of every array."""

    count: Any
    nu: Any
    scale: Any


def nero(
    learning_rate: LearningRate = 0.01,
    *,
    b2: float = 0.999,
    balanced: bool = True,
    nonnegative: bool = False,
    neuron_axis: int = -1,
) -> optax.GradientTransformation:
    """Nero, an optimiser that normalises steps per neuron and keeps every neuron at mean zero and unit norm.

    A neuron is one slice of a weight array along ``neuron_axis`` (the last axis, as JAX computes ``x @ W``). After each
    step its mean is subtracted (if ``balanced``) and it is scaled to unit norm. One-dimensional arrays, such as biases
    and gains, take steps that are normalised entry by entry, and are not projected.

    Balanced neurons have weights of both signs, and the projection can change the sign of a weight. For circuits of
    known signs use ``balanced=False, nonnegative=True`` on absolute weights, which keeps only the norm constraint.

    Parameters
    ----------
    learning_rate
        Number or schedule, relative to the norm of a neuron.
    b2
        Decay of the moving average of the squared gradient norm.
    balanced
        Whether to keep the mean of every neuron at zero.
    nonnegative
        Whether to set negative weights to zero before scaling; cannot be combined with ``balanced``.
    neuron_axis
        Axis along which neurons are counted.

    Returns
    -------
    optax.GradientTransformation
        Its ``update`` needs ``params``.

    Raises
    ------
    ValueError
        If ``balanced`` and ``nonnegative`` are both True.

    References
    ----------
    Liu Y, Bernstein J, Meister M, Yue Y. Learning by turning: neural architecture aware optimisation. ICML (2021),
    algorithm 1; ``balanced=False`` is one of the ablations in the paper.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import optax
    >>> from flda.circuits import optim
    >>> opt = optim.nero(0.1)
    >>> w = optim.nero_project(jnp.array([[1.0, 4.0], [2.0, 0.0], [3.0, 1.0]]))
    >>> step, state = opt.update(jnp.ones((3, 2)) * jnp.array([[1.0], [0.0], [2.0]]), opt.init(w), w)
    >>> new = optax.apply_updates(w, step)
    >>> bool(abs(new.mean(axis=0)).max() < 1e-6), bool(abs(jnp.linalg.norm(new, axis=0) - 1).max() < 1e-6)
    (True, True)
    """
    if balanced and nonnegative:
        raise ValueError(
            "balanced=True and nonnegative=True exclude each other: only zero weights have mean zero and no negative "
            "entry; set balanced=False."
        )

    def init(params):
        nu = tree.tree_map(lambda w: jnp.zeros_like(_neuron_norm(w, neuron_axis)), params)

        def scale(w):
            if w.ndim > 1:
                return jnp.ones([])  # neurons are projected to unit norm
            mean = jnp.mean(jnp.abs(w))
            return jnp.where(mean > 0, mean, BIAS_SCALE)

        return NeroState(jnp.zeros([], jnp.int32), nu, tree.tree_map(scale, params))

    def update(grads, state, params=None):
        params = needed(params)
        count = state.count + 1
        rate = rate_at(learning_rate, state.count)
        nu = tree.tree_map(lambda g, v: b2 * v + (1 - b2) * _neuron_norm(g, neuron_axis) ** 2, grads, state.nu)

        def step(w, g, v, scale):
            norm = jnp.sqrt(v / (1 - b2**count))  # corrected for the start of v at zero
            new = w - rate * scale * jnp.where(norm > 0, g / jnp.where(norm > 0, norm, 1.0), 0.0)
            return _project_neurons(new, balanced, nonnegative, neuron_axis) - w

        return tree.tree_map(step, params, grads, nu, state.scale), NeroState(count, nu, state.scale)

    return optax.GradientTransformation(init, update)


def nero_project(params: Any, *, balanced: bool = True, nonnegative: bool = False, neuron_axis: int = -1) -> Any:
    """Project parameters onto the constraint of :func:`nero`, as its first step needs.

    Parameters
    ----------
    params
        Array or tree of arrays.
    balanced, nonnegative, neuron_axis
        As in :func:`nero`.

    Returns
    -------
    Array or tree of arrays
        As ``params``, with every neuron at unit norm (and mean zero, if balanced).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from flda.circuits import optim
    >>> optim.nero_project(jnp.array([[3.0], [4.0]]), balanced=False).ravel().tolist()
    [0.6000..., 0.8000...]
    """
    return tree.tree_map(lambda w: _project_neurons(w, balanced, nonnegative, neuron_axis), params)


def _neuron_norm(w: Any, axis: int) -> Any:
    """Norm of every neuron, broadcasting against the array; absolute values of a one-dimensional array."""
    if w.ndim < 2:
        return jnp.abs(w)
    return jnp.sqrt(jnp.sum(w**2, axis=_others(w, axis), keepdims=True))


def _others(w: Any, axis: int) -> tuple[int, ...]:
    """All axes but the one along which neurons are counted."""
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
