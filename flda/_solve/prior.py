"""The factorial prior: an empirical Bayes estimate of group means that shares information between groups.

The observed mean of a gene in group c is modelled as ``y_c = a + sum_S (X_S b_S)_c + noise``, where X_S is the coding
of effect S. The noise has a known variance v_c, which is large in a group of few cells and infinite in an empty one.
The df_S coefficients of an effect have the prior ``b_S ~ N(0, omega_S^2 I)``.

Most genes carry few effects, and a few genes carry large ones. So omega_S^2 of a gene has a prior of its own: a mixture
over a grid from zero to the largest effect seen, whose weights maximise the marginal likelihood of all genes together.
This is adaptive shrinkage (Stephens M, Biostatistics 18:275, 2017).

The posterior mean of a group with many cells is nearly its observed mean. That of a rare group lies between its
observed mean and the prediction of the main effects; it is closer to the prediction the fewer cells the group has and
the weaker the interactions are. That of an empty group is the prediction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .._design.design import Design
from .._design.effects import Effect
from .._design.table import Table

N_ROUNDS = 2  # rounds in which omega of each effect is updated given those of the others
N_STEPS = 100  # steps of the EM algorithm for the weights of the grid
NULL_WEIGHT = 10.0  # pseudo-count of genes with omega = 0; Stephens (2017) has it as a null-biased prior
LEAST_SIZE = 0.01  # smallest omega^2 of an effect in units of its noise, so that the effect still has axes
GENES_AT_ONCE = 2000  # genes in a block, which bounds the memory for the arrays of shape genes x C x coefficients


@dataclass(frozen=True)
class FactorialMeans:
    """The posterior of the coefficients of all effects.

    Attributes
    ----------
    design
        The groups and effects.
    intercept
        Posterior mean of a, (p,).
    coefficients
        Effect -> posterior mean of b_S, df_S x p.
    sizes
        Effect -> posterior mean of omega_S^2, (p,).
    """

    design: Design
    intercept: np.ndarray
    coefficients: dict[Effect, np.ndarray]
    sizes: dict[Effect, np.ndarray]
    _data: tuple[np.ndarray, np.ndarray]  # observed means and the variances of their noise
    _grids: dict[Effect, tuple[np.ndarray, np.ndarray]]  # grid of omega_S^2, and the posterior of each gene on it

    @classmethod
    def fit(cls, means: np.ndarray, variances: np.ndarray, design: Design) -> FactorialMeans:
        """Compute the posterior from observed group means and the variances of their noise.

        Parameters
        ----------
        means
            Observed group means, C x p.
        variances
            Noise variance of each observed mean, C x p, positive.
        design
            The occupied groups and, in ``design.contrasts``, the effects.

        Examples
        --------
        >>> import numpy as np, pandas as pd
        >>> from flda._design.make import make_design
        >>> labels = pd.DataFrame({"A": list("ppqq"), "B": list("uvuv")})
        >>> design = make_design(labels, interactions=None)
        >>> means = np.outer([0.0, 1.0, 1.0, 2.0], np.ones(50)) + np.eye(4)[:, [3]]
        >>> noise = np.full((4, 50), 1e-4)
        >>> noise[3] = 100.0  # the last group has its mean from the other three
        >>> FactorialMeans.fit(means, noise, design).at(design.table.groups)[3].round(1)[:3]
        array([2., 2., 2.])
        """
        sizes = {e: _starting_size(b @ means, b, variances) for e, b in design.contrasts.items()}
        grids: dict[Effect, tuple[np.ndarray, np.ndarray]] = {}
        for _ in range(N_ROUNDS):
            for effect in design.contrasts:
                # |b_S|^2 of a gene is (omega_S^2 + noise) chi^2_df if b_S is estimated without its own prior
                estimate, noise = _free_estimate(effect, means, variances, design, sizes)
                grid, posterior = _mixture(np.sum(estimate**2, axis=0), noise, len(estimate))
                grids[effect] = grid, posterior
                sizes[effect] = np.maximum(posterior @ grid, LEAST_SIZE * noise)
        intercept, coefficients = _posterior(means, variances, design, sizes, None)
        return cls(design, intercept, coefficients, sizes, (means, variances), grids)

    def at(self, groups: np.ndarray) -> np.ndarray:
        """Compute posterior means of groups, (n, p), that are given as rows of level codes and may be empty."""
        return self.on(self.design.table.at(groups))

    def on(self, table: Table) -> np.ndarray:
        """Compute posterior means of the groups of another table of the same effects, (n, p)."""
        return self.intercept + sum(table.coding(e) @ b for e, b in self.coefficients.items())

    def weights(self, row: np.ndarray) -> np.ndarray:
        """Compute the weights of the observed means in a linear function of the posterior mean coefficients, C x p.

        The sizes omega_S^2 are taken as known, so that posterior means are linear in the observed means.

        Parameters
        ----------
        row
            The function: a weight for the intercept and for each coefficient of all effects, in their order. A row of
            a model matrix gives the posterior mean of a group.
        """
        means, variances = self._data
        D = self.design.table.model_matrix(list(self.coefficients))
        parts = []
        for genes in _slices(means.shape[1]):
            part = {e: s[genes] for e, s in self.sizes.items()}
            _, inverse, columns = _solve(means[:, genes], variances[:, genes], self.design, part)
            scale = np.ones(inverse.shape[:2])  # from b_S / omega_S back to b_S
            for e, s in part.items():
                scale[:, columns[e]] = np.sqrt(s)[:, None]
            of_coefficients = np.einsum("gij,gj->gi", inverse, scale * row) * scale
            parts.append((of_coefficients @ D.T).T / variances[:, genes])
        return np.hstack(parts)

    def draw(self, rng: np.random.Generator) -> FactorialMeans:
        """Draw omega_S^2 of every gene from its posterior, and then the coefficients given omega_S^2."""
        sizes = {}
        for effect, (grid, posterior) in self._grids.items():
            # inverse of the cumulative distribution on the grid, for all genes at once
            edges = np.cumsum(posterior, axis=1)
            index = (edges < rng.random((len(edges), 1)) * edges[:, -1:]).sum(axis=1)
            sizes[effect] = grid[np.minimum(index, len(grid) - 1)]
        means, variances = self._data
        intercept, coefficients = _posterior(means, variances, self.design, sizes, rng)
        return FactorialMeans(self.design, intercept, coefficients, sizes, self._data, self._grids)


def _starting_size(estimate: np.ndarray, contrasts: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """Estimate omega_S^2 of each gene, (p,), by moments: mean square of least-squares coefficients less their noise."""
    noise = np.einsum("kc,cp->p", contrasts**2, variances)
    return np.maximum(np.sum(estimate**2, axis=0) - noise, 0) / len(estimate)


def _free_estimate(
    effect: Effect, means: np.ndarray, variances: np.ndarray, design: Design, sizes: dict[Effect, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Estimate the coefficients of one effect without a prior on them, given the priors of all other effects.

    Returns
    -------
    The estimates (df_S x p), and their noise variance averaged over the df_S coefficients (p,).
    """
    own = np.ones(means.shape[1])  # with omega = 1 the scaled coefficients of _solve are the coefficients themselves
    estimate, noise = [], []
    for genes in _slices(means.shape[1]):
        part = {e: (own if e == effect else sizes[e])[genes] for e in sizes}
        mean, inverse, columns = _solve(means[:, genes], variances[:, genes], design, part, free=effect)
        estimate.append(mean[:, columns[effect]].T)
        noise.append(np.diagonal(inverse, axis1=1, axis2=2)[:, columns[effect]].mean(axis=1))
    return np.hstack(estimate), np.concatenate(noise)


