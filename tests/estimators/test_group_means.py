"""Group means shrunken by the factorial prior: ``group_means="shrunken"``."""

import numpy as np
import pandas as pd
import pytest

from flda import FLDA, SparseFLDA
from flda._design.make import make_design
from flda._solve.prior import FactorialMeans
from flda.datasets import t4t5_simulated
from flda.inference import certify, choose_penalty
from flda.metrics import effect_snr

from array_kinds import BLOCKS, SINGLE, kinds
from oracle import donor_problem, donor_scatter, problem, within_scatter

SHRUNKEN = {"shrinkage": 0.3, "group_means": "shrunken"}


def rare_problem(with_donors, n_genes=40):
    """Groups of few cells, so that their means move; X, labels and donors (or None)."""
    if with_donors:
        return donor_problem(4, 5, n_genes, effect=0.2)
    X, y = problem(50, n_genes, (2, 3), seed=2)
    return X, y, None


def moved(X, y, means, observed):
    """Data whose groups are moved rigidly from their observed means to others; rows of both in the order of groups."""
    group = y.groupby(list(y.columns), observed=True).ngroup().to_numpy()
    return X + (means - observed)[group]


@pytest.mark.parametrize("solver", ["primal", "dual", "iterative"])
@pytest.mark.parametrize("with_donors", [False, True])
@pytest.mark.parametrize("n_genes", [30, 150])
def test_the_fit_is_that_of_groups_moved_rigidly_to_the_posterior_means(solver, with_donors, n_genes):
    X, y, donors = rare_problem(with_donors, n_genes)
    model = FLDA(**SHRUNKEN, solver=solver).fit(X, y, groups=donors)
    plain = FLDA(shrinkage=0.3, solver=solver).fit(X, y, groups=donors)
    assert (model.donor_share_ is not None) == with_donors
    assert np.abs(model.means_ - plain.means_).max() > 0.1
    Y = moved(X, y, model.means_, plain.means_)
    expected = FLDA(shrinkage=0.3, solver=solver).fit(Y, y, groups=donors)
    near = {"rtol": 1e-9} if solver != "iterative" else {"rtol": 1e-8}
    np.testing.assert_allclose(model.eigenvalues_, expected.eigenvalues_, **near)
    np.testing.assert_allclose(model.means_, expected.means_, atol=1e-12)
    np.testing.assert_allclose(model.within_sd_, expected.within_sd_, rtol=1e-9)
    np.testing.assert_allclose(
        model.components_, expected.components_, atol=1e-9 * np.abs(expected.components_).max() * (n_genes / 10)
    )
    np.testing.assert_allclose(model.transform(X), expected.transform(X), atol=1e-7)
    pd.testing.assert_frame_equal(model.predict_proba(X), expected.predict_proba(X), atol=1e-7)
    np.testing.assert_allclose(
        model.inverse_transform(model.transform(X)), expected.inverse_transform(expected.transform(X)), atol=1e-7
    )


@pytest.mark.parametrize("with_donors", [False, True])
def test_means_are_the_posterior_ones_given_the_noise_of_their_cells(with_donors):
    """Noise: the within variance over the cells, or with donors the variance of a donor's mean over the donors."""
    X, y, donors = rare_problem(with_donors)
    model = FLDA(**SHRUNKEN).fit(X, y, groups=donors)
    if with_donors:
        scatter, observed = donor_scatter(X, y, donors)
        samples = y.assign(donor=donors).value_counts()
        n = (
            len(samples)
            / np.sum(1 / samples)
            * y.assign(donor=donors).drop_duplicates().value_counts([*y]).sort_index()
        )
    else:
        scatter, observed = within_scatter(X, y, "pooled")
        n = y.value_counts().sort_index()
    noise = np.diag(scatter) / n.to_numpy()[:, None]
    expected = FactorialMeans.fit(observed, noise, model.design_).at(model.design_.table.groups)
    np.testing.assert_allclose(model.means_, expected, atol=1e-10)


@pytest.mark.parametrize("solver", ["primal", "dual", "iterative"])
@pytest.mark.parametrize("mode", ["axis", "marker"])
def test_sparse_axes_are_those_of_moved_groups(solver, mode):
    X, y, donors = rare_problem(True, 60)
    options = {"n_genes": 5, "mode": mode, "solver": solver}
    model = SparseFLDA(**options, **SHRUNKEN).fit(X, y, groups=donors)
    observed = FLDA(shrinkage=0.3).fit(X, y, groups=donors).means_
    expected = SparseFLDA(**options, shrinkage=0.3).fit(moved(X, y, model.means_, observed), y, groups=donors)
    np.testing.assert_allclose(model.components_, expected.components_, atol=1e-8)
    # but the report shows the means that were seen
    row = model.gene_report_.iloc[0]
    assert row["mean_no"] == pytest.approx(observed[:2, row["gene"]].mean())


