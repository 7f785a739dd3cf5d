"""Rows of matrices that are computed when they are needed."""

import numpy as np
import pytest

from flda._design.make import make_design
from flda._solve.choose import SOLVERS
from flda._solve.rows import MatrixRows, ScatterRows, WithRows, largest_eigenvalue
from flda._solve.within import Within

from oracle import donor_problem, problem, shrunken, within_scatter

RNG = np.random.default_rng(0)


def assert_rows_of(rows, matrix):
    p = len(matrix)
    np.testing.assert_allclose(rows.diagonal, np.diag(matrix), rtol=1e-9)
    for genes in ([3, 1, 3], np.array([0]), range(2, 5)):
        found = rows(genes)
        assert found.shape == (len(genes), p)
        np.testing.assert_allclose(found, matrix[list(genes)], atol=1e-9 * np.abs(matrix).max())
    B = RNG.normal(size=(p, 3))
    np.testing.assert_allclose(rows.times(B), matrix @ B, atol=1e-9 * np.abs(matrix @ B).max())
    scale = np.sqrt(np.diag(matrix))
    largest = np.linalg.eigvalsh(matrix / np.outer(scale, scale))[-1]
    assert largest_eigenvalue(rows) == pytest.approx(largest, rel=1e-2)


@pytest.mark.parametrize("solver", list(SOLVERS))
@pytest.mark.parametrize("target", ["identity", "diagonal"])
@pytest.mark.parametrize("g", [0.2, 1.0])
@pytest.mark.parametrize("more", [0, 2])
def test_rows_of_the_shrunken_scatter_with_further_squares(solver, target, g, more):
    X, y = problem(60, 30, (2, 3))
    X[:, 4] = y["A"] == "A1"  # no variance within groups
    design = make_design(y)
    held = SOLVERS[solver](Within.from_data(X, design.codes, design.counts, "pooled"), target)
    matrix = shrunken(within_scatter(X, y, "pooled")[0], g, target)
    rows = ScatterRows(held, g)
    assert_rows_of(rows, matrix)
    A = RNG.normal(size=(more, 30))
    assert_rows_of(WithRows(rows, A), matrix + A.T @ A)
    assert_rows_of(WithRows(WithRows(rows, A), A), matrix + 2 * A.T @ A)


def test_rows_are_computed_once():
    X, y, _ = donor_problem(3, 10, 12)
    design = make_design(y)
    held = SOLVERS["dual"](Within.from_data(X, design.codes, design.counts, "pooled"), "diagonal")
    asked, rows_of = [], held.rows
    held.rows = lambda genes: asked.extend(genes) or rows_of(genes)
    rows = ScatterRows(held, 0.3)
    for genes in ([2, 5], [5, 2, 7], np.array([7])):
        rows(genes)
    assert asked == [2, 5, 7]


@pytest.mark.parametrize("p", [1, 2, 3, 40])
def test_the_largest_eigenvalue_of_small_and_large_matrices(p):
    A = RNG.normal(size=(p + 5, p)) * np.geomspace(1, 100, p)
    matrix = A.T @ A
    scale = np.sqrt(np.diag(matrix))
    expected = np.linalg.eigvalsh(matrix / np.outer(scale, scale))[-1]
    assert largest_eigenvalue(MatrixRows(matrix)) == pytest.approx(expected, rel=1e-2)
    if p > 4:
        assert_rows_of(MatrixRows(matrix), matrix)
