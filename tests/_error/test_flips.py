"""Statistics under flips against the definition, one flip at a time, and the level in hard regimes."""

import numpy as np
import pandas as pd
import pytest

from flda._design.design import make_design
from flda._design.effects import Effect
from flda._error.flips import CellFlips, DonorFlips, _sign_blocks, _signs, group_squares, n_distinct
from flda._error.units import Units

from array_kinds import BLOCKS, KINDS, kinds


def cells(n=(6, 9, 12, 30), p=7, seed=0):
    rng = np.random.default_rng(seed)
    codes = np.repeat(range(4), n)
    rng.shuffle(codes)
    y = pd.DataFrame({"A": (codes // 2).astype(str), "B": (codes % 2).astype(str)})
    X = rng.normal(size=(len(codes), p)) * np.array([1, 2, 1, 0.5])[codes][:, None]
    return np.where(rng.random(X.shape) < 0.4, 0, X), y


def engine_of(X, y, interactions="all", wrapped=None, seed=3):
    design = make_design(y, interactions=interactions)
    means = np.stack([X[design.codes == c].mean(axis=0) for c in range(design.n_groups)])
    data = X if wrapped is None else wrapped
    squares = group_squares(data, design.codes, design.n_groups)
    return CellFlips(data, design, design.effects, means, squares, seed), design, means


def by_hand(X, design, effect, variances=None):
    """b' V^-1 b with a variance of every group."""
    B = design.contrasts[effect]
    own = [X[design.codes == c] for c in range(design.n_groups)]
    means = np.stack([x.mean(axis=0) for x in own])
    v = np.stack([x.var(axis=0, ddof=1) for x in own])
    out = []
    for j in range(X.shape[1]):
        b, V = B @ means[:, j], B @ np.diag(v[:, j] / design.counts) @ B.T
        out.append(b @ np.linalg.solve(V, b))
    return np.array(out)


@pytest.mark.parametrize("interactions", ["all", None])
def test_statistics_of_cells_are_those_of_the_definition(interactions):
    X, y = cells()
    engine, design, _ = engine_of(X, y, interactions)
    observed = engine.observed()
    signs = _signs(3, 0, slice(0, len(X)), 5)
    flipped = next(iter(engine.flipped(5)))
    v = np.stack([X[design.codes == c].var(axis=0, ddof=1) for c in range(4)])
    weights = design.counts / np.mean(v / (np.sum((design.counts - 1)[:, None] * v, axis=0) / (len(X) - 4)), axis=1)
    for effect in design.effects:
        np.testing.assert_allclose(observed[effect], by_hand(X, design, effect), rtol=1e-9)
        # the fit without the effect, by weighted least squares on all cells
        D = design.table.model_matrix([e for e in design.contrasts if e != effect])[design.codes]
        w = (weights / design.counts)[design.codes]
        H = D @ np.linalg.solve(D.T @ (w[:, None] * D), D.T * w)
        residuals = (X - H @ X) / np.sqrt(1 - np.diag(H))[:, None]
        for f in range(5):
            expected = by_hand(signs[:, [f]] * residuals, design, effect)
            np.testing.assert_allclose(flipped[effect][f], expected, rtol=1e-8)


@pytest.mark.parametrize("kind", kinds(KINDS, BLOCKS))
def test_every_kind_of_array_gives_the_same_flips(store, kind):
    X, y = cells()
    expected, *_ = engine_of(X, y)
    found, *_ = engine_of(X, y, wrapped=store(X))
    for effect, values in next(iter(expected.flipped(4))).items():
        np.testing.assert_allclose(next(iter(found.flipped(4)))[effect], values, rtol=1e-4)


def test_signs_do_not_depend_on_how_rows_are_cut():
    whole = _signs(1, 0, slice(0, 10000), 3)
    np.testing.assert_array_equal(_signs(1, 0, slice(4000, 9000), 3), whole[4000:9000])
    assert set(np.unique(whole)) == {-1, 1}
    assert abs(whole.mean()) < 0.03


def test_blocks_of_flips_do_not_change_the_flips(monkeypatch):
    X, y = cells()
    engine, *_ = engine_of(X, y)
    one = next(iter(engine.flipped(6)))
    monkeypatch.setattr("flda._error.flips.BLOCK_BYTES", 1)
    parts = list(engine.flipped(6))
    assert len(parts) == 6
    assert one["A",].shape == (6, 7)
    assert len({tuple(part["A",][0].round(6)) for part in parts}) == 6


def units(values, groups, seed=0):
    groups = np.asarray(groups)
    D = np.column_stack([np.ones(groups.max() + 1), np.arange(groups.max() + 1) - groups.max() / 2])
    if groups.max() == 0:
        return Units(values, groups, np.ones((1, 1)), slice(0, 1), np.arange(len(groups)))
    return Units(values, groups, D, slice(1, 2), np.arange(len(groups)))


def test_the_statistic_of_donors_is_welchs():
    rng = np.random.default_rng(0)
    values, groups = rng.normal(size=(13, 1, 4)), np.repeat([0, 1], [6, 7])
    found = DonorFlips(Effect(("A",)), units(values, groups), 0).observed()["A",]
    a, b = values[groups == 0, 0], values[groups == 1, 0]
    expected = (a.mean(axis=0) - b.mean(axis=0)) ** 2 / (a.var(axis=0, ddof=1) / 6 + b.var(axis=0, ddof=1) / 7)
    np.testing.assert_allclose(found, expected)


def test_paired_donors_are_flipped_in_all_ways_but_the_data_themselves():
    values = np.random.default_rng(0).normal(size=(5, 1, 4))
    engine = DonorFlips(Effect(("A",)), units(values, [0] * 5), 0)
    assert n_distinct(5) == 16
    (found,) = engine.flipped(999)
    assert found["A",].shape == (15, 4)
    t = []
    for bits in range(1, 16):
        z = values[:, 0] * np.array([-1 if bits >> i & 1 else 1 for i in range(5)])[:, None]
        t.append(z.mean(axis=0) ** 2 / (z.var(axis=0, ddof=1) / 5))
    np.testing.assert_allclose(found["A",], t)


def test_more_donors_than_flips_are_flipped_at_random():
    blocks = list(_sign_blocks(30, 50, 20, 1))
    assert [len(b) for b in blocks] == [20, 20, 10]
    assert len(np.unique(np.vstack(blocks), axis=0)) == 50


def test_donors_alone_in_their_groups_share_the_variance_that_the_model_leaves():
    """Four blocks of two donors, one per level: a paired comparison."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(8, 1, 3))
    block = np.repeat(np.eye(4), 2, axis=0) @ np.array([[1, 1, 1], [-1, 1, -1], [1, -1, -1], [-1, -1, 1]])
    D = np.column_stack([np.ones(8), np.tile([-0.5, 0.5], 4), block])
    found = DonorFlips(Effect(("A",)), Units(values, np.arange(8), D, slice(1, 2), np.arange(8)), 0).observed()["A",]
    differences = values[1::2, 0] - values[::2, 0]
    np.testing.assert_allclose(found, differences.mean(axis=0) ** 2 / (differences.var(axis=0, ddof=1) / 4))


def test_too_few_donors_for_any_variance_are_refused():
    D = np.column_stack([np.ones(3), np.eye(3)[:, :2]])
    with pytest.raises(ValueError, match="degree of freedom"):
        DonorFlips(Effect(("A",)), Units(np.ones((3, 1, 2)), np.arange(3), D, slice(1, 3), np.arange(3)), 0)
