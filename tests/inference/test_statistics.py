"""The fast statistics of many permutations against their definition: a fit of every fold for every permutation."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from flda._data.device import wrap
from flda._design.design import effect_penalties, make_design
from flda._design.samples import Samples
from flda._design.splits import cell_folds
from flda._solve.group_space import GroupSpace
from flda._solve.objective import Objective
from flda.inference._cells import CellStatistics
from flda.inference._donors import DonorStatistics
from flda.inference._schemes import scheme_of

from array_kinds import DEVICE, IN_BLOCKS, KINDS, kinds
from oracle import donor_problem, problem

GRID = (0.05, 0.5, 0.9)
KINDS_OF_AXES = ["ratio", "difference"]


def objective_of(design, kind="ratio"):
    return Objective(kind, effect_penalties(design, 1.0), 0.3)


def signed_information(es, ee, ss):
    r = es / np.sqrt(ee * ss)
    return np.mean(-np.sign(r) * np.log(1 - r**2))


def fitted_values(effects, design, means):
    return sum((design.table.coding(e) @ design.contrasts[e] @ means for e in effects), np.zeros_like(means))


def cell_statistic(X, new, design, scheme, fold, n_components, kind="ratio"):
    """By the definition: permuted data, and for every fold and g a dense within scatter; returns F ratios too."""
    N, C = len(X), design.n_groups
    means = np.stack([X[design.codes == c].mean(axis=0) for c in range(C)])
    H = fitted_values(scheme.taken_out, design, means)
    Y = X - H[design.codes] + H[new]
    terms = objective_of(design, kind).terms(design)[scheme.effect]
    own = design.contrasts[scheme.effect]
    best = -np.inf
    for g in GRID:
        es, ee, ss = np.zeros((3, n_components))
        for f in np.unique(fold[fold >= 0]):
            train, test = fold != f, fold == f
            G = np.stack([Y[train & (new == c)].mean(axis=0) for c in range(C)])
            R = Y[train] - G[new[train]]
            M = (1 - g) * R.T @ R / (train.sum() - C) + g * np.diag(X.var(axis=0))
            Z = np.linalg.solve(M, (G - G.mean(axis=0)).T)
            K = (G - G.mean(axis=0)) @ Z
            _, w = GroupSpace(K).axes(terms, n_components)
            e = design.table.coding(scheme.effect) @ own @ K @ w
            s = (Y[test] - G.mean(axis=0)) @ Z @ w
            n, m = np.bincount(new[train], minlength=C), np.bincount(new[test], minlength=C)
            mean = np.stack([s[new[test] == c].mean(axis=0) if m[c] else np.zeros(n_components) for c in range(C)])
            within = np.sum((s - mean[new[test]]) ** 2, axis=0) / (len(s) - np.sum(m > 0))
            for c in range(C):
                es += m[c] / n[c] * e[c] * mean[c]
                ee += m[c] / n[c] * e[c] ** 2
                ss += m[c] / n[c] * (mean[c] ** 2 + within)
        best = max(best, signed_information(es, ee, ss))
    G = np.stack([Y[new == c].mean(axis=0) for c in range(C)])
    variances = np.sum((Y - G[new]) ** 2, axis=0) / (N - C)
    Q = own.T @ own / len(own)
    return best, np.einsum("cj,cd,dj->j", G, Q, G) / (variances * np.sum(np.diag(Q) / design.counts))


@pytest.mark.parametrize("n_genes", [20, 150], ids=["genes < cells", "genes > cells"])
@pytest.mark.parametrize("interactions", [None, "all"])
@pytest.mark.parametrize("objective", KINDS_OF_AXES)
def test_cell_statistic_equals_its_definition(n_genes, interactions, objective):
    X, y = problem(120, n_genes, (2, 3), seed=1)
    design = make_design(y, interactions=interactions)
    fold, rng = cell_folds(design, 0, 5), np.random.default_rng(0)
    for effect in design.effects:
        scheme = scheme_of(effect, design, None, None)
        assert scheme.name == ("restricted" if interactions is None else "residual")
        k = design.df(effect)
        engine = CellStatistics(X, design, scheme, objective_of(design, objective), k, fold, GRID)
        codes = np.stack([design.codes, *(engine.permuted(rng) for _ in range(3))])
        got, ratios = engine.statistics(codes)
        for b, new in enumerate(codes):
            expected, F = cell_statistic(X, new, design, scheme, fold, k, objective)
            assert got[b] == pytest.approx(expected, rel=1e-4, abs=1e-5)
            np.testing.assert_allclose(ratios[b], F, rtol=1e-7)


def test_cell_statistic_with_an_ill_conditioned_scatter():
    X, y = problem(150, 30, (2, 2), seed=2, condition=1e4)
    design = make_design(y)
    fold, rng = cell_folds(design, 0, 5), np.random.default_rng(0)
    scheme = scheme_of(("A",), design, None, None)
    engine = CellStatistics(X, design, scheme, objective_of(design), 1, fold, GRID)
    codes = np.stack([design.codes, engine.permuted(rng)])
    for got, new in zip(engine.statistics(codes)[0], codes, strict=True):
        assert got == pytest.approx(cell_statistic(X, new, design, scheme, fold, 1)[0], rel=1e-3, abs=1e-5)


def donor_statistic(X, design, donors, scheme, engine, levels, kind):
    """By the definition, from the cells; folds are the engine's."""
    samples = Samples.of(design.codes, donors)
    S = len(samples.counts)
    Y = np.stack([X[samples.codes == s].mean(axis=0) for s in range(S)])
    R = X - Y[samples.codes]
    cells = R.T @ R / (len(X) - S)
    n = S / np.sum(1 / samples.counts)
    G = np.stack([Y[samples.groups == c].mean(axis=0) for c in range(design.n_groups)])
    H = fitted_values(scheme.taken_out, design, G)
    rows = design.table.groups[samples.groups].copy()
    rows[:, scheme.permuted] = levels[engine.donor][:, scheme.permuted]
    new = np.array([np.flatnonzero((design.table.groups == r).all(axis=1))[0] for r in rows])
    Y = Y - H[samples.groups] + H[new]
    terms = objective_of(design, kind).terms(design)[scheme.effect]
    own = design.contrasts[scheme.effect]
    best = -np.inf
    for g in GRID:
        es, ee, ss = np.zeros((3, len(own)))
        for f in np.unique(engine.fold):
            train, test = engine.fold != f, engine.fold == f
            size = np.bincount(new[train])
            G = np.stack([Y[train & (new == c)].mean(axis=0) for c in range(design.n_groups)])
            spread = Y[train] - G[new[train]]
            M = (1 - g) * (cells + n * spread.T @ spread / (train.sum() - len(G))) + g * np.diag(np.diag(cells))
            Z = np.linalg.solve(M, (G - G.mean(axis=0)).T)
            K = (G - G.mean(axis=0)) @ Z
            _, w = GroupSpace(K).axes(terms, len(own))
            e = (design.table.coding(scheme.effect) @ own @ K @ w)[new[test]]
            s, v = (Y[test] - G.mean(axis=0)) @ Z @ w, 1 / size[new[test]][:, None]
            es, ee, ss = es + np.sum(v * e * s, axis=0), ee + np.sum(v * e**2, axis=0), ss + np.sum(v * s**2, axis=0)
        best = max(best, signed_information(es, ee, ss))
    G = np.stack([Y[new == c].mean(axis=0) for c in range(design.n_groups)])
    noise = np.sum((Y - G[new]) ** 2, axis=0) / (S - len(G)) + np.diag(cells) / n
    Q = own.T @ own / len(own)
    return best, np.einsum("cj,cd,dj->j", G, Q, G) / (noise * np.sum(np.diag(Q) / np.bincount(new)))


