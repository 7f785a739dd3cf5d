"""Adam with exact zeros: the L1 penalty and known signs are applied in a proximal step."""

from __future__ import annotations

from typing import Any, NamedTuple

from .._jax import jnp, optax
from ._common import LearningRate, needed, rate_at, second_moment, tree


class ProximalAdamState(NamedTuple):
    """Number of steps; first and second moments of the gradient."""

    count: Any
    mu: Any
    nu: Any


def proximal_adam(
    learning_rate: LearningRate = 0.01,
    *,
    penalty: Any = 0.0,
    signs: Any = None,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
) -> optax.GradientTransformation:
    """Adam with a proximal step for an L1 penalty and known signs.

    The gradient step and the proximal step use the same diagonal metric, ``sqrt(nu + penalty^2)``, so that the fixed
    points are the solutions of the penalised problem; soft-thresholding after a plain Adam step has other fixed points.
    A weight of known sign is shrunken and clipped at zero; a weight of unknown sign is soft-thresholded. The penalty
    within the metric limits the shrinkage per step to the learning rate where a silent unit has no gradient.

    Parameters
    ----------
    learning_rate
        Number or schedule, in units of the weights.
    penalty
        L1 weight: a number, or an array that broadcasts against the parameters.
    signs
        Array that broadcasts against the parameters: +1, -1, NaN (unknown) or 0 (the weight is held at zero). None
        leaves all signs free.
    b1, b2, eps
        As in Adam.

    Returns
    -------
    optax.GradientTransformation
        Its ``update`` needs ``params`` and the gradient of the loss without the penalty.

    References
    ----------
    Yun J, Lozano A, Yang E. Adaptive proximal gradient methods for structured neural networks. NeurIPS (2021). The
    penalty within the metric is this package's own.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from flda.circuits import optim
    >>> opt = optim.proximal_adam(0.1, penalty=1.0, signs=jnp.array([1.0, -1.0]))
    >>> w = jnp.array([0.05, -1.0])
    >>> step, _ = opt.update(jnp.zeros(2), opt.init(w), w)
    >>> [round(float(x), 4) for x in w + step]
    [0.0, -0.9]
    """

    def init(params):
        zeros = tree.tree_map(jnp.zeros_like, params)
        return ProximalAdamState(jnp.zeros([], jnp.int32), zeros, zeros)

    def update(grads, state, params=None):
        params = needed(params)
        count = state.count + 1
        rate = rate_at(learning_rate, state.count)
        mu = tree.tree_map(lambda g, m: b1 * m + (1 - b1) * g, grads, state.mu)
        nu = second_moment(grads, state.nu, b2)

        def step(w, m, v):
            # `size` is the step per unit of gradient; the same size scales the penalty, which makes the metrics equal
            size = rate / (jnp.sqrt(v / (1 - b2**count) + penalty**2) + eps)
            return proximal_l1(w - size * m / (1 - b1**count), size * penalty, signs) - w

        return tree.tree_map(step, params, mu, nu), ProximalAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)


def proximal_l1(w: Any, threshold: Any, signs: Any = None) -> Any:
    """Minimise ``(u - w)^2 / 2 + threshold |u|`` over u of the given sign, entry by entry.

    Parameters
    ----------
    w
        Array.
    threshold
        Number or array, not negative.
    signs
        As in :func:`proximal_adam`.

    Returns
    -------
    Array
        The minimiser u.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from flda.circuits import optim
    >>> optim.proximal_l1(jnp.array([3.0, -3.0, -3.0]), 1.0, jnp.array([1.0, 1.0, jnp.nan])).tolist()
    [2.0, 0.0, -2.0]
    """
    soft = jnp.sign(w) * jnp.maximum(jnp.abs(w) - threshold, 0.0)
    if signs is None:
        return soft
    return jnp.where(jnp.isnan(signs) | (soft * signs > 0), soft, 0.0)
