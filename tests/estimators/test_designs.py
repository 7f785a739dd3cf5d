"""Numeric factors and named contrasts through the estimators, their F, tests and certificates."""

import logging

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from flda import FLDA, SparseFLDA
from flda._design.effects import Effect
from flda._design.samples import sample_units
from flda._error.gene_f import gene_f
from flda._error.units import donor_units
from flda._error.wald import wald
from flda.inference import bootstrap, certify, effect_tests, stability_selection

DOSES = np.array([0.0, 0.5, 2.0, 4.0])
STIM = ({"drug": "b", "dose": 4}, {"drug": "b", "dose": 0})


def cells(n=12, p=15, seed=0):
    """Gene 0 rises with the dose, gene 1 with that of drug b alone, gene 2 with its square, gene 3 with the drug."""
    rng = np.random.default_rng(seed)
    y = pd.DataFrame([(d, x) for d in "ab" for x in DOSES] * n, columns=["drug", "dose"])
    X = rng.normal(size=(len(y), p))
    X[:, 0] += y["dose"]
    X[:, 1] += y["dose"] * (y["drug"] == "b")
    X[:, 2] += (y["dose"] - 2) ** 2
    X[:, 3] += 2 * (y["drug"] == "b")
    return X, y


def test_axes_of_the_drug_do_not_depend_on_how_the_dose_is_split():
    """A part has a mean square of its own; weighed by their degrees of freedom all parts are the nominal effect."""
    X, y = cells()
    nominal = FLDA(shrinkage=0.2).fit(X, y)
    third = {f"{e}dose.{part}": 1 / 3 for e in ("", "drug:") for part in ("linear", "quadratic", "rest")}
    split = FLDA(shrinkage=0.2, numeric={"dose": "trend"}, penalty=third).fit(X, y)
    np.testing.assert_allclose(split.components_[0], nominal.components_[0], atol=1e-10)
    np.testing.assert_allclose(split.eigenvalues_[0], nominal.eigenvalues_[0], rtol=1e-10)
    np.testing.assert_allclose(split.means_, nominal.means_)


def test_all_parts_together_have_the_nominal_axes():
    """The rows of all parts, side by side, span the same group space as those of the nominal effect."""
    X, y = cells()
    options = {"shrinkage": 0.2, "interactions": None, "reliability": False, "lack_of_fit": 0.0, "weights": "equal"}
    alone = FLDA(**options).fit(X, y[["dose"]])
    split = FLDA(**options, numeric={"dose": "trend"}).fit(X, y[["dose"]])
    own = np.vstack([split._terms[e].contrasts for e in split.effects_]) / np.sqrt(3)
    (terms,) = alone._terms.values()
    np.testing.assert_allclose(own.T @ own, terms.own.T @ terms.own, atol=1e-12)
    span = np.linalg.lstsq(alone.components_.T, split.components_.T, rcond=None)
    np.testing.assert_allclose(alone.components_.T @ span[0], split.components_.T, atol=1e-10)


@pytest.mark.parametrize("with_donors", [False, True])
def test_f_of_parts(with_donors):
    """The F of a degree is that by hand, and other effects keep theirs."""
    rng = np.random.default_rng(1)
    n, donors = 6, None
    y = pd.DataFrame([(d, x) for d in "ab" for x in DOSES] * n, columns=["drug", "dose"])
    X = rng.normal(size=(len(y), 8))
    if with_donors:
        donors = np.repeat(np.arange(n), 8)
        y, X, donors = pd.concat([y] * 2), np.vstack([X, X + rng.normal(size=X.shape)]), np.tile(donors, 2)
        y = y.reset_index(drop=True)

    def f_of(numeric):
        design = FLDA(numeric=numeric).design_of(y)
        samples = sample_units(design, donors)
        sums = np.stack([X[samples.codes == s].sum(axis=0) for s in range(len(samples.counts))])
        squares = np.stack([(X[samples.codes == s] ** 2).sum(axis=0) for s in range(len(samples.counts))])
        return gene_f(design, donors, sums, squares), design

    whole, _ = f_of(None)
    polynomials, design = f_of({"dose": 3})
    split, _ = f_of({"dose": "trend"})
    np.testing.assert_allclose(split["drug"], whole["drug"], rtol=1e-10)
    np.testing.assert_allclose(split["dose.linear"], polynomials["dose.linear"], rtol=1e-10)
    assert list(polynomials) == [e.name for e in design.contrasts]
    # one degree at a time by hand: b' b / V
    if not with_donors:
        b = design.rows(Effect(("dose.cubic",)))
        codes, mean = design.codes, np.stack([X[design.codes == c].mean(axis=0) for c in range(8)])
        v = np.stack([X[codes == c].var(axis=0, ddof=1) for c in range(8)])
        v = v / 2 + v.mean(axis=0) / 2
        np.testing.assert_allclose(polynomials["dose.cubic"], (b @ mean)[0] ** 2 / (b**2 @ (v / n))[0], rtol=1e-10)


