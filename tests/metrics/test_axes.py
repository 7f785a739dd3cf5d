"""What scores say about every effect: unbiased, whatever the groups and donors."""

from functools import reduce
from operator import add

import numpy as np
import pandas as pd
import pytest

from flda._data.device import wrap
from flda._data.summary import summarise
from flda._design.make import make_design
from flda._design.samples import sample_units
from flda.metrics import (
    effect_shares,
    effect_snr,
    explained_variance,
    mean_products,
    modularity,
    mutual_information,
    mutual_information_gap,
    total_products,
)
from flda.metrics._ratios import RatioSums

from array_kinds import SINGLE, kinds


def two_by_two(n):
    """Design of a 2 x 2 table with n cells in each of its groups, and the codes of A and B."""
    codes = np.repeat([(0, 0), (0, 1), (1, 0), (1, 1)], n, axis=0)
    return make_design(pd.DataFrame(codes.astype(str), columns=["A", "B"])), codes


def test_effect_snr_by_hand():
    """Cells at mean -+ 1: variance 2 in groups of two. Means 1, 3, 5, 11: A 6, B 4, interaction 2 as differences."""
    design, _ = two_by_two(2)
    scores = np.repeat([1.0, 3.0, 5.0, 11.0], 2)[:, None] + np.tile([-1.0, 1.0], 4)[:, None]
    got = {e: float(v[0]) for e, v in effect_snr(scores, design).items()}
    # mean square of A: margins 2 and 8, so 2 * 3^2 = 18 on one degree of freedom; noise: v/n = 1 in each of the four
    # means, 1/2 in a margin
    assert got == pytest.approx({"A": (18 - 0.5) / 2, "B": (8 - 0.5) / 2, "A:B": (4 - 1) / 2})


def test_without_variance_within_groups_there_is_no_ratio():
    """Neither with one cell in every group, nor with equal cells; warnings are errors in these tests."""
    single, _ = two_by_two(1)
    equal, codes = two_by_two(3)
    for scores, design in ((np.arange(4.0)[:, None], single), (codes[:, :1].astype(float), equal)):
        assert all(np.isnan(v).all() for v in effect_snr(scores, design).values())
        assert all(np.isnan(v).all() for v in RatioSums.of(scores, design).snr().values())


