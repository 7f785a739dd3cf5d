"""Flips made even: the statistic of every flip has the scale under the null that it has in the data.

The fit without the effect takes a part of every residual, so residuals of units are slightly correlated. How much
variance is left in a contrast of the flipped residuals therefore depends on the signs: none at all, for example, if
they undo the contrast. Where units are few and genes many, a statistic that is summed over genes would mostly show
which signs were drawn. The variance of a contrast under given signs is known, however, from the fit and from the
variances of groups relative to each other. So the coefficients of each flip are scaled to the variance that those of
the data have, and so are the variances that they are divided by. With many units in every group this changes nothing.

Flips are left as they are if the fit takes half of the variance of some unit or more, as a nuisance factor with two
units per level does. Then many signs leave next to nothing of a contrast, and scaled up they would make the test reject
too often; as they are, they make it careful.
"""

from __future__ import annotations

import numpy as np

MOST_TAKEN = 0.5 - 1e-9  # share of the variance of a unit that the fit takes, from which flips are left as they are
LEAST_LEFT = 0.05  # smallest share of a variance that is made good for


def to_variance(C: np.ndarray, V: np.ndarray) -> np.ndarray:
    """Compute matrices A, (F, df, df), with ``A C A' = V``, which do not depend on the coding of the effect.

    Parameters
    ----------
    C
        Covariances of the coefficients of each flip, (F, df, df).
    V
        Covariance of the coefficients of the data, df x df, positive definite.
    """
    if len(V) == 1:
        return np.sqrt(V / np.maximum(C, LEAST_LEFT * V))
    L = np.linalg.cholesky(V)
    inverse = np.linalg.inv(L)
    values, vectors = np.linalg.eigh(inverse @ C @ inverse.T)
    root = (vectors / np.sqrt(np.maximum(values, LEAST_LEFT))[:, None, :]) @ vectors.transpose(0, 2, 1)
    return L @ root @ inverse


def to_one(ratios: np.ndarray) -> np.ndarray:
    """Return the factors that take expected variances, as ratios to those of the data, to one."""
    return 1 / np.maximum(ratios, LEAST_LEFT)