@pytest.mark.parametrize("n_genes", [12, 200])
@pytest.mark.parametrize("objective", KINDS_OF_AXES)
def test_donor_statistic_equals_its_definition(n_genes, objective):
    X, y, donors = donor_problem(4, 12, n_genes, seed=4)
    design, codes = make_design(y), pd.factorize(donors, sort=True)[0]
    for effect in [("treatment",), ("treatment", "type")]:
        scheme = scheme_of(effect, design, codes, None)
        assert scheme.by_donor
        rng = np.random.default_rng(0)
        engine = DonorStatistics(X, design, codes, scheme, objective_of(design, objective), 1, GRID, rng)
        levels = np.stack([engine.units, engine.permuted(rng), engine.permuted(rng)])
        got, ratios = engine.statistics(levels)
        for b, one in enumerate(levels):
            expected, F = donor_statistic(X, design, codes, scheme, engine, one, objective)
            assert got[b] == pytest.approx(expected, rel=1e-6)
            np.testing.assert_allclose(ratios[b], F, rtol=1e-6)


@pytest.mark.parametrize("kind", kinds(KINDS, DEVICE, but=["coo_array", "csr_unsorted", *IN_BLOCKS]))
@pytest.mark.parametrize("n_genes", [20, 100])
def test_every_kind_of_array_gives_the_same_statistics(store, kind, n_genes):
    """In memory or on a GPU; what is not sliceable or has duplicates is turned into CSR before."""
    X, y = problem(80, n_genes, (2, 2), seed=1)
    design = make_design(y)
    scheme = scheme_of(("A", "B"), design, None, None)
    arguments = design, scheme, objective_of(design), 1, cell_folds(design, 0, 4), GRID
    expected, got = CellStatistics(X, *arguments), CellStatistics(wrap(store(X)), *arguments)
    codes = np.stack([design.codes, got.permuted(np.random.default_rng(0))])
    for a, b in zip(got.statistics(codes), expected.statistics(codes), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    X, y, names = donor_problem(3, 8, n_genes)
    design, donors = make_design(y, interactions=None), pd.factorize(names, sort=True)[0]
    scheme = scheme_of(("treatment",), design, donors, None)
    arguments = design, donors, scheme, objective_of(design), 1, GRID
    expected, got = (DonorStatistics(Z, *arguments, np.random.default_rng(0)) for Z in (X, wrap(store(X))))
    levels = np.stack([expected.units, got.permuted(np.random.default_rng(1))])
    for a, b in zip(got.statistics(levels), expected.statistics(levels), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_a_gene_that_a_permutation_makes_constant_within_groups():
    """Its F is large, not negative or undefined, however its variance rounds."""
    codes = np.repeat([0, 1], 20)
    design = make_design(pd.DataFrame({"A": codes.astype(str)}))
    scheme = scheme_of(("A",), design, None, None)
    rng = np.random.default_rng(0)
    new = np.stack([rng.permutation(codes) for _ in range(10)])
    levels = rng.normal(size=(2, 10, 200))  # each of 200 genes has two values, and a labelling that separates them
    X = np.hstack([np.where(new[b][:, None] == 0, *levels[:, b]) for b in range(10)])
    engine = CellStatistics(X, design, scheme, objective_of(design), 1, cell_folds(design, 0, 5), GRID)
    statistics, ratios = engine.statistics(np.vstack([codes, new]))
    assert np.isfinite(statistics).all()
    assert np.isfinite(ratios).all()
    for b in range(10):
        own = np.arange(200 * b, 200 * (b + 1))
        assert (ratios[b + 1, own] > 1e6).all()
        assert (np.delete(ratios[b + 1], own) < 1e3).all()


def test_a_constant_gene_has_no_ratio():
    X, y = problem(60, 8, (2, 2))
    X[:, 3] = 2.0
    design = make_design(y)
    scheme = scheme_of(("A",), design, None, None)
    engine = CellStatistics(X, design, scheme, objective_of(design), 1, cell_folds(design, 0, 5), GRID)
    _, ratios = engine.statistics(design.codes[None])
    assert np.isnan(ratios[0]).nonzero()[0].tolist() == [3]


def test_too_large_tables_are_refused():
    _, y = problem(9000, 1, (2, 2))
    design = make_design(y)
    scheme = scheme_of(("A",), design, None, None)
    with pytest.raises(ValueError, match=r"\b9000 cells x 8500 genes.*\b8000\b"):
        CellStatistics(sp.csr_array((9000, 8500)), design, scheme, objective_of(design), 1, np.zeros(9000), GRID)


def test_a_fold_without_scatter_within_its_groups_is_left_out():
    """Two cells per level and two folds: a training set has one cell of each."""
    y = pd.DataFrame({"A": np.repeat(["p", "q"], 2)})
    design, X = make_design(y), np.random.default_rng(0).normal(size=(4, 6))
    scheme = scheme_of(("A",), design, None, None)
    engine = CellStatistics(X, design, scheme, objective_of(design), 1, np.array([0, 1, 0, 1]), GRID)
    statistics, ratios = engine.statistics(design.codes[None])
    assert statistics.tolist() == [0]  # no fold says anything
    assert np.isfinite(ratios).all()
