"""Effects judged by what all effects leave of single units: the F ratio of analysis of variance.

The model of :mod:`flda._design.unit_model` is fitted by least squares, with precision weights if there are any. The
units of :class:`flda._error.flips.DonorStatistics` are then the rows themselves, in one model with all effects, so that
one variance, moderated over genes, is that of all units. Without moderation F is that of type III least squares.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.linalg import null_space

from .._data import arrays
from .._data.device import to_numpy
from .._design.design import Design
from .._design.effects import Effect
from .flips import ROUNDING, DonorFlips, floor
from .units import Units
from .variances import GroupVariances

MOST_UNITS = 5000  # flips of single units work with a matrix of all of them


class UnitFlips(DonorFlips):
    """Statistics of one effect with single units, also under random signs of their residuals."""

    unit = "cell"


def single_units(effect: Effect, design: Design, rows: np.ndarray) -> Units:
    """Return the rows of the data (N x p) as units, in a model in which the coefficients of an effect are named.

    Raises
    ------
    ValueError
        If there are too many units.
    """
    model = design.unit_model
    assert model is not None
    N = len(rows)
    if N > MOST_UNITS:
        raise ValueError(
            f"error='residual' tests up to {MOST_UNITS} units, and there are {N}; use error='within', or add up the "
            "cells of each group."
        )
    turn, own = _coordinates(effect, design)
    values = (model.root[:, None] * rows)[:, None, :]
    return Units(values, np.arange(N), model.columns.values @ turn, own, np.arange(N))


def residual_f(design: Design, sums: np.ndarray, squares: np.ndarray) -> pd.DataFrame:
    """Compute the F ratio of every gene for every effect from sums alone; without any variance it is NaN.

    Parameters
    ----------
    design
        The groups and effects.
    sums, squares
        Weighted sum of expression of every group, and of squared expression, C x p; with covariates, of what they do
        not predict.
    """
    model = design.unit_model
    assert model is not None
    M = model.columns.values
    D, inverse = model.of_groups, np.linalg.inv(M.T @ M)
    m = D.shape[1]
    weights = np.bincount(design.codes, model.root**2, design.n_groups)
    b = np.linalg.solve(D.T @ (weights[:, None] * D), D.T @ sums)  # the slopes of covariates are taken off already
    left = np.maximum(squares.sum(axis=0) - np.sum((weights[:, None] * D @ b) * (D @ b), axis=0), 0)
    still = left <= ROUNDING * squares.sum(axis=0)
    left[still] = 0
    df = np.array([model.df])
    typical = float(left.mean() / model.df) or float(np.mean(squares.sum(axis=0)) / len(M))
    v = np.maximum(GroupVariances(left[None], df).of(left[None, None])[0], floor(typical, still, np.array([len(M)])))[0]
    out = {}
    for effect in design.judged:
        turn, own = _coordinates(effect, design)
        back = np.linalg.inv(turn)
        V = (back @ inverse @ back.T)[own, own]
        of_effect = (back[:, :m] @ b)[own]
        out[effect.name] = np.sum(of_effect * np.linalg.solve(V, of_effect), axis=0) / (v * len(V))
    return pd.DataFrame(out)


def rows_of(X) -> np.ndarray:
    """Return all rows of a matrix of any kind as a dense array, N x p."""
    if arrays.in_memory(X):
        return to_numpy(arrays.dense(X))
    return arrays.map_rows(X, lambda rows, block: arrays.dense(block), X.shape[1])


def _coordinates(effect: Effect, design: Design) -> tuple[np.ndarray, slice]:
    """Return the turn of the columns of the model, q x q, and which of the turned coefficients belong to an effect."""
    model, effects = design.unit_model, list(design.contrasts)
    assert model is not None
    q, m = model.columns.values.shape[1], model.of_groups.shape[1]
    turn = np.eye(q)
    if effect in design.named:  # coefficients in which the contrast is the first one
        row = design.named[effect].row(design.table, effects)[None]
        turn[:m, :m] = np.hstack([row.T / (row @ row.T), null_space(row)])
        return turn, slice(0, 1)
    first = 1 + sum(map(design.df, effects[: effects.index(effect)]))
    return turn, slice(first, first + design.df(effect))
