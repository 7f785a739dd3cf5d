"""The amount of shrinkage g in M_e(g) = (1 - g) M_e + g T.

Analytic values (Ledoit and Wolf 2004, Chen et al. 2010) minimise the error of the matrix, which under-shrinks
for discrimination when genes are correlated. Cross-validation maximises what the axes are for: the variance
of their own effect over everything else, on cells not used to fit. All work from what the inverse holds, so
none makes a p x p matrix where N is smaller.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .._design.design import Design
from .._design.effects import Effect
from .._design.splits import folds
from .._logging import get_logger
from .._progress import progress
from .._solve.choose import Inverse
from .._solve.group_space import GroupSpace
from .._solve.primal import Primal

logger = get_logger(__name__)

GRID = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.97)
N_FOLDS = 5


def ledoit_wolf(inverse: Inverse) -> float:
    """Shrinkage of Ledoit and Wolf (J. Multivariate Anal. 88:365, 2004, lemma 3.3) of the within residuals.

    In coordinates where the target is the identity; with the diagonal target that is the correlation matrix.
    """
    N, p = inverse.within.shape
    norms = inverse.cell_norms()
    square, mean = inverse.squared_norm(), norms.sum() / p
    distance = square - p * mean**2  # |S - mean I|^2
    error = N * np.sum(norms**2) / N - square / N  # the variance of S, summed over its entries
    return 1.0 if distance <= 0 else float(np.clip(error / distance, 0, 1))


def oas(inverse: Inverse) -> float:
    """Oracle-approximating shrinkage (Chen, Wiesel, Eldar and Hero, IEEE TSP 58:5016, 2010, eq. 23)."""
    N, p = inverse.within.shape
    square, mean = inverse.squared_norm() / p, inverse.cell_norms().sum() / p
    numerator = square / p + mean**2
    denominator = (N + 1) * (square / p - mean**2 / p)
    return 1.0 if denominator <= 0 else float(min(numerator / denominator, 1.0))


def cross_validate(
    inverse: Inverse,
    design: Design,
    penalties: dict[Effect, float],
    n_components: dict[Effect, int],
    *,
    donors: np.ndarray | None = None,
    grid: Sequence[float] = GRID,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[float, pd.DataFrame]:
    """The g of the grid with the best held-out criterion, and the table of the criterion.

    Axes come from the training cells of a fold. With s the score of a held-out cell on an axis and e the training
    estimate of the axis's own effect in the cell's group, r is the correlation of s with e without centring, over
    all folds, every group counting the same: what is left of s is within noise and the other effects alike.
    ``-log(1 - r^2)``, twice the information of a Gaussian channel, is averaged over the axes of an effect and then
    over effects. Folds are whole donors when donors are given, else cells in equal shares of every group; a fold
    that takes a group the effects need is left out. The target T stays that of all cells.

    Returns
    -------
    The chosen g, and a DataFrame with columns ``shrinkage, criterion``.
    """
    grid = [g for g in grid if g > 0 or isinstance(inverse, Primal)]
    # products e s, e e and s s of every axis, summed over held-out cells
    products = {e: np.zeros((len(grid), 3, n_components[e])) for e in design.effects}
    used = 0
    split = folds(design, donors, random_state, N_FOLDS)
    for train, test in progress(split, desc="shrinkage", total=N_FOLDS):
        part = design.subset(train)
        if part is None:
            continue
        used += 1
        # the training group of each held-out cell; a group that training lacks has no prediction
        known = np.isin(design.codes[test], np.unique(design.codes[train]))
        test = test[known]
        groups = np.searchsorted(np.unique(design.codes[train]), design.codes[test])
        v = 1 / np.bincount(groups, minlength=part.n_groups)[groups]
        fold = inverse.fold(train, test, part.codes, part.counts)
        for i, (K, held_out) in enumerate(fold.group_spaces(grid)):
            space = GroupSpace(K)
            for effect in part.effects:
                others = [(b, penalties[e]) for e, b in part.contrasts.items() if e != effect]
                _, weights = space.axes(part.contrasts[effect], others, n_components[effect])
                scores = held_out @ weights
                fitted = (part.fitted(effect) @ K @ weights)[groups]
                sums = np.stack([v @ (fitted * scores), v @ fitted**2, v @ scores**2])
                products[effect][i, :, : scores.shape[1]] += sums
    if used == 0:
        g = ledoit_wolf(inverse)
        logger.warning(
            "cross-validated shrinkage found no fold that keeps every effect estimable (too few cells or donors per "
            "group); used Ledoit-Wolf, %.3g",
            g,
        )
        return g, pd.DataFrame({"shrinkage": [g], "criterion": [np.nan]})
    criterion = np.mean([information(*np.moveaxis(p, 1, 0)) for p in products.values()], axis=0)
    # ties go to more shrinkage
    best = max(range(len(grid)), key=lambda i: (criterion[i], grid[i]))
    return grid[best], pd.DataFrame({"shrinkage": grid, "criterion": criterion})


def information(es: np.ndarray, ee: np.ndarray, ss: np.ndarray) -> np.ndarray:
    """Mean of ``-log(1 - r^2)`` over axes (last dimension); an anticorrelated axis counts as none."""
    total = ee * ss
    r2 = np.divide(np.maximum(es, 0) ** 2, total, out=np.zeros_like(total), where=total > 0)
    return -np.log1p(-np.minimum(r2, 1 - 1e-12)).mean(axis=-1)
