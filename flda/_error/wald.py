"""The studentised statistic of an effect, and the moderation of variances over genes.

With b the coefficients of an effect for one gene (df x q: q contrasts of every unit, one if units are cells) and V
their noise, the statistic is ``t = sum over q of b' V^-1 b``. V = B diag(w) B' for rows B (df x k) and the variances w
of k independent parts, such as the means of groups. ``t / (df q)`` is an F ratio of Wald's kind, in which every group
has a variance of its own (Pauly, Brunner and Konietschke, J. R. Stat. Soc. B 77:461, 2015).
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.special import digamma, polygamma

from .._data.kernels import ONE_AT_A_TIME, compiled

MIN_GENES = 10  # genes from which a prior of their variances can be fitted


def wald(b: np.ndarray, B: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Compute the statistic of every gene for a batch of resamples.

    Parameters
    ----------
    b
        Coefficients, (F, df, q, p).
    B
        Rows whose combinations of independent parts the coefficients are, df x k.
    w
        Variance of each part, (F, k, p), positive.

    Returns
    -------
    The statistic, (F, p).
    """
    if len(B) == 1:
        return np.sum(b[:, 0] ** 2, axis=1) / np.einsum("k,fkp->fp", B[0] ** 2, w)
    b, w = (np.ascontiguousarray(a, dtype=np.float64) for a in (b, w))
    out = np.zeros((len(b), b.shape[-1]))
    with ONE_AT_A_TIME:
        _kernel()(b, np.ascontiguousarray(B, dtype=np.float64), w, out)
    return out


@cache
def _kernel():
    """Compile the loop over genes on first use."""
    import numba

    def kernel(b, B, w, out):
        F, df, q, p = b.shape
        k = B.shape[1]
        for f in numba.prange(F):
            L = np.zeros((df, df))
            z = np.zeros(df)
            for gene in range(p):
                # the Cholesky factor L of V = B diag(w) B'
                for i in range(df):
                    for j in range(i + 1):
                        v = 0.0
                        for c in range(k):
                            v += B[i, c] * B[j, c] * w[f, c, gene]
                        for m in range(j):
                            v -= L[i, m] * L[j, m]
                        if i == j:
                            L[i, i] = np.sqrt(max(v, 1e-300))
                        else:
                            L[i, j] = v / L[j, j]
                total = 0.0
                for own in range(q):
                    for i in range(df):
                        v = b[f, i, own, gene]
                        for m in range(i):
                            v -= L[i, m] * z[m]
                        z[i] = v / L[i, i]
                        total += z[i] * z[i]
                out[f, gene] = total

    return compiled(kernel)


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
