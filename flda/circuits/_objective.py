"""Squared error of a circuit's prediction and its gradient, by hand in NumPy.

With activities ``a_p`` and drives ``z_p = gain_p sum_c a_source(c) W_c`` of every population p, ``a_p = relu(z_p -
threshold_p)``, responses y and n samples, the error is ``E = |a_out - y|^2 / (2 n)``. Its gradient runs backwards:
``d_p = gain_p 1[a_p > 0] dE/da_p``, ``dE/dW_c = a_source(c)' d_target(c)`` and ``dE/da_p = sum_c d_target(c) W_c'``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ._models import CircuitModel, Population


class _Route(NamedTuple):
    """A connection with the synapses that may change: entry ``(rows, cols)`` is weight number ``ids`` of those.

    Connections from the inputs, which never change, hold one block ``(target, X[:, sources], ids)`` per target unit.
    """

    source: str
    target: str
    shape: tuple[int, int]
    rows: np.ndarray
    cols: np.ndarray
    ids: np.ndarray
    blocks: list[tuple[int, np.ndarray, np.ndarray]] | None


class Objective:
    """Half the mean squared error of a circuit as a function of some of its free weights; the others are zero.

    Parameters
    ----------
    model
        The circuit.
    X, y
        Inputs ``(n, n_inputs)`` and responses ``(n, n_outputs)``.
    free
        Indices of the free weights that may differ from zero. Fewer weights take less time.
    """

    def __init__(self, model: CircuitModel, X: np.ndarray, y: np.ndarray, free: np.ndarray) -> None:
        self.populations = model.populations
        self.X, self.y, self.size = X, y, len(free)
        number = np.full(model.n_parameters, -1)
        number[free] = np.arange(len(free))
        self.routes = []
        for s, c in zip(model.synapses, model.connections, strict=True):
            used = number[s.ids] >= 0
            rows, cols, ids = s.rows[used], s.cols[used], number[s.ids[used]]
            blocks = None
            if c.source == model.populations[0].name:
                blocks = [(j, _columns(X, rows[cols == j]), ids[cols == j]) for j in np.unique(cols)]
            self.routes.append(_Route(c.source, c.target, s.shape, rows, cols, ids, blocks))

    def __call__(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Error and its gradient at the weights ``theta`` (n_free,)."""
        n = len(self.X)
        activity, matrices = self._forward(theta)
        residual = activity[self.populations[-1].name] - self.y
        error = 0.5 * float((residual**2).sum()) / n

        gradient = np.zeros(self.size)
        for r, delta in self._backward(activity, matrices, residual / n):
            if r.blocks is None:
                product = activity[r.source].T @ delta
                gradient += np.bincount(r.ids, product[r.rows, r.cols], self.size)
            else:
                for unit, inputs, ids in r.blocks:
                    np.add.at(gradient, ids, inputs.T @ delta[:, unit])  # ids repeat where synapses share a weight
        return error, gradient

    def jacobian(self, theta: np.ndarray) -> np.ndarray:
        """Derivative ``(n, n_outputs, n_free)`` of every response by every weight, at ``theta`` (n_free,)."""
        activity, matrices = self._forward(theta)
        n, n_outputs = self.y.shape
        found = np.zeros((n_outputs, self.size, n))
        for output, own in enumerate(found):
            one = np.zeros(self.y.shape)
            one[:, output] = 1.0
            for r, delta in self._backward(activity, matrices, one):
                if r.blocks is None:
                    np.add.at(own, r.ids, (activity[r.source][:, r.rows] * delta[:, r.cols]).T)
                else:
                    for unit, inputs, ids in r.blocks:
                        np.add.at(own, ids, (inputs * delta[:, [unit]]).T)
        return found.transpose(2, 0, 1)

    def _backward(
        self, activity: dict[str, np.ndarray], matrices: dict[int, np.ndarray], outer: np.ndarray
    ) -> Iterator[tuple[_Route, np.ndarray]]:
        """Every route with the derivative d of its target, from the derivative ``outer`` by the responses."""
        n, last = len(self.X), self.populations[-1]
        back = {p.name: np.zeros((n, p.size)) for p in self.populations[1:-1]} | {last.name: outer}  # dE/da_p
        for p in reversed(self.populations[1:]):
            delta = back[p.name] * p.gain
            if p.rectify:
                delta *= activity[p.name] > 0
            for i, r in self._into(p):
                if r.blocks is None:
                    back[r.source] += delta @ matrices[i].T
                yield r, delta

    def _forward(self, theta: np.ndarray) -> tuple[dict[str, np.ndarray], dict[int, np.ndarray]]:
        """Activity of the populations, and the dense matrices of the routes between hidden units."""
        n = len(self.X)
        activity: dict[str, np.ndarray] = {}
        matrices: dict[int, np.ndarray] = {}
        for p in self.populations[1:]:
            drive = np.zeros((n, p.size))
            for i, r in self._into(p):
                if r.blocks is None:
                    matrices[i] = np.zeros(r.shape)
                    matrices[i][r.rows, r.cols] = theta[r.ids]
                    drive += activity[r.source] @ matrices[i]
                else:
                    for unit, inputs, ids in r.blocks:
                        drive[:, unit] += inputs @ theta[ids]
            activity[p.name] = p.respond(p.gain * drive)
        return activity, matrices

    def _into(self, p: Population) -> list[tuple[int, _Route]]:
        return [(i, r) for i, r in enumerate(self.routes) if r.target == p.name]


def _columns(X: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Columns of X; X itself, not a copy, if they are all of them in order."""
    if len(rows) == X.shape[1] and (rows == np.arange(len(rows))).all():
        return X
    return np.asfortranarray(X[:, rows])
