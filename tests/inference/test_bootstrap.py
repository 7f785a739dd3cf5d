import numpy as np
import pandas as pd
import pytest

from flda import SparseFLDA
from flda.inference import bootstrap
from flda.inference._bootstrap import _Frozen, _resamples

from oracle import donor_problem, problem


@pytest.mark.parametrize("mode", ["axis", "marker"])
@pytest.mark.parametrize("target", ["diagonal", "identity"])
@pytest.mark.parametrize("with_donors", [False, True])
def test_the_data_themselves_give_the_axes_of_the_fit(mode, target, with_donors):
    """A replicate that is the sample: frozen axes equal those of the model, up to sign or rotation."""
    X, y, donors = donor_problem(4, 25, 20)
    y["type"] = np.array(list("pqr"))[np.arange(len(y)) % 3]
    groups = donors if with_donors else None
    model = SparseFLDA(n_genes=5, shrinkage=0.3, mode=mode, shrinkage_target=target).fit(X, y, groups=groups)
    genes = np.unique(np.concatenate([a for axes in model.selected_.values() for a in axes]))
    frozen = _Frozen(model, genes)
    codes = pd.factorize(donors, sort=True)[0] if with_donors else None
    U, means, metric = frozen.of(X[:, genes], model.design_, codes)
    np.testing.assert_allclose(means, model.means_[:, genes])
    np.testing.assert_allclose(np.diag(U.T @ metric @ U), 1)
    turned = frozen.turned(U, model.components_[:, genes].T, metric)
    np.testing.assert_allclose(turned, model.components_[:, genes].T, atol=1e-8)


def test_turning_undoes_signs_and_rotations():
    X, y = problem(200, 12, (2, 4))
    rng = np.random.default_rng(0)
    for mode in ("axis", "marker"):
        model = SparseFLDA(n_genes=6, shrinkage=0.3, mode=mode, interactions=None).fit(X, y)
        genes = np.unique(np.concatenate([a for axes in model.selected_.values() for a in axes]))
        frozen, original = _Frozen(model, genes), model.components_[:, genes].T
        metric = frozen.of(X[:, genes], model.design_, None)[2]
        U = -original
        if mode == "marker":
            U[:, 1:] = U[:, 1:] @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
        np.testing.assert_allclose(frozen.turned(U, original, metric), original, atol=1e-8)


def test_intervals_cover_the_truth():
    """One factor, independent genes: the best weights are the effect, the same for all 4 genes. 30 data sets."""
    inside = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        a = np.repeat([0, 1], 60)
        X = rng.normal(size=(120, 4)) + 0.8 * a[:, None]
        y = pd.DataFrame({"A": a.astype(str)})
        model = SparseFLDA(n_genes=4, shrinkage=0.0).fit(X, y)
        bands = bootstrap(model, X, y, n_boots=80, confidence=0.9).loadings
        inside += ((bands["lower"] <= 0.5) & (bands["upper"] >= 0.5)).tolist()
    assert 0.77 <= np.mean(inside) <= 0.98


def test_tables():
    X, y = problem(200, 12, (2, 3))
    model = SparseFLDA(n_genes=4, shrinkage=0.3).fit(X, y)
    bands = bootstrap(model, X, y, n_boots=60)
    assert bands.n_boots == 60
    assert bands.loadings.groupby("axis", sort=False).size().tolist() == [4] * 5
    for column in ("loading",):
        assert (bands.loadings["lower"] <= bands.loadings["upper"]).all(), column
    assert bands.scores.columns.tolist() == ["axis", "A", "B", "score", "lower", "upper"]
    assert len(bands.scores) == 5 * 6
    own = bands.scores.query("axis == 'A_1'")
    assert ((own["lower"] <= own["score"]) & (own["score"] <= own["upper"])).all()
    again = bootstrap(model, X, y, n_boots=60)
    pd.testing.assert_frame_equal(bands.loadings, again.loadings)


def test_donors_are_drawn_then_cells_within_them():
    X, y, names = donor_problem(4, 20, 15)
    donors = pd.factorize(names, sort=True)[0]
    model = SparseFLDA(n_genes=3, shrinkage=0.5).fit(X, y, groups=names)
    drawn = []
    for cells, instances in _resamples(model.design_, donors, 20, np.random.default_rng(0)):
        of = [np.unique(donors[cells[instances == i]]) for i in range(8)]
        assert all(len(d) == 1 for d in of)
        levels = [y["treatment"].iloc[np.flatnonzero(donors == d[0])[0]] for d in of]
        assert sorted(levels) == ["no"] * 4 + ["yes"] * 4
        drawn.append(len({d[0] for d in of}))
    assert min(drawn) < 8
    by_donor = bootstrap(model, X, y, names, n_boots=60).scores
    by_cell = bootstrap(SparseFLDA(n_genes=3, shrinkage=0.5).fit(X, y), X, y, n_boots=60).scores
    widths = [(s["upper"] - s["lower"])[s["axis"] == "treatment_1"].mean() for s in (by_donor, by_cell)]
    assert widths[0] > widths[1]  # donors differ, cells of one donor agree


def test_other_cells_are_refused():
    X, y = problem(100, 12, (2, 2))
    model = SparseFLDA(n_genes=3, shrinkage=0.5).fit(X, y)
    with pytest.raises(ValueError, match="fitted on 100 cells and y has 50"):
        bootstrap(model, X[:50], y.iloc[:50])
