"""The choice of the shrinkage g in M_e(g) = (1 - g) M_e + g T.

The analytic values (Ledoit and Wolf 2004, Chen et al. 2010) minimise the error of the covariance matrix, which is too
little shrinkage for discrimination when genes are correlated. Cross-validation maximises what the axes are for: the
variance of the effect of an axis relative to everything else, on cells that were not fitted. All methods work from what
the solver holds, so none forms a p x p matrix if N is smaller.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .._design.design import Design
from .._design.effects import Effect
from .._design.splits import Split, folds
from .._logging import warn
from .._progress import progress
from .._solve.criterion import Criterion
from .._solve.group_space import GroupSpace
from .._solve.objective import Objective
from .._solve.prediction import Calibration
from .._solve.solver import Solver

# values of g that cross-validation tries
GRID = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.97)
N_FOLDS = 5


def ledoit_wolf(solver: Solver) -> float:
    """Compute the shrinkage of Ledoit and Wolf (J. Multivariate Anal. 88:365, 2004, lemma 3.3).

    It is computed from the within-group residuals in coordinates in which the target is the identity. With the diagonal
    target it therefore shrinks the correlation matrix.
    """
    N, p = solver.within.shape
    norms = solver.cell_norms()
    square, mean = solver.squared_norm(), norms.sum() / p
    distance = square - p * mean**2  # |S - mean I|^2, with S the scatter in these coordinates
    error = N * np.sum(norms**2) / N - square / N  # the estimated variance of S, summed over its entries
    return 1.0 if distance <= 0 else float(np.clip(error / distance, 0, 1))


def oas(solver: Solver) -> float:
    """Compute the oracle-approximating shrinkage (Chen, Wiesel, Eldar and Hero, IEEE TSP 58:5016, 2010, eq. 23).

    The terms in 2/p of the equation are left out, as in scikit-learn.
    """
    N, p = solver.within.shape
    square, mean = solver.squared_norm() / p, solver.cell_norms().sum() / p
    numerator = square / p + mean**2
    denominator = (N + 1) * (square / p - mean**2 / p)
    return 1.0 if denominator <= 0 else float(min(numerator / denominator, 1.0))


def usable_folds(
    design: Design, donors: np.ndarray | None, random_state: int | np.random.RandomState | None
) -> list[Split]:
    """Return the folds of a cross-validation, without those in which an effect cannot be estimated.

    Each fold holds out whole donors if donors are given, and an equal share of the cells of every group otherwise.
    """
    return [split for split in folds(design, donors, random_state, N_FOLDS) if split.training is not None]


def cross_validate(
    solver: Solver,
    design: Design,
    objective: Objective,
    n_components: dict[Effect, int],
    splits: Sequence[Split],
    calibration: Calibration | None = None,
    *,
    grid: Sequence[float] = GRID,
) -> tuple[float, pd.DataFrame]:
    """Choose the g of a grid that maximises the held-out criterion of :mod:`flda._solve.criterion`.

    The criterion is averaged over effects, without named contrasts. The target T is that of all cells. Without any
    fold, g is that of Ledoit and Wolf, and a warning is logged.

    Parameters
    ----------
    solver
        The solver, which evaluates the folds.
    design
        The design of the cells.
    objective, n_components
        What the axes maximise, and effect -> number of axes.
    splits
        The folds, see :func:`usable_folds`.
    calibration
        Gets the held-out cells of every fold, to calibrate predictions.
    grid
        The values of g, above 0.

    Returns
    -------
    The chosen g, and a DataFrame with columns ``shrinkage, criterion``.
    """
    criteria = {e: Criterion(len(grid), n_components[e]) for e in design.own_effects}
    found = progress(solver.fold_spaces(splits, grid), desc="shrinkage", total=len(splits))
    for split, spaces in zip(splits, found, strict=True):
        training, groups = split.training, split.known_groups
        assert training is not None
        if calibration is not None:
            calibration.add(split, spaces)
        for i, (K, scores, noise) in enumerate(spaces):
            space, terms = GroupSpace(K), objective.terms(training, K, noise)
            for effect, criterion in criteria.items():
                _, weights = space.axes(terms[effect], n_components[effect])
                fitted = training.table.coding(effect) @ (terms[effect].contrasts @ K @ weights)
                criterion.add(i, fitted[groups], scores @ weights, split.known_weights)
    if not splits:
        g = ledoit_wolf(solver)
        warn(
            "cross-validated shrinkage found no fold that keeps every effect estimable, because some groups have too "
            f"few cells or donors; used the Ledoit-Wolf value {g:.3g} instead."
        )
        return g, pd.DataFrame({"shrinkage": [g], "criterion": [np.nan]})
    values = np.mean([c.values() for c in criteria.values()], axis=0)
    # among equal values of the criterion, the largest g wins
    best = max(range(len(grid)), key=lambda i: (values[i], grid[i]))
    return grid[best], pd.DataFrame({"shrinkage": grid, "criterion": values})
