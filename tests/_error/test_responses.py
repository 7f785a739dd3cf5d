"""The mean square of block by effect, against an analysis of variance by statsmodels, and the warning it gives."""

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from statsmodels.stats.anova import anova_lm

from flda import FLDA, FLDAWarning
from flda._design.effects import Effect
from flda._design.make import make_design
from flda._error.responses import LARGER, shared_responses
from flda.inference import effect_tests

FIT = {"interactions": ["kind:condition"], "error": "residual"}


def samples(response: float, *, kinds: str = "BTM", p: int = 5, seed: int = 0):
    """One sample for each of 8 donors, some kinds of cells, and two conditions; kinds of a donor share its response."""
    rng = np.random.default_rng(seed)
    y = pd.DataFrame(list(itertools.product(range(8), kinds, range(2))), columns=["donor", "kind", "condition"])
    X = rng.normal(size=(8, p))[y["donor"]] + rng.normal(size=(len(y), p))
    X += response * y["condition"].to_numpy()[:, None] * rng.normal(size=(8, p))[y["donor"]]
    y["n_cells"] = rng.integers(5, 100, len(y))
    return X, y.astype({"donor": str, "condition": str})


@pytest.mark.parametrize("weights", [None, "n_cells"])
def test_ratio_of_one_gene_is_that_of_analysis_of_variance(weights):
    X, y = samples(1.0, p=1)
    columns = y if weights else y.drop(columns="n_cells")
    design = make_design(
        columns, interactions=["kind:condition"], nuisance=["donor"], error="residual", weights=weights
    )
    found = shared_responses(Effect(("condition",)), "donor", design, X)
    formula = "g ~ C(donor) + C(kind) * C(condition)"
    data = y.assign(g=X[:, 0])
    fits = [
        smf.wls(f, data, weights=data["n_cells"] if weights else np.ones(len(y))).fit()
        for f in (formula, formula + " + C(donor):C(condition)")
    ]
    row = anova_lm(*fits).iloc[1]
    assert found.differing == ["kind"]
    assert found.ratio == pytest.approx(row["F"], rel=1e-9)


@pytest.mark.parametrize(("response", "least", "most"), [(0.0, 0, 6), (1.0, 28, 30)])
def test_share_of_studies_whose_interaction_is_called_larger(response, least, most):
    called = 0
    for seed in range(30):
        X, y = samples(response, p=20, seed=seed)
        design = make_design(y.drop(columns="n_cells"), nuisance=["donor"], **FIT)
        called += shared_responses(Effect(("condition",)), "donor", design, X).pval <= LARGER
    assert least <= called <= most


def test_genes_count_by_their_own_variance_and_constant_ones_not_at_all():
    X, y = samples(1.0)
    design = make_design(y.drop(columns="n_cells"), nuisance=["donor"], **FIT)
    alone = shared_responses(Effect(("condition",)), "donor", design, X)
    scaled = np.column_stack([X * [1, 10, 100, 1e3, 1e4], np.full(len(y), 7.0)])
    assert shared_responses(Effect(("condition",)), "donor", design, scaled)[1:] == pytest.approx(alone[1:], rel=1e-9)


def test_blocks_that_respond_differently_are_named():
    X, y = samples(2.0)
    model = FLDA(nuisance=["donor"], **FIT)
    with pytest.warns(FLDAWarning, match=r"'donor'.*'kind'") as heard:
        effect_tests(model, X, y.drop(columns="n_cells"), n_resamples=19)
    assert [str(w.message).startswith("the p-values of condition") for w in heard] == [True]


def test_nothing_is_said_where_blocks_respond_alike():
    X, y = samples(0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        effect_tests(FLDA(nuisance=["donor"], **FIT), X, y.drop(columns="n_cells"), n_resamples=19)


def test_samples_that_share_no_response_are_not_compared():
    X, y = samples(2.0, kinds="B")
    design = make_design(y[["donor", "condition"]], nuisance=["donor"], error="residual")
    assert shared_responses(Effect(("condition",)), "donor", design, X) is None
    twice = pd.concat([y, y])  # replicates differ in no factor
    design = make_design(twice[["donor", "condition"]], nuisance=["donor"], error="residual")
    assert shared_responses(Effect(("condition",)), "donor", design, np.vstack([X, X])) is None


def test_the_interaction_itself_is_the_noise_of_its_own_test():
    X, y = samples(2.0)
    design = make_design(
        y.drop(columns="n_cells"), interactions=["kind:condition"], nuisance=["donor"], error="residual"
    )
    assert shared_responses(Effect(("kind", "condition")), "donor", design, X) is None