def test_wald_of_stacked_parts_is_the_nominal_wald():
    rng = np.random.default_rng(2)
    _, y = cells(n=3)
    whole, split = FLDA().design_of(y), FLDA(numeric={"dose": "trend"}).design_of(y)
    means, noise = rng.normal(size=(8, 5)), rng.uniform(0.5, 2, size=(1, 8, 5))
    for effect in whole.effects:
        B = whole.rows(effect)
        parts = np.vstack([split.rows(e) for e in split.effects if split.table.factors_of(e) == effect])
        one, all_ = (wald((b @ means)[None, :, None], b, noise) for b in (B, parts))
        np.testing.assert_allclose(one, all_, rtol=1e-10)


def test_every_axis_finds_its_gene():
    X, y = cells(40)
    model = FLDA(numeric={"dose": 2}, shrinkage=0.1, contrasts={"top of b": STIM}).fit(X, y)
    names = ["drug", "dose.linear", "dose.quadratic", "drug:dose.linear", "drug:dose.quadratic", "top of b"]
    assert model.axes_["effect"].tolist() == names
    assert model.get_feature_names_out()[-1] == "top of b_1"
    leading = np.abs(model.components_).argmax(axis=1)
    assert leading[:4].tolist() == [3, 0, 2, 1]
    assert set(np.argsort(-np.abs(model.components_[-1]))[:2]) <= {0, 1}
    assert model.predict(X)["dose"].isin(DOSES).all()
    assert model.score(X, y) == pytest.approx((model.predict(X) == y).to_numpy().mean())
    assert clone(model).contrasts == model.contrasts


def test_a_line_alone_leaves_the_rest_as_lack_of_fit():
    X, y = cells(40)
    model = FLDA(numeric=["dose"], shrinkage=0.1, lack_of_fit=10.0).fit(X, y)
    loose = FLDA(numeric=["dose"], shrinkage=0.1, lack_of_fit=0.0).fit(X, y)
    curved = X @ model.components_[1], X @ loose.components_[1]
    assert model.axes_["effect"].tolist() == ["drug", "dose.linear", "drug:dose.linear"]
    assert abs(model.components_[1, 2]) <= abs(loose.components_[1, 2]) + 1e-6
    assert all(np.corrcoef(c, y["dose"])[0, 1] > 0.7 for c in curved)


def test_contrasts_count_against_no_axis_and_do_not_tune_the_shrinkage():
    X, y = cells(6, 8)
    plain, named = FLDA().fit(X, y), FLDA(contrasts={"c": STIM}).fit(X, y)
    assert named.shrinkage_ == plain.shrinkage_
    np.testing.assert_allclose(named.components_[:-1], plain.components_, rtol=1e-8)


