"""Numbers about genes: specificity, kinds and signs."""

import itertools

import numpy as np
import pandas as pd
import pytest

from flda import FLDA, SparseFLDA
from flda._design.make import make_design
from flda._error.flips import CellStatistics
from flda.metrics import largest_signs, patterns, significant, specificity

from oracle import problem


def test_specificity_is_the_share_of_the_effect_beyond_noise():
    ratios = pd.DataFrame({"A": [8.0, 1.0, 2.0, np.nan, 0.5], "B": [3.0, 3.0, 2.0, np.nan, 0.9]})
    share, _ = specificity(ratios, "A", {"A": 1, "B": 1})
    np.testing.assert_allclose(share, [7 / 9, 0, 0.5, np.nan, np.nan])


def test_a_gene_cancels_if_another_effect_is_larger_and_significant():
    ratios = pd.DataFrame({"A": [8.0, 8.0, 1.0, 1.0, 1.0, np.nan], "B": [7.9, 20.0, 5.0, 20.0, 1.0, np.nan],
                           "C": [1.0, 1.0, 1.0, 1.0, 5.0, np.nan]})  # fmt: skip
    kind = specificity(ratios, "A", {"A": 1, "B": 1, "C": 6})[1]
    assert kind.tolist() == ["pure", "cancelling", "pure", "cancelling", "cancelling", "pure"]


def test_weak_pure_genes_are_not_called_cancelling_by_chance():
    """F of an effect of noncentrality 9 beside six degrees of freedom of pure noise, in 4,000 genes."""
    rng = np.random.default_rng(0)
    ratios = pd.DataFrame({"A": rng.noncentral_chisquare(1, 9, 4000), "B": rng.chisquare(2, 4000) / 2,
                           "A:B": rng.chisquare(2, 4000) / 2})  # fmt: skip
    kind = specificity(ratios, "A", {"A": 1, "B": 2, "A:B": 2})[1]
    assert np.mean(kind == "cancelling") < 0.003


def test_the_largest_loading_is_made_positive():
    standardised = np.array([[1.0, -2.0, 3.0], [-4.0, 1.0, -3.0], [0.0, -1.0, 1.0]])
    assert largest_signs(standardised).tolist() == [-1, -1, 1]  # the first one on ties


def ratios_of(X, y):
    """F of every gene for every effect, and the degrees of freedom."""
    design = make_design(y)
    codes = design.codes
    means = np.stack([X[codes == c].mean(axis=0) for c in range(design.n_groups)])
    squares = np.stack([(X[codes == c] ** 2).sum(axis=0) for c in range(design.n_groups)])
    found = CellStatistics(design, list(design.contrasts), means, squares)
    F = pd.DataFrame({e.name: t / found.df[e] for e, t in found.observed().items()})
    return F, {e.name: design.df(e) for e in design.contrasts}


@pytest.mark.parametrize("n_levels", [(2, 2), (2, 4), (3, 5), (2, 2, 2)])
@pytest.mark.parametrize("rare", [False, True], ids=["equal groups", "a rare group"])
def test_a_gene_of_one_group_is_never_cancelling_on_its_interaction(n_levels, rare):
    """300 genes that only one group expresses, with the variance that comes with expression."""
    rng = np.random.default_rng(0)
    names = list("ABC"[: len(n_levels)])
    groups = list(itertools.product(*map(range, n_levels)))
    sizes = [8 if rare and i == 0 else 30 for i in range(len(groups))]
    y = pd.DataFrame([g for g, n in zip(groups, sizes, strict=True) for _ in range(n)], columns=names).astype(str)
    on = np.arange(len(y)) < sizes[0]
    X = rng.normal(size=(len(y), 300)) * np.where(on, 1.0, 0.4)[:, None] + 3.0 * on[:, None]
    F, df = ratios_of(X, y)
    kinds = specificity(F, ":".join(names), df)[1]
    assert set(kinds) <= {"interaction-typical", "pure"}
    assert np.mean(kinds == "interaction-typical") > 0.9


