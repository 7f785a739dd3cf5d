"""The studentised statistic of an effect.

With b the coefficients of an effect for one gene (df x q: q contrasts of every unit, one if units are cells) and V
their noise, the statistic is ``t = sum over q of b' V^-1 b``. V = B diag(w) B' for rows B (df x k) and the variances w
of k independent parts, such as the means of groups. ``t / (df q)`` is an F ratio of Wald's kind, in which every group
has a variance of its own (Pauly, Brunner and Konietschke, J. R. Stat. Soc. B 77:461, 2015).
"""

from __future__ import annotations

from functools import cache

import numpy as np

from .._data.kernels import ONE_AT_A_TIME, compiled

GENES = 64  # genes whose statistics are computed together
BLOCK_BYTES = 2**26  # memory for the matrices V of some resamples
PLAIN_BYTES = 2**22  # the same for the plain algebra, whose arrays should stay in a cache


def wald(b: np.ndarray, B: np.ndarray, w: np.ndarray, *, many: bool = False) -> np.ndarray:
    """Compute the statistic of every gene for a batch of resamples.

    Parameters
    ----------
    b
        Coefficients, (F, df, q, p).
    B
        Rows whose combinations of independent parts the coefficients are, df x k.
    w
        Variance of each part, (F, k, p), positive.
    many
        Whether many batches follow, so that a compiled loop repays the six seconds that its first compilation takes.

    Returns
    -------
    The statistic, (F, p).
    """
    if len(B) == 1:
        return np.sum(b[:, 0] ** 2, axis=1) / np.einsum("k,fkp->fp", B[0] ** 2, w)
    df, F, p = len(B), len(w), w.shape[-1]
    i, j = np.tril_indices(df)
    products = B[i] * B[j]  # the lower triangle of V = B diag(w) B' is a sum over parts of products[:, part] w[part]
    b, out = np.ascontiguousarray(b, dtype=np.float64), np.zeros((F, p))
    size = max(1, (BLOCK_BYTES if many else PLAIN_BYTES) // (8 * len(products) * p))
    for start in range(0, F, size):
        some = slice(start, start + size)
        if not many:
            out[some] = _plain(b[some], products @ w[some])
            continue
        with ONE_AT_A_TIME:
            _kernel()(b[some], products @ w[some], out[some])
    return out


def _plain(b: np.ndarray, V: np.ndarray) -> np.ndarray:
    """Compute ``|L^-1 b|^2`` for the Cholesky factors L of V, which holds lower triangles, (F, pairs, p)."""
    df = b.shape[1]
    V, z = V.transpose(1, 0, 2).copy(), b.transpose(1, 2, 0, 3).copy()
    rows = [V[i * (i + 1) // 2 :][: i + 1] for i in range(df)]
    for j in range(df):  # column by column: all that column j explains is taken off what follows
        inverse = 1 / np.sqrt(np.maximum(rows[j][j], 1e-300))
        z[j] *= inverse
        column = np.stack([rows[i][j] for i in range(j + 1, df)]) * inverse if j + 1 < df else ()
        for i, entry in enumerate(column, start=j + 1):
            z[i] -= entry * z[j]
            rows[i][j + 1 :] -= entry * column[: i - j]
    return np.sum(z**2, axis=(0, 1))


@cache
def _kernel():
    """Compile the loop over genes on first use."""
    import numba

    def kernel(b, V, out):
        F, df, q, p = b.shape
        n_blocks = -(-p // GENES)
        for block in numba.prange(F * n_blocks):
            f, first = block // n_blocks, block % n_blocks * GENES
            last = min(first + GENES, p)
            n, total, z = last - first, out[f, first:last], np.empty((df, GENES))
            # the loops inside run over genes, which the processor does several at a time
            L = V[f, :, first:last].copy()
            for i in range(df):  # the Cholesky factor in place, row by row, with the inverse of its diagonal
                row = i * (i + 1) // 2
                for j in range(i + 1):
                    other, v = j * (j + 1) // 2, L[row + j]
                    for m in range(j):
                        left, right = L[row + m], L[other + m]
                        for g in range(n):
                            v[g] -= left[g] * right[g]
                    if i == j:
                        for g in range(n):
                            v[g] = 1 / np.sqrt(max(v[g], 1e-300))
                    else:
                        d = L[other + j]
                        for g in range(n):
                            v[g] *= d[g]
            for own in range(q):  # the squares of L^-1 b
                for i in range(df):
                    row, v, start = i * (i + 1) // 2, z[i], b[f, i, own, first:last]
                    d = L[row + i]
                    for g in range(n):
                        v[g] = start[g]
                    for m in range(i):
                        left, before = L[row + m], z[m]
                        for g in range(n):
                            v[g] -= left[g] * before[g]
                    for g in range(n):
                        v[g] *= d[g]
                        total[g] += v[g] * v[g]

    return compiled(kernel)