def test_the_contrast_of_a_factor_is_its_effect_everywhere():
    X, y = cells()
    y = y.astype({"dose": str})
    pair = {"c": ({"drug": "b"}, {"drug": "a"})}
    model = FLDA(shrinkage=0.2, contrasts=pair)
    fitted = model.fit(X, y)
    # against the contrast count the effects that cannot contribute to it: all but the drug itself
    np.testing.assert_allclose(fitted.components_[-1], fitted.components_[0], rtol=1e-8)
    table = certify(model, X, y, n_folds=3).set_index("effect")
    for column in ("snr", "crosstalk", "accuracy", "chance"):
        assert table.loc["c", column].item() == pytest.approx(table.loc["drug", column].item())
    tests = effect_tests(model, X, y, n_resamples=29).table.set_index("effect")
    assert tests.loc["c", "statistic"] == pytest.approx(tests.loc["drug", "statistic"])
    assert tests.loc["c", "pval_sum"] == tests.loc["drug", "pval_sum"]


def donor_study(seed=0):
    """Genotype between donors, condition and type within them; gene 0 answers in type B of mutants only."""
    rng = np.random.default_rng(seed)
    rows = [(f"{g}{d}", g, c, t) for g in ("wt", "mut") for d in range(4) for c in ("ctrl", "stim") for t in "BT"]
    frame = pd.DataFrame(np.repeat(rows, 5, axis=0), columns=["donor", "genotype", "condition", "type"])
    X = rng.normal(size=(len(frame), 12)) + rng.normal(size=(8, 12))[pd.factorize(frame["donor"])[0]]
    hit = (frame["genotype"] == "mut") & (frame["condition"] == "stim") & (frame["type"] == "B")
    X[:, 0] += 4 * hit
    return X, frame.drop(columns="donor"), frame["donor"].to_numpy()


CONTRASTS = {
    "stim in B": ({"type": "B", "condition": "stim"}, {"type": "B", "condition": "ctrl"}),
    "mut in B": ({"type": "B", "genotype": "mut"}, {"type": "B", "genotype": "wt"}),
    "stim in mut B": (
        {"type": "B", "condition": "stim", "genotype": "mut"}, {"type": "B", "condition": "ctrl", "genotype": "mut"}
    ),
    "stim": ({"condition": "stim"}, {"condition": "ctrl"}),
    "mut": ({"genotype": "mut"}, {"genotype": "wt"}),
}  # fmt: skip


def test_donors_give_a_contrast_by_hand():
    X, y, donor = donor_study()
    design = FLDA(contrasts=CONTRASTS).design_of(y)
    donors, names = pd.factorize(donor, sort=True)
    samples = sample_units(design, donors)
    means = np.stack([X[samples.codes == s].mean(axis=0) for s in range(len(samples.counts))])
    frame = y.assign(donor=donor)
    own = pd.DataFrame(X).groupby([frame[c] for c in ("donor", "condition", "type")]).mean()
    mutant = np.array([d.startswith("mut") for d in names])

    def found(name):
        units = donor_units(Effect((name,)), design, donors, means, samples)
        model = np.linalg.pinv(units.model[units.groups])[units.rows]
        return np.tensordot(model, units.values, 1)[0, 0]

    in_b = np.stack([own.loc[d, "stim", "B"] - own.loc[d, "ctrl", "B"] for d in names])
    level = np.stack([(own.loc[d, "stim", "B"] + own.loc[d, "ctrl", "B"]) / 2 for d in names])
    expected = {
        "stim in B": (in_b[mutant].mean(axis=0) + in_b[~mutant].mean(axis=0)) / 2,
        "mut in B": level[mutant].mean(axis=0) - level[~mutant].mean(axis=0),
        "stim in mut B": in_b[mutant].mean(axis=0),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found(name), value / np.sqrt(2), atol=1e-12)
    both = FLDA(contrasts={"x": ({"genotype": "mut", "condition": "stim"}, {"genotype": "wt", "condition": "ctrl"})})
    with pytest.raises(ValueError, match="'x' differs within and between donors at once"):
        donor_units(Effect(("x",)), both.design_of(y), donors, means, samples)


