"""Invariances of the algebra, over random problems."""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from flda import FLDA
from flda._design.make import make_design

from oracle import problem

seeds = st.integers(0, 2**16)
designs = st.sampled_from(
    [
        ((2, 3), None),
        ((2, 2, 2), None),
        ((3, 3), [(0, 0), (0, 1), (1, 1), (1, 2), (2, 2)]),
        ((3, 4), [(0, 0), (0, 1), (0, 3), (1, 1), (1, 2), (2, 2), (2, 3)]),
    ]
)
targets = st.sampled_from(["identity", "diagonal"])
withins = st.sampled_from(["pooled", "balanced"])
solvers = st.sampled_from(["primal", "dual", "iterative"])
group_means = st.sampled_from(["observed", "shrunken"])


def random_problem(seed, design):
    n_levels, groups = design
    return problem(70, 15, n_levels, seed=seed, groups=groups)


def same(a, b, order=None):
    np.testing.assert_allclose(a.eigenvalues_, b.eigenvalues_, rtol=1e-7, atol=1e-10)
    other = b.components_ if order is None else b.components_[:, order]
    np.testing.assert_allclose(np.abs(a.components_), np.abs(other), rtol=1e-5, atol=1e-7)


@given(seeds, designs, targets, withins, solvers, group_means)
def test_order_of_the_cells_does_not_matter(seed, design, target, within, solver, means):
    X, y = random_problem(seed, design)
    model = FLDA(shrinkage=0.2, shrinkage_target=target, within=within, solver=solver, group_means=means)
    order = np.random.default_rng(seed).permutation(len(X))
    same(FLDA(**model.get_params()).fit(X[order], y.iloc[order]), model.fit(X, y))


@given(seeds, designs, targets, solvers, group_means)
def test_order_of_the_genes_does_not_matter(seed, design, target, solver, means):
    X, y = random_problem(seed, design)
    model = FLDA(shrinkage=0.2, shrinkage_target=target, solver=solver, group_means=means)
    order = np.random.default_rng(seed).permutation(X.shape[1])
    same(FLDA(**model.get_params()).fit(X[:, order], y), model.fit(X, y), order)


@given(seeds, designs, targets)
def test_order_of_the_factors_does_not_matter(seed, design, target):
    X, y = random_problem(seed, design)
    model = FLDA(shrinkage=0.2, shrinkage_target=target).fit(X, y)
    turned = FLDA(shrinkage=0.2, shrinkage_target=target).fit(X, y[y.columns[::-1]])
    for effect in model.effects_:
        mine = (model.axes_["effect"] == ":".join(effect)).to_numpy()
        theirs = (turned.axes_["effect"] == ":".join(reversed(effect))).to_numpy()
        np.testing.assert_allclose(model.eigenvalues_[mine], turned.eigenvalues_[theirs], rtol=1e-7, atol=1e-10)


