"""Which solver, and the solve that checks and refines itself."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from flda import FLDA
from flda._data import device
from flda._data.arrays import Stream
from flda._design.make import make_design
from flda._solve.choose import SOLVERS, choose_solver, solve
from flda._solve.cost import steps
from flda._solve.krylov import N_PROBES, TOLERANCE
from flda._solve.primal import Primal
from flda._solve.solver import Inverse
from flda._solve.within import Within

from oracle import problem


def test_the_smaller_side_is_taken():
    X = sp.csr_array((2000, 3000))
    assert choose_solver("auto", X, 0.5, 8).name == "dual"
    assert choose_solver("auto", sp.csr_array((3000, 2000)), 0.5, 8).name == "primal"
    assert choose_solver("auto", Stream.of(X), 0.5, 8).name == "primal"  # no Gram matrix of cells from a file
    assert choose_solver("auto", X, 0, 8).name == "primal"
    for name, kind in SOLVERS.items():
        assert choose_solver(name, X, 0.5, 8) is kind
        assert kind.name == name


class Shape:
    """A CSR matrix of a certain size and number of entries, of which nothing else is known."""

    def __new__(cls, n, p, density):
        entries = round(n * p * density)
        counts = np.full(n, entries // n)
        counts[: entries % n] += 1
        nothing = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (entries,), (0,))
        X = sp.csr_array((n, p), dtype=np.float32)
        X.data, X.indices, X.indptr = nothing, np.zeros(0, np.int32), np.append(0, np.cumsum(counts))
        return X


@pytest.mark.parametrize(
    ("n", "p", "density", "g", "expected"),
    [
        (1_000_000, 2000, 0.05, "auto", "primal"),
        (1_000_000, 2000, 0.05, 0.9, "primal"),  # ten products with the data cost more than the scatter
        (3833, 9000, 0.22, 0.3, "dual"),
        (3833, 9000, 0.22, "oas", "dual"),
        (9000, 9000, 0.05, 0.01, "primal"),  # ill-conditioned, and few pairs of genes in a cell
        (9000, 9000, 0.22, 0.01, "dual"),
        (9000, 9000, 0.22, 0.5, "iterative"),  # well-conditioned, and as many genes as cells
        (9000, 9000, 0.05, "auto", "iterative"),
        (9000, 9000, 0.05, "oas", "primal"),
        (2000, 2000, 0.05, 0.9, "primal"),  # too small for it to matter
        (30_000, 18_000, 0.08, "auto", "iterative"),  # neither matrix is formed
        (30_000, 18_000, 0.08, 0.01, "iterative"),
    ],
)
def test_the_cheapest_solver_is_taken(monkeypatch, n, p, density, g, expected):
    monkeypatch.setattr("flda._solve.choose.available_memory", lambda: 6.4e10)
    assert choose_solver("auto", Shape(n, p, density), g, 8).name == expected


@pytest.mark.parametrize("g", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("shared", [0.0, 2.0])
def test_the_steps_of_a_krylov_space_are_those_that_the_cost_expects(monkeypatch, g, shared):
    """Also with a factor that many genes share; it takes the iterative solver few steps more."""
    rng, products, times = np.random.default_rng(0), [], Within.times
    X = rng.normal(size=(400, 300)) + shared * rng.normal(size=(400, 1)) @ rng.random((1, 300))
    design = make_design(pd.DataFrame({"A": (np.arange(400) % 4).astype(str)}))
    held = SOLVERS["iterative"](Within.from_data(X, design.codes, design.counts, "pooled"), "diagonal")
    monkeypatch.setattr(Within, "times", lambda self, B: (products.append(1), times(self, B))[1])
    held.solve_means(g)
    assert len(products) == pytest.approx(steps(400, 300, g, TOLERANCE, 3 + N_PROBES), rel=0.4)


def test_little_memory_asks_for_the_iterative_solver(monkeypatch, caplog):
    X = sp.csr_array((2000, 3000))
    monkeypatch.setattr("flda._solve.choose.available_memory", lambda: 1e8)
    with caplog.at_level("INFO", logger="flda"):
        assert choose_solver("auto", X, 0.5, 8).name == "iterative"
    (record,) = caplog.records
    assert "iterative" in record.getMessage()
    assert choose_solver("auto", X, "oas", 8).name == "iterative"
    assert choose_solver("auto", X, 0, 8).name == "primal"


def test_memory_of_the_device_counts_there(monkeypatch, cupy):
    X = device.OnDevice(sp.csr_array((2000, 3000)))
    monkeypatch.setattr("flda._solve.choose.available_memory", lambda: 1e8)
    assert choose_solver("auto", X, 0.5, 8).name == "dual"
    monkeypatch.setattr("flda._solve.choose.free_memory", lambda: 1e8)
    assert choose_solver("auto", X, 0.5, 8).name == "iterative"


def test_large_sides_need_no_matrix():
    X = sp.csr_array((12_000, 11_000))
    assert choose_solver("auto", X, "auto", 8).name == "iterative"
    assert choose_solver("auto", sp.csr_array((12_000, 3000)), "auto", 8).name == "primal"
    assert choose_solver("auto", sp.csr_array((3000, 11_000)), "auto", 8).name == "dual"
    assert choose_solver("auto", X, 0, 8).name == "primal"  # nothing else can do without shrinkage


def test_the_residual_is_the_error_of_the_solve():
    """It is that of the true matrix-free scatter, so a wrong factored matrix shows."""
    X, y = problem(200, 30, (2, 2))
    design = make_design(y)
    inverse = Primal(Within.from_data(X, design.codes, design.counts, "pooled"), "identity")
    Z, residual, noise = solve(inverse, 0.1)
    M = 0.9 * inverse.scatter + 0.1 * np.diag(inverse.target)
    G = inverse.means.T
    assert residual == pytest.approx(np.linalg.norm(M @ Z - G) / np.linalg.norm(G), abs=1e-14)
    assert residual < 1e-13
    assert noise.trace == pytest.approx(np.trace(np.linalg.solve(M, inverse.scatter)))
    np.testing.assert_array_equal(noise.counts, design.counts)
    inverse.scatter = inverse.scatter * 0.3  # too far off for refinement
    with pytest.raises(ValueError, match="solver='primal'"):
        solve(inverse, 0.1)


@pytest.mark.parametrize(("solver", "g", "condition"), [("dual", 1e-9, 1e2), ("dual", 1e-7, 1e4)])
def test_a_solve_that_loses_digits_is_refined(solver, g, condition):
    """Woodbury's identity cancels at small shrinkage: one solve leaves a residual of 1e-5, refinement the primal's."""
    X, y = problem(200, 60, (2, 2), condition=condition)
    model = FLDA(shrinkage=g, solver=solver).fit(X, y)
    assert model.residual_ < 1e-8
    expected = FLDA(shrinkage=g, solver="primal").fit(X, y)
    np.testing.assert_allclose(model.eigenvalues_, expected.eigenvalues_, rtol=1e-7)


@pytest.mark.parametrize("shrunken", [False, True])
@pytest.mark.parametrize("solver", list(SOLVERS))
def test_well_conditioned_solves_need_no_refinement(solver, shrunken):
    X, y = problem(100, 60, (2, 3))
    design = make_design(y)
    within = Within.from_data(X, design.codes, design.counts, "pooled")
    held = SOLVERS[solver](within, "diagonal", design if shrunken else None)
    Z, inverse = held.solve_means(0.3)
    np.testing.assert_allclose(Z, solve(held, 0.3)[0], atol=1e-9 * np.abs(Z).max())
    np.testing.assert_allclose(Z, inverse.solve(held.means.T), atol=1e-9 * np.abs(Z).max())


def test_refinement_mends_an_inexact_factor():
    """A factor that is off by a hundredth: the residual falls a hundredfold a step, until it is small enough."""
    X, y = problem(200, 30, (2, 2))
    design = make_design(y)
    inverse = Primal(Within.from_data(X, design.codes, design.counts, "pooled"), "identity")
    expected, _, noise = solve(inverse, 0.1)
    exact = inverse.factor(0.1)
    inverse.factor = lambda g: Inverse(lambda B: 1.01 * exact.solve(B), exact.trace)
    Z, residual, same = solve(inverse, 0.1)
    assert same.trace == noise.trace
    assert residual < 1e-12
    np.testing.assert_allclose(Z, expected, rtol=1e-10)
