"""The factorial prior: what the groups of a design say about each other's means.

The mean of gene g in group c is ``y_c = a + sum_S (X_S b_S)_c + noise``, with X_S the coding of effect S and noise of
known variance v_c: large in a group of few cells, infinite in an empty one. The coefficients of an effect have the
prior ``b_S ~ N(0, omega_S^2)``. Most genes carry few effects and a few carry large ones, so omega_S^2 of a gene has a
prior of its own: a mixture over a grid, from zero to beyond the largest effect seen, whose weights are those that make
all genes together most probable (adaptive shrinkage: Stephens M, Biostatistics 18:275, 2017). The posterior mean of a
full group is nearly its own mean; that of a rare group lies between its own and what the main effects predict, the
nearer to the latter the fewer cells it has and the weaker interactions are; that of an empty group is the prediction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .._design.design import Design
from .._design.effects import Effect

N_ROUNDS = 2  # updates of omega, effect by effect, given those of the other effects
N_STEPS = 100  # of the EM algorithm for the weights of the grid
NULL_WEIGHT = 10.0  # genes without an effect that are added to those seen, as in Stephens (2017)
LEAST_SIZE = 0.01  # of the noise of an effect: the prior leaves it so much, so that it still has axes
GENES_AT_ONCE = 2000


@dataclass(frozen=True)
class FactorialMeans:
    """Posterior of the coefficients of all effects.

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
    _data: tuple[np.ndarray, np.ndarray]
    _grids: dict[Effect, tuple[np.ndarray, np.ndarray]]

    @classmethod
    def fit(cls, means: np.ndarray, variances: np.ndarray, design: Design) -> FactorialMeans:
        """Posterior given group means and the variances of their noise.

        Parameters
        ----------
        means
            Observed group means, C x p.
        variances
            Variance of each about the true one, C x p, positive.
        design
            The occupied groups; effects are those of ``design.contrasts``.

        Examples
        --------
        >>>         >>> from flda._design.design import make_design
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
                estimate, noise = _free_estimate(effect, means, variances, design, sizes)
                grid, posterior = _mixture(np.sum(estimate**2, axis=0), noise, len(estimate))
                grids[effect] = grid, posterior
                sizes[effect] = np.maximum(posterior @ grid, LEAST_SIZE * noise)
        intercept, coefficients = _posterior(means, variances, design, sizes, None)
        return cls(design, intercept, coefficients, sizes, (means, variances), grids)

    def at(self, groups: np.ndarray) -> np.ndarray:
        """Posterior means of groups given as rows of level codes, occupied or not, (n, p)."""
        table = type(self.design.table)(self.design.table.factors, self.design.table.n_levels, groups)
        return self.intercept + sum(table.coding(e) @ b for e, b in self.coefficients.items())

    def draw(self, rng: np.random.Generator) -> FactorialMeans:
        """Coefficients drawn from their posterior, omega_S^2 of every gene drawn first."""
        sizes = {}
        for effect, (grid, posterior) in self._grids.items():
            edges = np.cumsum(posterior, axis=1)
            place = (edges < rng.random((len(edges), 1)) * edges[:, -1:]).sum(axis=1)
            sizes[effect] = grid[np.minimum(place, len(grid) - 1)]
        means, variances = self._data
        intercept, coefficients = _posterior(means, variances, self.design, sizes, rng)
        return FactorialMeans(self.design, intercept, coefficients, sizes, self._data, self._grids)


def _starting_size(estimate: np.ndarray, contrasts: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """Mean square of the least-squares coefficients less that of their noise, (p,)."""
    noise = np.einsum("kc,cp->p", contrasts**2, variances)
    return np.maximum(np.sum(estimate**2, axis=0) - noise, 0) / len(estimate)


def _free_estimate(
    effect: Effect, means: np.ndarray, variances: np.ndarray, design: Design, sizes: dict[Effect, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of one effect without a prior of its own, the others with theirs (df x p), and their variance."""
    own = np.ones(means.shape[1])
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
    """Posterior mean of all coefficients, or with a generator a draw."""
    parts = []
    for genes in _slices(means.shape[1]):
        part = {e: s[genes] for e, s in sizes.items()}
        mean, inverse, columns = _solve(means[:, genes], variances[:, genes], design, part)
        if rng is not None:
            root = np.linalg.cholesky(inverse)
            mean = mean + np.einsum("gij,gj->gi", root, rng.normal(size=mean.shape))
        scale = np.ones_like(mean)
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
    """Posterior mean (p x k) and covariance (p x k x k) of a and ``b_S / omega_S``, the latter N(0, 1) before the data.

    In these coordinates an effect with omega = 0 needs no care. The intercept and the ``free`` effect have no prior.
    """
    blocks, prior, columns, first = [np.ones((means.shape[1], len(means), 1))], [0.0], {}, 1
    for effect, size in sizes.items():
        X = design.table.coding(effect)
        blocks.append(X * np.sqrt(size)[:, None, None])
        prior += [0.0 if effect == free else 1.0] * X.shape[1]
        columns[effect] = slice(first, first + X.shape[1])
        first += X.shape[1]
    Z = np.concatenate(blocks, axis=2)
    weighted = Z / variances.T[:, :, None]
    precision = np.matmul(Z.transpose(0, 2, 1), weighted) + np.diag(prior)
    inverse = np.linalg.inv(precision)
    inverse = (inverse + inverse.transpose(0, 2, 1)) / 2
    mean = np.einsum("gij,gj->gi", inverse, np.einsum("gck,cg->gk", weighted, means))
    return mean, inverse, columns


