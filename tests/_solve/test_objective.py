"""The axes of all effects against dense eigenproblems in the space of the genes, written from their definitions."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flda import FLDA
from flda._design.make import make_design
from flda._solve.choose import SOLVERS
from flda._solve.objective import Noise, Objective, lack_of_fit_variance, reliability_root
from flda._solve.within import Within

import oracle
from oracle import dense_axes, dense_ratio, donor_problem, donor_scatter, group_table, problem, shrunken, within_scatter

HOLES = [(0, 0), (0, 1), (0, 3), (1, 1), (1, 2), (2, 2), (2, 3), (2, 0)]  # of 3 x 4: main effects leave 2 df
HOLES3 = [c for c in np.ndindex(2, 3, 2) if c not in [(0, 0, 1), (1, 2, 0)]]
MAINS2, ALL2 = [(0,), (1,)], [(0,), (1,), (0, 1)]
MAINS3 = [(0,), (1,), (2,)]


def few_cells(X, y, sizes):
    """Leave the given numbers of cells in the first groups."""
    rank, group = y.groupby(list(y)).cumcount().to_numpy(), y.groupby(list(y)).ngroup().to_numpy()
    limit = np.r_[sizes, np.full(group.max() + 1 - len(sizes), len(y))]
    keep = rank < limit[group]
    return X[keep], y[keep]


# name -> levels, occupied groups, cells left in the first groups, options of FLDA, effects of the fit
DESIGNS = {
    "2x4, saturated": ((2, 4), None, [], {}, ALL2),
    "2x4, main effects": ((2, 4), None, [], {"interactions": None}, MAINS2),
    "2x4, rare groups": ((2, 4), None, [3, 1, 2], {"interactions": None}, MAINS2),
    "2x4, rare groups, saturated": ((2, 4), None, [1, 3, 2], {}, ALL2),
    "3x4 with holes": ((3, 4), HOLES, [], {}, MAINS2),
    "3x4 with holes and rare groups": ((3, 4), HOLES, [1, 2], {}, MAINS2),
    "2x3x2, saturated": ((2, 3, 2), None, [], {}, oracle.effects_of(3)),
    "2x3x2, one interaction": ((2, 3, 2), None, [2, 1], {"interactions": ["A:B"]}, [*MAINS3, (0, 1)]),
    "2x3x2 with holes": ((2, 3, 2), HOLES3, [], {"interactions": ["A:C"]}, [*MAINS3, (0, 2)]),
    "2x3 and nuisance": ((2, 3, 3), None, [1], {"interactions": ["A:B"], "nuisance": ["C"]}, [*MAINS3, (0, 1)]),
}
OPTIONS = {
    "default": {},
    "difference": {"objective": "difference"},
    "difference, penalties": {"objective": "difference", "penalty": {"B": 0.2, "A": 4.0}},
    "no lack of fit": {"lack_of_fit": 0.0, "penalty": 3.0},
    "much lack of fit": {"lack_of_fit": 2.0, "shrinkage_target": "identity"},
    "equal weights": {"weights": "equal", "within": "balanced"},
    "no reliability": {"reliability": False},
    "neither": {"weights": "equal", "reliability": False, "lack_of_fit": 2.0},
    "per effect": {"penalty": {"A": 0.1, "B": 10.0}},
    "infinite": {"penalty": np.inf},
    "one infinite": {"penalty": {"B": np.inf, "A": 0.0}, "reliability": False},
}
OBJECTIVE = ("objective", "penalty", "lack_of_fit", "weights", "reliability")


def name_of(effect):
    return ":".join("ABC"[j] for j in effect)


def expected_axes(model, effects, scatter, means, metric, groups, counts, nuisance=()):
    """Name of every effect with axes -> eigenvalues, axes (p x k), and denominator."""
    options = {name: getattr(model, name) for name in OBJECTIVE}
    if isinstance(options["penalty"], dict):
        options["penalty"] = {e: options["penalty"].get(name_of(e), 1.0) for e in effects}
    found = dense_ratio(means - means.mean(axis=0), groups, counts, scatter, metric, effects, **options)
    out = {}
    for effect, (numerator, denominator, nulled, _) in found.items():
        if not set(name_of(effect).split(":")) & set(nuisance):
            df = np.prod([groups[:, j].max() for j in effect])
            out[name_of(effect)] = *dense_axes(numerator, denominator, nulled, df), denominator
    return out


def assert_axes(model, expected, metric):
    assert list(expected) == list(dict.fromkeys(model.axes_["effect"]))
    for name, (values, axes, denominator) in expected.items():
        rows = (model.axes_["effect"] == name).to_numpy()
        np.testing.assert_allclose(model.eigenvalues_[rows], values, rtol=1e-8, atol=1e-9 * values[0])
        U = model.components_[rows]
        np.testing.assert_allclose(np.einsum("kp,pq,kq->k", U, metric, U), 1, atol=1e-8)
        gram = U @ denominator @ U.T
        sizes = np.sqrt(np.diag(gram))
        np.testing.assert_allclose(gram / np.outer(sizes, sizes), np.eye(len(U)), atol=1e-7)
        lengths = np.sqrt(np.einsum("pk,pq,qk->k", axes, metric, axes))
        cosines = np.abs(np.einsum("kp,pq,qk->k", U, metric, axes)) / lengths
        gaps = np.abs(np.subtract.outer(values, values)) + np.diag(np.full(len(values), np.inf))
        clear = gaps.min(axis=1) > 1e-4 * values[0]  # the axes of equal eigenvalues are not unique
        np.testing.assert_array_less(1 - cosines[clear], 1e-8)


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("shape", [(150, 30), (60, 90)], ids=["p < N", "p > N"])
def test_axes_equal_the_dense_eigenproblem(design, options, shape):
    """All three solvers."""
    n_levels, occupied, sizes, design_options, effects = DESIGNS[design]
    X, y = few_cells(*problem(*shape, n_levels, groups=occupied, seed=len(design)), sizes)
    options = {"shrinkage": 0.2, **design_options, **OPTIONS[options]}
    scatter, means = within_scatter(X, y, options.get("within", "pooled"))
    metric = shrunken(scatter, 0.2, options.get("shrinkage_target", "diagonal"))
    groups, counts = group_table(y)
    if sizes:
        assert counts.min() <= 3
    for solver in SOLVERS:
        model = FLDA(**options, solver=solver).fit(X, y)
        nuisance = options.get("nuisance", ())
        assert_axes(model, expected_axes(model, effects, scatter, means, metric, groups, counts, nuisance), metric)


@pytest.mark.parametrize("interactions", [None, "all"])
@pytest.mark.parametrize("options", ["default", "equal weights", "no reliability", "infinite", "difference"])
@pytest.mark.parametrize("n_genes", [30, 120])
def test_donors_in_the_error_term(interactions, options, n_genes):
    """A group mean has the noise of its donors: the harmonic mean number of cells times the number of donors."""
    X, y, donors = donor_problem(4, 12, n_genes)
    keep = ~((y["treatment"] == "yes") & (y["type"] == "q") & (donors > "d02"))  # groups of unequal numbers of donors
    X, y, donors = X[keep], y[keep].rename(columns={"treatment": "A", "type": "B"}), donors[keep]
    options = {"shrinkage": 0.3, "interactions": interactions, **OPTIONS[options]}
    scatter, means = donor_scatter(X, y, donors, options.get("within", "pooled"))
    metric = shrunken(scatter, 0.3, "diagonal")
    groups, counts = group_table(y, donors)
    assert len(set(counts)) > 1
    for solver in SOLVERS:
        model = FLDA(**options, solver=solver).fit(X, y, groups=donors)
        effects = ALL2 if interactions else MAINS2
        assert_axes(model, expected_axes(model, effects, scatter, means, metric, groups, counts), metric)


def test_shrunken_group_means_enter_as_they_are():
    X, y = few_cells(*problem(120, 30, (2, 4)), [3, 2])
    model = FLDA(shrinkage=0.2, interactions=None, group_means="shrunken").fit(X, y)
    scatter, _ = within_scatter(X, y, "pooled")
    metric = shrunken(scatter, 0.2, "diagonal")
    assert_axes(model, expected_axes(model, MAINS2, scatter, model.means_, metric, *group_table(y)), metric)


def test_a_contrast_that_is_all_noise_counts_a_hundredth_and_one_without_noise_counts_whole():
    K = np.diag([4.0, 1.0, 0.0])
    own = np.eye(3)[:2]
    root = reliability_root(own, K, 2.0 * np.diag([1.0, 1e-12, 1.0]))
    np.testing.assert_allclose(root, np.diag(np.sqrt([0.5, 1])), atol=1e-9)
    root = reliability_root(own, K, 8.0 * np.diag([1.0, 1 / 16, 1.0]))
    np.testing.assert_allclose(root, np.diag([0.1, np.sqrt(0.5)]), atol=1e-12)
    # a contrast along which the means do not differ at all has no root of its own
    root = reliability_root(np.eye(3)[1:], K, 0.5 * np.eye(3))
    np.testing.assert_allclose(root @ [1, 0], [np.sqrt(0.5), 0], atol=1e-12)


def test_the_variance_of_the_lack_of_fit_is_estimated_without_bias():
    """Means = main effects + lack of fit of variance tau2 + noise: the mean estimate over 40 draws."""
    rng = np.random.default_rng(0)
    labels = pd.DataFrame([(a, b) for a in "pqr" for b in "uvwx"], columns=["A", "B"])
    design, p = make_design(labels), 400
    mains = [e for e in design.contrasts if len(e) == 1]
    counts = rng.integers(1, 40, size=12)
    fixed = design.table.model_matrix(mains) @ rng.normal(size=(6, p))
    for tau2 in (0.0, 0.3):
        found = []
        for _ in range(40):
            G = fixed + np.sqrt(tau2 + 1 / counts)[:, None] * rng.normal(size=(12, p))
            G -= G.mean(axis=0)
            found.append(lack_of_fit_variance(design.table, mains, G @ G.T, Noise(p, counts)))
        assert np.mean(found) == pytest.approx(tau2, abs=0.01)


@pytest.mark.parametrize("options", [{}, {"shrinkage": 0.5}, {"interactions": None}, {"objective": "difference"}])
@pytest.mark.parametrize("solver", list(SOLVERS))
def test_cells_without_any_noise_are_fitted_with_equal_weights(options, solver):
    """Every cell equals its group's mean: the metric is that of the target, the identity."""
    X, y = problem(60, 12, (2, 3))
    means = X[y.groupby(["A", "B"]).cumcount() == 0]
    exact = means[y.groupby(["A", "B"]).ngroup()]
    found = FLDA(solver=solver, **options).fit(exact, y)
    equal = FLDA(solver=solver, weights="equal", **options).fit(exact, y)
    np.testing.assert_allclose(found.eigenvalues_, equal.eigenvalues_, rtol=1e-8)
    np.testing.assert_allclose(found.components_, equal.components_, atol=1e-6)
    assert found.score(exact, y) == 1


