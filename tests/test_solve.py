"""The exact solution against dense generalised eigenproblems and extended precision."""

import numpy as np
import pytest
import scipy.linalg as sl

from flda import FLDA
from flda._design.design import make_design
from flda._solve.choose import solve
from flda._solve.dual import Dual
from flda._solve.group_space import GroupSpace
from flda._solve.primal import Primal
from flda._solve.within import Within

from array_kinds import EXACT, KINDS
from oracle import dense_flda, effect_projector, effect_scatters, problem, shrunken, within_scatter

SHAPES = {
    "2x4, p < N": (300, 40, (2, 4)),
    "2x4, p > N": (120, 200, (2, 4)),
    "2x3x2, p < N": (300, 40, (2, 3, 2)),
    "2x3x2, p > N": (130, 180, (2, 3, 2)),
}


def assert_same_axes(model, expected, metric):
    for name, (values, axes) in expected.items():
        rows = (model.axes_["effect"] == name).to_numpy()
        np.testing.assert_allclose(model.eigenvalues_[rows], values, rtol=1e-8)
        components = model.components_[rows]
        np.testing.assert_allclose(components @ metric @ components.T, np.eye(rows.sum()), atol=1e-8)
        cosines = np.abs(np.sum((components @ metric) * axes.T, axis=1))
        np.testing.assert_array_less(1 - 1e-8, cosines)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("solver", ["primal", "dual"])
@pytest.mark.parametrize("target", ["identity", "diagonal"])
@pytest.mark.parametrize("within", ["pooled", "balanced"])
def test_axes_equal_a_dense_generalised_eigensolver(shape, solver, target, within):
    n_cells, n_genes, n_levels = SHAPES[shape]
    X, y = problem(n_cells, n_genes, n_levels)
    expected, metric = dense_flda(X, y, n_levels, g=0.2, target=target, within=within)
    model = FLDA(shrinkage=0.2, shrinkage_target=target, within=within, solver=solver).fit(X, y)
    assert_same_axes(model, expected, metric)
    assert model.residual_ < 1e-12
    assert model.solver_ == solver


@pytest.mark.parametrize("kind", EXACT)
@pytest.mark.parametrize("solver", ["primal", "dual"])
def test_every_array_kind_gives_the_same_axes(kind, solver):
    X, y = problem(150, 60, (2, 3), seed=3)
    X[np.random.default_rng(0).random(X.shape) < 0.6] = 0
    expected, metric = dense_flda(X, y, (2, 3), g=0.1)
    assert_same_axes(FLDA(shrinkage=0.1, solver=solver).fit(KINDS[kind](X), y), expected, metric)


def test_float32_input_is_accumulated_in_float64():
    X, y = problem(150, 60, (2, 3))
    single = X.astype(np.float32)
    expected, metric = dense_flda(single.astype(np.float64), y, (2, 3), g=0.1)
    assert_same_axes(FLDA(shrinkage=0.1).fit(single, y), expected, metric)


@pytest.mark.parametrize("condition", [1e2, 1e3])
def test_ill_conditioned_scatter_without_shrinkage(condition):
    """Condition numbers of M_e of 1e4 and 1e6."""
    X, y = problem(400, 50, (2, 4), condition=condition)
    expected, metric = dense_flda(X, y, (2, 4), g=0)
    assert np.linalg.cond(metric) > condition**2
    assert_same_axes(FLDA(shrinkage=0).fit(X, y), expected, metric)


@pytest.mark.parametrize(("solver", "g"), [("primal", 1e-9), ("dual", 1e-5)])
def test_worse_conditioned_scatter_against_extended_precision(solver, g):
    """M_e of rank below p and almost no shrinkage; a float64 reference would itself be too inexact."""
    X, y = problem(60, 80, (2, 2), condition=1e2)
    scatter, means = within_scatter(X, y, "pooled", np.longdouble)
    metric = shrunken(scatter, np.longdouble(g), "identity")
    centred = means - means.mean(axis=0)
    Z = _cholesky_solve(metric, centred.T)
    K = np.asarray(centred @ Z, dtype=np.float64)
    design = make_design(y)
    expected = {}
    for effect in design.effects:
        others = [(b, 1.0) for e, b in design.contrasts.items() if e != effect]
        expected[effect] = GroupSpace(K).axes(design.contrasts[effect], others, 1)[0]
    model = FLDA(shrinkage=g, shrinkage_target="identity", solver=solver).fit(X, y)
    np.testing.assert_allclose(model.eigenvalues_, np.concatenate([*expected.values()]), rtol=1e-6)
    assert np.linalg.cond(np.asarray(metric, dtype=np.float64)) > 1e4


def _cholesky_solve(A, B):
    """Cholesky solve in the precision of A."""
    n = len(A)
    L = np.zeros_like(A)
    for j in range(n):
        L[j, j] = np.sqrt(A[j, j] - L[j, :j] @ L[j, :j])
        L[j + 1 :, j] = (A[j + 1 :, j] - L[j + 1 :, :j] @ L[j, :j]) / L[j, j]
    Y = np.zeros_like(B)
    for i in range(n):
        Y[i] = (B[i] - L[i, :i] @ Y[:i]) / L[i, i]
    for i in reversed(range(n)):
        Y[i] = (Y[i] - L[i + 1 :, i] @ Y[i + 1 :]) / L[i, i]
    return Y


def test_large_means_do_not_spoil_the_scatter():
    """Means 1e6 times the noise: a one-pass sum of squares would lose everything."""
    X, y = problem(200, 20, (2, 2))
    near = FLDA(shrinkage=0.1).fit(X, y)
    far = FLDA(shrinkage=0.1).fit(X + 1e6, y)
    np.testing.assert_allclose(far.eigenvalues_, near.eigenvalues_, rtol=1e-7)


