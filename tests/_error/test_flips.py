"""Statistics under flips against the definition, one flip at a time, and the level in hard regimes."""

import numpy as np
import pandas as pd
import pytest

from flda._design.effects import Effect
from flda._design.make import make_design
from flda._error.evening import to_variance
from flda._error.flips import CellFlips, DonorFlips, group_squares
from flda._error.signs import n_distinct, sign_blocks, signs_of_rows
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


def by_hand(X, design, B, grow=1.0):
    """b' V^-1 b with a variance of every group, which ``grow`` multiplies."""
    own = [X[design.codes == c] for c in range(design.n_groups)]
    means = np.stack([x.mean(axis=0) for x in own])
    v = np.stack([x.var(axis=0, ddof=1) for x in own]) * np.broadcast_to(grow, len(own))[:, None]
    v = (v + (design.counts - 1) @ v / (len(X) - len(own))) / 2  # half of it is the pooled one
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
    signs = signs_of_rows(3, 0, slice(0, len(X)), 5)
    flipped = next(iter(engine.flipped(5)))
    v = np.stack([X[design.codes == c].var(axis=0, ddof=1) for c in range(4)])
    weights = design.counts / np.mean(v / (np.sum((design.counts - 1)[:, None] * v, axis=0) / (len(X) - 4)), axis=1)
    for effect in design.effects:
        B = engine._contrasts[effect]  # tests/_error/test_weights.py says what they are
        np.testing.assert_allclose(observed[effect], by_hand(X, design, B), rtol=1e-9)
        # the fit without the effect, by weighted least squares on all cells
        D = design.table.model_matrix([e for e in design.contrasts if e != effect])[design.codes]
        w = (weights / design.counts)[design.codes]
        H = D @ np.linalg.solve(D.T @ (w[:, None] * D), D.T * w)
        residuals = (X - H @ X) / np.sqrt(1 - np.diag(H))[:, None]
        K = (np.eye(len(X)) - H) / np.sqrt(1 - np.diag(H))[:, None]
        rows = B @ (np.eye(4)[:, design.codes] / design.counts[:, None])
        relative = (design.counts / weights)[design.codes]
        for f in range(5):
            # coefficients, and variances of groups, are scaled to the variance that they have in the data
            S = (signs[:, [f]] * K) @ np.diag(relative) @ (signs[:, [f]] * K).T
            grow = np.ones(4)
            for c in range(4):
                part = S[np.ix_(design.codes == c, design.codes == c)]
                expected = (np.trace(part) - part.sum() / len(part)) / (len(part) - 1)
                grow[c] = relative[design.codes == c][0] / expected
            scale = (rows * relative) @ rows.T / (rows @ S @ rows.T)
            expected = scale.item() * by_hand(signs[:, [f]] * residuals, design, B, grow)
            np.testing.assert_allclose(flipped[effect][f], expected, rtol=1e-8)


@pytest.mark.parametrize("kind", kinds(KINDS, BLOCKS))
def test_every_kind_of_array_gives_the_same_flips(store, kind):
    X, y = cells()
    expected, *_ = engine_of(X, y)
    found, *_ = engine_of(X, y, wrapped=store(X))
    for effect, values in next(iter(expected.flipped(4))).items():
        np.testing.assert_allclose(next(iter(found.flipped(4)))[effect], values, rtol=1e-4)


def test_signs_do_not_depend_on_how_rows_are_cut():
    whole = signs_of_rows(1, 0, slice(0, 10000), 3)
    np.testing.assert_array_equal(signs_of_rows(1, 0, slice(4000, 9000), 3), whole[4000:9000])
    assert set(np.unique(whole)) == {-1, 1}
    assert abs(whole.mean()) < 0.03
    many = signs_of_rows(1, 512, slice(100, 130), 600)  # those of more flips than one generator makes
    np.testing.assert_array_equal(many[:, 256:512], signs_of_rows(1, 768, slice(100, 130), 256))


def test_flips_that_share_a_pass_are_those_of_several_passes(monkeypatch):
    X, y = cells()
    engine, *_ = engine_of(X, y)
    one = np.vstack([part["A",] for part in engine.flipped(600)])
    monkeypatch.setattr("flda._error.flips.BLOCK_BYTES", 8 * 4 * 7 * 300)  # 256 flips at a time
    np.testing.assert_allclose(np.vstack([part["A",] for part in engine.flipped(600)]), one, rtol=1e-12)


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
    blocks = list(sign_blocks(30, 50, 20, 1))
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


