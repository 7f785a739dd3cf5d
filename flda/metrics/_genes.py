"""Measures of single genes, from group means and within-group variances."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .._design.design import Design
from .._design.effects import Effect

PURE = 0.5  # a gene is pure if the effect of its axis has at least this share of its F over all effects


def gene_f(means: np.ndarray, variances: np.ndarray, design: Design) -> pd.DataFrame:
    """Compute the F ratio of every gene for every effect, nuisance effects included.

    It is the mean square of effect S in the group means, ``diag(G' Q_S G)``, over the mean square that within-group
    noise alone would give, ``variance * sum_c Q_S[c, c] / n_c``. It is about 1 for a gene without the effect, and
    equals the F of an analysis of variance in a balanced table.

    Parameters
    ----------
    means
        Group means G, C x p.
    variances
        Within-group variance of each gene, (p,). A gene without variance has F = NaN.
    design
        The design of the groups.

    Returns
    -------
    DataFrame with p rows and one column per effect.
    """
    return pd.DataFrame(
        {
            effect.name: f_ratio(means, variances * noise_share(effect, design), contrasts)
            for effect, contrasts in design.contrasts.items()
        }
    )


def f_ratio(means: np.ndarray, noise: np.ndarray, contrasts: np.ndarray) -> np.ndarray:
    """Compute the mean square of an effect in the group means, over the mean square that noise alone would give.

    Parameters
    ----------
    means
        Group means, (..., C, p).
    noise
        Mean square that noise alone would give, (..., p).
    contrasts
        B_S of the effect, df_S x C.

    Returns
    -------
    F of each gene, (..., p). NaN for a gene without noise.
    """
    centred = means - means.mean(axis=-2, keepdims=True)
    square = np.sum((contrasts @ centred) ** 2, axis=-2) / len(contrasts)
    return np.divide(square, noise, out=np.full_like(square, np.nan), where=noise > 0)


def noise_share(effect: Effect, design: Design) -> float:
    """Compute ``sum_c Q_S[c, c] / n_c``, the mean square of an effect that noise of unit variance gives."""
    return float(np.sum(np.diag(design.scatter_weights(effect)) / design.counts))


def specificity(ratios: pd.DataFrame, effect: str) -> tuple[np.ndarray, np.ndarray]:
    """Compute the share of one effect in the F of each gene over all effects, and whether the gene is pure.

    Parameters
    ----------
    ratios
        F ratios from :func:`gene_f`.
    effect
        Name of the effect.

    Returns
    -------
    share
        F of the effect over the sum of F of all effects, (p,), between 0 and 1. NaN if that sum is zero.
    kind
        ``"pure"`` if the share is at least one half, and ``"cancelling"`` otherwise. A cancelling gene varies more with
        other effects, and it helps an axis by cancelling these effects in other genes.
    """
    total = ratios.sum(axis=1).to_numpy()
    share = np.divide(ratios[effect], total, out=np.full(len(total), np.nan), where=total > 0)
    return share, np.where(share >= PURE, "pure", "cancelling")


def largest_signs(standardised: np.ndarray) -> np.ndarray:
    """Return the sign, +1 or -1, that makes the largest standardised loading of each axis positive.

    Parameters
    ----------
    standardised
        Standardised loadings, p x k. If several have the same largest absolute value, the first one counts.
    """
    largest = np.abs(standardised).argmax(axis=0)
    return np.where(standardised[largest, np.arange(standardised.shape[1])] < 0, -1.0, 1.0)