def test_a_gene_of_a_factor_is_cancelling_on_the_axis_of_an_interaction_it_has_no_part_in():
    ratios = pd.DataFrame({"A": [30.0, 30.0, 30.0], "B": [1.0] * 3, "A:B": [0.5, 20.0, 40.0]})
    kinds = specificity(ratios, "A:B", {"A": 1, "B": 2, "A:B": 2})[1]
    assert kinds.tolist() == ["cancelling", "interaction-typical", "pure"]


def test_equal_ratios_do_not_cancel_by_rounding_errors():
    ratios = pd.DataFrame({"A": [12.0], "B": [12.0 * (1 + 1e-15)]})
    assert specificity(ratios, "A", {"A": 1, "B": 1})[1].tolist() == ["pure"]


def test_the_level_of_a_significant_ratio():
    rng = np.random.default_rng(0)
    assert np.mean(significant(rng.chisquare(3, 20000) / 3, 3, 0.05)) == pytest.approx(0.05, abs=0.005)
    assert significant(pd.Series([np.nan, 0.0]), 2).tolist() == [False, False]


@pytest.mark.parametrize("sparse", [False, True])
def test_patterns_are_correlations_with_the_axis_when_nothing_but_the_effect_varies(sparse):
    """From a table of cells in which every group has two cells per gene, at its fitted value +- one within sd."""
    X, y = problem(300, 12, (2, 3), seed=3)
    model = (SparseFLDA(n_genes=4, shrinkage=0.2) if sparse else FLDA(shrinkage=0.2)).fit(X, y)
    groups = pd.DataFrame(model.means_).groupby([g for _, g in model.design_.group_levels().items()], observed=True)
    table = groups.mean()
    table.index.names = ["A", "B"]
    a = table.groupby("A", observed=True).transform("mean") - table.mean()
    b = table.groupby("B", observed=True).transform("mean") - table.mean()
    fitted = {"A": a, "B": b, "A:B": table - table.mean() - a - b}
    for u, row, effect in zip(model.components_, model.patterns_, model.axes_["effect"], strict=True):
        f = fitted[effect].to_numpy()
        along = np.tile(f @ u, 2)
        for j, pattern in enumerate(row):
            gene = np.r_[f[:, j] + model.within_sd_[j], f[:, j] - model.within_sd_[j]]
            assert pattern == pytest.approx(np.corrcoef(gene, along)[0, 1], abs=1e-10)


def test_a_gene_that_does_not_vary_has_no_pattern():
    X, y = problem(100, 6, (2, 2))
    X[:, 2] = 4.0
    model = FLDA(shrinkage=0.5).fit(X, y)
    found = patterns(model.means_, model.design_, model.axes_["effect"], model.components_, sd=model.within_sd_)
    assert (found[:, 2] == 0).all()
    assert np.abs(np.delete(found, 2, axis=1)).max() < 1


def test_the_defining_gene_leads_by_pattern_whatever_else_it_carries():
    """A 2 x 2: the gene that differs most by A also differs by B, so the axis uses it less."""
    rng = np.random.default_rng(1)
    y = pd.DataFrame({"A": np.repeat(["p", "q"], 60), "B": np.tile(["r", "s"], 60)})
    a, b = (y["A"] == "q").to_numpy(float), (y["B"] == "s").to_numpy(float)
    X = rng.normal(size=(120, 60))
    X[:, 0] += 1.5 * a + 1.9 * b
    X[:, 1:6] += 1.1 * a[:, None]
    X[:, 6:12] += 1.1 * b[:, None]
    F, _ = ratios_of(X, y)
    assert F["B"][0] > F["A"][0] == F["A"].max()
    used = []
    for penalty, objective in itertools.product([0.0, 0.1, 1.0, 10.0, np.inf], ["ratio", "difference"]):
        options = {"penalty": penalty, "objective": objective, "shrinkage": 0.5}
        sparse = [SparseFLDA(n_genes=5, **options)] if objective == "ratio" else []
        for model in (FLDA(**options), *sparse):
            model.fit(X, y)
            assert np.abs(model.patterns_[0]).argmax() == 0
            used.append(np.abs(model.components_[0] * model.within_sd_).argmax())
    assert set(used) != {0}  # the loading answers another question
