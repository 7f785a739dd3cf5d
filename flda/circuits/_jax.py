"""Imports of jax and optax, with an error that says how to install them."""

try:
    import jax
    import jax.numpy as jnp
    import optax
except ImportError as error:
    raise ImportError(
        f'this part of flda.circuits needs jax and optax ({error}); install them with: pip install "flda[circuits]"'
    ) from None

__all__ = ["jax", "jnp", "optax"]
