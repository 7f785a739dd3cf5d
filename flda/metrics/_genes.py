"""Numbers about genes and axes, from group means and within-group variances."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .._design.design import Design
from .._design.effects import Effect

PURE = 0.5  # a gene is pure when its axis's own effect has at least this share of its F


def gene_f(means: np.ndarray, variances: np.ndarray, design: Design) -> pd.DataFrame:
    """F ratio of every gene for every effect, nuisance effects included.

    The mean square of effect S on the group means, ``diag(G' Q_S G)``, over what within-group noise alone would
    give it, ``variance * sum_c Q_S[c, c] / n_c``. About 1 for a gene without the effect; the ANOVA F in a balanced
    table.

    Parameters
    ----------
    means
        Group means G, C x p.
    variances
        Within-group variance of each gene, (p,). A gene without any has F = NaN.
    design
        The design of the groups.

    Returns
    -------
    DataFrame, p rows and a column per effect.
    """
    return pd.DataFrame(
        {
            effect.name: f_ratio(means, variances * noise_share(effect, design), contrasts)
            for effect, contrasts in design.contrasts.items()
        }
    )


def f_ratio(means: np.ndarray, noise: np.ndarray, contrasts: np.ndarray) -> np.ndarray:
    """Mean square of an effect on the group means, over what noise alone would give it.

    Parameters
    ----------
    means
        Group means, (..., C, p).
    noise
        Mean square that noise alone gives, (..., p).
    contrasts
        B_S of the effect, df_S x C.

    Returns
    -------
    F of each gene, (..., p); NaN for a gene without noise.
    """
    centred = means - means.mean(axis=-2, keepdims=True)
    square = np.sum((contrasts @ centred) ** 2, axis=-2) / len(contrasts)
    return np.divide(square, noise, out=np.full_like(square, np.nan), where=noise > 0)


def noise_share(effect: Effect, design: Design) -> float:
    """``sum_c Q_S[c, c] / n_c``: what a unit variance of cells adds to the mean square of an effect."""
    return float(np.sum(np.diag(design.scatter_weights(effect)) / design.counts))


def specificity(ratios: pd.DataFrame, effect: str) -> tuple[np.ndarray, np.ndarray]:
    """Share of one effect in the sum of each gene's F over all effects, in [0, 1], and ``pure`` or ``cancelling``.

    A gene is pure when that share is at least one half. A cancelling gene carries other effects more and helps an axis
    by cancelling them in its partners. Without any F the share is NaN.
    """
    total = ratios.sum(axis=1).to_numpy()
    share = np.divide(ratios[effect], total, out=np.full(len(total), np.nan), where=total > 0)
    return share, np.where(share >= PURE, "pure", "cancelling")


def largest_signs(standardised: np.ndarray) -> np.ndarray:
    """+1 or -1 per axis, to make the largest absolute standardised loading (p x k) positive; the first one on ties."""
    largest = np.abs(standardised).argmax(axis=0)
    return np.where(standardised[largest, np.arange(standardised.shape[1])] < 0, -1.0, 1.0)
