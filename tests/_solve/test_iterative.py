"""The solver that holds no matrix: one Krylov space for every shrinkage."""

import numpy as np
import pytest

from flda import FLDA, SparseFLDA
from flda._data.arrays import Stream

from array_kinds import BLOCKS, KINDS, SINGLE, kinds
from oracle import donor_problem, problem


@pytest.mark.parametrize("kind", kinds(KINDS, BLOCKS, but=SINGLE))
@pytest.mark.parametrize("n_genes", [30, 150])
def test_iterative_equals_direct(store, kind, n_genes):
    X, y = problem(120, n_genes, (2, 3), seed=4)
    for g, target in ((0.02, "diagonal"), (0.6, "identity")):
        expected = FLDA(shrinkage=g, shrinkage_target=target).fit(X, y)
        model = FLDA(shrinkage=g, shrinkage_target=target, solver="iterative").fit(store(X), y)
        assert model.solver_ == "iterative"
        np.testing.assert_allclose(model.eigenvalues_, expected.eigenvalues_, rtol=1e-8)
        near = 1e-7 * np.abs(expected.components_).max()
        np.testing.assert_allclose(model.components_, expected.components_, atol=near)
        assert model.residual_ < 1e-9


def test_with_donors_and_sparse_axes():
    X, y, donors = donor_problem(4, 12, 60)
    expected = SparseFLDA(n_genes=4, shrinkage="cv").fit(X, y, groups=donors)
    model = SparseFLDA(n_genes=4, shrinkage="cv", solver="iterative").fit(X, y, groups=donors)
    assert model.shrinkage_ == expected.shrinkage_
    np.testing.assert_allclose(model.eigenvalues_, expected.eigenvalues_, rtol=1e-8)


@pytest.mark.parametrize(("n_cells", "n_genes"), [(60, 120), (60, 30), (40, 400)])
@pytest.mark.parametrize("within", ["pooled", "balanced"])
@pytest.mark.parametrize("group_means", ["observed", "shrunken"])
def test_cross_validation_where_the_krylov_space_is_exhausted(n_cells, n_genes, within, group_means):
    """The scatter has a rank of 54 at most: block Krylov reaches all of it, and rounding error beyond.

    With more than 200 genes the noise, and so the reliability, is estimated by random vectors.
    """
    X, y = problem(n_cells, n_genes, (2, 3))
    options = {"shrinkage": "cv", "within": within, "group_means": group_means}
    expected = FLDA(**options, solver="dual").fit(X, y)
    model = FLDA(**options, solver="iterative").fit(X, y)
    path, wanted = model.shrinkage_path_, expected.shrinkage_path_
    np.testing.assert_array_equal(path["shrinkage"], wanted["shrinkage"])
    near = 1e-8 if n_genes <= 200 else 1e-3
    np.testing.assert_allclose(path["criterion"], wanted["criterion"], rtol=near)
    assert model.shrinkage_ == expected.shrinkage_


def test_ill_conditioned_data():
    """Standard deviations over six decades, condition number of the scatter 1e12 before shrinkage."""
    X, y = problem(400, 40, (2, 2), seed=3, condition=1e6)
    model = FLDA(shrinkage=0.01, solver="iterative").fit(X, y)
    expected = FLDA(shrinkage=0.01, solver="primal").fit(X, y)
    np.testing.assert_allclose(model.eigenvalues_, expected.eigenvalues_, rtol=1e-8)


def test_what_it_cannot_do():
    X, y = problem(60, 80, (2, 2))
    for shrinkage in ("ledoit-wolf", "oas"):
        with pytest.raises(ValueError, match=r"solver='iterative'.*shrinkage='cv'"):
            FLDA(solver="iterative", shrinkage=shrinkage).fit(X, y)
    with pytest.raises(ValueError, match="shrinkage"):
        FLDA(solver="iterative", shrinkage=0).fit(X[:, :5], y)
    with pytest.raises(ValueError, match="solver='dual'"):
        FLDA(solver="dual").fit(Stream.of(X), y)
