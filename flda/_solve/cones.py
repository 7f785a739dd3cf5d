"""A cover of all directions by cones, on which a bound that holds at their edges holds everywhere.

The square root G(w) of the largest ``w' K_A w`` over supports A is a norm of w, as is every bound of
:mod:`flda._solve.relaxation`. A direction in the cone of the unit vectors v_1 ... v_d is ``w = V a`` with a >= 0, so
``G(w) <= sum_i a_i G(v_i) = g' V^-1 w``, which is at most ``|V'^-1 g|``, and also at most ``max(g) |V'^-1 1|``. Both
come close to the largest ``G(v_i)`` as the cone gets narrow.
"""

from __future__ import annotations

import numpy as np


def orthants(basis: np.ndarray) -> np.ndarray:
    """Cover all directions, up to their sign, by the orthants of an orthonormal basis: 2^(d-1) x d x d.

    The columns of each d x d matrix are the unit vectors that span the cone.
    """
    d = len(basis)
    signs = 1.0 - 2.0 * ((np.arange(2 ** (d - 1))[:, None] >> np.arange(d - 1)) & 1)
    return basis[None] * np.hstack([np.ones((len(signs), 1)), signs])[:, None, :]


def largest(cones: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Bound G^2 over each cone.

    Parameters
    ----------
    cones
        n x d x d.
    values
        Bounds of G^2 at the vectors that span each cone, (n, d), or (n, d, m) for m functions.

    Returns
    -------
    Array (n,), or (n, m).
    """
    g = np.sqrt(np.maximum(values, 0))
    many = g if g.ndim == 3 else g[:, :, None]
    turned = np.swapaxes(cones, 1, 2)
    linear = np.einsum("ndm,ndm->nm", *[np.linalg.solve(turned, many)] * 2)
    ones = np.linalg.solve(turned, np.ones((*cones.shape[:2], 1)))[:, :, 0]
    flat = many.max(axis=1) ** 2 * np.einsum("nd,nd->n", ones, ones)[:, None]
    out = np.minimum(linear, flat)
    return out if g.ndim == 3 else out[:, 0]


def halve(cones: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut each cone in two across its longest edge.

    Returns
    -------
    cones
        2 n x d x d: first one half of each cone, then the other half of each.
    middles
        The new vector of each cone, n x d.
    edges
        Which vector the middle has replaced in each of the 2 n cones, (2 n,).
    """
    n, d = cones.shape[:2]
    inner = np.einsum("nji,njk->nik", cones, cones)
    inner[:, np.arange(d), np.arange(d)] = np.inf
    i, j = np.unravel_index(inner.reshape(n, -1).argmin(axis=1), (d, d))
    at = np.arange(n)
    middles = cones[at, :, i] + cones[at, :, j]
    middles /= np.linalg.norm(middles, axis=1, keepdims=True)
    one, other = cones.copy(), cones.copy()
    one[at, :, i], other[at, :, j] = middles, middles
    return np.concatenate([one, other]), middles, np.concatenate([i, j])