@pytest.mark.parametrize("kind", kinds(BLOCKS, but=SINGLE))
def test_from_blocks(store, kind):
    X, y, donors = rare_problem(True)
    for shrinkage in (0.3, "cv"):
        options = {"group_means": "shrunken", "shrinkage": shrinkage}
        expected = FLDA(**options).fit(X, y, groups=donors)
        model = FLDA(**options).fit(store(X), y, groups=donors)
        np.testing.assert_allclose(model.components_, expected.components_, atol=1e-8)
        assert model.shrinkage_ == expected.shrinkage_


@pytest.mark.parametrize("with_donors", [False, True])
def test_cross_validation_does_not_depend_on_the_solver(with_donors):
    X, y, donors = rare_problem(with_donors, 70)
    options = {"shrinkage": "cv", "group_means": "shrunken"}
    paths = [
        FLDA(**options, solver=solver).fit(X, y, groups=donors).shrinkage_path_["criterion"]
        for solver in ("primal", "dual", "iterative")
    ]
    np.testing.assert_allclose(paths[1], paths[0], rtol=1e-8)
    np.testing.assert_allclose(paths[2], paths[0], rtol=1e-6)


@pytest.mark.parametrize("kind", [FLDA, SparseFLDA])
def test_a_certificate_of_pure_noise_stays_near_zero(kind):
    """48 cells x 200 genes: means shrunken once on all cells, before the folds, would certify an SNR of 40."""
    y = pd.DataFrame({"A": np.repeat(["p", "q"], 24), "B": np.tile(["u", "v"], 24)})
    found = []
    for seed in range(4):
        X = np.random.default_rng(seed).normal(size=(48, 200))
        model = kind(**SHRUNKEN) if kind is FLDA else kind(n_genes=5, **SHRUNKEN)
        found += certify(model, X, y)["snr"].tolist()
    # the held-out SNR of an axis without signal has a spread of about .5 here
    assert abs(np.mean(found)) < 4 * 0.5 / np.sqrt(len(found))
    assert max(found) < 2


def test_noise_and_additive_effects_have_axes_under_every_penalty():
    """Where the prior takes an effect to be absent its axes stay, with eigenvalues of about zero."""
    rng = np.random.default_rng(0)
    codes = np.repeat(list(np.ndindex(2, 3)), 20, axis=0)
    y = pd.DataFrame(codes.astype(str), columns=["A", "B"])
    noise = rng.normal(size=(120, 50))
    additive = noise + 2 * rng.normal(size=(2, 50))[codes[:, 0]] + rng.normal(size=(3, 50))[codes[:, 1]]
    for X in (noise, additive):
        for penalty in (1.0, np.inf):
            model = FLDA(penalty=penalty, **SHRUNKEN).fit(X, y)
            assert model.axes_["axis"].tolist() == ["A_1", "B_1", "B_2", "A:B_1", "A:B_2"]
            assert model.eigenvalues_[3:].max() < 0.01
        assert len(FLDA(**SHRUNKEN).fit(X, y[["A"]]).axes_) == 1
    chosen, _ = choose_penalty(FLDA(**SHRUNKEN), additive, y)
    assert set(chosen) == {"A", "B", "A:B"}


def test_shrunken_means_help_where_cells_are_few():
    adata = t4t5_simulated(1200, 150, effect_size=0.5)
    y, rng = adata.obs[["dendrite", "axon"]], np.random.default_rng(0)
    group = adata.obs["subtype"].to_numpy()
    train = np.concatenate(
        [rng.permutation(np.flatnonzero(group == g))[: 4 if g == "T5b" else 50] for g in np.unique(group)]
    )
    test = np.setdiff1d(np.arange(1200), train)
    snr = {}
    for group_means in ("observed", "shrunken"):
        model = FLDA(shrinkage=0.9, group_means=group_means).fit(adata.X[train], y.iloc[train])
        first = model.axes_["component"].to_numpy() == 1
        ratios = effect_snr(model.transform(adata.X[test])[:, first], make_design(y.iloc[test]))
        snr[group_means] = ratios["dendrite"][0], ratios["axon"][1]
    assert np.all(np.array(snr["shrunken"]) > np.array(snr["observed"]))


def test_large_groups_keep_their_means():
    X, y = problem(6000, 20, (2, 3))
    means = [FLDA(shrinkage=0.1, group_means=m).fit(X, y).means_ for m in ("observed", "shrunken")]
    np.testing.assert_allclose(means[0], means[1], atol=0.05)


def test_constant_genes_stay():
    X, y, _ = rare_problem(False)
    X[:, 5] = 3.0
    model = FLDA(**SHRUNKEN).fit(X, y)
    np.testing.assert_allclose(model.means_[:, 5], 3.0)
    np.testing.assert_allclose(model.components_[:, 5], 0, atol=1e-12)