def test_rows_against_an_axis_are_no_more_than_the_groups():
    """More rows than groups are replaced by as many with the same squares."""
    _, y = problem(150, 20, (2, 3, 2))
    design = make_design(y, interactions=["A:B", "A:C"])
    G = np.random.default_rng(0).normal(size=(12, 20))
    penalties = dict.fromkeys(design.contrasts, 2.0)
    terms = Objective("ratio", penalties, 0.7).terms(design)
    fitted = sum(design.fitted(e) for e in design.contrasts) + np.full((12, 12), 1 / 12)
    left = (np.eye(12) - fitted) @ G
    for effect in design.effects:
        assert len(terms[effect].against) <= 12
        expected = sum(
            2 * (b @ G).T @ (b @ G) / len(b) for e, b in design.contrasts.items() if e != effect
        ) + 0.7 * left.T @ left / (12 - 8)
        against = terms[effect].against @ G
        np.testing.assert_allclose(against.T @ against, expected, atol=1e-10)


@pytest.mark.parametrize("target", ["identity", "diagonal"])
@pytest.mark.parametrize("with_donors", [False, True])
@pytest.mark.parametrize("n_genes", [25, 110])
def test_the_noise_of_a_cell_is_a_trace(target, with_donors, n_genes):
    """Of the three solvers, with a gene that is constant and one that varies between groups only."""
    X, y, donors = donor_problem(4, 10, n_genes)
    X[:, 3], X[:, 6] = 2.0, y["type"] == "q"
    options = {"shrinkage_target": target, "n_components": 1}
    scatter = donor_scatter(X, y, donors)[0] if with_donors else within_scatter(X, y, "pooled")[0]
    for g in (0.05, 0.6, 1.0):
        expected = np.trace(np.linalg.solve(shrunken(scatter, g, target), scatter))
        for name in SOLVERS:
            model = FLDA(**options, solver=name, shrinkage=g)
            solved = model._solve(model._prepare(X, y, donors if with_donors else None))
            assert solved.noise.trace == pytest.approx(expected, rel=1e-8), name
            assert solved.solver.factor(g).trace() == pytest.approx(expected, rel=1e-8), name
            np.testing.assert_allclose(
                solved.noise.counts, group_table(y, donors if with_donors else None)[1], rtol=1e-12
            )


