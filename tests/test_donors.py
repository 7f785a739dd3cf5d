import numpy as np
import pandas as pd
import pytest
from scipy.linalg import eigh

from flda import FLDA, SparseFLDA
from flda._design.design import make_design
from flda._design.samples import Samples, between_factors, samples_in_error
from flda._design.splits import folds
from flda._solve.dual import Dual
from flda._solve.primal import Primal
from flda._solve.within import Within

from oracle import donor_problem, donor_scatter, problem


def codes_of(donors):
    return pd.factorize(donors, sort=True)[0]


def test_factors_that_vary_between_donors():
    _, y, donors = donor_problem(3, 20, 12)
    design = make_design(y)
    assert between_factors(design, codes_of(donors)) == ("treatment",)
    assert samples_in_error(design, None) is None
    samples = samples_in_error(design, codes_of(donors))
    assert samples.counts.sum() == len(y)
    np.testing.assert_array_equal(samples.groups[samples.codes], design.codes)


def test_a_reused_donor_name_is_pointed_out(caplog):
    _, y, donors = donor_problem(4, 20, 12)
    donors[(donors == "d01").nonzero()[0][:3]] = "d00"  # d01 is treated, d00 is not
    assert samples_in_error(make_design(y), codes_of(donors)) is None
    assert "several levels of 'treatment' while most donors have one" in caplog.text
    caplog.clear()
    FLDA(shrinkage=0.5).fit(np.random.default_rng(0).normal(size=(len(y), 3)), y, groups=donors)
    assert "donor 'd00' has cells" in caplog.text


def test_the_share_of_donors_in_the_variance_is_estimated():
    rng = np.random.default_rng(0)
    donors = np.repeat(np.arange(200), 20)
    y = pd.DataFrame({"treatment": (donors % 2).astype(str)})
    X = rng.normal(size=(4000, 30)) + 0.5 * rng.normal(size=(200, 30))[donors]
    model = FLDA(shrinkage=0.1).fit(X, y, groups=donors)
    assert model.donor_share_ == pytest.approx(0.2, abs=0.01)  # 0.25 / 1.25
    null = FLDA(shrinkage=0.1).fit(rng.normal(size=(4000, 30)), y, groups=donors)
    assert null.donor_share_ == pytest.approx(0, abs=0.003)
    assert FLDA(shrinkage=0.1).fit(X, y).donor_share_ is None


def test_one_donor_per_group_leaves_the_error_term_to_the_cells(caplog):
    X, y, _ = donor_problem(3, 20, 12)
    donors = y["treatment"].to_numpy()
    model = FLDA(shrinkage=0.2).fit(X, y, groups=donors)
    np.testing.assert_allclose(model.components_, FLDA(shrinkage=0.2).fit(X, y).components_)
    assert "cannot be told from the donors" in caplog.text


def test_pseudobulk_is_left_as_it_is():
    """One row per donor and group: the rows are the donors."""
    rng = np.random.default_rng(0)
    y = pd.DataFrame({"treatment": np.repeat(["no", "yes"], 12), "type": np.tile(["p", "q"], 12)})
    X, donors = rng.normal(size=(24, 6)), np.repeat(np.arange(12), 2)
    model = FLDA(shrinkage=0.2).fit(X, y, groups=donors)
    np.testing.assert_allclose(model.components_, FLDA(shrinkage=0.2).fit(X, y).components_)


@pytest.mark.parametrize("solver", ["primal", "dual"])
@pytest.mark.parametrize("g", [0.05, 0.7])
def test_axes_with_donors_in_the_error_term_equal_a_dense_computation(solver, g):
    X, y, donors = donor_problem(4, 25, 30)
    model = FLDA(shrinkage=g, solver=solver).fit(X, y, groups=donors)
    scatter, means = donor_scatter(X, y, donors)
    np.testing.assert_allclose(model.means_, means)
    np.testing.assert_allclose(model.within_sd_**2, np.diag(scatter))
    metric = (1 - g) * scatter + g * np.diag(np.diag(scatter))
    signs = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]])
    contrasts = {"treatment": signs[:, 0], "type": signs[:, 1], "treatment:type": signs.prod(axis=1)}
    # a contrast of +-1 over four groups is twice an orthonormal one; M_S divides by the levels of the other factors
    part = {e: np.outer(c @ means, c @ means) / 4 / (1 if ":" in e else 2) for e, c in contrasts.items()}
    for j, effect in enumerate(part):
        objective = 2 * part[effect] - sum(part.values())
        values, vectors = eigh(objective, metric)
        assert model.eigenvalues_[j] == pytest.approx(values[-1], rel=1e-9)
        assert abs(model.components_[j] @ metric @ vectors[:, -1]) == pytest.approx(1, abs=1e-9)
    assert model.residual_ < 1e-10