def _posterior(
    means: np.ndarray,
    variances: np.ndarray,
    design: Design,
    sizes: dict[Effect, np.ndarray],
    rng: np.random.Generator | None,
) -> tuple[np.ndarray, dict[Effect, np.ndarray]]:
    """Compute the posterior mean of the intercept and of all coefficients, or a draw from it if ``rng`` is given."""
    parts = []
    for genes in _slices(means.shape[1]):
        part = {e: s[genes] for e, s in sizes.items()}
        mean, inverse, columns = _solve(means[:, genes], variances[:, genes], design, part)
        if rng is not None:
            root = np.linalg.cholesky(inverse)  # a standard normal vector times this has the posterior covariance
            mean = mean + np.einsum("gij,gj->gi", root, rng.normal(size=mean.shape))
        scale = np.ones_like(mean)  # from b_S / omega_S back to b_S
        for e, s in part.items():
            scale[:, columns[e]] = np.sqrt(s)[:, None]
        parts.append((mean * scale).T)
    stacked = np.hstack(parts)
    return stacked[0], {e: stacked[c] for e, c in columns.items()}


def _solve(
    means: np.ndarray,
    variances: np.ndarray,
    design: Design,
    sizes: dict[Effect, np.ndarray],
    free: Effect | None = None,
) -> tuple[np.ndarray, np.ndarray, dict[Effect, slice]]:
    """Compute the posterior of the intercept a and of the scaled coefficients ``b_S / omega_S``.

    This is Bayesian linear regression of y on ``D = [1, X_S omega_S for every S]``, in which each scaled coefficient
    has the prior N(0, 1). With V = diag(v_c) and Lambda the diagonal matrix of prior precisions, the posterior
    covariance is ``(D' V^-1 D + Lambda)^-1`` and the mean is that times ``D' V^-1 y``. The scaling makes omega_S = 0 an
    ordinary case. The intercept and the effect ``free`` have no prior, that is a precision of 0.

    Returns
    -------
    mean, covariance
        For each gene, p x k and p x k x k, with k the number of coefficients.
    columns
        Effect -> slice of its coefficients among the k.
    """
    blocks, prior, columns, first = [np.ones((means.shape[1], len(means), 1))], [0.0], {}, 1
    for effect, size in sizes.items():
        X = design.table.coding(effect)
        blocks.append(X * np.sqrt(size)[:, None, None])
        prior += [0.0 if effect == free else 1.0] * X.shape[1]
        columns[effect] = slice(first, first + X.shape[1])
        first += X.shape[1]
    D = np.concatenate(blocks, axis=2)  # p x C x k
    weighted = D / variances.T[:, :, None]  # V^-1 D of each gene
    precision = np.matmul(D.transpose(0, 2, 1), weighted) + np.diag(prior)
    inverse = np.linalg.inv(precision)
    inverse = (inverse + inverse.transpose(0, 2, 1)) / 2  # exactly symmetric, for the Cholesky factor of a draw
    mean = np.einsum("gij,gj->gi", inverse, np.einsum("gck,cg->gk", weighted, means))
    return mean, inverse, columns