def test_contrasts_with_donors_are_tested_like_effects():
    X, y, donor = donor_study()
    model = FLDA(shrinkage=0.3, contrasts=CONTRASTS)
    found = effect_tests(model, X, y, donor, n_resamples=99)
    table = found.table.set_index("effect")
    for name, effect in {"stim": "condition", "mut": "genotype"}.items():
        assert table.loc[name, "statistic"] == pytest.approx(table.loc[effect, "statistic"])
    assert (table["unit"] == "donor").all()
    genes = found.genes.set_index(["effect", "gene"])["statistic"]
    assert genes["stim in mut B"].idxmax() == 0
    certificate = certify(model, X, y, donor, n_folds=2).set_index("effect")
    assert certificate.loc["stim in mut B", "snr"] > 1
    assert certificate.loc["stim in mut B", "accuracy"] > 0.8
    assert certificate.loc["stim in mut B", "chance"] == 0.5
    others = [f"snr_{e}" for e in ("genotype", "type", "genotype:type")]
    assert certificate.loc["stim in mut B", "crosstalk"] == pytest.approx(
        certificate.loc["stim in mut B", others].sum()
    )


def test_trends_with_donors():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame([(d, x) for d in range(5) for x in DOSES for _ in range(4)], columns=["donor", "dose"])
    X = rng.normal(size=(len(frame), 10)) + rng.normal(size=(5, 10))[frame["donor"]]
    X[:, 0] += frame["dose"] * 0.8
    model = FLDA(shrinkage=0.3, numeric={"dose": "trend"})
    table = effect_tests(model, X, frame[["dose"]], frame["donor"], n_resamples=99)
    assert table.table["effect"].tolist() == ["dose.linear", "dose.quadratic", "dose.rest"]
    statistic = table.genes.set_index(["effect", "gene"])["statistic"]["dose.linear"]
    # by hand: the slope of each donor, against the spread of the slopes
    slopes = np.stack(
        [np.polyfit(DOSES, X[frame["donor"] == d].reshape(4, 4, 10).mean(axis=1), 1)[0] for d in range(5)]
    )
    t2 = slopes.mean(axis=0) ** 2 / (slopes.var(axis=0, ddof=1) / 5)
    np.testing.assert_allclose(np.argsort(statistic.to_numpy())[-1], np.argmax(t2))
    certificate = certify(model, X, frame[["dose"]], frame["donor"].to_numpy(), n_folds=2).set_index("effect")
    assert certificate.loc["dose.linear", "snr"] > 1


def test_sparse_axes_of_trends_and_contrasts(caplog):
    caplog.set_level(logging.WARNING)
    X, y = cells(10, 6)
    options = {"numeric": {"dose": 2}, "contrasts": {"top of b": STIM}, "shrinkage": 0.2}
    model = SparseFLDA(n_genes="cv", **options).fit(X, y)
    report = model.gene_report_
    assert 0 in model.selected_["dose.linear"][0]
    own = report[report["axis"] == "top of b_1"].dropna(axis=1, how="all")
    assert {"mean_+", "mean_-"} <= set(own)
    assert "mean_4.0" in report[report["axis"] == "dose.linear_1"].dropna(axis=1, how="all")
    assert ((own["mean_+"] > own["mean_-"]) == (own["score"] > 0))[own["gene"].isin([0, 1])].all()
    few = SparseFLDA(n_genes=2, **options)
    assert stability_selection(few, X, y, n_resamples=2).genes["effect"].nunique() == 6
    assert "top of b_1" in set(bootstrap(few, X, y, n_resamples=20).loadings["axis"])


def test_permutations_refuse_a_contrast():
    X, y = cells()
    with pytest.raises(ValueError, match="cannot test the contrast 'c'"):
        effect_tests(FLDA(contrasts={"c": STIM}), X, y, effects=["c"], method="permutation", n_resamples=9)


def test_a_part_of_an_interaction_is_an_effect_with_its_own_axes():
    X, y = cells(20)
    keep = ~((y["drug"] == "b") & (y["dose"] == 1)).to_numpy()
    model = FLDA(shrinkage=0.2, interactions="estimable")
    fitted = model.fit(X[keep], y[keep])
    assert fitted.axes_["effect"].tolist() == ["drug", *["dose"] * 3, *["drug:dose"] * 2]
    assert effect_tests(model, X[keep], y[keep], n_resamples=19).table["effect"].tolist()[-1] == "drug:dose"
    assert certify(model, X[keep], y[keep], n_folds=2)["snr"].notna().all()
