"""What a fit costs with each solver, from the sizes of the data and the shrinkage.

The unit is one operation of a product of large matrices in double precision. Other work is counted in this unit by how
much slower, or faster, it was measured (``benchmarks/RESULTS.md``):

* the matrices: ``p^2`` or ``N^2`` times the other side by BLAS, in single precision if it allows that, or the pairs of
  genes that are expressed together by the compiled loop of sparse rows
* factorising a matrix of n rows, and the trace of its inverse: ``2 n^3 / 3``
* products with the data in a Krylov space, and its orthogonalisation
* the same in the folds of a cross-validation, with the matrix that a solver holds or with the data

The steps m of a Krylov space follow from the bound of conjugate gradients, ``m = sqrt(kappa) log(2 / tolerance) / 2``,
with the condition number kappa of ``(1 - g) A + g I``. The largest eigenvalue of A, the scatter in the metric of the
target, is taken to be that of uncorrelated genes, ``(1 + sqrt(p / N))^2`` (Marchenko and Pastur 1967). A few larger
ones, as of factors that many genes share, take few steps more, because the space is one of blocks. Measured and
predicted steps agreed within a fifth on simulated cells.
"""

from __future__ import annotations

from numbers import Real

import numpy as np

from .._data import arrays
from .dual import SINGLE_FROM
from .krylov import FOLD_TOLERANCE, N_PROBES, TOLERANCE

SINGLE = 0.5  # a product of large matrices in single precision
PAIR = 30.0  # a pair of genes that are expressed together, in the loop of sparse rows
SPARSE = 6.0  # an operation of the product of a sparse matrix with a thin one
THIN = 2.0  # the same of a dense matrix, which is read once for few operations
OF_FOLDS = {"primal": 3.0, "dual": 1.0}  # an operation in a fold: those of the dual solver share every product
READ = 350.0  # reading an entry from disk
N_FOLDS, SMALLEST, CHOSEN = 5, 0.01, 0.1  # of a cross-validation: folds, least g, and a g that it may choose
WORTH_IT = 1e11  # cost, about three seconds on one core, up to which the exact solvers are taken in any case
CLEARLY = 0.5  # share of the cost of the exact solvers below which the iterative one is taken


def steps(N: int, p: int, g: float, tolerance: float, k: int) -> float:
    """Return how many products of the scatter with k columns a solve takes."""
    largest = (1 + np.sqrt(p / max(N, 1))) ** 2
    kappa = 1 + (1 - g) * largest / g
    return float(min(np.sqrt(kappa) * np.log(2 / tolerance) / 2, min(N, p) / k))


def cost(solver: str, X, g: float | str, n_groups: int) -> float:
    """Estimate the cost of a fit.

    Parameters
    ----------
    solver
        ``"primal"``, ``"dual"`` or ``"iterative"``.
    X
        Expression, N x p, in memory or not.
    g
        The shrinkage, above 0: a number or the name of a method.
    n_groups
        The number of groups, C.
    """
    N, p = X.shape
    k = n_groups + N_PROBES
    in_memory, tuned = arrays.in_memory(X), g in ("auto", "cv")
    sparse = in_memory and arrays.is_sparse(X)
    entries = float(X.nnz) if sparse else float(N) * p  # of a matrix on disk the density is not known yet
    reading = 0.0 if in_memory else READ * entries
    product = 4 * k * entries * (SPARSE if sparse else THIN)  # with the data and with their transpose
    value = float(g) if isinstance(g, Real) else CHOSEN
    folds = N_FOLDS * steps(N, p, SMALLEST, FOLD_TOLERANCE, k) if tuned else 0.0
    if solver == "iterative":
        m = steps(N, p, value, TOLERANCE, k)
        basis = 4 * p * (k * m) ** 2 + 2 * p * k**2 * folds**2 / N_FOLDS
        return (m + 0.8 * folds) * (product + reading) + basis
    if solver == "dual":
        side, matrix = N, (SINGLE if N >= SINGLE_FROM else 1.0) * float(N) ** 2 * p
    else:
        side = p
        matrix = float(N) * p**2 + reading
        if sparse and arrays.is_thin(X):
            matrix = PAIR * entries**2 / max(N, 1) / 2
    return matrix + 2 * float(side) ** 3 / 3 + folds * 2 * k * SINGLE * OF_FOLDS[solver] * float(side) ** 2