def _mixture(square: np.ndarray, noise: np.ndarray, df: int) -> tuple[np.ndarray, np.ndarray]:
    """Fit the prior of omega^2, a mixture over a grid, and compute the posterior of each gene on the grid.

    The model is ``square ~ (omega^2 + noise) chi^2_df`` for each gene, whose mixture weights are found by EM.

    Parameters
    ----------
    square
        Sum of df squared coefficients of each gene, (p,).
    noise
        Noise variance of a coefficient, (p,).
    df
        The number of coefficients.

    Returns
    -------
    The grid of omega^2 (K,), and the posterior probability of each gene on it (p x K).
    """
    noise = np.maximum(noise, 1e-12 * np.max(noise))  # rounding can leave less than nothing of a gene's variance
    # zero, then steps of a factor 2 in omega^2 from a sixteenth of the least noise up to the largest effect seen
    largest = max(np.max(square / df - noise), 4 * np.min(noise))
    n = int(np.ceil(np.log2(largest / (np.min(noise) / 16)))) + 1
    grid = np.r_[0.0, largest * 2.0 ** -np.arange(max(n, 2))[::-1]]
    # density of the squares at every point of the grid, up to a factor of each gene that cancels in its posterior
    total = grid + noise[:, None]
    likelihood = -0.5 * df * np.log(total) - 0.5 * square[:, None] / total
    likelihood = np.exp(likelihood - likelihood.max(axis=1, keepdims=True))
    # EM starts from a prior that favours zero, so that an effect on which the data are silent is taken to be absent
    weights = np.r_[0.9, np.full(len(grid) - 1, 0.1 / (len(grid) - 1))]
    for _ in range(N_STEPS):
        posterior = likelihood * weights
        posterior /= posterior.sum(axis=1, keepdims=True)
        weights = posterior.sum(axis=0)
        weights[0] += NULL_WEIGHT
        weights /= weights.sum()
    posterior = likelihood * weights
    return grid, posterior / posterior.sum(axis=1, keepdims=True)


def posterior_means(
    means: np.ndarray, variances: np.ndarray, n_effective: np.ndarray, design: Design
) -> FactorialMeans:
    """Compute the posterior of group means whose noise is that of their cells.

    Parameters
    ----------
    means
        Observed group means, C x p.
    variances
        Within-group variance of each gene, (p,).
    n_effective
        Number of independent cells whose noise equals that of each mean, (C,): the noise variance of a mean is
        ``variances / n_effective``.
    design
        The groups and effects.
    """
    return FactorialMeans.fit(means, _noise(variances, n_effective), design)


def shrunken_by(
    sizes: dict[Effect, np.ndarray], means: np.ndarray, variances: np.ndarray, n_effective: np.ndarray, design: Design
) -> np.ndarray:
    """Compute posterior means of the groups, C x p, for known sizes omega_S^2 of all effects.

    The other parameters are those of :func:`posterior_means`.
    """
    intercept, coefficients = _posterior(means, _noise(variances, n_effective), design, sizes, None)
    return intercept + sum(design.table.coding(e) @ b for e, b in coefficients.items())


def _noise(variances: np.ndarray, n_effective: np.ndarray) -> np.ndarray:
    """Compute the noise variance of each group mean, C x p.

    The variance of a gene is taken to be at least 1e-6 of the mean variance of all genes, because it must be positive.
    """
    return np.maximum(variances, 1e-6 * (variances.mean() or 1.0)) / n_effective[:, None]


def variance_sizes(square: np.ndarray, noise: np.ndarray, df: int) -> np.ndarray:
    """Estimate omega^2 of each gene, (p,), as its posterior mean.

    Parameters
    ----------
    square
        Sum of ``df`` squares of each gene, (p,).
    noise
        Noise variance in each of these squares, (p,).
    df
        The number of squares.
    """
    grid, posterior = _mixture(square, noise, df)
    return posterior @ grid


def _slices(p: int) -> Iterator[slice]:
    """Cut the p genes into blocks of GENES_AT_ONCE."""
    return (slice(i, min(i + GENES_AT_ONCE, p)) for i in range(0, p, GENES_AT_ONCE))
