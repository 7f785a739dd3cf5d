"""Folds evaluated in the space of the groups, from what a solver holds, against a fit on the training cells alone."""

import numpy as np
import pandas as pd
import pytest

from flda._design.make import make_design
from flda._design.samples import Samples, samples_in_error
from flda._design.splits import Split
from flda._solve.choose import SOLVERS
from flda._solve.prior import posterior_means
from flda._solve.sample_weights import donor_scaling, n_effective
from flda._solve.within import Within

from oracle import donor_problem, problem

GRID = (0.05, 0.3, 1.0)
NEAR = {"primal": 1e-9, "dual": 1e-9, "iterative": 1e-3}  # of the iterative solver the criterion needs three digits
NEAR_TRACE = {"primal": 1e-9, "dual": 1e-9, "iterative": 1e-5}


def from_scratch(full, split, target, shrunken):
    """K, scores and noise by dense algebra on the training cells; target and gene variances are those of all."""
    X, train, part = full.X, split.train, split.training
    donors = np.zeros(len(train), dtype=int) if full.samples is None else split.donors[train]
    samples = Samples.of(part.codes, np.unique(donors, return_inverse=True)[1])
    own = np.stack([X[train][samples.codes == s].mean(axis=0) for s in range(len(samples.counts))])
    means = np.stack([own[samples.groups == c].mean(axis=0) for c in range(part.n_groups)])
    weights = full.weights[split.present]
    weights = weights / np.sum(weights * (part.counts - np.bincount(samples.groups)))
    R = (X[train] - own[samples.codes]) * np.sqrt(weights[part.codes])[:, None]
    if full.samples is None:
        scatter, sizes = R.T @ R, part.counts
    else:
        n = len(samples.counts) / np.sum(1 / samples.counts)
        spread = own - means[samples.groups]
        scatter = R.T @ R + full.delta * n * spread.T @ spread / (len(own) - part.n_groups)
        sizes = n * np.bincount(samples.groups)
        np.testing.assert_allclose(sizes, n_effective(samples))
        np.testing.assert_allclose(donor_scaling(samples, weights, full.delta) ** 2, full.delta * n / (
            weights[samples.groups] * samples.counts * (len(own) - part.n_groups)
        ))  # fmt: skip
    if shrunken:
        variances = np.diag(full.gene_scatter())
        means = posterior_means(means, variances, sizes, part).at(part.table.groups)
    centre = means.mean(axis=0)
    G = means - centre
    out = []
    for g in GRID:
        Z = np.linalg.solve((1 - g) * scatter + g * np.diag(target), G.T)
        trace = np.trace(np.linalg.solve((1 - g) * scatter + g * np.diag(target), scatter))
        out.append((G @ Z, (X[split.known] - centre) @ Z, trace, sizes))
    return out


def assert_folds_equal(full, split, *, target="diagonal", shrunken=False):
    for name, kind in SOLVERS.items():
        solver = kind(full, target, split.design if shrunken else None)
        found = solver.fold(split).group_spaces(GRID)
        expected = from_scratch(full, split, solver.target, shrunken)
        for (K, scores, noise), (wanted_K, wanted, trace, sizes) in zip(found, expected, strict=True):
            assert noise.trace == pytest.approx(trace, rel=NEAR_TRACE[name]), name
            np.testing.assert_allclose(noise.counts, sizes)
            np.testing.assert_allclose(K, wanted_K, atol=NEAR[name] * np.abs(wanted_K).max(), err_msg=name)
            np.testing.assert_allclose(scores, wanted, atol=NEAR[name] * np.abs(wanted).max(), err_msg=name)


@pytest.mark.parametrize("target", ["identity", "diagonal"])
@pytest.mark.parametrize("within", ["pooled", "balanced"])
@pytest.mark.parametrize("shrunken", [False, True])
@pytest.mark.parametrize("n_genes", [40, 130])
def test_folds_of_cells(target, within, shrunken, n_genes):
    X, y = problem(90, n_genes, (2, 3), seed=5)
    design = make_design(y)
    test = np.arange(0, 90, 4)
    split = Split(design, None, np.setdiff1d(np.arange(90), test), test)
    full = Within.from_data(X, design.codes, design.counts, within)
    assert_folds_equal(full, split, target=target, shrunken=shrunken)


