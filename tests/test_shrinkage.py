import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf_shrinkage, oas

from flda import FLDA
from flda._design.design import effect_components, effect_penalties, make_design
from flda._design.splits import folds
from flda._solve.dual import Dual
from flda._solve.primal import Primal
from flda._solve.within import Within
from flda.estimators import _shrinkage as shrinkage

from oracle import problem


def residuals_of(X, y, target):
    rows = y.groupby(list(y.columns)).indices.values()
    out = np.vstack([X[i] - X[i].mean(axis=0) for i in rows])
    return out / out.std(axis=0) if target == "diagonal" else out


@pytest.mark.parametrize("kind", [Primal, Dual])
@pytest.mark.parametrize("target", ["identity", "diagonal"])
@pytest.mark.parametrize("shape", [(200, 30), (60, 90)])
def test_analytic_values_are_scikit_learns_on_the_residuals(kind, target, shape):
    X, y = problem(*shape, (2, 3))
    X *= np.linspace(0.5, 2, shape[1])
    design = make_design(y)
    inverse = kind(Within.from_data(X, design.codes, design.counts, "pooled"), target)
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


def test_criterion_equals_refits_from_scratch():
    """The fast folds against fitting FLDA itself on the training cells (same target, taken from all cells)."""
    X, y = problem(120, 20, (2, 2))
    X /= np.concatenate([X[i] - X[i].mean(axis=0) for i in y.groupby(["A", "B"]).indices.values()]).std(axis=0)
    design = make_design(y)
    inverse = Primal(Within.from_data(X, design.codes, design.counts, "pooled"), "identity")
    g = 1.0  # the target alone, so that the scatter of the training cells enters nowhere
    _, path = shrinkage.cross_validate(
        inverse,
        design,
        effect_penalties(design, 1.0),
        effect_components(design, None),
        grid=[g],
        random_state=3,
    )
    held_out = {effect: [] for effect in design.effects}
    for train, test in folds(design, None, 3, shrinkage.N_FOLDS):
        model = FLDA(shrinkage=g, shrinkage_target="identity").fit(X[train], y.iloc[train])
        part = make_design(y.iloc[train])
        groups = design.codes[test]
        weights = 1 / np.bincount(groups)[groups]
        scores, means = model.transform(X[test]), model.transform(model.means_)
        unit = np.sqrt(np.mean(model.within_sd_**2))  # each refit has a target, and so a scale, of its own
        for j, effect in enumerate(part.effects):
            fitted = (part.fitted(effect) @ means[:, j])[groups]
            held_out[effect].append(np.column_stack([weights, unit * fitted, unit * scores[:, j]]))
    r = {}
    for effect, rows in held_out.items():
        w, e, s = np.vstack(rows).T
        r[effect] = (w * e) @ s / np.sqrt((w * e) @ e * ((w * s) @ s))
    expected = np.mean([-np.log(1 - r[e] ** 2) for e in design.effects])
    assert path["criterion"].item() == pytest.approx(expected, rel=1e-8)


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


def test_without_usable_folds_it_falls_back_and_says_so(caplog):
    """Donors that own a group each: no training set has every group."""
    X, y = problem(80, 10, (2, 2))
    model = FLDA(shrinkage="cv", random_state=0).fit(X, y, groups=(y["A"] + y["B"]).to_numpy())
    assert "found no fold" in caplog.text
    assert 0 < model.shrinkage_ <= 1
