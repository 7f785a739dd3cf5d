"""The amount of shrinkage, from the data."""

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf_shrinkage, oas

from flda import FLDA
from flda._design.make import make_design
from flda._design.per_effect import effect_components, effect_penalties
from flda._design.splits import folds
from flda._solve.choose import SOLVERS
from flda._solve.criterion import Criterion
from flda._solve.objective import Objective
from flda._solve.primal import Primal
from flda._solve.within import Within
from flda.estimators import _shrinkage as shrinkage

from oracle import dense_axes, dense_ratio, group_table, problem, within_scatter


def residuals_of(X, y, target):
    rows = y.groupby(list(y.columns)).indices.values()
    out = np.vstack([X[i] - X[i].mean(axis=0) for i in rows])
    return out / out.std(axis=0) if target == "diagonal" else out


@pytest.mark.parametrize("solver", ["primal", "dual"])
@pytest.mark.parametrize("target", ["identity", "diagonal"])
@pytest.mark.parametrize("shape", [(200, 30), (60, 90)])
def test_analytic_values_are_scikit_learns_on_the_residuals(solver, target, shape):
    X, y = problem(*shape, (2, 3))
    X *= np.linspace(0.5, 2, shape[1])
    design = make_design(y)
    inverse = SOLVERS[solver](Within.from_data(X, design.codes, design.counts, "pooled"), target)
    residuals = residuals_of(X, y, target)
    assert shrinkage.ledoit_wolf(inverse) == pytest.approx(
        ledoit_wolf_shrinkage(residuals, assume_centered=True), rel=1e-9
    )
    assert shrinkage.oas(inverse) == pytest.approx(oas(residuals, assume_centered=True)[1], rel=1e-9)


@pytest.mark.parametrize("target", ["identity", "diagonal"])
@pytest.mark.parametrize("within", ["pooled", "balanced"])
@pytest.mark.parametrize("shape", [(150, 30), (90, 120)])
def test_cross_validation_does_not_depend_on_the_solver(target, within, shape):
    X, y = problem(*shape, (2, 3))
    options = {"shrinkage": "cv", "shrinkage_target": target, "within": within, "random_state": 0}
    primal = FLDA(**options, solver="primal").fit(X, y)
    dual = FLDA(**options, solver="dual").fit(X, y)
    assert primal.shrinkage_ == dual.shrinkage_
    np.testing.assert_allclose(primal.shrinkage_path_["criterion"], dual.shrinkage_path_["criterion"], rtol=1e-8)


@pytest.mark.parametrize("objective", ["ratio", "difference"])
@pytest.mark.parametrize("interactions", ["all", None])
@pytest.mark.parametrize("weights", ["random", "equal"])
def test_criterion_equals_dense_fits_of_the_training_cells(objective, interactions, weights):
    """The fast folds against dense eigenproblems in every fold; the target is that of all cells."""
    X, y = problem(120, 20, (2, 3))
    design = make_design(y, interactions=interactions)
    inverse = Primal(Within.from_data(X, design.codes, design.counts, "pooled"), "diagonal")
    grid, n_components = (0.05, 0.6), effect_components(design, None)
    chosen, path = shrinkage.cross_validate(
        inverse,
        design,
        Objective(objective, effect_penalties(design, 2.0), 0.3, weights, True),
        n_components,
        shrinkage.usable_folds(design, None, 3),
        grid=grid,
    )
    assert chosen == grid[int(np.argmax(path["criterion"]))]
    target = np.diag(within_scatter(X, y, "pooled")[0])
    effects = [tuple("AB".index(f) for f in e) for e in design.effects]
    criteria = [Criterion(len(grid), n_components[e]) for e in design.effects]
    options = {"objective": objective, "weights": weights, "penalty": 2.0}
    for split in folds(design, None, 3, shrinkage.N_FOLDS):
        train = y.iloc[split.train]
        scatter, means = within_scatter(X[split.train], train, "pooled")
        centre = means.mean(axis=0)
        for i, g in enumerate(grid):
            metric = (1 - g) * scatter + g * np.diag(target)
            found = dense_ratio(means - centre, *group_table(train), scatter, metric, effects, **options)
            for effect, criterion in zip(effects, criteria, strict=True):
                numerator, denominator, nulled, fitted = found[effect]
                _, U = dense_axes(numerator, denominator, nulled, criterion.sums.shape[-1])
                U = U / np.sqrt(np.einsum("pk,pq,qk->k", U, metric, U))
                e = (fitted @ U)[split.known_groups]
                criterion.add(i, e, (X[split.known] - centre) @ U, split.known_weights)
    expected = np.mean([c.values() for c in criteria], axis=0)
    np.testing.assert_allclose(path["criterion"], expected, rtol=1e-8)


def test_ties_go_to_more_shrinkage(monkeypatch):
    X, y = problem(120, 20, (2, 2))
    monkeypatch.setattr(Criterion, "values", lambda self, **_: np.zeros(len(shrinkage.GRID)))
    assert FLDA(shrinkage="cv").fit(X, y).shrinkage_ == max(shrinkage.GRID)


def test_auto_is_cross_validation_with_folds_by_the_seed():
    X, y = problem(120, 20, (2, 2))
    auto, cv = FLDA().fit(X, y), FLDA(shrinkage="cv", random_state=0).fit(X, y)
    np.testing.assert_array_equal(auto.shrinkage_path_, cv.shrinkage_path_)
    other = FLDA(random_state=1).fit(X, y)
    assert (other.shrinkage_path_["criterion"] != auto.shrinkage_path_["criterion"]).any()
    assert auto.shrinkage_ in shrinkage.GRID
    assert FLDA(shrinkage=0.3).fit(X, y).shrinkage_path_ is None


def test_cross_validation_shrinks_where_it_helps():
    """Many uncorrelated genes on few cells want much shrinkage; few correlated genes on many cells want little."""
    rng = np.random.default_rng(0)
    codes = np.arange(2000) % 4
    y = np.column_stack([codes // 2, codes % 2]).astype(str)
    wide = rng.normal(size=(80, 300))
    wide[:, :20] += codes[:80, None] // 2 + rng.normal(size=20) * (codes[:80, None] % 2)
    long = rng.normal(size=(2000, 10)) @ rng.normal(size=(10, 10))
    long[:, 0] += codes // 2
    long[:, 1] += codes % 2
    much = FLDA(shrinkage="cv", random_state=0).fit(wide, y[:80])
    little = FLDA(shrinkage="cv", random_state=0).fit(long, y)
    assert much.shrinkage_ >= 0.5
    assert little.shrinkage_ <= 0.05


def test_without_usable_folds_it_falls_back_and_says_so(recwarn):
    """Donors that own a group each: no training set has every group."""
    X, y = problem(80, 10, (2, 2))
    model = FLDA(shrinkage="cv").fit(X, y, groups=(y["A"] + y["B"]).to_numpy())
    assert any("Ledoit-Wolf" in str(w.message) for w in recwarn)
    assert model.shrinkage_ == FLDA(shrinkage="ledoit-wolf").fit(X, y).shrinkage_
    assert model.shrinkage_path_["criterion"].isna().all()
