"""One Krylov space for a whole grid of shrinkage, and traces by random vectors, against dense solutions."""

import numpy as np
import pytest

from flda._solve import krylov
from flda._solve.krylov import FOLD_TOLERANCE, solve_and_trace, solve_family, solve_grid

GRID = [0.01, 0.2, 0.9]


def system(n, rank, k=4, seed=0):
    """M of some rank with noise of unequal size, a target, and right-hand sides."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(rank, n)) * np.geomspace(1, 0.1, n)
    return A.T @ A / rank, rng.uniform(0.5, 2, n), rng.normal(size=(n, k))


def dense(M, target, g, B):
    return np.linalg.solve((1 - g) * M + g * np.diag(target), B)


def test_one_krylov_space_serves_all_shrinkage():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(60, 50))
    M, target, B = A.T @ A / 60, rng.uniform(0.5, 2, 50), rng.normal(size=(50, 4))
    B[:, 3] = B[:, 0] - B[:, 1]  # of lower rank
    calls = []

    def times(V):
        calls.append(V.shape[1])
        return M @ V

    grid = [0.01, 0.2, 0.9]
    for g, Z in zip(grid, solve_family(times, target, grid, B), strict=True):
        np.testing.assert_allclose(Z, np.linalg.solve((1 - g) * M + g * np.diag(target), B), atol=1e-9)
    assert sum(calls) <= 60  # three right-hand sides, 50 dimensions
    assert not np.any(solve_family(times, target, [0.5], np.zeros((50, 2)))[0])


@pytest.mark.parametrize("rank", [3, 17])
def test_solutions_stay_exact_beyond_the_rank(rank):
    """With a scatter of low rank the space is exhausted early; a basis that lost orthogonality would be off."""
    rng = np.random.default_rng(0)
    A = rng.normal(size=(rank, 80))
    M, target, B = A.T @ A, rng.uniform(0.5, 2, 80), rng.normal(size=(80, 5))
    grid = [1e-4, 0.3, 1.0]
    for g, Z in zip(grid, solve_family(lambda V: M @ V, target, grid, B, 1e-14), strict=True):
        expected = np.linalg.solve((1 - g) * M + g * np.diag(target), B)
        np.testing.assert_allclose(Z, expected, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("tolerance", [1e-2, 1e-6, 1e-11])
def test_the_largest_residual_over_the_grid_is_below_the_tolerance(tolerance):
    M, target, B = system(300, 400)
    products = []

    def times(V):
        products.append(V.shape[1])
        return M @ V

    scale = 1 / np.sqrt(target)[:, None]
    for g, Z in zip(GRID, solve_family(times, target, GRID, B, tolerance), strict=True):
        error = scale * (B - (1 - g) * M @ Z - g * target[:, None] * Z)
        assert np.linalg.norm(error) <= 1.01 * tolerance * np.linalg.norm(scale * B) + 1e-13
    assert sum(products) <= {1e-2: 100, 1e-6: 200, 1e-11: 300}[tolerance]


def test_a_basis_of_its_largest_size_gives_its_best_solution(monkeypatch):
    M, target, B = system(80, 120)
    monkeypatch.setattr(krylov, "MAX_BASIS_BYTES", 8 * 80 * 40)
    (Z,) = solve_family(lambda V: M @ V, target, [0.5], B, 1e-14)
    error = B - 0.5 * M @ Z - 0.5 * target[:, None] * Z
    assert 1e-14 < np.linalg.norm(error) / np.linalg.norm(B) < 1e-3


@pytest.mark.parametrize("g", [1e-3, 0.3, 1.0])
@pytest.mark.parametrize("k", [0, 3])
def test_the_trace_of_few_rows_is_exact(g, k):
    """As many right-hand sides as rows, with none besides."""
    M, target, B = system(50, 20, k)
    start = np.trace(M / target)
    (Z,), (noise,) = solve_and_trace(lambda V: M @ V, target, start, [g], B, 1e-12)
    assert noise == pytest.approx(np.trace(dense(M, target, g, M)), rel=1e-9)
    assert Z.shape == (50, k)
    np.testing.assert_allclose(Z, dense(M, target, g, B), atol=1e-9)


def test_the_trace_of_more_rows_is_estimated_without_bias(monkeypatch):
    """Random signs: over 200 draws of the vectors the mean is the trace, and the spread is what is said of it."""
    M, target, B = system(260, 100, 2)
    expected = np.trace(dense(M, target, 0.3, M))
    fresh, found = np.random.default_rng(1), []

    def one():
        _, (noise,) = solve_and_trace(lambda V: M @ V, target, np.trace(M / target), [0.3], B, 1e-9)
        return noise

    assert one() == one()  # the same vectors in every call
    monkeypatch.setattr(krylov.np.random, "default_rng", lambda seed: fresh)
    found = [one() for _ in range(200)]
    spread = np.sqrt(2 / (krylov.N_PROBES * expected))
    assert np.std(found) / expected < spread
    assert np.mean(found) == pytest.approx(expected, rel=3 * spread / np.sqrt(200))


@pytest.mark.parametrize("n", [60, 300, 700])
def test_a_grid_for_a_matrix_in_memory(n):
    """Diagonalised up to SMALL rows, by a Krylov space to the tolerance of folds above."""
    M, target, B = system(n, 90)
    found, traces = solve_grid(M, target, [*GRID, 1.0], B)
    near = 1e-9 if n <= krylov.SMALL else 100 * FOLD_TOLERANCE
    for g, Z, trace in zip([*GRID, 1.0], found, traces, strict=True):
        wanted = dense(M, target, g, B)
        np.testing.assert_allclose(Z, wanted, atol=near * np.abs(wanted).max())
        exact = np.trace(dense(M, target, g, M))
        if n <= krylov.SMALL or g == 1:
            assert trace == pytest.approx(exact, rel=1e-9)
        else:
            assert trace == pytest.approx(exact, rel=4 * np.sqrt(2 / (krylov.N_PROBES * exact)))


def test_a_grid_for_a_matrix_on_the_device(cupy, monkeypatch):
    M, target, B = system(40, 60)
    for small in (krylov.SMALL, 10):
        monkeypatch.setattr(krylov, "SMALL", small)
        found, traces = solve_grid(cupy.asarray(M), target, GRID, B)
        for g, Z, trace in zip(GRID, found, traces, strict=True):
            assert type(Z) is np.ndarray
            np.testing.assert_allclose(Z, dense(M, target, g, B), atol=1e-4)
            assert trace == pytest.approx(np.trace(dense(M, target, g, M)), rel=1e-5)


def test_runs_in_step_share_their_products():
    """Runs of different lengths give what each gives alone, with no more products than the longest needs."""
    M, target, B = system(80, 120)
    widths = []

    def times(V):
        widths.append(V.shape[1])
        return M @ V

    kinds = [(B[:, :1], 1e-2), (B, 1e-12), (np.zeros((80, 2)), 1e-12)]
    together = krylov.in_step([krylov.solving(target, GRID, b, t) for b, t in kinds], times)
    n_products, shared = len(widths), max(widths)
    for (b, t), found in zip(kinds, together, strict=True):
        widths.clear()
        alone = solve_family(times, target, GRID, b, t)
        assert len(widths) <= n_products
        np.testing.assert_allclose(found, alone, rtol=1e-9, atol=1e-12)
    assert shared > B.shape[1]
    assert krylov.in_step([], times) == []
