"""Signed statistics along directions within an effect, for columns that each have directions of their own.

An axis of an effect is one contrast of its groups: its direction a is made of the coefficients of the scores on the
axis. With b the coefficients of a column and V their noise, the statistic along a is ``z = a'b / sqrt(a' V a)``. It is
computed for the data and for the same random signs of residuals as the tests of genes (:mod:`flda._error.flips`).
"""

from __future__ import annotations

import numpy as np

from .._design.design import Design
from .._design.effects import Effect
from .flips import CellFlips, DonorFlips
from .units import Units


def along(a: np.ndarray, b: np.ndarray, B: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Compute z for every direction and column.

    Parameters
    ----------
    a
        Directions, (m, df, q, p).
    b
        Coefficients, (F, df, q, p).
    B
        Rows whose combinations of independent parts the coefficients are, df x k.
    w
        Variance of each part, (F, k, p).

    Returns
    -------
    The statistics, (F, m, p). Where a column does not vary along a direction, or the direction is zero, they are zero.
    """
    loads = np.sum(np.einsum("mdqp,dk->mqkp", a, B) ** 2, axis=1)  # (m, k, p)
    values, noise = np.einsum("mdqp,fdqp->fmp", a, b), np.sqrt(np.einsum("mkp,fkp->fmp", loads, w))
    with np.errstate(divide="ignore", invalid="ignore"):  # without noise a difference is infinitely many errors
        return np.where(values == 0, 0.0, values / noise)


class DirectedCells(CellFlips):
    """Statistics along directions with cells as units.

    Parameters
    ----------
    X
        Columns, N x p.
    design, effects, means, squares, seed
        As in :class:`CellFlips`.
    axes
        Effect -> group means of the scores whose coefficients are the directions, (C, m, p).
    """

    def __init__(
        self, X, design: Design, effects: list[Effect], means: np.ndarray, squares: np.ndarray, seed: int,
        axes: dict[Effect, np.ndarray],
    ):  # fmt: skip
        super().__init__(X, design, effects, means, squares, seed)
        self._directions = {e: np.einsum("dc,cmp->mdp", self._contrasts[e], axes[e])[:, :, None] for e in effects}

    def _combined(self, effect: Effect, b: np.ndarray, B: np.ndarray, w: np.ndarray) -> np.ndarray:
        return along(self._directions[effect], b, B, w)


class DirectedDonors(DonorFlips):
    """Statistics along directions of one effect with donors as units.

    Parameters
    ----------
    effect, units, seed
        As in :class:`DonorFlips`.
    axes
        Contrasts of every unit in the scores whose coefficients are the directions, (U, q, m, p).
    """

    def __init__(self, effect: Effect, units: Units, seed: int, axes: np.ndarray):
        super().__init__(effect, units, seed)
        self._directions = np.einsum("dk,ku,uqmp->mdqp", self._B, self._to_parts, axes)

    def _combined(self, effect: Effect, b: np.ndarray, B: np.ndarray, w: np.ndarray) -> np.ndarray:
        return along(self._directions, b, B, w)
