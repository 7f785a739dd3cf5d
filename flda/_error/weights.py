"""The contrasts of effects on the group means, with weights where the effects do not fit every group.

The fit is generalised least squares with ``w_c = 1 / (tau2 + r_c / n_c)``: r_c is the variance of group c over the
pooled one, averaged over genes, and tau2 the variance of what no effect explains, in the same units, by moments over
all genes. So a group of few cells does not blur the effects of a factor that it has nothing to do with, and if the
effects fit badly, all groups weigh alike. If the effects fit every mean, the weights do not matter.
"""

from __future__ import annotations

import numpy as np

from .._design.design import Design
from .._design.effects import Effect


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
    effects, table, noise = list(design.contrasts), design.table, relative / design.counts
    if table.df_left(effects) == 0 or not (variances > 0).any():
        return {e: design.rows(e) for e in design.judged}
    left = np.eye(len(means)) - table.model_matrix(effects) @ table.coefficients(effects)
    rest = (left @ means)[:, variances > 0] / np.sqrt(variances[variances > 0])
    # left is a projection: the mean over genes of |left g|^2 is tau2 tr(left) + tr(left diag(noise))
    tau2 = (np.mean(np.sum(rest**2, axis=0)) - np.diag(left) @ noise) / np.trace(left)
    weights = 1 / (max(float(tau2), 0.0) + noise)
    return table.contrasts(effects, weights) | {e: design.rows_by(e, weights) for e in design.named}