@given(seeds, designs, st.floats(1e-3, 1e3), st.floats(-100, 100), solvers, group_means)
def test_scale_and_origin_of_the_data_do_not_matter(seed, design, scale, shift, solver, means):
    X, y = random_problem(seed, design)
    model = FLDA(shrinkage=0.2, solver=solver, group_means=means).fit(X, y)
    origin = shift * np.random.default_rng(seed).normal(size=X.shape[1])
    moved = FLDA(shrinkage=0.2, solver=solver, group_means=means).fit(scale * (X + origin), y)
    np.testing.assert_allclose(model.eigenvalues_, moved.eigenvalues_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(np.abs(model.components_), scale * np.abs(moved.components_), rtol=1e-4, atol=1e-6)


@given(seeds, designs, withins, solvers)
def test_units_of_the_genes_do_not_matter_with_the_diagonal_target(seed, design, within, solver):
    X, y = random_problem(seed, design)
    units = np.exp(np.random.default_rng(seed).normal(scale=3, size=X.shape[1]))
    options = {"shrinkage": 0.2, "shrinkage_target": "diagonal", "within": within, "solver": solver}
    model = FLDA(**options).fit(X, y)
    other = FLDA(**options).fit(X * units, y)
    np.testing.assert_allclose(model.eigenvalues_, other.eigenvalues_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(model.components_, other.components_ * units, rtol=1e-4, atol=1e-6)


@given(seeds, designs)
def test_names_and_order_of_levels_do_not_matter(seed, design):
    X, y = random_problem(seed, design)
    rng = np.random.default_rng(seed)
    names = {c: dict(zip(sorted(set(y[c])), rng.permutation(100)[:4], strict=False)) for c in y}
    renamed = pd.DataFrame({c: y[c].map(names[c]) for c in y})
    same(FLDA(shrinkage=0.2).fit(X, renamed), FLDA(shrinkage=0.2).fit(X, y))


@given(seeds, designs)
def test_effects_ignore_the_mean_and_own_their_columns(seed, design):
    """B_S X_T is the identity for S = T and zero otherwise: no effect leaks into another, holes or not."""
    _, y = random_problem(seed, design)
    made = make_design(y)
    for effect, contrasts in made.contrasts.items():
        np.testing.assert_allclose(contrasts.sum(axis=1), 0, atol=1e-12)
        for other in made.contrasts:
            expected = np.eye(len(contrasts)) if other == effect else 0
            np.testing.assert_allclose(contrasts @ made.table.coding(other), expected, atol=1e-12)


@given(seeds, designs, withins, solvers, group_means)
def test_an_infinite_penalty_leaves_nothing_of_the_other_effects(seed, design, within, solver, means):
    X, y = random_problem(seed, design)
    # with random weights the effects of a fit that leaves something of the means are not those of design_.contrasts
    options = {"shrinkage": 0.2, "within": within, "solver": solver, "group_means": means, "weights": "equal"}
    free, nulled = (FLDA(penalty=penalty, **options).fit(X, y) for penalty in (0.0, np.inf))
    scores = nulled.means_ @ nulled.components_.T
    for row, effect in enumerate(nulled.axes_["effect"]):
        for other, contrasts in nulled.design_.contrasts.items():
            if other.name != effect:
                np.testing.assert_allclose(contrasts @ scores[:, row], 0, atol=1e-6 * np.abs(scores).max())
    first = nulled.axes_.query("component == 1").index, free.axes_.query("component == 1").index
    assert (nulled.eigenvalues_[first[0]] <= free.eigenvalues_[first[1]] * (1 + 1e-8)).all()


@given(seeds, withins, solvers, st.integers(2, 4))
def test_copies_of_every_cell_change_the_scatter_by_its_degrees_of_freedom_only(seed, within, solver, k):
    """Group means stay, and with the diagonal target all directions do; in the ratio the unit of the scatter counts."""
    X, y = random_problem(seed, ((2, 3), None))
    options = {"shrinkage": 0.2, "within": within, "solver": solver, "objective": "difference"}
    once = FLDA(**options).fit(X, y)
    copies = FLDA(**options).fit(np.tile(X, (k, 1)), pd.concat([y] * k))
    np.testing.assert_allclose(copies.means_, once.means_, atol=1e-10)
    ratio = np.sum(copies.components_**2, axis=1) / np.sum(once.components_**2, axis=1)
    if within == "pooled":
        N, C = len(X), once.design_.n_groups
        np.testing.assert_allclose(ratio, (k * N - C) / (k * (N - C)), rtol=1e-7)
        cosine = np.sum(copies.components_ * once.components_, axis=1) / np.sqrt(ratio)
        np.testing.assert_allclose(cosine / np.sum(once.components_**2, axis=1), 1, rtol=1e-7)


@given(seeds)
def test_the_effects_add_up_to_the_group_means(seed):
    """With every interaction in the fit, the fitted values of all effects give back the centred group means."""
    _, y = random_problem(seed, ((2, 3), None))
    made = make_design(y)
    means = np.random.default_rng(seed).normal(size=(made.n_groups, 4))
    fitted = sum(made.fitted(e) @ means for e in made.contrasts)
    np.testing.assert_allclose(fitted, means - means.mean(axis=0), atol=1e-12)
