"""Measures of single genes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.stats import chi2

SIGNIFICANT = 1e-3  # level at which the F of another effect can make a gene cancelling


def specificity(ratios: pd.DataFrame, effect: str, df: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Compute the share of one effect in what each gene varies with, and whether the gene is pure.

    Parameters
    ----------
    ratios
        F ratio of every gene (rows) for every effect (columns).
    effect
        Name of the effect.
    df
        Effect name -> degrees of freedom.

    Returns
    -------
    share
        ``max(F - 1, 0)`` of the effect over its sum over all effects, (p,), between 0 and 1; an F of 1 is noise. NaN if
        no F exceeds 1.
    kind
        ``"cancelling"`` if another effect has a larger F that is significant at SIGNIFICANT, and ``"pure"`` otherwise.
        A cancelling gene varies more with another effect, and helps an axis by cancelling that effect in other genes.
    """
    signal = (ratios - 1).clip(lower=0)
    total = signal.sum(axis=1).to_numpy()
    share = np.divide(signal[effect], total, out=np.full(len(total), np.nan), where=total > 0)
    others = ratios.drop(columns=effect)
    # with many cells or donors df F is chi-squared by chance
    limits = np.array([chi2.isf(SIGNIFICANT, df[e]) / df[e] for e in others])
    own = ratios[effect].fillna(0).to_numpy()[:, None]
    larger = (others.to_numpy() > own) & (others.to_numpy() > limits)
    return np.asarray(share), np.where(larger.any(axis=1), "cancelling", "pure")


def largest_signs(standardised: np.ndarray) -> np.ndarray:
    """Return the sign, +1 or -1, that makes the largest standardised loading of each axis positive.

    Parameters
    ----------
    standardised
        Standardised loadings, p x k. If several have the same largest absolute value, the first one counts.
    """
    largest = np.abs(standardised).argmax(axis=0)
    return np.where(standardised[largest, np.arange(standardised.shape[1])] < 0, -1.0, 1.0)