def _mixture(square: np.ndarray, noise: np.ndarray, df: int) -> tuple[np.ndarray, np.ndarray]:
    """Grid of omega^2 and the posterior of each gene on it (p x K); squares are ``(omega^2 + noise) chi^2_df``."""
    largest = max(np.max(square / df - noise), 4 * np.min(noise))
    n = int(np.ceil(np.log2(largest / (np.min(noise) / 16)))) + 1
    grid = np.r_[0.0, largest * 2.0 ** -np.arange(max(n, 2))[::-1]]
    total = grid + noise[:, None]
    likelihood = -0.5 * df * np.log(total) - 0.5 * square[:, None] / total
    likelihood = np.exp(likelihood - likelihood.max(axis=1, keepdims=True))
    # where the data say nothing of an effect, it is taken to be absent
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
    """The posterior of group means whose noise is that of their cells.

    Parameters
    ----------
    means
        Observed group means, C x p.
    variances
        Within-group variance of each gene, (p,).
    n_effective
        Cells whose independent noise each mean holds, (C,): the variance of a mean is ``variances / n_effective``.
    design
        The groups and effects.
    """
    return FactorialMeans.fit(means, _noise(variances, n_effective), design)


def shrunken_by(
    sizes: dict[Effect, np.ndarray], means: np.ndarray, variances: np.ndarray, n_effective: np.ndarray, design: Design
) -> np.ndarray:
    """Posterior means of the groups, C x p, where the sizes omega_S^2 of all effects are known."""
    intercept, coefficients = _posterior(means, _noise(variances, n_effective), design, sizes, None)
    return intercept + sum(design.table.coding(e) @ b for e, b in coefficients.items())


def _noise(variances: np.ndarray, n_effective: np.ndarray) -> np.ndarray:
    """Variance of each group mean, C x p; a gene that does not vary within groups has means nearly without noise."""
    return np.maximum(variances, 1e-6 * (variances.mean() or 1.0)) / n_effective[:, None]


def variance_sizes(square: np.ndarray, noise: np.ndarray, df: int) -> np.ndarray:
    """Posterior mean of omega^2 of each gene, (p,), from sums of ``df`` squares with this noise in each."""
    grid, posterior = _mixture(square, noise, df)
    return posterior @ grid


def _slices(p: int) -> Iterator[slice]:
    return (slice(i, min(i + GENES_AT_ONCE, p)) for i in range(0, p, GENES_AT_ONCE))
