import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from flda import FLDA
from flda._design.design import effect_penalties, make_design
from flda._design.samples import Samples
from flda._design.splits import cell_folds
from flda._solve.group_space import GroupSpace
from flda.inference._cells import CellStatistics
from flda.inference._donors import DonorStatistics
from flda.inference._schemes import every_assignment, n_distinct, permuted_codes, scheme_of
from flda.inference._tests import _holm, permutation_test

from oracle import donor_problem, problem

GRID = (0.05, 0.5, 0.9)


def signed_information(es, ee, ss):
    r = es / np.sqrt(ee * ss)
    return np.mean(-np.sign(r) * np.log(1 - r**2))


def fitted_values(effects, design, means):
    return sum((design.table.coding(e) @ design.contrasts[e] @ means for e in effects), np.zeros_like(means))


def cell_statistic(X, new, design, scheme, fold, n_components):
    """By the definition: permuted data, and for every fold and g a dense within scatter; returns F ratios too."""
    N, C = len(X), design.n_groups
    means = np.stack([X[design.codes == c].mean(axis=0) for c in range(C)])
    H = fitted_values(scheme.taken_out, design, means)
    Y = X - H[design.codes] + H[new]
    own = design.contrasts[scheme.effect]
    others = [(b, 1.0) for e, b in design.contrasts.items() if e != scheme.effect]
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
            _, w = GroupSpace(K).axes(own, others, n_components)
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
@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array])
def test_cell_statistic_equals_its_definition(n_genes, interactions, kind):
    X, y = problem(120, n_genes, (2, 3), seed=1)
    design = make_design(y, interactions=interactions)
    fold, rng = cell_folds(design, 0, 5), np.random.default_rng(0)
    for effect in design.effects:
        scheme = scheme_of(effect, design, None, None)
        assert scheme.name == ("restricted" if interactions is None else "residual")
        k = design.df(effect)
        engine = CellStatistics(kind(X), design, scheme, effect_penalties(design, 1.0), k, fold, GRID)
        codes = np.stack([design.codes, *(engine.permuted(rng) for _ in range(3))])
        got, ratios = engine.statistics(codes)
        for b, new in enumerate(codes):
            expected, F = cell_statistic(X, new, design, scheme, fold, k)
            assert got[b] == pytest.approx(expected, rel=1e-4, abs=1e-5)
            np.testing.assert_allclose(ratios[b], F, rtol=1e-7)


def test_cell_statistic_with_an_ill_conditioned_scatter():
    X, y = problem(150, 30, (2, 2), seed=2, condition=1e4)
    design = make_design(y)
    fold, rng = cell_folds(design, 0, 5), np.random.default_rng(0)
    scheme = scheme_of(("A",), design, None, None)
    engine = CellStatistics(X, design, scheme, effect_penalties(design, 1.0), 1, fold, GRID)
    codes = np.stack([design.codes, engine.permuted(rng)])
    for got, new in zip(engine.statistics(codes)[0], codes, strict=True):
        assert got == pytest.approx(cell_statistic(X, new, design, scheme, fold, 1)[0], rel=1e-3, abs=1e-5)


def donor_statistic(X, design, donors, scheme, engine, levels):
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
    own = design.contrasts[scheme.effect]
    others = [(b, 1.0) for e, b in design.contrasts.items() if e != scheme.effect]
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
            _, w = GroupSpace(K).axes(own, others, len(own))
            e = (design.table.coding(scheme.effect) @ own @ K @ w)[new[test]]
            s, v = (Y[test] - G.mean(axis=0)) @ Z @ w, 1 / size[new[test]][:, None]
            es, ee, ss = es + np.sum(v * e * s, axis=0), ee + np.sum(v * e**2, axis=0), ss + np.sum(v * s**2, axis=0)
        best = max(best, signed_information(es, ee, ss))
    G = np.stack([Y[new == c].mean(axis=0) for c in range(design.n_groups)])
    noise = np.sum((Y - G[new]) ** 2, axis=0) / (S - len(G)) + np.diag(cells) / n
    Q = own.T @ own / len(own)
    return best, np.einsum("cj,cd,dj->j", G, Q, G) / (noise * np.sum(np.diag(Q) / np.bincount(new)))


@pytest.mark.parametrize("n_genes", [12, 200])
def test_donor_statistic_equals_its_definition(n_genes):
    X, y, donors = donor_problem(4, 12, n_genes, seed=4)
    design, codes = make_design(y), pd.factorize(donors, sort=True)[0]
    for effect in [("treatment",), ("treatment", "type")]:
        scheme = scheme_of(effect, design, codes, None)
        assert scheme.by_donor
        rng = np.random.default_rng(0)
        engine = DonorStatistics(X, design, codes, scheme, effect_penalties(design, 1.0), 1, GRID, rng)
        levels = np.stack([engine.units, engine.permuted(rng), engine.permuted(rng)])
        got, ratios = engine.statistics(levels)
        for b, one in enumerate(levels):
            expected, F = donor_statistic(X, design, codes, scheme, engine, one)
            assert got[b] == pytest.approx(expected, rel=1e-6)
            np.testing.assert_allclose(ratios[b], F, rtol=1e-6)