@pytest.mark.parametrize("within", ["pooled", "balanced"])
@pytest.mark.parametrize("hold_out", ["donors", "cells"])
def test_folds_equal_a_fit_on_the_training_cells(within, hold_out):
    """The folds of both inverses against Within of the training cells alone, with the target of all cells."""
    X, y, donors = donor_problem(4, 15, 25, seed=3)
    design, codes = make_design(y), codes_of(donors)
    test = np.flatnonzero(codes < 2) if hold_out == "donors" else np.arange(0, len(y), 5)
    train = np.setdiff1d(np.arange(len(y)), test)
    full = Within.from_data(X, design.codes, design.counts, within, samples_in_error(design, codes))
    part = design.subset(train)
    alone = Within.from_data(
        X[train],
        part.codes,
        part.counts,
        within,
        Samples.of(part.codes, np.unique(codes[train], return_inverse=True)[1]),
    )
    weights = full.weights / np.sum(full.weights * (part.counts - np.bincount(alone.samples.groups)))
    if within == "pooled":
        np.testing.assert_allclose(alone.weights, weights)
        scatter = alone.gene_scatter()
    else:  # weights of the full data, rescaled to the training cells
        n = len(alone.samples.counts) / np.sum(1 / alone.samples.counts)
        own = np.stack([X[train][alone.samples.codes == s].mean(axis=0) for s in range(len(alone.samples.counts))])
        r = (X[train] - own[alone.samples.codes]) * np.sqrt(weights)[part.codes][:, None]
        spread = own - alone.means[alone.samples.groups]
        scatter = r.T @ r + n * spread.T @ spread / (len(own) - len(part.counts))
    for kind in (Primal, Dual):
        inverse = kind(full, "diagonal")
        Z = np.linalg.solve(0.7 * scatter + 0.3 * np.diag(inverse.target), alone.centred_means.T)
        K, held_out = inverse.fold(train, test, part.codes, part.counts).group_spaces([0.3])[0]
        np.testing.assert_allclose(K, alone.centred_means @ Z, atol=1e-10)
        np.testing.assert_allclose(held_out, (X[test] - alone.centre) @ Z, atol=1e-10)


def test_sparse_axes_use_the_same_error_term():
    X, y, donors = donor_problem(4, 25, 30)
    scatter, _ = donor_scatter(X, y, donors)
    metric = 0.5 * scatter + 0.5 * np.diag(np.diag(scatter))
    for solver in ("primal", "dual"):
        model = SparseFLDA(n_genes=4, shrinkage=0.5, solver=solver).fit(X, y, groups=donors)
        np.testing.assert_allclose(np.einsum("ij,jk,ik->i", model.components_, metric, model.components_), 1)


def test_donor_level_in_the_error_term_helps_on_new_donors():
    """Strong donor directions: d' of the treatment between means of new donors, 6 seeds."""
    gain = []
    for seed in range(6):
        X, y, donors = donor_problem(12, 60, 60, seed=seed, donor_sd=1.0, effect=0.25)
        train = np.isin(donors, np.unique(donors)[:12])
        d = []
        for groups in (donors[train], None):
            model = FLDA(shrinkage=0.1, interactions=None).fit(X[train], y[train], groups=groups)
            score = pd.Series(model.transform(X[~train])[:, 0]).groupby(donors[~train]).mean()
            treated = y[~train]["treatment"].groupby(donors[~train]).first() == "yes"
            sd = np.sqrt((score[treated].var() + score[~treated].var()) / 2)
            d.append((score[treated].mean() - score[~treated].mean()) / sd)
        gain.append(d[0] / d[1])
    assert np.median(gain) > 1.3


def test_folds_cover_every_cell_once_and_keep_small_groups_in_training():
    y = np.repeat(["a", "b", "c"], [1, 3, 50])
    design = make_design(pd.DataFrame({"f": y}))
    held_out = [test for _, test in folds(design, None, 0, 5)]
    assert sorted(np.concatenate(held_out)) == list(range(1, 54))
    sizes = [np.sum(design.codes[t] == 2) for t in held_out]
    assert max(sizes) - min(sizes) <= 1


def test_folds_hold_out_whole_donors():
    X, y = problem(200, 10, (2, 2))
    donors = np.arange(200) % 7
    design = make_design(y)
    for train, test in folds(design, donors, 0, 5):
        assert not set(donors[train]) & set(donors[test])
    model = FLDA(shrinkage="cv", random_state=0).fit(X, y, groups=donors.astype(str))
    assert model.shrinkage_path_ is not None


def test_folds_deal_every_level_of_a_factor_between_donors():
    _, y, donors = donor_problem(6, 20, 12)
    codes = codes_of(donors)
    held_out = [test for _, test in folds(make_design(y), codes, 1, 3)]
    assert sorted(np.concatenate(held_out)) == list(range(len(y)))
    for test in held_out:
        counts = y.iloc[test].assign(donor=codes[test]).groupby("treatment")["donor"].nunique()
        assert counts.tolist() == [2, 2]


def test_one_donor_cannot_be_held_out():
    _, y, donors = donor_problem(2, 20, 12)
    with pytest.raises(ValueError, match="holds one donor"):
        list(folds(make_design(y), np.zeros(len(donors), dtype=int), 0, 5))
