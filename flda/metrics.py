"""Numbers about genes and axes, from group means and within-group variances."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .design import Design, effect_name


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
    centred = means - means.mean(axis=0)
    out = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        for effect, contrasts in design.contrasts.items():
            square = np.sum((contrasts @ centred) ** 2, axis=0) / design.df(effect)
            noise = np.sum(np.diag(design.scatter_weights(effect)) / design.counts)
            out[effect_name(effect)] = np.where(variances > 0, square / (variances * noise), np.nan)
    return pd.DataFrame(out)
