"""The contrasts of effects on the group means, with weights where the effects do not fit every group.

The fit is generalised least squares with ``w_c = 1 / (tau2 + r_c / n_c)``: r_c is the variance of group c over the
pooled one, averaged over genes, and tau2 the variance of what no effect explains, in the same units, by moments over
all genes. So a group of few cells does not blur the effects of a factor that it has nothing to do with, and if the
effects fit badly, all groups weigh alike. If the effects fit every mean, the weights do not matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .._design.design import Design
from .._design.effects import Effect
from .._design.table import Table


def group_weights(
    table: Table, effects: Sequence[Effect], means: np.ndarray, variances: np.ndarray, noise: np.ndarray
) -> np.ndarray | None:
    """Compute the weight of every group in a fit of some effects, (C,), or None if the weights do not matter.

    Parameters
    ----------
    table, effects
        The groups and the effects of the fit.
    means
        Group means, C x p.
    variances
        Pooled variance of every gene, (p,). Genes without variance take no part in tau2.
    noise
        Variance of the noise of each group mean in units of ``variances``, (C,).
    """
    if table.df_left(effects) == 0 or not (variances > 0).any():
        return None
    left = np.eye(len(means)) - table.model_matrix(effects) @ table.coefficients(effects)
    rest = (left @ means)[:, variances > 0] / np.sqrt(variances[variances > 0])
    # left is a projection: the mean over genes of |left g|^2 is tau2 tr(left) + tr(left diag(noise))
    tau2 = (np.mean(np.sum(rest**2, axis=0)) - np.diag(left) @ noise) / np.trace(left)
    return 1 / (max(float(tau2), 0.0) + noise)


def weighted_contrasts(
    design: Design, means: np.ndarray, variances: np.ndarray, relative: np.ndarray
) -> dict[Effect, np.ndarray]:
    """Compute the contrasts B_S, df_S x C, of every effect, and the weights of the groups in every named contrast.

    Parameters
    ----------
    design
        The groups and effects.
    means
        Group means, C x p.
    variances
        Pooled variance of every gene, (p,). Genes without variance take no part in tau2.
    relative
        Variance of each group over the pooled one, (C,).
    """
    effects, table = list(design.contrasts), design.table
    weights = group_weights(table, effects, means, variances, relative / design.counts)
    if weights is None:
        return {e: design.rows(e) for e in design.judged}
    return table.contrasts(effects, weights) | {e: design.rows_by(e, weights) for e in design.named}
