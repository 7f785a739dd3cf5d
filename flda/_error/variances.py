"""The variances of groups, moderated over genes.

With few units the variance of a gene in a group is a poor estimate, and it borrows twice (Smyth, Stat. Appl. Genet.
Mol. Biol. 3:3, 2004). The variance s_g of a gene, pooled over groups, is moved towards the prior of all genes. The
variance of group c relative to it, ``v_cg / s_g``, is moved towards the prior of these ratios over genes, which is the
level of the group. So a gene that varies much keeps its large variance even in a group of two units, and a group that
varies much keeps its own. With many units per group, nothing moves.
"""

from __future__ import annotations

import numpy as np
from scipy.special import digamma, polygamma

MIN_GENES = 10  # genes from which a prior of their variances can be fitted


class GroupVariances:
    """Moderated variances of groups, with priors that are fitted once and hold for every resample.

    Parameters
    ----------
    squares
        Sum of squares of every group and gene about its mean, C x p.
    df
        Degrees of freedom of each group, (C,). A group without any gets the pooled variance.
    pooled
        Share of the pooled variance in that of every group.
    """

    def __init__(self, squares: np.ndarray, df: np.ndarray, pooled: float = 0.0):
        self._df = df.astype(float)
        together, some = squares.sum(axis=0) / df.sum(), np.where(df > 0, df, 1)
        self._of_genes = prior_variance(together, df.sum())
        s = moderated(together, df.sum(), self._of_genes)
        ratios = np.divide(squares, s, out=np.zeros_like(squares, dtype=float), where=s > 0)
        # with one group the pooled variance is its own
        self._of_groups = [
            prior_variance(r / k, k) if len(df) > 1 else (np.inf, 1.0) for r, k in zip(ratios, some, strict=True)
        ]
        # every variance is a sum of the moderated pooled one and the own squares, with these weights
        share = np.array([_share(prior, k) for prior, k in zip(self._of_groups, df, strict=True)])
        level = np.array([s0 for _, s0 in self._of_groups])
        self._of_pooled = np.where(df > 0, pooled + (1 - pooled) * share * level, 1.0)
        self._of_own = np.where(df > 0, (1 - pooled) * (1 - share) / some, 0.0)

    def of(self, squares: np.ndarray) -> np.ndarray:
        """Compute the variances, (F, C, p), from the sums of squares of F resamples, (F, C, p)."""
        s = moderated(squares.sum(axis=1, keepdims=True) / self._df.sum(), self._df.sum(), self._of_genes)
        return self._of_pooled[:, None] * s + self._of_own[:, None] * squares


def _share(prior: tuple[float, float], df: float) -> float:
    """Return the weight of a prior beside a variance with some degrees of freedom."""
    d0 = prior[0]
    return 1.0 if np.isinf(d0) else d0 / max(d0 + df, 1e-300)


def prior_variance(v: np.ndarray, df: float) -> tuple[float, float]:
    """Fit the prior of variances over genes: degrees of freedom d0 and variance s0^2.

    The variance of a gene, over d0 s0^2, is inverse chi-squared with d0 degrees of freedom. Both follow from the mean
    and the variance of log v over genes (Smyth, Stat. Appl. Genet. Mol. Biol. 3:3, 2004). Genes without variance take
    no part. With fewer than ten genes there is no prior, d0 = 0.

    Parameters
    ----------
    v
        Variances, (p,).
    df
        Their degrees of freedom.
    """
    v = v[v > 0]
    if len(v) < MIN_GENES or df <= 0:
        return 0.0, 1.0
    z = np.log(v)
    e = z - digamma(df / 2) + np.log(df / 2)
    spread = np.var(e, ddof=1) - polygamma(1, df / 2)
    if spread <= 0:  # genes differ no more than chance makes them
        return np.inf, float(np.exp(np.mean(e)))
    d0 = 2 * _trigamma_inverse(float(spread))
    return d0, float(np.exp(np.mean(e) + digamma(d0 / 2) - np.log(d0 / 2)))


def moderated(v: np.ndarray, df: float, prior: tuple[float, float]) -> np.ndarray:
    """Return variances moved towards their prior: ``(d0 s0^2 + df v) / (d0 + df)``."""
    d0, s0 = prior
    return np.full_like(v, s0) if np.isinf(d0) else (d0 * s0 + df * v) / (d0 + df)


def _trigamma_inverse(y: float) -> float:
    """Solve ``trigamma(x) = y`` by Newton's method on 1 / trigamma, which is nearly linear (Smyth 2004, appendix)."""
    x = 0.5 + 1 / y
    for _ in range(50):
        step = polygamma(1, x) * (1 - polygamma(1, x) / y) / polygamma(2, x)
        x += step
        if -step / x < 1e-8:
            break
    return float(x)