@pytest.mark.parametrize("penalty", [0.0, 0.3, 10.0])
def test_finite_penalties(penalty):
    X, y = problem(200, 30, (2, 3))
    expected, metric = dense_flda(X, y, (2, 3), g=0.2, penalty=penalty)
    assert_same_axes(FLDA(shrinkage=0.2, penalty=penalty).fit(X, y), expected, metric)


@pytest.mark.parametrize("solver", ["primal", "dual"])
def test_infinite_penalty_equals_the_constrained_problem(solver):
    """Against a dense solve inside the null space of the other effects' scatters."""
    n_levels = (2, 4)
    X, y = problem(200, 30, n_levels)
    scatter, means = within_scatter(X, y, "pooled")
    metric = shrunken(scatter, 0.2, "diagonal")
    scatters = effect_scatters(means, n_levels)
    model = FLDA(shrinkage=0.2, penalty=np.inf, solver=solver).fit(X, y)
    for effect, own in scatters.items():
        others = sum(m / np.trace(m) for e, m in scatters.items() if e != effect)
        free = sl.null_space(others, rcond=1e-10)
        df = np.prod([n_levels[j] - 1 for j in effect])
        values = sl.eigh(free.T @ own @ free, free.T @ metric @ free, eigvals_only=True)[::-1][:df]
        rows = (model.axes_["effect"] == ":".join("AB"[j] for j in effect)).to_numpy()
        np.testing.assert_allclose(model.eigenvalues_[rows], values, rtol=1e-8)
        U = model.components_[rows]
        for other in scatters:
            if other != effect:
                np.testing.assert_allclose(effect_projector(other, n_levels) @ means @ U.T, 0, atol=1e-12)


def test_penalty_per_effect():
    X, y = problem(200, 30, (2, 3))
    model = FLDA(shrinkage=0.2, penalty={"B": np.inf, "A:B": 0}).fit(X, y)
    scores = within_scatter(X, y, "pooled")[1] @ model.components_[0]
    assert np.linalg.norm(effect_projector((1,), (2, 3)) @ scores) < 1e-12
    assert np.linalg.norm(effect_projector((0, 1), (2, 3)) @ scores) > 1e-3


def test_infinite_penalty_without_room_says_so():
    X, y = problem(100, 2, (2, 4))
    with pytest.raises(ValueError, match="leaves no direction"):
        FLDA(shrinkage=0.1, penalty=np.inf).fit(X, y)


def test_fewer_genes_than_degrees_of_freedom():
    X, y = problem(200, 2, (2, 5))
    model = FLDA(shrinkage=0.0).fit(X, y)
    assert model.axes_.groupby("effect").size().max() == 2
    assert np.isfinite(model.components_).all()


def test_residual_reports_the_error_of_the_solve():
    """The residual is that of the true matrix-free scatter, so a wrong factored matrix shows."""
    X, y = problem(200, 30, (2, 2))
    design = make_design(y)
    inverse = Primal(Within.from_data(X, design.codes, design.counts, "pooled"), "identity")
    assert solve(inverse, 0.1)[1] < 1e-13
    inverse.scatter = inverse.scatter * 0.3  # too far off for refinement
    with pytest.raises(ValueError, match="solver='primal' reached a relative residual of"):
        solve(inverse, 0.1)


@pytest.mark.parametrize("target", ["identity", "diagonal"])
@pytest.mark.parametrize("within", ["pooled", "balanced"])
def test_folds_equal_a_fit_on_the_training_cells(target, within):
    """Both inverses evaluate folds from full-data quantities; here against a dense computation from scratch."""
    X, y = problem(90, 40, (2, 3), seed=5)
    design = make_design(y)
    train = np.flatnonzero(np.arange(90) % 4 > 0)
    test = np.setdiff1d(np.arange(90), train)
    part = design.subset(train)
    scatter, means = within_scatter(X[train], y.iloc[train], "pooled")
    weights = Within.from_data(X, design.codes, design.counts, within).weights
    if within == "balanced":  # weights of the full data, rescaled to the training cells
        n, C = part.counts, part.n_groups
        squares = [(X[train][part.codes == c] - means[c]) for c in range(C)]
        scatter = sum(w * s.T @ s for w, s in zip(weights, squares, strict=True)) / np.sum(weights * (n - 1))
    full = within_scatter(X, y, within)[0]
    t = np.full(40, np.trace(full) / 40) if target == "identity" else np.diag(full)
    centre = means.mean(axis=0)
    Z = np.linalg.solve(0.7 * scatter + 0.3 * np.diag(t), (means - centre).T)
    for kind in (Primal, Dual):
        inverse = kind(Within.from_data(X, design.codes, design.counts, within), target)
        K, held_out = inverse.fold(train, test, part.codes, part.counts).group_spaces([0.3])[0]
        np.testing.assert_allclose(K, (means - centre) @ Z, atol=1e-10)
        np.testing.assert_allclose(held_out, (X[test] - centre) @ Z, atol=1e-10)


@pytest.mark.parametrize("solver", ["primal", "dual"])
def test_singular_scatter_is_refused_with_advice(solver):
    X, y = problem(100, 20, (2, 2))
    X[:, 7] = 2 * X[:, 3]
    with pytest.raises(ValueError, match="singular"):
        FLDA(shrinkage=0, solver=solver).fit(X, y)
    assert np.isfinite(FLDA(shrinkage=0.1, solver=solver).fit(X, y).components_).all()
