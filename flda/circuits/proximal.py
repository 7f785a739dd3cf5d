"""Adam with exact zeros: L1 penalty and known signs in a proximal step."""

from __future__ import annotations

from typing import Any, NamedTuple

from ._jax import jax, jnp, optax
from .optim import LearningRate, _needed, _rate, _second_moment

_tree = jax.tree_util


class ProximalAdamState(NamedTuple):
    """Steps taken, first and second moments of the gradient."""

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
    """Adam with an exact proximal step for an L1 penalty and known signs.

    The gradient step and the proximal step use one diagonal metric, ``sqrt(nu + penalty^2)``, so that the fixed points
    are those of the penalised problem (plain soft-thresholding after Adam has others): a weight of known sign is
    shrunk and clipped at zero, a free one is soft-thresholded. The penalty inside the metric bounds the shrinkage of
    one step by the learning rate where a silent unit has no gradient.

    Parameters
    ----------
    learning_rate
        Number or schedule.
    penalty
        L1 weight, a number or an array that broadcasts against the parameters.
    signs
        Array that broadcasts against the parameters: +1, -1, NaN (free), 0 (held at zero); None leaves all free.
    b1, b2, eps
        As in Adam.

    References
    ----------
    Yun J, Lozano A, Yang E. Adaptive proximal gradient methods for structured neural networks. NeurIPS (2021).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> opt = proximal_adam(0.1, penalty=1.0, signs=jnp.array([1.0, -1.0]))
    >>> w = jnp.array([0.05, -1.0])
    >>> step, _ = opt.update(jnp.zeros(2), opt.init(w), w)
    >>> [round(float(x), 4) for x in w + step]
    [0.0, -0.9]
    """

    def init(params):
        zeros = _tree.tree_map(jnp.zeros_like, params)
        return ProximalAdamState(jnp.zeros([], jnp.int32), zeros, zeros)

    def update(grads, state, params=None):
        params = _needed(params)
        count = state.count + 1
        rate = _rate(learning_rate, state.count)
        mu = _tree.tree_map(lambda g, m: b1 * m + (1 - b1) * g, grads, state.mu)
        nu = _second_moment(grads, state.nu, b2)

        def step(w, m, v):
            size = rate / (jnp.sqrt(v / (1 - b2**count) + penalty**2) + eps)
            return proximal_l1(w - size * m / (1 - b1**count), size * penalty, signs) - w

        return _tree.tree_map(step, params, mu, nu), ProximalAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)


def proximal_l1(w: Any, threshold: Any, signs: Any = None) -> Any:
    """Minimiser of ``|u - w|^2 / 2 + threshold |u|`` over u of the given sign.

    Parameters
    ----------
    w
        Array.
    threshold
        Number or array.
    signs
        As in :func:`proximal_adam`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> proximal_l1(jnp.array([3.0, -3.0, -3.0]), 1.0, jnp.array([1.0, 1.0, jnp.nan])).tolist()
    [2.0, 0.0, -2.0]
    """
    soft = jnp.sign(w) * jnp.maximum(jnp.abs(w) - threshold, 0.0)
    if signs is None:
        return soft
    return jnp.where(jnp.isnan(signs) | (soft * signs > 0), soft, 0.0)