@pytest.mark.parametrize("target", ["identity", "diagonal"])
@pytest.mark.parametrize("n_genes", [40, 130])
def test_a_gene_that_varies_between_groups_only(target, n_genes):
    X, y = problem(90, n_genes, (2, 3), seed=5)
    a, b = (y[f].str[1].astype(int) for f in "AB")
    X[:, 4], X[:, 9], X[:, 11] = 3 * a - 2 * b, a * (b == 1), 5.0
    design, test = make_design(y), np.arange(0, 90, 4)
    split = Split(design, None, np.setdiff1d(np.arange(90), test), test)
    assert_folds_equal(Within.from_data(X, design.codes, design.counts, "pooled"), split, target=target)


@pytest.mark.parametrize("within", ["pooled", "balanced"])
@pytest.mark.parametrize("hold_out", ["donors", "cells"])
@pytest.mark.parametrize("shrunken", [False, True])
def test_folds_with_donors_in_the_error_term(within, hold_out, shrunken):
    X, y, names = donor_problem(4, 15, 25, seed=3)
    design, donors = make_design(y), pd.factorize(names, sort=True)[0]
    test = np.flatnonzero(donors < 2) if hold_out == "donors" else np.arange(0, len(y), 5)
    split = Split(design, donors, np.setdiff1d(np.arange(len(y)), test), test)
    full = Within.from_data(X, design.codes, design.counts, within, samples_in_error(design, donors))
    assert full.samples is not None
    assert_folds_equal(full, split, shrunken=shrunken)


@pytest.mark.parametrize("shrunken", [False, True])
@pytest.mark.parametrize("with_donors", [False, True])
def test_a_held_out_group_that_training_lacks(shrunken, with_donors):
    """One donor holds a whole group: its cells have no prediction, and main effects are estimated from the rest."""
    X, y, names = donor_problem(4, 15, 25, seed=3)
    donors = pd.factorize(names, sort=True)[0]
    y.loc[(donors > 0) & (donors % 2 == 0), "type"] = "q"  # of the untreated, only donor 0 has type p
    design = make_design(y, interactions=None)
    test = np.flatnonzero(donors < 2)
    split = Split(design, donors, np.setdiff1d(np.arange(len(y)), test), test)
    assert split.training.n_groups == design.n_groups - 1
    assert len(split.known) < len(test)
    samples = samples_in_error(design, donors) if with_donors else None
    full = Within.from_data(X, design.codes, design.counts, "pooled", samples)
    assert_folds_equal(full, split, shrunken=shrunken)


def test_training_samples_that_are_the_groups_leave_the_error_term_to_the_cells():
    """All but one donor per level held out: the training cells cannot show the spread between donors."""
    X, y, names = donor_problem(3, 15, 12, seed=3)
    donors = pd.factorize(names, sort=True)[0]
    design = make_design(y)
    test = np.flatnonzero(donors > 1)
    split = Split(design, donors, np.setdiff1d(np.arange(len(y)), test), test)
    full = Within.from_data(X, design.codes, design.counts, "pooled", samples_in_error(design, donors))
    assert full.samples is not None
    cells = Within.from_data(X[split.train], split.training.codes, split.training.counts, "pooled")
    for kind in SOLVERS.values():
        solver = kind(full, "diagonal")
        ((K, *_),) = solver.fold(split).group_spaces([0.3])
        M = 0.7 * cells.gene_scatter() + 0.3 * np.diag(solver.target)
        expected = cells.centred_means @ np.linalg.solve(M, cells.centred_means.T)
        np.testing.assert_allclose(K, expected, atol=NEAR[kind.name] * np.abs(expected).max())