def test_cells_keep_their_strata_and_groups_their_counts():
    X, y, donors = donor_problem(4, 30, 12)
    design, codes = make_design(y), pd.factorize(donors, sort=True)[0]
    scheme = scheme_of(("type",), design, codes, None)
    assert not scheme.by_donor
    assert scheme.taken_out == (("treatment", "type"),)
    fold = codes % 3
    engine = CellStatistics(X, design, scheme, effect_penalties(design, 1.0), 1, fold, GRID)
    new = engine.permuted(np.random.default_rng(0))
    before, after = design.table.groups[design.codes], design.table.groups[new]
    assert (before[:, 0] == after[:, 0]).all()  # the treatment stays
    assert (before[:, 1] != after[:, 1]).mean() > 0.3
    for d in range(8):
        np.testing.assert_array_equal(
            np.bincount(new[codes == d], minlength=4), np.bincount(design.codes[codes == d], minlength=4)
        )


def test_donors_are_exchanged_within_the_other_between_factor():
    _, y, donors = donor_problem(6, 10, 12)
    codes = pd.factorize(donors, sort=True)[0]
    y["site"] = np.array(["n", "s"])[(codes // 2) % 2]
    design = make_design(y, interactions=None)
    scheme = scheme_of(("treatment",), design, codes, None)
    units = np.array([[t, 0, s] for s in (0, 1) for t in (0, 1) for _ in range(3)])
    strata = units[:, 2]
    new = permuted_codes(scheme, units, strata, np.random.default_rng(0))
    assert (new[:, 2] == units[:, 2]).all()
    for s in (0, 1):
        assert new[strata == s, 0].sum() == 3
    assert n_distinct(scheme, units, strata) == 20 * 20
    every = {tuple(u[:, 0]) for u in every_assignment(scheme, units, strata)}
    assert len(every) == 400
    assert tuple(units[:, 0]) in every


def test_exhaustive_permutation_counts_every_assignment():
    """3 + 3 donors: 20 assignments; each and its mirror image have one statistic, so 0.1 is the least p-value."""
    X, y, donors = donor_problem(3, 30, 12, donor_sd=0.05, effect=1.0)
    result = permutation_test(FLDA(interactions=None), X, y, donors, effects=["treatment"], n_perms=500)
    row = result.table.iloc[0]
    assert (row["n_perms"], row["n_distinct"], row["unit"], row["scheme"]) == (19, 20, "donor", "restricted")
    assert row["pval"] == pytest.approx(0.1)


def test_effects_and_their_genes_are_found_and_noise_is_not():
    rng = np.random.default_rng(0)
    codes = rng.integers(2, size=(400, 2))
    y = pd.DataFrame(codes.astype(str), columns=["A", "B"])
    X = rng.normal(size=(400, 60))
    X[:, :5] += codes[:, [0]]
    result = permutation_test(FLDA(), X, y, n_perms=199)
    table = result.table.set_index("effect")
    assert table.loc["A", "pval"] == 1 / 200
    assert table.loc["A", "pval_adj"] == pytest.approx(3 / 200)
    assert (table.loc[["B", "A:B"], "pval"] > 0.02).all()
    assert (table["null_mean"].abs() < 0.02).all()
    genes = result.genes[result.genes["effect"] == "A"].set_index("gene")
    assert (genes.loc[:4, ["pval_adj", "pval_max"]] < 0.05).all(axis=None)
    assert np.sum(genes.loc[5:, "pval_adj"] < 0.1) <= 2
    assert (genes["pval_max"] >= genes["pval"]).all()
    assert result.null.shape == (199, 3)


def test_gene_p_values_count_by_hand():
    """p of a gene: how many F of all genes and permutations are as large; p_max: how many largest ones."""
    X, y = problem(60, 7, (2, 2), seed=3)
    design = make_design(y)
    result = permutation_test(FLDA(shrinkage=0.5), X, y, effects=["A"], n_perms=40, random_state=5)
    rng = np.random.default_rng(5)
    fold = cell_folds(design, np.random.RandomState(rng.integers(2**31)), 5)
    engine = CellStatistics(
        X, design, scheme_of(("A",), design, None, None), effect_penalties(design, 1.0), 1, fold, (0.5,)
    )
    observed = engine.statistics(design.codes[None])[1][0]
    F = engine.statistics(np.stack([engine.permuted(rng) for _ in range(40)]))[1]
    genes = result.genes
    np.testing.assert_allclose(genes["statistic"], observed)
    np.testing.assert_allclose(genes["pval"], [(1 + np.sum(f <= F)) / (1 + 40 * 7) for f in observed])
    np.testing.assert_allclose(genes["pval_max"], [(1 + np.sum(F.max(axis=1) >= f)) / 41 for f in observed])


def test_same_seed_same_result_and_threads_change_nothing():
    X, y = problem(80, 10, (2, 2))
    X = np.column_stack([X, np.ones(80)])
    one = permutation_test(FLDA(), X, y, n_perms=70, random_state=3)
    two = permutation_test(FLDA(), X, y, n_perms=70, random_state=3, n_jobs=2)
    pd.testing.assert_frame_equal(one.table, two.table)
    pd.testing.assert_frame_equal(one.genes, two.genes)
    assert one.genes.groupby("effect")["pval"].apply(lambda p: p.isna().sum()).tolist() == [1, 1, 1]  # constant gene


def test_too_few_donors_are_refused(caplog):
    X, y, donors = donor_problem(2, 30, 12)
    few = r"level 'no' of 'treatment' has 2 donor\(s\).*needs 3 or more per level"
    with pytest.raises(ValueError, match=few):
        permutation_test(FLDA(), X, y, donors, effects=["treatment"])
    with pytest.raises(ValueError, match=few):
        permutation_test(FLDA(interactions=None), X, y[["treatment"]], donors)
    table = permutation_test(FLDA(), X, y, donors, n_perms=19).table
    assert table[["effect", "unit"]].values.tolist() == [["type", "cell"]]
    assert "no p-value for treatment:type: level 'no'" in caplog.text


def test_bad_requests_are_refused(caplog):
    X, y, donors = donor_problem(4, 30, 12)
    with pytest.raises(ValueError, match="no axes for the effect 'axon'"):
        permutation_test(FLDA(), X, y, effects=["axon"])
    with pytest.raises(ValueError, match="n_perms=0"):
        permutation_test(FLDA(), X, y, n_perms=0)
    reused = donors.copy()
    reused[(donors == "d01").nonzero()[0][:3]] = "d00"
    with pytest.raises(ValueError, match="donor d00 has cells in several levels of 'treatment'"):
        permutation_test(FLDA(), X, y, reused, effects=["treatment"])
    d = np.repeat(np.arange(4), 6)  # within a donor the type goes with the site, in some donors the other way round
    kind = np.tile([0, 1], 12)
    locked = pd.DataFrame({"type": kind.astype(str), "site": ((kind + d) % 2).astype(str)})
    with pytest.raises(ValueError, match="'type' cannot be permuted: no two cells of one stratum"):
        permutation_test(FLDA(interactions=None), X[:24], locked, d)


def test_few_distinct_permutations_are_announced(caplog):
    """Each donor has one cell of type q among two: two ways per donor."""
    rng = np.random.default_rng(0)
    donors = np.repeat(np.arange(4), 2)
    y = pd.DataFrame({"type": np.tile(["p", "q"], 4)})
    result = permutation_test(FLDA(shrinkage=0.5), rng.normal(size=(8, 5)), y, donors, n_perms=30, n_folds=2)
    assert "only 16 different permutations" in caplog.text
    assert result.table["n_distinct"].item() == 16


def test_holm():
    np.testing.assert_allclose(_holm(np.array([0.01, 0.04, 0.03])), [0.03, 0.06, 0.06])


@pytest.mark.slow
@pytest.mark.parametrize("effect", ["A", "A:B"])
def test_level_under_the_null_with_the_other_effects_present(effect):
    """200 data sets of counts with unequal groups: at nominal 0.05 the rejections are within 3 standard errors."""
    rejected = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        codes = rng.choice(4, p=[0.45, 0.3, 0.15, 0.1], size=200)
        a, b = codes // 2, codes % 2
        rate = np.exp(rng.normal(0, 0.7, size=25) + 0.5 * b[:, None] * rng.normal(size=25))
        others = a if effect == "A:B" else a * b - (a + b) / 2
        rate = rate * np.exp(0.4 * others[:, None] * rng.normal(size=25))
        X = np.log1p(rng.negative_binomial(2, 2 / (2 + rate)))
        y = pd.DataFrame({"A": a.astype(str), "B": b.astype(str)})
        model = FLDA(shrinkage=0.5)
        rejected += permutation_test(model, X, y, effects=[effect], n_perms=59).table["pval"].item() <= 0.05
    assert 0.05 - 3 * 0.0155 <= rejected / 200 <= 0.05 + 3 * 0.0155
