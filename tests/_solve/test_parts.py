"""Scatters of folds from one pass against sums over the cells of each fold."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from flda._design.make import make_design
from flda._design.samples import samples_in_error
from flda._design.splits import Split
from flda._solve import parts
from flda._solve.parts import fold_of_cells, scatter_by_fold
from flda._solve.primal import Primal
from flda._solve.within import Within

from array_kinds import BLOCKS, KINDS, kinds
from oracle import donor_problem, problem


def data(seed=0, with_donors=False):
    X, y, *names = donor_problem(4, 12, 70) if with_donors else problem(90, 70, (2, 3), seed=seed)
    X = np.where(np.random.default_rng(seed).random(X.shape) < 0.15, X, 0.0)  # thin, if it is stored as sparse
    return X, y, pd.factorize(names[0], sort=True)[0] if names else None


def splits_of(design, donors=None, left_out=0):
    """Three folds; ``left_out`` cells are held out by none."""
    labels = np.random.default_rng(1).integers(3, size=len(design.codes))
    labels[:left_out] = -1
    cells = np.arange(len(labels))
    return [Split(design, donors, cells[labels != f], cells[labels == f]) for f in range(3)], labels


@pytest.mark.parametrize("kind", kinds(KINDS, BLOCKS))
def test_every_fold_has_the_scatter_of_its_cells(store, kind):
    X, y, _ = data()
    design = make_design(y)
    splits, labels = splits_of(design, left_out=7)
    plain = Within.from_data(X, design.codes, design.counts, "balanced")
    scatters, sums = scatter_by_fold(Within.from_data(store(X), design.codes, design.counts, "balanced"), splits)
    R = np.sqrt(plain.cell_weights)[:, None] * (X - plain.centres[design.codes])
    near = 1e-6 if kind == "float32" else 1e-11
    np.testing.assert_allclose(scatters.sum(axis=0), R.T @ R, atol=near)
    for f, label in enumerate([0, 1, 2, -1]):
        own = labels == label
        np.testing.assert_allclose(scatters[f], R[own].T @ R[own], atol=near)
        expected = np.stack([X[own & (design.codes == c)].sum(axis=0) for c in range(design.n_groups)])
        np.testing.assert_allclose(sums[f], expected, atol=1e2 * near)


@pytest.mark.parametrize("kind", kinds(["dense", "csr_array"], BLOCKS))
@pytest.mark.parametrize("with_donors", [False, True])
def test_folds_are_those_that_are_read_one_by_one(store, kind, with_donors):
    X, y, donors = data(with_donors=with_donors)
    design = make_design(y)
    splits, _ = splits_of(design, donors, left_out=4)
    samples = samples_in_error(design, donors) if with_donors else None
    assert (samples is not None) == with_donors
    one = Primal(Within.from_data(X, design.codes, design.counts, "pooled", samples), "diagonal")
    held = Within.from_data(store(X), design.codes, design.counts, "pooled", samples)
    together = Primal(held, "diagonal", splits=splits)
    grid = (0.1, 0.5)
    for split, spaces in zip(splits, together.fold_spaces(splits, grid), strict=True):
        for found, expected in zip(spaces, one.fold(split).group_spaces(grid), strict=True):
            np.testing.assert_allclose(found.K, expected.K, atol=1e-8 * np.abs(expected.K).max())
            np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5 * np.abs(expected.scores).max())
            assert found.noise.trace == pytest.approx(expected.noise.trace)


def test_what_cannot_be_done_in_one_pass(monkeypatch):
    X, y, _ = data()
    design = make_design(y)
    splits, labels = splits_of(design, left_out=3)
    np.testing.assert_array_equal(fold_of_cells(splits, 90), labels)
    within = Within.from_data(X, design.codes, design.counts, "pooled")
    assert scatter_by_fold(within, splits) is not None
    assert scatter_by_fold(within, ()) is None
    twice = [*splits, splits[0]]
    assert fold_of_cells(twice, 90) is None
    assert scatter_by_fold(within, twice) is None
    monkeypatch.setattr(parts, "MOST_BYTES", 8 * 4 * 70 * 76 - 1)
    assert scatter_by_fold(within, splits) is None
    monkeypatch.setattr(parts, "MOST_BYTES", 8 * 4 * 70 * 76)
    assert scatter_by_fold(within, splits) is not None


def test_a_gene_far_from_zero_needs_centred_blocks():
    """Raw products lose its digits, so the scatter of all cells is computed by itself, and folds read their cells."""
    X, y, _ = data()
    X[:, 0] = 1e6 + np.random.default_rng(2).normal(size=90)
    design = make_design(y)
    splits, _ = splits_of(design)
    within = Within.from_data(sp.csr_array(X), design.codes, design.counts, "pooled")
    assert scatter_by_fold(within, splits) is None
    solver = Primal(within, "diagonal", splits=splits)
    dense = Primal(Within.from_data(X, design.codes, design.counts, "pooled"), "diagonal")
    np.testing.assert_allclose(solver.scatter, dense.scatter, rtol=1e-9, atol=1e-12)
    found, expected = (s.fold(splits[0]).group_spaces([0.3])[0] for s in (solver, dense))
    np.testing.assert_allclose(found.K, expected.K, atol=1e-8 * np.abs(expected.K).max())
