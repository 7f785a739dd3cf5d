"""How groups and samples weigh in the error term, and how the means of samples are scaled.

The symbols are those of :mod:`flda._solve.within`.
"""

from __future__ import annotations

import numpy as np

from .._design.samples import Samples

LEAST_DONORS = 1e-3  # smallest delta, so that the scaling of the samples can be undone


def group_weights(counts: np.ndarray, within: str, n_samples: np.ndarray | int = 1) -> np.ndarray:
    """Compute the weight w_c of each group, (C,), for ``within="pooled"`` or ``"balanced"``.

    ``n_samples`` is the number of samples S_c of each group; without donors it is 1.
    """
    raw = {"pooled": np.ones(len(counts)), "balanced": 1.0 / counts}[within]
    return raw / np.sum(raw * (counts - n_samples))


def donor_scaling(samples: Samples, weights: np.ndarray, delta: float) -> np.ndarray:
    """Compute phi_s of each sample, (S,), from the samples, the group weights w_c, and delta."""
    df = len(samples.groups) - len(weights)
    return np.sqrt(delta * mean_size(samples) / (weights[samples.groups] * samples.counts * df))


def mean_size(samples: Samples) -> float:
    """Return the harmonic mean n of the number of cells of a sample."""
    return float(len(samples.counts) / np.sum(1 / samples.counts))


def donor_part(samples: Samples, own: np.ndarray, means: np.ndarray, cells: float) -> float:
    """Compute delta, the share of the donors in the covariance of the sample means of all genes.

    Parameters
    ----------
    samples
        The samples.
    own, means
        Sample means m_s, S x p, and group means g_c, C x p.
    cells
        tr M_cell.
    """
    spread = own - means[samples.groups]
    donors = np.sum(spread**2) / (len(own) - len(means))  # tr M_donor
    share = 1 - cells / (mean_size(samples) * donors) if donors > 0 else 0.0
    return max(float(share), LEAST_DONORS)


def n_effective(samples: Samples) -> np.ndarray:
    """Compute the harmonic mean n of the cells per sample times the number of samples of each group, (C,).

    M_e over this number is taken as the variance of a group mean.
    """
    return mean_size(samples) * np.bincount(samples.groups)


def scaled_centres(
    own: np.ndarray, means: np.ndarray, samples: Samples, weights: np.ndarray, delta: float
) -> np.ndarray:
    """Compute the centre h_s of each sample (S x p) from the sample means m_s (S x p) and group means g_c (C x p)."""
    means = means[samples.groups]
    return means - (donor_scaling(samples, weights, delta)[:, None] - 1) * (own - means)
