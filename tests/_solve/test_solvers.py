"""The exact solution against dense generalised eigenproblems and extended precision."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.linalg import eigh

from flda import FLDA
from flda._design.make import make_design
from flda._solve import dual
from flda._solve.group_space import GroupSpace
from flda._solve.objective import Terms
from flda._solve.within import Within

from oracle import dense_flda, donor_problem, donor_scatter, problem, shrunken, within_scatter

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
    model = FLDA(shrinkage=0.2, shrinkage_target=target, within=within, solver=solver, objective="difference").fit(X, y)
    assert_same_axes(model, expected, metric)
    assert model.residual_ < 1e-12
    assert model.solver_ == solver


def test_float32_input_is_accumulated_in_float64():
    X, y = problem(150, 60, (2, 3))
    single = X.astype(np.float32)
    expected, metric = dense_flda(single.astype(np.float64), y, (2, 3), g=0.1)
    assert_same_axes(FLDA(shrinkage=0.1, objective="difference").fit(single, y), expected, metric)


@pytest.mark.parametrize("condition", [1e2, 1e3])
def test_ill_conditioned_scatter_without_shrinkage(condition):
    """Condition numbers of M_e of 1e4 and 1e6."""
    X, y = problem(400, 50, (2, 4), condition=condition)
    expected, metric = dense_flda(X, y, (2, 4), g=0)
    assert np.linalg.cond(metric) > condition**2
    assert_same_axes(FLDA(shrinkage=0, objective="difference").fit(X, y), expected, metric)


@pytest.mark.parametrize(("solver", "g"), [("primal", 1e-9), ("dual", 1e-5)])
@pytest.mark.parametrize("ratio", [True, False])
def test_worse_conditioned_scatter_against_extended_precision(solver, g, ratio):
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
        own, *others = (design.contrasts[e] for e in sorted(design.effects, key=lambda e: e != effect))
        expected[effect] = GroupSpace(K).axes(Terms(own, own, np.vstack(others), ratio=ratio), 1)[0]
    options = {"objective": "ratio" if ratio else "difference", "reliability": False}
    model = FLDA(shrinkage=g, shrinkage_target="identity", solver=solver, **options).fit(X, y)
    # in the ratio squares of up to 1e11 must cancel next to the 1 of the metric
    near = 1e-4 if ratio and solver == "primal" else 1e-6
    np.testing.assert_allclose(model.eigenvalues_, np.concatenate([*expected.values()]), rtol=near)
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
    assert_same_axes(FLDA(shrinkage=0.2, penalty=penalty, objective="difference").fit(X, y), expected, metric)


def test_fewer_genes_than_degrees_of_freedom():
    X, y = problem(200, 2, (2, 5))
    model = FLDA(shrinkage=0.0).fit(X, y)
    assert model.axes_.groupby("effect").size().max() == 2
    assert np.isfinite(model.components_).all()


@pytest.mark.parametrize("solver", ["primal", "dual", "iterative"])
@pytest.mark.parametrize("target", ["identity", "diagonal"])
@pytest.mark.parametrize("n_genes", [25, 160], ids=["p < N", "p > N"])
@pytest.mark.parametrize("g", [0.2, 1.0])
def test_a_gene_that_varies_between_groups_only(solver, target, n_genes, g):
    """A perfect marker: its denominator is that of the shrinkage target, the mean variance of all genes."""
    X, y = problem(120, n_genes, (2, 3))
    a, b = ((y[f].str[1]).astype(int) for f in "AB")
    X[:, 4] = 3 * a - 2 * b  # main effects
    X[:, 9] = a * (b == 1)  # all three effects
    X[:, 11] = 5.0  # varies nowhere
    expected, metric = dense_flda(X, y, (2, 3), g=g, target=target)
    model = FLDA(shrinkage=g, shrinkage_target=target, solver=solver, objective="difference").fit(X, y)
    others = np.delete(np.arange(n_genes), [4, 9, 11])
    mean = np.sum(model.within_sd_[others] ** 2) / n_genes
    np.testing.assert_allclose(model.within_sd_[[4, 9, 11]] ** 2, [mean, mean, 0])
    assert_same_axes(model, expected, metric)
    assert np.abs(model.components_[:, 4]).max() > 0.1
    np.testing.assert_allclose(model.components_[:, 11], 0, atol=1e-12)


@pytest.mark.parametrize("solver", ["primal", "dual", "iterative"])
@pytest.mark.parametrize("g", [0.05, 0.7])
def test_axes_with_donors_in_the_error_term_equal_a_dense_computation(solver, g):
    X, y, donors = donor_problem(4, 25, 30)
    model = FLDA(shrinkage=g, solver=solver, objective="difference").fit(X, y, groups=donors)
    scatter, means = donor_scatter(X, y, donors)
    np.testing.assert_allclose(model.means_, means)
    np.testing.assert_allclose(model.within_sd_**2, np.diag(donor_scatter(X, y, donors, of_a_cell=True)[0]))
    metric = shrunken(scatter, g, "diagonal")
    signs = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]])
    contrasts = {"treatment": signs[:, 0], "type": signs[:, 1], "treatment:type": signs.prod(axis=1)}
    # a contrast of +-1 over four groups is twice an orthonormal one; M_S divides by the levels of the other factors
    part = {e: np.outer(c @ means, c @ means) / 4 / (1 if ":" in e else 2) for e, c in contrasts.items()}
    for j, effect in enumerate(part):
        objective = 2 * part[effect] - sum(part.values())
        values, vectors = eigh(objective, metric)
        assert model.eigenvalues_[j] == pytest.approx(values[-1], rel=1e-8)
        assert abs(model.components_[j] @ metric @ vectors[:, -1]) == pytest.approx(1, abs=1e-8)
    assert model.residual_ < 1e-10


@pytest.mark.parametrize("solver", ["primal", "dual"])
def test_singular_scatter_is_refused_with_advice(solver):
    X, y = problem(100, 20, (2, 2))
    X[:, 7] = 2 * X[:, 3]
    with pytest.raises(ValueError, match="shrinkage"):
        FLDA(shrinkage=0, solver=solver).fit(X, y)
    assert np.isfinite(FLDA(shrinkage=0.1, solver=solver).fit(X, y).components_).all()


def test_a_perfect_marker_needs_shrinkage():
    X, y = problem(100, 20, (2, 2))
    X[:, 4] = y["A"] == "A1"
    with pytest.raises(ValueError, match="shrinkage"):
        FLDA(shrinkage=0).fit(X, y)


def test_fits_by_tiles_are_those_of_whole_matrices(monkeypatch):
    """Large matrices are factored and summed by tiles, see the tests of devices and of the scatter."""
    for shape in ((60, 20), (30, 60)):
        X, y = problem(*shape, (2, 2))
        whole = FLDA(shrinkage="cv").fit(X, y)
        with monkeypatch.context() as small:
            small.setattr("flda._data.symmetric.MAX_TRIANGLE", 8)
            small.setattr("flda._data.symmetric.PANEL", 5)
            tiled = FLDA(shrinkage="cv").fit(X, y)
        np.testing.assert_allclose(tiled.components_, whole.components_, rtol=1e-9, atol=1e-12)
        assert tiled.shrinkage_ == whole.shrinkage_


@pytest.mark.parametrize(("factor", "g", "single"), [
    (0.0, 0.1, True), (0.0, 0.9, True), (0.0, 1e-6, False), (300.0, 0.9, False), (1e5, 1e-2, False),
])  # fmt: skip
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_products_in_single_precision_are_corrected_or_repeated(monkeypatch, factor, g, single, kind):
    """``M_e(g)`` has condition numbers up to 1e10: a strong factor common to all genes, or little shrinkage."""
    X, y = problem(400, 500, (2, 3))
    X += factor * np.random.default_rng(1).normal(size=(400, 1))
    X = sp.csr_array(X) if kind == "sparse" else X
    exact = FLDA(shrinkage=g, solver="dual").fit(X, y)
    monkeypatch.setattr(dual, "SINGLE_FROM", 100)
    precisions = []
    cell_gram = Within.cell_gram
    monkeypatch.setattr(
        Within, "cell_gram", lambda *args: (out := cell_gram(*args), precisions.append(out[0].dtype.name))[0]
    )
    model = FLDA(shrinkage=g, solver="dual").fit(X, y)
    assert precisions == (["float32"] if single else ["float32", "float64"])
    np.testing.assert_allclose(model.eigenvalues_, exact.eigenvalues_, rtol=1e-8)
    assert model.residual_ < max(1e-12, 2 * exact.residual_)


@pytest.mark.parametrize("with_donors", [False, True])
def test_cross_validation_in_single_precision(monkeypatch, with_donors):
    X, y, donors = donor_problem(4, 60, 25, seed=3)
    X = np.hstack([X, np.random.default_rng(2).normal(size=(len(X), len(X) + 50))])
    groups = donors if with_donors else None
    exact = FLDA(solver="dual").fit(X, y, groups)
    monkeypatch.setattr(dual, "SINGLE_FROM", 100)
    model = FLDA(solver="dual").fit(X, y, groups)
    assert model.shrinkage_ == exact.shrinkage_
    np.testing.assert_allclose(model.shrinkage_path_, exact.shrinkage_path_, rtol=1e-4)
    np.testing.assert_allclose(model.eigenvalues_, exact.eigenvalues_, rtol=1e-8)


def test_genes_that_are_constant_within_groups_in_single_precision(monkeypatch):
    X, y = problem(300, 350, (2, 3))
    X[:, 3], X[:, 7] = 2.5, 3.0 * (y["A"] == y["A"].iloc[0])
    fits = []
    for least in (10**6, 100):
        monkeypatch.setattr(dual, "SINGLE_FROM", least)
        fits.append(FLDA(shrinkage=0.4, solver="dual").fit(sp.csr_array(X), y))
    np.testing.assert_allclose(fits[1].eigenvalues_, fits[0].eigenvalues_, rtol=1e-8)
    np.testing.assert_allclose(np.abs(fits[1].components_), np.abs(fits[0].components_), atol=1e-8)