def test_the_noise_of_many_genes_is_estimated_by_the_iterative_solver():
    X, y = problem(100, 700, (2, 2))
    design = make_design(y)
    within = Within.from_data(X, design.codes, design.counts, "pooled")
    exact, estimated = (SOLVERS[name](within, "diagonal") for name in ("dual", "iterative"))
    for g in (0.1, 0.9):
        trace = exact.factor(g).trace()
        assert estimated.factor(g).trace() == pytest.approx(trace, rel=4 * np.sqrt(2 / (4 * trace)))
        # with the same random vectors
        assert estimated.factor(g).trace() == pytest.approx(estimated.solve_means(g)[1].trace(), rel=1e-9)


seeds = st.integers(0, 2**16)
kinds = st.sampled_from(["ratio", "difference"])
weights = st.sampled_from(["random", "equal"])
tables = st.sampled_from(
    [((2, 3), None), ((3, 3), None), ((3, 4), HOLES), ((2, 2, 2), None)],
)


def rare_additive(seed, table):
    n_levels, occupied = table
    X, y = few_cells(*problem(80, 14, n_levels, seed=seed, groups=occupied), [1, 3])
    return X, y


@given(seeds, tables, kinds, weights, st.booleans())
def test_units_of_the_genes_do_not_matter(seed, table, kind, weights, reliability):
    X, y = rare_additive(seed, table)
    units = np.exp(np.random.default_rng(seed).normal(scale=2, size=X.shape[1]))
    options = {"interactions": None, "objective": kind, "weights": weights, "reliability": reliability}
    one, other = (FLDA(shrinkage=0.2, **options).fit(x, y) for x in (X, X * units))
    np.testing.assert_allclose(one.eigenvalues_, other.eigenvalues_, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(one.components_, other.components_ * units, rtol=1e-5, atol=1e-7)


@given(seeds, tables, kinds, weights)
def test_order_of_genes_and_cells_and_names_of_levels_do_not_matter(seed, table, kind, weights):
    X, y = rare_additive(seed, table)
    rng = np.random.default_rng(seed)
    genes, cells = rng.permutation(X.shape[1]), rng.permutation(len(y))
    names = {c: dict(zip(sorted(set(y[c])), rng.permutation(100)[:4], strict=False)) for c in y}
    renamed = pd.DataFrame({c: y[c].map(names[c]) for c in y}).iloc[cells]
    options = {"shrinkage": 0.2, "interactions": None, "objective": kind, "weights": weights}
    one, other = FLDA(**options).fit(X, y), FLDA(**options).fit(X[cells][:, genes], renamed)
    np.testing.assert_allclose(one.eigenvalues_, other.eigenvalues_, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(np.abs(one.components_[:, genes]), np.abs(other.components_), rtol=1e-5, atol=1e-7)


@given(seeds, st.sampled_from([(2, 3), (2, 2, 2)]), st.booleans())
def test_a_saturated_fit_depends_on_neither_weights_nor_lack_of_fit(seed, n_levels, reliability):
    X, y = rare_additive(seed, (n_levels, None))
    options = {"shrinkage": 0.2, "reliability": reliability}
    one = FLDA(**options, weights="random", lack_of_fit=5.0).fit(X, y)
    other = FLDA(**options, weights="equal", lack_of_fit=0.0).fit(X, y)
    np.testing.assert_allclose(one.components_, other.components_, atol=1e-9)
    np.testing.assert_allclose(one.eigenvalues_, other.eigenvalues_, rtol=1e-9)


@given(seeds, tables)
def test_huge_penalties_approach_the_infinite_one(seed, table):
    X, y = rare_additive(seed, table)
    huge, infinite = (FLDA(shrinkage=0.2, interactions=None, penalty=v).fit(X, y) for v in (1e9, np.inf))
    np.testing.assert_allclose(huge.eigenvalues_, infinite.eigenvalues_, rtol=1e-5)
    np.testing.assert_allclose(np.abs(huge.components_), np.abs(infinite.components_), atol=1e-3)


@settings(max_examples=10)
@given(seeds, tables)
def test_a_larger_denominator_makes_a_smaller_ratio(seed, table):
    """Monotone in every penalty and in the weight of the lack of fit."""
    X, y = rare_additive(seed, table)
    values = []
    for options in ({"penalty": 0.0, "lack_of_fit": 0.0}, {"penalty": 0.5, "lack_of_fit": 0.0}, {"penalty": 0.5}, {}):
        model = FLDA(shrinkage=0.2, interactions=None, **options).fit(X, y)
        values.append(model.axes_.query("component == 1")["eigenvalue"].to_numpy())
    assert (np.diff(values, axis=0) <= 1e-9).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "quotient"}, "objective='quotient'.*'ratio', 'difference'"),
        ({"weights": "cells"}, "weights='cells'.*'random', 'equal'"),
        ({"reliability": "yes"}, "reliability='yes'"),
        ({"lack_of_fit": -0.1}, "lack_of_fit=-0.1"),
        ({"lack_of_fit": np.inf}, "lack_of_fit=inf"),
        ({"lack_of_fit": "much"}, "lack_of_fit='much'"),
    ],
)
def test_bad_parameters(options, message):
    X, y = problem(60, 10, (2, 3))
    with pytest.raises(ValueError, match=message):
        FLDA(**options).fit(X, y)
