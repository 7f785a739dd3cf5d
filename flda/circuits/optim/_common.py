"""Steps that the optimisers share."""

from __future__ import annotations

from typing import Any

from .._jax import jax, jnp

LearningRate = Any  # a number, a traced scalar, or an optax schedule
tree = jax.tree_util


def needed(params: Any) -> Any:
    """Parameters as given to ``update``, which may not leave them out."""
    if params is None:
        raise ValueError("this optimiser needs the parameters; call update(grads, state, params).")
    return params


def rate_at(learning_rate: LearningRate, count: Any) -> Any:
    """Learning rate at step ``count``, counted from zero."""
    return learning_rate(count) if callable(learning_rate) else learning_rate


def second_moment(grads: Any, nu: Any, b2: float) -> Any:
    """Exponential moving average of the squared gradient."""
    return tree.tree_map(lambda g, v: b2 * v + (1 - b2) * g**2, grads, nu)


def normalised(g: Any, v: Any, b2: float, count: Any, bound: float) -> Any:
    """Gradient divided by its root mean square and bounded; 0 where every gradient so far was zero.

    The division by ``1 - b2**count`` corrects the average v for its start at zero, as in Adam.
    """
    rms = jnp.sqrt(v / (1 - b2**count))
    return jnp.clip(jnp.where(rms > 0, g / jnp.where(rms > 0, rms, 1.0), 0.0), -bound, bound)


def check_not_all_zero(params: Any, name: str) -> None:
    """Raise a ValueError for an array that is zero everywhere, which a multiplicative optimiser would never change."""
    for path, w in tree.tree_flatten_with_path(params)[0]:
        # a traced array has no values yet, so it cannot be checked
        if not isinstance(w, jax.core.Tracer) and w.size and not jnp.any(w != 0):
            raise ValueError(
                f"array {tree.keystr(path) or 'params'!r} is zero everywhere, and {name} multiplies weights, so it can "
                "never change it; start from non-zero values, or use another optimiser for it (optax.multi_transform)."
            )