def covariance_by_hand(signs, H, root, variances, rows):
    """Covariance of contrasts of flipped residuals of units with these variances."""
    K = signs[:, None] * (np.eye(len(H)) - H) / root[:, None]
    return rows @ K @ np.diag(variances) @ K.T @ rows.T


def test_coefficients_of_every_flip_of_donors_have_the_variance_of_the_data():
    rng = np.random.default_rng(1)
    groups = np.repeat([0, 1, 2], [4, 5, 7])
    D = np.column_stack([np.ones(3), [1, 0, -1], [-0.5, 1, -0.5]])
    values = rng.normal(size=(16, 1, 30)) * np.array([3, 1, 2])[groups][:, None, None]
    engine = DonorFlips(Effect(("A",)), Units(values, groups, D, slice(1, 3), np.arange(16)), 0)
    signs = rng.choice([-1.0, 1.0], (6, 16))
    scale, grow = engine._even(signs)
    v = np.stack([values[groups == c, 0].var(axis=0, ddof=1) for c in range(3)])
    pooled = np.sum(np.array([3, 4, 6])[:, None] * v, axis=0) / 13
    relative = np.mean(v / pooled, axis=1)[groups]
    w = 1 / relative
    H = np.outer(np.ones(16), w) / w.sum()
    root = np.sqrt(1 - np.diag(H))
    rows = np.linalg.pinv(D)[1:] @ (np.eye(3)[:, groups] / np.bincount(groups)[:, None])
    for f in range(6):
        C = covariance_by_hand(signs[f], H, root, relative, rows)
        np.testing.assert_allclose(scale[f] @ C @ scale[f].T, (rows * relative) @ rows.T, rtol=1e-8)
        K = signs[f][:, None] * (np.eye(16) - H) / root[:, None]
        squares = K @ np.diag(relative) @ K.T
        for c in range(3):
            own = groups == c
            part = squares[np.ix_(own, own)]
            expected = (np.trace(part) - part.sum() / own.sum()) / (own.sum() - 1)
            np.testing.assert_allclose(grow[f, c] * expected, relative[own][0], rtol=1e-8)


def test_flips_that_undo_a_contrast_are_bounded_and_a_saturated_fit_is_left_alone():
    A = to_variance(np.array([[[0.0]], [[1.0]]]), np.array([[1.0]]))
    np.testing.assert_allclose(A[:, 0, 0], [np.sqrt(20), 1])
    D = np.column_stack([np.ones(8), np.tile([-0.5, 0.5], 4), np.repeat(np.eye(4)[:, :3], 2, axis=0)])
    values = np.random.default_rng(0).normal(size=(8, 1, 3))
    engine = DonorFlips(Effect(("A",)), Units(values, np.arange(8), D, slice(1, 2), np.arange(8)), 0)
    scale, grow = engine._even(np.ones((4, 8)))  # a fit with donors takes half of every unit
    np.testing.assert_array_equal(scale, [[[1.0]]])
    np.testing.assert_array_equal(grow, [[1.0]])


def test_scaling_does_not_depend_on_the_coding():
    rng = np.random.default_rng(0)
    C, V = (x @ x.T for x in rng.normal(size=(2, 3, 5)))
    M = rng.normal(size=(3, 3))
    A, coded = to_variance(C[None], V)[0], to_variance((M @ C @ M.T)[None], M @ V @ M.T)[0]
    np.testing.assert_allclose(M @ A, coded @ M, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("sizes", [(4, 4), (6, 6)])
def test_the_sum_over_many_genes_is_as_powerful_as_its_level(sizes):
    """Without even flips, the sum over 300 genes hardly ever reached .05 in small groups."""
    n = np.array(sizes)
    hits = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(n.sum(), 300))
        y = pd.DataFrame({"A": np.repeat(["0", "1"], n)})
        engine, *_ = engine_of(X, y, seed=seed)
        null = np.concatenate([part["A",].mean(axis=1) for part in engine.flipped(99)])
        hits.append((1 + np.sum(null >= engine.observed()["A",].mean())) / 100)
    assert 0.25 <= np.mean(np.array(hits) <= 0.5) <= 0.75
    assert np.mean(np.array(hits) <= 0.2) >= 0.07