@pytest.mark.parametrize(
    ("n", "sd", "error"),
    [((3,) * 4, (1,) * 4, 0.03), ((1, 4, 4, 4), (1,) * 4, 0.03), ((6, 6, 12, 30), (3, 1, 1, 0.5), 0.1)],
)
def test_corrected_ratios_are_unbiased(n, sd, error):
    """True SNR 8 for A and 0 for the others; the plain ratio is too large by a fifth or more."""
    group, sd = np.repeat(np.arange(4), n), np.array(sd, dtype=float)
    design = make_design(pd.DataFrame({"A": (group // 2).astype(str), "B": (group % 2).astype(str)}))
    means = (2 * (group // 2) - 1) * np.sqrt(8 / 2 * np.mean(sd**2))
    scores = means[:, None] + sd[group][:, None] * np.random.default_rng(0).normal(size=(len(group), 2500))
    found = RatioSums.of(scores, design).snr()
    noise = 4 * found["A"].std() / np.sqrt(2500)
    assert found["A"].mean() == pytest.approx(8, abs=noise + 8 * error)
    assert effect_snr(scores, design)["A"].mean() > 8 * 1.18
    for other in ("B", "A:B"):
        assert abs(found[other].mean()) < 0.05


def test_one_variance_has_the_classical_correction():
    """(df - 2) / df M / V - sum Q_cc / n_c, on average over data sets; df is 8."""
    design, _ = two_by_two(3)
    scores = np.random.default_rng(0).normal(size=(12, 2000))
    T, v = mean_products(scores, design)
    for effect in design.effects:
        Q = design.scatter_weights(effect)
        M = np.einsum("cd,kcd->k", Q, T) + np.einsum("c,kc->k", np.diag(Q) / 3, group_variances(scores, design))
        classical = 6 / 8 * M / v - np.trace(Q) / 3
        difference = RatioSums.of(scores, design).snr()[effect.name] - classical
        assert abs(difference.mean()) < 0.02


def group_variances(scores, design):
    """Variance of each group on each axis, (k, C)."""
    return np.array([scores[design.codes == c].var(axis=0, ddof=1) for c in range(design.n_groups)]).T


@pytest.mark.parametrize("n_donors", [3, 6])
def test_corrected_ratios_with_paired_donors(n_donors):
    """Donor slopes of sd 0.5 and levels of sd 1; the true SNR of B is 0, or 4 over the variance of a new cell."""
    rng, k = np.random.default_rng(0), 1200
    donors, b = np.repeat(np.arange(n_donors), 20), np.tile(np.repeat([0, 1], 10), n_donors)
    design, sign = make_design(pd.DataFrame({"B": b.astype(str)})), (2 * b - 1)[:, None]
    noise = rng.normal(size=(n_donors, k))[donors] + 0.5 * sign * rng.normal(size=(n_donors, k))[donors]
    noise += rng.normal(size=(len(b), k))
    for square in (0.0, 4.0):
        found = RatioSums.of(noise + sign * np.sqrt(square / 2), design, donors).snr()["B"]
        truth = square / (1 + 1 + 0.25)
        assert found.mean() == pytest.approx(truth, abs=0.04 * truth + 3 * found.std() / np.sqrt(k))


def test_sums_of_folds_and_their_errors():
    """The sum of equal parts has the ratio of one part up to its correction, and errors that shrink as the root."""
    rng = np.random.default_rng(0)
    design, codes = two_by_two(25)
    parts = [RatioSums.of(rng.normal(size=(100, 3)) + codes[:, :1], design) for _ in range(40)]
    total = reduce(add, parts) / 40
    np.testing.assert_allclose(total.snr()["A"], reduce(add, parts).snr()["A"])
    left = [reduce(add, parts[:i] + parts[i + 1 :]) / 39 for i in range(40)]
    assert total.errors(left[:1], [["A"]] * 3).tolist() == pytest.approx([np.nan] * 3, nan_ok=True)
    error = total.errors(left, [["A"]] * 3)
    spread = np.std([p.snr()["A"] for p in parts], axis=0) / np.sqrt(40)
    np.testing.assert_allclose(error, spread, rtol=0.25)


def test_explained_variance_by_hand():
    """The same table: squared effects 9, 4 and 1 per group, less a quarter of v/n each, and variance 2 within."""
    design, _ = two_by_two(2)
    scores = np.repeat([1.0, 3.0, 5.0, 11.0], 2)[:, None] + np.tile([-1.0, 1.0], 4)[:, None]
    shares = explained_variance(scores, design)[0]
    parts = np.array([9 - 0.25, 4 - 0.25, 1 - 0.25, 2])
    np.testing.assert_allclose(shares, parts / parts.sum())
    assert shares.index.tolist() == ["A", "B", "A:B", "within"]


def test_shares_of_genes_add_up():
    """Shares of all genes are those of the summed variances."""
    rng = np.random.default_rng(0)
    design, codes = two_by_two(20)
    X = rng.normal(size=(80, 6)) * np.arange(1, 7) + codes[:, :1]
    T, v = mean_products(X, design)
    together = effect_shares(T.sum(axis=0, keepdims=True), v.sum(keepdims=True), design)[0]
    each = explained_variance(X, design)
    total = v / each.loc["within"]
    np.testing.assert_allclose(together, (each * total).sum(axis=1) / total.sum())


@pytest.mark.parametrize("with_donors", [False, True])
@pytest.mark.parametrize("kind", kinds(but=SINGLE))
def test_totals_over_genes_equal_the_sum(store, kind, with_donors):
    """From sums and squares of the samples, as one pass over the data gives them."""
    rng = np.random.default_rng(0)
    codes = np.concatenate([[0, 1, 2, 3], rng.integers(3, size=96)])  # group 3 has one cell
    design = make_design(pd.DataFrame({"A": (codes // 2).astype(str), "B": (codes % 2).astype(str)}))
    donors = rng.integers(5, size=100) if with_donors else None
    X = 50 + rng.normal(size=(100, 7)) * (rng.random((100, 7)) < 0.7)
    T, v = mean_products(X, design, donors)
    units = sample_units(design, donors)
    summary = summarise(wrap(store(X)), units.codes, len(units.counts))
    total, variance = total_products(summary.sums, summary.squares.sum(axis=1), design, donors)
    Q = [design.scatter_weights(e) for e in design.effects]
    np.testing.assert_allclose([np.sum(q * total[0]) for q in Q], [np.sum(q * T.sum(axis=0)) for q in Q], atol=1e-9)
    assert variance[0] == pytest.approx(v.sum())


def assert_mean_is(values, truth, resolution):
    """The mean of independent values equals the truth to four standard errors, which are below ``resolution``."""
    error = 4 * np.std(values) / np.sqrt(len(values))
    assert error < resolution
    assert np.mean(values) == pytest.approx(truth, abs=error)


def mean_squares(T, design):
    """Corrected mean square of every effect and column."""
    return {e: np.einsum("cd,kcd->k", design.scatter_weights(e), T) for e in design.effects}


def test_noise_is_subtracted_in_an_unequal_heteroscedastic_table():
    """Truth: theta_A = 2 * 0.5**2 (mean square of +-0.5 over its one degree of freedom), no B, no interaction.

    Noise alone gives A:B an expected mean square of 0.23, of which the pooled variance would subtract only 0.04.
    """
    rng = np.random.default_rng(0)
    n, sd = np.array([10, 300, 60, 40]), np.array([3.0, 1.0, 1.0, 0.5])
    codes = np.repeat(np.arange(4), n)
    design = make_design(pd.DataFrame({"A": (codes // 2).astype(str), "B": (codes % 2).astype(str)}))
    scores = 0.5 * (2.0 * (codes // 2) - 1)[:, None] + sd[codes][:, None] * rng.normal(size=(410, 2000))
    T, v = mean_products(scores, design)
    square = mean_squares(T, design)
    assert_mean_is(v, np.mean(sd**2), 0.2)
    assert_mean_is(square[("A",)], 0.5, 0.1)
    assert_mean_is(square[("B",)], 0, 0.05)
    assert_mean_is(square[("A", "B")], 0, 0.05)


def test_noise_of_donors_is_subtracted():
    """A between donors, B within; donor sd 1 and a donor's own B effect of sd 0.5; no A, no interaction; B is +-0.5.

    The noise of donors alone gives A an expected mean square of 0.25 and A:B one of 0.125.
    """
    rng = np.random.default_rng(1)
    donors = np.repeat(np.arange(8), 30)
    b = np.tile(np.arange(2), 120)
    design = make_design(pd.DataFrame({"A": (donors % 2).astype(str), "B": b.astype(str)}))
    k = 2000
    scores = rng.normal(size=(8, k))[donors] + (2 * b[:, None] - 1) * (0.5 + 0.5 * rng.normal(size=(8, k))[donors])
    scores += rng.normal(size=(240, k))
    T, v = mean_products(scores, design, donors)
    square = mean_squares(T, design)
    assert_mean_is(square[("A",)], 0, 0.1)
    assert_mean_is(square[("A", "B")], 0, 0.03)
    assert_mean_is(square[("B",)], 0.5, 0.1)
    assert_mean_is(v, 1 + 1 + 0.25, 0.1)
    cells = effect_snr(scores, design)
    assert np.mean(cells["A"]) > 0.1  # without donors the noise between them remains


def test_a_donor_alone_in_its_groups_falls_back_on_its_cells():
    rng = np.random.default_rng(0)
    design, _ = two_by_two(10)
    scores = rng.normal(size=(40, 3))
    alone = mean_products(scores, design, np.zeros(40, dtype=int))
    cells = mean_products(scores - scores.mean(axis=0), design)
    for e in design.effects:
        q = design.scatter_weights(e)
        np.testing.assert_allclose(np.einsum("cd,kcd", q, alone[0]), np.einsum("cd,kcd", q, cells[0]))
    np.testing.assert_allclose(alone[1], cells[1])


def test_mutual_information_of_perfect_axes():
    """One bit about A; nothing about A or B but one bit about which of them agree."""
    design, codes = two_by_two(2000)
    signs = 2.0 * codes - 1
    scores = np.column_stack([signs[:, 0], signs.prod(axis=1), np.random.default_rng(0).normal(size=8000)])
    information = mutual_information(scores, design)
    np.testing.assert_allclose(information[0], [1, 0, 0], atol=1e-3)
    np.testing.assert_allclose(information[1], [0, 0, 1], atol=1e-3)
    np.testing.assert_allclose(information[2], 0, atol=3e-3)
    score = modularity(information)
    np.testing.assert_allclose(score[:2], 1, atol=1e-3)


def test_counting_bias_is_taken_off():
    """300 axes of noise on 80 cells: the plain estimate reads 0.08 bits of A."""
    design, _ = two_by_two(20)
    information = mutual_information(np.random.default_rng(0).normal(size=(80, 300)), design)
    np.testing.assert_allclose(information.mean(axis=1), 0, atol=0.02)


def test_every_group_counts_the_same():
    """90 % of the cells in one group of B: A's information is that of an equal table."""
    rng = np.random.default_rng(0)
    codes = np.repeat([(0, 0), (0, 1), (1, 0), (1, 1)], [9000, 1000, 1000, 9000], axis=0)
    design = make_design(pd.DataFrame(codes.astype(str), columns=["A", "B"]))
    scores = np.column_stack([codes[:, 1] + 0.01 * rng.normal(size=20000)])
    information = mutual_information(scores, design)
    assert information.loc["A", 0] == pytest.approx(0, abs=2e-3)  # 0.47 bits if cells counted the same
    assert information.loc["B", 0] == pytest.approx(1, abs=2e-3)


def test_modularity_by_hand():
    table = pd.DataFrame({0: [0.8, 0.4, 0.0], 1: [0.0, 0.5, -0.01], 2: [-0.1, -0.1, 0.0]}, index=["A", "B", "A:B"])
    got = modularity(table)
    np.testing.assert_allclose(got[:2], [1 - 0.4**2 / (0.8**2 * 2), 1.0])
    assert np.isnan(got[2])


def test_mutual_information_gap_by_hand():
    """Three axes, three effects of one bit: divided by the effects, not by the axes."""
    design, _ = two_by_two(5)
    table = pd.DataFrame(
        {0: [0.9, 0.1, 0.0], 1: [0.3, 0.8, 0.0], 2: [0.0, 0.0, 0.5], 3: [0.85, 0.0, 0.0]}, index=["A", "B", "A:B"]
    )
    assert mutual_information_gap(table, design) == pytest.approx((0.05 + 0.7 + 0.5) / 3)
    blocks = {0: "A", 1: "B", 2: "A:B", 3: "A"}
    assert mutual_information_gap(table, design, blocks) == pytest.approx((0.6 + 0.7 + 0.5) / 3)
