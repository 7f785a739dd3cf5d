"""What donors change in a fit."""

import numpy as np
import pandas as pd
import pytest

from flda import FLDA, SparseFLDA
from flda._design.splits import folds
from flda._solve.criterion import Criterion

from oracle import donor_problem, donor_scatter, shrunken


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


def test_donors_that_cannot_enter_the_error_term_change_nothing():
    """One donor per group, and one row per donor and group (pseudobulk)."""
    X, y, _ = donor_problem(3, 20, 12)
    expected = FLDA(shrinkage=0.2).fit(X, y)
    model = FLDA(shrinkage=0.2).fit(X, y, groups=y["treatment"].to_numpy())
    np.testing.assert_allclose(model.components_, expected.components_)
    rng = np.random.default_rng(0)
    y = pd.DataFrame({"treatment": np.repeat(["no", "yes"], 12), "type": np.tile(["p", "q"], 12)})
    X = rng.normal(size=(24, 6))
    model = FLDA(shrinkage=0.2).fit(X, y, groups=np.repeat(np.arange(12), 2))
    np.testing.assert_allclose(model.components_, FLDA(shrinkage=0.2).fit(X, y).components_)


@pytest.mark.parametrize("form", [list, np.array, pd.Series, pd.Categorical])
def test_donors_in_every_form(form):
    X, y, donors = donor_problem(3, 20, 12)
    expected = FLDA(shrinkage=0.2).fit(X, y, groups=donors)
    model = FLDA(shrinkage=0.2).fit(X, y, groups=form(donors))
    np.testing.assert_array_equal(model.components_, expected.components_)


def test_bad_donors_are_refused(recwarn):
    X, y, donors = donor_problem(4, 20, 12)
    with pytest.raises(ValueError, match=f"donor.* {len(y)} cells"):
        FLDA().fit(X, y, groups=donors[:3])
    with pytest.raises(ValueError, match=r"donor.* 2 cells"):
        FLDA().fit(X, y, groups=np.where(np.arange(len(y)) < 2, None, donors))
    with pytest.raises(ValueError, match="donor"):
        FLDA(shrinkage="cv").fit(X, y, groups=np.zeros(len(y)))
    donors[(donors == "d01").nonzero()[0][:3]] = "d00"  # d01 is treated, d00 is not
    FLDA(shrinkage=0.5).fit(X, y, groups=donors)
    assert any("'d00'" in str(w.message) and "'treatment'" in str(w.message) for w in recwarn)


@pytest.mark.parametrize("solver", ["primal", "dual", "iterative"])
def test_sparse_axes_use_the_same_error_term(solver):
    X, y, donors = donor_problem(4, 25, 60)
    scatter, _ = donor_scatter(X, y, donors)
    metric = shrunken(scatter, 0.5, "diagonal")
    model = SparseFLDA(n_genes=4, shrinkage=0.5, solver=solver).fit(X, y, groups=donors)
    np.testing.assert_allclose(np.einsum("ij,jk,ik->i", model.components_, metric, model.components_), 1)


def test_donors_in_the_error_term_help_on_new_donors():
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


@pytest.mark.parametrize("group_means", ["observed", "shrunken"])
def test_the_number_of_genes_is_chosen_on_whole_donors_with_donors_in_the_error_term(group_means):
    """The criterion of the smallest number, which starts from no other, against fits without each fold's donors."""
    X, y, donors = donor_problem(6, 15, 60, donor_sd=0.8)
    options = {"shrinkage": 0.4, "group_means": group_means, "interactions": None}
    model = SparseFLDA(n_genes="cv", **options).fit(X, y, groups=donors)
    codes, values = np.unique(donors, return_inverse=True)[1], {"treatment": [], "type": []}
    for split in folds(model.design_, codes, 0, 5):
        assert not set(donors[split.train]) & set(donors[split.test])
        fold = SparseFLDA(n_genes=3, **options).fit(*split.training_data(X, y))
        assert fold.donor_share_ is not None
        scores, means = fold.transform(X[split.test]), fold.transform(fold.means_)
        for j, effect in enumerate(fold.design_.effects):
            criterion = Criterion(1, 1)
            e = (fold.design_.fitted(effect) @ means[:, [j]])[split.known_groups]
            criterion.add(0, e, scores[:, [j]], split.known_weights)
            values[effect.name].append(criterion.values()[0])
    path = model.n_genes_path_.query("n_genes == 3").set_index("effect")
    for effect, of_folds in values.items():
        assert path.loc[effect, "criterion"] == pytest.approx(np.mean(of_folds), rel=1e-9)
        assert path.loc[effect, "se"] == pytest.approx(np.std(of_folds, ddof=1) / np.sqrt(5), rel=1e-9)
